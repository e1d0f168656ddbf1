//! Keep: room for a file on its way, and its place once it is proven.
#![expect(clippy::disallowed_methods, reason = "the door to the store's clock, for when a file was last hashed")]

use std::{
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Instant,
};

use rusqlite::{Connection, params};

use crate::{
    archive::Vouched,
    hash::{Expected, Verified},
};

use super::{
    Blob, Change, Inner, Partial, Store, StoreError,
    evict::{self, Candidate, Terms},
    locked,
    partial::Parts,
    shelf::Shelf,
    unix_now,
};

/// What is freed beyond the need, as a part of the quota, so that a full store does not look for room at every file.
const SPARE: u64 = 64;

/// The part of the quota that current files may take which few others have, without giving way.
const RARE: u64 = 4;

impl Store {
    /// Sets room aside for a file and begins it. [`StoreError::Full`] when quota and the free disk have no room for it and
    /// eviction cannot make any; also once after the disk would not take the file's bytes, so that whoever asks again is
    /// served past the store.
    pub fn begin(&self, expected: Expected) -> Result<Partial, StoreError> {
        let begun = self.try_begin(expected);
        if matches!(begun, Err(StoreError::Full)) {
            self.0.shelf().refuse();
        }
        begun
    }

    fn try_begin(&self, expected: Expected) -> Result<Partial, StoreError> {
        if self.0.shelf().was_spurned(expected.hash) {
            return Err(StoreError::Full);
        }
        let left = self.0.shelf().take_leftover(&expected);
        let written = Arc::new(AtomicU64::new(left.as_ref().map_or(0, |left| left.bytes)));
        let number = match self.set_aside(expected, &written) {
            Ok(number) => number,
            Err(error) => {
                let surplus = left.and_then(|left| self.0.shelf().leave(left));
                surplus.into_iter().for_each(|surplus| surplus.remove(&*self.0.disk));
                return Err(error);
            }
        };
        let (shelf, loans) = (self.0.shelf.clone(), self.0.loans.clone());
        let parts = Parts { disk: self.0.disk.clone(), written, number, shelf, loans };
        match left {
            Some(left) => Partial::resume(&self.0.partials, expected, left, parts),
            None => Partial::create(&self.0.partials, expected, parts),
        }
    }

    /// Sets room aside, by eviction if need be.
    fn set_aside(&self, expected: Expected, written: &Arc<AtomicU64>) -> Result<u64, StoreError> {
        match self.0.reserve(expected, written)? {
            Ok(number) => Ok(number),
            Err(shortage) => {
                self.free(shortage)?;
                self.0.reserve(expected, written)?.map_err(|_| StoreError::Full)
            }
        }
    }

    /// Puts a proven file in its place and opens it. When this fails the partial is gone and nothing was kept.
    ///
    /// # Panics
    /// When the proof is for another file than the partial or the promise.
    pub fn commit(&self, mut partial: Partial, verified: Verified, vouched: &Vouched) -> Result<Blob, StoreError> {
        let expected = *verified.expected();
        assert_eq!(expected, *partial.expected(), "the proof is for the bytes of this partial");
        assert_eq!(expected, *vouched.expected(), "the proof is for the file that was vouched for");
        partial.settle()?;

        let mut writer = self.0.database.writer();
        let transaction = writer.transaction()?;
        let row =
            transaction.prepare_cached("SELECT 1 FROM object WHERE hash = ?1")?.exists([expected.hash.as_bytes()])?;
        let used = self.0.shelf().next_use().cast_signed();
        transaction
            .prepare_cached(
                "INSERT INTO object (hash, size, used, stored, repository, path, chain, modified, holders)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                 ON CONFLICT (hash) DO UPDATE SET size = excluded.size, used = excluded.used, stored = excluded.stored,
                     repository = excluded.repository, path = excluded.path, chain = excluded.chain,
                     modified = excluded.modified, holders = excluded.holders",
            )?
            .execute(params![
                expected.hash.as_bytes(),
                expected.size.cast_signed(),
                used,
                unix_now(),
                vouched.repository().as_str(),
                vouched.path(),
                verified.chain().encode(),
                partial.modified(),
                partial.holders()
            ])?;
        let added = {
            // Nobody sees the row before the transaction ends, nor evicts the file before it has one.
            let mut shelf = self.0.shelf();
            self.0.objects.place(partial.path(), expected.hash)?;
            let returned = shelf.returned(expected.hash);
            shelf.release(partial.number());
            shelf.checked(expected.hash, Instant::now());
            let added = !row || returned;
            if added {
                shelf.add(expected.size);
            }
            added
        };
        if let Err(error) = transaction.commit() {
            if added {
                self.0.shelf().remove(expected.hash, expected.size);
                self.0.objects.remove(expected.hash)?;
            }
            return Err(error.into());
        }
        flush(&mut writer, &self.0.shelf)?;
        drop(writer);
        partial.keep();
        self.0.tell(Change::Stored(expected.hash));
        let blob = self.open_object(expected.hash)?.ok_or(StoreError::Full)?;
        match self.make_room(0) {
            Ok(()) | Err(StoreError::Full) => {}
            Err(error) => tracing::warn!(%error, "no room could be made"),
        }
        Ok(blob)
    }

    /// Evicts until `size` bytes would fit.
    pub(super) fn make_room(&self, size: u64) -> Result<(), StoreError> {
        match self.0.shortage(size)? {
            0 => Ok(()),
            shortage => self.free(shortage),
        }
    }

    /// Gives up at least that many bytes, or nothing: what interrupted downloads left, then files.
    fn free(&self, need: u64) -> Result<(), StoreError> {
        let _one_at_a_time = locked(&self.0.evicting);
        let of_files = need.saturating_sub(self.0.shelf().left().1);
        let plan = if of_files > 0 { self.plan(of_files)? } else { Vec::new() };
        self.0.drop_leftovers(need);
        let (files, bytes) = self.evict(plan)?;
        tracing::info!(files, bytes, "evicted");
        flush_if_idle(&self.0)
    }

    fn plan(&self, need: u64) -> Result<Vec<Candidate>, StoreError> {
        let candidates = self.rows(false)?.into_iter().map(|row| row.candidate).collect();
        let quota = self.0.config.quota;
        let terms = Terms { need, spare: quota / SPARE, uses: self.0.shelf().uses(), rare_room: quota / RARE };
        evict::plan(candidates, terms).ok_or(StoreError::Full)
    }

    /// Gives these files up, but for those that were taken up meanwhile; says how many, and their bytes.
    pub(super) fn evict(&self, victims: Vec<Candidate>) -> Result<(usize, u64), StoreError> {
        let (mut files, mut bytes) = (0, 0);
        for victim in victims {
            let mut shelf = self.0.shelf();
            if shelf.is_busy(victim.hash) || shelf.is_gone(victim.hash) {
                continue;
            }
            let removed = self.0.objects.remove(victim.hash)?;
            if removed {
                shelf.evict(victim.hash, victim.size);
            }
            drop(shelf);
            if !removed {
                self.forget(victim.hash, false)?;
                continue;
            }
            self.0.tell(Change::Gone(victim.hash));
            files += 1;
            bytes += victim.size;
        }
        Ok((files, bytes))
    }
}

impl Inner {
    /// Removes what interrupted downloads left, the oldest first, until so many bytes are freed or nothing is left.
    pub(super) fn drop_leftovers(&self, need: u64) {
        let mut freed = 0;
        while freed < need
            && let Some(left) = self.shelf().oldest_leftover()
        {
            freed += left.bytes;
            left.remove(&*self.disk);
        }
    }

    /// Sets room aside, or says how many bytes are missing.
    fn reserve(&self, expected: Expected, written: &Arc<AtomicU64>) -> Result<Result<u64, u64>, StoreError> {
        if expected.size > self.config.quota {
            return Err(StoreError::Full);
        }
        let free = self.free_space()?;
        let mut shelf = self.shelf();
        Ok(match shelf.shortage(expected.size, self.config.quota, free, self.config.min_free) {
            0 => Ok(shelf.reserve(expected, written.clone())),
            shortage => Err(shortage),
        })
    }

    fn free_space(&self) -> Result<u64, StoreError> {
        self.disk.free(&self.config.path).map_err(StoreError::at(&self.config.path))
    }

    fn shortage(&self, size: u64) -> Result<u64, StoreError> {
        let free = self.free_space()?;
        Ok(self.shelf().shortage(size, self.config.quota, free, self.config.min_free))
    }
}

/// Writes down uses and evictions, unless the catalogue is being written to: then whoever writes next does.
pub(super) fn flush_if_idle(inner: &Inner) -> Result<(), StoreError> {
    match inner.database.idle_writer() {
        Some(mut writer) => flush(&mut writer, &inner.shelf),
        None => Ok(()),
    }
}

/// Writes down uses and evictions.
pub(super) fn flush(writer: &mut Connection, shelf: &Mutex<Shelf>) -> Result<(), StoreError> {
    let pending = locked(shelf).take_pending();
    if pending.used.is_empty() && pending.gone.is_empty() {
        return Ok(());
    }
    let write = |writer: &mut Connection| -> rusqlite::Result<()> {
        let transaction = writer.transaction()?;
        {
            let mut used = transaction.prepare_cached("UPDATE object SET used = ?2 WHERE hash = ?1")?;
            for (hash, count) in &pending.used {
                used.execute(params![hash.as_bytes(), count.cast_signed()])?;
            }
            let mut gone = transaction.prepare_cached("DELETE FROM object WHERE hash = ?1")?;
            for hash in &pending.gone {
                gone.execute([hash.as_bytes()])?;
            }
        }
        transaction.commit()
    };
    match write(writer) {
        Ok(()) => Ok(()),
        Err(error) => {
            locked(shelf).put_back(pending);
            Err(error.into())
        }
    }
}
