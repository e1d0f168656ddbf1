//! Import: files that lie elsewhere on this host, taken in without the network.
//!
//! ```text
//!  hashed -> vouched for?   yes: like a download, and shared where its archive is public
//!                           no:  refused, or kept as private: offered to nobody before an index vouches for it
//!         -> brought in     by a clone of its blocks where the file system can; by a hard link where that is safe; copied
//! ```
//!
//! **Security.** Whoever may ask for an import can make the store hold what the store's user can read, and nothing else
//! comes of it: bytes are only ever given to who names their digest. A link shares the file with whoever may write it, so
//! only what belongs to root or to the store's user, and is writable for nobody else, is linked; a clone and a copy are
//! hashed themselves, after they were made. Last components of paths are opened without following links.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

use sha2::{Digest, Sha256};

use crate::{
    archive::{Repository, Vouched},
    hash::{ContentHash, Expected},
};

use super::{
    Holding, Partial, Store, StoreError,
    disk::{Disk, FileSystem, is_missing},
    rebuild,
};

/// Bytes read at once.
const CHUNK: usize = 256 * 1024;

/// Repository that stands for where a file came from for which nobody vouches.
const PRIVATE: &str = "import.invalid";

/// What becomes of files for which no signed index vouches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unvouched {
    /// They are left where they are.
    Refused,
    /// They are kept, and offered to nobody.
    Private,
}

/// How a file's bytes were brought in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// It shares its blocks with the original until one of the two is written to.
    Cloned,
    /// It is the original under another name.
    Linked,
    /// By its bytes.
    Copied,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Imported {
    /// It was held already.
    Held,
    /// It is held now, and an index vouches for it.
    Kept(How),
    /// It is held now, and nobody vouches for it.
    Private(How),
    /// Nobody vouches for it.
    Unvouched,
    /// It is no plain file, or not there.
    NoFile,
    /// It may not be read.
    Unreadable,
    /// There is no room.
    Full,
    /// It was written to meanwhile.
    Changed,
}

impl Store {
    /// Takes a file in.
    pub fn import(&self, path: &Path, unvouched: Unvouched) -> Result<Imported, StoreError> {
        let (source, size) = match FileSystem.open(path, false) {
            Ok(opened) => opened,
            Err(error) if is_missing(&error) => return Ok(Imported::NoFile),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(Imported::Unreadable),
            Err(error) => return Err(StoreError::at(path)(error)),
        };
        let expected = Expected { hash: digest(&source).map_err(StoreError::at(path))?, size };
        if self.holding(&expected)? == Holding::Held {
            return Ok(Imported::Held);
        }
        let vouched = self.by_hash(expected.hash)?.into_iter().find(|vouched| *vouched.expected() == expected);
        let is_vouched = vouched.is_some();
        let vouched = match (vouched, unvouched) {
            (Some(vouched), _) => vouched,
            (None, Unvouched::Refused) => return Ok(Imported::Unvouched),
            (None, Unvouched::Private) => private(expected, path),
        };
        match self.take_in(&source, &vouched) {
            Ok(Some(how)) if is_vouched => Ok(Imported::Kept(how)),
            Ok(Some(how)) => Ok(Imported::Private(how)),
            Ok(None) => Ok(Imported::Changed),
            Err(StoreError::Full) => Ok(Imported::Full),
            Err(error) => Err(error),
        }
    }

    /// `None` when the file is no longer what it was.
    fn take_in(&self, source: &File, vouched: &Vouched) -> Result<Option<How>, StoreError> {
        let expected = *vouched.expected();
        let mut partial = self.begin(expected)?;
        let how = bring(source, &mut partial)?;
        let Ok(verified) = rebuild::hash(&partial.file(), &expected)? else {
            partial.discard();
            return Ok(None);
        };
        self.commit(partial, verified, vouched)?;
        Ok(Some(how))
    }
}

/// Fills a partial with the bytes of another file.
fn bring(source: &File, partial: &mut Partial) -> Result<How, StoreError> {
    if partial.clone_from(source) {
        return Ok(How::Cloned);
    }
    if may_be_linked(source, &partial.file()) && partial.link_from(source) {
        return Ok(How::Linked);
    }
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    let size = partial.expected().size;
    while at < size {
        let want = CHUNK.min((size - at) as usize);
        match source.read_at(&mut chunk[..want], at) {
            // It is shorter by now: what is missing is not what was hashed.
            Ok(0) => break,
            Ok(read) => {
                partial.write_at(at, &chunk[..read])?;
                at += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(StoreError::at(partial.expected().hash.to_string())(error)),
        }
    }
    Ok(How::Copied)
}

/// Whether nobody but root and the store's user, to whom the other file belongs, can write to a file.
fn may_be_linked(source: &File, own: &File) -> bool {
    let own = own.metadata().map_or(0, |meta| meta.uid());
    source.metadata().is_ok_and(|meta| [0, own].contains(&meta.uid()) && meta.mode() & 0o022 == 0)
}

/// Stands for a signed index that there is not: what it says is shared with nobody.
fn private(expected: Expected, path: &Path) -> Vouched {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Vouched::restore(expected, Repository::restore(PRIVATE), name, false)
}

fn digest(file: &File) -> io::Result<ContentHash> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    loop {
        match file.read_at(&mut chunk, at) {
            Ok(0) => return Ok(ContentHash::new(hasher.finalize().into())),
            Ok(read) => {
                hasher.update(&chunk[..read]);
                at += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
