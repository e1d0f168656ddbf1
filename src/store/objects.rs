//! Object files: `objects/ab/cd/<sha256>`.
//!
//! 65,536 leaves: a directory of a store with 63,440 objects has one or two of them, and never more than 256 names above.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::hash::ContentHash;

use super::{
    StoreError,
    disk::{self, Disk, Kind},
};

/// Damaged objects kept for whoever wants to look; further ones are removed.
const QUARANTINE_MAX: usize = 16;

/// The tree of proven files, and where what turned out damaged is set aside.
pub(super) struct Objects {
    root: PathBuf,
    quarantine: PathBuf,
    disk: Arc<dyn Disk>,
}

impl Objects {
    pub(super) fn open(store: &Path, disk: Arc<dyn Disk>) -> Result<Self, StoreError> {
        let (root, quarantine) = (store.join("objects"), store.join("quarantine"));
        disk.make_dir(&root).map_err(StoreError::at(&root))?;
        Ok(Self { root, quarantine, disk })
    }

    /// The file of that hash, when there is one and it is a plain file.
    pub(super) fn file(&self, hash: ContentHash) -> Result<Option<(File, u64)>, StoreError> {
        let path = self.path(hash);
        match self.disk.open(&path, false) {
            Ok(opened) => Ok(Some(opened)),
            Err(error) if disk::is_missing(&error) => Ok(None),
            Err(error) => Err(StoreError::at(path)(error)),
        }
    }

    /// Moves a finished file to its place.
    pub(super) fn place(&self, from: &Path, hash: ContentHash) -> Result<(), StoreError> {
        let path = self.path(hash);
        let moved = match self.disk.rename(from, &path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let leaf = path.parent().expect("an object lies two directories deep");
                self.disk.make_dir(leaf).map_err(StoreError::at(leaf))?;
                self.disk.rename(from, &path)
            }
            moved => moved,
        };
        moved.map_err(StoreError::at(path))
    }

    /// Removes the file of that hash, and says whether there was one.
    pub(super) fn remove(&self, hash: ContentHash) -> Result<bool, StoreError> {
        disk::remove(&*self.disk, &self.path(hash))
    }

    /// Takes a damaged file out of the tree, and keeps it for whoever wants to look while there are few.
    pub(super) fn set_aside(&self, hash: ContentHash) -> Result<(), StoreError> {
        let path = self.path(hash);
        let room = || {
            self.disk.make_dir(&self.quarantine)?;
            Ok::<_, io::Error>(self.disk.list(&self.quarantine)?.len() < QUARANTINE_MAX)
        };
        let is_kept =
            room().is_ok_and(|room| room) && self.disk.rename(&path, &self.quarantine.join(hash.to_string())).is_ok();
        if is_kept { Ok(()) } else { disk::remove(&*self.disk, &path).map(drop) }
    }

    /// Tells of every file that lies where its name belongs, with its length. Anything else is left alone.
    pub(super) fn walk(&self, mut each: impl FnMut(ContentHash, u64)) -> Result<(), StoreError> {
        let entries = |path: &Path| self.disk.list(path).map_err(StoreError::at(path));
        for outer in entries(&self.root)?.into_iter().filter(|entry| entry.kind == Kind::Dir) {
            let outer = self.root.join(outer.name);
            for inner in entries(&outer)?.into_iter().filter(|entry| entry.kind == Kind::Dir) {
                let inner = outer.join(inner.name);
                for object in entries(&inner)? {
                    let hash = object.name.to_str().and_then(|name| name.parse().ok());
                    if let (Some(hash), Kind::File(length)) = (hash, object.kind)
                        && self.path(hash) == inner.join(&object.name)
                    {
                        each(hash, length);
                    }
                }
            }
        }
        Ok(())
    }

    fn path(&self, hash: ContentHash) -> PathBuf {
        let name = hash.to_string();
        self.root.join(&name[..2]).join(&name[2..4]).join(name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::store::disk::FileSystem;

    #[test]
    fn no_directory_of_all_of_debian_has_more_than_256_names() {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::open(dir.path(), Arc::new(FileSystem)).unwrap();
        let mut names: HashMap<PathBuf, std::collections::HashSet<PathBuf>> = HashMap::new();
        for number in 0..63_440_u32 {
            let path = objects.path(ContentHash::of(&number.to_be_bytes()));
            for (child, parent) in path.ancestors().zip(path.ancestors().skip(1)).take(3) {
                names.entry(parent.to_owned()).or_default().insert(child.to_owned());
            }
        }
        assert_eq!(names.values().map(std::collections::HashSet::len).max(), Some(256));
    }
}
