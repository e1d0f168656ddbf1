//! Manage: what an administrator may see and decide of the files held.

use rusqlite::params;

use crate::{
    archive::Repository,
    hash::{ContentHash, Expected},
};

use super::{
    Store, StoreError,
    evict::{Candidate, Role},
    keep, locked,
    roles::{self, Row},
};

/// A file held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its digest and size.
    pub file: Expected,
    /// What it is to its archive.
    pub role: Role,
    /// Whether it stays whatever room is needed.
    pub pinned: bool,
    /// Whether it was hashed since it was found.
    pub proven: bool,
    /// How many uses of other files came after its last one.
    pub unused_for: u64,
    /// Where it was fetched from; unknown for a file whose row was lost.
    pub from: Option<(Repository, String)>,
}

/// Which files are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chosen<'a> {
    /// The one with this digest.
    Hash(ContentHash),
    /// Those that were fetched from this path, or one that ends in it behind a slash.
    Path(&'a str),
    /// Every version of the package of this name that is held, or the file of this name.
    Name(&'a str),
}

impl<'a> Chosen<'a> {
    /// Reads what a person wrote. `None` when nothing is written.
    pub fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim();
        match text.parse() {
            Ok(hash) => Some(Self::Hash(hash)),
            Err(_) if text.is_empty() => None,
            Err(_) if text.contains('/') => Some(Self::Path(text.trim_start_matches('/'))),
            Err(_) => Some(Self::Name(text)),
        }
    }

    fn fits(&self, item: &Item) -> bool {
        let path = item.from.as_ref().map(|(_, path)| path.as_str());
        let ends =
            |path: &str, end: &str| path.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'));
        match *self {
            Self::Hash(hash) => item.file.hash == hash,
            Self::Path(end) => path.is_some_and(|path| ends(path, end)),
            Self::Name(name) => path.is_some_and(|path| roles::package_name(path) == Some(name) || ends(path, name)),
        }
    }
}

/// What was given up, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Superseded files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Interrupted downloads.
    pub leftovers: usize,
    /// Bytes of what they left.
    pub left: u64,
}

impl Store {
    /// Every file held, those that would go first before others.
    pub fn list(&self) -> Result<Vec<Item>, StoreError> {
        let mut rows = self.rows(true)?;
        rows.sort_unstable_by_key(|row| (row.candidate.role, row.candidate.used, row.candidate.hash));
        let uses = self.0.shelf().uses();
        Ok(rows.into_iter().map(|row| item(row, uses)).collect())
    }

    /// Keeps the chosen files whatever room is needed, or no longer; says which they are.
    pub fn set_pinned(&self, chosen: Chosen<'_>, pinned: bool) -> Result<Vec<Item>, StoreError> {
        // Nobody chooses what is to go meanwhile.
        let _one_at_a_time = locked(&self.0.evicting);
        let mut items = self.list()?;
        items.retain(|item| chosen.fits(item));
        let mut writer = self.0.database.writer();
        let transaction = writer.transaction()?;
        for item in &mut items {
            item.pinned = pinned;
            let hash = item.file.hash.as_bytes();
            transaction
                .prepare_cached("UPDATE object SET pinned = ?2 WHERE hash = ?1")?
                .execute(params![hash, pinned])?;
        }
        transaction.commit()?;
        Ok(items)
    }

    /// Gives up what no archive names any more in a current version and what interrupted downloads left; `dry_run` only says
    /// what that would be. The newest version of each package, and what is pinned or being read, stays.
    pub fn collect(&self, dry_run: bool) -> Result<Collected, StoreError> {
        let _one_at_a_time = locked(&self.0.evicting);
        let candidates = self.rows(false)?.into_iter().map(|row| row.candidate);
        let goes = |candidate: &Candidate| candidate.role == Role::Superseded && !candidate.kept;
        let victims: Vec<_> = candidates.filter(goes).collect();
        let (leftovers, left) = self.0.shelf().left();
        if dry_run {
            let bytes = victims.iter().map(|victim| victim.size).sum();
            return Ok(Collected { files: victims.len(), bytes, leftovers, left });
        }
        self.0.drop_leftovers(left);
        let (files, bytes) = self.evict(victims)?;
        keep::flush(&mut self.0.database.writer(), &self.0.shelf)?;
        Ok(Collected { files, bytes, leftovers, left })
    }
}

fn item(row: Row, uses: u64) -> Item {
    let Row { candidate, pinned, proven, repository, path, .. } = row;
    Item {
        file: Expected { hash: candidate.hash, size: candidate.size },
        role: candidate.role,
        pinned,
        proven,
        unused_for: uses.saturating_sub(candidate.used),
        from: repository.map(|name| Repository::restore(&name)).zip(path),
    }
}
