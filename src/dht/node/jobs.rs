//! Jobs of a node: searches for holders and chains, and announcements, each made of walks.

use std::{net::SocketAddr, time::Duration};

use crate::{
    dht::{
        contact::{Contact, Family, is_believable, plain},
        find::{Find, Found},
        flights::Flight,
        id::Id,
        message::{Query, Reply},
        probe::{Probing, Way},
        round::Round,
        shelf::Shelf,
        table::Table,
        walk::{Goal, Step, Walk},
    },
    hash::Expected,
};

use super::{Event, MAX_TIMINGS, Node, Output, Purpose, Walking};

/// Most jobs that walk at once.
const MAX_WALKING: usize = 64;

/// Most jobs that wait for their turn.
const MAX_WAITING: usize = 4096;

/// Most that wait for one search.
const MAX_ASKERS: usize = 64;

/// Known nodes of each family that a walk begins from.
const SEEDS: usize = 16;

/// How long a job lasts at most, from its turn on.
pub(super) const JOB_DEADLINE: Duration = Duration::from_secs(10);

/// How long a job waits for its turn at most.
const TURN_DEADLINE: Duration = Duration::from_secs(60);

/// Most searches whose outcome is remembered.
const MAX_REMEMBERED: usize = 1024;

/// How long what was found is found again without asking anybody.
const REMEMBER_FOUND: Duration = Duration::from_secs(30);

/// How long nobody is asked again when nothing was found: somebody may announce it any moment.
const REMEMBER_NOTHING: Duration = Duration::from_secs(5);

/// Names a job of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(u64);

/// What somebody wants, and how far it is.
pub struct Job {
    key: Id,
    pub(super) work: Work,
    /// Who is told of it: equal searches are one job.
    askers: Vec<JobId>,
    /// What they were told.
    found: Vec<Found>,
    asked: Duration,
    pub(super) until: Duration,
    /// Walks under way.
    pub(super) open: usize,
}

/// What kind of job it is.
pub(super) enum Work {
    Find(Find),
    Probe(Probing),
    /// Several files, and the items that their claims refer to.
    Round {
        round: Round,
        port: u16,
        items: Vec<Vec<u8>>,
    },
}

impl Job {
    /// When it ends at the latest.
    pub fn until(&self) -> Duration {
        self.until
    }
}

impl Node {
    /// Begins to look for holders and piece hashes of a file.
    ///
    /// An equal search that is under way, or ended a moment ago, serves this one as well.
    pub fn find(&mut self, expected: Expected, now: Duration) -> JobId {
        self.search(self.realm.key(&expected.hash), Find::new(Some(expected)), now)
    }

    /// Begins to look for peers that have something of a shelf, in the same way.
    pub fn find_shelf(&mut self, shelf: &Shelf, now: Duration) -> JobId {
        self.search(self.realm.shelf(shelf), Find::new(None), now)
    }

    fn search(&mut self, key: Id, find: Find, now: Duration) -> JobId {
        let id = self.next_job();
        let tell = |found: &Found| Output::Event(Event::Found(id, found.clone()));
        if let Some((_, found)) = self.remembered.get(&key).filter(|(until, _)| now < *until) {
            self.outputs.extend(found.iter().map(tell));
            self.outputs.push_back(Output::Event(Event::Ended(id, 0)));
            return id;
        }
        let waiting = self.waiting.iter_mut().map(|(leader, job)| (&*leader, job));
        let under_way = self.jobs.iter_mut().chain(waiting);
        let equal = under_way.filter(|(_, job)| job.askers.len() < MAX_ASKERS);
        let mut equal = equal.filter(|(_, job)| job.key == key && matches!(job.work, Work::Find(_)));
        if let Some((leader, job)) = equal.next() {
            job.askers.push(id);
            self.outputs.extend(job.found.iter().map(tell));
            self.joined.insert(id, *leader);
            return id;
        }
        self.enter(id, key, Work::Find(find), now)
    }

    pub(super) fn next_job(&mut self) -> JobId {
        self.last += 1;
        JobId(self.last)
    }

    /// Nobody waits for that job any more. It goes on while another waits for an equal one.
    pub fn cancel(&mut self, asker: JobId) {
        let job = self.joined.remove(&asker).unwrap_or(asker);
        let waiting = self.waiting.iter_mut().find(|(id, _)| *id == job).map(|(_, job)| job);
        let Some(entry) = self.jobs.get_mut(&job).or(waiting) else { return };
        entry.askers.retain(|id| *id != asker);
        if entry.askers.is_empty() {
            self.drop_job(job);
        }
    }

    fn drop_job(&mut self, job: JobId) {
        if self.jobs.remove(&job).is_some() {
            self.walks.retain(|_, walking| walking.job != Some(job));
        } else {
            self.waiting.retain(|(waiting, _)| *waiting != job);
        }
    }

    pub(super) fn enter(&mut self, id: JobId, key: Id, work: Work, now: Duration) -> JobId {
        if self.waiting.len() >= MAX_WAITING {
            self.outputs.push_back(Output::Event(Event::Ended(id, 0)));
            return id;
        }
        let (askers, found) = (vec![id], Vec::new());
        let job = Job { key, work, askers, found, asked: now, until: now + TURN_DEADLINE, open: 0 };
        self.waiting.push_back((id, job));
        if self.is_alone() {
            self.upkeep.handle_job(now);
        }
        self.keep_up(now);
        self.advance(now);
        id
    }

    /// Lets everything go on that can: ends, turns, steps.
    pub(super) fn advance(&mut self, now: Duration) {
        while self.waiting.front().is_some_and(|(_, job)| job.until <= now) {
            let (_, job) = self.waiting.pop_front().expect("looked at just now");
            self.tell_end(&job.askers, 0);
        }
        let overdue = self.jobs.iter().filter(|(_, job)| job.until <= now).map(|(id, _)| *id);
        for id in overdue.collect::<Vec<_>>() {
            self.end_job(id, now);
        }
        self.give_turns(now);
        let due = |walking: &Walking| walking.wake.is_some_and(|wake| wake <= now);
        let walks: Vec<u64> = self.walks.iter().filter(|(_, walking)| due(walking)).map(|(id, _)| *id).collect();
        for walk in walks {
            self.step(walk, now);
        }
    }

    fn give_turns(&mut self, now: Duration) {
        if self.is_alone() && self.upkeep.patience_ends().is_some_and(|until| now < until) {
            return;
        }
        while self.jobs.len() < MAX_WALKING {
            let Some((id, job)) = self.waiting.pop_front() else { return };
            self.give_turn(id, job, now);
        }
    }

    fn give_turn(&mut self, id: JobId, job: Job, now: Duration) {
        let key = job.key;
        if let Work::Probe(probing) = &job.work {
            let way = probing.way();
            self.jobs.insert(id, Job { until: now + JOB_DEADLINE, open: 1, ..job });
            if let Way::Walk(target, goal) = way {
                self.begin(target, goal, Some(id), now);
            }
            self.close_one(id, now);
            return;
        }
        // A walk may end at once; the job does not end before all of its walks have begun.
        self.jobs.insert(id, Job { until: now + JOB_DEADLINE, open: 1, ..job });
        if let Work::Round { items, .. } = &mut self.jobs.get_mut(&id).expect("inserted just now").work {
            for value in std::mem::take(items) {
                self.begin(Id::of_item(&value), Goal::Put { value, where_missing: true }, Some(id), now);
            }
            // The round itself keeps the job open, see `advance_round`.
            return self.advance_round(id, now);
        }
        self.find_here(id, &key, now);
        self.begin(key, Goal::Peers, Some(id), now);
        self.close_one(id, now);
    }

    fn is_alone(&self) -> bool {
        self.tables.iter().all(|table| table.lively() == 0)
    }

    /// What others announced here is found without asking anybody.
    fn find_here(&mut self, job: JobId, key: &Id, now: Duration) {
        let storage = self.server.storage();
        let holders = storage.holders(key, usize::MAX, now, &mut self.rng, |_| true);
        let claims: Vec<Vec<u8>> = storage.claims(key, now).into_iter().map(|(claim, _)| claim.to_vec()).collect();
        self.handle_found(job, &holders, &claims.iter().map(Vec::as_slice).collect::<Vec<_>>(), now);
    }

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
        let begun = Walk::new(target, goal, seeds).reaching(reach);
        self.walks.insert(walk, Walking { walk: begun, job, wake: Some(now) });
        if let Some(job) = job.and_then(|job| self.jobs.get_mut(&job)) {
            job.open += 1;
        }
        self.step(walk, now);
    }

    /// Asks for a walk all that it wants asked now.
    fn step(&mut self, id: u64, now: Duration) {
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

    pub(super) fn close_one(&mut self, id: JobId, now: Duration) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.open -= 1;
        if job.open == 0 {
            self.end_job(id, now);
        }
    }

    fn end_job(&mut self, id: JobId, now: Duration) {
        let Some(job) = self.jobs.get(&id) else { return };
        let stored = match &job.work {
            Work::Find(_) => {
                if self.timings.len() >= MAX_TIMINGS {
                    self.timings.pop_front();
                }
                self.timings.push_back(now.saturating_sub(job.asked));
                0
            }
            Work::Probe(probing) => probing.stored,
            Work::Round { round, .. } => {
                let stored = round.stored();
                let least = stored.iter().copied().min().unwrap_or(0);
                self.outputs.extend(job.askers.iter().map(|asker| Output::Event(Event::Told(*asker, stored.clone()))));
                least
            }
        };
        let (askers, found, key) = (job.askers.clone(), job.found.clone(), job.key);
        let is_search = matches!(job.work, Work::Find(_));
        if is_search && job.open == 0 {
            self.remember(key, found, now);
        }
        self.drop_job(id);
        self.tell_end(&askers, stored);
    }

    fn tell_end(&mut self, askers: &[JobId], stored: usize) {
        for asker in askers {
            self.joined.remove(asker);
            self.outputs.push_back(Output::Event(Event::Ended(*asker, stored)));
        }
    }

    fn remember(&mut self, key: Id, found: Vec<Found>, now: Duration) {
        if self.remembered.len() >= MAX_REMEMBERED {
            self.remembered.retain(|_, (until, _)| now < *until);
        }
        let lasting = if found.is_empty() { REMEMBER_NOTHING } else { REMEMBER_FOUND };
        if self.remembered.len() < MAX_REMEMBERED && !self.is_alone() {
            self.remembered.insert(key, (now + lasting, found));
        }
    }

    /// Lets go of searches that ended too long ago.
    pub(super) fn forget(&mut self, now: Duration) {
        self.remembered.retain(|_, (until, _)| now < *until);
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

    /// Holders and claims came in for a search.
    fn handle_found(&mut self, id: JobId, holders: &[SocketAddr], claims: &[&[u8]], now: Duration) {
        let Some(Job { work: Work::Find(find), .. }) = self.jobs.get_mut(&id) else { return };
        let mut found: Vec<Found> = holders.iter().filter_map(|holder| find.handle_holder(*holder)).collect();
        let mut needed = Vec::new();
        for claim in claims {
            let (chain, targets) = find.handle_claim(claim);
            found.extend(chain);
            needed.extend(targets);
        }
        let mut missing = Vec::new();
        for target in needed {
            match self.server.storage().item(&target, now) {
                Some(value) => found.extend(find.handle_item(&target, value)),
                None => missing.push(target),
            }
        }
        self.report(id, found);
        for target in missing {
            self.begin(target, Goal::Item, Some(id), now);
        }
    }

    fn report(&mut self, job: JobId, found: Vec<Found>) {
        let Some(Job { askers, found: told, .. }) = self.jobs.get_mut(&job) else { return };
        for found in found {
            self.outputs.extend(askers.iter().map(|asker| Output::Event(Event::Found(*asker, found.clone()))));
            told.push(found);
        }
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
