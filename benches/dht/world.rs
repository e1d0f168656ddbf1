//! A network of real nodes in one process, under a clock of its own.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    net::SocketAddr,
    time::Duration,
};

use apt_huddle::{
    dht::{
        Terms,
        contact::Contact,
        find::Found,
        message::{Answer, Body, Packet, Query, write_query, write_reply},
        node::{Event, JobId, Node, Output, Setup, Transmit},
        realm::Realm,
        saved::Saved,
        shelf::{Record, Shelf},
    },
    hash::{ContentHash, Expected, PieceChain},
};
use rand::{Rng, RngExt, rngs::StdRng};

use super::internet::{Internet, SLOWER_BY};

/// Of how many nodes each that comes knows the addresses.
const ENTRIES: usize = 4;

/// How soon a liar has a question, and its answer is there.
const LIARS_TAKE: Duration = Duration::from_millis(5);

/// The TCP port that every holder announces.
pub const PORT: u16 = 80;

/// One machine.
struct Host {
    node: Node,
    addr: SocketAddr,
    is_alive: bool,
    timer: Duration,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Timer(usize),
    Arrival {
        host: usize,
        from: SocketAddr,
        datagram: Vec<u8>,
    },
    /// A question or an answer of the network came to a liar.
    Lie {
        liar: usize,
        from: SocketAddr,
        datagram: Vec<u8>,
    },
}

/// A command that is followed.
#[derive(Debug, Clone, Default)]
pub struct Followed {
    /// When it was given.
    pub began: Duration,
    /// When the first holder was known.
    pub first: Option<Duration>,
    /// When it was over.
    pub ended: Option<Duration>,
    /// Holders found.
    pub holders: Vec<SocketAddr>,
    /// Nodes that stored.
    pub stored: usize,
    /// Questions sent for it, and a few for upkeep meanwhile.
    pub messages: u64,
}

/// All hosts, and what is under way.
pub struct World {
    pub internet: Internet,
    pub rng: StdRng,
    now: Duration,
    hosts: Vec<Host>,
    at: HashMap<SocketAddr, usize>,
    liars: Vec<Contact>,
    coming: BinaryHeap<Reverse<(Duration, u64, Happening)>>,
    sequence: u64,
    followed: HashMap<(usize, JobId), Followed>,
    sent: HashMap<usize, u64>,
    loss: f64,
}

impl World {
    /// Nobody yet.
    pub fn new(internet: Internet, case: u64) -> Self {
        Self {
            internet,
            rng: internet.rng(case),
            now: Duration::ZERO,
            hosts: Vec::new(),
            at: HashMap::new(),
            liars: Vec::new(),
            coming: BinaryHeap::new(),
            sequence: 0,
            followed: HashMap::new(),
            sent: HashMap::new(),
            loss: 1.0 - (1.0 - super::internet::LOSS).sqrt(),
        }
    }

    /// Adds so many nodes, one after the other within that time.
    pub fn grow(&mut self, count: usize, within: Duration) {
        for _ in 0..count {
            self.add(None);
            self.run(within / u32::try_from(count).expect("few nodes"));
        }
    }

    /// Adds a node, each in a neighbourhood of its own.
    pub fn add(&mut self, saved: Option<Saved>) -> usize {
        let host = self.hosts.len();
        let [_, a, b, c] = u32::try_from(host).expect("few nodes").to_be_bytes();
        let addr = SocketAddr::from(([20 + a, b, c, 1], 9978));
        let setup = Setup { realm: Realm::public(), families: [true, false], saved, has_entries: true };
        let node = Node::new(setup, self.rng.next_u64(), self.now);
        self.hosts.push(Host { node, addr, is_alive: true, timer: Duration::MAX });
        self.at.insert(addr, host);
        self.touch(host);
        host
    }

    pub fn kill(&mut self, host: usize) {
        self.hosts[host].is_alive = false;
    }

    pub fn now(&self) -> Duration {
        self.now
    }

    pub fn addr(&self, host: usize) -> SocketAddr {
        self.hosts[host].addr
    }

    pub fn living(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|host| self.hosts[*host].is_alive).collect()
    }

    /// A living node, drawn by lot.
    pub fn anybody(&mut self) -> usize {
        loop {
            let drawn = self.rng.random_range(0..self.hosts.len());
            if self.hosts[drawn].is_alive {
                return drawn;
            }
        }
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.coming.peek().is_some_and(|Reverse((at, ..))| *at <= until) {
            self.happen();
        }
        self.now = until;
    }

    /// Begins to announce.
    pub fn publish(&mut self, host: usize, file: &Expected) -> (usize, JobId) {
        let chain = PieceChain::decode(file, &vec![7; PieceChain::encoded_len(file)]).expect("of the right length");
        self.publish_records(host, vec![Record::File(*file, chain)])
    }

    /// Begins to announce files and shelves together.
    pub fn publish_records(&mut self, host: usize, records: Vec<Record>) -> (usize, JobId) {
        let before = self.hosts[host].node.figures().queries_out;
        let job = self.hosts[host].node.publish_many(&records, PORT, self.now);
        self.follow(host, job, before)
    }

    /// Begins to look for those who have something of a shelf.
    pub fn find_shelf(&mut self, host: usize, shelf: &Shelf) -> (usize, JobId) {
        let before = self.hosts[host].node.figures().queries_out;
        let job = self.hosts[host].node.find_shelf(shelf, Terms::default(), self.now);
        self.follow(host, job, before)
    }

    /// Bytes of questions that a host has sent.
    pub fn sent(&self, host: usize) -> u64 {
        self.sent.get(&host).copied().unwrap_or(0)
    }

    /// Begins a search.
    pub fn find(&mut self, host: usize, file: &Expected) -> (usize, JobId) {
        let before = self.hosts[host].node.figures().queries_out;
        let job = self.hosts[host].node.find(*file, Terms::default(), self.now);
        self.follow(host, job, before)
    }

    fn follow(&mut self, host: usize, job: JobId, messages: u64) -> (usize, JobId) {
        self.followed.insert((host, job), Followed { began: self.now, messages, ..Followed::default() });
        self.touch(host);
        (host, job)
    }

    /// What came of commands.
    pub fn followed(&self, command: &(usize, JobId)) -> &Followed {
        &self.followed[command]
    }

    fn happen(&mut self) {
        let Reverse((at, _, happening)) = self.coming.pop().expect("looked at before");
        self.now = at;
        let host = match happening {
            Happening::Timer(host) => {
                if !self.hosts[host].is_alive || self.hosts[host].timer != at {
                    return;
                }
                self.hosts[host].timer = Duration::MAX;
                self.hosts[host].node.handle_timeout(at);
                host
            }
            Happening::Lie { liar, from, datagram } => return self.lie(liar, from, &datagram),
            Happening::Arrival { host, from, datagram } => {
                if !self.hosts[host].is_alive {
                    return;
                }
                self.hosts[host].node.handle_datagram(from, 0, &datagram, at);
                host
            }
        };
        self.touch(host);
    }

    fn touch(&mut self, host: usize) {
        while let Some(output) = self.hosts[host].node.poll() {
            match output {
                Output::Transmit(transmit) => self.carry(host, transmit),
                Output::Event(Event::Lonely) => {
                    let entries = self.hosts.len().min(ENTRIES);
                    let entries: Vec<_> = (0..entries).map(|_| self.anybody()).collect();
                    let entries = entries.into_iter().map(|entry| self.hosts[entry].addr);
                    let entries: Vec<_> = entries.filter(|entry| *entry != self.hosts[host].addr).collect();
                    self.hosts[host].node.handle_entries(&entries, self.now);
                }
                Output::Event(Event::Found(job, found)) => self.handle_found(host, job, found),
                Output::Event(Event::Ended(job, stored)) => {
                    let messages = self.hosts[host].node.figures().queries_out;
                    if let Some(followed) = self.followed.get_mut(&(host, job)) {
                        followed.ended = Some(self.now);
                        followed.stored = stored;
                        followed.messages = messages - followed.messages;
                    }
                }
                // Nobody here probes, or has its port tried.
                Output::Event(Event::Heard(..) | Event::Told(..) | Event::Dial(..)) => {}
            }
        }
        let timer = self.hosts[host].node.next_timeout().max(self.now);
        if timer < self.hosts[host].timer {
            self.hosts[host].timer = timer;
            self.come(timer, Happening::Timer(host));
        }
    }

    fn handle_found(&mut self, host: usize, job: JobId, found: Found) {
        if let (Some(followed), Found::Holder(holder)) = (self.followed.get_mut(&(host, job)), found) {
            followed.first.get_or_insert(self.now);
            followed.holders.push(holder);
        }
    }

    fn carry(&mut self, by: usize, Transmit { to, via, datagram }: Transmit) {
        if via.is_none() {
            *self.sent.entry(by).or_default() += datagram.len() as u64;
        }
        if let Some(liar) = self.liars.iter().position(|liar| liar.addr == to) {
            let (from, soon) = (self.hosts[by].addr, self.now + LIARS_TAKE);
            return self.come(soon, Happening::Lie { liar, from, datagram });
        }
        let Some(&host) = self.at.get(&to) else { return };
        if self.rng.random_bool(self.loss) {
            return;
        }
        let base = self.internet.base_round_trip(by, host) / 2;
        let slower = if via.is_some() && self.internet.is_slow(by) { SLOWER_BY } else { Duration::ZERO };
        let from = self.hosts[by].addr;
        self.come(self.now + base + slower, Happening::Arrival { host, from, datagram });
    }

    /// Adds a liar, who shows itself to so many nodes.
    pub fn add_liar(&mut self, liar: Contact, greets: usize) {
        self.liars.push(liar);
        let greeting = Query::FindNode { target: liar.id };
        let datagram = write_query(&Realm::public(), b"liar", &liar.id, &greeting, [false; 2], 0);
        for _ in 0..greets {
            let (host, datagram) = (self.anybody(), datagram.clone());
            let at = self.now + Duration::from_millis(self.rng.random_range(0..60_000));
            self.come(at, Happening::Arrival { host, from: liar.addr, datagram });
        }
    }

    /// A liar answers at once, says that it stores what it forgets, and names only its like.
    fn lie(&mut self, liar: usize, to: SocketAddr, question: &[u8]) {
        let realm = Realm::public();
        let own = self.liars[liar];
        let Some(Packet { transaction, body: Body::Query(asked) }) = Packet::read(&realm, question) else { return };
        let target = match asked.query {
            Query::FindNode { target } | Query::Get { target } => target,
            Query::GetPeers { key } => key,
            _ => own.id,
        };
        let mut likes = self.liars.clone();
        likes.sort_by_cached_key(|like| like.id.distance(&target));
        likes.truncate(8);
        let answer = Answer { token: Some([7; 8]), contacts: [likes, Vec::new()], ..Answer::default() };
        if let (Some(reply), Some(&host)) =
            (write_reply(&realm, transaction, &own.id, &to, answer, question.len()), self.at.get(&to))
        {
            self.come(self.now + LIARS_TAKE, Happening::Arrival { host, from: own.addr, datagram: reply });
        }
    }

    fn come(&mut self, at: Duration, happening: Happening) {
        self.sequence += 1;
        self.coming.push(Reverse((at, self.sequence, happening)));
    }
}

/// A file of one piece.
pub fn file(name: u64) -> Expected {
    Expected { hash: ContentHash::of(&name.to_be_bytes()), size: 100_000 }
}
