//! Why: on what the catalogue's word for a file hangs.
//!
//! A person asks seldom and may ask for anything, so that a question can lead through every promise there is. It has a
//! connection of its own for that: requests go on meanwhile.

use std::time::SystemTime;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Params, Row, params};

use crate::{
    archive::{Vouched, path},
    hash::{ContentHash, Expected},
};

use super::{
    Store, StoreError,
    catalogue::{expected, time},
};

/// Answers that are looked at, of which the caller shows the best.
const VOUCHINGS_MAX: usize = 4096;

/// Page cache in KiB: one pass through a table gains nothing by a large one.
const CACHE: i64 = 512;

/// A promise with what stands behind it. The joins are crossed to keep their order: only what is sought is joined.
const SELECT: &str = "
    SELECT p.hash, p.size, p.repository, p.path, p.current, r.shareable, l.path, l.hash, s.dir, s.date, s.signer, s.learned,
           (SELECT i.path FROM promise i
            WHERE i.hash = l.hash AND i.current = 1 AND i.repository = p.repository
                AND instr('/' || i.path, '/by-hash/') = 0 LIMIT 1)
    FROM promise p CROSS JOIN listing l ON l.id = p.listing CROSS JOIN suite s ON s.id = l.suite
        CROSS JOIN repository r ON r.id = p.repository";

/// By what a file is sought.
pub enum Sought<'a> {
    /// By `host[:port]/path`, normalised.
    At(&'a str),
    /// By its path below whichever repository, normalised.
    Path(&'a str),
    /// By its digest.
    Hash(ContentHash),
    /// By its name without folders.
    Named {
        /// The name begins so.
        begins: &'a str,
        /// Whether it is one that is sought.
        fits: &'a dyn Fn(&str) -> bool,
    },
}

/// One listing that vouches for a file, or did until lately, and what stands behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouching {
    /// The file; shareable when its repository may be named to strangers today.
    pub file: Vouched,
    /// Whether the listing names it in its latest version too.
    pub is_current: bool,
    /// Whether its repository was public when its Release was learned.
    pub was_public: bool,
    /// The index that names it; none when the Release does.
    pub index: Option<Index>,
    /// Folder of the Release below the repository.
    pub suite: String,
    /// When the Release was made.
    pub date: SystemTime,
    /// Who signed it: fingerprint, a space, and where the key comes from.
    pub signer: String,
    /// When the Release was learned.
    pub learned: SystemTime,
}

/// An index that was learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its path below the repository; without the ending of its compression when the Release lists it no more.
    pub path: String,
    /// Digest of the file that was learned.
    pub hash: ContentHash,
    /// Whether the Release that is known lists this very version.
    pub is_listed: bool,
}

/// Whether a file is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// Whole and proven.
    Held,
    /// Found on the disk, and not hashed yet.
    Unproven,
    /// On its way.
    Arriving,
    /// Not at all.
    Absent,
}

impl Store {
    /// Everything that vouches for what is sought, in no order.
    pub fn why(&self, sought: &Sought<'_>) -> Result<Vec<Vouching>, StoreError> {
        let catalogue = Connection::open_with_flags(
            self.0.config.path.join("catalogue.sqlite"),
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW,
        )?;
        catalogue.pragma_update(None, "cache_size", -CACHE)?;
        let all = |_: &str| true;
        match *sought {
            Sought::At(key) => {
                for (known, path) in self.0.repositories.split(key) {
                    let (condition, values) = ("p.repository = ?1 AND p.path = ?2", params![known.id, path]);
                    let found = self.vouchings(&catalogue, condition, values, &all)?;
                    if !found.is_empty() {
                        return Ok(found);
                    }
                }
                Ok(Vec::new())
            }
            Sought::Path(path) => {
                let condition = "p.repository IN (SELECT id FROM repository) AND p.path = ?1";
                self.vouchings(&catalogue, condition, [path], &all)
            }
            Sought::Hash(hash) => {
                let current = self.vouchings(&catalogue, "p.hash = ?1 AND p.current = 1", [hash.as_bytes()], &all)?;
                match current.is_empty() {
                    true => self.vouchings(&catalogue, "p.hash = ?1", [hash.as_bytes()], &all),
                    false => Ok(without_twins(current)),
                }
            }
            Sought::Named { begins, fits } => {
                // Not by LIKE, for which `_` and `%` in a name are more than themselves.
                let condition = "instr(p.path, '/' || ?1) > 0 OR substr(p.path, 1, length(?1)) = ?1";
                let fits = |path: &str| fits(path::split(path).1);
                self.vouchings(&catalogue, condition, [begins], &fits)
            }
        }
    }

    /// Whether a file is held, without opening it for anybody.
    pub fn holding(&self, file: &Expected) -> Result<Holding, StoreError> {
        let row: Option<(i64, bool)> = self
            .0
            .database
            .reader()
            .prepare_cached("SELECT size, chain IS NOT NULL FROM object WHERE hash = ?1")?
            .query_row([file.hash.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let (is_gone, is_arriving) = {
            let shelf = self.0.shelf();
            (shelf.is_gone(file.hash), shelf.arriving().contains(&file.hash))
        };
        let lies_there =
            || Ok::<_, StoreError>(self.0.objects.file(file.hash)?.is_some_and(|(_, len)| len == file.size));
        Ok(match row.filter(|&(size, _)| !is_gone && size.cast_unsigned() == file.size) {
            Some((_, proven)) if lies_there()? => {
                if proven {
                    Holding::Held
                } else {
                    Holding::Unproven
                }
            }
            _ if is_arriving => Holding::Arriving,
            _ => Holding::Absent,
        })
    }

    fn vouchings(
        &self,
        catalogue: &Connection,
        condition: &str,
        values: impl Params,
        fits: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<Vouching>, StoreError> {
        let mut statement = catalogue.prepare(&format!("{SELECT} WHERE {condition}"))?;
        let mut rows = statement.query(values)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            if fits(row.get_ref(3)?.as_str().map_err(rusqlite::Error::from)?) {
                found.extend(self.vouching(row)?);
            }
            if found.len() == VOUCHINGS_MAX {
                break;
            }
        }
        Ok(found)
    }

    /// `None` for a repository that is only just being learned.
    fn vouching(&self, row: &Row<'_>) -> Result<Option<Vouching>, StoreError> {
        let Some(known) = self.0.repositories.by_id(row.get(2)?) else { return Ok(None) };
        let suite: String = row.get(8)?;
        let (listing, listed): (String, Option<String>) = (row.get(6)?, row.get(12)?);
        let release = if suite.is_empty() { "Release".to_owned() } else { format!("{suite}/Release") };
        let index = match listing == release {
            true => None,
            false => Some(Index {
                hash: ContentHash::new(row.get(7)?),
                is_listed: listed.is_some(),
                path: listed.unwrap_or(listing),
            }),
        };
        Ok(Some(Vouching {
            file: known.vouch(expected(row)?, row.get(3)?),
            is_current: row.get(4)?,
            was_public: row.get(5)?,
            index,
            suite,
            date: time(row.get(9)?),
            signer: row.get(10)?,
            learned: time(row.get(11)?),
        }))
    }
}

/// A member of a Release is promised under its own path and by its hash: the latter says nothing more.
fn without_twins(found: Vec<Vouching>) -> Vec<Vouching> {
    let is_by_hash = |path: &str| path.starts_with("by-hash/") || path.contains("/by-hash/");
    let (by_hash, mut plain): (Vec<_>, Vec<_>) = found.into_iter().partition(|one| is_by_hash(one.file.path()));
    let alone = |one: &Vouching| plain.iter().all(|other| other.file.repository() != one.file.repository());
    let alone: Vec<_> = by_hash.into_iter().filter(alone).collect();
    plain.extend(alone);
    plain
}
