//! Repositories: what one signature speaks for, and where files lie in it.
//!
//! ```text
//!  http://mirror.example.org/debian/dists/bookworm/InRelease          http://mirror.example.org/flat/InRelease
//!         |----- repository ------| |- suite dir -|                          |-- repository -----|  suite dir: ""
//! ```

use std::{fmt, sync::Arc};

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

    /// Whether one of two different repositories lies inside of the other, so that a path can be in both.
    pub fn is_nested_with(&self, other: &Self) -> bool {
        let holds =
            |outer: &Self, inner: &Self| inner.0.strip_prefix(&*outer.0).is_some_and(|below| below.starts_with('/'));
        holds(self, other) || holds(other, self)
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

/// Whether a location may be a signed Release or a part of one. The `Release` that lies beside the indexes of a component,
/// as in `dists/sid/main/binary-amd64`, is not signed: it is one of the files that the suite's own lists.
pub fn is_release(location: &Location) -> bool {
    let signed = match location.file_name() {
        "InRelease" | "Release.gpg" => true,
        "Release" => !is_beside_indexes(path::split(location.path()).0),
        _ => false,
    };
    signed && location.query().is_none()
}

/// Whether a folder is `dists/<suite>/<component>/<indexes>`.
fn is_beside_indexes(folder: &str) -> bool {
    let Some((_, below)) = folder.rsplit_once("/dists/") else { return false };
    let (component, last) = path::split(below);
    component.contains('/') && (last == "source" || last.starts_with("binary-"))
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
    fn repositories_are_nested_by_whole_folders_of_one_host() {
        let nested = |one: &str, other: &str| {
            let (one, other) = (Repository::restore(one), Repository::restore(other));
            assert_eq!(one.is_nested_with(&other), other.is_nested_with(&one));
            one.is_nested_with(&other)
        };
        assert!(nested("m.example.org", "m.example.org/debian"));
        assert!(nested("m.example.org/debian", "m.example.org/debian/pool/main"));
        for other in
            ["m.example.org/debian", "m.example.org/debian-security", "m.example.org:81/debian/pool", "m.example"]
        {
            assert!(!nested("m.example.org/debian", other), "{other}");
        }
    }

    #[test]
    fn the_release_of_a_component_is_not_that_of_a_suite() {
        for (path, suite_s) in [
            ("debian/dists/sid/main/binary-amd64/Release", false),
            ("debian/dists/sid/main/debian-installer/binary-all/Release", false),
            ("dists/buster/updates/main/source/Release", false),
            ("debian/dists/source/Release", true),
            ("debian/dists/sid/Release", true),
            ("source/Release", true),
            ("binary-amd64/Release", true),
            ("debian/dists/sid/main/binary-amd64/InRelease", true),
        ] {
            assert_eq!(is_release(&at(&format!("http://m.example.org/{path}"))), suite_s, "{path}");
        }
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
}
