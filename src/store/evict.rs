//! Eviction: what to give up for room, as a function of sizes, uses and roles.
//!
//! ```text
//!  goes first   superseded, while a newer version of the package is held or nobody knows it
//!               the newest held version of a package, superseded or not named any more
//!               what an archive names in its current version
//!  goes last    what a suite's last two publications name of metadata
//!  stays        what is being read, being fetched anew, or pinned;
//!               what is current and few others have, up to a part of the quota
//! ```
//!
//! Within a rank the longest unused goes first, weighted by what it costs to get again: a file costs its bytes and a round
//! trip, so that small ones, which free little, stay longer. Age is counted in uses, so that no clock has a say. When even
//! all that may go would not make the room asked for, nothing is given up for nothing.

use std::cmp::Reverse;

use crate::hash::ContentHash;

/// What the round trip to get a file again is taken to cost, in bytes.
const ROUND_TRIP: u64 = 64 * 1024;

/// How many times longer the smallest file stays than a large one.
const LONGEST: u64 = 16;

/// What a file is to its archive; what goes first comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// No archive names it in its current version, and there is better or nothing is known.
    Superseded,
    /// No archive names it in its current version, and no newer version of the package is held.
    Last,
    /// An archive names it in its current version.
    Current,
    /// Metadata of one of the last two publications of a suite.
    Metadata,
}

/// A file held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) hash: ContentHash,
    /// Bytes.
    pub(super) size: u64,
    /// The use count when it was last used.
    pub(super) used: u64,
    pub(super) role: Role,
    /// Few others had it when it was fetched, and it may be shared.
    pub(super) rare: bool,
    /// Being read, or being fetched anew, or pinned.
    pub(super) kept: bool,
}

impl Candidate {
    /// How long it was not used, in uses, over what it costs to get again; sixteenths.
    fn age(&self, uses: u64) -> u128 {
        let age = u128::from(uses.saturating_sub(self.used)) * u128::from(LONGEST);
        let (size, least) = (u128::from(self.size), age / u128::from(LONGEST));
        (age * size / (size + u128::from(ROUND_TRIP))).max(least)
    }

    fn rank(&self, uses: u64) -> (Role, Reverse<u128>, u64, ContentHash) {
        (self.role, Reverse(self.age(uses)), self.used, self.hash)
    }
}

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Bytes that are needed.
    pub(super) need: u64,
    /// Bytes beyond, when those are to be had, so that the next caller need not ask.
    pub(super) spare: u64,
    /// Uses counted so far.
    pub(super) uses: u64,
    /// Bytes of current files that few others have which stay, those used last before others.
    pub(super) rare_room: u64,
}

/// Chooses files of `need` bytes together, and some to spare. `None` when there are not `need` bytes to be freed.
pub(super) fn plan(mut candidates: Vec<Candidate>, terms: Terms) -> Option<Vec<Candidate>> {
    candidates.retain(|candidate| !candidate.kept);
    keep_rare(&mut candidates, terms.rare_room);
    candidates.sort_unstable_by_key(|candidate| candidate.rank(terms.uses));
    let goal = terms.need.saturating_add(terms.spare);
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
    (freed >= terms.need).then_some(candidates)
}

/// Takes out what is current and rare, up to so many bytes, what was used last first.
fn keep_rare(candidates: &mut Vec<Candidate>, mut room: u64) {
    let is_rare = |candidate: &Candidate| candidate.rare && candidate.role >= Role::Current;
    candidates.sort_unstable_by_key(|candidate| (Reverse(candidate.used), candidate.hash));
    candidates.retain(|candidate| {
        let stays = is_rare(candidate) && candidate.size <= room;
        room -= if stays { candidate.size } else { 0 };
        !stays
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(name: u8, size: u64, used: u64, role: Role) -> Candidate {
        Candidate { hash: ContentHash::new([name; 32]), size, used, role, rare: false, kept: false }
    }

    fn terms(need: u64, spare: u64) -> Terms {
        Terms { need, spare, uses: 1000, rare_room: 0 }
    }

    fn names(plan: Option<Vec<Candidate>>) -> Option<Vec<u8>> {
        plan.map(|chosen| chosen.iter().map(|candidate| candidate.hash.as_bytes()[0]).collect())
    }

    #[test]
    fn what_is_superseded_goes_before_older_ones_and_metadata_last() {
        let held = vec![
            candidate(1, 10, 1, Role::Metadata),
            candidate(2, 10, 3, Role::Current),
            candidate(3, 10, 9, Role::Superseded),
            candidate(4, 10, 5, Role::Last),
        ];
        assert_eq!(names(plan(held.clone(), terms(10, 0))), Some(vec![3]));
        assert_eq!(names(plan(held.clone(), terms(11, 0))), Some(vec![3, 4]));
        assert_eq!(names(plan(held, terms(10, 30))), Some(vec![3, 4, 2, 1]));
    }

    #[test]
    fn a_small_file_stays_longer_than_a_large_one_and_not_for_ever() {
        let (small, large) = (candidate(1, 1_000, 500, Role::Current), candidate(2, 10 << 20, 900, Role::Current));
        assert_eq!(names(plan(vec![small, large], terms(1, 0))), Some(vec![2]), "half as old, a sixteenth as heavy");
        let large = Candidate { used: 980, ..large };
        assert_eq!(names(plan(vec![small, large], terms(1, 0))), Some(vec![1]));
    }

    #[test]
    fn what_is_kept_stays_and_an_impossible_need_costs_nothing() {
        let mut held = vec![candidate(1, 10, 1, Role::Current), candidate(2, 10, 2, Role::Current)];
        held[0].kept = true;
        assert_eq!(names(plan(held.clone(), terms(10, 100))), Some(vec![2]));
        assert_eq!(plan(held, terms(11, 0)), None);
        assert_eq!(names(plan(Vec::new(), terms(0, 5))), Some(vec![]));
    }

    #[test]
    fn what_few_others_have_stays_as_far_as_its_room_goes() {
        let rare = |name, used, role| Candidate { rare: true, ..candidate(name, 10, used, role) };
        let held = vec![
            rare(1, 1, Role::Current),
            rare(2, 2, Role::Current),
            rare(3, 3, Role::Superseded),
            candidate(4, 10, 4, Role::Current),
        ];
        let room = |rare_room, need| names(plan(held.clone(), Terms { rare_room, ..terms(need, 0) }));
        assert_eq!(room(20, 20), Some(vec![3, 4]));
        assert_eq!(room(20, 21), None);
        assert_eq!(room(10, 30), Some(vec![3, 1, 4]), "the one used last stays");
    }

    fn role() -> impl Strategy<Value = Role> {
        prop::sample::select(vec![Role::Superseded, Role::Last, Role::Current, Role::Metadata])
    }

    proptest! {
        #[test]
        fn what_goes_suffices_and_ranks_before_all_that_stays(
            held in prop::collection::vec((1_u64..200_000, 0_u64..50, role(), any::<bool>(), any::<bool>()), 0..40),
            need in 0_u64..2_000_000,
            spare in 0_u64..200_000,
            rare_room in 0_u64..500_000,
        ) {
            let held: Vec<Candidate> = held
                .into_iter()
                .zip(0_u8..)
                .map(|((size, used, role, rare, kept), name)| {
                    Candidate { rare, kept, ..candidate(name, size, used, role) }
                })
                .collect();
            let mut free: Vec<_> = held.iter().filter(|held| !held.kept).copied().collect();
            let all: u64 = free.iter().map(|held| held.size).sum();
            keep_rare(&mut free, rare_room);
            let sum: u64 = free.iter().map(|held| held.size).sum();
            prop_assert!(all - sum <= rare_room);
            match plan(held.clone(), Terms { need, spare, uses: 60, rare_room }) {
                None => prop_assert!(sum < need),
                Some(gone) => {
                    let freed: u64 = gone.iter().map(|gone| gone.size).sum();
                    prop_assert!(freed >= need);
                    prop_assert!(gone.iter().all(|gone| free.contains(gone)));
                    prop_assert!(gone.split_last().is_none_or(|(last, _)| freed - last.size < need + spare));
                    let rank = |held: &Candidate| held.rank(60);
                    let stays = free.iter().filter(|held| !gone.contains(held)).map(rank).min();
                    if let (Some(last), Some(first)) = (gone.iter().map(rank).max(), stays) {
                        prop_assert!(last < first);
                    }
                }
            }
        }

        #[test]
        fn the_younger_and_the_dearer_of_two_never_goes_first(
            size in 0_u64..1 << 30, smaller in 0_u64..1 << 30, used in 0_u64..1000, later in 0_u64..1000,
        ) {
            let old = candidate(1, size.max(smaller), used.min(later), Role::Current);
            let young = candidate(2, size.min(smaller), used.max(later), Role::Current);
            prop_assert!(old.age(1000) >= young.age(1000));
        }
    }
}
