//! After a crash: disk and catalogue are made to agree.
//!
//! A row without its file, or with one of another length, goes. A file without a row gets one that has no chain: it
//! counts against the quota and can be evicted, but is not believed before it was hashed, when it is first asked for or
//! in an idle moment. So a lost catalogue delays no start, however much is held.

use std::{collections::HashMap, fs::File, io, os::unix::fs::FileExt};

use rusqlite::{Connection, params};

use crate::hash::{ContentHash, Expected, Hasher, Mismatch, Verified};

use super::{StoreError, objects::Objects, shelf::Shelf, unix_now};

/// Bytes read at once while hashing.
const CHUNK: usize = 256 * 1024;

/// Makes the table of objects say what lies on the disk, and counts it.
pub(super) fn reconcile(writer: &mut Connection, objects: &Objects) -> Result<Shelf, StoreError> {
    let mut files: HashMap<ContentHash, u64> = HashMap::new();
    objects.walk(|hash, size| {
        files.insert(hash, size);
    })?;
    let (count, bytes) = (files.len(), files.values().sum());

    let transaction = writer.transaction()?;
    let mut lost = Vec::new();
    {
        let mut statement = transaction.prepare("SELECT id, hash, size FROM object")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let hash = ContentHash::new(row.get(1)?);
            if files.get(&hash) == Some(&row.get::<_, i64>(2)?.cast_unsigned()) {
                files.remove(&hash);
            } else {
                lost.push((row.get::<_, i64>(0)?, hash));
            }
        }
        let mut delete = transaction.prepare("DELETE FROM object WHERE id = ?1")?;
        for (id, _) in &lost {
            delete.execute([id])?;
        }
        let mut insert = transaction.prepare("INSERT INTO object (hash, size, used, stored) VALUES (?1, ?2, 0, ?3)")?;
        for (hash, size) in &files {
            insert.execute(params![hash.as_bytes(), size.cast_signed(), unix_now()])?;
        }
    }
    let uses: i64 = transaction.query_row("SELECT coalesce(max(used), 0) FROM object", [], |row| row.get(0))?;
    transaction.commit()?;
    if !lost.is_empty() || !files.is_empty() {
        tracing::info!(lost = lost.len(), found = files.len(), "objects and catalogue did not agree; they do now");
    }
    Ok(Shelf::new(count, bytes, uses.cast_unsigned()))
}

/// Hashes a whole file.
pub(super) fn hash(file: &File, expected: &Expected) -> Result<Result<Verified, Mismatch>, StoreError> {
    let mut hasher = Hasher::new(expected);
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while at < expected.size {
        let want = CHUNK.min((expected.size - at) as usize);
        match file.read_at(&mut buffer[..want], at) {
            Ok(0) => break,
            Ok(read) => {
                hasher.update(&buffer[..read]);
                at += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(StoreError::at(expected.hash.to_string())(error)),
        }
    }
    Ok(hasher.finish())
}
