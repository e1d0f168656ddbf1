//! Suites by name, and what is offered of them: what peers and the network are told, and no more.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    archive::{Repository, SuiteName},
    hash::{ContentHash, Expected},
};

use super::{Change, Store, StoreError, promises};

/// Objects looked at in one question for all that is offered; other readers get their turn between two.
const PAGE: i64 = 256;

/// Suites of one held file that are told of; the first ones in the order of their names, so that others choose the same.
pub const MAX_SUITES: usize = 4;

/// Suites of one file of which holders are looked for.
const MAX_LOOKED_AT: usize = 16;

/// A file that is held, vouched for by a public repository, and current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its digest and size.
    pub expected: Expected,
    /// Public suites that list it: at least one and at most [`MAX_SUITES`], in their order.
    pub suites: Vec<SuiteName>,
}

/// The names of suites by the listings that vouch for their files.
type Names = HashMap<u32, SuiteName>;

impl Store {
    /// Keeps what the Release of a suite names it by.
    pub fn name_suite(&self, repository: &Repository, suite_dir: &str, name: SuiteName) -> Result<(), StoreError> {
        let changed = self.0.database.writer().execute(
            "UPDATE suite SET name = ?3 WHERE dir = ?2 AND name IS NOT ?3
                 AND repository = (SELECT id FROM repository WHERE name = ?1)",
            params![repository.as_str(), suite_dir, name.as_bytes()],
        )?;
        if changed > 0 {
            self.0.tell(Change::Learned);
        }
        Ok(())
    }

    /// The public suites that list a file now, in the order of their names, of a great many the first; none when the file
    /// may not be named to strangers. Whoever holds it is told of by at most [`MAX_SUITES`] of its own.
    pub fn suites_of(&self, file: &Expected) -> Result<Vec<SuiteName>, StoreError> {
        let reader = self.0.database.reader();
        self.suites_in(&reader, file, MAX_LOOKED_AT, |listing| name_of(&reader, listing))
    }

    /// One file, when [`Store::offer`] would give it whole.
    pub fn listed(&self, hash: ContentHash) -> Result<Option<Listed>, StoreError> {
        let reader = self.0.database.reader();
        let size: Option<i64> = reader
            .prepare_cached("SELECT size FROM object WHERE hash = ?1 AND chain IS NOT NULL")?
            .query_row([hash.as_bytes()], |row| row.get(0))
            .optional()?;
        let Some(size) = size else { return Ok(None) };
        let expected = Expected { hash, size: size.cast_unsigned() };
        let suites = self.suites_in(&reader, &expected, MAX_SUITES, |listing| name_of(&reader, listing))?;
        drop(reader);
        let is_listed = !suites.is_empty() && !self.0.shelf().is_gone(hash);
        Ok(is_listed.then_some(Listed { expected, suites }))
    }

    /// Which of these [`Store::offer`] would give whole. Only files of one piece count: larger ones have keys of their own,
    /// and to learn of those is to cost more.
    pub fn holds(&self, hashes: &[ContentHash]) -> Result<Vec<bool>, StoreError> {
        let is_small = |listed: Listed| listed.expected.pieces() == 1;
        hashes.iter().map(|hash| Ok(self.listed(*hash)?.is_some_and(is_small))).collect()
    }

    /// All files that [`Store::offer`] would give whole.
    pub fn offered(&self) -> Result<Vec<Listed>, StoreError> {
        let names = names(&self.0.database.reader())?;
        let mut offered = Vec::new();
        let mut after = Vec::new();
        loop {
            let reader = self.0.database.reader();
            let mut statement = reader.prepare_cached(
                "SELECT hash, size FROM object WHERE hash > ?1 AND chain IS NOT NULL ORDER BY hash LIMIT ?2",
            )?;
            let mut rows = statement.query(params![after, PAGE])?;
            let mut last = None;
            while let Some(row) = rows.next()? {
                let hash = ContentHash::new(row.get(0)?);
                let expected = Expected { hash, size: row.get::<_, i64>(1)?.cast_unsigned() };
                let named = |listing| Ok(names.get(&listing).copied());
                let suites = self.suites_in(&reader, &expected, MAX_SUITES, named)?;
                if !suites.is_empty() {
                    offered.push(Listed { expected, suites });
                }
                last = Some(hash);
            }
            match last {
                Some(last) => after = last.as_bytes().to_vec(),
                None => break,
            }
        }
        let shelf = self.0.shelf();
        offered.retain(|listed| !shelf.is_gone(listed.expected.hash));
        Ok(offered)
    }

    fn suites_in(
        &self,
        reader: &Connection,
        file: &Expected,
        most: usize,
        name: impl Fn(u32) -> Result<Option<SuiteName>, StoreError>,
    ) -> Result<Vec<SuiteName>, StoreError> {
        let is_public = |id| self.0.repositories.by_id(id).is_some_and(|known| known.shareable);
        let mut suites = Vec::new();
        for (repository, found) in promises::of_hash(reader, file.hash)? {
            if found.expected == *file && is_public(repository) {
                suites.push(name(found.listing)?.unwrap_or_default());
            }
        }
        suites.sort();
        suites.dedup();
        suites.truncate(most);
        Ok(suites)
    }
}

fn name_of(connection: &Connection, listing: u32) -> Result<Option<SuiteName>, StoreError> {
    let name: Option<Option<[u8; 32]>> = connection
        .prepare_cached("SELECT s.name FROM listing l JOIN suite s ON s.id = l.suite WHERE l.id = ?1")?
        .query_row([listing], |row| row.get(0))
        .optional()?;
    Ok(name.flatten().map(SuiteName::restore))
}

fn names(connection: &Connection) -> Result<Names, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT l.id, s.name FROM listing l JOIN suite s ON s.id = l.suite")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, Option<[u8; 32]>>(1)?)))?;
    let mut names = Names::new();
    for row in rows {
        let (listing, name) = row?;
        names.extend(name.map(|name| (listing, SuiteName::restore(name))));
    }
    Ok(names)
}
