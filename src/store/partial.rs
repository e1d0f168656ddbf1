//! A file on its way into the store.
#![expect(clippy::disallowed_methods, reason = "the door to a partial's file")]

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::hash::{Expected, PieceChain};

use super::{
    StoreError,
    lend::{Lent, Loan, Loans},
    locked,
    objects::private_file,
    shelf::Shelf,
};

/// A file whose bytes arrive in any order, in room set aside for all of them. Dropped, it is gone, room and all.
pub struct Partial {
    expected: Expected,
    path: PathBuf,
    file: Arc<File>,
    written: Arc<AtomicU64>,
    number: u64,
    shelf: Arc<Mutex<Shelf>>,
    loans: Loans,
    loan: Arc<Loan>,
    modified: Option<String>,
    /// Whether the file lies in its place among the objects.
    kept: bool,
}

impl Partial {
    /// Makes the file for room that was set aside under `number`, which from here on is the partial's to give back.
    pub(super) fn create(
        dir: &Path,
        expected: Expected,
        written: Arc<AtomicU64>,
        number: u64,
        shelf: Arc<Mutex<Shelf>>,
        loans: Loans,
    ) -> Result<Self, StoreError> {
        let path = dir.join(format!("{}-{number}", expected.hash));
        match private_file(&path) {
            Ok(file) => {
                let file = Arc::new(file);
                let loan = Arc::new(Loan::new(expected, file.clone()));
                Ok(Self { expected, path, file, written, number, shelf, loans, loan, modified: None, kept: false })
            }
            Err(error) => {
                locked(&shelf).release(number);
                Err(StoreError::at(path)(error))
            }
        }
    }

    /// What the file is to become.
    pub fn expected(&self) -> &Expected {
        &self.expected
    }

    /// Writes bytes to where they belong. Bytes beyond the promised size are refused.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.expected.size) {
            return Err(StoreError::at(&self.path)(io::ErrorKind::InvalidInput.into()));
        }
        self.file.write_all_at(bytes, offset).map_err(StoreError::at(&self.path))?;
        self.written.fetch_add(bytes.len() as u64, Relaxed);
        Ok(())
    }

    /// Reads back what was written. Bytes that never were read as zeros, or as the end of the file.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        self.file.read_exact_at(buffer, offset).map_err(StoreError::at(&self.path))
    }

    /// The file itself, for those who read it as it grows. It stays readable after the partial is committed or dropped.
    pub fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    /// Lends a piece that is wholly written to peers, from now on until it is taken back or the partial is dropped.
    ///
    /// The caller sees to it that the file is one that may be named to strangers ([`Vouched::shareable`]), and that
    /// nothing but what [`Lent`] says is lent. Files of one piece, and of more than [`MAX_PIECES`], are never lent in
    /// parts.
    ///
    /// [`Vouched::shareable`]: crate::archive::Vouched::shareable
    /// [`MAX_PIECES`]: super::MAX_PIECES
    pub fn lend(&self, piece: usize, how: Lent) {
        self.loans.lend(&self.loan, piece, how);
    }

    /// Takes a piece back. To be called before any other bytes are written in its place.
    pub fn unlend(&self, piece: usize) {
        self.loans.unlend(&self.loan, piece);
    }

    /// What the mirror sent as its `Last-Modified`, to be kept beside the file.
    pub fn set_modified(&mut self, modified: Option<String>) {
        self.modified = modified;
    }

    pub(super) fn modified(&self) -> Option<&str> {
        self.modified.as_deref()
    }

    /// Lends the file's piece hashes, each of which is proven.
    pub fn lend_chain(&self, chain: PieceChain) {
        self.loans.lend_chain(&self.loan, chain);
    }

    /// The file lies in its place: whoever reads what was lent may go on.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Number of the room set aside.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Brings the bytes to the disk: the one fsync of a file's life. A file of the wrong length goes no further.
    pub(super) fn settle(&self) -> Result<(), StoreError> {
        let length = self.file.metadata().map_err(StoreError::at(&self.path))?.len();
        if length != self.expected.size {
            return Err(StoreError::at(&self.path)(io::ErrorKind::UnexpectedEof.into()));
        }
        self.file.sync_data().map_err(StoreError::at(&self.path))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After a commit the name has moved away and the room is given back; both are then nothing to do.
        let _ = fs::remove_file(&self.path);
        locked(&self.shelf).release(self.number);
        self.loans.end(&self.loan, self.kept);
    }
}
