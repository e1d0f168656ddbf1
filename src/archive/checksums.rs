//! Checksum sections, as Releases, Sources and patch indexes have them: one file a line.
//!
//! ```text
//!  SHA256:
//!   5a94...0f  50060112 main/binary-amd64/Packages          digest, size in bytes, path
//! ```

use std::str::FromStr;

use crate::hash::{ContentHash, Expected};

use super::deb822::{BadText, Paragraph};

/// A file in a section of SHA-256 digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checksum<'a> {
    /// The line that it stands in, counted from 1.
    pub line: u64,
    /// Its digest and size.
    pub expected: Expected,
    /// Its path as written.
    pub path: &'a str,
}

/// Reads a section of SHA-256 digests; nothing when it is not there.
pub fn read<'a>(
    paragraph: Paragraph<'a>,
    section: &'static str,
) -> Result<impl Iterator<Item = Result<Checksum<'a>, BadText>>, BadText> {
    let lines = paragraph.lines(section)?;
    Ok(lines.map(move |(line, text)| {
        let fault = |reason| paragraph.fault_at(line, section, reason);
        let [digest, size, path] = words(text).ok_or_else(|| fault("a line is not digest, size and path"))?;
        let hash: ContentHash = digest.parse().map_err(|_| fault("not a SHA-256"))?;
        let size = parse_size(size).ok_or_else(|| fault("not a size"))?;
        Ok(Checksum { line, expected: Expected { hash, size }, path })
    }))
}

/// Reads a section of other digests, which are names here and prove nothing: what is malformed is left out.
pub fn names<'a, D: FromStr>(paragraph: Paragraph<'a>, section: &str) -> impl Iterator<Item = (D, u64, &'a str)> {
    let lines = paragraph.lines(section).into_iter().flatten();
    lines.filter_map(|(_, text)| {
        let [digest, size, path] = words(text)?;
        Some((digest.parse().ok()?, parse_size(size)?, path))
    })
}

fn words(line: &str) -> Option<[&str; 3]> {
    let mut words = line.split_ascii_whitespace();
    let three = [words.next()?, words.next()?, words.next()?];
    words.next().is_none().then_some(three)
}

/// Reads a size in bytes, up to 2^60: what is added or multiplied later cannot overflow.
pub fn parse_size(digits: &str) -> Option<u64> {
    let legal = (1..=19).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|&size| legal && size <= 1 << 60)
}
