//! Files of which bytes are out that nobody has proven: the marks in the store, and who answers for them now.
//!
//! A mark is common to all who pass bytes of a file on: it is set before the first such byte leaves, and taken away when
//! the last of them is done and every byte that ever left was right. What the store cannot mark is remembered here, until
//! the end of this run.
//!
//! ```text
//!   out --> Unproven --settle(true)----> the last of them: the mark is taken away, unless one of them was wrong
//!                    '-settle(false)---> the mark stays: who comes next gets the whole file
//!                    '-dropped---------> the same
//! ```

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    hash::ContentHash,
    store::{Mark, Store},
};

/// Files remembered at most that are in doubt and that the store could not mark. When there are more, all are in doubt.
const MAX_UNMARKED: usize = 4096;

/// What is in doubt. Cheap to clone.
#[derive(Clone)]
pub struct Doubts {
    store: Store,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Who passes on unproven bytes of which file now: no more than there are downloads and answers to clients.
    out: HashMap<ContentHash, Out>,
    /// In doubt, and not marked.
    unmarked: HashSet<ContentHash>,
    /// Whether files are in doubt of which nothing is remembered.
    is_full: bool,
}

#[derive(Default)]
struct Out {
    /// How many pass it on.
    givers: usize,
    /// Whether bytes may be out of which nobody will say any more that they were right.
    is_spoilt: bool,
}

/// Bytes of a file leave, or are about to, before they are proven. When it is dropped before they are, the file stays in
/// doubt.
pub struct Unproven {
    doubts: Doubts,
    hash: ContentHash,
    was_doubtful: bool,
    is_marked: bool,
    is_right: bool,
}

impl Doubts {
    /// Those that the store has marked.
    pub fn new(store: Store) -> Self {
        Self { store, state: Arc::default() }
    }

    /// Bytes of a file are about to leave before they are proven. May block for a moment.
    pub fn out(&self, hash: ContentHash) -> Unproven {
        let mut state = self.lock();
        let mark = self.store.mark_released(hash);
        let was_doubtful = state.is_full
            || state.unmarked.contains(&hash)
            || state.out.contains_key(&hash)
            || matches!(mark, Ok(Mark::Already));
        if let Err(error) = &mark {
            tracing::warn!(%error, "what is passed on cannot be marked");
        }
        let out = state.out.entry(hash).or_insert(Out { givers: 0, is_spoilt: was_doubtful });
        out.givers += 1;
        drop(state);
        Unproven { doubts: self.clone(), hash, was_doubtful, is_marked: mark.is_ok(), is_right: false }
    }

    /// Whether bytes may be out that were never proven.
    pub fn is_doubtful(&self, hash: ContentHash) -> bool {
        let state = self.lock();
        state.is_full || state.out.contains_key(&hash) || state.unmarked.contains(&hash) || self.store.is_marked(hash)
    }

    /// The same, but for those of one that passes them on now.
    pub fn is_doubtful_beside_one(&self, hash: ContentHash) -> bool {
        let out = self.lock().out.get(&hash).map(|out| out.is_spoilt || out.givers > 1);
        out.unwrap_or_else(|| self.is_doubtful(hash))
    }

    fn settle(&self, hash: ContentHash, is_right: bool) {
        let mut state = self.lock();
        let out = state.out.get_mut(&hash).expect("who settles was counted");
        out.givers -= 1;
        out.is_spoilt |= !is_right;
        if out.givers > 0 {
            return;
        }
        let is_spoilt = out.is_spoilt;
        state.out.remove(&hash);
        let settled = if is_spoilt { self.store.mark_released(hash).map(drop) } else { self.store.clear_mark(hash) };
        if let Err(error) = &settled {
            tracing::warn!(%error, "mark not changed");
        }
        if !is_spoilt {
            state.unmarked.remove(&hash);
        } else if settled.is_err() {
            state.is_full |= state.unmarked.len() >= MAX_UNMARKED;
            if !state.is_full {
                state.unmarked.insert(hash);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unproven {
    /// Whether bytes of the file may have been out before, or be out beside these.
    pub fn was_doubtful(&self) -> bool {
        self.was_doubtful
    }

    /// Whether the next run will know of it too.
    pub fn is_marked(&self) -> bool {
        self.is_marked
    }

    /// All that left was right, or none did; or some of it was wrong. May block for a moment.
    pub fn settle(mut self, is_right: bool) {
        self.is_right = is_right;
    }
}

impl Drop for Unproven {
    fn drop(&mut self) {
        self.doubts.settle(self.hash, self.is_right);
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::store::Config;

    const HASH: [u8; 3] = *b"any";

    fn doubts() -> (TempDir, Doubts) {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { path: dir.path().join("store"), quota: 1 << 30, min_free: 0 };
        let store = Store::open(&config, |_| true).unwrap();
        (dir, Doubts::new(store))
    }

    #[test]
    fn the_last_who_was_right_takes_the_mark_away_and_nobody_does_after_one_who_broke_off() {
        let (_dir, doubts) = doubts();
        let hash = ContentHash::of(&HASH);
        assert!(!doubts.is_doubtful(hash));
        for are_right in [[true, true], [true, false], [false, true]] {
            let (first, second) = (doubts.out(hash), doubts.out(hash));
            assert_eq!((first.was_doubtful(), second.was_doubtful()), (false, true));
            assert!(doubts.is_doubtful_beside_one(hash));
            first.settle(are_right[0]);
            assert!(doubts.is_doubtful(hash) && doubts.store.is_marked(hash), "{are_right:?}: the second is at it");
            assert_eq!(doubts.is_doubtful_beside_one(hash), !are_right[0]);
            second.settle(are_right[1]);
            let is_clean = are_right == [true, true];
            assert_eq!(doubts.is_doubtful(hash), !is_clean, "{are_right:?}");
            assert_eq!(doubts.store.is_marked(hash), !is_clean, "{are_right:?}");
            doubts.store.clear_mark(hash).unwrap();
        }
    }

    #[test]
    fn a_mark_of_an_earlier_run_stays() {
        let (_dir, doubts) = doubts();
        let hash = ContentHash::of(&HASH);
        drop(doubts.out(hash));
        let later = Doubts::new(doubts.store.clone());
        assert!(later.is_doubtful(hash));
        let out = later.out(hash);
        assert!(out.was_doubtful());
        out.settle(true);
        assert!(later.is_doubtful(hash));
    }

    #[test]
    fn what_cannot_be_marked_is_remembered_and_what_is_too_much_makes_all_doubtful() {
        let (dir, doubts) = doubts();
        std::fs::remove_dir(dir.path().join("store/released")).unwrap();
        let hash = ContentHash::of(&HASH);
        let right = doubts.out(hash);
        assert!(!right.is_marked() && doubts.is_doubtful(hash));
        right.settle(true);
        assert!(!doubts.is_doubtful(hash));
        drop(doubts.out(hash));
        assert!(doubts.is_doubtful(hash) && doubts.out(hash).was_doubtful());
        let other = ContentHash::of(b"other");
        for file in 0..MAX_UNMARKED {
            assert!(!doubts.is_doubtful(other));
            drop(doubts.out(ContentHash::of(&file.to_be_bytes())));
        }
        assert!(doubts.is_doubtful(other) && doubts.is_doubtful(hash));
        assert_eq!(doubts.lock().unmarked.len(), MAX_UNMARKED);
    }
}
