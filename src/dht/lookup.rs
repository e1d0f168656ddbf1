//! One walk towards a target, as an iterator over whom to ask next.
//!
//! The list of candidates is sorted by distance. A node is asked while fewer than [`ALPHA`] nearer ones are being asked, so
//! that news of a nearer node never waits for a farther one:
//!
//! 1. Whoever is asked has a slot for a time that follows the round-trip times seen in this very lookup.
//! 2. Who has not answered by then is *slow*: the slot is free and the walk goes on; a late answer still counts.
//! 3. The walk is over when the [`K`] nearest of those who answered are known: nobody nearer is unasked or in a slot. Where
//!    nodes stand denser than elsewhere, it goes on until all within the distance where so many are to be expected are
//!    known, up to [`MAX_CROWD`]: whoever crowds around a key does not push away those who would be there without it.
//! 4. Nodes whose id is not one that their address may have (BEP 42) can be as near to a key as they like. They are no more
//!    than [`K`] of those in 3, and count for half, so that others are there beside them.
//!
//! **Security.** Names of nodes are claims. Candidates, questions, and nodes of one subnet are bounded, so a liar who
//! invents nodes ever nearer to the target ends the walk at most [`MAX_QUESTIONS`] later, and pushes out nobody who was
//! asked.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::{
    contact::{Contact, Subnet},
    id::{Distance, Id},
    table::K,
};

/// How long an answer counts. A node that has not answered by then has not answered.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// Nodes being asked, nearer than any that is asked next.
pub const ALPHA: usize = 12;

/// Most questions of one walk.
const MAX_QUESTIONS: usize = 120;

/// Most candidates remembered; the farthest are dropped.
const MAX_CANDIDATES: usize = 128;

/// Most nodes that are the nearest, where they stand dense.
const MAX_CROWD: usize = 3 * K;

/// Most candidates of one subnet of global addresses.
const MAX_PER_SUBNET: usize = 2;

/// The longest and shortest time in a slot.
const SLOT: [Duration; 2] = [Duration::from_millis(220), Duration::from_millis(800)];

/// The time in a slot before anything is known.
const FIRST_SLOT: Duration = Duration::from_millis(400);

/// A walk of one family.
#[derive(Debug)]
pub struct Lookup {
    target: Id,
    /// Within this distance all are asked, as far as [`MAX_CROWD`] goes.
    reach: Option<Distance>,
    candidates: BTreeMap<Distance, Candidate>,
    subnets: HashMap<Subnet, usize>,
    questions: usize,
    answers: usize,
    pace: Option<Pace>,
}

#[derive(Debug)]
struct Candidate {
    contact: Contact,
    rtt: Option<Duration>,
    state: State,
}

#[derive(Debug)]
enum State {
    Unasked,
    /// In a slot until then.
    Asked {
        since: Duration,
        slot_until: Duration,
    },
    /// Out of its slot, and may still answer.
    Slow {
        since: Duration,
    },
    Answered {
        token: Option<Vec<u8>>,
    },
    Failed,
}

/// What a walk wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Ask this node. It counts as asked.
    Ask(Contact),
    /// Wait for answers, and look again at that time.
    Wait(Duration),
    /// Nothing more: the walk is over.
    Done,
}

/// Smoothed round-trip time and its variation, as of TCP (RFC 6298).
#[derive(Debug, Clone, Copy)]
struct Pace {
    mean: Duration,
    variation: Duration,
}

impl Lookup {
    /// Begins a walk from known nodes and their round-trip times.
    pub fn new(target: Id, seeds: impl IntoIterator<Item = (Contact, Option<Duration>)>) -> Self {
        let mut lookup = Self {
            target,
            reach: None,
            candidates: BTreeMap::new(),
            subnets: HashMap::new(),
            questions: 0,
            answers: 0,
            pace: None,
        };
        for (contact, rtt) in seeds {
            lookup.add(contact, rtt);
        }
        lookup
    }

    /// Tells within what distance of a target some nodes are to be expected.
    pub fn reaching(self, reach: Option<Distance>) -> Self {
        Self { reach, ..self }
    }

    /// Whom to ask, how long to wait, or that it is over. To be called again after each `on_` and at the time told.
    pub fn next(&mut self, now: Duration) -> Next {
        let (mut answered, mut in_slots) = (Tally::default(), 0);
        let mut wake: Option<Duration> = None;
        let mut slow_until: Option<Duration> = None;
        let may_ask = self.questions < MAX_QUESTIONS;
        let patience = if self.answers > 0 { SLOT[1] } else { DEADLINE };
        let (pace, reach, candidates) = (self.pace, self.reach, &mut self.candidates);
        for (distance, candidate) in candidates {
            let is_rooted = candidate.contact.is_rooted();
            match answered.verdict(is_rooted, distance, reach) {
                Verdict::Wanted => {}
                Verdict::Beside => continue,
                Verdict::Enough => break,
            }
            if let State::Asked { since, slot_until } = candidate.state
                && slot_until <= now
            {
                candidate.state = State::Slow { since };
            }
            match candidate.state {
                State::Answered { .. } => answered.count(is_rooted),
                State::Asked { slot_until, .. } => {
                    in_slots += 1;
                    wake = Some(wake.map_or(slot_until, |wake| wake.min(slot_until)));
                    if in_slots == ALPHA {
                        break;
                    }
                }
                State::Slow { since } => {
                    let until = since + patience;
                    slow_until = slow_until.into_iter().chain([until]).filter(|until| *until > now).min();
                }
                State::Unasked if may_ask => {
                    let slot_until = now + slot(pace, candidate.rtt);
                    candidate.state = State::Asked { since: now, slot_until };
                    self.questions += 1;
                    return Next::Ask(candidate.contact);
                }
                State::Unasked | State::Failed => {}
            }
        }
        // Fewer than K answers are worth some patience with the slow: in a small network they may be the ones who know.
        let patient = if answered.all() < K { slow_until } else { None };
        match wake.into_iter().chain(patient).min() {
            Some(wake) => Next::Wait(wake),
            None => Next::Done,
        }
    }

    /// A node answered, after so long, and named nodes that it believes near the target.
    pub fn on_success(
        &mut self,
        id: &Id,
        rtt: Duration,
        token: Option<&[u8]>,
        named: impl IntoIterator<Item = Contact>,
    ) {
        let Some(candidate) = self.candidates.get_mut(&self.target.distance(id)) else { return };
        if !matches!(candidate.state, State::Asked { .. } | State::Slow { .. }) {
            return;
        }
        candidate.state = State::Answered { token: token.map(<[u8]>::to_vec) };
        self.answers += 1;
        self.pace = Some(Pace::with(self.pace, rtt));
        self.on_named(named);
    }

    /// Somebody names nodes that it believes near the target.
    pub fn on_named(&mut self, named: impl IntoIterator<Item = Contact>) {
        for contact in named {
            self.add(contact, None);
        }
    }

    /// A node did not answer, or refused.
    pub fn on_failure(&mut self, id: &Id) {
        if let Some(candidate) = self.candidates.get_mut(&self.target.distance(id))
            && matches!(candidate.state, State::Asked { .. } | State::Slow { .. })
        {
            candidate.state = State::Failed;
        }
    }

    /// The nearest nodes that answered, nearest first, each with its token, if it gave one.
    pub fn nearest(&self) -> impl Iterator<Item = (Contact, Option<&[u8]>)> {
        nearest_of(self.answered(), self.target, self.reach)
    }

    /// All nodes that answered, nearest first, each with its token, if it gave one.
    pub fn answered(&self) -> impl Iterator<Item = (Contact, Option<&[u8]>)> {
        self.candidates.values().filter_map(|candidate| match &candidate.state {
            State::Answered { token } => Some((candidate.contact, token.as_deref())),
            _ => None,
        })
    }

    /// Within what distance of the target some nodes are to be expected.
    pub fn reach(&self) -> Option<Distance> {
        self.reach
    }

    /// A node that [`Next::Ask`] named is not asked, as another has asked it.
    pub fn on_withdrawn(&mut self, id: &Id) {
        self.on_failure(id);
        self.questions = self.questions.saturating_sub(1);
    }

    fn add(&mut self, contact: Contact, rtt: Option<Duration>) {
        let at = self.target.distance(&contact.id);
        if self.candidates.contains_key(&at) {
            return;
        }
        if Subnet::is_scarce(contact.addr.ip()) {
            let count = self.subnets.entry(Subnet::of(contact.addr.ip())).or_default();
            if *count >= MAX_PER_SUBNET {
                return;
            }
            *count += 1;
        }
        self.candidates.insert(at, Candidate { contact, rtt, state: State::Unasked });
        if self.candidates.len() > MAX_CANDIDATES {
            // There are more of them than questions, so that somebody is unasked.
            let unasked = self.candidates.iter().rev().find(|(_, other)| matches!(other.state, State::Unasked));
            let farthest = unasked.map(|(distance, _)| *distance);
            farthest.and_then(|farthest| self.candidates.remove(&farthest));
        }
    }
}

impl Pace {
    fn with(before: Option<Self>, rtt: Duration) -> Self {
        match before {
            None => Self { mean: rtt, variation: rtt / 2 },
            Some(Self { mean, variation }) => {
                Self { mean: (mean * 7 + rtt) / 8, variation: (variation * 3 + mean.abs_diff(rtt)) / 4 }
            }
        }
    }
}

/// Of nodes that answered, nearest first, those that count as the nearest to a target.
pub fn nearest_of<'a>(
    answered: impl Iterator<Item = (Contact, Option<&'a [u8]>)>,
    target: Id,
    reach: Option<Distance>,
) -> impl Iterator<Item = (Contact, Option<&'a [u8]>)> {
    let mut tally = Tally::default();
    answered.filter(move |(contact, _)| {
        let is_rooted = contact.is_rooted();
        let is_wanted = tally.verdict(is_rooted, &target.distance(&contact.id), reach) == Verdict::Wanted;
        if is_wanted {
            tally.count(is_rooted);
        }
        is_wanted
    })
}

/// Those who answered so far, from the nearest on.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    rooted: usize,
    others: usize,
}

/// Whether a node is one of the nearest, were it to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Wanted,
    /// It is not, and a farther one may be.
    Beside,
    /// Nor is any that is farther.
    Enough,
}

impl Tally {
    fn count(&mut self, is_rooted: bool) {
        *if is_rooted { &mut self.rooted } else { &mut self.others } += 1;
    }

    fn all(self) -> usize {
        self.rooted + self.others
    }

    fn verdict(self, is_rooted: bool, distance: &Distance, reach: Option<Distance>) -> Verdict {
        let is_within = reach.is_some_and(|reach| *distance <= reach);
        let is_enough = 2 * self.rooted + self.others.min(K) >= 2 * K;
        let is_wanted = match is_rooted {
            true => !is_enough || is_within && self.rooted < MAX_CROWD,
            false => !is_enough && self.others < K || is_within && self.others < MAX_CROWD,
        };
        match is_wanted {
            true => Verdict::Wanted,
            false if is_enough && !is_within => Verdict::Enough,
            false => Verdict::Beside,
        }
    }
}

/// The time in a slot: what this lookup has seen, or what the node itself is known to need.
fn slot(pace: Option<Pace>, rtt: Option<Duration>) -> Duration {
    let seen = pace.map(|pace| pace.mean + pace.variation * 5 / 2);
    let own = rtt.map(|rtt| rtt * 3 / 2);
    seen.max(own).unwrap_or(FIRST_SLOT).clamp(SLOT[0], SLOT[1])
}

#[cfg(test)]
mod tests;
