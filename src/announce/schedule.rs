//! When each held file is announced next: a machine without clock.
//!
//! A file is due at once when it comes and when what is told of it changes, about hourly afterwards, each at a time of its
//! own, and, when no node took it, again after a pause that doubles.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::hash::ContentHash;

/// Time between two announcements of a file; nodes keep one for 130 minutes.
const PERIOD: Duration = Duration::from_secs(60 * 60);
/// By how much an interval may be shortened, so that what came together does not stay together.
const JITTER: f64 = 0.2;
/// The first pause after an announcement that no node took.
const FIRST_PAUSE: Duration = Duration::from_secs(30);

/// The times of all files.
#[derive(Debug)]
pub struct Schedule {
    rng: StdRng,
    due: BTreeSet<(Instant, ContentHash)>,
    files: HashMap<ContentHash, File>,
}

#[derive(Debug, Clone, Copy)]
struct File {
    /// When it is due; `None` while it is being announced.
    due: Option<Instant>,
    /// Announcements in a row that no node took.
    failures: u32,
    /// Whether what is told of it changed while it was being announced.
    changed: bool,
}

impl Schedule {
    /// An empty schedule.
    pub fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), due: BTreeSet::new(), files: HashMap::new() }
    }

    /// A file is held from now on.
    pub fn handle_held(&mut self, hash: ContentHash, now: Instant) {
        if !self.files.contains_key(&hash) {
            self.set(hash, now, 0);
        }
    }

    /// There is something new to tell of a file that is held: it is due at once, or as soon as it was announced.
    pub fn handle_changed(&mut self, hash: ContentHash, now: Instant) {
        match self.files.get_mut(&hash) {
            Some(file) if file.due.is_none() => file.changed = true,
            Some(_) => self.set(hash, now, 0),
            None => {}
        }
    }

    /// A file is held no more, or may not be told of.
    pub fn handle_gone(&mut self, hash: ContentHash) {
        if let Some(File { due: Some(due), .. }) = self.files.remove(&hash) {
            self.due.remove(&(due, hash));
        }
    }

    /// An announcement ended; so many nodes keep it.
    pub fn handle_announced(&mut self, hash: ContentHash, stored: usize, now: Instant) {
        let Some(file) = self.files.get(&hash).copied() else { return };
        if file.changed {
            return self.set(hash, now, 0);
        }
        let failures = if stored == 0 { file.failures + 1 } else { 0 };
        let interval = match failures {
            0 => PERIOD,
            failures => FIRST_PAUSE.saturating_mul(1 << (failures - 1).min(16)).min(PERIOD),
        };
        let due = now + interval.mul_f64(1.0 - JITTER * self.rng.random::<f64>());
        self.set(hash, due, failures);
    }

    /// The next file that is due, until there is none. It is not due again before [`Schedule::handle_announced`].
    #[must_use]
    pub fn poll(&mut self, now: Instant) -> Option<ContentHash> {
        let (due, hash) = self.due.first().copied().filter(|(due, _)| *due <= now)?;
        self.due.remove(&(due, hash));
        self.files.get_mut(&hash).expect("what is due is held").due = None;
        Some(hash)
    }

    /// When a file is due next.
    pub fn next_wake(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    fn set(&mut self, hash: ContentHash, due: Instant, failures: u32) {
        let before = self.files.insert(hash, File { due: Some(due), failures, changed: false });
        if let Some(File { due: Some(before), .. }) = before {
            self.due.remove(&(before, hash));
        }
        self.due.insert((due, hash));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "only as an origin for differences")]
    fn start() -> Instant {
        Instant::now()
    }

    fn file(name: &str) -> ContentHash {
        ContentHash::of(name.as_bytes())
    }

    #[test]
    fn a_file_is_due_at_once_and_then_about_hourly() {
        let (mut schedule, now) = (Schedule::new(1), start());
        schedule.handle_held(file("a"), now);
        schedule.handle_held(file("a"), now);
        assert_eq!(schedule.poll(now), Some(file("a")));
        assert_eq!((schedule.poll(now), schedule.next_wake()), (None, None), "being announced");
        schedule.handle_announced(file("a"), 8, now);
        let next = schedule.next_wake().expect("again") - now;
        assert!(next <= PERIOD && next >= PERIOD.mul_f64(1.0 - JITTER), "{next:?}");
    }

    #[test]
    fn what_nobody_took_is_tried_again_soon_then_later() {
        let (mut schedule, mut now) = (Schedule::new(2), start());
        schedule.handle_held(file("a"), now);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert_eq!(schedule.poll(now), Some(file("a")));
            schedule.handle_announced(file("a"), 0, now);
            let next = schedule.next_wake().expect("again");
            pauses.push(next - now);
            now = next;
        }
        assert!(pauses[0] <= FIRST_PAUSE && pauses[3] > 4 * FIRST_PAUSE && pauses.iter().all(|pause| *pause <= PERIOD));
    }

    #[test]
    fn what_is_gone_is_not_due_even_when_it_was_being_announced() {
        let (mut schedule, now) = (Schedule::new(3), start());
        schedule.handle_held(file("a"), now);
        schedule.handle_held(file("b"), now);
        let first = schedule.poll(now).expect("two are due");
        let other = if first == file("a") { file("b") } else { file("a") };
        schedule.handle_gone(first);
        schedule.handle_announced(first, 8, now);
        schedule.handle_gone(other);
        assert_eq!((schedule.poll(now + 2 * PERIOD), schedule.next_wake()), (None, None));
    }

    #[test]
    fn what_changes_is_due_at_once_and_when_it_was_being_announced_right_after() {
        let (mut schedule, now) = (Schedule::new(5), start());
        schedule.handle_changed(file("a"), now);
        assert_eq!(schedule.next_wake(), None, "not held");
        schedule.handle_held(file("a"), now);
        assert_eq!(schedule.poll(now), Some(file("a")));
        schedule.handle_changed(file("a"), now);
        assert_eq!(schedule.poll(now), None, "being announced");
        schedule.handle_announced(file("a"), 8, now);
        assert_eq!(schedule.poll(now), Some(file("a")));
        schedule.handle_announced(file("a"), 8, now);
        assert_eq!(schedule.poll(now), None);
        schedule.handle_changed(file("a"), now);
        assert_eq!((schedule.poll(now), schedule.poll(now)), (Some(file("a")), None));
    }

    #[test]
    fn files_that_came_together_spread_out() {
        let (mut schedule, now) = (Schedule::new(4), start());
        for n in 0..200 {
            schedule.handle_held(file(&n.to_string()), now);
        }
        while let Some(hash) = schedule.poll(now) {
            schedule.handle_announced(hash, 8, now);
        }
        let quarter = now + PERIOD.mul_f64(1.0 - JITTER * 0.75);
        let early = std::iter::from_fn(|| schedule.poll(quarter)).count();
        assert!((20..80).contains(&early), "{early} of 200");
    }
}
