//! Jobs that wait for their turn: by priority, of equals the oldest first.

use std::{collections::BTreeMap, time::Duration};

use crate::dht::terms::Priority;

use super::jobs::{Job, JobId};

/// Most jobs that wait.
const MAX_WAITING: usize = 4096;

/// The queue.
#[derive(Default)]
pub struct Turns {
    waiting: BTreeMap<(Priority, JobId), Job>,
    /// No job's time is up sooner; that of one which is gone may be.
    earliest: Option<Duration>,
}

impl Turns {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Lets a job wait. Gives back the one that there is no room for: the last of the least urgent.
    pub fn enter(&mut self, id: JobId, job: Job) -> Option<Job> {
        self.note(job.until());
        self.waiting.insert((job.priority, id), job);
        let ousted = (self.waiting.len() > MAX_WAITING).then(|| self.waiting.pop_last())?;
        ousted.map(|(_, job)| job)
    }

    /// Somebody else waits for a job that may be here, until then, and with that priority.
    pub fn handle_asker(&mut self, id: JobId, until: Duration, priority: Priority) {
        let Some(mut job) = self.remove(id) else { return };
        self.note(until);
        job.priority = job.priority.min(priority);
        self.waiting.insert((job.priority, id), job);
    }

    fn note(&mut self, until: Duration) {
        self.earliest = Some(self.earliest.map_or(until, |earliest| earliest.min(until)));
    }

    /// The next job of that priority.
    pub fn next(&mut self, priority: Priority) -> Option<(JobId, Job)> {
        let of_it = JobId::RANGE.map(|id| (priority, id));
        let (_, id) = *self.waiting.range(of_it[0]..=of_it[1]).next()?.0;
        self.waiting.remove(&(priority, id)).map(|job| (id, job))
    }

    /// All jobs, in the order of their turns.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (JobId, &mut Job)> {
        self.waiting.iter_mut().map(|((_, id), job)| (*id, job))
    }

    /// One of them.
    pub fn job(&mut self, id: JobId) -> Option<&mut Job> {
        let at = Priority::ALL.map(|priority| (priority, id)).into_iter().find(|at| self.waiting.contains_key(at))?;
        self.waiting.get_mut(&at)
    }

    /// Takes one out.
    pub fn remove(&mut self, id: JobId) -> Option<Job> {
        Priority::ALL.into_iter().find_map(|priority| self.waiting.remove(&(priority, id)))
    }

    /// When one's time may be up next.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.earliest
    }

    /// The jobs of which somebody's time is up, when one may be.
    pub fn overdue(&mut self, now: Duration) -> Vec<JobId> {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return Vec::new();
        }
        let later = self.waiting.values().map(Job::until).filter(|until| *until > now);
        self.earliest = later.min();
        let overdue = self.waiting.iter().filter(|(_, job)| job.until() <= now);
        overdue.map(|((_, id), _)| *id).collect()
    }
}
