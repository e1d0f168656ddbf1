//! Object files: `objects/ab/cd/<sha256>`, and how the store makes directories and files of its own.
//!
//! **Security.** Directories are 0700 and files 0600 whatever the umask. Only the store's user can make names below
//! them; last components are opened without following links all the same.
#![expect(clippy::disallowed_methods, reason = "the door to the store's directory")]

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, OFlags};

use crate::hash::ContentHash;

use super::StoreError;

/// The tree of proven files.
pub(super) struct Objects {
    root: PathBuf,
}

impl Objects {
    pub(super) fn open(root: PathBuf) -> Result<Self, StoreError> {
        private_dir(&root)?;
        Ok(Self { root })
    }

    /// The file of that hash, when there is one and it is a plain file.
    pub(super) fn file(&self, hash: ContentHash) -> Result<Option<(File, u64)>, StoreError> {
        let path = self.path(hash);
        let opened = OpenOptions::new().read(true).custom_flags(no_follow()).open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => return Ok(None),
            Err(error) => return Err(StoreError::at(path)(error)),
        };
        let meta = file.metadata().map_err(StoreError::at(path))?;
        Ok(meta.is_file().then_some((file, meta.len())))
    }

    /// Moves a finished file to its place.
    pub(super) fn place(&self, from: &Path, hash: ContentHash) -> Result<(), StoreError> {
        let path = self.path(hash);
        let moved = match fs::rename(from, &path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let leaf = path.parent().expect("an object lies two directories deep");
                private_dir(leaf.parent().expect("an object lies two directories deep"))?;
                private_dir(leaf)?;
                fs::rename(from, &path)
            }
            moved => moved,
        };
        moved.map_err(StoreError::at(path))
    }

    /// Removes the file of that hash, and says whether there was one.
    pub(super) fn remove(&self, hash: ContentHash) -> Result<bool, StoreError> {
        let path = self.path(hash);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::at(path)(error)),
        }
    }

    /// Tells of every file that lies where its name belongs, with its length. Anything else is left alone.
    pub(super) fn walk(&self, mut each: impl FnMut(ContentHash, u64)) -> Result<(), StoreError> {
        for outer in entries(&self.root)? {
            if !outer.file_type().map_err(StoreError::at(outer.path()))?.is_dir() {
                continue;
            }
            for inner in entries(&outer.path())? {
                if !inner.file_type().map_err(StoreError::at(inner.path()))?.is_dir() {
                    continue;
                }
                for object in entries(&inner.path())? {
                    let meta = object.metadata().map_err(StoreError::at(object.path()))?;
                    let hash = object.file_name().to_str().and_then(|name| name.parse().ok());
                    if let Some(hash) = hash
                        && meta.is_file()
                        && self.path(hash) == object.path()
                    {
                        each(hash, meta.len());
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

/// Makes a directory that only its owner may enter; one that is there already must be a real one.
pub(super) fn private_dir(path: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(StoreError::at(path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            match fs::symlink_metadata(path).map_err(StoreError::at(path))?.is_dir() {
                true => Ok(()),
                false => Err(StoreError::at(path)(io::ErrorKind::NotADirectory.into())),
            }
        }
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && path.parent().is_some_and(|parent| !parent.exists()) =>
        {
            private_dir(path.parent().expect("has one"))?;
            private_dir(path)
        }
        Err(error) => Err(StoreError::at(path)(error)),
    }
}

/// Makes a file that was not there before, for its owner to read and write.
pub(super) fn private_file(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).custom_flags(no_follow()).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Takes the lock that says whose store this is, until the file is closed.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(no_follow())
        .open(path)
        .map_err(StoreError::at(path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(StoreError::InUse(path.parent().expect("the lock lies in the store").to_owned()))
        }
        Err(error) => Err(StoreError::at(path)(error.into())),
    }
}

/// Bytes that an unprivileged user may still write to the file system.
pub(super) fn free_space(path: &Path) -> Result<u64, StoreError> {
    let disk = rustix::fs::statvfs(path).map_err(|error| StoreError::at(path)(error.into()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// What lies in a directory.
pub(super) fn entries(path: &Path) -> Result<Vec<fs::DirEntry>, StoreError> {
    fs::read_dir(path).and_then(Iterator::collect).map_err(StoreError::at(path))
}

fn no_follow() -> i32 {
    (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed()
}
