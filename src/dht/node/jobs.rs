//! Jobs of a node: searches for holders and chains, and announcements, each made of walks.

use std::{net::SocketAddr, time::Duration};

use crate::{
    dht::{
        find::{Find, Found},
        id::Id,
        probe::{Probing, Way},
        round::Round,
        shelf::Shelf,
        terms::{Priority, Terms},
        walk::Goal,
    },
    hash::Expected,
};

use super::{Event, MAX_TIMINGS, Node, Output, walks::Walking};

/// Most that wait for one search.
const MAX_ASKERS: usize = 64;

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

impl JobId {
    /// Those between which all are.
    pub(super) const RANGE: [Self; 2] = [Self(0), Self(u64::MAX)];
}

/// What somebody wants, and how far it is.
pub struct Job {
    key: Id,
    pub(super) priority: Priority,
    pub(super) work: Work,
    /// Who is told of it: equal searches are one job.
    askers: Vec<Asker>,
    /// What they were told.
    found: Vec<Found>,
    asked: Duration,
    pub(super) until: Duration,
    /// Walks under way.
    pub(super) open: usize,
}

/// Who gave the command, and until when that is of use.
#[derive(Debug, Clone, Copy)]
struct Asker {
    id: JobId,
    until: Duration,
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
    /// When it ends at the latest, or the time of somebody who waits for it does.
    pub fn until(&self) -> Duration {
        self.askers.iter().map(|asker| asker.until).fold(self.until, Duration::min)
    }
}

impl Node {
    /// Begins to look for holders and piece hashes of a file.
    ///
    /// An equal search that is under way, or ended a moment ago unless the terms are otherwise, serves this one as well; it is as urgent as the most urgent
    /// of them, and each is told of its end at its own deadline.
    pub fn find(&mut self, expected: Expected, terms: Terms, now: Duration) -> JobId {
        self.search(self.realm.key(&expected.hash), Find::new(Some(expected)), terms, now)
    }

    /// Begins to look for peers that have something of a shelf, in the same way.
    pub fn find_shelf(&mut self, shelf: &Shelf, terms: Terms, now: Duration) -> JobId {
        self.search(self.realm.shelf(shelf), Find::new(None), terms, now)
    }

    fn search(&mut self, key: Id, find: Find, terms: Terms, now: Duration) -> JobId {
        let id = self.next_job();
        let tell = |found: &Found| Output::Event(Event::Found(id, found.clone()));
        if let Some((_, found)) = self.remembered.get(&key).filter(|(until, _)| now < *until && !terms.anew) {
            self.outputs.extend(found.iter().map(tell));
            self.outputs.push_back(Output::Event(Event::Ended(id, 0)));
            return id;
        }
        let asker = Asker { id, until: now.saturating_add(terms.deadline) };
        let is_equal = |(_, job): &(JobId, &mut Job)| {
            job.key == key && matches!(job.work, Work::Find(_)) && job.askers.len() < MAX_ASKERS
        };
        let under_way = self.jobs.iter_mut().map(|(leader, job)| (*leader, job));
        let equal = under_way.chain(self.turns.iter_mut()).find(is_equal);
        if let Some((leader, job)) = equal {
            self.outputs.extend(job.found.iter().map(tell));
            job.askers.push(asker);
            self.joined.insert(id, leader);
            self.turns.handle_asker(leader, asker.until, terms.priority);
            return id;
        }
        self.enter(asker, key, terms.priority, Work::Find(find), now)
    }

    /// Lets a job that has no deadline of its own wait for its turn.
    pub(super) fn enter_job(&mut self, key: Id, priority: Priority, work: Work, now: Duration) -> JobId {
        let asker = Asker { id: self.next_job(), until: Duration::MAX };
        self.enter(asker, key, priority, work, now)
    }

    pub(super) fn next_job(&mut self) -> JobId {
        self.last += 1;
        JobId(self.last)
    }

    /// Nobody waits for that job any more. It goes on while another waits for an equal one.
    pub fn cancel(&mut self, asker: JobId) {
        let job = self.joined.remove(&asker).unwrap_or(asker);
        let Some(entry) = self.jobs.get_mut(&job).or(self.turns.job(job)) else { return };
        entry.askers.retain(|other| other.id != asker);
        if entry.askers.is_empty() {
            self.drop_job(job);
        }
    }

    fn drop_job(&mut self, job: JobId) {
        if self.jobs.remove(&job).is_some() {
            self.walks.retain(|_, walking| walking.job != Some(job));
        } else {
            self.turns.remove(job);
        }
    }

    fn enter(&mut self, asker: Asker, key: Id, priority: Priority, work: Work, now: Duration) -> JobId {
        let (askers, found) = (vec![asker], Vec::new());
        let job = Job { key, priority, work, askers, found, asked: now, until: now + TURN_DEADLINE, open: 0 };
        if let Some(ousted) = self.turns.enter(asker.id, job) {
            self.tell_end(&ousted.askers, 0);
        }
        if self.is_alone() {
            self.upkeep.handle_job(now);
        }
        self.keep_up(now);
        self.advance(now);
        asker.id
    }

    /// Lets everything go on that can: ends, turns, steps.
    pub(super) fn advance(&mut self, now: Duration) {
        for id in self.turns.overdue(now) {
            self.end_overdue(id, now);
        }
        let overdue = self.jobs.iter().filter(|(_, job)| job.until() <= now).map(|(id, _)| *id);
        for id in overdue.collect::<Vec<_>>() {
            self.end_overdue(id, now);
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
        for priority in Priority::ALL {
            // Giving a turn may end the job, and begin none.
            while self.has_room_for(priority) {
                let Some((id, job)) = self.turns.next(priority) else { break };
                self.give_turn(id, job, now);
            }
        }
    }

    fn has_room_for(&self, priority: Priority) -> bool {
        let alike = self.jobs.values().filter(|job| job.priority >= priority).count();
        alike < priority.share() && self.jobs.len() < Priority::Urgent.share()
    }

    /// A job's time is up, or that of some who wait for it.
    fn end_overdue(&mut self, id: JobId, now: Duration) {
        let is_under_way = self.jobs.contains_key(&id);
        let Some(job) = self.jobs.get_mut(&id).or(self.turns.job(id)) else { return };
        if is_under_way && job.until <= now {
            return self.end_job(id, now);
        }
        let is_over = |asker: &mut Asker| job.until <= now || asker.until <= now;
        let over: Vec<Asker> = job.askers.extract_if(.., is_over).collect();
        if job.askers.is_empty() {
            self.drop_job(id);
        }
        self.tell_end(&over, 0);
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
                self.outputs
                    .extend(job.askers.iter().map(|asker| Output::Event(Event::Told(asker.id, stored.clone()))));
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

    fn tell_end(&mut self, askers: &[Asker], stored: usize) {
        for asker in askers {
            self.joined.remove(&asker.id);
            self.outputs.push_back(Output::Event(Event::Ended(asker.id, stored)));
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

    /// Holders and claims came in for a search.
    pub(super) fn handle_found(&mut self, id: JobId, holders: &[SocketAddr], claims: &[&[u8]], now: Duration) {
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

    pub(super) fn report(&mut self, job: JobId, found: Vec<Found>) {
        let Some(Job { askers, found: told, .. }) = self.jobs.get_mut(&job) else { return };
        for found in found {
            self.outputs.extend(askers.iter().map(|asker| Output::Event(Event::Found(asker.id, found.clone()))));
            told.push(found);
        }
    }
}
