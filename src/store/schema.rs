//! The catalogue's tables.
//!
//! ```text
//!  repository --< suite     one a Release: its date, signer and a digest of its members
//!       |           |
//!       +------< listing    a Release, or an index that one lists: it vouches for promises
//!       |           :
//!       +------< page       (repository, path, listing) -> hash, size, current; see `pages`
//!                   :
//!                places     hash -> where it is currently promised
//!
//!  object                   hash -> size, piece chain, last use, where it came from, its Last-Modified
//!  traffic                  day -> bytes by source; see `traffic`
//! ```
//!
//! A promise is not current when the listing named it in its version before this one and does not name it any more:
//! still right for a client that asks by older indexes, no longer offered. After one more version it goes.
//! `listing.hash` is the index that was learned, in whatever compression; for a Release, the digest of its members.
//! `suite.valid_until` is NULL when a Release says nothing of it.
//! `suite.keys` are those that its next Release must be signed with, until `suite.keys_until`; both NULL when any will do.
//! `suite.name` is what its Release names it by, NULL before one was read since that is kept.
//! `page.id` is 4096 times the repository plus the number of the page. Hashes are blobs of 32 bytes, piece chains are as
//! on the wire, times are seconds since 1970. `object.used` counts uses, not time, so that a clock which jumps evicts
//! nothing; `suite.seen` counts Releases for the same reason. `object.chain` is NULL for a file found without a row: not
//! believed until it has been hashed. `object.modified` is the mirror's `Last-Modified`, as it was sent, where one was.
//! `object.pinned` keeps it from eviction; `object.holders` is how many others were found to have it when it was fetched,
//! NULL when nobody was asked.
#![expect(clippy::disallowed_methods, reason = "the door to the catalogue's file")]

use std::{
    fs::{self, OpenOptions},
    ops::{Deref, DerefMut},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{StoreError, locked};

/// Each brings the schema one version further; never edited once released.
const MIGRATIONS: [&str; 8] = [
    "
    CREATE TABLE repository (
        id        INTEGER PRIMARY KEY,
        name      TEXT NOT NULL UNIQUE,
        shareable INTEGER NOT NULL
    );
    CREATE TABLE suite (
        id         INTEGER PRIMARY KEY,
        repository INTEGER NOT NULL REFERENCES repository,
        dir        TEXT NOT NULL,
        date       INTEGER NOT NULL,
        signer     TEXT NOT NULL,
        members    BLOB NOT NULL,
        learned    INTEGER NOT NULL,
        UNIQUE (repository, dir)
    );
    CREATE TABLE listing (
        id         INTEGER PRIMARY KEY,
        repository INTEGER NOT NULL REFERENCES repository,
        suite      INTEGER NOT NULL REFERENCES suite,
        path       TEXT NOT NULL,
        hash       BLOB NOT NULL,
        files      INTEGER NOT NULL,
        learned    INTEGER NOT NULL,
        UNIQUE (repository, path)
    );
    CREATE TABLE promise (
        repository INTEGER NOT NULL REFERENCES repository,
        path       TEXT NOT NULL,
        listing    INTEGER NOT NULL REFERENCES listing,
        hash       BLOB NOT NULL,
        size       INTEGER NOT NULL,
        current    INTEGER NOT NULL,
        PRIMARY KEY (repository, path, listing)
    ) WITHOUT ROWID;
    CREATE INDEX promise_by_hash ON promise (hash) WHERE current = 1;
    CREATE TABLE object (
        id         INTEGER PRIMARY KEY,
        hash       BLOB NOT NULL UNIQUE,
        size       INTEGER NOT NULL,
        used       INTEGER NOT NULL,
        stored     INTEGER NOT NULL,
        repository TEXT,
        path       TEXT,
        chain      BLOB
    );
    CREATE INDEX object_unproven ON object (id) WHERE chain IS NULL;
",
    "
    DROP TABLE promise;
    DELETE FROM listing;
    DELETE FROM suite;
    CREATE TABLE page (
        id       INTEGER PRIMARY KEY,
        promises BLOB NOT NULL
    );
    CREATE TABLE places (
        id     INTEGER PRIMARY KEY,
        places BLOB NOT NULL
    );
",
    "
    ALTER TABLE suite ADD COLUMN keys TEXT;
    ALTER TABLE suite ADD COLUMN keys_until INTEGER;
",
    "
    ALTER TABLE suite ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
",
    "
    ALTER TABLE object ADD COLUMN modified TEXT;
",
    "
    ALTER TABLE suite ADD COLUMN name BLOB;
",
    "
    ALTER TABLE suite ADD COLUMN valid_until INTEGER;
    CREATE TABLE traffic (
        day    INTEGER PRIMARY KEY,
        peers  INTEGER NOT NULL,
        lan    INTEGER NOT NULL,
        store  INTEGER NOT NULL,
        mirror INTEGER NOT NULL,
        up     INTEGER NOT NULL
    ) STRICT;
",
    "
    ALTER TABLE object ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE object ADD COLUMN holders INTEGER;
",
];

/// How long one connection waits for the other where WAL still makes it wait.
const BUSY: Duration = Duration::from_secs(10);

/// Page caches in KiB. The writer goes through an index page by page, the reader looks up one at a time.
const WRITER_CACHE: i64 = 2048;
const READER_CACHE: i64 = 1024;

/// Bytes of write-ahead log kept on disk after a large transaction.
const LOG_KEPT: i64 = 4 << 20;

/// Pages of write-ahead log after which a transaction brings it home; SQLite's own default.
const LOG_PAGES: i64 = 1000;

/// The two connections to the catalogue.
pub(super) struct Database {
    path: PathBuf,
    /// Closed first: the last connection brings the log home, which one that only reads cannot.
    reader: Mutex<Connection>,
    writer: Mutex<Connection>,
}

impl Database {
    /// Opens the catalogue, makes it where there is none, and sets a damaged one aside.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        match Self::try_open(path) {
            Err(StoreError::Catalogue(error)) if damaged(&error) => {
                let aside = set_aside(path)?;
                tracing::warn!(%error, "the catalogue is damaged; kept as {}, begun anew", aside.display());
                Self::try_open(path)
            }
            other => other,
        }
    }

    /// The connection that writes.
    pub(super) fn writer(&self) -> MutexGuard<'_, Connection> {
        locked(&self.writer)
    }

    /// The connection that writes, for a transaction as large as an index: the log is left as long as it becomes.
    pub(super) fn bulk_writer(&self) -> Result<BulkWriter<'_>, StoreError> {
        let writer = self.writer();
        writer.pragma_update(None, "wal_autocheckpoint", 0)?;
        Ok(BulkWriter(writer))
    }

    /// Copies the log into the file, as far as no reader needs it as it was.
    pub(super) fn bring_log_home(&self) -> Result<(), StoreError> {
        Ok(self.writer().query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?)
    }

    /// Bytes of the catalogue and its log on the disk.
    pub(super) fn size(&self) -> u64 {
        let size = |path: &Path| fs::metadata(path).map_or(0, |data| data.len());
        size(&self.path) + size(&self.path.with_extension("sqlite-wal"))
    }

    /// The connection that writes, unless it is at work.
    pub(super) fn idle_writer(&self) -> Option<MutexGuard<'_, Connection>> {
        self.writer.try_lock().ok()
    }

    /// The connection that reads; hold it for one question only.
    pub(super) fn reader(&self) -> MutexGuard<'_, Connection> {
        locked(&self.reader)
    }

    fn try_open(path: &Path) -> Result<Self, StoreError> {
        // Made here because SQLite gives its log and shared memory the mode of the file.
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)
            .map_err(StoreError::at(path))?;
        let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let mut writer = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        writer.busy_timeout(BUSY)?;
        writer.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        writer.pragma_update(None, "synchronous", "NORMAL")?;
        writer.pragma_update(None, "cache_size", -WRITER_CACHE)?;
        writer.pragma_update_and_check(None, "journal_size_limit", LOG_KEPT, |_| Ok(()))?;
        check(&writer)?;
        migrate(&mut writer, path)?;
        // The check has looked at every page, and nobody asks for them next.
        writer.execute_batch("PRAGMA shrink_memory")?;

        let reader = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        reader.busy_timeout(BUSY)?;
        reader.pragma_update(None, "cache_size", -READER_CACHE)?;
        Ok(Self { path: path.to_owned(), writer: Mutex::new(writer), reader: Mutex::new(reader) })
    }
}

/// See [`Database::bulk_writer`].
pub(super) struct BulkWriter<'a>(MutexGuard<'a, Connection>);

impl Deref for BulkWriter<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for BulkWriter<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

impl Drop for BulkWriter<'_> {
    fn drop(&mut self) {
        // Should it fail, the log is brought home at the next tidying, or at the next start.
        let _as_it_was = self.0.pragma_update(None, "wal_autocheckpoint", LOG_PAGES);
        // The pages of a whole index are of no more use.
        let _later = self.0.execute_batch("PRAGMA shrink_memory");
    }
}

fn check(writer: &Connection) -> Result<(), rusqlite::Error> {
    let verdict: String = writer.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        return Ok(());
    }
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(rusqlite::Error::SqliteFailure(code, Some(verdict)))
}

fn migrate(writer: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let found: usize = writer.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0))? as usize;
    if found > MIGRATIONS.len() {
        return Err(StoreError::Later { path: path.to_owned(), found, known: MIGRATIONS.len() });
    }
    for (version, migration) in (1_u32..).zip(MIGRATIONS).skip(found) {
        let transaction = writer.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}

fn damaged(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Keeps the last damaged catalogue for whoever wants to look; its log is of no use to a new one.
fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let aside = path.with_extension("sqlite.damaged");
    fs::rename(path, &aside).map_err(StoreError::at(path))?;
    for end in ["sqlite-wal", "sqlite-shm"] {
        let path = path.with_extension(end);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(StoreError::at(path)(error)),
            _ => {}
        }
    }
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalogue_of_the_first_version_keeps_its_objects_and_learns_its_promises_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalogue.sqlite");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(MIGRATIONS[0]).unwrap();
        old.execute_batch(
            "INSERT INTO repository VALUES (1, 'mirror.example.org/debian', 1);
             INSERT INTO suite VALUES (1, 1, 'dists/sid', 5, 'key', x'00', 5);
             INSERT INTO listing VALUES (1, 1, 1, 'dists/sid/Release', x'00', 1, 5);
             INSERT INTO promise VALUES (1, 'pool/a.deb', 1, x'00', 3, 1);
             INSERT INTO object VALUES (1, x'01', 3, 0, 5, NULL, NULL, NULL);
             PRAGMA user_version = 1;",
        )
        .unwrap();
        drop(old);
        for _ in 0..2 {
            let database = Database::open(&path).unwrap();
            let count = |table: &str| -> i64 {
                let sql = format!("SELECT count(*) FROM {table}");
                database.reader().query_row(&sql, [], |row| row.get(0)).unwrap()
            };
            let counts = ["repository", "suite", "listing", "page", "places", "object"].map(count);
            assert_eq!(counts, [1, 0, 0, 0, 0, 1]);
        }
    }

    #[test]
    fn a_catalogue_of_the_second_version_keeps_its_suites() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalogue.sqlite");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(&MIGRATIONS[..2].concat()).unwrap();
        old.execute_batch(
            "INSERT INTO repository VALUES (1, 'mirror.example.org/debian', 1);
             INSERT INTO suite VALUES (1, 1, 'dists/sid', 5, 'key', x'00', 5);
             PRAGMA user_version = 2;",
        )
        .unwrap();
        drop(old);
        let database = Database::open(&path).unwrap();
        let row = database.reader().query_row("SELECT date, keys, keys_until FROM suite", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Option<String>>(1)?, row.get::<_, Option<i64>>(2)?))
        });
        assert_eq!(row.unwrap(), (5, None, None));
    }
}
