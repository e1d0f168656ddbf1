//! Repositories: what one signature speaks for, and where files lie in it.
//!
//! ```text
//!  http://mirror.example.org/debian/dists/bookworm/InRelease          http://mirror.example.org/flat/InRelease
//!         |----- repository ------| |- suite dir -|                          |-- repository -----|  suite dir: ""
//! ```

use std::{fmt, sync::Arc};

use crate::hash::ContentHash;

use super::{Location, path};

/// A repository by its base address, `host[:port]/path` without scheme and trailing slash: the same over http and https.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository(Arc<str>);

impl Repository {
    /// The repository whose base address this is.
    pub fn at(base: &Location) -> Self {
        Self(format!("{}{}", base.authority(), base.path().trim_end_matches('/')).into())
    }

    /// Gives back what was kept as text before.
    pub fn restore(text: &str) -> Self {
        Self(text.into())
    }

    /// The repository that an `InRelease`, `Release` or `Release.gpg` speaks for by its place alone, and the folder of
    /// its suite below the base: `dists/<suite>`, or nothing in a flat repository. `None` for other files.
    pub fn of_release(location: &Location) -> Option<(Self, String)> {
        if !is_release(location) {
            return None;
        }
        let folder = path::split(location.path()).0;
        let (base, suite_dir) = match folder.rfind("/dists/") {
            Some(dists) => (&folder[..dists], &folder[dists + 1..]),
            None => (folder, ""),
        };
        Some((Self(format!("{}{base}", location.authority()).into()), suite_dir.to_owned()))
    }

    /// The path of a file below the base, decoded, without a leading slash. `None` when it is not inside, or has a query.
    pub fn path_of(&self, location: &Location) -> Option<String> {
        if location.query().is_some() {
            return None;
        }
        let base = self.0.strip_prefix(&location.authority())?;
        let below = location.path().strip_prefix(base)?.strip_prefix('/')?;
        (base.is_empty() || base.starts_with('/')).then(|| below.to_owned()).filter(|below| !below.is_empty())
    }

    /// The base address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a location may be a signed Release or a part of one.
pub fn is_release(location: &Location) -> bool {
    location.query().is_none() && matches!(location.file_name(), "InRelease" | "Release" | "Release.gpg")
}

/// Takes `<folder>/by-hash/SHA256/<hex>` apart into the folder, which may be empty, and the digest.
///
/// The digest is a claim of whoever asks, to be compared with the bytes; it proves nothing.
pub fn by_hash(path: &str) -> Option<(&str, ContentHash)> {
    let (folder, hex) = path::split(path);
    let folder = folder.strip_suffix("by-hash/SHA256")?;
    let folder = if folder.is_empty() { folder } else { folder.strip_suffix('/')? };
    Some((folder, hex.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> Location {
        Location::parse(url).unwrap()
    }

    fn of(url: &str) -> Option<(String, String)> {
        Repository::of_release(&at(url)).map(|(repository, suite)| (repository.to_string(), suite))
    }

    #[test]
    fn the_place_of_a_release_tells_its_repository() {
        for (url, base, suite) in [
            ("http://m.example.org/debian/dists/sid/InRelease", "m.example.org/debian", "dists/sid"),
            ("https://m.example.org:443/debian/dists/sid/Release", "m.example.org/debian", "dists/sid"),
            ("http://m.example.org:81/dists/buster/updates/Release.gpg", "m.example.org:81", "dists/buster/updates"),
            ("http://m.example.org/dists/a/dists/b/InRelease", "m.example.org/dists/a", "dists/b"),
            ("http://m.example.org/flat/./InRelease", "m.example.org/flat", ""),
            ("http://m.example.org/InRelease", "m.example.org", ""),
            ("http://m.example.org/debian/dists/InRelease", "m.example.org/debian/dists", ""),
        ] {
            assert_eq!(of(url), Some((base.into(), suite.into())), "{url}");
        }
        assert_eq!(of("http://m.example.org/debian/dists/sid/main/binary-amd64/Packages"), None);
        assert_eq!(of("http://m.example.org/debian/dists/sid/InRelease?x"), None);
    }

    #[test]
    fn a_file_is_inside_only_at_a_segment_boundary() {
        let debian = Repository::at(&at("http://m.example.org/debian/"));
        assert_eq!(debian.path_of(&at("https://m.example.org/debian/pool/a.deb")).as_deref(), Some("pool/a.deb"));
        for outside in [
            "http://m.example.org/debian-security/a.deb",
            "http://m.example.org/debian",
            "http://m.example.org/debian/",
            "http://m.example.org/",
            "http://m.example.org:8080/debian/a.deb",
            "http://n.example.org/debian/a.deb",
            "http://m.example.org/debian/a.deb?b",
        ] {
            assert_eq!(debian.path_of(&at(outside)), None, "{outside}");
        }
        let root = Repository::at(&at("http://m.example.org"));
        assert_eq!(root.path_of(&at("http://m.example.org/a")).as_deref(), Some("a"));
        assert_eq!(root.path_of(&at("http://m.example.org:81/a")), None);
        assert_eq!(root.path_of(&at("http://m.example.organ/a")), None);
    }

    #[test]
    fn by_hash_paths_are_taken_apart() {
        let hash = ContentHash::of(b"");
        let path = format!("dists/sid/main/binary-amd64/by-hash/SHA256/{hash}");
        assert_eq!(by_hash(&path), Some(("dists/sid/main/binary-amd64", hash)));
        assert_eq!(by_hash(&format!("by-hash/SHA256/{hash}")), Some(("", hash)));
        assert_eq!(by_hash(&format!("a/xby-hash/SHA256/{hash}")), None);
        assert_eq!(by_hash(&format!("a/by-hash/SHA512/{hash}")), None);
        assert_eq!(by_hash("a/by-hash/SHA256/00"), None);
    }
}
