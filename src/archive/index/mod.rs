//! Indexes: the files that a Release lists and that list files themselves.
//!
//! ```text
//!  main/binary-amd64/Packages[.xz]         -> every .deb
//!  main/source/Sources[.xz]                -> every file of every source package
//!  main/binary-amd64/Packages.diff/Index   -> the patches beside it; likewise for Sources, Contents and Translation
//! ```
//!
//! Whatever else a Release lists - Translation, Contents, DEP-11 and icons, CNF, installer images, the Releases of
//! components - lists no files with their SHA-256 and sizes: the Release is all there is to know of it.
//!
//! **Security.** An index is read only after its bytes were found to be those that its [`Vouched`] promises. A path that
//! leads out of the repository makes its entry an error.

use std::{io::BufRead, vec};

use crate::hash::Expected;

use super::{
    Compression, Vouched,
    deb822::{BadText, Comments, Paragraph, Paragraphs},
    path,
};

mod packages;
mod patches;
mod sources;

/// Most bytes that an index may unpack to when its Release does not list the plain file: eight times sid's main.
pub const MAX_UNPACKED: u64 = 512 * 1024 * 1024;

/// Most files of one paragraph: of a source package, or of a row of patches. The most known are some hundred.
pub const MAX_FILES: usize = 4096;

/// What an index tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IndexKind {
    /// Binary packages.
    Packages,
    /// Source packages.
    Sources,
    /// Patches from earlier versions of another index to later ones.
    Patches,
}

/// What the index at a plain path tells, and how it is packed. `None` for files that list none, and for by-hash paths:
/// those are of the kind of the plain path that has this digest.
pub fn index_kind(path: &str) -> Option<(IndexKind, Compression)> {
    let (plain, compression) = Compression::of(path);
    let (folder, name) = path::split(plain);
    let kind = match name {
        "Packages" => IndexKind::Packages,
        "Sources" => IndexKind::Sources,
        "Index" if folder.ends_with(".diff") => IndexKind::Patches,
        _ => return None,
    };
    Some((kind, compression))
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it must be, and where.
    pub file: Vouched,
    /// The package that it is, or is a part of; a patch is of none.
    pub package: Option<Package>,
}

/// A package as its index has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// `hello`.
    pub name: String,
    /// `1:2.10-3`; empty when the index does not say.
    pub version: String,
    /// `amd64`, `all`; `source` for a source package; empty when the index does not say.
    pub architecture: String,
}

/// Reads the plain text of an index whose bytes were found to be those that `index` promises.
pub fn entries<R: BufRead>(kind: IndexKind, index: &Vouched, plain: R) -> Entries<'_, R> {
    let paragraphs = Paragraphs::new(plain, Comments::Refused);
    Entries { kind, index, paragraphs, rest: Vec::new().into_iter() }
}

/// The files of an index. Malformed paragraphs are errors between the others; after any error but
/// [`BadText::Paragraph`] nothing more comes.
#[derive(Debug)]
pub struct Entries<'a, R> {
    kind: IndexKind,
    index: &'a Vouched,
    paragraphs: Paragraphs<R>,
    /// What the last paragraph has besides; a few at most, but for a row of patches.
    rest: vec::IntoIter<Entry>,
}

impl<R: BufRead> Iterator for Entries<'_, R> {
    type Item = Result<Entry, BadText>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.rest.next() {
                return Some(Ok(entry));
            }
            let paragraph = match self.paragraphs.next_paragraph().transpose()? {
                Ok(paragraph) => paragraph,
                Err(error) => return Some(Err(error)),
            };
            let files = match self.kind {
                IndexKind::Packages => return Some(packages::read(self.index, paragraph)),
                IndexKind::Sources => sources::read(self.index, paragraph),
                IndexKind::Patches => patches::read(self.index, paragraph),
            };
            match files {
                Ok(files) => self.rest = files.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// A file that an index lists is as shareable as the index.
fn listed(index: &Vouched, path: String, expected: Expected) -> Vouched {
    Vouched::new(expected, index.repository().clone(), path, index.shareable().is_some())
}

/// Normalises a path that a line of a field names, seen from a folder.
fn path_below(paragraph: Paragraph<'_>, field: &str, line: u64, folder: &str, name: &str) -> Result<String, BadText> {
    let below = path::normalise_file(name).and_then(|name| path::normalise_file(&path::join(folder, &name)));
    below.map_err(|_| paragraph.fault_at(line, field, "not a path inside the repository"))
}

#[cfg(test)]
mod tests;
