//! Sources: what every file of a source package must hash to (Debian policy 5.4, 5.6.24;
//! <https://wiki.debian.org/DebianRepository/Format>).
//!
//! ```text
//!  Package: hello
//!  Version: 2.10-3
//!  Directory: pool/main/h/hello                        below the repository's base; may be missing or `.`
//!  Checksums-Sha256:
//!   f8f6...4a     1183 hello_2.10-3.dsc                below that directory
//!   31e0...9b   725946 hello_2.10.orig.tar.gz
//! ```

use super::{
    super::{
        Vouched, checksums,
        deb822::{BadText, Paragraph},
        path,
    },
    Entry, MAX_FILES, Package, listed, path_below,
};

const SECTION: &str = "Checksums-Sha256";

/// The files of a paragraph.
pub fn read(index: &Vouched, paragraph: Paragraph<'_>) -> Result<Vec<Entry>, BadText> {
    let package = Package {
        name: paragraph.required("Package")?.to_owned(),
        version: paragraph.text("Version")?.unwrap_or_default().to_owned(),
        architecture: "source".to_owned(),
    };
    let folder = paragraph.text("Directory")?.unwrap_or_default();
    let outside = || paragraph.fault("Directory", "not a path inside the repository");
    let folder = path::normalise(folder).ok().filter(|_| !folder.starts_with('/')).ok_or_else(outside)?;
    paragraph.required(SECTION)?;
    let mut files = Vec::new();
    for file in checksums::read(paragraph, SECTION)? {
        let file = file?;
        if files.len() == MAX_FILES {
            return Err(paragraph.fault_at(file.line, SECTION, "more than 4096 files"));
        }
        let path = path_below(paragraph, SECTION, file.line, &folder, file.path)?;
        files.push(Entry { file: listed(index, path, file.expected), package: Some(package.clone()) });
    }
    Ok(files)
}
