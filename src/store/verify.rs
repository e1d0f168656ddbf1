//! Verify: whether what is held is still what it was.
//!
//! A disk forgets, and nobody notices before the bytes are read. Three things look:
//!
//! - An object that is opened for the second time is hashed before it is given, and again when it is opened an hour after
//!   that. To hash each time would cost what serving costs; to hash never would leave apt in a circle, asking again for
//!   what is damaged again. So a damaged object is served once at most: who got it comes back, and that finds it out.
//! - [`Store::verify`] hashes all, for whoever asks.
//! - [`Store::scrub`] does the same in small parts, for idle moments.
//!
//! What is damaged is set aside, with its row gone, and is fetched anew like a file that was never held.

use std::{fs::File, os::unix::fs::MetadataExt, time::Duration};

use rusqlite::{OptionalExtension, params};

use crate::{
    archive::Repository,
    hash::{ContentHash, Expected, Mismatch, Verified},
};

use super::{Change, Store, StoreError, have::Hold, locked, rebuild};

/// How long an object that was hashed is believed.
pub(super) const BELIEVED: Duration = Duration::from_secs(3600);

/// Objects looked at in one question.
const PAGE: i64 = 64;

/// An object that turned out damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// What it should be.
    pub file: Expected,
    /// Where it was fetched from, when that is known.
    pub from: Option<(Repository, String)>,
}

/// What a part of a verification came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Objects hashed.
    pub files: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Those that are set aside now.
    pub damaged: Vec<Damaged>,
    /// Where to go on; `None` at the end.
    pub last: Option<ContentHash>,
}

impl Store {
    /// Hashes the objects behind that one, in the order of their digests, until so many bytes are hashed; at least one.
    pub fn verify(&self, after: Option<ContentHash>, bytes: u64) -> Result<Checked, StoreError> {
        let mut checked = Checked { last: after, ..Checked::default() };
        loop {
            let page = self.objects_behind(checked.last)?;
            if page.is_empty() {
                return Ok(Checked { last: None, ..checked });
            }
            for damaged in page {
                let file = damaged.file;
                checked.last = Some(file.hash);
                match self.is_whole(&file)? {
                    None => continue,
                    Some(true) => {}
                    Some(false) => checked.damaged.push(damaged),
                }
                checked.files += 1;
                checked.bytes += file.size;
                if checked.bytes >= bytes {
                    return Ok(checked);
                }
            }
        }
    }

    /// Goes on hashing, round and round, until so many bytes are hashed or the end is reached; for idle moments. Says how
    /// many bytes that were; none while files are on their way.
    pub fn scrub(&self, bytes: u64) -> Result<u64, StoreError> {
        let mut at = locked(&self.0.scrubbed);
        if self.0.shelf().partials() > 0 {
            return Ok(0);
        }
        let checked = self.verify(*at, bytes)?;
        *at = checked.last;
        Ok(checked.bytes)
    }

    fn objects_behind(&self, after: Option<ContentHash>) -> Result<Vec<Damaged>, StoreError> {
        let after = after.map_or_else(Vec::new, |hash| hash.as_bytes().to_vec());
        let reader = self.0.database.reader();
        let mut statement = reader
            .prepare_cached("SELECT hash, size, repository, path FROM object WHERE hash > ?1 ORDER BY hash LIMIT ?2")?;
        let rows = statement.query_map(params![after, PAGE], |row| {
            let file = Expected { hash: ContentHash::new(row.get(0)?), size: row.get::<_, i64>(1)?.cast_unsigned() };
            let repository: Option<String> = row.get(2)?;
            Ok(Damaged { file, from: repository.map(|name| Repository::restore(&name)).zip(row.get(3)?) })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Hashes an object, and sets it aside when it is damaged. `None` when it is not held any more.
    fn is_whole(&self, file: &Expected) -> Result<Option<bool>, StoreError> {
        let Some(_hold) = Hold::take(&self.0.shelf, file.hash) else { return Ok(None) };
        let Some((opened, _)) = self.0.objects.file(file.hash)? else {
            self.forget(file.hash, false)?;
            return Ok(None);
        };
        Ok(Some(self.check(&opened, file)?.is_some()))
    }

    /// Hashes an open object. `None` when it is damaged; then it is set aside.
    pub(super) fn check(&self, file: &File, expected: &Expected) -> Result<Option<Verified>, StoreError> {
        match rebuild::hash(file, expected) {
            Ok(Ok(verified)) if file.metadata().is_ok_and(|meta| meta.len() == expected.size) => Ok(Some(verified)),
            // What cannot be read is as good as damaged.
            Ok(Ok(_) | Err(Mismatch { .. })) | Err(StoreError::Io { .. }) => {
                self.condemn(file, expected.hash)?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Sets an object aside, unless another file has taken its place.
    fn condemn(&self, file: &File, hash: ContentHash) -> Result<(), StoreError> {
        let writer = self.0.database.writer();
        let size: Option<i64> = writer
            .prepare_cached("SELECT size FROM object WHERE hash = ?1")?
            .query_row([hash.as_bytes()], |row| row.get(0))
            .optional()?;
        let mut shelf = self.0.shelf();
        let number = |file: &File| file.metadata().map(|meta| meta.ino()).ok();
        let is_same = self.0.objects.file(hash)?.is_some_and(|(now, _)| number(&now) == number(file));
        let Some(size) = size.filter(|_| is_same && !shelf.is_gone(hash)) else { return Ok(()) };
        tracing::warn!(%hash, "the object is damaged; set aside");
        writer.prepare_cached("DELETE FROM object WHERE hash = ?1")?.execute([hash.as_bytes()])?;
        shelf.remove(hash, size.cast_unsigned());
        self.0.objects.set_aside(hash)?;
        self.0.tell(Change::Gone(hash));
        Ok(())
    }
}
