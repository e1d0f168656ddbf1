//! Whom to ask for which files of one piece: a machine without clock.
//!
//! ```text
//!  wanted file --> its shelves --known for some minutes, else Search--> peers --the likely and quick first--> queues
//!  queue of a peer --a few ms, or until its answer is there--> Ask: one question for all that waits
//!  answer --> Holder, for each file that it says it has; the next peers where it says no
//! ```
//!
//! **Security.** What peers say is hearsay and convicts nobody. Who says yes and never gives anything is asked last. Of the
//! few who are asked for a file, some at most are of one neighbourhood of addresses. Peers are not asked for more in vain than
//! their budgets bear. Everything is bounded; what is forgotten is found again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{archive::Scope, dht::Shelf, hash::ContentHash};

/// Peers asked for one file at most.
const MAX_ASKED: usize = 8;
/// Peers asked for one file at the same time, with those who said yes.
const AT_ONCE: usize = 4;
/// Holders of a file after which nobody else is asked.
const ENOUGH: usize = 3;
/// Peers of one neighbourhood of global addresses (IPv4 /24, IPv6 /48) asked for one file.
const PER_SUBNET: usize = 3;
/// Files of one question.
const MAX_TOGETHER: usize = 256;
/// How long more files are waited for before a peer is asked: apt sends its requests in a burst.
const COLLECT: Duration = Duration::from_millis(3);
/// How long the peers of a shelf are known without a new search; fewer than are asked for one file, for less: more may have
/// come, and in a network that small a search costs little.
const KNOWN: Duration = Duration::from_secs(5 * 60);
const KNOWN_FEW: Duration = Duration::from_secs(5);
/// How long holders of a file are looked for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Shelves, peers and wanted files that are remembered.
const MAX_SHELVES: usize = 512;
const MAX_PEERS: usize = 4096;
const MAX_WANTED: usize = 1024;
/// Peers of a shelf.
const MAX_PEERS_OF_SHELF: usize = 100;
/// Hashes that a peer has not, up to which it is asked at once, and how many more each second; its own budget allows
/// twice as much.
const MAX_IN_VAIN: f64 = 256.0;
const IN_VAIN_PAID: f64 = 8.0;
/// Answers in which a peer may say yes without giving anything before it is asked last.
const MAX_UNKEPT: u32 = 8;
/// What a peer is presumed to take for an answer, and to have of what it is asked for, before it is known.
const PRESUMED: Duration = Duration::from_millis(150);
const PRIOR: (f64, f64) = (1.0, 3.0);

/// Names a wanted file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WantId(u64);

/// What the machine wants of the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Look for the peers of a shelf, see [`Desk::handle_found`] and [`Desk::handle_searched`].
    Search(Shelf),
    /// Ask a peer, see [`Desk::handle_answer`].
    Ask(SocketAddr, Vec<ContentHash>),
    /// That peer says it has the file.
    Holder(WantId, SocketAddr),
    /// Nobody else will be found.
    End(WantId),
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Which of the hashes it has, in their order; empty when it did not say.
    pub holds: Vec<bool>,
    /// How long that took.
    pub took: Duration,
    /// Bytes of good pieces that it has given at any time.
    pub given: u64,
}

/// All that is wanted, and who may have it.
#[derive(Debug)]
pub struct Desk {
    rng: StdRng,
    shelves: HashMap<Shelf, Stock>,
    peers: HashMap<SocketAddr, Regular>,
    /// When each peer that has a queue and owes no answer is asked.
    due: BTreeSet<(Instant, SocketAddr)>,
    wanted: BTreeMap<WantId, Wanted>,
    ends: BTreeSet<(Instant, WantId)>,
    last: u64,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Stock {
    /// Those of the last search, and of the one under way.
    peers: Vec<SocketAddr>,
    /// Those of the one under way.
    fresh: Vec<SocketAddr>,
    /// Until when these are believed to be all; `None` while they are looked for.
    known_until: Option<Instant>,
}

#[derive(Debug)]
struct Wanted {
    hash: ContentHash,
    shelves: Vec<Shelf>,
    asked: Vec<SocketAddr>,
    /// Those of `asked` that have not answered.
    open: usize,
    holders: usize,
    until: Instant,
}

/// A peer that is asked now and then.
#[derive(Debug)]
struct Regular {
    queue: Vec<WantId>,
    /// When the queue is due, once no answer is.
    due: Instant,
    under_way: Option<Vec<WantId>>,
    yes: f64,
    no: f64,
    took: Option<Duration>,
    /// Bytes that it had given when it last gave some, and how many of its answers have had a yes since.
    given: (u64, u32),
    /// Hashes asked in vain, as of then.
    in_vain: (f64, Instant),
    seen: Instant,
}

impl Regular {
    fn new(now: Instant) -> Self {
        Self {
            queue: Vec::new(),
            due: now,
            under_way: None,
            yes: 0.0,
            no: 0.0,
            took: None,
            given: (0, 0),
            in_vain: (0.0, now),
            seen: now,
        }
    }

    fn in_vain(&self, now: Instant) -> f64 {
        let (hashes, at) = self.in_vain;
        (hashes - IN_VAIN_PAID * now.saturating_duration_since(at).as_secs_f64()).max(0.0)
    }

    /// The part of what it is asked for that it is likely to have.
    fn share(&self) -> f64 {
        (self.yes + PRIOR.0) / (self.yes + self.no + PRIOR.1)
    }

    /// Whether more that it may not have is more than its budget bears.
    fn is_tired(&self, now: Instant) -> bool {
        self.in_vain(now) + self.queue.len() as f64 * (1.0 - self.share()) >= MAX_IN_VAIN
    }

    /// Seconds until a holder is found by asking peers like this one, one after the other.
    fn effort(&self) -> f64 {
        let share = if self.given.1 > MAX_UNKEPT { 0.01 } else { self.share() };
        self.took.unwrap_or(PRESUMED).as_secs_f64() / share
    }
}

impl Desk {
    /// Nothing is wanted and nobody known.
    pub fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            shelves: HashMap::new(),
            peers: HashMap::new(),
            due: BTreeSet::new(),
            wanted: BTreeMap::new(),
            ends: BTreeSet::new(),
            last: 0,
            outputs: VecDeque::new(),
        }
    }

    /// A file is wanted, which stands on these shelves.
    pub fn handle_wanted(&mut self, hash: ContentHash, shelves: Vec<Shelf>, now: Instant) -> WantId {
        self.last += 1;
        let id = WantId(self.last);
        if self.wanted.len() >= MAX_WANTED {
            self.outputs.push_back(Output::End(id));
            return id;
        }
        shelves.iter().for_each(|shelf| self.open(*shelf, now));
        let until = now + PATIENCE;
        self.ends.insert((until, id));
        self.wanted.insert(id, Wanted { hash, shelves, asked: Vec::new(), open: 0, holders: 0, until });
        self.advance(id, now);
        id
    }

    /// A file is not wanted any more.
    pub fn handle_dropped(&mut self, id: WantId) {
        if let Some(wanted) = self.wanted.remove(&id) {
            self.ends.remove(&(wanted.until, id));
        }
    }

    /// A peer has something of a shelf, or says so.
    pub fn handle_found(&mut self, shelf: Shelf, peer: SocketAddr, now: Instant) {
        let Some(stock) = self.shelves.get_mut(&shelf) else { return };
        if stock.fresh.len() >= MAX_PEERS_OF_SHELF || stock.fresh.contains(&peer) {
            return;
        }
        stock.fresh.push(peer);
        if !stock.peers.contains(&peer) {
            stock.peers.push(peer);
            self.advance_all(&shelf, now);
        }
    }

    /// All peers of a shelf that can be found were named.
    pub fn handle_searched(&mut self, shelf: Shelf, now: Instant) {
        let Some(stock) = self.shelves.get_mut(&shelf) else { return };
        stock.peers = std::mem::take(&mut stock.fresh);
        stock.known_until = Some(now + if stock.peers.len() < MAX_ASKED { KNOWN_FEW } else { KNOWN });
        self.advance_all(&shelf, now);
    }

    /// A peer answered, or will not.
    pub fn handle_answer(&mut self, peer: SocketAddr, answer: &Answer, now: Instant) {
        let Some(regular) = self.peers.get_mut(&peer) else { return };
        let Some(asked) = regular.under_way.take() else { return };
        regular.took = Some(regular.took.map_or(answer.took, |took| took.mul_f64(0.75) + answer.took.mul_f64(0.25)));
        if regular.given.0 < answer.given {
            regular.given = (answer.given, 0);
        }
        let has = answer.holds.iter().take(asked.len()).filter(|holds| **holds).count();
        let in_vain = (asked.len() - has) as f64;
        regular.in_vain = (regular.in_vain(now) + in_vain, now);
        // What it had of late says more than what it had long ago.
        (regular.yes, regular.no) = (0.98 * regular.yes + has as f64, 0.98 * regular.no + in_vain);
        // Once for a question: nothing of what it says now could have been fetched yet.
        if has > 0 {
            regular.given.1 = regular.given.1.saturating_add(1);
        }
        if !regular.queue.is_empty() {
            self.due.insert((regular.due, peer));
        }
        let holds = answer.holds.iter().copied().chain(std::iter::repeat(false));
        for (id, holds) in asked.into_iter().zip(holds) {
            let Some(wanted) = self.wanted.get_mut(&id) else { continue };
            wanted.open -= 1;
            if holds {
                wanted.holders += 1;
                self.outputs.push_back(Output::Holder(id, peer));
            }
            self.advance(id, now);
        }
    }

    /// What to do, until there is nothing; then again at [`Desk::next_timeout`] and after each `handle_`.
    #[must_use]
    pub fn poll(&mut self, now: Instant) -> Option<Output> {
        while let Some((_, id)) = self.ends.first().copied().filter(|(until, _)| *until <= now) {
            self.end(id);
        }
        while self.outputs.is_empty()
            && let Some((due, peer)) = self.due.first().copied().filter(|(due, _)| *due <= now)
        {
            self.due.remove(&(due, peer));
            self.ask(peer, now);
        }
        self.outputs.pop_front()
    }

    /// When [`Desk::poll`] has something to do, whatever happens.
    pub fn next_timeout(&self) -> Option<Instant> {
        let due = self.due.first().map(|(due, _)| *due);
        let end = self.ends.first().map(|(until, _)| *until);
        due.into_iter().chain(end).min()
    }

    /// Has the peers of a shelf looked for, unless they are known; those of before are asked meanwhile.
    fn open(&mut self, shelf: Shelf, now: Instant) {
        let is_known = |stock: &Stock| stock.known_until.is_none_or(|until| now < until);
        if self.shelves.get(&shelf).is_some_and(is_known) {
            return;
        }
        if self.shelves.len() >= MAX_SHELVES {
            self.shelves.retain(|_, stock| is_known(stock));
        }
        if self.shelves.len() < MAX_SHELVES || self.shelves.contains_key(&shelf) {
            let none = || Stock { peers: Vec::new(), fresh: Vec::new(), known_until: None };
            self.shelves.entry(shelf).or_insert_with(none).known_until = None;
            self.outputs.push_back(Output::Search(shelf));
        }
    }

    fn advance_all(&mut self, shelf: &Shelf, now: Instant) {
        let wanting = self.wanted.iter().filter(|(_, wanted)| wanted.shelves.contains(shelf)).map(|(id, _)| *id);
        wanting.collect::<Vec<_>>().into_iter().for_each(|id| self.advance(id, now));
    }

    /// Has more peers asked for a file, or ends it.
    fn advance(&mut self, id: WantId, now: Instant) {
        while let Some(wanted) = self.wanted.get(&id) {
            let is_done = wanted.holders >= ENOUGH || wanted.asked.len() >= MAX_ASKED;
            if wanted.open > 0 && (is_done || wanted.open + wanted.holders >= AT_ONCE) {
                return;
            }
            match if is_done { None } else { self.next_peer(id, now) } {
                Some(peer) => self.enqueue(peer, id, now),
                None => {
                    let wanted = &self.wanted[&id];
                    let is_searching =
                        |shelf: &Shelf| self.shelves.get(shelf).is_some_and(|stock| stock.known_until.is_none());
                    if wanted.open == 0 && (is_done || !wanted.shelves.iter().any(is_searching)) {
                        self.end(id);
                    }
                    return;
                }
            }
        }
    }

    fn end(&mut self, id: WantId) {
        self.handle_dropped(id);
        self.outputs.push_back(Output::End(id));
    }

    /// Of the peers of its shelves, the most promising one that is not asked for it yet.
    fn next_peer(&mut self, id: WantId, now: Instant) -> Option<SocketAddr> {
        let wanted = &self.wanted[&id];
        let mut best: Option<(f64, SocketAddr)> = None;
        for peer in wanted.shelves.iter().filter_map(|shelf| self.shelves.get(shelf)).flat_map(|stock| &stock.peers) {
            if wanted.asked.contains(peer) || !has_room(&wanted.asked, peer.ip()) {
                continue;
            }
            let effort = match self.peers.get(peer) {
                Some(regular) if regular.is_tired(now) => continue,
                Some(regular) => regular.effort(),
                None => PRESUMED.as_secs_f64() * PRIOR.1 / PRIOR.0,
            };
            // By lot among equals, so that no stranger is asked by everybody.
            let effort = effort * self.rng.random_range(0.8..1.2);
            if best.is_none_or(|(least, _)| effort < least) {
                best = Some((effort, *peer));
            }
        }
        best.map(|(_, peer)| peer)
    }

    fn enqueue(&mut self, peer: SocketAddr, id: WantId, now: Instant) {
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&peer) {
            let idle = |(_, regular): &(&_, &Regular)| regular.queue.is_empty() && regular.under_way.is_none();
            let oldest = self.peers.iter().filter(idle).min_by_key(|(_, regular)| regular.seen).map(|(peer, _)| *peer);
            oldest.map(|oldest| self.peers.remove(&oldest));
        }
        let wanted = self.wanted.get_mut(&id).expect("whoever asks for it has looked");
        wanted.asked.push(peer);
        wanted.open += 1;
        let regular = self.peers.entry(peer).or_insert_with(|| Regular::new(now));
        regular.seen = now;
        if regular.queue.is_empty() {
            regular.due = now + COLLECT;
            if regular.under_way.is_none() {
                self.due.insert((regular.due, peer));
            }
        }
        regular.queue.push(id);
    }

    /// Asks a peer for all that waits for it.
    fn ask(&mut self, peer: SocketAddr, now: Instant) {
        let Some(regular) = self.peers.get_mut(&peer) else { return };
        regular.queue.retain(|id| self.wanted.contains_key(id));
        let asked: Vec<_> = regular.queue.drain(..regular.queue.len().min(MAX_TOGETHER)).collect();
        if asked.is_empty() {
            return;
        }
        regular.due = now;
        let hashes = asked.iter().map(|id| self.wanted[id].hash).collect();
        regular.under_way = Some(asked);
        self.outputs.push_back(Output::Ask(peer, hashes));
    }
}

/// Whether one more peer may join those that are asked for a file. On a LAN neighbours are who there is.
fn has_room(asked: &[SocketAddr], ip: IpAddr) -> bool {
    let subnet = |ip: IpAddr| match ip.to_canonical() {
        IpAddr::V4(ip) => (true, u128::from(ip.to_bits() >> 8)),
        IpAddr::V6(ip) => (false, ip.to_bits() >> 80),
    };
    Scope::of(ip) != Scope::Global || asked.iter().filter(|other| subnet(other.ip()) == subnet(ip)).count() < PER_SUBNET
}

#[cfg(test)]
mod tests;
