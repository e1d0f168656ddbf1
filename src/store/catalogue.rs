//! What: the questions that the catalogue answers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension};

use crate::{
    archive::{Repository, Vouched, by_hash},
    hash::ContentHash,
};

use super::{
    Store, StoreError, learn,
    promises::{self, Found},
    repositories::Known,
};

/// Answers to "who vouches for this hash" at most; further ones say nothing new.
const VOUCHERS_MAX: usize = 64;

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
    /// Until when its Release may be believed, when that says so.
    pub valid_until: Option<SystemTime>,
}

impl Store {
    /// What the file at `host[:port]/path`, normalised, must be, when a signed archive says. Only the longest known
    /// repository that the path lies in is asked.
    pub fn promise(&self, key: &str) -> Result<Option<Vouched>, StoreError> {
        let split = self.0.repositories.split(key);
        split.map_or(Ok(None), |(known, path)| self.promised(&known, path))
    }

    /// What a file of a repository must be, by its path below that, whatever other repositories the path lies in.
    pub fn promise_in(&self, repository: &Repository, path: &str) -> Result<Option<Vouched>, StoreError> {
        let known = self.0.repositories.named(repository);
        known.map_or(Ok(None), |known| self.promised(&known, path))
    }

    fn promised(&self, known: &Known, path: &str) -> Result<Option<Vouched>, StoreError> {
        let reader = self.0.database.reader();
        let mut found = promises::at_path(&reader, known.id, path)?;
        if found.iter().any(|found| found.current) {
            found.retain(|found| found.current);
        }
        let disagree = found.windows(2).any(|two| two[0].expected != two[1].expected);
        let best = if disagree { latest(&reader, &found)? } else { found.first() };
        Ok(best.map(|best| known.vouch(best.expected, path.to_owned())))
    }

    /// Whether a repository lies inside or around another one that is known, so that both could speak for one path.
    pub fn is_nested(&self, repository: &Repository) -> bool {
        self.0.repositories.is_nested(repository)
    }

    /// Who vouches for a file now, in the order of their paths; superseded versions have nobody.
    pub fn by_hash(&self, hash: ContentHash) -> Result<Vec<Vouched>, StoreError> {
        let mut found = promises::of_hash(&self.0.database.reader(), hash)?;
        found.sort_by(|(a, one), (b, other)| (a, &one.path).cmp(&(b, &other.path)));
        found.dedup_by(|(a, one), (b, other)| (a, &one.path) == (b, &other.path));
        found.truncate(VOUCHERS_MAX);
        let vouch = |(id, found): (_, Found)| Some(self.0.repositories.by_id(id)?.vouch(found.expected, found.path));
        Ok(found.into_iter().filter_map(vouch).collect())
    }

    /// The same file under its plain path, when it was asked for by its digest and a Release of its repository lists it in
    /// that very folder now.
    pub fn under_plain_path(&self, asked: &Vouched) -> Result<Option<Vouched>, StoreError> {
        let Some(known) = self.0.repositories.named(asked.repository()) else { return Ok(None) };
        let Some((folder, _)) = by_hash(asked.path()) else { return Ok(None) };
        let found = learn::at_plain_path(&self.0.database.reader(), known.id, folder, asked.expected().hash)?;
        Ok(found.map(|found| known.vouch(found.expected, found.path)))
    }

    /// Whether the entries of an index are known already, be it from another compression of it.
    pub fn learned(&self, index: &Vouched) -> Result<bool, StoreError> {
        let Some(known) = self.0.repositories.named(index.repository()) else { return Ok(false) };
        let reader = self.0.database.reader();
        let member = learn::member(&reader, known.id, index)?;
        Ok(member.is_some_and(|member| member.learned))
    }

    /// The suites that are known, in the order of their names.
    pub fn suites(&self) -> Result<Vec<SuiteInfo>, StoreError> {
        let reader = self.0.database.reader();
        let mut statement = reader.prepare_cached(
            "SELECT r.name, s.dir, s.date, s.signer, s.learned, s.valid_until,
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
                valid_until: row.get::<_, Option<i64>>(5)?.map(time),
                files: row.get::<_, i64>(6)?.cast_unsigned(),
            })
        })?;
        Ok(suites.collect::<Result<_, _>>()?)
    }
}

/// Of promises that disagree, the one of the listing that was learned last.
fn latest<'a>(connection: &Connection, found: &'a [Found]) -> Result<Option<&'a Found>, StoreError> {
    let mut learned = connection.prepare_cached("SELECT learned FROM listing WHERE id = ?1")?;
    let mut latest: Option<(i64, &Found)> = None;
    for found in found {
        let at = learned.query_row([found.listing], |row| row.get(0)).optional()?.unwrap_or(i64::MIN);
        if latest.is_none_or(|(before, _)| before < at) {
            latest = Some((at, found));
        }
    }
    Ok(latest.map(|(_, found)| found))
}

/// A time that was written down as seconds since 1970.
pub(super) fn time(seconds: i64) -> SystemTime {
    let span = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 { UNIX_EPOCH.checked_sub(span) } else { UNIX_EPOCH.checked_add(span) };
    time.unwrap_or(UNIX_EPOCH)
}
