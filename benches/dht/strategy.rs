//! One lookup in a virtual network, by our own machine or by the rule of another program.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashSet},
    net::SocketAddr,
    time::Duration,
};

use apt_huddle::dht::{
    contact::Contact,
    lookup::{Lookup, Next},
};
use rand::{Rng, rngs::StdRng};

use super::virtual_net::{K, VirtualNet, whole};

/// How a lookup goes about it.
#[derive(Debug, Clone, Copy)]
pub enum Strategy {
    /// BEP 5 by the letter: few questions at a time, one timeout, and resends before it.
    Classic {
        /// Questions at a time.
        alpha: usize,
        /// When a question is sent again.
        resends: &'static [Duration],
        /// When a node is given up.
        timeout: Duration,
    },
    /// Ours.
    Ours,
}

/// apt-p2p of 2009: resends after two and six seconds, failure after nine.
pub const APT_P2P: Strategy = Strategy::Classic {
    alpha: 3,
    resends: &[Duration::from_secs(2), Duration::from_secs(6)],
    timeout: Duration::from_secs(9),
};

/// BEP 5 as most first write it.
pub const NAIVE: Strategy = Strategy::Classic { alpha: 3, resends: &[], timeout: Duration::from_secs(2) };

/// What came of a lookup.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// When the first holder of the value answered.
    pub first: Option<Duration>,
    /// When it was over.
    pub complete: Duration,
    /// Questions sent.
    pub messages: usize,
    /// Of the nearest living nodes, those that were found; among real nodes, the holders that were.
    pub reached: usize,
}

/// Looks for a value that the nearest living nodes hold.
pub fn look_up(net: &VirtualNet, strategy: Strategy, rng: &mut StdRng) -> Outcome {
    let target = rng.next_u64();
    let seeker = loop {
        let drawn = (rng.next_u64() % net.len() as u64) as usize;
        if !net.is_dead(drawn) {
            break drawn;
        }
    };
    let holders: HashSet<usize> = net.nearest_living(target).into_iter().collect();
    let run = Run {
        net,
        target,
        seeker,
        holders,
        rng,
        now: Duration::ZERO,
        first: None,
        messages: 0,
        coming: BinaryHeap::new(),
    };
    match strategy {
        Strategy::Classic { alpha, resends, timeout } => run.classic(alpha, resends, timeout),
        Strategy::Ours => run.ours(),
    }
}

struct Run<'a> {
    net: &'a VirtualNet,
    target: u64,
    seeker: usize,
    holders: HashSet<usize>,
    rng: &'a mut StdRng,
    now: Duration,
    first: Option<Duration>,
    messages: usize,
    coming: BinaryHeap<Reverse<(Duration, Event)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Answer { node: usize, took: Duration },
    Resend(usize),
    Failure(usize),
    Look,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Not,
    Waiting,
    Answered,
    Failed,
}

impl Run<'_> {
    fn send(&mut self, node: usize) {
        if !self.net.is_dead(node) && !self.net.internet.loses(self.rng) {
            let took = self.net.internet.round_trip(self.seeker, node);
            self.coming.push(Reverse((self.now + took, Event::Answer { node, took })));
        }
    }

    fn handle_holder(&mut self, node: usize) {
        if self.holders.contains(&node) {
            self.first.get_or_insert(self.now);
        }
    }

    fn outcome(&self, reached: impl Iterator<Item = usize>) -> Outcome {
        let reached = reached.filter(|node| self.holders.contains(node)).count();
        Outcome { first: self.first, complete: self.now, messages: self.messages, reached }
    }

    fn classic(mut self, alpha: usize, resends: &[Duration], timeout: Duration) -> Outcome {
        let target = self.target;
        let distance = |net: &VirtualNet, node: usize| net.id(node).distance(&whole(target));
        let mut list: BTreeMap<_, (usize, Asked)> = BTreeMap::new();
        for node in self.net.known(self.seeker, target, K) {
            list.insert(distance(self.net, node), (node, Asked::Not));
        }
        loop {
            let top = list.values().filter(|(_, asked)| *asked != Asked::Failed).take(K);
            let waiting = top.filter(|(_, asked)| *asked == Asked::Waiting).count();
            let mut top = list.values_mut().filter(|(_, asked)| *asked != Asked::Failed).take(K);
            let next = top.find(|(_, asked)| *asked == Asked::Not).filter(|_| waiting < alpha);
            if let Some((node, asked)) = next {
                *asked = Asked::Waiting;
                let node = *node;
                self.messages += 1;
                self.send(node);
                for resend in resends {
                    self.coming.push(Reverse((self.now + *resend, Event::Resend(node))));
                }
                self.coming.push(Reverse((self.now + timeout, Event::Failure(node))));
                continue;
            }
            let mut top = list.values().filter(|(_, asked)| *asked != Asked::Failed).take(K);
            if top.all(|(_, asked)| *asked == Asked::Answered) {
                let answered = list.values().filter(|(_, asked)| *asked == Asked::Answered);
                return self.outcome(answered.map(|(node, _)| *node));
            }
            let Reverse((at, event)) = self.coming.pop().expect("somebody is waited for");
            self.now = at;
            match event {
                Event::Answer { node, .. } => {
                    let entry = list.get_mut(&distance(self.net, node)).expect("asked");
                    if entry.1 == Asked::Waiting {
                        entry.1 = Asked::Answered;
                        self.handle_holder(node);
                        for named in self.net.known(node, target, K) {
                            if named != self.seeker {
                                list.entry(distance(self.net, named)).or_insert((named, Asked::Not));
                            }
                        }
                    }
                }
                Event::Resend(node) => {
                    if list[&distance(self.net, node)].1 == Asked::Waiting {
                        self.send(node);
                    }
                }
                Event::Failure(node) => {
                    let entry = list.get_mut(&distance(self.net, node)).expect("asked");
                    if entry.1 == Asked::Waiting {
                        entry.1 = Asked::Failed;
                    }
                }
                Event::Look => {}
            }
        }
    }

    fn ours(mut self) -> Outcome {
        let target = whole(self.target);
        let seeds = self.net.known(self.seeker, self.target, 16);
        let seeds =
            seeds.into_iter().map(|node| (self.contact(node), Some(self.net.internet.round_trip(self.seeker, node))));
        let mut lookup = Lookup::new(target, seeds.collect::<Vec<_>>());
        loop {
            match lookup.next(self.now) {
                Next::Ask(contact) => {
                    let node = self.net.node(&contact.id);
                    self.messages += 1;
                    self.send(node);
                    continue;
                }
                Next::Wait(until) => {
                    self.coming.push(Reverse((until, Event::Look)));
                }
                Next::Done => {
                    let closest: Vec<_> = lookup
                        .nearest()
                        .filter(|(_, token)| token.is_some())
                        .map(|(contact, _)| self.net.node(&contact.id))
                        .collect();
                    return self.outcome(closest.into_iter());
                }
            }
            let Reverse((at, event)) = self.coming.pop().expect("somebody is waited for");
            self.now = at;
            if let Event::Answer { node, took } = event {
                self.handle_holder(node);
                let named = self.net.known(node, self.target, K).into_iter().filter(|named| *named != self.seeker);
                let named: Vec<Contact> = named.map(|named| self.contact(named)).collect();
                lookup.on_success(&self.net.id(node), took, Some(b"token"), named);
            }
        }
    }

    /// Each node is alone in its neighbourhood.
    fn contact(&self, node: usize) -> Contact {
        let [_, a, b, c] = ((node % (1 << 24)) as u32).to_be_bytes();
        Contact { id: self.net.id(node), addr: SocketAddr::from(([20 + a % 100, b, c, 1], 1 + (node >> 24) as u16)) }
    }
}
