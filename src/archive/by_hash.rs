//! Files under their digests (<https://wiki.debian.org/DebianRepository/Format>, on Acquire-By-Hash).
//!
//! ```text
//!  dists/sid/main/binary-amd64/by-hash/SHA256/8e0c...41
//!  |-------- folder ---------|         SHA512/...          what apt asks for when the Release has such a section
//!                                      MD5Sum/...
//! ```
//!
//! **Security.** The digest in a path is a claim of whoever asks, to be compared with the bytes; it proves nothing. MD5 and
//! SHA-512 are names only: what lies under them is promised by its SHA-256, which the same Release lists.

use std::{fmt, str::FromStr};

use crate::hash::ContentHash;

use super::path;

/// The digest that a by-hash path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digest {
    /// The one that promises.
    Sha256(ContentHash),
    /// A name.
    Sha512(Hex<64>),
    /// A name.
    Md5(Hex<16>),
}

/// Bytes that are written in hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hex<const N: usize>([u8; N]);

/// Not the right number of hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not as many hexadecimal digits as there should be")]
pub struct NotHex;

/// Takes `<folder>/by-hash/<algorithm>/<hex>` apart into the folder, which may be empty, and the digest.
pub fn by_hash(path: &str) -> Option<(&str, Digest)> {
    let (folder, hex) = path::split(path);
    let (folder, algorithm) = path::split(folder);
    let digest = match algorithm {
        "SHA256" => Digest::Sha256(hex.parse().ok()?),
        "SHA512" => Digest::Sha512(hex.parse().ok()?),
        "MD5Sum" => Digest::Md5(hex.parse().ok()?),
        _ => return None,
    };
    let (folder, by_hash) = path::split(folder);
    (by_hash == "by-hash").then_some((folder, digest))
}

impl Digest {
    /// The path of a file in that folder under this digest.
    pub fn path_in(&self, folder: &str) -> String {
        let below = match self {
            Self::Sha256(hash) => format!("by-hash/SHA256/{hash}"),
            Self::Sha512(hex) => format!("by-hash/SHA512/{hex}"),
            Self::Md5(hex) => format!("by-hash/MD5Sum/{hex}"),
        };
        path::join(folder, &below)
    }
}

impl<const N: usize> FromStr for Hex<N> {
    type Err = NotHex;

    fn from_str(digits: &str) -> Result<Self, NotHex> {
        if digits.len() != 2 * N {
            return Err(NotHex);
        }
        let nibble = |digit: u8| char::from(digit).to_digit(16).ok_or(NotHex);
        let mut bytes = [0; N];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            *byte = (nibble(pair[0])? << 4 | nibble(pair[1])?) as u8;
        }
        Ok(Self(bytes))
    }
}

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<const N: usize> fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hash_paths_are_taken_apart_and_put_together() {
        let hash = ContentHash::of(b"");
        let digests = [
            Digest::Sha256(hash),
            Digest::Sha512("0f".repeat(64).parse().unwrap()),
            Digest::Md5("d41d8cd98f00b204e9800998ecf8427e".parse().unwrap()),
        ];
        for folder in ["dists/sid/main/binary-amd64", "a", ""] {
            for digest in digests {
                assert_eq!(by_hash(&digest.path_in(folder)), Some((folder, digest)), "{folder} {digest:?}");
            }
        }
        assert_eq!(digests[2].path_in("a"), "a/by-hash/MD5Sum/d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(by_hash(&format!("by-hash/SHA256/{hash}")), Some(("", digests[0])));
    }

    #[test]
    fn what_only_looks_like_a_by_hash_path_is_none() {
        let hash = ContentHash::of(b"");
        for path in [
            format!("a/xby-hash/SHA256/{hash}"),
            format!("a/SHA256/{hash}"),
            format!("a/by-hash/SHA512/{hash}"),
            format!("a/by-hash/MD5Sum/{hash}"),
            format!("a/by-hash/SHA1/{}", "0".repeat(40)),
            format!("a/by-hash/SHA256/{hash}/b"),
            format!("a/by-hash/MD5Sum/+{}", "0".repeat(31)),
            "a/by-hash/SHA256/00".to_owned(),
            "a/by-hash/SHA256/".to_owned(),
            String::new(),
        ] {
            assert_eq!(by_hash(&path), None, "{path}");
        }
    }
}
