//! A walk through both families towards one target, and the stores at its end.

use std::{
    collections::{HashSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use super::{
    contact::{Contact, Family},
    id::{Distance, Id},
    lookup::{Lookup, Next},
    message::{Query, Reply},
};

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
    lookups: [Lookup; 2],
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
    /// Begins at the nodes that are known of each family, with their round-trip times.
    pub fn new(target: Id, goal: Goal, seeds: impl IntoIterator<Item = (Contact, Option<Duration>)>) -> Self {
        let (v4, v6) = seeds.into_iter().partition::<Vec<_>, _>(|(contact, _)| contact.addr.is_ipv4());
        let lookups = [Lookup::new(target, v4), Lookup::new(target, v6)];
        Self { target, goal, lookups, keepers: HashSet::new(), phase: Phase::Walking }
    }

    /// Tells within what distance of a target some nodes are to be expected, by [`Family::index`].
    pub fn reaching(mut self, reach: [Option<Distance>; 2]) -> Self {
        let [v4, v6] = self.lookups;
        self.lookups = [v4.reaching(reach[0]), v6.reaching(reach[1])];
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
            for lookup in &mut self.lookups {
                match lookup.next(now) {
                    Next::Ask(contact) => return Step::Ask(contact),
                    Next::Wait(until) => wake = Some(wake.map_or(until, |wake| wake.min(until))),
                    Next::Done => {}
                }
            }
            if wake.is_some() {
                return Step::Wait(wake);
            }
            self.phase = match self.goal {
                Goal::Near | Goal::Peers | Goal::Item => Phase::Done,
                Goal::Announce { .. } | Goal::Put { .. } => {
                    let closest = self.lookups.iter().flat_map(Lookup::closest);
                    let closest = closest.filter(|(to, _)| !self.keepers.contains(&to.addr));
                    Phase::Storing { left: closest.map(|(to, token)| (to, token.to_vec())).collect(), open: 0 }
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
            Goal::Item | Goal::Put { .. } => Query::Get { target: self.target },
        }
    }

    /// How long that question should be, in bytes, for the reply that is hoped for.
    pub fn pad_to(&self, both_families: bool) -> usize {
        let pad = match self.goal {
            Goal::Peers => PAD_PEERS,
            Goal::Item => PAD_ITEM,
            Goal::Near | Goal::Announce { .. } | Goal::Put { .. } => 0,
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
        self.lookups[family.index()].on_success(&reply.id, rtt, reply.token, same);
        self.lookups[family.other().index()].on_named(other);
    }

    /// A node on the way did not answer, or refused.
    pub fn handle_failure(&mut self, contact: &Contact) {
        self.lookups[Family::of(&contact.addr).index()].on_failure(&contact.id);
    }

    /// Whether it is for nothing else than to know them.
    pub fn is_towards_nodes(&self) -> bool {
        self.goal == Goal::Near
    }

    /// The nodes around the target that answered, by [`Family::index`], nearest first.
    pub fn nearest(&self) -> [Vec<Contact>; 2] {
        self.lookups.each_ref().map(|lookup| lookup.nearest().map(|(contact, _)| contact).collect())
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
