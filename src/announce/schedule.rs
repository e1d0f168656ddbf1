//! When each held file is announced again.
//!
//! 1. A file is announced when it comes to be held, then [`EVERY`] hour with some jitter, so that files which came together
//!    do not stay together.
//! 2. An announcement that nobody stored is tried again after [`FIRST_RETRY`], then after twice as long, up to the hour.
//! 3. Due files are given out one by one, those longest due first; how many are under way at once is the task's to bound.
//!
//! `now` is the time since a start that the caller chose; it never goes back.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::hash::ContentHash;

/// How often a file is announced: nodes keep what they are told for a little more than twice as long.
pub const EVERY: Duration = Duration::from_secs(3600);

/// Wait before an announcement that failed is tried again, at first.
pub const FIRST_RETRY: Duration = Duration::from_secs(30);

/// The part of a wait that jitter may take from it or, for files held since before the start, the span they are spread over.
const JITTER: f64 = 0.25;

/// Files that are announced, and when.
pub struct Schedule {
    rng: StdRng,
    files: HashMap<ContentHash, State>,
    due: BTreeSet<(Duration, ContentHash)>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// `None` while it is being announced.
    due: Option<Duration>,
    failures: u32,
}

impl Schedule {
    /// Nothing is held.
    pub fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), files: HashMap::new(), due: BTreeSet::new() }
    }

    /// Files that are announced, due or not.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether nothing is announced.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// A file came to be held: it is due now. Nothing changes for one that is known.
    pub fn handle_held(&mut self, file: ContentHash, now: Duration) {
        self.enter(file, now);
    }

    /// A file has been held since before the start. Of so many, each falls due at some time in the next `within`.
    pub fn handle_held_before(&mut self, file: ContentHash, within: Duration, now: Duration) {
        let delay = within.mul_f64(self.rng.random());
        self.enter(file, now + delay);
    }

    fn enter(&mut self, file: ContentHash, due: Duration) {
        self.files.entry(file).or_insert_with(|| {
            self.due.insert((due, file));
            State { due: Some(due), failures: 0 }
        });
    }

    /// A file is not held any more, or may not be shared.
    pub fn handle_gone(&mut self, file: &ContentHash) {
        if let Some(due) = self.files.remove(file).and_then(|state| state.due) {
            self.due.remove(&(due, *file));
        }
    }

    /// So many nodes stored the announcement of a file that [`Schedule::poll`] gave out.
    pub fn handle_announced(&mut self, file: &ContentHash, stored: usize, now: Duration) {
        let Some(state) = self.files.get_mut(file).filter(|state| state.due.is_none()) else { return };
        let wait = if stored > 0 {
            state.failures = 0;
            EVERY
        } else {
            state.failures = state.failures.saturating_add(1);
            FIRST_RETRY.saturating_mul(1 << (state.failures - 1).min(10)).min(EVERY)
        };
        let due = now + wait.mul_f64(1.0 - JITTER * self.rng.random::<f64>());
        state.due = Some(due);
        self.due.insert((due, *file));
    }

    /// The address has changed: everything held is due, spread over `within`.
    pub fn handle_address_change(&mut self, within: Duration, now: Duration) {
        self.due.clear();
        for (file, state) in &mut self.files {
            state.failures = 0;
            if state.due.is_some() {
                let due = now + within.mul_f64(self.rng.random());
                state.due = Some(due);
                self.due.insert((due, *file));
            }
        }
    }

    /// A file to announce now. It is given out again only after [`Schedule::handle_announced`].
    #[must_use]
    pub fn poll(&mut self, now: Duration) -> Option<ContentHash> {
        let (due, file) = *self.due.first()?;
        if due > now {
            return None;
        }
        self.due.pop_first();
        self.files.get_mut(&file).expect("what is due is known").due = None;
        Some(file)
    }

    /// When the next file falls due, or fell.
    pub fn next_wake(&self) -> Option<Duration> {
        self.due.first().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn file(n: u32) -> ContentHash {
        ContentHash::of(&n.to_be_bytes())
    }

    #[test]
    fn a_file_is_announced_at_once_and_then_about_hourly() {
        let mut schedule = Schedule::new(1);
        let mut now = SECOND;
        schedule.handle_held(file(1), now);
        for _ in 0..50 {
            assert_eq!(schedule.poll(now), Some(file(1)));
            assert_eq!(schedule.poll(now + EVERY), None, "it is under way");
            schedule.handle_announced(&file(1), 8, now);
            let next = schedule.next_wake().unwrap();
            assert!((EVERY.mul_f64(1.0 - JITTER)..=EVERY).contains(&(next - now)), "{:?}", next - now);
            assert_eq!(schedule.poll(next - Duration::from_nanos(1)), None);
            now = next;
        }
    }

    #[test]
    fn failures_are_retried_ever_later_and_a_success_forgets_them() {
        let mut schedule = Schedule::new(1);
        let mut now = SECOND;
        schedule.handle_held(file(1), now);
        for seconds in [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600, 3600, 3600, 3600] {
            assert!(schedule.poll(now).is_some());
            schedule.handle_announced(&file(1), 0, now);
            let wait = schedule.next_wake().unwrap() - now;
            let longest = Duration::from_secs(seconds);
            assert!((longest.mul_f64(1.0 - JITTER)..=longest).contains(&wait), "{wait:?} of {longest:?}");
            now += wait;
        }
        assert!(schedule.poll(now).is_some());
        schedule.handle_announced(&file(1), 1, now);
        now = schedule.next_wake().unwrap();
        assert!(schedule.poll(now).is_some());
        schedule.handle_announced(&file(1), 0, now);
        assert!(schedule.next_wake().unwrap() - now <= FIRST_RETRY);
    }

    #[test]
    fn what_is_gone_is_not_announced() {
        let mut schedule = Schedule::new(1);
        for n in 0..3 {
            schedule.handle_held(file(n), SECOND * (n + 1));
        }
        schedule.handle_gone(&file(1));
        assert_eq!(schedule.poll(10 * SECOND), Some(file(0)));
        schedule.handle_gone(&file(0));
        schedule.handle_announced(&file(0), 8, 10 * SECOND);
        assert_eq!(schedule.poll(10 * SECOND), Some(file(2)));
        assert_eq!(schedule.poll(10_000 * SECOND), None);
        assert_eq!(schedule.len(), 1);
        schedule.handle_gone(&file(2));
        assert!(schedule.is_empty());
        assert_eq!(schedule.next_wake(), None);
    }

    #[test]
    fn what_is_told_twice_is_announced_once() {
        let mut schedule = Schedule::new(1);
        schedule.handle_held(file(1), SECOND);
        schedule.handle_held(file(1), 2 * SECOND);
        assert!(schedule.poll(3 * SECOND).is_some());
        schedule.handle_held(file(1), 3 * SECOND);
        assert_eq!(schedule.poll(3 * SECOND), None);
        schedule.handle_announced(&file(1), 8, 3 * SECOND);
        schedule.handle_announced(&file(1), 8, 3 * SECOND);
        schedule.handle_announced(&file(2), 8, 3 * SECOND);
        assert_eq!(schedule.due.len(), 1);
    }

    #[test]
    fn many_files_are_spread_and_stay_spread() {
        let mut schedule = Schedule::new(1);
        for n in 0..3600 {
            schedule.handle_held_before(file(n), EVERY, Duration::ZERO);
        }
        for hour in 0..5 {
            for minute in 0..60 {
                let now = SECOND * 60 * (60 * hour + minute + 1);
                let mut given = 0;
                while let Some(file) = schedule.poll(now) {
                    given += 1;
                    schedule.handle_announced(&file, 8, now);
                }
                assert!(given < 200, "{given} in minute {minute} of hour {hour}");
            }
        }
    }

    #[test]
    fn after_an_address_change_all_is_due_anew() {
        let mut schedule = Schedule::new(1);
        for n in 0..100 {
            schedule.handle_held(file(n), Duration::ZERO);
        }
        for _ in 0..99 {
            let file = schedule.poll(SECOND).unwrap();
            schedule.handle_announced(&file, 8, SECOND);
        }
        let under_way = schedule.poll(SECOND).unwrap();
        schedule.handle_address_change(60 * SECOND, SECOND);
        let mut again = 0;
        while let Some(file) = schedule.poll(61 * SECOND) {
            assert_ne!(file, under_way);
            again += 1;
        }
        assert_eq!(again, 99);
    }
}
