//! What: the questions that the catalogue answers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{OptionalExtension, Row, params};

use crate::{
    archive::{Repository, Vouched},
    hash::{ContentHash, Expected},
};

use super::{Store, StoreError};

/// Answers to "who vouches for this hash" at most; further ones say nothing new.
const VOUCHERS_MAX: i64 = 64;

/// A suite that was learned, for the status page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuiteInfo {
    /// Where it lives.
    pub repository: Repository,
    /// Directory of its Release below the repository.
    pub suite: String,
    /// When its Release was made.
    pub date: SystemTime,
    /// Who signed it.
    pub signer: String,
    /// Files that its Release and the indexes learned from it vouch for.
    pub files: u64,
    /// When it was learned.
    pub learned: SystemTime,
}

impl Store {
    /// What the file at `host[:port]/path`, normalised, must be, when a signed archive says. The longest known repository
    /// that the path lies in is asked first.
    pub fn promise(&self, key: &str) -> Result<Option<Vouched>, StoreError> {
        for (known, path) in self.0.repositories.split(key) {
            let found = self
                .0
                .database
                .reader()
                .prepare_cached(
                    "SELECT p.hash, p.size FROM promise p JOIN listing l ON l.id = p.listing
                     WHERE p.repository = ?1 AND p.path = ?2 ORDER BY p.current DESC, l.learned DESC, l.id LIMIT 1",
                )?
                .query_row(params![known.id, path], expected)
                .optional()?;
            if let Some(expected) = found {
                return Ok(Some(known.vouch(expected, path.to_owned())));
            }
        }
        Ok(None)
    }

    /// Who vouches for a file now; superseded versions have nobody.
    pub fn by_hash(&self, hash: ContentHash) -> Result<Vec<Vouched>, StoreError> {
        let reader = self.0.database.reader();
        let mut statement = reader.prepare_cached(
            "SELECT hash, size, repository, path FROM promise WHERE hash = ?1 AND current = 1 LIMIT ?2",
        )?;
        let mut rows = statement.query(params![hash.as_bytes(), VOUCHERS_MAX])?;
        let mut vouchers = Vec::new();
        while let Some(row) = rows.next()? {
            if let Some(known) = self.0.repositories.by_id(row.get(2)?) {
                vouchers.push(known.vouch(expected(row)?, row.get(3)?));
            }
        }
        Ok(vouchers)
    }

    /// Whether the entries of this very index are known already.
    pub fn learned(&self, index: &Vouched) -> Result<bool, StoreError> {
        let Some(known) = self.0.repositories.named(index.repository()) else { return Ok(false) };
        let hash = index.expected().hash;
        let found = self
            .0
            .database
            .reader()
            .prepare_cached("SELECT 1 FROM listing WHERE repository = ?1 AND hash = ?2")?
            .exists(params![known.id, hash.as_bytes()])?;
        Ok(found)
    }

    /// The suites that are known, in the order of their names.
    pub fn suites(&self) -> Result<Vec<SuiteInfo>, StoreError> {
        let reader = self.0.database.reader();
        let mut statement = reader.prepare_cached(
            "SELECT r.name, s.dir, s.date, s.signer, s.learned,
                    (SELECT coalesce(sum(l.files), 0) FROM listing l WHERE l.repository = s.repository AND l.suite = s.id)
             FROM suite s JOIN repository r ON r.id = s.repository ORDER BY r.name, s.dir",
        )?;
        let suites = statement.query_map([], |row| {
            Ok(SuiteInfo {
                repository: Repository::restore(&row.get::<_, String>(0)?),
                suite: row.get(1)?,
                date: time(row.get(2)?),
                signer: row.get(3)?,
                learned: time(row.get(4)?),
                files: row.get::<_, i64>(5)?.cast_unsigned(),
            })
        })?;
        Ok(suites.collect::<Result<_, _>>()?)
    }
}

/// Reads hash and size from the first two columns.
pub(super) fn expected(row: &Row<'_>) -> rusqlite::Result<Expected> {
    Ok(Expected { hash: ContentHash::new(row.get(0)?), size: row.get::<_, i64>(1)?.cast_unsigned() })
}

/// A time that was written down as seconds since 1970.
pub(super) fn time(seconds: i64) -> SystemTime {
    let span = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 { UNIX_EPOCH.checked_sub(span) } else { UNIX_EPOCH.checked_add(span) };
    time.unwrap_or(UNIX_EPOCH)
}
