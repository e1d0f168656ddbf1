//! A file on its way into the store.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::hash::{Expected, PieceChain};

use super::{
    StoreError,
    disk::Disk,
    leftover::Leftover,
    lend::{Lent, Loan, Loans},
    locked,
    record::{self, Earlier, Kept, Record},
    shelf::Shelf,
};

/// A file whose bytes arrive in any order, in room set aside for all of them. Dropped, its room is given back; pieces that
/// were noted stay for whoever begins the file again, until room is needed.
pub struct Partial {
    expected: Expected,
    path: PathBuf,
    file: Arc<File>,
    written: Arc<AtomicU64>,
    number: u64,
    shelf: Arc<Mutex<Shelf>>,
    loans: Loans,
    loan: Arc<Loan>,
    disk: Arc<dyn Disk>,
    record: Mutex<Record>,
    /// What the record said when it was opened, until it is asked for.
    earlier: Mutex<Vec<Kept>>,
    modified: Option<String>,
    holders: Option<u32>,
    fate: Fate,
}

/// What becomes of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// What is noted stays for later.
    Resumed,
    /// It goes.
    Removed,
    /// It lies in its place among the objects.
    Kept,
}

/// What a partial is made of beside its file.
pub(super) struct Parts {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) written: Arc<AtomicU64>,
    /// Names the room set aside, which is the partial's to give back.
    pub(super) number: u64,
    pub(super) shelf: Arc<Mutex<Shelf>>,
    pub(super) loans: Loans,
}

impl Partial {
    /// Makes the file.
    pub(super) fn create(dir: &Path, expected: Expected, parts: Parts) -> Result<Self, StoreError> {
        let path = dir.join(format!("{}-{}", expected.hash, parts.number));
        match parts.disk.create(&path) {
            Ok(file) => {
                let record = Record::new(parts.disk.clone(), expected, &path);
                Ok(Self::new(expected, path, file, record, Vec::new(), parts))
            }
            Err(error) => {
                locked(&parts.shelf).release(parts.number);
                Err(StoreError::at(path)(error))
            }
        }
    }

    /// Goes on with the file of an earlier download; anew when it cannot be read.
    pub(super) fn resume(dir: &Path, expected: Expected, left: Leftover, parts: Parts) -> Result<Self, StoreError> {
        let opened = parts.disk.open(&left.path, true);
        let recorded = Record::open(parts.disk.clone(), expected, &left.path);
        match (opened, recorded) {
            (Ok((file, length)), Ok((record, slots))) if length <= expected.size => {
                Ok(Self::new(expected, left.path, file, record, slots, parts))
            }
            _ => {
                left.remove(&*parts.disk);
                parts.written.store(0, Relaxed);
                Self::create(dir, expected, parts)
            }
        }
    }

    fn new(expected: Expected, path: PathBuf, file: File, record: Record, earlier: Vec<Kept>, parts: Parts) -> Self {
        let Parts { disk, written, number, shelf, loans } = parts;
        let file = Arc::new(file);
        let loan = Arc::new(Loan::new(expected, file.clone()));
        let (record, earlier) = (Mutex::new(record), Mutex::new(earlier));
        let fate = Fate::Resumed;
        let (modified, holders) = (None, None);
        Self {
            expected,
            path,
            file,
            written,
            number,
            shelf,
            loans,
            loan,
            disk,
            record,
            earlier,
            modified,
            holders,
            fate,
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
        if let Err(error) = self.disk.write(&self.file, offset, bytes) {
            locked(&self.shelf).spurn(self.expected.hash);
            return Err(StoreError::at(&self.path)(error));
        }
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

    /// What an earlier download left of the file, hashed again just now; once, nothing the second time. Blocks for as long
    /// as hashing takes.
    pub fn earlier(&self) -> Earlier {
        let slots = std::mem::take(&mut *locked(&self.earlier));
        if slots.is_empty() {
            return Earlier::default();
        }
        record::prove_again(&self.expected, &slots, |piece| {
            let mut bytes = vec![0; self.expected.piece_len(piece)];
            self.file.read_exact_at(&mut bytes, self.expected.span(piece).start)?;
            Ok(bytes)
        })
    }

    /// Notes what is known of a piece, for the case that the download is interrupted; after its bytes are written. Of a
    /// file of one piece nothing is noted.
    pub fn note(&self, piece: usize, kept: Kept) {
        if self.expected.pieces() > 1
            && let Err(error) = locked(&self.record).note(piece, kept)
        {
            tracing::debug!(path = %self.path.display(), %error, "not noted; a restart begins here again");
        }
    }

    /// How many others were found to have the file: what few have is kept for longer.
    pub fn set_holders(&mut self, holders: u32) {
        self.holders = Some(holders);
    }

    pub(super) fn holders(&self) -> Option<u32> {
        self.holders
    }

    /// Takes the blocks of another file for its own, where the file system can; says whether it did.
    pub(super) fn clone_from(&self, source: &File) -> bool {
        let cloned = self.disk.clone_file(source, &self.file).is_ok();
        if cloned {
            self.written.fetch_add(self.expected.size, Relaxed);
        }
        cloned
    }

    /// Becomes another name of a file, where that lies on the same file system; says whether it did. Nothing may be written
    /// to it afterwards.
    pub(super) fn link_from(&mut self, source: &File) -> bool {
        let Ok(source_again) = source.try_clone() else { return false };
        let mut link = self.path.clone().into_os_string();
        link.push(".link");
        let link = PathBuf::from(link);
        let linked = self.disk.link_file(source, &link).and_then(|()| self.disk.rename(&link, &self.path)).is_ok();
        if linked {
            self.file = Arc::new(source_again);
            self.written.fetch_add(self.expected.size, Relaxed);
        } else {
            let _none = self.disk.remove(&link);
        }
        linked
    }

    /// Nothing of it is of any use: dropped, it is gone.
    pub fn discard(mut self) {
        self.fate = Fate::Removed;
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
        self.fate = Fate::Kept;
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Number of the room set aside.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Brings the bytes to the disk: the one fsync of a file's life. A file of the wrong length goes no further, and one
    /// that could not be synced is not gone on with either: what the system then says of its bytes is not what the disk has.
    pub(super) fn settle(&mut self) -> Result<(), StoreError> {
        self.fate = Fate::Removed;
        let length = self.file.metadata().map_err(StoreError::at(&self.path))?.len();
        if length != self.expected.size {
            return Err(StoreError::at(&self.path)(io::ErrorKind::UnexpectedEof.into()));
        }
        self.disk.sync(&self.file).map_err(StoreError::at(&self.path))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let record = self.record.get_mut().unwrap_or_else(PoisonError::into_inner);
        let bytes = record.bytes();
        // After a commit the name has moved away and the room is given back; both are then nothing to do.
        let left = if self.fate == Fate::Resumed && bytes > 0 {
            Some(Leftover { expected: self.expected, path: self.path.clone(), bytes })
        } else {
            let _moved = self.disk.remove(&self.path);
            record.remove();
            None
        };
        let surplus = {
            let mut shelf = locked(&self.shelf);
            shelf.release(self.number);
            left.and_then(|left| shelf.leave(left))
        };
        surplus.into_iter().for_each(|surplus| surplus.remove(&*self.disk));
        self.loans.end(&self.loan, self.fate == Fate::Kept);
    }
}
