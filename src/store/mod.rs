//! Keep: content-addressed files and what is known of them.
//!
//! One directory, 0700, used by one daemon at a time:
//!
//! ```text
//!  objects/ab/cd/<sha256>   a proven file, 0600; its name is the SHA-256 of its bytes; never written to again
//!  partial/<sha256>-<n>     a file on its way, or what is left of one; `.have` beside it says which pieces, see `record`
//!  quarantine/<sha256>      an object that turned out damaged, some sixteen of them; never read again
//!  released/<sha256>        bytes of this file left before they were proven (promise 1); survives a restart
//!  catalogue.sqlite         what the archives promise, and which objects are held; see `schema`
//!  lock                     held for as long as the daemon runs
//! ```
//!
//! A file enters by [`Store::begin`] -> [`Partial`] -> [`Store::commit`] with its proof, and by no other way. Room is
//! counted before the first byte arrives. Pieces of a partial may be lent to peers meanwhile ([`Partial::lend`]). A download
//! that was interrupted leaves what it noted, and the next one of that file goes on with it ([`Partial::earlier`]). Readers
//! and writers of the catalogue have a connection each, so that learning an index does not hold up a request.
//!
//! **Crashes.** A file costs one fsync, before its name moves; neither the move nor the row is synced. So a power cut loses
//! at most what was kept lately, and what is found is made to agree: a row without its file goes, a file without its row
//! is believed once it was hashed, and a partial only piece by piece.
//!
//! [`Store`] is a handle: clone it freely. Its methods block on disk; async callers go through `spawn_blocking`.
//!
//! **Locks**, in the order in which they may be taken: `scrubbed`, `evicting`, the writer, the reader or the shelf, the loans. The last
//! three are held for microseconds.

mod catalogue;
mod disk;
mod evict;
mod forget;
mod have;
mod import;
mod keep;
mod learn;
mod leftover;
mod lend;
mod manage;
mod marks;
mod objects;
mod pages;
mod part;
mod partial;
mod pins;
mod promises;
mod rebuild;
mod record;
mod repositories;
mod roles;
mod schema;
mod shelf;
mod suites;
mod traffic;
mod verify;
mod why;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::sync::broadcast;

use crate::{
    archive::Repository,
    hash::{ContentHash, Expected},
};

pub use catalogue::SuiteInfo;
pub use evict::Role;
pub use have::{Blob, Offer, Offered};
pub use import::{How, Imported, Unvouched};
pub use learn::{Gathering, Recorded};
pub use lend::{Lent, Loan, MAX_PIECES};
pub use manage::{Chosen, Collected, Item};
pub use marks::Mark;
pub use part::Part;
pub use partial::Partial;
pub use record::{Earlier, Kept};
pub use suites::{Listed, MAX_SUITES};
pub use traffic::{Day, Traffic};
pub use verify::{Checked, Damaged};
pub use why::{Holding, Index, Sought, Vouching};

use disk::{Disk, FileSystem};
use lend::Loans;
use marks::Marks;
use objects::Objects;
use repositories::Repositories;
use schema::Database;
use shelf::Shelf;

/// Changes that a slow listener may leave unread before it has to start over from [`Store::offered`].
const CHANGES: usize = 1024;

/// Bytes of catalogue that do not count, so that a small quota is for files.
const CATALOGUE_FREE: u64 = 16 << 20;

/// Where the store lives and how much it may take.
#[derive(Debug, Clone)]
pub struct Config {
    /// The store's directory; made when missing.
    pub path: PathBuf,
    /// Bytes that objects, files on their way and the catalogue beyond its first 16 MiB may take together.
    pub quota: u64,
    /// Bytes that stay free on the file system.
    pub min_free: u64,
}

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another daemon holds the lock.
    #[error("{} is in use by another daemon", .0.display())]
    InUse(PathBuf),
    /// The catalogue was written by a later version of this program.
    #[error("{} was written by a later version: its schema is {found}, known is up to {known}", path.display())]
    Later {
        /// The catalogue.
        path: PathBuf,
        /// The schema it has.
        found: usize,
        /// The latest schema that this program knows.
        known: usize,
    },
    /// No room, and nothing that could be given up for it. The caller goes on without keeping.
    #[error("the store is full")]
    Full,
    /// The file system said no.
    #[error("{}: {cause}", path.display())]
    Io {
        /// What was being worked on.
        path: PathBuf,
        /// What it said.
        cause: io::Error,
    },
    /// The catalogue said no.
    #[error("catalogue: {0}")]
    Catalogue(rusqlite::Error),
}

impl StoreError {
    /// Names the file that an error was about; a disk without room is [`StoreError::Full`].
    fn at(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Io { path: path.as_ref().to_owned(), cause: source },
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full,
            _ => Self::Catalogue(error),
        }
    }
}

/// What changed, for whoever tells others. See [`Store::changes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A file is held now.
    Stored(ContentHash),
    /// A file is no longer held.
    Gone(ContentHash),
    /// A file on its way lends its first piece.
    Lent(Expected),
    /// A file that lent pieces will not be held: its download ended without it.
    Withdrawn(ContentHash),
    /// The archive said something new: what is current, and so what may be offered, can differ.
    Learned,
}

/// How the store stands, for the status page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// Files held.
    pub objects: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Files on their way.
    pub partials: usize,
    /// Bytes set aside for those.
    pub in_flight: u64,
    /// Interrupted downloads that may go on.
    pub leftovers: usize,
    /// Bytes of what they left.
    pub left: u64,
    /// How often in this run there was no room for a file, so that it went past the store.
    pub refused: u64,
    /// Bytes that all of these may take.
    pub quota: u64,
    /// Bytes free on the file system, when it says.
    pub free: Option<u64>,
}

type IsNamed = Box<dyn Fn(&Repository, &str) -> bool + Send + Sync>;
type Allowed = Box<dyn Fn(&Repository) -> bool + Send + Sync>;

/// The store, shared by all who hold a clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    config: Config,
    database: Database,
    disk: Arc<dyn Disk>,
    objects: Objects,
    partials: PathBuf,
    marks: Marks,
    shelf: Arc<Mutex<Shelf>>,
    loans: Loans,
    evicting: Mutex<()>,
    /// Where the scrubber is.
    scrubbed: Mutex<Option<ContentHash>>,
    repositories: Repositories,
    /// Which suites are not forgotten.
    named: OnceLock<IsNamed>,
    changes: broadcast::Sender<Change>,
    /// Kept open for its lock.
    _lock: std::fs::File,
}

impl Store {
    /// Opens the store, or makes it. Partials of an earlier run of which nothing was noted are removed, objects and catalogue
    /// are made to agree, and a damaged catalogue is set aside and begun anew from the objects.
    ///
    /// `allowed` says whether the configuration of today lets a repository's files be shared; it is asked on top of what
    /// was true when the repository was learned.
    pub fn open(
        config: &Config,
        allowed: impl Fn(&Repository) -> bool + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        Self::open_on(Arc::new(FileSystem), config, Box::new(allowed))
    }

    fn open_on(disk: Arc<dyn Disk>, config: &Config, allowed: Allowed) -> Result<Self, StoreError> {
        // An admin may have put a link here, to a larger disk; below it there are none.
        if !config.path.is_dir() {
            FileSystem.make_dir(&config.path).map_err(StoreError::at(&config.path))?;
        }
        let path = config.path.canonicalize().map_err(StoreError::at(&config.path))?;
        let lock = disk::lock(&path.join("lock"))?;
        let objects = Objects::open(&path, disk.clone())?;
        let partials = path.join("partial");
        disk.make_dir(&partials).map_err(StoreError::at(&partials))?;
        let (leftovers, next_partial) = leftover::gather(&*disk, &partials)?;
        let marks = Marks::open(&path, disk.clone())?;
        let database = Database::open(&path.join("catalogue.sqlite"))?;
        let mut shelf = rebuild::reconcile(&mut database.writer(), &objects)?;
        shelf.go_on(leftovers, next_partial);
        let repositories = Repositories::load(&database, allowed)?;
        let changes = broadcast::Sender::new(CHANGES);
        let store = Self(Arc::new(Inner {
            config: Config { path, ..config.clone() },
            database,
            disk,
            objects,
            partials,
            marks,
            shelf: Arc::new(Mutex::new(shelf)),
            loans: Loans::new(changes.clone()),
            evicting: Mutex::default(),
            scrubbed: Mutex::default(),
            repositories,
            named: OnceLock::new(),
            changes,
            _lock: lock,
        }));
        store.0.weigh_catalogue();
        match store.make_room(0) {
            Ok(()) | Err(StoreError::Full) => Ok(store),
            Err(error) => Err(error),
        }
    }

    /// Tells of changes from now on. A receiver that lags has missed some and begins again from [`Store::offered`].
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.0.changes.subscribe()
    }

    /// How the store stands.
    pub fn snapshot(&self) -> Snapshot {
        let free = self.0.disk.free(&self.0.config.path).ok();
        let shelf = self.0.shelf();
        Snapshot {
            objects: shelf.objects,
            bytes: shelf.bytes,
            partials: shelf.partials(),
            in_flight: shelf.in_flight(),
            leftovers: shelf.left().0,
            left: shelf.left().1,
            refused: shelf.refused(),
            quota: self.0.config.quota,
            free,
        }
    }
}

impl Inner {
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        locked(&self.shelf)
    }

    fn weigh_catalogue(&self) {
        self.shelf().catalogue = self.database.size().saturating_sub(CATALOGUE_FREE);
    }

    fn tell(&self, change: Change) {
        // Without a listener there is nobody to tell.
        let _ = self.changes.send(change);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = keep::flush(&mut self.database.writer(), &self.shelf);
    }
}

/// A panic elsewhere leaves nothing half done behind these locks: SQL rolls back, counters move in one step.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds since 1970, negative before.
fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_secs().cast_signed(),
        Err(before) => -before.duration().as_secs().cast_signed(),
    }
}

#[expect(clippy::disallowed_methods, reason = "the door to the clock, for when things were learned and stored")]
fn unix_now() -> i64 {
    seconds(SystemTime::now())
}

#[cfg(test)]
mod tests;
