//! What the store keeps in memory: sums, what is being read, what is on its way, and uses not written down yet.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::hash::{ContentHash, Expected};

use super::{
    leftover::{LEFTOVERS_MAX, Leftover},
    verify::BELIEVED,
};

/// Uses kept in memory, and for how long, when nothing else is written.
const USES_PENDING: usize = 1024;
const USES_WAIT: Duration = Duration::from_secs(60);

/// Objects remembered that were opened in this run.
const OPENED_MAX: usize = 16_384;

/// Files remembered that the disk would not take.
const SPURNED_MAX: usize = 64;

/// The sums and sets. Every change is one call, so that the lock around it is held for a moment.
#[derive(Default)]
pub(super) struct Shelf {
    /// Files held, and their bytes.
    pub(super) objects: usize,
    pub(super) bytes: u64,
    /// Bytes of the catalogue that count.
    pub(super) catalogue: u64,
    /// Uses counted so far, in this run and those before.
    uses: u64,
    reading: HashMap<ContentHash, u32>,
    partials: HashMap<u64, Reserved>,
    reserved: u64,
    next_partial: u64,
    /// Oldest first.
    leftovers: Vec<Leftover>,
    /// Objects that were opened, and when they were hashed last, if they were.
    opened: HashMap<ContentHash, Option<Instant>>,
    /// Files of which the disk would not take a byte although it said that there is room.
    spurned: HashSet<ContentHash>,
    /// How often there was no room for a file.
    refused: u64,
    pending: Pending,
}

/// Room set aside for a file on its way.
struct Reserved {
    expected: Expected,
    written: Arc<AtomicU64>,
}

/// What the catalogue has not been told yet.
#[derive(Default)]
pub(super) struct Pending {
    /// Hash and use count.
    pub(super) used: HashMap<ContentHash, u64>,
    /// Evicted.
    pub(super) gone: HashSet<ContentHash>,
    /// When the first of the uses was counted.
    since: Option<Instant>,
}

impl Shelf {
    pub(super) fn new(objects: usize, bytes: u64, uses: u64) -> Self {
        Self { objects, bytes, uses, ..Self::default() }
    }

    /// Begins with what an earlier run left, and numbers partials from there on.
    pub(super) fn go_on(&mut self, leftovers: Vec<Leftover>, next_partial: u64) {
        (self.leftovers, self.next_partial) = (leftovers, next_partial);
    }

    /// An interrupted download leaves this; what has to go for it comes back.
    pub(super) fn leave(&mut self, left: Leftover) -> Option<Leftover> {
        self.leftovers.push(left);
        (self.leftovers.len() > LEFTOVERS_MAX).then(|| self.leftovers.remove(0))
    }

    /// What was left of a file, for whoever goes on with it.
    pub(super) fn take_leftover(&mut self, expected: &Expected) -> Option<Leftover> {
        let at = self.leftovers.iter().rposition(|left| left.expected == *expected)?;
        Some(self.leftovers.remove(at))
    }

    /// What was left for longest, to be removed.
    pub(super) fn oldest_leftover(&mut self) -> Option<Leftover> {
        (!self.leftovers.is_empty()).then(|| self.leftovers.remove(0))
    }

    /// The disk would not take bytes of a file, whatever it says of its room.
    pub(super) fn spurn(&mut self, hash: ContentHash) {
        if self.spurned.len() >= SPURNED_MAX {
            self.spurned.clear();
        }
        self.spurned.insert(hash);
    }

    /// Whether that happened at the last try: then the next one goes past the store, and the one after it is a new one.
    pub(super) fn was_spurned(&mut self, hash: ContentHash) -> bool {
        self.spurned.remove(&hash)
    }

    /// There was no room for a file.
    pub(super) fn refuse(&mut self) {
        self.refused += 1;
    }

    /// How often there was none.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// Downloads that were interrupted and may go on, and the bytes of what they left.
    pub(super) fn left(&self) -> (usize, u64) {
        (self.leftovers.len(), self.leftovers.iter().map(|left| left.bytes).sum())
    }

    pub(super) fn partials(&self) -> usize {
        self.partials.len()
    }

    /// Bytes set aside for files on their way.
    pub(super) fn in_flight(&self) -> u64 {
        self.reserved
    }

    /// Bytes set aside that the disk has not seen yet.
    fn unwritten(&self) -> u64 {
        self.partials.values().map(|partial| partial.expected.size.saturating_sub(partial.written.load(Relaxed))).sum()
    }

    /// Bytes missing for a file of `size`, under a quota and with `free` bytes on the disk of which `min_free` must stay.
    pub(super) fn shortage(&self, size: u64, quota: u64, free: u64, min_free: u64) -> u64 {
        let taken =
            self.bytes.saturating_add(self.catalogue).saturating_add(self.reserved).saturating_add(self.left().1);
        let over = taken.saturating_add(size).saturating_sub(quota);
        let short = min_free.saturating_add(self.unwritten()).saturating_add(size).saturating_sub(free);
        over.max(short)
    }

    /// Sets room aside; the number names it.
    pub(super) fn reserve(&mut self, expected: Expected, written: Arc<AtomicU64>) -> u64 {
        let number = self.next_partial;
        self.next_partial += 1;
        self.reserved += expected.size;
        self.partials.insert(number, Reserved { expected, written });
        number
    }

    /// Gives room back. Once only has an effect.
    pub(super) fn release(&mut self, number: u64) {
        if let Some(partial) = self.partials.remove(&number) {
            self.reserved -= partial.expected.size;
        }
    }

    /// A file came to be held that was not.
    pub(super) fn add(&mut self, size: u64) {
        self.objects += 1;
        self.bytes += size;
    }

    /// A file is held no more.
    pub(super) fn remove(&mut self, hash: ContentHash, size: u64) {
        self.objects = self.objects.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size);
        self.pending.used.remove(&hash);
        self.opened.remove(&hash);
    }

    /// Evicted: the row goes with the next writes.
    pub(super) fn evict(&mut self, hash: ContentHash, size: u64) {
        self.remove(hash, size);
        self.pending.gone.insert(hash);
    }

    /// Whether the file was evicted while its row still stands.
    pub(super) fn is_gone(&self, hash: ContentHash) -> bool {
        self.pending.gone.contains(&hash)
    }

    /// Takes back an eviction that the catalogue was not told of.
    pub(super) fn returned(&mut self, hash: ContentHash) -> bool {
        self.pending.gone.remove(&hash)
    }

    /// An object is opened: whether it is to be hashed first. The first time it is not, see `verify`.
    pub(super) fn is_check_due(&mut self, hash: ContentHash, now: Instant) -> bool {
        let is_due = match self.opened.get(&hash) {
            None => false,
            Some(None) => true,
            Some(Some(checked)) => now.saturating_duration_since(*checked) >= BELIEVED,
        };
        if is_due {
            self.checked(hash, now);
        } else {
            self.remember(hash, None);
        }
        is_due
    }

    /// An object was hashed, or is about to be.
    pub(super) fn checked(&mut self, hash: ContentHash, now: Instant) {
        self.remember(hash, Some(now));
    }

    fn remember(&mut self, hash: ContentHash, checked: Option<Instant>) {
        if self.opened.len() >= OPENED_MAX {
            self.opened.clear();
        }
        let known = self.opened.entry(hash).or_default();
        *known = checked.or(*known);
    }

    /// Counts a use, and says whether it is time to write uses down.
    pub(super) fn touch(&mut self, hash: ContentHash, now: Instant) -> bool {
        let used = self.next_use();
        self.pending.used.insert(hash, used);
        let since = *self.pending.since.get_or_insert(now);
        self.pending.used.len() >= USES_PENDING || now.saturating_duration_since(since) >= USES_WAIT
    }

    /// Uses counted so far.
    pub(super) fn uses(&self) -> u64 {
        self.uses
    }

    pub(super) fn next_use(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    /// A use that is newer than the row's.
    pub(super) fn last_use(&self, hash: ContentHash) -> Option<u64> {
        self.pending.used.get(&hash).copied()
    }

    pub(super) fn hold(&mut self, hash: ContentHash) {
        *self.reading.entry(hash).or_default() += 1;
    }

    pub(super) fn let_go(&mut self, hash: ContentHash) {
        if let Some(readers) = self.reading.get_mut(&hash) {
            *readers -= 1;
            if *readers == 0 {
                self.reading.remove(&hash);
            }
        }
    }

    /// Being read.
    pub(super) fn is_busy(&self, hash: ContentHash) -> bool {
        self.reading.contains_key(&hash)
    }

    /// The hashes on their way.
    pub(super) fn arriving(&self) -> HashSet<ContentHash> {
        self.partials.values().map(|partial| partial.expected.hash).collect()
    }

    /// Hands over what the catalogue was not told; on failure it comes back by [`Shelf::put_back`].
    pub(super) fn take_pending(&mut self) -> Pending {
        std::mem::take(&mut self.pending)
    }

    pub(super) fn put_back(&mut self, pending: Pending) {
        for (hash, used) in pending.used {
            self.pending.used.entry(hash).or_insert(used);
        }
        self.pending.gone.extend(pending.gone);
        self.pending.since = pending.since.or(self.pending.since);
    }
}
