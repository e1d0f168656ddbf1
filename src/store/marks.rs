//! Marks on files of which bytes left before they were proven.
//!
//! A file `released/<sha256>` says that someone may hold a wrong prefix of that file (promise 1), and so must be
//! given the whole of it. It is there before the first such byte leaves, and no fsync is spent on it: a machine that
//! loses power takes the client's partial file along. It is empty, or says `cut` when a client was cut for it once, and then
//! gets no other byte of that file than proven ones.
#![expect(clippy::disallowed_methods, reason = "the door to the marks' directory")]

use std::{fs, io, path::PathBuf};

use crate::hash::ContentHash;

use super::{Store, StoreError, objects};

/// Whether the mark was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// No byte of this file ever left unproven and unsettled.
    Fresh,
    /// An earlier answer, perhaps of an earlier run, may have been wrong.
    Already,
}

/// The directory of marks.
pub(super) struct Marks {
    dir: PathBuf,
}

impl Marks {
    pub(super) fn open(dir: PathBuf) -> Result<Self, StoreError> {
        objects::private_dir(&dir)?;
        Ok(Self { dir })
    }

    fn path(&self, hash: ContentHash) -> PathBuf {
        self.dir.join(hash.to_string())
    }
}

impl Store {
    /// Marks a file, before its first unproven byte leaves.
    pub fn mark_released(&self, hash: ContentHash) -> Result<Mark, StoreError> {
        let path = self.0.marks.path(hash);
        match objects::private_file(&path) {
            Ok(_) => Ok(Mark::Fresh),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Mark::Already),
            Err(error) => Err(StoreError::at(path)(error)),
        }
    }

    /// Remembers, in its mark, that a client of that file was cut.
    pub fn mark_cut(&self, hash: ContentHash) -> Result<(), StoreError> {
        let path = self.0.marks.path(hash);
        fs::write(&path, "cut\n").map_err(StoreError::at(path))
    }

    /// Whether a client of that file was ever cut, in this run or an earlier one.
    pub fn was_cut(&self, hash: ContentHash) -> bool {
        fs::symlink_metadata(self.0.marks.path(hash)).is_ok_and(|mark| mark.len() > 0)
    }

    /// Takes the mark away: every byte that ever left is known to have been right.
    pub fn clear_mark(&self, hash: ContentHash) -> Result<(), StoreError> {
        let path = self.0.marks.path(hash);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::at(path)(error)),
            _ => Ok(()),
        }
    }

    /// Whether bytes may be out that were never proven. In doubt, they are.
    pub fn is_marked(&self, hash: ContentHash) -> bool {
        !matches!(fs::symlink_metadata(self.0.marks.path(hash)), Err(error) if error.kind() == io::ErrorKind::NotFound)
    }
}
