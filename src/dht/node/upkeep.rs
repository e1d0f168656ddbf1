//! What a node does unasked: finding the network, keeping its tables fresh, letting go of what has ended.

use std::{net::SocketAddr, time::Duration};

use rand::RngExt;

use crate::dht::{
    contact::{Contact, Family, plain},
    id::Id,
    message::Query,
    table::{K, Table},
    walk::Goal,
};

use super::{Event, MAX_CHECKS, Node, Output, Purpose};

/// How often the stalest node is asked, one a family.
const TICK: Duration = Duration::from_secs(5);

/// Waits between explorations: often in the first minutes, when most is to be learnt, and ever less, down to this.
const EXPLORE: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(60)];

/// A node of that age explores as often as this many times in it.
const EXPLORATIONS_AN_AGE: u32 = 50;

/// How often the store is swept.
const SWEEP: Duration = Duration::from_secs(60);

/// Wait before the second try to find the network; it doubles up to [`MAX_LONELY`].
const MIN_LONELY: Duration = Duration::from_millis(500);

/// Longest wait between tries to find the network while nobody is known.
const MAX_LONELY: Duration = Duration::from_secs(60);

/// Wait between tries while few nodes are known: the network may have parted.
const FEW: Duration = Duration::from_secs(15 * 60);

/// Shortest wait between tries, when somebody wants something.
const HASTE: Duration = Duration::from_secs(2);

/// Wait before the second walk to the own id; it doubles up to [`MAX_REFRESH`].
const MIN_REFRESH: Duration = Duration::from_secs(5);

/// Longest wait between walks to the own id.
const MAX_REFRESH: Duration = Duration::from_secs(15 * 60);

/// How long jobs wait for a first contact.
const PATIENCE: Duration = Duration::from_millis(500);

/// Entry addresses that are asked at one try.
const MAX_ENTRIES: usize = 32;

/// Wait between greetings of those who were known in an earlier life.
const GREET: Duration = Duration::from_millis(20);

/// How many of them are greeted at once.
const GREETED: usize = 8;

/// Timers and what they need.
pub struct Upkeep {
    remembered: Vec<Contact>,
    /// How many of the remembered were greeted.
    greeted: usize,
    greet: Duration,
    has_entries: bool,
    began: Duration,
    explore: Duration,
    tick: Duration,
    sweep: Duration,
    lonely: Duration,
    lonely_wait: Duration,
    tried: Duration,
    refresh: Duration,
    refresh_wait: Duration,
    patience_ends: Option<Duration>,
}

impl Upkeep {
    /// Begins at once to look for the network.
    pub fn new(remembered: Vec<Contact>, has_entries: bool, greets: bool, now: Duration) -> Self {
        let is_hopeful = has_entries || !remembered.is_empty();
        Self {
            greeted: 0,
            greet: if greets && !remembered.is_empty() { now + GREET } else { Duration::MAX },
            remembered,
            has_entries,
            began: now,
            explore: now + EXPLORE[0],
            tick: now + TICK,
            sweep: now + SWEEP,
            lonely: now,
            lonely_wait: MIN_LONELY,
            tried: now,
            refresh: Duration::MAX,
            refresh_wait: MIN_REFRESH,
            patience_ends: is_hopeful.then_some(now + PATIENCE),
        }
    }

    /// Contacts of an earlier life.
    pub fn remembered(&self) -> &[Contact] {
        &self.remembered
    }

    /// Until when jobs wait for a first contact, if one can be hoped for.
    pub fn patience_ends(&self) -> Option<Duration> {
        self.patience_ends
    }

    /// When something is due next.
    pub fn next(&self) -> Duration {
        self.tick.min(self.explore).min(self.sweep).min(self.lonely).min(self.refresh).min(self.greet)
    }

    /// The first node of a family answered: whoever is near the own id is to be found now.
    pub fn handle_first_contact(&mut self, now: Duration) {
        self.refresh = now;
        self.refresh_wait = MIN_REFRESH;
        self.lonely_wait = MIN_LONELY;
    }

    /// Somebody wants something while nobody is known: the next try need not wait for its turn.
    pub fn handle_job(&mut self, now: Duration) {
        if now >= self.tried + HASTE {
            self.lonely = self.lonely.min(now);
        }
    }
}

impl Node {
    /// Does all that is due.
    pub(super) fn keep_up(&mut self, now: Duration) {
        if self.upkeep.patience_ends.is_some_and(|ends| ends <= now) {
            self.upkeep.patience_ends = None;
        }
        if self.upkeep.lonely <= now {
            self.look_for_network(now);
        }
        if self.upkeep.refresh <= now {
            self.begin(self.own, Goal::Near, None, now);
            let wait = self.jittered(self.upkeep.refresh_wait);
            self.upkeep.refresh = now + wait;
            self.upkeep.refresh_wait = (self.upkeep.refresh_wait * 2).min(MAX_REFRESH);
        }
        if self.upkeep.tick <= now {
            self.refresh_stalest(now);
            let wait = self.jittered(TICK);
            self.upkeep.tick = now + wait;
        }
        if self.upkeep.greet <= now {
            self.greet_remembered(now);
        }
        if self.upkeep.explore <= now {
            self.explore(now);
            let wait = ((now - self.upkeep.began) / EXPLORATIONS_AN_AGE).clamp(EXPLORE[0], EXPLORE[1]);
            self.upkeep.explore = now + self.jittered(wait);
        }
        self.have_port_tried(now);
        if self.upkeep.sweep <= now {
            self.server.sweep(now);
            self.silent.sweep(now);
            self.forget(now);
            self.upkeep.sweep = now + SWEEP;
        }
    }

    fn look_for_network(&mut self, now: Duration) {
        let known: usize = self.tables.iter().map(Table::lively).sum();
        let wait = if known == 0 { self.upkeep.lonely_wait } else { FEW };
        if known == 0 {
            self.upkeep.lonely_wait = (wait * 2).min(MAX_LONELY);
        }
        if known < K {
            if self.upkeep.has_entries {
                self.outputs.push_back(Output::Event(Event::Lonely));
            }
            let active = |contact: &&Contact| self.families[Family::of(&contact.addr).index()];
            let seeds =
                self.upkeep.remembered.iter().filter(active).map(|contact| (*contact, None)).collect::<Vec<_>>();
            if !seeds.is_empty() {
                self.begin_from(self.own, Goal::Near, None, seeds, now);
            }
        }
        let wait = self.jittered(wait);
        self.upkeep.tried = now;
        self.upkeep.lonely = now + wait;
    }

    /// Asks a few of those who were known before, so that the table is soon as full as it was; not while many are asked.
    fn greet_remembered(&mut self, now: Duration) {
        let from = self.upkeep.greeted;
        let room = GREETED.min((MAX_CHECKS / 2).saturating_sub(self.checks));
        let some: Vec<Contact> = self.upkeep.remembered.iter().skip(from).take(room).copied().collect();
        self.upkeep.greeted += some.len();
        let is_over = self.upkeep.greeted >= self.upkeep.remembered.len();
        self.upkeep.greet = if is_over { Duration::MAX } else { now + GREET };
        some.into_iter().for_each(|contact| self.check(contact, now));
    }

    /// Addresses at which the network can be entered.
    pub fn handle_entries(&mut self, addrs: &[SocketAddr], now: Duration) {
        for addr in addrs.iter().copied().map(plain).take(MAX_ENTRIES) {
            if self.families[Family::of(&addr).index()] && addr.port() != 0 {
                self.ask(addr, None, &Query::FindNode { target: self.own }, 0, Purpose::Refresh, now);
            }
        }
        self.advance(now);
    }

    /// Asks the node that was not heard of for longest, about a place in its own bucket.
    fn refresh_stalest(&mut self, now: Duration) {
        for family in Family::BOTH {
            if let Some((contact, shared)) = self.tables[family.index()].next_stale(now) {
                let target = self.own.random_sharing(shared, &mut self.rng);
                let query = Query::FindNode { target };
                self.ask(contact.addr, Some(contact.id), &query, 0, Purpose::Refresh, now);
            }
        }
    }

    /// Asks for the neighbours of a place drawn by lot, so that wide buckets come to hold the quickest of the network.
    fn explore(&mut self, now: Duration) {
        let target = Id::random(&mut self.rng);
        for family in Family::BOTH {
            if let Some((contact, _)) = self.tables[family.index()].closest(&target, 1).pop() {
                let query = Query::FindNode { target };
                self.ask(contact.addr, Some(contact.id), &query, 0, Purpose::Explore, now);
            }
        }
    }

    /// A time within a quarter of the given one, so that nodes that started together do not stay together.
    fn jittered(&mut self, wait: Duration) -> Duration {
        wait.mul_f64(self.rng.random_range(0.75..1.25))
    }
}
