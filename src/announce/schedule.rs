//! When each held file, or shelf, is announced next: a machine without clock.
//!
//! A file is due at once when it comes and when what is told of it changes, and, when no node took it, again after a pause
//! that doubles. Otherwise the key space is a dial, and a hand goes round it once an hour: a file is due when the hand
//! is at its place. So announcements are spread over the hour, those whose places are near each other come together, and can
//! go in the same datagrams. Each host draws where its hand begins.
//!
//! ```text
//!   place  0 ..... a .. b ......................... c ....... 2^64   the hour
//!                  ^ due now, b and what else comes within AHEAD goes along
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::dht::Id;

use super::holdings::Topic;

/// One turn of the hand; nodes keep an announcement for 130 minutes, so that one may fail.
const PERIOD: Duration = Duration::from_secs(60 * 60);
/// A file that was announced so short a time before the hand comes is left for the next turn.
const FRESH: Duration = Duration::from_secs(5 * 60);
/// What is due so soon goes along with its neighbours.
const AHEAD: Duration = Duration::from_secs(3 * 60);
/// Most files announced together.
const MAX_TOGETHER: usize = 40;
/// Most neighbours that are looked at for them.
const MAX_LOOKED_AT: usize = 8 * MAX_TOGETHER;
/// By how much a pause may be shortened, so that what failed together does not stay together.
const JITTER: f64 = 0.2;
/// The first pause after an announcement that no node took.
const FIRST_PAUSE: Duration = Duration::from_secs(30);

/// The times of all files.
#[derive(Debug)]
pub struct Schedule {
    rng: StdRng,
    /// When the hand stood at place 0, at some time.
    origin: Instant,
    due: BTreeSet<(Instant, Id)>,
    files: BTreeMap<Id, File>,
    places: HashMap<Topic, Id>,
}

#[derive(Debug, Clone, Copy)]
struct File {
    topic: Topic,
    /// When it is due; `None` while it is being announced.
    due: Option<Instant>,
    /// Announcements in a row that no node took.
    failures: u32,
    /// Whether what is told of it changed while it was being announced.
    changed: bool,
}

impl Schedule {
    /// An empty schedule.
    pub fn new(seed: u64, now: Instant) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let origin = now + PERIOD.mul_f64(rng.random());
        Self { rng, origin, due: BTreeSet::new(), files: BTreeMap::new(), places: HashMap::new() }
    }

    /// A file is held from now on, and is announced at that place.
    pub fn handle_held(&mut self, topic: Topic, place: Id, now: Instant) {
        if let std::collections::hash_map::Entry::Vacant(vacant) = self.places.entry(topic) {
            vacant.insert(place);
            self.files.insert(place, File { topic, due: None, failures: 0, changed: false });
            self.set(place, now, 0);
        }
    }

    /// There is something new to tell of a file that is held: it is due at once, or as soon as it was announced.
    pub fn handle_changed(&mut self, topic: Topic, now: Instant) {
        let Some(&place) = self.places.get(&topic) else { return };
        let file = self.files.get_mut(&place).expect("a file that is held has a place");
        if file.due.is_none() {
            file.changed = true;
        } else {
            self.set(place, now, 0);
        }
    }

    /// This host has moved: what was told of it leads nowhere, and all is due again.
    pub fn handle_moved(&mut self, now: Instant) {
        let topics: Vec<_> = self.places.keys().copied().collect();
        topics.into_iter().for_each(|topic| self.handle_changed(topic, now));
    }

    /// A file is held no more, or may not be told of.
    pub fn handle_gone(&mut self, topic: Topic) {
        let Some(place) = self.places.remove(&topic) else { return };
        if let Some(File { due: Some(due), .. }) = self.files.remove(&place) {
            self.due.remove(&(due, place));
        }
    }

    /// An announcement ended; so many nodes keep it.
    pub fn handle_announced(&mut self, topic: Topic, stored: usize, now: Instant) {
        let Some((place, file)) = self.under_way(&topic) else { return };
        if file.changed {
            return self.set(place, now, 0);
        }
        let failures = if stored == 0 { file.failures + 1 } else { 0 };
        let due = match failures {
            0 => self.next_turn(&place, now),
            failures => {
                let pause = FIRST_PAUSE.saturating_mul(1 << (failures - 1).min(16)).min(PERIOD);
                now + pause.mul_f64(1.0 - JITTER * self.rng.random::<f64>())
            }
        };
        self.set(place, due, failures);
    }

    /// An announcement was stopped before its end, and not for this file's sake: it is due as before.
    pub fn handle_stopped(&mut self, topic: Topic, now: Instant) {
        if let Some((place, file)) = self.under_way(&topic) {
            self.set(place, now, file.failures);
        }
    }

    /// The files that are to be announced now, in the order of their places; none: nothing is due. They are not due again
    /// before [`Schedule::handle_announced`] or [`Schedule::handle_stopped`].
    #[must_use]
    pub fn poll(&mut self, now: Instant) -> Vec<Topic> {
        let Some(&(_, first)) = self.due.first().filter(|(due, _)| *due <= now) else { return Vec::new() };
        let is_near = |file: &File| file.due.is_some_and(|due| due <= now + AHEAD);
        let near = self.files.range_mut(first..).take(MAX_LOOKED_AT).filter(|(_, file)| is_near(file));
        let mut together = Vec::new();
        for (place, file) in near.take(MAX_TOGETHER) {
            let due = file.due.take().expect("it is due soon");
            self.due.remove(&(due, *place));
            together.push(file.topic);
        }
        together
    }

    /// When a file is due next.
    pub fn next_wake(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    fn under_way(&self, topic: &Topic) -> Option<(Id, File)> {
        let place = *self.places.get(topic)?;
        self.files.get(&place).copied().filter(|file| file.due.is_none()).map(|file| (place, file))
    }

    /// When the hand comes to a place, after it is worth to say the same again.
    fn next_turn(&self, place: &Id, now: Instant) -> Instant {
        let first = u32::from_be_bytes(*place.as_bytes().first_chunk().expect("an id has more than 4 bytes"));
        let at = PERIOD.mul_f64(f64::from(first) / (f64::from(u32::MAX) + 1.0));
        // The origin may lie ahead, by less than one turn.
        let earliest = (now + FRESH + PERIOD).saturating_duration_since(self.origin);
        let turns = earliest.saturating_sub(at).as_secs_f64() / PERIOD.as_secs_f64();
        let due = self.origin + at + PERIOD.mul_f64(turns.ceil());
        due.checked_sub(PERIOD).unwrap_or(due)
    }

    fn set(&mut self, place: Id, due: Instant, failures: u32) {
        let file = self.files.get_mut(&place).expect("only files that are held are set");
        if let Some(before) = file.due.replace(due) {
            self.due.remove(&(before, place));
        }
        (file.failures, file.changed) = (failures, false);
        self.due.insert((due, place));
    }
}

#[cfg(test)]
mod tests;
