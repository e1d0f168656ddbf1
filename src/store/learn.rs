//! Learning: a Release, or an index that one lists, becomes promises.
//!
//! A listing's rows are brought up to date in one transaction in which rows that stay as they were are only looked up.
//! What the listing no longer names is found by one pass over its repository:
//!
//! ```text
//!                            named before, not now                       named two versions ago
//!  member of a Release       no promise any more                         -
//!  the same, by-hash         right, not current: older clients ask       no promise any more
//!  entry of an index         right, not current: superseded              no promise any more
//! ```

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    time::SystemTime,
};

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::{
    archive::{Repository, Vouched},
    hash::{ContentHash, Expected},
};

use super::{Change, Store, StoreError, repositories::REPOSITORIES_MAX, seconds, unix_now};

/// Members of one Release that are learned; Debian's have some 3,000.
const MEMBERS_MAX: usize = 100_000;

/// Entries of one index that are learned; Debian's largest has some 65,000.
const ENTRIES_MAX: usize = 1_000_000;

/// What a Release was to the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// Newer than what was known; its members are promises now.
    New,
    /// Known already, to the last member.
    Same,
    /// Made before the one that is known: nothing was learned.
    Older,
}

impl Store {
    /// Learns the members of a verified Release.
    ///
    /// `suite_dir` is the directory that it lies in, below the repository and without slashes at its ends (`""` for a flat
    /// repository's root); `date` is its `Date` field. Each member is promised under its own path and under
    /// `by-hash/SHA256/` beside it. The repository is shareable as its members are; a Release seen once more as private
    /// makes it private until the next one.
    pub fn record_release(
        &self,
        repository: &Repository,
        suite_dir: &str,
        date: SystemTime,
        signer: &str,
        members: impl IntoIterator<Item = Vouched>,
    ) -> Result<Recorded, StoreError> {
        let members: Vec<Vouched> =
            members.into_iter().filter(|member| member.repository() == repository).take(MEMBERS_MAX).collect();
        let shareable = members.first().is_some_and(|member| member.shareable().is_some());
        let digest = digest(&members);
        let mut writer = self.0.database.writer();
        let transaction = writer.transaction()?;
        let repository = repository_row(&transaction, repository, shareable)?;
        let known: Option<(i64, [u8; 32])> = transaction
            .prepare_cached("SELECT date, members FROM suite WHERE repository = ?1 AND dir = ?2")?
            .query_row(params![repository, suite_dir], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let recorded = match known {
            Some((before, _)) if before > seconds(date) => return Ok(Recorded::Older),
            Some((before, same)) if before == seconds(date) && same == *digest.as_bytes() => Recorded::Same,
            _ => Recorded::New,
        };
        if recorded == Recorded::New {
            transaction
                .execute("UPDATE repository SET shareable = ?2 WHERE id = ?1", params![repository, shareable])?;
            let suite = suite_row(&transaction, repository, suite_dir, seconds(date), signer, digest)?;
            learn_members(&transaction, repository, suite, suite_dir, digest, &members)?;
        } else if !shareable {
            transaction.execute("UPDATE repository SET shareable = 0 WHERE id = ?1", [repository])?;
        }
        transaction.commit()?;
        self.0.repositories.reload(&writer)?;
        drop(writer);
        self.0.tell(Change::Learned);
        Ok(recorded)
    }

    /// Learns the entries of an index whose bytes were proven, and says how many it has. An index that its Release does
    /// not list any more, or not yet, teaches nothing: 0.
    ///
    /// `index` may be the plain path or the one by hash, in any compression; all are versions of one listing. The entries
    /// are drawn while the catalogue is being written: their iterator must not call back to write, and should not dawdle.
    pub fn record_index(
        &self,
        index: &Vouched,
        entries: impl IntoIterator<Item = Vouched>,
    ) -> Result<usize, StoreError> {
        let Some(known) = self.0.repositories.named(index.repository()) else { return Ok(0) };
        let hash = index.expected().hash;
        let mut writer = self.0.database.writer();
        let transaction = writer.transaction()?;
        let member: Option<(String, i64)> = transaction
            .prepare_cached(
                "SELECT p.path, l.suite FROM promise p JOIN listing l ON l.id = p.listing
                 WHERE p.hash = ?2 AND p.current = 1 AND p.repository = ?1 AND p.path NOT LIKE '%/by-hash/%'
                 ORDER BY p.path = ?3 DESC LIMIT 1",
            )?
            .query_row(params![known.id, hash.as_bytes(), index.path()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((member, suite)) = member else { return Ok(0) };
        let (listing, fresh) = listing_row(&transaction, known.id, suite, listing_name(&member), hash)?;
        let mut update = Update::new(&transaction, known.id, listing)?;
        let mut files = 0_u32;
        for entry in entries.into_iter().filter(|entry| entry.repository() == index.repository()).take(ENTRIES_MAX) {
            update.name(entry.path(), entry.expected())?;
            files += 1;
        }
        if !fresh {
            update.retire(|_| false)?;
        }
        drop(update);
        transaction.execute("UPDATE listing SET files = ?2 WHERE id = ?1", params![listing, files])?;
        transaction.commit()?;
        // The pages of a whole index are of no more use.
        writer.execute_batch("PRAGMA shrink_memory")?;
        drop(writer);
        self.0.tell(Change::Learned);
        Ok(files as usize)
    }
}

/// The name under which all versions and compressions of an index are one listing.
fn listing_name(path: &str) -> &str {
    let ends = [".xz", ".gz", ".bz2", ".zst", ".lz4", ".lzma"];
    ends.iter().find_map(|end| path.strip_suffix(end)).unwrap_or(path)
}

/// `main/binary-amd64/Packages.xz` and a hash become `main/binary-amd64/by-hash/SHA256/<hash>`.
fn by_hash_path(path: &str, hash: ContentHash) -> String {
    let dir = path.rfind('/').map_or("", |slash| &path[..=slash]);
    format!("{dir}by-hash/SHA256/{hash}")
}

fn is_by_hash(path: &str) -> bool {
    path.starts_with("by-hash/") || path.contains("/by-hash/")
}

/// Tells two lists of members apart.
fn digest(members: &[Vouched]) -> ContentHash {
    let mut text = Vec::with_capacity(members.len() * 96);
    for member in members {
        text.extend(member.path().as_bytes());
        text.push(0);
        text.extend(member.expected().hash.as_bytes());
        text.extend(member.expected().size.to_be_bytes());
    }
    ContentHash::of(&text)
}

fn repository_row(connection: &Connection, repository: &Repository, shareable: bool) -> Result<i64, StoreError> {
    let found = connection
        .prepare_cached("SELECT id FROM repository WHERE name = ?1")?
        .query_row([repository.as_str()], |row| row.get(0))
        .optional()?;
    if let Some(id) = found {
        return Ok(id);
    }
    let count: i64 = connection.query_row("SELECT count(*) FROM repository", [], |row| row.get(0))?;
    if count >= REPOSITORIES_MAX {
        return Err(StoreError::Full);
    }
    connection
        .prepare_cached("INSERT INTO repository (name, shareable) VALUES (?1, ?2)")?
        .execute(params![repository.as_str(), shareable])?;
    Ok(connection.last_insert_rowid())
}

fn suite_row(
    connection: &Connection,
    repository: i64,
    dir: &str,
    date: i64,
    signer: &str,
    members: ContentHash,
) -> Result<i64, StoreError> {
    let id = connection
        .prepare_cached(
            "INSERT INTO suite (repository, dir, date, signer, members, learned) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (repository, dir) DO UPDATE SET date = excluded.date, signer = excluded.signer,
                 members = excluded.members, learned = excluded.learned
             RETURNING id",
        )?
        .query_row(params![repository, dir, date, signer, members.as_bytes(), unix_now()], |row| row.get(0))?;
    Ok(id)
}

/// The listing's id, and whether it is new.
fn listing_row(
    connection: &Connection,
    repository: i64,
    suite: i64,
    path: &str,
    hash: ContentHash,
) -> Result<(i64, bool), StoreError> {
    let found: Option<i64> = connection
        .prepare_cached("SELECT id FROM listing WHERE repository = ?1 AND path = ?2")?
        .query_row(params![repository, path], |row| row.get(0))
        .optional()?;
    if let Some(id) = found {
        connection
            .prepare_cached("UPDATE listing SET suite = ?2, hash = ?3, learned = ?4 WHERE id = ?1")?
            .execute(params![id, suite, hash.as_bytes(), unix_now()])?;
        return Ok((id, false));
    }
    connection
        .prepare_cached(
            "INSERT INTO listing (repository, suite, path, hash, files, learned) VALUES (?1, ?2, ?3, ?4, 0, ?5)",
        )?
        .execute(params![repository, suite, path, hash.as_bytes(), unix_now()])?;
    Ok((connection.last_insert_rowid(), true))
}

fn learn_members(
    transaction: &Transaction<'_>,
    repository: i64,
    suite: i64,
    dir: &str,
    digest: ContentHash,
    members: &[Vouched],
) -> Result<(), StoreError> {
    let release = if dir.is_empty() { "Release".to_owned() } else { format!("{dir}/Release") };
    let (listing, fresh) = listing_row(transaction, repository, suite, &release, digest)?;
    let mut update = Update::new(transaction, repository, listing)?;
    for member in members {
        update.name(member.path(), member.expected())?;
        update.name(&by_hash_path(member.path(), member.expected().hash), member.expected())?;
    }
    if !fresh {
        update.retire(|path| !is_by_hash(path))?;
    }
    drop(update);
    transaction.execute("UPDATE listing SET files = ?2 WHERE id = ?1", params![listing, members.len() as u32])?;

    // Indexes that the suite has no more take their entries with them.
    let named: HashSet<&str> = members.iter().map(|member| listing_name(member.path())).collect();
    let mut statement = transaction.prepare_cached("SELECT id, path FROM listing WHERE suite = ?1 AND id <> ?2")?;
    let listings: Vec<(i64, String)> = statement
        .query_map(params![suite, listing], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (id, _) in listings.iter().filter(|(_, path)| !named.contains(path.as_str())) {
        transaction.execute("DELETE FROM promise WHERE repository = ?1 AND listing = ?2", params![repository, id])?;
        transaction.execute("DELETE FROM listing WHERE id = ?1", [id])?;
    }
    Ok(())
}

/// Brings one listing's promises up to date.
struct Update<'a> {
    transaction: &'a Transaction<'a>,
    repository: i64,
    listing: i64,
    upsert: rusqlite::CachedStatement<'a>,
    /// Fingerprints of the paths named; should two ever agree, a superseded file stays current for one version more.
    named: HashSet<u64>,
    fingerprint: RandomState,
}

impl<'a> Update<'a> {
    fn new(transaction: &'a Transaction<'a>, repository: i64, listing: i64) -> Result<Self, StoreError> {
        let upsert = transaction.prepare_cached(
            "INSERT INTO promise (repository, path, listing, hash, size, current) VALUES (?1, ?2, ?3, ?4, ?5, 1)
             ON CONFLICT (repository, path, listing)
             DO UPDATE SET hash = excluded.hash, size = excluded.size, current = 1
             WHERE hash <> excluded.hash OR size <> excluded.size OR current = 0",
        )?;
        Ok(Self { transaction, repository, listing, upsert, named: HashSet::new(), fingerprint: RandomState::new() })
    }

    fn name(&mut self, path: &str, expected: &Expected) -> Result<(), StoreError> {
        self.named.insert(self.fingerprint.hash_one(path));
        self.upsert.execute(params![
            self.repository,
            path,
            self.listing,
            expected.hash.as_bytes(),
            expected.size.cast_signed()
        ])?;
        Ok(())
    }

    /// Steps every row down that was not named: from current to right, from there out, and out at once where `at_once`.
    fn retire(&self, at_once: impl Fn(&str) -> bool) -> Result<(), StoreError> {
        let mut statement = self
            .transaction
            .prepare_cached("SELECT path, current FROM promise WHERE repository = ?1 AND listing = ?2")?;
        let mut rows = statement.query(params![self.repository, self.listing])?;
        let (mut step, mut drop) = (Vec::new(), Vec::new());
        while let Some(row) = rows.next()? {
            let path = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
            if !self.named.contains(&self.fingerprint.hash_one(path)) {
                let list = if row.get(1)? && !at_once(path) { &mut step } else { &mut drop };
                list.push(path.to_owned());
            }
        }
        for (paths, sql) in [
            (step, "UPDATE promise SET current = 0 WHERE repository = ?1 AND path = ?2 AND listing = ?3"),
            (drop, "DELETE FROM promise WHERE repository = ?1 AND path = ?2 AND listing = ?3"),
        ] {
            let mut statement = self.transaction.prepare_cached(sql)?;
            for path in paths {
                statement.execute(params![self.repository, path, self.listing])?;
            }
        }
        Ok(())
    }
}
