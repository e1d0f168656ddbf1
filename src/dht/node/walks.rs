//! Walks of a node, each for a job or for upkeep: whom they want asked is asked, and what is answered goes to the job.

use std::{net::SocketAddr, time::Duration};

use crate::dht::{
    contact::{Contact, Family, is_believable, plain},
    flights::Flight,
    id::Id,
    message::{Query, Reply},
    table::Table,
    walk::{Goal, OWN_PATHS, Step, Walk},
};

use super::{
    Node, Purpose,
    jobs::{Job, JobId, Work},
};

/// Known nodes of each family that a walk begins from.
const SEEDS: usize = 16;

/// A walk, and what it is for.
pub struct Walking {
    walk: Walk,
    /// None for upkeep.
    pub job: Option<JobId>,
    /// When it is to be looked at again.
    pub wake: Option<Duration>,
}

impl Walking {
    /// A node on the way did not answer, or refused.
    pub fn handle_failure(&mut self, contact: &Contact, now: Duration) {
        self.walk.handle_failure(contact);
        self.wake = Some(now);
    }
}

impl Node {
    /// Begins a walk from the nodes of the tables.
    pub(super) fn begin(&mut self, target: Id, goal: Goal, job: Option<JobId>, now: Duration) {
        let known = self.tables.iter().flat_map(|table| table.closest(&target, SEEDS));
        let told = self.neighbourhoods.around(&target).map(|contact| (contact, None));
        let seeds = known.map(|(contact, rtt)| (contact, Some(rtt))).chain(told);
        let seeds: Vec<_> = seeds.filter(|(contact, _)| !self.silent.contains(&contact.addr, now)).collect();
        self.begin_from(target, goal, job, seeds, now);
    }

    /// Begins a walk.
    pub(super) fn begin_from(
        &mut self,
        target: Id,
        goal: Goal,
        job: Option<JobId>,
        seeds: Vec<(Contact, Option<Duration>)>,
        now: Duration,
    ) {
        self.last += 1;
        let walk = self.last;
        let reach = self.tables.each_ref().map(Table::expected_reach);
        // Who keeps records of ours is worth the care; what others keep is asked for by everybody.
        let is_own = match goal {
            Goal::Announce { .. } | Goal::Put { .. } | Goal::PutSigned { .. } => true,
            Goal::Near => matches!(job.and_then(|job| self.jobs.get(&job)), Some(Job { work: Work::Round { .. }, .. })),
            Goal::Peers | Goal::Item => false,
        };
        let paths = if is_own { OWN_PATHS } else { 1 };
        let begun = Walk::new(target, goal, paths, seeds).reaching(reach);
        self.walks.insert(walk, Walking { walk: begun, job, wake: Some(now) });
        if let Some(job) = job.and_then(|job| self.jobs.get_mut(&job)) {
            job.open += 1;
        }
        self.step(walk, now);
    }

    /// Asks for a walk all that it wants asked now.
    pub(super) fn step(&mut self, id: u64, now: Duration) {
        loop {
            let Some(mut walking) = self.walks.remove(&id) else { return };
            let step = walking.walk.next(now);
            let asked = match &step {
                Step::Ask(to) => {
                    let pad_to = walking.walk.pad_to(self.families == [true; 2]);
                    let query = walking.walk.question();
                    self.ask(to.addr, Some(to.id), &query, pad_to, Purpose::Walk(id), now)
                }
                Step::Store(to, token) => walking
                    .walk
                    .store(token)
                    .filter(|query| !matches!(query, Query::AnnouncePeer { .. }) || self.may_tell(&to.addr))
                    .is_some_and(|query| self.ask(to.addr, Some(to.id), &query, 0, Purpose::Store(id), now)),
                Step::Wait(wake) => {
                    walking.wake = *wake;
                    self.walks.insert(id, walking);
                    return;
                }
                Step::Done => {
                    self.handle_walk_end(&walking, now);
                    return;
                }
            };
            match step {
                Step::Ask(to) if !asked => walking.walk.handle_failure(&to),
                Step::Store(..) if !asked => {
                    walking.walk.handle_store_end();
                }
                _ => {}
            }
            self.walks.insert(id, walking);
        }
    }

    fn handle_walk_end(&mut self, walking: &Walking, now: Duration) {
        let Some(id) = walking.job else { return };
        if walking.walk.is_towards_nodes()
            && let Some(Job { work: Work::Round { round, .. }, .. }) = self.jobs.get_mut(&id)
        {
            round.handle_walk_end(walking.walk.nearest());
            self.advance_round(id, now);
        }
        self.close_one(id, now);
    }

    /// A node on the way of a walk answered.
    pub(super) fn handle_walk_reply(
        &mut self,
        id: u64,
        flight: &Flight<Purpose>,
        rtt: Duration,
        reply: &Reply<'_>,
        named: Vec<Contact>,
        now: Duration,
    ) {
        let Some(walking) = self.walks.get_mut(&id) else { return };
        walking.walk.handle_reply(flight.to, rtt, reply, named);
        walking.wake = Some(now);
        let (target, job) = (walking.walk.target(), walking.job);
        let Some(job) = job else { return };
        let private = self.realm.is_private();
        let peers = reply.peers.iter().copied().map(plain);
        let peers = peers.filter(|peer| is_believable(peer, flight.to.ip(), private) && !self.is_self(peer));
        let peers: Vec<SocketAddr> = peers.collect();
        if let Some(is_done) = self.handle_probed(job, flight.to, rtt, &peers, reply) {
            if is_done && let Some(walking) = self.walks.get_mut(&id) {
                walking.walk.finish();
            }
            return;
        }
        let Some(walking) = self.walks.get_mut(&id) else { return };
        if let Some(value) = reply.value
            && Id::of_item(value) == target
            && let Some(Job { work: Work::Find(find), .. }) = self.jobs.get_mut(&job)
        {
            walking.walk.finish();
            let found = find.handle_item(&target, value);
            self.report(job, found);
            return;
        }
        if !reply.peers.is_empty() || !reply.claims.is_empty() {
            let claims: Vec<&[u8]> = reply.claims.iter().map(|(claim, _)| *claim).collect();
            self.handle_found(job, &peers, &claims, now);
        }
    }

    fn is_self(&self, peer: &SocketAddr) -> bool {
        let external = self.external(Family::of(peer));
        external.is_some_and(|external| external.ip() == peer.ip()) && self.announced_port == Some(peer.port())
    }

    /// A node at the end of a walk has stored, or will not.
    pub(super) fn handle_store_end(&mut self, id: u64, has_stored: bool, now: Duration) {
        let Some(walking) = self.walks.get_mut(&id) else { return };
        walking.walk.handle_store_end();
        walking.wake = Some(now);
        let job = walking.job.and_then(|job| self.jobs.get_mut(&job)).filter(|_| has_stored);
        if let Some(Work::Probe(probing)) = job.map(|job| &mut job.work) {
            probing.stored += 1;
        }
    }
}
