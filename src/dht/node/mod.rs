//! A node as a machine: datagrams, commands and time in; datagrams and events out.
//!
//! Use: after every command and `handle_`, call [`Node::poll`] until it gives nothing, then wait for a datagram, a command
//! or [`Node::next_timeout`], whatever is first. `now` is the time since a start that the caller chose; it never goes back.
//!
//! ```text
//!  find, publish --> jobs --> walks --> questions --> Transmit
//!                     ^         ^           |
//!                   Found     replies <-- flights <-- handle_datagram --> Server --> Transmit
//! ```
//!
//! **Security.** Questions are answered within budgets (see [`super::limits`]), and a stranger's question costs us at most
//! one short question back, to see whether it is a node. Jobs, walks, questions under way and checks are bounded.

mod dial;
mod figures;
mod identity;
mod jobs;
mod probes;
mod rounds;
mod turns;
mod upkeep;
mod walks;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    contact::{Contact, Family, is_believable, is_host, plain},
    find::Found,
    flights::{Flight, Flights},
    id::Id,
    limits::Silent,
    message::{Body, MAX_SENT, Packet, Query, Refusal, Reply, Sender, write_query},
    neighbourhood::Neighbourhoods,
    probe::Heard,
    realm::Realm,
    saved::Saved,
    serve::{Envelope, Server},
    table::Table,
    tokens::Secret,
    votes::Votes,
};

use dial::Dials;
use jobs::Job;
use turns::Turns;
use upkeep::Upkeep;
use walks::Walking;

pub use dial::Ticket;
pub use figures::Figures;
pub use jobs::JobId;

/// Most strangers that are being checked at once.
const MAX_CHECKS: usize = 32;

/// Most nodes that are asked after one exploration only because they may be quick.
const MAX_CURIOUS: usize = 8;

/// Most durations of searches that percentiles are taken from.
const MAX_TIMINGS: usize = 256;

/// What a node is given at its start.
pub struct Setup {
    /// The network it belongs to.
    pub realm: Realm,
    /// Families that its sockets reach, by [`Family::index`].
    pub families: [bool; 2],
    /// What it was and knew before.
    pub saved: Option<Saved>,
    /// Whether [`Event::Lonely`] is of any use.
    pub has_entries: bool,
}

/// What a node wants of the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A datagram to send.
    Transmit(Transmit),
    /// Something for whoever gave the command.
    Event(Event),
}

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// The socket that the question came through, for a reply.
    pub via: Option<usize>,
    /// At most [`MAX_SENT`] bytes.
    pub datagram: Vec<u8>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A search found something.
    Found(JobId, Found),
    /// A probe heard something.
    Heard(JobId, Heard),
    /// A round is over; so many nodes keep each of its files.
    Told(JobId, Vec<usize>),
    /// A job is over; so many nodes stored the announcement, if it was one.
    Ended(JobId, usize),
    /// A TCP connection to this address is to be tried, see [`Node::handle_dialled`].
    Dial(Ticket, SocketAddr),
    /// Few or no nodes are known: the addresses of entry nodes are wanted, see [`Node::handle_entries`].
    Lonely,
}

/// What a question was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// A step of a walk.
    Walk(u64),
    /// A store at the end of one.
    Store(u64),
    /// To see whether somebody is a node.
    Check,
    /// To keep what is known of the network fresh.
    Refresh,
    /// To meet nodes that are quicker than those known.
    Explore,
    /// To have the own port tried.
    DialBack,
    /// To announce several files at once.
    Round(JobId),
    /// Somebody wants to know.
    Probe(JobId),
}

/// A node.
pub struct Node {
    own: Id,
    families: [bool; 2],
    realm: Realm,
    rng: StdRng,
    tables: [Table; 2],
    secret: Secret,
    began: Duration,
    server: Server,
    silent: Silent,
    flights: Flights<Purpose>,
    checks: usize,
    walks: BTreeMap<u64, Walking>,
    jobs: BTreeMap<JobId, Job>,
    /// Those that wait for their turn.
    turns: Turns,
    /// Searches that another one serves.
    joined: BTreeMap<JobId, JobId>,
    /// What searches found of late, and until when that counts.
    remembered: HashMap<Id, (Duration, Vec<Found>)>,
    last: u64,
    /// Who was told of files of ours.
    neighbourhoods: Neighbourhoods,
    upkeep: Upkeep,
    votes: [Votes; 2],
    /// The own address as several networks see it, by [`Family::index`].
    addresses: [Option<IpAddr>; 2],
    renamed: Option<Duration>,
    /// How often the own address was another one than before.
    moves: u32,
    dials: Dials,
    /// Asks, and answers nothing.
    is_mute: bool,
    announced_port: Option<u16>,
    outputs: VecDeque<Output>,
    queries_in: u64,
    queries_out: u64,
    dropped: u64,
    timings: VecDeque<Duration>,
}

impl Node {
    /// A node that begins with what it saved, or alone.
    pub fn new(setup: Setup, seed: u64, now: Duration) -> Self {
        Self::begun(setup, false, seed, now)
    }

    /// A node that asks and is not asked (BEP 43): it says so in each question, and answers nothing.
    pub fn mute(setup: Setup, seed: u64, now: Duration) -> Self {
        Self::begun(setup, true, seed, now)
    }

    fn begun(setup: Setup, is_mute: bool, seed: u64, now: Duration) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let Setup { realm, families, saved, has_entries } = setup;
        let saved = saved.unwrap_or_else(|| Saved {
            id: Id::random(&mut rng),
            contacts: Vec::new(),
            secret: None,
            told: Neighbourhoods::default(),
        });
        let Saved { id: own, contacts, secret, told } = saved;
        let secret = secret.unwrap_or_else(|| Secret::drawn(&mut rng));
        let mut node = Self {
            own,
            families,
            tables: [Table::new(own), Table::new(own)],
            server: Server::new(realm.clone(), own, &secret, rng.random(), now),
            secret,
            began: now,
            realm,
            rng,
            silent: Silent::default(),
            flights: Flights::new(),
            checks: 0,
            walks: BTreeMap::new(),
            jobs: BTreeMap::new(),
            turns: Turns::default(),
            joined: BTreeMap::new(),
            remembered: HashMap::new(),
            last: 0,
            neighbourhoods: told,
            upkeep: Upkeep::new(contacts, has_entries, !is_mute, now),
            votes: Default::default(),
            addresses: [None; 2],
            renamed: None,
            moves: 0,
            dials: Dials::default(),
            is_mute,
            announced_port: None,
            outputs: VecDeque::new(),
            queries_in: 0,
            queries_out: 0,
            dropped: 0,
            timings: VecDeque::new(),
        };
        node.handle_timeout(now);
        node
    }

    /// What is worth saving.
    pub fn saved(&self, now: Duration) -> Saved {
        let known: Vec<Contact> = self.tables.iter().flat_map(Table::contacts).collect();
        // Who came to nobody this time keeps the addresses that it came with.
        let contacts = if known.is_empty() { self.upkeep.remembered().to_vec() } else { known };
        let secret = self.secret.clone().after(now.saturating_sub(self.began));
        Saved { id: self.own, contacts, secret: Some(secret), told: self.neighbourhoods.clone() }
    }

    /// A datagram came through a socket.
    pub fn handle_datagram(&mut self, from: SocketAddr, via: usize, datagram: &[u8], now: Duration) {
        let from = plain(from);
        let packet = Packet::read(&self.realm, datagram).filter(|_| is_host(&from));
        let Some(packet) = packet else {
            self.dropped += 1;
            return;
        };
        match packet.body {
            Body::Query(_) | Body::Refused(_) if self.is_mute => self.dropped += 1,
            Body::Query(_) | Body::Refused(_) => self.handle_question(from, via, &packet, datagram.len(), now),
            Body::Reply(reply) => {
                if let Some(flight) = self.flights.land(packet.transaction, &from) {
                    self.handle_reply(&flight, &reply, now);
                }
            }
            Body::Error => {
                if let Some(flight) = self.flights.land(packet.transaction, &from) {
                    self.handle_failure(&flight, now);
                }
            }
        }
        self.advance(now);
    }

    fn handle_question(&mut self, from: SocketAddr, via: usize, packet: &Packet<'_>, len: usize, now: Duration) {
        if !self.server.admits(&from, now) {
            self.dropped += 1;
            return;
        }
        let envelope = Envelope { from, transaction: packet.transaction, len };
        let reply = match &packet.body {
            Body::Query(asked) => match asked.query {
                Query::DialBack { port, token: Some(token) } if !self.realm.is_mainline() => {
                    let asker = Contact { id: asked.sender, addr: from };
                    let tried = self.handle_dial_question(asker, port, token, envelope, via, now);
                    tried.err().and_then(|refusal: Refusal| self.server.refuse(refusal, envelope, now))
                }
                _ => self.server.handle_query(asked, envelope, &self.tables, now),
            },
            Body::Refused(refusal) => self.server.refuse(*refusal, envelope, now),
            Body::Reply(_) | Body::Error => None,
        };
        if let Some(datagram) = reply {
            self.queries_in += 1;
            self.outputs.push_back(Output::Transmit(Transmit { to: from, via: Some(via), datagram }));
        }
        if let Body::Query(asked) = &packet.body
            && !asked.read_only
        {
            self.check(Contact { id: asked.sender, addr: from }, now);
        }
    }

    /// Asks somebody who says it is a node, if the table has a place for it.
    fn check(&mut self, contact: Contact, now: Duration) {
        if self.tables[Family::of(&contact.addr).index()].wants(&contact) {
            self.ping(contact, now);
        }
    }

    /// Asks those that the table has a place for, and a few that may turn out quicker than others.
    fn meet(&mut self, named: Vec<Contact>, now: Duration) {
        let mut curious = 0;
        for contact in named {
            let table = &self.tables[Family::of(&contact.addr).index()];
            let is_wanted = table.wants(&contact);
            if is_wanted || (curious < MAX_CURIOUS && table.is_curious(&contact)) {
                curious += usize::from(!is_wanted);
                self.ping(contact, now);
            }
        }
    }

    fn ping(&mut self, contact: Contact, now: Duration) {
        if self.checks < MAX_CHECKS
            && self.families[Family::of(&contact.addr).index()]
            && !self.silent.contains(&contact.addr, now)
            && self.ask(contact.addr, Some(contact.id), &Query::Ping, 0, Purpose::Check, now)
        {
            self.checks += 1;
        }
    }

    fn handle_reply(&mut self, flight: &Flight<Purpose>, reply: &Reply<'_>, now: Duration) {
        let contact = Contact { id: reply.id, addr: flight.to };
        let family = Family::of(&flight.to);
        let rtt = now.saturating_sub(flight.sent);
        self.silent.handle_answer(&flight.to);
        let was_empty = self.tables[family.index()].is_empty();
        self.tables[family.index()].handle_answer(contact, rtt, now);
        if flight.id.is_some_and(|id| id != reply.id) {
            // Somebody else lives there now; the table has taken note.
            self.handle_failure(flight, now);
            return;
        }
        if let Some(seen) = reply.seen_from.map(plain).filter(|seen| is_host(seen) && Family::of(seen) == family) {
            self.votes[family.index()].handle_vote(flight.to.ip(), seen, &mut self.rng);
            self.follow_address(now);
        }
        let named = self.believed(reply.contacts.iter().copied(), flight.to, now);
        match flight.purpose {
            Purpose::Walk(walk) => self.handle_walk_reply(walk, flight, rtt, reply, named, now),
            Purpose::Store(walk) => self.handle_store_end(walk, true, now),
            Purpose::Check => self.checks -= 1,
            Purpose::Round(job) => self.handle_round_reply(job, flight.to, reply, now),
            Purpose::DialBack => self.handle_dial_reply(flight, reply, now),
            Purpose::Probe(id) => self.handle_probe_reply(id, flight, rtt, reply, named),
            Purpose::Refresh => {
                let wanted = named.into_iter().filter(|contact| self.families[Family::of(&contact.addr).index()]);
                wanted.collect::<Vec<_>>().into_iter().for_each(|contact| self.check(contact, now));
            }
            Purpose::Explore => self.meet(named, now),
        }
        if was_empty && !self.tables[family.index()].is_empty() {
            self.upkeep.handle_first_contact(now);
            self.try_port_again(family, now);
        }
    }

    /// The contacts that are taken from whoever names them.
    fn believed(&self, named: impl Iterator<Item = Contact>, by: SocketAddr, now: Duration) -> Vec<Contact> {
        let believed = named.map(|contact| Contact { addr: plain(contact.addr), ..contact }).filter(|contact| {
            contact.id != self.own
                && self.families[Family::of(&contact.addr).index()]
                && is_believable(&contact.addr, by.ip(), self.realm.is_private())
                && !self.silent.contains(&contact.addr, now)
        });
        believed.collect()
    }

    /// A question was refused, answered by somebody else, or not at all.
    fn handle_failure(&mut self, flight: &Flight<Purpose>, now: Duration) {
        match flight.purpose {
            Purpose::Walk(walk) => {
                if let (Some(walking), Some(id)) = (self.walks.get_mut(&walk), flight.id) {
                    walking.handle_failure(&Contact { id, addr: flight.to }, now);
                }
            }
            Purpose::Store(walk) => self.handle_store_end(walk, false, now),
            Purpose::Check => self.checks -= 1,
            Purpose::Round(job) => self.handle_round_failure(job, flight.to, now),
            Purpose::Probe(id) => self.handle_probe_failure(id),
            Purpose::Refresh | Purpose::Explore | Purpose::DialBack => {}
        }
    }

    /// Datagrams to that address cannot be sent.
    pub fn handle_unreachable(&mut self, to: SocketAddr, now: Duration) {
        for flight in self.flights.lost(&plain(to)) {
            self.handle_silence(&flight, now);
        }
        self.advance(now);
    }

    fn handle_silence(&mut self, flight: &Flight<Purpose>, now: Duration) {
        self.silent.handle_silence(flight.to, now);
        self.tables[Family::of(&flight.to).index()].handle_silence(&flight.to);
        self.handle_failure(flight, now);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Duration) {
        while let Some(flight) = self.flights.expired(now) {
            self.handle_silence(&flight, now);
        }
        self.keep_up(now);
        self.advance(now);
    }

    /// What to do for it, until it wants nothing.
    #[must_use]
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Node::handle_timeout`] is to be called.
    pub fn next_timeout(&self) -> Duration {
        let walks = self.walks.values().filter_map(|walking| walking.wake);
        let jobs = self.jobs.values().map(Job::until);
        let times = walks.chain(jobs).chain(self.turns.next_deadline()).chain(self.flights.next_deadline());
        let times = times.chain(self.upkeep.patience_ends()).chain(self.dials.next(self.families));
        times.fold(self.upkeep.next(), Duration::min)
    }

    /// Sends a question. `false`: too many are under way, or it is too long.
    fn ask(
        &mut self,
        to: SocketAddr,
        id: Option<Id>,
        query: &Query<'_>,
        pad_to: usize,
        purpose: Purpose,
        now: Duration,
    ) -> bool {
        let flight = Flight { to, id, sent: now, purpose };
        let Some(transaction) = self.flights.depart(flight, &mut self.rng) else { return false };
        let want = match query {
            Query::FindNode { .. } | Query::GetPeers { .. } | Query::Get { .. } if self.families == [true; 2] => {
                [true; 2]
            }
            _ => [false; 2],
        };
        let sender = Sender { id: self.own, read_only: self.is_mute || self.is_unproven(Family::of(&to)) };
        let datagram = write_query(&self.realm, &transaction, sender, query, want, pad_to);
        if datagram.len() > MAX_SENT {
            self.flights.land(&transaction, &to);
            return false;
        }
        self.queries_out += 1;
        self.outputs.push_back(Output::Transmit(Transmit { to, via: None, datagram }));
        true
    }
}

#[cfg(test)]
mod tests;
