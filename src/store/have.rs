//! Have, and give: opening what is held.
#![expect(clippy::disallowed_methods, reason = "the door to the store's clock and files")]

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex},
    time::Instant,
};

use rusqlite::{OptionalExtension, params};

use crate::{
    archive::Shareable,
    hash::{ContentHash, Expected, PieceChain},
};

use super::{Change, Loan, Store, StoreError, keep, locked, rebuild, shelf::Shelf};

/// A file that is held, open. It is not evicted before it is dropped.
pub struct Blob {
    /// Its bytes.
    pub file: File,
    /// Its digest and size.
    pub expected: Expected,
    /// Its piece hashes, proven.
    pub chain: PieceChain,
    /// The `Last-Modified` of the mirror that it came from, as it was sent.
    pub modified: Option<String>,
    _hold: Hold,
}

impl Blob {
    /// Reads `length` bytes from `offset` on, wherever others read at the same time.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}

/// What may be given to strangers of a file: held or lent, vouched for by a public repository, and current.
pub struct Offer {
    /// The right to name it.
    pub file: Shareable,
    /// What there is of it.
    pub of: Offered,
}

/// How much of a file there is to give.
pub enum Offered {
    /// All of it.
    Whole(Blob),
    /// It is on its way, and some pieces are lent.
    Lent(Arc<Loan>),
}

/// Keeps a file from eviction.
pub(super) struct Hold {
    hash: ContentHash,
    shelf: Arc<Mutex<Shelf>>,
}

impl Hold {
    /// Unless it was evicted a moment ago.
    pub(super) fn take(shelf: &Arc<Mutex<Shelf>>, hash: ContentHash) -> Option<Self> {
        let mut locked = locked(shelf);
        if locked.is_gone(hash) {
            return None;
        }
        locked.hold(hash);
        Some(Self { hash, shelf: shelf.clone() })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        locked(&self.shelf).let_go(self.hash);
    }
}

/// What the catalogue says of an object.
struct Held {
    size: u64,
    chain: Option<Vec<u8>>,
    modified: Option<String>,
}

impl Store {
    /// Opens a file, when it is held. One whose proof was lost with a damaged catalogue is hashed first.
    pub fn open_object(&self, hash: ContentHash) -> Result<Option<Blob>, StoreError> {
        let Some(held) = self.held(hash)? else { return Ok(None) };
        self.open_held(hash, held)
    }

    /// Opens a file for strangers; everything that they may not have is `None`, whatever the reason.
    pub fn offer(&self, hash: ContentHash) -> Result<Option<Offer>, StoreError> {
        // Looked at first: a file that is put in its place meanwhile is found there.
        let loan = self.0.loans.of(hash);
        let held = self.held(hash)?.filter(|held| held.chain.is_some());
        if held.is_none() && loan.is_none() {
            return Ok(None);
        }
        let shareable = self.by_hash(hash)?.iter().find_map(|vouched| vouched.shareable());
        let Some(file) = shareable else { return Ok(None) };
        let blob = match held {
            Some(held) => self.open_held(hash, held)?.filter(|blob| blob.expected == *file.expected()),
            None => None,
        };
        let loan = || loan.filter(|loan| loan.expected() == file.expected()).map(Offered::Lent);
        Ok(blob.map(Offered::Whole).or_else(loan).map(|of| Offer { file, of }))
    }

    /// Proves one file that was found without a row, and says whether there was one: for an idle moment.
    pub fn prove_next(&self) -> Result<bool, StoreError> {
        let found: Option<[u8; 32]> = self
            .0
            .database
            .reader()
            .prepare_cached("SELECT hash FROM object WHERE chain IS NULL ORDER BY id LIMIT 1")?
            .query_row([], |row| row.get(0))
            .optional()?;
        let Some(hash) = found else { return Ok(false) };
        self.open_object(ContentHash::new(hash))?;
        keep::flush(&mut self.0.database.writer(), &self.0.shelf)?;
        Ok(true)
    }

    /// What the catalogue says of an object, unless it was evicted a moment ago.
    fn held(&self, hash: ContentHash) -> Result<Option<Held>, StoreError> {
        let held = self
            .0
            .database
            .reader()
            .prepare_cached("SELECT size, chain, modified FROM object WHERE hash = ?1")?
            .query_row([hash.as_bytes()], |row| {
                let size = row.get::<_, i64>(0)?.cast_unsigned();
                Ok(Held { size, chain: row.get(1)?, modified: row.get(2)? })
            })
            .optional()?;
        Ok(held)
    }

    fn open_held(&self, hash: ContentHash, held: Held) -> Result<Option<Blob>, StoreError> {
        let Some(hold) = Hold::take(&self.0.shelf, hash) else { return Ok(None) };
        let expected = Expected { hash, size: held.size };
        let file = self.0.objects.file(hash)?.filter(|(_, length)| *length == held.size).map(|(file, _)| file);
        let claimed = held.chain.and_then(|chain| PieceChain::decode(&expected, &chain).ok());
        let unproven = claimed.is_none();
        let now = Instant::now();
        let chain = match (&file, claimed) {
            (Some(file), None) => self.prove(file, &expected)?,
            (Some(file), Some(_)) if self.0.shelf().is_check_due(hash, now) => {
                self.check(file, &expected)?.map(|verified| verified.chain().clone())
            }
            (_, claimed) => claimed,
        };
        let (Some(file), Some(chain)) = (file, chain) else {
            drop(hold);
            self.forget(hash, unproven)?;
            return Ok(None);
        };
        let due = self.0.shelf().touch(hash, now);
        if due {
            keep::flush_if_idle(&self.0)?;
        }
        Ok(Some(Blob { file, expected, chain, modified: held.modified, _hold: hold }))
    }

    /// Hashes a file that was found without a row, and writes down its chain when it is what its name says.
    fn prove(&self, file: &File, expected: &Expected) -> Result<Option<PieceChain>, StoreError> {
        let Ok(verified) = rebuild::hash(file, expected)? else { return Ok(None) };
        self.0
            .database
            .writer()
            .prepare_cached("UPDATE object SET chain = ?2 WHERE hash = ?1")?
            .execute(params![expected.hash.as_bytes(), verified.chain().encode()])?;
        self.0.tell(Change::Stored(expected.hash));
        Ok(Some(verified.chain().clone()))
    }

    /// Gives up a file that is damaged or missing, so that it is never served again; not one that took its place since.
    pub(super) fn forget(&self, hash: ContentHash, unproven: bool) -> Result<(), StoreError> {
        let writer = self.0.database.writer();
        let row: Option<(i64, bool)> = writer
            .prepare_cached("SELECT size, chain IS NULL FROM object WHERE hash = ?1")?
            .query_row([hash.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let mut shelf = self.0.shelf();
        let Some((size, still_unproven)) = row.filter(|_| !shelf.is_gone(hash)) else { return Ok(()) };
        let size = size.cast_unsigned();
        let replaced = unproven && !still_unproven;
        let sound = !unproven && self.0.objects.file(hash)?.is_some_and(|(_, length)| length == size);
        if replaced || sound {
            return Ok(());
        }
        tracing::warn!(%hash, "the object is missing or damaged; given up");
        writer.prepare_cached("DELETE FROM object WHERE hash = ?1")?.execute([hash.as_bytes()])?;
        shelf.remove(hash, size);
        self.0.objects.remove(hash)?;
        self.0.tell(Change::Gone(hash));
        Ok(())
    }
}
