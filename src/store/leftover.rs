//! Leftovers: what interrupted downloads left, for those who begin the same file again.
//!
//! They count against the quota and are the first to go when room is needed.

use std::{
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::hash::{ContentHash, Expected};

use super::{
    StoreError,
    disk::{self, Disk, Kind},
    record::{self, Kept, Record},
};

/// Leftovers kept; further ones push out the oldest.
pub(super) const LEFTOVERS_MAX: usize = 64;

/// Longest record that is read, in bytes: of a file of 512 GiB.
const RECORD_MAX: u64 = 64 << 20;

/// A partial that nobody is writing, with its record beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leftover {
    pub(super) expected: Expected,
    pub(super) path: PathBuf,
    /// Bytes of the pieces that are noted.
    pub(super) bytes: u64,
}

impl Leftover {
    /// Removes the file and its record.
    pub(super) fn remove(self, disk: &dyn Disk) {
        for path in [&self.path, &Record::beside(&self.path)] {
            if let Err(error) = disk::remove(disk, path) {
                tracing::warn!(%error, "a leftover stays until the next start");
            }
        }
    }
}

/// What lies in the directory of files on their way: leftovers, the oldest first, and the first number that is free. What
/// is of no use is removed.
pub(super) fn gather(disk: &dyn Disk, dir: &Path) -> Result<(Vec<Leftover>, u64), StoreError> {
    let mut leftovers = Vec::new();
    let mut next = 0;
    for entry in disk.list(dir).map_err(StoreError::at(dir))? {
        let path = dir.join(&entry.name);
        let name = entry.name.to_str().and_then(Name::parse);
        if let Some(Name { number, is_record, .. }) = name {
            next = next.max(number.saturating_add(1));
            // A record goes with its partial.
            if is_record && disk.kind(&path.with_extension("")).is_ok_and(|kind| matches!(kind, Kind::File(_))) {
                continue;
            }
        }
        let left = name.filter(|name| !name.is_record).and_then(|Name { hash, number, .. }| {
            let Kind::File(length) = entry.kind else { return None };
            Some((number, read(disk, hash, &path, length)?))
        });
        match left {
            Some(left) => leftovers.push(left),
            None if entry.kind == Kind::Dir => {}
            None => {
                disk::remove(disk, &path)?;
                disk::remove(disk, &Record::beside(&path))?;
            }
        }
    }
    leftovers.sort_by_key(|(number, _)| *number);
    let surplus = leftovers.len().saturating_sub(LEFTOVERS_MAX);
    leftovers.drain(..surplus).for_each(|(_, left)| left.remove(disk));
    Ok((leftovers.into_iter().map(|(_, left)| left).collect(), next))
}

/// A leftover, when its record says that anything of it is of use.
fn read(disk: &dyn Disk, hash: ContentHash, path: &Path, length: u64) -> Option<Leftover> {
    let (file, bytes) = disk.open(&Record::beside(path), false).ok()?;
    let mut record = vec![0; bytes.min(RECORD_MAX) as usize];
    file.read_exact_at(&mut record, 0).ok()?;
    let expected = Expected { hash, size: record::size(&record)? };
    // A record cannot speak of more pieces than it has bytes: its size is checked before room is made for them.
    if length > expected.size || expected.pieces() as u64 > RECORD_MAX / 65 {
        return None;
    }
    let slots = record::slots(&record, &expected)?;
    let noted = slots.iter().zip(0..).filter(|(slot, _)| **slot != Kept::Nothing);
    let bytes = noted.map(|(_, piece)| expected.piece_len(piece) as u64).sum();
    (bytes > 0).then(|| Leftover { expected, path: path.to_owned(), bytes })
}

/// `<sha256>-<n>`, and `.have` behind it for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name {
    hash: ContentHash,
    number: u64,
    is_record: bool,
}

impl Name {
    fn parse(name: &str) -> Option<Self> {
        let (name, is_record) = name.strip_suffix(".have").map_or((name, false), |name| (name, true));
        let (hash, number) = name.split_once('-')?;
        Some(Self { hash: hash.parse().ok()?, number: number.parse().ok()?, is_record })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_made() {
        let hash = ContentHash::of(b"x");
        let name = |text: &str| Name::parse(text);
        assert_eq!(name(&format!("{hash}-7")), Some(Name { hash, number: 7, is_record: false }));
        assert_eq!(name(&format!("{hash}-7.have")), Some(Name { hash, number: 7, is_record: true }));
        for bad in
            ["stray", "-7", &format!("{hash}"), &format!("{hash}-"), &format!("{hash}-7.had"), &format!("{hash}--1")]
        {
            assert_eq!(name(bad), None, "{bad}");
        }
    }
}
