//! A walk through both families towards one target, and the stores at its end.
//!
//! A walk for records of our own goes on two *paths*, as in S/Kademlia (Baumgart, Mies 2007): each has half of the nodes that
//! are known to begin from, hears of others only from those that it has asked, and nobody is asked on both. So whoever
//! answers with its like alone, and would be all that one path comes to see, has the other left to find.
//!
//! ```text
//!  known, by distance   a b c d e f ..      told at the end: the nearest of all,
//!  path 1               a   c   e           and the nearest four of each path, whoever stands before them
//!  path 2                 b   d   f
//! ```

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use super::{
    contact::{Contact, Family},
    id::{Distance, Id},
    lookup::{Lookup, Next, nearest_of},
    message::{Query, Reply},
    signed::OwnItem,
    table::K,
};

/// Paths of a walk for records of our own.
pub const OWN_PATHS: usize = 2;

/// Nodes of each path that are told, whatever the others have found.
const OF_EACH_PATH: usize = K / 2;

/// Length of a question for holders, in bytes: it buys eight contacts of one family, a claim and some forty holders.
const PAD_PEERS: usize = 300;

/// Length of a question for an item, in bytes: it buys a full item and eight contacts.
const PAD_ITEM: usize = 450;

/// Length of a question for nodes of both families, in bytes.
const PAD_BOTH_FAMILIES: usize = 250;

/// What a walk is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// To know the nodes around the target.
    Near,
    /// To hear of holders.
    Peers,
    /// To find an item.
    Item,
    /// To be known as a holder.
    Announce {
        /// TCP port.
        port: u16,
        /// Claim of the file's piece hashes.
        claim: Option<Vec<u8>>,
    },
    /// To have an item kept.
    Put {
        /// Its bencoded value.
        value: Vec<u8>,
        /// Not by those who say that they keep it: to have asked them is enough.
        where_missing: bool,
    },
    /// To have a mutable item kept.
    PutSigned {
        /// The item.
        item: Box<OwnItem>,
        /// The number of the one that it is to replace, and no other.
        cas: Option<i64>,
    },
}

/// What a walk wants next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask this node [`Walk::question`].
    Ask(Contact),
    /// Ask this node [`Walk::store`] with its token.
    Store(Contact, Vec<u8>),
    /// Wait for answers; look again at that time, if one is told.
    Wait(Option<Duration>),
    /// It is over.
    Done,
}

/// One walk.
#[derive(Debug)]
pub struct Walk {
    target: Id,
    goal: Goal,
    /// By path, and by [`Family::index`].
    paths: Vec<[Lookup; 2]>,
    /// Who was asked on which path; bounded by the questions of each.
    asked: HashMap<SocketAddr, usize>,
    /// Who has the item that is to be put; bounded by the questions of a walk.
    keepers: HashSet<SocketAddr>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Walking,
    Storing { left: VecDeque<(Contact, Vec<u8>)>, open: usize },
    Done,
}

impl Walk {
    /// Begins, on so many paths, at the nodes that are known, with their round-trip times.
    pub fn new(
        target: Id,
        goal: Goal,
        paths: usize,
        seeds: impl IntoIterator<Item = (Contact, Option<Duration>)>,
    ) -> Self {
        let mut seeds: Vec<_> = seeds.into_iter().collect();
        seeds.sort_by_key(|(contact, _)| target.distance(&contact.id));
        let path = |nth: usize| {
            Family::BOTH.map(|family| {
                let of_family = seeds.iter().filter(|(contact, _)| Family::of(&contact.addr) == family);
                Lookup::new(target, of_family.skip(nth).step_by(paths).copied())
            })
        };
        let paths = (0..paths).map(path).collect();
        Self { target, goal, paths, asked: HashMap::new(), keepers: HashSet::new(), phase: Phase::Walking }
    }

    /// Tells within what distance of a target some nodes are to be expected, by [`Family::index`].
    pub fn reaching(mut self, reach: [Option<Distance>; 2]) -> Self {
        let reaching = |[v4, v6]: [Lookup; 2]| [v4.reaching(reach[0]), v6.reaching(reach[1])];
        self.paths = self.paths.into_iter().map(reaching).collect();
        self
    }

    /// What it is towards.
    pub fn target(&self) -> Id {
        self.target
    }

    /// What to do. To be called again after each `handle_` and at the time told.
    pub fn next(&mut self, now: Duration) -> Step {
        if let Phase::Walking = self.phase {
            let mut wake: Option<Duration> = None;
            // By turns, so that no path has all the nearest to itself.
            let (count, first) = (self.paths.len(), self.asked.len());
            for path in (first..first + count).map(|nth| nth % count) {
                for lookup in &mut self.paths[path] {
                    match next_on(path, lookup, &mut self.asked, now) {
                        Next::Ask(contact) => return Step::Ask(contact),
                        Next::Wait(until) => wake = Some(wake.map_or(until, |wake| wake.min(until))),
                        Next::Done => {}
                    }
                }
            }
            if wake.is_some() {
                return Step::Wait(wake);
            }
            self.phase = match self.goal {
                Goal::Near | Goal::Peers | Goal::Item => Phase::Done,
                Goal::Announce { .. } | Goal::Put { .. } | Goal::PutSigned { .. } => {
                    let told = Family::BOTH.into_iter().flat_map(|family| self.told(family));
                    let told = told.filter(|(to, _)| !self.keepers.contains(&to.addr));
                    let left = told.filter_map(|(to, token)| Some((to, token?.to_vec()))).collect();
                    Phase::Storing { left, open: 0 }
                }
            };
        }
        match &mut self.phase {
            Phase::Storing { left, open } => match left.pop_front() {
                Some((to, token)) => {
                    *open += 1;
                    Step::Store(to, token)
                }
                None if *open > 0 => Step::Wait(None),
                None => Step::Done,
            },
            Phase::Walking | Phase::Done => Step::Done,
        }
    }

    /// What each node on the way is asked.
    pub fn question(&self) -> Query<'static> {
        match self.goal {
            Goal::Near => Query::FindNode { target: self.target },
            Goal::Peers | Goal::Announce { .. } => Query::GetPeers { key: self.target },
            Goal::Item | Goal::Put { .. } | Goal::PutSigned { .. } => Query::Get { target: self.target },
        }
    }

    /// How long that question should be, in bytes, for the reply that is hoped for.
    pub fn pad_to(&self, both_families: bool) -> usize {
        let pad = match self.goal {
            Goal::Peers => PAD_PEERS,
            Goal::Item => PAD_ITEM,
            Goal::Near | Goal::Announce { .. } | Goal::Put { .. } | Goal::PutSigned { .. } => 0,
        };
        if both_families { pad.max(PAD_BOTH_FAMILIES) } else { pad }
    }

    /// What the nodes at the end are asked; `None` for a walk that stores nothing.
    pub fn store<'a>(&'a self, token: &'a [u8]) -> Option<Query<'a>> {
        match &self.goal {
            Goal::Near | Goal::Peers | Goal::Item => None,
            Goal::Announce { port, claim } => {
                Some(Query::AnnouncePeer { key: self.target, port: Some(*port), token, claim: claim.as_deref() })
            }
            Goal::Put { value, .. } => Some(Query::Put { token, value }),
            Goal::PutSigned { item, cas } => Some(Query::PutSigned { token, item: item.signed(), cas: *cas }),
        }
    }

    /// A node on the way answered after so long; `named` are the contacts that are taken from it.
    pub fn handle_reply(&mut self, from: SocketAddr, rtt: Duration, reply: &Reply<'_>, named: Vec<Contact>) {
        let family = Family::of(&from);
        let is_kept = |value: &[u8]| Id::of_item(value) == self.target;
        if let Goal::Put { where_missing: true, .. } = self.goal
            && (reply.has_item || reply.value.is_some_and(is_kept))
        {
            self.keepers.insert(from);
        }
        let (same, other) = named.into_iter().partition::<Vec<_>, _>(|contact| Family::of(&contact.addr) == family);
        let Some(path) = self.asked.get(&from) else { return };
        let lookups = &mut self.paths[*path];
        lookups[family.index()].on_success(&reply.id, rtt, reply.token, same);
        lookups[family.other().index()].on_named(other);
    }

    /// A node on the way did not answer, or refused.
    pub fn handle_failure(&mut self, contact: &Contact) {
        if let Some(path) = self.asked.get(&contact.addr) {
            self.paths[*path][Family::of(&contact.addr).index()].on_failure(&contact.id);
        }
    }

    /// Whether it is for nothing else than to know them.
    pub fn is_towards_nodes(&self) -> bool {
        self.goal == Goal::Near
    }

    /// The nodes around the target that answered, by [`Family::index`]: the [`K`] nearest first, then those that are there
    /// for their path, then others.
    pub fn nearest(&self) -> [Vec<Contact>; 2] {
        Family::BOTH.map(|family| self.told(family).into_iter().map(|(contact, _)| contact).collect())
    }

    fn told(&self, family: Family) -> Vec<(Contact, Option<&[u8]>)> {
        let lookups = || self.paths.iter().map(|lookups| &lookups[family.index()]);
        let mut answered: Vec<_> = lookups().flat_map(Lookup::answered).collect();
        answered.sort_by_key(|(contact, _)| self.target.distance(&contact.id));
        let reach = lookups().find_map(Lookup::reach);
        let mut nearest: Vec<_> = nearest_of(answered.into_iter(), self.target, reach).collect();
        if self.paths.len() > 1 {
            let crowd = nearest.split_off(nearest.len().min(K));
            for one in lookups().flat_map(|lookup| lookup.nearest().take(OF_EACH_PATH)).chain(crowd) {
                if !nearest.contains(&one) {
                    nearest.push(one);
                }
            }
        }
        nearest
    }

    /// A node at the end has stored, or will not.
    pub fn handle_store_end(&mut self) {
        if let Phase::Storing { open, .. } = &mut self.phase {
            *open = open.saturating_sub(1);
        }
    }

    /// What was looked for is found.
    pub fn finish(&mut self) {
        self.phase = Phase::Done;
    }
}

/// What one path wants next: nobody whom another has asked.
fn next_on(path: usize, lookup: &mut Lookup, asked: &mut HashMap<SocketAddr, usize>, now: Duration) -> Next {
    loop {
        match lookup.next(now) {
            Next::Ask(contact) if *asked.entry(contact.addr).or_insert(path) != path => {
                lookup.on_withdrawn(&contact.id);
            }
            next => return next,
        }
    }
}

#[cfg(test)]
mod tests;
