//! Shelves: how files of one piece are found without keys of their own.
//!
//! Four of five packages are one piece, and most are small: to announce each would cost more than it saves. So a host says
//! only that it has *something* of a part of a suite. Who wants such a file looks that up, and asks some of the peers found,
//! in one question for all that it wants, which of these they hold (`/~/have`, see the upload station).
//!
//! ```text
//!  file --its archive--> suites that list it --and the first 5 bits of its hash--> shelves (suite, shard 0..31)
//!  key   SHA-256("apt-huddle/1 shelf" || secret || name of the suite || shard, 1 byte)[..20]
//! ```
//!
//! **The suite** is named by signed fields alone ([`SuiteName`]), so hosts with different mirrors mean the same. A file may be
//! listed by several: its holder announces all of their shelves, and who looks for it asks all of its own, so that they
//! meet when they have one suite in common. Holders on another suite are not found, though it may have the same file; to look
//! beyond one's own suites would ask hosts that most often have another version.
//!
//! **32 shards**, by the figures of 5,000 packages, 4,050 of them one piece: 32 records a suite in the place of 4,050, and
//! the records of three suites are a hundred. A hundred files upgraded together are some 30 searches in the place of a
//! hundred; a thousand still are 32, which 32 times eight peers answer. More shards would spare nobody a question, since a host with thousands of files
//! is in all of them until there are thousands; fewer would put those who hold a dozen files among the candidates of all.
//! A suite that a million hosts share fills its keys: storers keep some holders and give a part by lot, so that the asking is
//! spread, and any of them is as good as the others.
//!
//! **Privacy.** The DHT learns the suite and five bits of what is looked for or held, and never which version. The hashes
//! themselves are shown to a few peers of the shelf; by a key of its own, a file would be shown to all who store that key. All
//! keys depend on the network's secret. The domain of the hash is another than that of files, so that no file's key is a shelf's.

use crate::{
    archive::{Shareable, SuiteName},
    hash::{ContentHash, Expected, PieceChain},
};

use super::{claim::Publication, id::Id, realm::Realm};

/// Shards of a suite.
pub const SHARDS: u8 = 32;

/// A part of a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shelf {
    suite: SuiteName,
    shard: u8,
}

impl Shelf {
    /// Where a file of one piece stands, among those of a suite that lists it.
    pub fn of(suite: SuiteName, file: &ContentHash) -> Self {
        Self { suite, shard: file.as_bytes()[0] / (u8::MAX / SHARDS + 1) }
    }

    /// The suite.
    pub fn suite(&self) -> &SuiteName {
        &self.suite
    }

    /// Which part of it, below [`SHARDS`].
    pub fn shard(&self) -> u8 {
        self.shard
    }
}

/// Whether files of that size are found by shelf.
pub fn is_shelved(file: &Expected) -> bool {
    file.pieces() == 1
}

/// What a host says that it has, by the handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announcement {
    /// A file, and its piece hashes.
    File(Shareable, PieceChain),
    /// Something of a shelf.
    Shelf(Shelf),
}

/// The same to the node, which asks for no proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A file, and its piece hashes.
    File(Expected, PieceChain),
    /// Something of a shelf.
    Shelf(Shelf),
}

impl Record {
    /// Where it is announced.
    pub fn key(&self, realm: &Realm) -> Id {
        match self {
            Self::File(expected, _) => realm.key(&expected.hash),
            Self::Shelf(shelf) => realm.shelf(shelf),
        }
    }

    /// What is announced there.
    pub(super) fn publication(&self) -> Publication {
        match self {
            Self::File(expected, chain) => Publication::of(expected, chain),
            Self::Shelf(_) => Publication::default(),
        }
    }
}

impl From<Announcement> for Record {
    fn from(announcement: Announcement) -> Self {
        match announcement {
            Announcement::File(file, chain) => Self::File(*file.expected(), chain),
            Announcement::Shelf(shelf) => Self::Shelf(shelf),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_spread_over_all_shards_and_both_sides_find_the_same_one() {
        let suite = SuiteName::of(Some("Debian"), Some("sid"));
        let shelf = |n: u32| Shelf::of(suite, &ContentHash::of(&n.to_be_bytes()));
        let mut counts = [0; SHARDS as usize];
        (0..3200).for_each(|n| counts[usize::from(shelf(n).shard())] += 1);
        assert!(counts.iter().all(|count| (50..200).contains(count)), "{counts:?}");
        assert_eq!(shelf(7), shelf(7));
    }

    #[test]
    fn keys_of_shelves_are_apart_by_suite_shard_and_secret_and_from_those_of_files() {
        let hash = ContentHash::new([0xff; 32]);
        let [debian, other] = ["Debian", "Other"].map(|origin| SuiteName::of(Some(origin), Some("sid")));
        let realms = [Realm::public(), Realm::private("one").unwrap()];
        let mut keys: Vec<Id> = Vec::new();
        for realm in &realms {
            keys.push(realm.key(&hash));
            keys.push(realm.key(&ContentHash::new(*debian.as_bytes())));
            for suite in [debian, other] {
                keys.push(realm.shelf(&Shelf::of(suite, &hash)));
                keys.push(realm.shelf(&Shelf::of(suite, &ContentHash::new([0; 32]))));
            }
        }
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }
}
