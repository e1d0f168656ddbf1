//! Pages: how promises lie in the catalogue's rows, many to a row.
//!
//! A row each would cost more than parsing the index that they come from, and a large part of what unpacking it costs.
//! So each repository has 4096 pages, and a path lies in the one that its key names; 65,000 promises are 16 to a page.
//!
//! ```text
//!  key       first 8 bytes of the path's SHA-256, its first 12 bits are the number of the page
//!  page      promise*, in the order of key, path and listing
//!  promise   key 8 | hash 32 | size 8 | listing 4 | current 1 bit, length of the path 15 bits | path
//!
//!  places    place*, in the order of their bytes: where a hash is currently promised; its first 12 bits are the number
//!  place     first 8 bytes of the hash | repository 4 | key 8
//! ```
//!
//! All numbers are big-endian. What a damaged row has lost is not promised: reading ends where it makes no sense.

use crate::{
    archive::path::MAX_PATH,
    hash::{ContentHash, Expected},
};

/// Pages of a repository, and of places.
pub(super) const PAGES: u64 = 1 << PAGE_BITS;
const PAGE_BITS: u32 = 12;

/// Bytes of a promise before its path.
const HEAD: usize = 54;
const CURRENT: u16 = 1 << 15;
const _: () = assert!(MAX_PATH < CURRENT as usize);

/// The key of a path.
pub(super) fn key(path: &str) -> u64 {
    first(ContentHash::of(path.as_bytes()).as_bytes())
}

/// The page that a key, or the beginning of a hash, belongs to.
pub(super) fn number(first: u64) -> u64 {
    first >> (u64::BITS - PAGE_BITS)
}

fn first(bytes: &[u8; 32]) -> u64 {
    u64::from_be_bytes(bytes[..8].try_into().expect("eight of 32"))
}

/// What one listing says of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Promise<'a> {
    pub(super) key: u64,
    pub(super) path: &'a str,
    pub(super) listing: u32,
    pub(super) expected: Expected,
    /// Whether the listing names it in its latest version.
    pub(super) current: bool,
}

impl<'a> Promise<'a> {
    /// What promises of a page are sorted by; no two of a page are equal in it.
    pub(super) fn order(&self) -> (u64, &'a str, u32) {
        (self.key, self.path, self.listing)
    }

    /// Appends it to a page.
    ///
    /// # Panics
    /// When the path is longer than [`MAX_PATH`].
    pub(super) fn write(&self, page: &mut Vec<u8>) {
        assert!(self.path.len() <= MAX_PATH, "the archive station normalises paths");
        let length = self.path.len() as u16 | if self.current { CURRENT } else { 0 };
        page.extend(self.key.to_be_bytes());
        page.extend(self.expected.hash.as_bytes());
        page.extend(self.expected.size.to_be_bytes());
        page.extend(self.listing.to_be_bytes());
        page.extend(length.to_be_bytes());
        page.extend(self.path.as_bytes());
    }

    fn read(page: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (head, rest) = page.split_at_checked(HEAD)?;
        let (key, head) = head.split_first_chunk()?;
        let (hash, head) = head.split_first_chunk()?;
        let (size, head) = head.split_first_chunk()?;
        let (listing, head) = head.split_first_chunk()?;
        let length = u16::from_be_bytes(head.try_into().ok()?);
        let (path, rest) = rest.split_at_checked(usize::from(length & !CURRENT))?;
        let promise = Self {
            key: u64::from_be_bytes(*key),
            path: str::from_utf8(path).ok()?,
            listing: u32::from_be_bytes(*listing),
            expected: Expected { hash: ContentHash::new(*hash), size: u64::from_be_bytes(*size) },
            current: length & CURRENT != 0,
        };
        Some((promise, rest))
    }

    /// Where it lies, for whoever knows only the hash.
    pub(super) fn place(&self, repository: u32) -> Place {
        Place { hash: first(self.expected.hash.as_bytes()), repository, key: self.key }
    }
}

/// The promises of a page.
pub(super) fn promises(mut page: &[u8]) -> impl Iterator<Item = Promise<'_>> {
    std::iter::from_fn(move || {
        let (promise, rest) = Promise::read(page)?;
        page = rest;
        Some(promise)
    })
}

/// Where a hash is currently promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// How the hash begins.
    pub(super) hash: u64,
    pub(super) repository: u32,
    pub(super) key: u64,
}

impl Place {
    const LENGTH: usize = 20;

    /// Appends it to a row.
    pub(super) fn write(&self, places: &mut Vec<u8>) {
        places.extend(self.hash.to_be_bytes());
        places.extend(self.repository.to_be_bytes());
        places.extend(self.key.to_be_bytes());
    }

    fn read(place: &[u8; Self::LENGTH]) -> Self {
        let (hash, rest) = place.split_first_chunk().expect("eight of 20");
        let (repository, key) = rest.split_first_chunk().expect("four of 12");
        Self {
            hash: u64::from_be_bytes(*hash),
            repository: u32::from_be_bytes(*repository),
            key: u64::from_be_bytes(key.try_into().expect("eight are left")),
        }
    }
}

/// The places of a row.
pub(super) fn places(row: &[u8]) -> impl Iterator<Item = Place> {
    row.as_chunks().0.iter().map(Place::read)
}

/// The places of a row that a hash may be found at.
pub(super) fn places_of(row: &[u8], hash: ContentHash) -> impl Iterator<Item = Place> {
    let hash = first(hash.as_bytes());
    let all = row.as_chunks().0;
    let from = all.partition_point(|place| Place::read(place).hash < hash);
    all[from..].iter().map(Place::read).take_while(move |place| place.hash == hash)
}

/// The row of places that a hash belongs to.
pub(super) fn number_of(hash: ContentHash) -> u64 {
    number(first(hash.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn promise(path: &str, listing: u32, current: bool) -> Promise<'_> {
        let expected = Expected { hash: ContentHash::of(&listing.to_be_bytes()), size: u64::from(listing) << 20 };
        Promise { key: key(path), path, listing, expected, current }
    }

    fn page(promises: &[Promise<'_>]) -> Vec<u8> {
        let mut page = Vec::new();
        promises.iter().for_each(|promise| promise.write(&mut page));
        page
    }

    #[test]
    fn a_page_that_is_cut_or_garbled_keeps_what_stands_before() {
        let longest = "x".repeat(MAX_PATH);
        let written = [promise("pool/a.deb", 1, true), promise("pool/ä.deb", 2, false), promise(&longest, 3, true)];
        let page = page(&written);
        assert!(promises(&page).eq(written));
        for cut in 0..page.len() {
            let read: Vec<_> = promises(&page[..cut]).collect();
            assert!(read.len() < written.len() && read == written[..read.len()], "cut at {cut}");
        }
        let mut garbled = page;
        garbled[HEAD] = 0xff;
        assert_eq!(promises(&garbled).count(), 0);
    }

    #[test]
    fn a_hash_is_found_at_all_of_its_places_and_no_others() {
        let hash = |n: u8| ContentHash::new([n; 32]);
        let mut all: Vec<_> = [(3, 1, 7), (1, 1, 5), (3, 2, 7), (3, 1, 9), (9, 1, 1)]
            .map(|(n, repository, key)| Place { hash: first(hash(n).as_bytes()), repository, key })
            .into();
        all.sort();
        let mut row = Vec::new();
        all.iter().for_each(|place| place.write(&mut row));
        assert!(places(&row).eq(all.iter().copied()));
        let found = |n| places_of(&row, hash(n)).map(|place| (place.repository, place.key)).collect::<Vec<_>>();
        assert_eq!(found(3), [(1, 7), (1, 9), (2, 7)]);
        assert_eq!(found(9), [(1, 1)]);
        assert_eq!(found(2), []);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let read: usize = promises(&bytes).map(|promise| HEAD + promise.path.len()).sum();
            prop_assert!(read <= bytes.len());
            prop_assert!(places(&bytes).count() * Place::LENGTH <= bytes.len());
        }
    }
}
