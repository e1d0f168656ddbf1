//! What is held, and so what there is to tell of: larger files by themselves, those of one piece by their shelves.
//!
//! A shelf is told of from the first file that stands on it to the last one, whichever these are. A machine without clock.

use std::collections::{HashMap, hash_map::Entry};

use crate::{
    dht::{Shelf, is_shelved},
    hash::ContentHash,
    store::Listed,
};

/// Something that is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// A file of several pieces.
    File(ContentHash),
    /// Something of a shelf.
    Shelf(Shelf),
}

/// What a change of the holdings means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is told of from now on.
    Begin(Topic),
    /// There is something new to tell of it.
    Again(Topic),
    /// It is not told of any more.
    End(Topic),
}

/// Files that are held, or on their way.
#[derive(Debug, Default)]
pub struct Holdings {
    files: HashMap<ContentHash, Stand>,
    /// How many files stand on each.
    shelves: HashMap<Shelf, usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stand {
    /// Not whole yet.
    Unfinished,
    Whole,
    On(Vec<Shelf>),
}

impl Holdings {
    /// A file of many pieces is on its way.
    pub fn handle_begun(&mut self, hash: ContentHash) -> Vec<Step> {
        match self.files.entry(hash) {
            Entry::Occupied(_) => Vec::new(),
            Entry::Vacant(vacant) => {
                vacant.insert(Stand::Unfinished);
                vec![Step::Begin(Topic::File(hash))]
            }
        }
    }

    /// A file is held, or is listed by other suites than before.
    pub fn handle_listed(&mut self, listed: &Listed) -> Vec<Step> {
        let hash = listed.expected.hash;
        let topic = Topic::File(hash);
        if is_shelved(&listed.expected) {
            return self.put(hash, listed.suites.iter().map(|suite| Shelf::of(*suite, &hash)).collect());
        }
        match self.files.insert(hash, Stand::Whole) {
            None => vec![Step::Begin(topic)],
            Some(Stand::Unfinished) => vec![Step::Again(topic)],
            Some(Stand::Whole | Stand::On(_)) => Vec::new(),
        }
    }

    /// A file is held no more, or may not be told of.
    pub fn handle_gone(&mut self, hash: ContentHash) -> Vec<Step> {
        match self.files.remove(&hash) {
            None => Vec::new(),
            Some(Stand::Unfinished | Stand::Whole) => vec![Step::End(Topic::File(hash))],
            Some(Stand::On(shelves)) => self.take(&shelves),
        }
    }

    /// A file that was on its way will not be held.
    pub fn handle_withdrawn(&mut self, hash: ContentHash) -> Vec<Step> {
        if self.files.get(&hash) == Some(&Stand::Unfinished) { self.handle_gone(hash) } else { Vec::new() }
    }

    /// The files that are whole.
    pub fn whole(&self) -> impl Iterator<Item = ContentHash> {
        self.files.iter().filter(|(_, stand)| **stand != Stand::Unfinished).map(|(hash, _)| *hash)
    }

    fn put(&mut self, hash: ContentHash, shelves: Vec<Shelf>) -> Vec<Step> {
        let before = match self.files.get(&hash) {
            Some(Stand::On(before)) if *before == shelves => return Vec::new(),
            Some(Stand::On(before)) => before.clone(),
            _ => Vec::new(),
        };
        let mut steps = Vec::new();
        for shelf in &shelves {
            let count = self.shelves.entry(*shelf).or_default();
            *count += 1;
            if *count == 1 {
                steps.push(Step::Begin(Topic::Shelf(*shelf)));
            }
        }
        self.files.insert(hash, Stand::On(shelves));
        steps.extend(self.take(&before));
        steps
    }

    fn take(&mut self, shelves: &[Shelf]) -> Vec<Step> {
        let mut steps = Vec::new();
        for shelf in shelves {
            let count = self.shelves.get_mut(shelf).expect("it is counted as long as a file stands on it");
            *count -= 1;
            if *count == 0 {
                self.shelves.remove(shelf);
                steps.push(Step::End(Topic::Shelf(*shelf)));
            }
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        archive::SuiteName,
        hash::{Expected, PIECE_SIZE},
    };

    use super::*;

    fn suite(name: &str) -> SuiteName {
        SuiteName::of(Some("Debian"), Some(name))
    }

    fn listed(first: u8, second: u8, suites: &[SuiteName]) -> Listed {
        let mut hash = [0; 32];
        (hash[0], hash[1]) = (first, second);
        Listed { expected: Expected { hash: ContentHash::new(hash), size: 7 }, suites: suites.to_vec() }
    }

    #[test]
    fn a_shelf_is_told_of_from_its_first_file_to_its_last() {
        let mut holdings = Holdings::default();
        let files = [listed(8, 1, &[suite("sid")]), listed(8, 2, &[suite("sid")]), listed(16, 1, &[suite("sid")])];
        let shelf = |n: usize| Topic::Shelf(Shelf::of(suite("sid"), &files[n].expected.hash));
        assert_eq!(shelf(0), shelf(1));
        assert_eq!(holdings.handle_listed(&files[0]), [Step::Begin(shelf(0))]);
        assert_eq!(holdings.handle_listed(&files[0]), []);
        assert_eq!(holdings.handle_listed(&files[1]), []);
        assert_eq!(holdings.handle_listed(&files[2]), [Step::Begin(shelf(2))]);
        assert_eq!(holdings.whole().count(), 3);
        assert_eq!(holdings.handle_gone(files[0].expected.hash), []);
        assert_eq!(holdings.handle_gone(files[0].expected.hash), []);
        assert_eq!(holdings.handle_gone(files[1].expected.hash), [Step::End(shelf(0))]);
        assert_eq!(holdings.handle_listed(&files[1]), [Step::Begin(shelf(0))]);
    }

    #[test]
    fn a_file_stands_on_a_shelf_of_each_suite_that_lists_it_now() {
        let mut holdings = Holdings::default();
        let [sid, trixie] = [suite("sid"), suite("trixie")];
        let file = |suites: &[SuiteName]| listed(8, 1, suites);
        let shelf = |suite| Topic::Shelf(Shelf::of(suite, &file(&[]).expected.hash));
        let both = holdings.handle_listed(&file(&[sid, trixie]));
        assert_eq!(both, [Step::Begin(shelf(sid)), Step::Begin(shelf(trixie))]);
        assert_eq!(holdings.handle_listed(&file(&[trixie])), [Step::End(shelf(sid))]);
        assert_eq!(holdings.handle_gone(file(&[]).expected.hash), [Step::End(shelf(trixie))]);
    }

    #[test]
    fn larger_files_are_told_of_by_themselves_and_again_when_they_are_whole() {
        let mut holdings = Holdings::default();
        let mut file = listed(8, 1, &[suite("sid")]);
        file.expected.size = PIECE_SIZE + 1;
        let (hash, topic) = (file.expected.hash, Topic::File(file.expected.hash));
        assert_eq!(holdings.handle_begun(hash), [Step::Begin(topic)]);
        assert_eq!(holdings.handle_withdrawn(hash), [Step::End(topic)]);
        assert_eq!(holdings.handle_begun(hash), [Step::Begin(topic)]);
        assert_eq!(holdings.handle_listed(&file), [Step::Again(topic)]);
        assert_eq!(holdings.handle_listed(&file), []);
        assert_eq!(holdings.handle_withdrawn(hash), []);
        assert_eq!(holdings.handle_gone(hash), [Step::End(topic)]);
    }
}
