//! Dialling back: this node has its port tried by others, and tries theirs (see [`crate::dht::reach`]).
//!
//! **Security.** A stranger can make this host connect to the stranger's own address and nowhere else, as a token shows
//! that it receives there; once in [`AGAIN`] an address, and to [`MAX_DIALS`] at once.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::dht::{
    contact::{Contact, Family, Subnet},
    flights::Flight,
    id::Id,
    message::{Query, Refusal, Reply},
    reach::{ASKED, Dial, Reach, Reachability},
    serve::Envelope,
    table::K,
};

use super::{Event, Node, Output, Purpose, Transmit};

/// Most connections under way.
const MAX_DIALS: usize = 8;

/// Shortest time between two connections to one address.
const AGAIN: Duration = Duration::from_secs(10);

/// Most addresses that are remembered for that.
const MAX_RECENT: usize = 1024;

/// After so long nobody waits for the outcome any more.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// Longest transaction that is kept for a later reply, in bytes.
const MAX_TRANSACTION: usize = 32;

/// Known nodes that those who are asked are drawn from.
const DRAWN_FROM: usize = 32;

/// Names a connection that is being tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Both sides of it.
#[derive(Default)]
pub struct Dials {
    /// The own port and what is known of it, by [`Family::index`]; none when nothing is served.
    own: Option<(u16, [Reach; 2])>,
    open: BTreeMap<Ticket, Waiting>,
    recent: HashMap<IpAddr, Duration>,
}

struct Waiting {
    from: SocketAddr,
    via: usize,
    transaction: Vec<u8>,
    len: usize,
    since: Duration,
}

impl Dials {
    /// What is known of the own port over a family.
    pub fn reachability(&self, family: Family) -> Option<Reachability> {
        self.own.as_ref().map(|(_, reach)| reach[family.index()].state())
    }

    /// When somebody is to be asked, over the families that are spoken.
    pub fn next(&self, families: [bool; 2]) -> Option<Duration> {
        let (_, reach) = self.own.as_ref()?;
        reach.iter().zip(families).filter(|(_, spoken)| *spoken).map(|(reach, _)| reach.next()).min()
    }
}

impl Node {
    /// Peers are served at this TCP port from now on: whether others can connect is to be found out.
    pub fn serve(&mut self, port: u16, now: Duration) {
        self.dials.own = Some((port, [Reach::new(now), Reach::new(now)]));
        self.keep_up(now);
    }

    /// Whether announcements may go to nodes of a family: nobody knows better, or somebody could connect.
    pub(super) fn may_tell(&self, to: &SocketAddr) -> bool {
        self.dials.reachability(Family::of(to)).is_none_or(|state| state == Reachability::Open)
    }

    /// Whether this node is to stay out of the tables of others, as a node that nobody reaches is no use there (BEP 43). In a
    /// network of a few, one that was not tried yet is: who cannot be reached may be all that the other has to keep its
    /// records, and to have its own port tried by.
    pub(super) fn is_unproven(&self, family: Family) -> bool {
        match self.dials.reachability(family) {
            None | Some(Reachability::Open) => false,
            Some(Reachability::Closed(_)) => true,
            Some(Reachability::Untested) => self.tables[family.index()].lively() >= K,
        }
    }

    /// There is somebody to ask at last, or the own address is another one.
    pub(super) fn try_port_again(&mut self, family: Family, now: Duration) {
        if let Some((_, reach)) = &mut self.dials.own {
            reach[family.index()].handle_change(now);
        }
    }

    /// Asks some nodes to connect, when it is time.
    pub(super) fn have_port_tried(&mut self, now: Duration) {
        for family in Family::BOTH {
            let Some((port, reach)) = &mut self.dials.own else { return };
            let (port, reach) = (*port, &mut reach[family.index()]);
            if !self.families[family.index()] || reach.next() > now {
                continue;
            }
            reach.handle_asked(now);
            let place = Id::random(&mut self.rng);
            let mut subnets = Vec::new();
            for (contact, _) in self.tables[family.index()].closest(&place, DRAWN_FROM) {
                let subnet = Subnet::of(contact.addr.ip());
                if subnets.len() < ASKED && !subnets.contains(&subnet) {
                    subnets.push(subnet);
                    let query = Query::DialBack { port, token: None };
                    self.ask(contact.addr, Some(contact.id), &query, 0, Purpose::DialBack, now);
                }
            }
        }
    }

    /// A node that was asked to connect has given a token, or says how it went.
    pub(super) fn handle_dial_reply(&mut self, flight: &Flight<Purpose>, reply: &Reply<'_>, now: Duration) {
        let family = Family::of(&flight.to);
        let Some((port, reach)) = &mut self.dials.own else { return };
        match (reply.dial, reply.token) {
            (Some(dial), _) => {
                if reach[family.index()].handle_voice(Subnet::of(flight.to.ip()), dial, now) {
                    let is_open = reach.iter().any(|reach| reach.state() == Reachability::Open);
                    self.server.set_open(is_open);
                    if is_open {
                        // From now on those who are near take it for a node.
                        self.upkeep.handle_first_contact(now);
                    }
                }
            }
            (None, Some(token)) => {
                let query = Query::DialBack { port: *port, token: Some(token) };
                self.ask(flight.to, flight.id, &query, 0, Purpose::DialBack, now);
            }
            (None, None) => {}
        }
    }

    /// A node asks to be connected to.
    pub(super) fn handle_dial_question(
        &mut self,
        asker: Contact,
        port: u16,
        token: &[u8],
        envelope: Envelope<'_>,
        via: usize,
        now: Duration,
    ) -> Result<(), Refusal> {
        let Contact { id, addr: from } = asker;
        if !self.server.accepts(token, from, &id, now) {
            return Err(Refusal::Token);
        }
        if envelope.transaction.len() > MAX_TRANSACTION {
            return Err(Refusal::Malformed);
        }
        let dials = &mut self.dials;
        dials.open.retain(|_, waiting| now.saturating_sub(waiting.since) < FORGOTTEN);
        if dials.recent.len() >= MAX_RECENT {
            dials.recent.retain(|_, at| now.saturating_sub(*at) < AGAIN);
        }
        let is_too_soon = dials.recent.get(&from.ip()).is_some_and(|at| now.saturating_sub(*at) < AGAIN);
        if is_too_soon || dials.open.len() >= MAX_DIALS || dials.recent.len() >= MAX_RECENT {
            return Err(Refusal::Full);
        }
        dials.recent.insert(from.ip(), now);
        self.last += 1;
        let ticket = Ticket(self.last);
        let (transaction, len) = (envelope.transaction.to_vec(), envelope.len);
        self.dials.open.insert(ticket, Waiting { from, via, transaction, len, since: now });
        self.outputs.push_back(Output::Event(Event::Dial(ticket, SocketAddr::new(from.ip(), port))));
        Ok(())
    }

    /// A connection that [`Event::Dial`] asked for went so.
    pub fn handle_dialled(&mut self, ticket: Ticket, dial: Dial, now: Duration) {
        let Some(Waiting { from, via, transaction, len, .. }) = self.dials.open.remove(&ticket) else { return };
        let envelope = Envelope { from, transaction: &transaction, len };
        if let Some(datagram) = self.server.tell_dial(dial, envelope, now) {
            self.queries_in += 1;
            self.outputs.push_back(Output::Transmit(Transmit { to: from, via: Some(via), datagram }));
        }
    }
}
