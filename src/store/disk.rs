//! Disk: the few things that the store does to files.
//!
//! Objects, partials, their records and the marks are touched through [`Disk`] alone, so that a test can put a disk there
//! that tears writes, forgets what was not synced, reorders renames, is full, or fails at any call. Files are the
//! system's own on every disk: what is open is read and handed on as such. The catalogue is SQLite's, which brings its own
//! promises for a power cut; the lock belongs to the process.
//!
//! **Security.** Directories are 0700 and files 0600 whatever the umask. Only the store's user can make names below
//! them; last components are opened without following links all the same.
#![expect(clippy::disallowed_methods, reason = "the door to the store's directory")]

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt},
    },
    path::Path,
};

use rustix::fs::{AtFlags, CWD, FlockOperation, OFlags};

use super::StoreError;

/// What lies in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: OsString,
    pub(super) kind: Kind,
}

/// What a name stands for. Links stand for themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Dir,
    /// A plain file of so many bytes.
    File(u64),
    Other,
}

/// A place for files.
pub(super) trait Disk: Send + Sync {
    /// Makes a directory that only its owner may enter, and those above it; one that is there already must be a real one.
    fn make_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes a file that was not there before, for its owner to read and write.
    fn create(&self, path: &Path) -> io::Result<File>;

    /// Opens a plain file, to read alone or to write as well, and says how long it is.
    fn open(&self, path: &Path, writable: bool) -> io::Result<(File, u64)>;

    /// What a name stands for.
    fn kind(&self, path: &Path) -> io::Result<Kind>;

    /// Writes all of the bytes to their place in a file of this disk.
    fn write(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Brings a file's bytes to where a power cut leaves them.
    fn sync(&self, file: &File) -> io::Result<()>;

    /// Gives a file another name, in place of what had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Takes a name away.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// What lies in a directory.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;

    /// Bytes that an unprivileged user may still write there.
    fn free(&self, path: &Path) -> io::Result<u64>;

    /// Makes a file share the blocks of another, wherever that lies.
    fn clone_file(&self, _from: &File, _into: &File) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Gives an open file, wherever it lies, a name here.
    fn link_file(&self, _from: &File, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The file system.
pub(super) struct FileSystem;

impl Disk for FileSystem {
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => fs::set_permissions(path, Permissions::from_mode(0o700)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let is_dir = fs::symlink_metadata(path)?.is_dir();
                if is_dir { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = path.parent().filter(|parent| !parent.exists()).ok_or(error)?;
                self.make_dir(parent)?;
                self.make_dir(path)
            }
            Err(error) => Err(error),
        }
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).custom_flags(no_follow()).open(path)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        Ok(file)
    }

    fn open(&self, path: &Path, writable: bool) -> io::Result<(File, u64)> {
        let file = OpenOptions::new().read(true).write(writable).custom_flags(no_follow()).open(path)?;
        let meta = file.metadata()?;
        if meta.is_file() { Ok((file, meta.len())) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn kind(&self, path: &Path) -> io::Result<Kind> {
        Ok(Kind::of(&fs::symlink_metadata(path)?))
    }

    fn write(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let kind = match entry.metadata() {
                Ok(meta) => Kind::of(&meta),
                // Gone since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            entries.push(Entry { name: entry.file_name(), kind });
        }
        Ok(entries)
    }

    fn free(&self, path: &Path) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(path)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn clone_file(&self, from: &File, into: &File) -> io::Result<()> {
        Ok(rustix::fs::ioctl_ficlone(into, from)?)
    }

    fn link_file(&self, from: &File, to: &Path) -> io::Result<()> {
        // By its descriptor, so that it is the very file that was looked at.
        let from = format!("/proc/self/fd/{}", from.as_raw_fd());
        Ok(rustix::fs::linkat(CWD, from, CWD, to, AtFlags::SYMLINK_FOLLOW)?)
    }
}

impl Kind {
    fn of(meta: &fs::Metadata) -> Self {
        match meta {
            meta if meta.is_dir() => Self::Dir,
            meta if meta.is_file() => Self::File(meta.len()),
            _ => Self::Other,
        }
    }
}

/// Removes a file, and says whether there was one.
pub(super) fn remove(disk: &dyn Disk, path: &Path) -> Result<bool, StoreError> {
    match disk.remove(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::at(path)(error)),
    }
}

/// Whether an open failed because there is no plain file of that name: a link is none.
pub(super) fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
        || error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error())
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

fn no_follow() -> i32 {
    (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed()
}
