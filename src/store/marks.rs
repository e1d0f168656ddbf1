//! Marks on files of which bytes left before they were proven.
//!
//! A file `released/<sha256>` says that someone may hold a wrong prefix of that file (promise 1), and so must be
//! given the whole of it. It is there before the first such byte leaves, and no fsync is spent on it: a machine that
//! loses power takes the client's partial file along. It is empty, or says `cut` when a client was cut for it once, and then
//! gets no other byte of that file than proven ones.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::hash::ContentHash;

use super::{
    Store, StoreError,
    disk::{self, Disk, Kind},
};

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
    disk: Arc<dyn Disk>,
}

impl Marks {
    pub(super) fn open(store: &Path, disk: Arc<dyn Disk>) -> Result<Self, StoreError> {
        let dir = store.join("released");
        disk.make_dir(&dir).map_err(StoreError::at(&dir))?;
        Ok(Self { dir, disk })
    }

    fn path(&self, hash: ContentHash) -> PathBuf {
        self.dir.join(hash.to_string())
    }

    fn kind(&self, hash: ContentHash) -> io::Result<Kind> {
        self.disk.kind(&self.path(hash))
    }
}

impl Store {
    /// Marks a file, before its first unproven byte leaves.
    pub fn mark_released(&self, hash: ContentHash) -> Result<Mark, StoreError> {
        let marks = &self.0.marks;
        match marks.disk.create(&marks.path(hash)) {
            Ok(_) => Ok(Mark::Fresh),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Mark::Already),
            Err(error) => Err(StoreError::at(marks.path(hash))(error)),
        }
    }

    /// Remembers, in its mark, that a client of that file was cut.
    pub fn mark_cut(&self, hash: ContentHash) -> Result<(), StoreError> {
        let marks = &self.0.marks;
        let path = marks.path(hash);
        let opened = match marks.disk.open(&path, true) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => marks.disk.create(&path),
            opened => opened.map(|(file, _)| file),
        };
        opened.and_then(|file| marks.disk.write(&file, 0, b"cut\n")).map_err(StoreError::at(path))
    }

    /// Whether a client of that file was ever cut, in this run or an earlier one.
    pub fn was_cut(&self, hash: ContentHash) -> bool {
        !matches!(self.0.marks.kind(hash), Ok(Kind::File(0)) | Err(_))
    }

    /// Takes the mark away: every byte that ever left is known to have been right.
    pub fn clear_mark(&self, hash: ContentHash) -> Result<(), StoreError> {
        disk::remove(&*self.0.marks.disk, &self.0.marks.path(hash)).map(drop)
    }

    /// Whether bytes may be out that were never proven. In doubt, they are.
    pub fn is_marked(&self, hash: ContentHash) -> bool {
        !matches!(self.0.marks.kind(hash), Err(error) if error.kind() == io::ErrorKind::NotFound)
    }
}
