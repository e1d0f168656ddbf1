//! Patch indexes, or pdiffs: what every patch from an older version of an index to a newer one must hash to
//! (<https://wiki.debian.org/DebianRepository/Format>, on diffs).
//!
//! ```text
//!  SHA256-Current: 5a94...0f 50060112                           the index that the patches lead to
//!  SHA256-History:                                              the versions that they lead from,
//!   77b1...c3 50060112 T-2026-07-11-0204.31-F-2026-07-05-1404.12     and the patch that leads on from there
//!  SHA256-Patches:                                              the patches, unpacked
//!   1c55...1e   162012 T-2026-07-11-0204.31-F-2026-07-05-1404.12
//!  SHA256-Download:                                             the patches as they lie beside this file
//!   04bd...d2    39024 T-2026-07-11-0204.31-F-2026-07-05-1404.12.gz
//! ```

use super::{
    super::{
        Vouched, by_hash, checksums,
        deb822::{BadText, Paragraph},
        path,
    },
    Entry, MAX_FILES, listed, path_below,
};

const SECTION: &str = "SHA256-Download";

/// The patches that can be downloaded; none where there are none yet, or only their unpacked digests are known.
pub fn read(index: &Vouched, paragraph: Paragraph<'_>) -> Result<Vec<Entry>, BadText> {
    let folder = by_hash(index.path()).map_or_else(|| path::split(index.path()).0, |(folder, _)| folder);
    let mut patches = Vec::new();
    for patch in checksums::read(paragraph, SECTION)? {
        let patch = patch?;
        if patches.len() == MAX_FILES {
            return Err(paragraph.fault_at(patch.line, SECTION, "more than 4096 files"));
        }
        let path = path_below(paragraph, SECTION, patch.line, folder, patch.path)?;
        patches.push(Entry { file: listed(index, path, patch.expected), package: None });
    }
    Ok(patches)
}
