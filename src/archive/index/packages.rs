//! Packages: what every `.deb` must hash to (<https://wiki.debian.org/DebianRepository/Format>).
//!
//! ```text
//!  Package: hello
//!  Version: 2.10-3
//!  Architecture: amd64
//!  Filename: pool/main/h/hello/hello_2.10-3_amd64.deb       below the repository's base, also in a flat repository
//!  Size: 53132
//!  SHA256: 8e0c...41
//! ```

use crate::hash::Expected;

use super::{
    super::{
        Vouched,
        checksums::parse_size,
        deb822::{BadText, Paragraph},
        path,
    },
    Entry, Package, listed,
};

/// The one file of a paragraph.
pub fn read(index: &Vouched, paragraph: Paragraph<'_>) -> Result<Entry, BadText> {
    let path = path::normalise_file(paragraph.required("Filename")?);
    let path = path.map_err(|_| paragraph.fault("Filename", "not a path inside the repository"))?;
    let hash = paragraph.required("SHA256")?.parse().map_err(|_| paragraph.fault("SHA256", "not a SHA-256"))?;
    let size = parse_size(paragraph.required("Size")?).ok_or_else(|| paragraph.fault("Size", "not a size"))?;
    let package = Package {
        name: paragraph.required("Package")?.to_owned(),
        version: paragraph.text("Version")?.unwrap_or_default().to_owned(),
        architecture: paragraph.text("Architecture")?.unwrap_or_default().to_owned(),
    };
    Ok(Entry { file: listed(index, path, Expected { hash, size }), package: Some(package) })
}
