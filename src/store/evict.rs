//! Eviction: what to give up for room.
//!
//! Superseded files first, then the least recently used; never one that is busy. When even all of them would not make
//! the room asked for, nothing is given up for nothing.

use crate::hash::ContentHash;

/// A file held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) hash: ContentHash,
    /// Bytes.
    pub(super) size: u64,
    /// The use count when it was last used.
    pub(super) used: u64,
    /// Whether an archive names it in its current version.
    pub(super) current: bool,
    /// Being read, or being fetched anew.
    pub(super) busy: bool,
}

/// Chooses files of `need` bytes together; when those are to be had, goes on to `spare` bytes more so that the next
/// caller need not ask. `None` when there are not `need` bytes to be freed.
pub(super) fn plan(mut candidates: Vec<Candidate>, need: u64, spare: u64) -> Option<Vec<Candidate>> {
    candidates.retain(|candidate| !candidate.busy);
    candidates.sort_unstable_by_key(|candidate| (candidate.current, candidate.used, candidate.hash));
    let goal = need.saturating_add(spare);
    let mut freed = 0_u64;
    let chosen = candidates
        .iter()
        .take_while(|candidate| {
            let wanted = freed < goal;
            freed = if wanted { freed.saturating_add(candidate.size) } else { freed };
            wanted
        })
        .count();
    candidates.truncate(chosen);
    (freed >= need).then_some(candidates)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(name: u8, size: u64, used: u64, current: bool) -> Candidate {
        Candidate { hash: ContentHash::new([name; 32]), size, used, current, busy: false }
    }

    fn names(plan: Option<Vec<Candidate>>) -> Option<Vec<u8>> {
        plan.map(|chosen| chosen.iter().map(|candidate| candidate.hash.as_bytes()[0]).collect())
    }

    #[test]
    fn superseded_files_go_before_older_current_ones() {
        let held = vec![candidate(1, 10, 1, true), candidate(2, 10, 9, false), candidate(3, 10, 5, true)];
        assert_eq!(names(plan(held.clone(), 10, 0)), Some(vec![2]));
        assert_eq!(names(plan(held.clone(), 11, 0)), Some(vec![2, 1]));
        assert_eq!(names(plan(held, 10, 20)), Some(vec![2, 1, 3]));
    }

    #[test]
    fn busy_files_stay_and_an_impossible_need_costs_nothing() {
        let mut held = vec![candidate(1, 10, 1, true), candidate(2, 10, 2, true)];
        held[0].busy = true;
        assert_eq!(names(plan(held.clone(), 10, 100)), Some(vec![2]));
        assert_eq!(plan(held, 11, 0), None);
        assert_eq!(names(plan(Vec::new(), 0, 5)), Some(vec![]));
    }

    proptest! {
        #[test]
        fn what_goes_suffices_and_ranks_before_all_that_stays(
            held in prop::collection::vec((1_u64..100, 0_u64..50, any::<bool>(), any::<bool>()), 0..40),
            need in 0_u64..2000,
            spare in 0_u64..200,
        ) {
            let held: Vec<Candidate> = held
                .into_iter()
                .zip(0_u8..)
                .map(|((size, used, current, busy), name)| Candidate { busy, ..candidate(name, size, used, current) })
                .collect();
            let free: u64 = held.iter().filter(|held| !held.busy).map(|held| held.size).sum();
            match plan(held.clone(), need, spare) {
                None => prop_assert!(free < need),
                Some(gone) => {
                    let sum: u64 = gone.iter().map(|gone| gone.size).sum();
                    prop_assert!(sum >= need);
                    prop_assert!(gone.iter().all(|gone| !gone.busy));
                    prop_assert!(gone.split_last().is_none_or(|(last, _)| sum - last.size < need + spare));
                    let rank = |held: &Candidate| (held.current, held.used, held.hash);
                    let stays = held.iter().filter(|held| !held.busy && !gone.contains(held)).map(rank).min();
                    if let (Some(last), Some(first)) = (gone.iter().map(rank).max(), stays) {
                        prop_assert!(last < first);
                    }
                }
            }
        }
    }
}
