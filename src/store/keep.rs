//! Keep: room for a file on its way, and its place once it is proven.

use std::sync::{Arc, Mutex, atomic::AtomicU64};

use rusqlite::{Connection, params};

use crate::{
    archive::Vouched,
    hash::{ContentHash, Expected, Verified},
};

use super::{
    Blob, Change, Inner, Partial, Store, StoreError,
    evict::{self, Candidate},
    locked, objects, promises,
    shelf::Shelf,
    unix_now,
};

/// Rows read in one question while looking for room; other readers get their turn between two.
const PAGE: i64 = 512;

/// What is freed beyond the need, as a part of the quota, so that a full store does not look for room at every file.
const SPARE: u64 = 64;

impl Store {
    /// Sets room aside for a file and begins it. [`StoreError::Full`] when quota and the free disk have no room for it and
    /// eviction cannot make any.
    pub fn begin(&self, expected: Expected) -> Result<Partial, StoreError> {
        let written = Arc::new(AtomicU64::new(0));
        let reserved = self.0.reserve(expected, &written)?;
        let number = match reserved {
            Ok(number) => number,
            Err(shortage) => {
                self.free(shortage)?;
                self.0.reserve(expected, &written)?.map_err(|_| StoreError::Full)?
            }
        };
        Partial::create(&self.0.partials, expected, written, number, self.0.shelf.clone(), self.0.loans.clone())
    }

    /// Puts a proven file in its place and opens it. When this fails the partial is gone and nothing was kept.
    ///
    /// # Panics
    /// When the proof is for another file than the partial or the promise.
    pub fn commit(&self, partial: Partial, verified: Verified, vouched: &Vouched) -> Result<Blob, StoreError> {
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
                "INSERT INTO object (hash, size, used, stored, repository, path, chain, modified)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT (hash) DO UPDATE SET size = excluded.size, used = excluded.used, stored = excluded.stored,
                     repository = excluded.repository, path = excluded.path, chain = excluded.chain,
                     modified = excluded.modified",
            )?
            .execute(params![
                expected.hash.as_bytes(),
                expected.size.cast_signed(),
                used,
                unix_now(),
                vouched.repository().as_str(),
                vouched.path(),
                verified.chain().encode(),
                partial.modified()
            ])?;
        let added = {
            // Nobody sees the row before the transaction ends, nor evicts the file before it has one.
            let mut shelf = self.0.shelf();
            self.0.objects.place(partial.path(), expected.hash)?;
            let returned = shelf.returned(expected.hash);
            shelf.release(partial.number());
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

    /// Evicts at least that many bytes, or nothing.
    fn free(&self, need: u64) -> Result<(), StoreError> {
        let _one_at_a_time = locked(&self.0.evicting);
        let plan = evict::plan(self.candidates()?, need, self.0.config.quota / SPARE).ok_or(StoreError::Full)?;
        let (mut files, mut bytes) = (0, 0);
        for victim in plan {
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
        tracing::info!(files, bytes, "evicted");
        flush_if_idle(&self.0)
    }

    fn candidates(&self) -> Result<Vec<Candidate>, StoreError> {
        let mut candidates = Vec::new();
        let mut after = 0_i64;
        loop {
            let reader = self.0.database.reader();
            let mut statement =
                reader.prepare_cached("SELECT hash, size, used, id FROM object WHERE id > ?1 ORDER BY id LIMIT ?2")?;
            let mut rows = statement.query([after, PAGE])?;
            let before = after;
            while let Some(row) = rows.next()? {
                let hash = ContentHash::new(row.get(0)?);
                candidates.push(Candidate {
                    hash,
                    size: row.get::<_, i64>(1)?.cast_unsigned(),
                    used: row.get::<_, i64>(2)?.cast_unsigned(),
                    current: promises::is_current(&reader, hash)?,
                    busy: false,
                });
                after = row.get(3)?;
            }
            if after == before {
                break;
            }
        }
        let shelf = self.0.shelf();
        let arriving = shelf.arriving();
        candidates.retain(|candidate| !shelf.is_gone(candidate.hash));
        for candidate in &mut candidates {
            candidate.busy = shelf.is_busy(candidate.hash) || arriving.contains(&candidate.hash);
            candidate.used = shelf.last_use(candidate.hash).unwrap_or(candidate.used);
        }
        Ok(candidates)
    }
}

impl Inner {
    /// Sets room aside, or says how many bytes are missing.
    fn reserve(&self, expected: Expected, written: &Arc<AtomicU64>) -> Result<Result<u64, u64>, StoreError> {
        if expected.size > self.config.quota {
            return Err(StoreError::Full);
        }
        let free = objects::free_space(&self.config.path)?;
        let mut shelf = self.shelf();
        Ok(match shelf.shortage(expected.size, self.config.quota, free, self.config.min_free) {
            0 => Ok(shelf.reserve(expected, written.clone())),
            shortage => Err(shortage),
        })
    }

    fn shortage(&self, size: u64) -> Result<u64, StoreError> {
        let free = objects::free_space(&self.config.path)?;
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
