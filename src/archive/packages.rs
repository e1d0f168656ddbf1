//! Packages: what every `.deb` that an index lists must hash to (<https://wiki.debian.org/DebianRepository/Format>).
//!
//! ```text
//!  Package: hello
//!  Version: 2.10-3
//!  Architecture: amd64
//!  Filename: pool/main/h/hello/hello_2.10-3_amd64.deb       below the repository's base
//!  Size: 53132
//!  SHA256: 8e0c...41
//! ```

use std::io::BufRead;

use crate::hash::Expected;

use super::{
    Compression, Vouched,
    deb822::{BadText, Comments, Paragraph, Paragraphs},
    path,
    release::parse_size,
};

/// Most bytes that an index may unpack to when its Release does not list the plain file: eight times sid's main.
pub const MAX_UNPACKED: u64 = 512 * 1024 * 1024;

/// What an index tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IndexKind {
    /// Binary packages.
    Packages,
}

/// What the index at a plain path tells, and how it is packed. `None` for files that are not read here, and for by-hash
/// paths: those are of the kind of the plain path that has this digest.
pub fn index_kind(path: &str) -> Option<(IndexKind, Compression)> {
    match Compression::of(path::split(path).1) {
        ("Packages", compression) => Some((IndexKind::Packages, compression)),
        _ => None,
    }
}

/// One package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its file.
    pub file: Vouched,
    /// Its name.
    pub package: String,
    /// Its version, with epoch.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
}

/// The packages of an index. Malformed entries are errors between the others; after any error but
/// [`BadText::Paragraph`] nothing more comes.
#[derive(Debug)]
pub struct Entries<'a, R> {
    index: &'a Vouched,
    paragraphs: Paragraphs<R>,
}

impl<'a, R: BufRead> Entries<'a, R> {
    /// Reads the plain text of an index whose bytes were found to be those that `index` promises.
    pub fn new(index: &'a Vouched, reader: R) -> Self {
        Self { index, paragraphs: Paragraphs::new(reader, Comments::Refused) }
    }
}

impl<R: BufRead> Iterator for Entries<'_, R> {
    type Item = Result<Entry, BadText>;

    fn next(&mut self) -> Option<Self::Item> {
        let paragraph = self.paragraphs.next_paragraph().transpose()?;
        Some(paragraph.and_then(|paragraph| read_entry(self.index, &paragraph)))
    }
}

fn read_entry(index: &Vouched, paragraph: &Paragraph<'_>) -> Result<Entry, BadText> {
    let path = path::normalise_file(paragraph.required("Filename")?);
    let path = path.map_err(|_| paragraph.fault("Filename", "not a path inside the repository"))?;
    let hash = paragraph.required("SHA256")?.parse().map_err(|_| paragraph.fault("SHA256", "not a SHA-256"))?;
    let size = parse_size(paragraph.required("Size")?).ok_or_else(|| paragraph.fault("Size", "not a size"))?;
    let repository = index.repository().clone();
    Ok(Entry {
        file: Vouched::new(Expected { hash, size }, repository, path, index.shareable().is_some()),
        package: paragraph.required("Package")?.to_owned(),
        version: paragraph.text("Version")?.unwrap_or_default().to_owned(),
        architecture: paragraph.text("Architecture")?.unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use crate::{archive::Repository, hash::ContentHash};

    use super::*;

    fn index(shareable: bool) -> Vouched {
        let expected = Expected { hash: ContentHash::of(b""), size: 0 };
        Vouched::new(expected, Repository::restore("m.example.org/debian"), "dists/sid/main/Packages".into(), shareable)
    }

    fn entry(name: &str, filename: &str) -> String {
        let hash = ContentHash::of(name.as_bytes());
        format!(
            "Package: {name}\nVersion: 1:2+b~c\nArchitecture: amd64\nFilename: {filename}\nSize: 12\nSHA256: {hash}\n\n"
        )
    }

    fn read(text: &str) -> Vec<Result<Entry, String>> {
        let index = index(true);
        Entries::new(&index, text.as_bytes()).map(|entry| entry.map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn each_entry_vouches_for_its_file_in_the_index_s_repository() {
        for shareable in [true, false] {
            let index = index(shareable);
            let text = entry("hello", "./pool//h/hello_1.deb") + &entry("bye", "pool/b/bye_1.deb");
            let entries: Vec<_> = Entries::new(&index, text.as_bytes()).map(Result::unwrap).collect();
            assert_eq!(entries.len(), 2);
            let hello = &entries[0];
            assert_eq!(hello.file.path(), "pool/h/hello_1.deb");
            assert_eq!(hello.file.repository(), index.repository());
            assert_eq!(*hello.file.expected(), Expected { hash: ContentHash::of(b"hello"), size: 12 });
            assert_eq!(hello.file.shareable().is_some(), shareable);
            assert_eq!((&*hello.package, &*hello.version, &*hello.architecture), ("hello", "1:2+b~c", "amd64"));
        }
    }

    #[test]
    fn a_malformed_entry_is_an_error_and_the_others_go_on() {
        let good = entry("hello", "pool/h/hello_1.deb");
        for (bad, error) in [
            (entry("x", "../../etc/passwd"), "line 4: field Filename: not a path inside the repository"),
            (entry("x", "/etc/passwd"), "line 4: field Filename: not a path inside the repository"),
            (entry("x", "pool/x\\y.deb"), "line 4: field Filename: not a path inside the repository"),
            (entry("x", "pool/x\0y.deb"), "line 4: field Filename: not a path inside the repository"),
            (entry("x", "pool/"), "line 4: field Filename: not a path inside the repository"),
            (entry("x", ""), "line 4: field Filename: missing"),
            (entry("x", "x.deb").replace("Size: 12", "Size: -1"), "line 5: field Size: not a size"),
            (entry("x", "x.deb").replace("Size: 12", "Size: 9999999999999999999"), "line 5: field Size: not a size"),
            (entry("x", "x.deb").replace("SHA256", "MD5sum"), "line 1: field SHA256: missing"),
            (entry("x", "x.deb").replace("SHA256: ", "SHA256: 0"), "line 6: field SHA256: not a SHA-256"),
            (entry("x", "x.deb").replace("Size: 12", "Size: 12\nsize: 13"), "line 6: field size: given twice"),
        ] {
            let entries = read(&format!("{bad}{good}"));
            assert_eq!(entries.len(), 2, "{bad}");
            assert_eq!(entries[0], Err(error.to_owned()), "{bad}");
            assert!(entries[1].is_ok(), "{bad}");
        }
    }

    #[test]
    fn the_name_of_an_index_tells_its_kind() {
        let kind = |path| index_kind(path);
        assert_eq!(kind("dists/sid/main/binary-amd64/Packages.xz"), Some((IndexKind::Packages, Compression::Xz)));
        assert_eq!(kind("Packages"), Some((IndexKind::Packages, Compression::None)));
        assert_eq!(kind("dists/sid/main/binary-amd64/Packages.diff/Index"), None);
        assert_eq!(kind("dists/sid/main/Contents-amd64.gz"), None);
    }
}
