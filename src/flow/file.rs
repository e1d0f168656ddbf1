//! Files of apt's on this machine: only plain ones are opened, none is waited for, and each is read up to a bound.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use rustix::fs::OFlags;

/// What tells one state of a file from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds since 1970 and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(data: &Metadata) -> Self {
        Self {
            device: data.dev(),
            inode: data.ino(),
            size: data.len(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        }
    }
}

/// Opens a plain file and nothing else: a device or a pipe is neither waited for nor read.
pub(super) fn open(path: &Path) -> io::Result<File> {
    open_with(path, OFlags::empty())
}

/// The same, where the last part of the path may not be a link.
pub(super) fn open_unlinked(path: &Path) -> io::Result<File> {
    open_with(path, OFlags::NOFOLLOW)
}

fn open_with(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = (flags | OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Reads a plain file whole; one of more than `most` bytes is [`io::ErrorKind::FileTooLarge`].
pub(super) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write the files that are read")]
mod tests {
    use std::fs;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn only_plain_files_are_read_and_only_up_to_the_bound() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("plain"), "content").unwrap();
        std::os::unix::fs::symlink(at("plain"), at("link")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("endless")).unwrap();
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let kind = |path: &Path, most| read(path, most).map_err(|error| error.kind());
        for name in ["plain", "link"] {
            assert_eq!(kind(&at(name), 7), Ok(b"content".to_vec()));
            assert_eq!(kind(&at(name), 6), Err(io::ErrorKind::FileTooLarge));
        }
        assert!(open_unlinked(&at("plain")).is_ok() && open_unlinked(&at("link")).is_err());
        for none in [at("endless"), at("pipe"), "/dev/zero".into(), dir.path().to_owned()] {
            assert_eq!(kind(&none, 1 << 20), Err(io::ErrorKind::InvalidInput), "{}", none.display());
        }
        assert_eq!(kind(&at("missing"), 1), Err(io::ErrorKind::NotFound));
    }
}
