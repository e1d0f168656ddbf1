//! Promises: found by path or by hash, and brought up to date listing by listing.
//!
//! A page is written only when something in it changed, so what an update costs beyond one look at the pages follows
//! from the difference. The rows of places are derived from the pages and change with them, in the same transaction.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::{
    archive::path::MAX_PATH,
    hash::{ContentHash, Expected},
};

use super::{
    StoreError,
    pages::{self, PAGES, Place, Promise},
};

/// Places of one hash that are looked at; of the many equal empty files of an archive, some will do.
const PLACES_MAX: usize = 1024;

/// Most paths of one update; Debian's largest index has some 110,000.
const NAMED_MAX: usize = 1_000_000;

/// Most bytes that their paths may take together, in memory.
const PATHS_MAX: usize = 64 << 20;

/// A promise that was looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: String,
    pub(super) listing: u32,
    pub(super) expected: Expected,
    pub(super) current: bool,
}

impl From<Promise<'_>> for Found {
    fn from(promise: Promise<'_>) -> Self {
        let Promise { path, listing, expected, current, .. } = promise;
        Self { path: path.to_owned(), listing, expected, current }
    }
}

/// What is promised of a path, superseded promises too.
pub(super) fn at_path(connection: &Connection, repository: u32, path: &str) -> Result<Vec<Found>, StoreError> {
    in_page(connection, repository, pages::key(path), |promise| promise.path == path)
}

/// The current promises of a hash, with their repositories.
pub(super) fn of_hash(connection: &Connection, hash: ContentHash) -> Result<Vec<(u32, Found)>, StoreError> {
    let mut promised = Vec::new();
    for place in places_of(connection, hash)? {
        let wanted = |promise: &Promise<'_>| promise.current && promise.expected.hash == hash;
        let found = in_page(connection, place.repository, place.key, wanted)?;
        promised.extend(found.into_iter().map(|found| (place.repository, found)));
    }
    Ok(promised)
}

/// Whether a hash is currently promised; of those that begin alike, one is taken for the other.
pub(super) fn is_current(connection: &Connection, hash: ContentHash) -> Result<bool, StoreError> {
    Ok(!places_of(connection, hash)?.is_empty())
}

fn in_page(
    connection: &Connection,
    repository: u32,
    key: u64,
    wanted: impl Fn(&Promise<'_>) -> bool,
) -> Result<Vec<Found>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT promises FROM page WHERE id = ?1")?;
    let mut rows = statement.query([page_id(repository, pages::number(key))])?;
    let Some(row) = rows.next()? else { return Ok(Vec::new()) };
    let page = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
    let of_key = pages::promises(page).filter(|promise| promise.key == key && wanted(promise));
    Ok(of_key.map(Found::from).collect())
}

/// Looks through every promise there is, superseded ones too, for those that are wanted, up to so many.
pub(super) fn scan(
    connection: &Connection,
    most: usize,
    wanted: impl Fn(&Promise<'_>) -> bool,
) -> Result<Vec<(u32, Found)>, StoreError> {
    let mut statement = connection.prepare("SELECT id, promises FROM page")?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let repository = (row.get::<_, i64>(0)?.cast_unsigned() / PAGES) as u32;
        let page = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        let here = pages::promises(page).filter(&wanted).map(|promise| (repository, Found::from(promise)));
        found.extend(here.take(most - found.len()));
    }
    Ok(found)
}

fn places_of(connection: &Connection, hash: ContentHash) -> Result<Vec<Place>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT places FROM places WHERE id = ?1")?;
    let mut rows = statement.query([pages::number_of(hash).cast_signed()])?;
    let Some(row) = rows.next()? else { return Ok(Vec::new()) };
    Ok(pages::places_of(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?, hash).take(PLACES_MAX).collect())
}

fn page_id(repository: u32, number: u64) -> i64 {
    (u64::from(repository) * PAGES + number).cast_signed()
}

/// What a listing names, gathered before the catalogue is touched.
#[derive(Default)]
pub(super) struct Named {
    paths: String,
    rows: Vec<Row>,
}

struct Row {
    key: u64,
    at: u32,
    length: u16,
    expected: Expected,
}

impl Named {
    /// Adds a path. What is named twice is what was said last. `false` when there is no room for more.
    pub(super) fn push(&mut self, path: &str, expected: &Expected) -> bool {
        if self.rows.len() == NAMED_MAX || self.paths.len() + path.len() > PATHS_MAX {
            return false;
        }
        if path.len() <= MAX_PATH {
            let (at, length) = (self.paths.len() as u32, path.len() as u16);
            self.rows.push(Row { key: pages::key(path), at, length, expected: *expected });
            self.paths.push_str(path);
        }
        true
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    fn path(&self, row: &Row) -> &str {
        &self.paths[row.at as usize..][..usize::from(row.length)]
    }

    fn sort(&mut self) {
        let mut rows = std::mem::take(&mut self.rows);
        rows.sort_unstable_by(|a, b| (a.key, self.path(a), b.at).cmp(&(b.key, self.path(b), a.at)));
        rows.dedup_by(|next, kept| (next.key, self.path(next)) == (kept.key, self.path(kept)));
        self.rows = rows;
    }
}

/// What becomes of a listing's promises.
pub(super) struct Update<'a> {
    pub(super) repository: u32,
    pub(super) listing: u32,
    /// Whether the listing had no promises before.
    pub(super) fresh: bool,
    /// Which paths, once they are not named any more, are not right for a version longer.
    pub(super) at_once: fn(&str) -> bool,
    /// Listings that go, with all that they promised.
    pub(super) dropped: &'a HashSet<u32>,
}

impl Update<'_> {
    /// Makes the listing's promises those that are named.
    pub(super) fn apply(&self, transaction: &Transaction<'_>, mut named: Named) -> Result<(), StoreError> {
        named.sort();
        let mut select = transaction.prepare_cached("SELECT promises FROM page WHERE id = ?1")?;
        let mut replace = transaction.prepare_cached("INSERT OR REPLACE INTO page (id, promises) VALUES (?1, ?2)")?;
        let mut delete = transaction.prepare_cached("DELETE FROM page WHERE id = ?1")?;
        let mut moved = Moved::default();
        let mut after = Vec::new();
        let mut rest = &named.rows[..];
        for number in 0..PAGES {
            let here;
            (here, rest) = rest.split_at(rest.partition_point(|row| pages::number(row.key) <= number));
            if here.is_empty() && self.fresh && self.dropped.is_empty() {
                continue;
            }
            let id = page_id(self.repository, number);
            let mut rows = select.query([id])?;
            let before = match rows.next()? {
                Some(row) => row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?,
                None => &[],
            };
            after.clear();
            self.merge(before, here.iter().map(|row| self.promise(&named, row)), &mut after);
            if before == after {
                continue;
            }
            moved.note(self.repository, before, &after);
            drop(rows);
            match after.as_slice() {
                [] => delete.execute([id])?,
                page => replace.execute(params![id, page])?,
            };
        }

        moved.apply(transaction)
    }

    fn promise<'n>(&self, named: &'n Named, row: &Row) -> Promise<'n> {
        let path = named.path(row);
        Promise { key: row.key, path, listing: self.listing, expected: row.expected, current: true }
    }

    fn merge<'n>(&self, before: &[u8], named: impl Iterator<Item = Promise<'n>>, after: &mut Vec<u8>) {
        let mut old = pages::promises(before).peekable();
        let keep = |promise: Promise<'_>, after: &mut Vec<u8>| {
            if let Some(promise) = self.unnamed(promise) {
                promise.write(after);
            }
        };
        for new in named {
            while let Some(other) = old.next_if(|old| old.order() < new.order()) {
                keep(other, after);
            }
            let _replaced = old.next_if(|old| old.order() == new.order());
            new.write(after);
        }
        old.for_each(|promise| keep(promise, after));
    }

    /// What is left of a promise that was not named: from current to superseded, from there to nothing.
    fn unnamed<'p>(&self, promise: Promise<'p>) -> Option<Promise<'p>> {
        match promise.listing {
            listing if self.dropped.contains(&listing) => None,
            listing if listing != self.listing => Some(promise),
            _ if promise.current && !(self.at_once)(promise.path) => Some(Promise { current: false, ..promise }),
            _ => None,
        }
    }
}

/// Places that an update adds and takes away.
#[derive(Default)]
struct Moved {
    /// `true` for those that come.
    places: Vec<(Place, bool)>,
}

impl Moved {
    fn note(&mut self, repository: u32, before: &[u8], after: &[u8]) {
        let places = |page| {
            let current = pages::promises(page).filter(|promise| promise.current);
            let mut places: Vec<_> = current.map(|promise| promise.place(repository)).collect();
            places.sort_unstable();
            places.dedup();
            places
        };
        let (before, after) = (places(before), places(after));
        let without = |these: &[Place], those: &[Place], come| {
            let only = these.iter().filter(|place| those.binary_search(place).is_err());
            only.map(|place| (*place, come)).collect::<Vec<_>>()
        };
        self.places.extend(without(&before, &after, false));
        self.places.extend(without(&after, &before, true));
    }

    fn apply(mut self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        self.places.sort_unstable();
        let mut select = transaction.prepare_cached("SELECT places FROM places WHERE id = ?1")?;
        let mut replace = transaction.prepare_cached("INSERT OR REPLACE INTO places (id, places) VALUES (?1, ?2)")?;
        let mut delete = transaction.prepare_cached("DELETE FROM places WHERE id = ?1")?;
        for moved in self.places.chunk_by(|(a, _), (b, _)| pages::number(a.hash) == pages::number(b.hash)) {
            let id = pages::number(moved[0].0.hash).cast_signed();
            let before: Option<Vec<u8>> = select.query_row([id], |row| row.get(0)).optional()?;
            let gone = |place: &Place| moved.binary_search(&(*place, false)).is_ok();
            let stay = before.iter().flat_map(|row| pages::places(row)).filter(|place| !gone(place));
            let mut places: Vec<_> =
                stay.chain(moved.iter().filter(|(_, come)| *come).map(|(place, _)| *place)).collect();
            places.sort_unstable();
            places.dedup();
            let mut row = Vec::new();
            places.iter().for_each(|place| place.write(&mut row));
            match row.as_slice() {
                [] => delete.execute([id])?,
                row => replace.execute(params![id, row])?,
            };
        }
        Ok(())
    }
}
