//! Which repositories are known: the few names that every request is matched against, kept in memory.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use rusqlite::Connection;

use crate::{
    archive::{Repository, Vouched},
    hash::Expected,
};

use super::{Allowed, StoreError, schema::Database};

/// Length in bytes of the longest request that is looked up at all.
const KEY_MAX: usize = 4096;

/// A repository's row.
pub(super) struct Known {
    pub(super) id: u32,
    pub(super) repository: Repository,
    /// Public when it was learned, and not forbidden now.
    pub(super) shareable: bool,
}

impl Known {
    /// Speaks for a file that the catalogue has a row for.
    pub(super) fn vouch(&self, expected: Expected, path: String) -> Vouched {
        Vouched::restore(expected, self.repository.clone(), path, self.shareable)
    }
}

/// All of them.
pub(super) struct Repositories {
    allowed: Allowed,
    known: RwLock<Names>,
    /// The highest id that this run has given away.
    highest: AtomicU32,
}

#[derive(Default)]
struct Names {
    by_name: HashMap<String, Arc<Known>>,
    by_id: HashMap<u32, Arc<Known>>,
    longest: usize,
}

impl Repositories {
    pub(super) fn load(database: &Database, allowed: Allowed) -> Result<Self, StoreError> {
        let repositories = Self { allowed, known: RwLock::default(), highest: AtomicU32::new(0) };
        repositories.reload(&database.reader())?;
        Ok(repositories)
    }

    /// An id above all that the table has, and above those of this run that were forgotten: whoever still holds one of these
    /// finds nothing by it, and never another repository's files. `None` when there are no more.
    pub(super) fn new_id(&self, in_table: u32) -> Option<u32> {
        let id = self.highest.load(Relaxed).max(in_table).checked_add(1)?;
        self.highest.store(id, Relaxed);
        Some(id)
    }

    /// Reads the table again, after a change to it was committed.
    pub(super) fn reload(&self, connection: &Connection) -> Result<(), StoreError> {
        let mut names = Names::default();
        let mut statement = connection.prepare_cached("SELECT id, name, shareable FROM repository")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let name: String = row.get(1)?;
            let repository = Repository::restore(&name);
            let shareable = row.get(2)? && (self.allowed)(&repository);
            let known = Arc::new(Known { id: row.get(0)?, repository, shareable });
            names.longest = names.longest.max(name.len());
            names.by_id.insert(known.id, known.clone());
            names.by_name.insert(name, known);
        }
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = names;
        Ok(())
    }

    /// Cuts `host[:port]/path` into the longest known repository that it lies in and the path below it. A shorter one has
    /// no say there, also where the longest says nothing.
    pub(super) fn split<'key>(&self, key: &'key str) -> Option<(Arc<Known>, &'key str)> {
        if key.len() > KEY_MAX {
            return None;
        }
        let names = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let within = key.len().min(names.longest + 1);
        key.as_bytes()[..within]
            .iter()
            .enumerate()
            .rev()
            .filter(|&(_, &byte)| byte == b'/')
            .find_map(|(slash, _)| Some((names.by_name.get(&key[..slash])?.clone(), &key[slash + 1..])))
    }

    /// Whether it lies inside or around another one that is known.
    pub(super) fn is_nested(&self, repository: &Repository) -> bool {
        let names = self.known.read().unwrap_or_else(PoisonError::into_inner);
        names.by_id.values().any(|known| known.repository.is_nested_with(repository))
    }

    pub(super) fn by_id(&self, id: u32) -> Option<Arc<Known>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).by_id.get(&id).cloned()
    }

    pub(super) fn named(&self, repository: &Repository) -> Option<Arc<Known>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).by_name.get(repository.as_str()).cloned()
    }
}
