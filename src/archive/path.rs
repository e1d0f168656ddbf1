//! Paths inside an archive: one spelling for each file.
//!
//! ```text
//!  "./pool//main/h/hello_1.deb"  ->  "pool/main/h/hello_1.deb"
//! ```
//!
//! **Security.** Whatever comes from outside - a URL, a Release, a Packages file - passes through here before it names
//! anything. What could climb out of its folder, or be read differently by another program, is refused.

/// Longest path, in bytes.
pub const MAX_PATH: usize = 4096;

/// Why a path cannot name a file in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// More than [`MAX_PATH`] bytes.
    #[error("the path is longer than 4096 bytes")]
    TooLong,
    /// A `..` segment.
    #[error("the path has a `..` segment")]
    Climbs,
    /// A NUL or another control character, or a backslash.
    #[error("the path has a control character or a backslash")]
    Forbidden,
    /// Nothing is left of it.
    #[error("the path is empty")]
    Empty,
}

/// Normalises a path that is not percent-encoded: empty and `.` segments are folded, a leading slash is dropped and a
/// trailing one is kept.
pub fn normalise(path: &str) -> Result<String, BadPath> {
    if path.len() > MAX_PATH {
        return Err(BadPath::TooLong);
    }
    // Most paths are plain ASCII, and there are many.
    let is_forbidden = match path.is_ascii() {
        true => path.bytes().any(|b| b.is_ascii_control() || b == b'\\'),
        false => path.chars().any(|c| c.is_control() || c == '\\'),
    };
    if is_forbidden {
        return Err(BadPath::Forbidden);
    }
    let mut clean = String::with_capacity(path.len());
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => return Err(BadPath::Climbs),
            name => {
                if !clean.is_empty() {
                    clean.push('/');
                }
                clean.push_str(name);
            }
        }
    }
    if !clean.is_empty() && (path.ends_with('/') || path.ends_with("/.")) {
        clean.push('/');
    }
    Ok(clean)
}

/// Normalises the path of a file: relative, not empty, not a folder, not absolute.
pub fn normalise_file(path: &str) -> Result<String, BadPath> {
    if path.starts_with('/') {
        return Err(BadPath::Climbs);
    }
    let clean = normalise(path)?;
    if clean.is_empty() || clean.ends_with('/') {
        return Err(BadPath::Empty);
    }
    Ok(clean)
}

/// Joins a folder, which may be empty, and a path below it.
pub fn join(folder: &str, below: &str) -> String {
    if folder.is_empty() { below.to_owned() } else { format!("{}/{below}", folder.trim_end_matches('/')) }
}

/// The folder of a path and the name of its file; the folder is empty at the top.
pub fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dots_and_double_slashes_are_folded() {
        assert_eq!(normalise("./pool//a/./b.deb").as_deref(), Ok("pool/a/b.deb"));
        assert_eq!(normalise("/debian/").as_deref(), Ok("debian/"));
        assert_eq!(normalise("/debian/.").as_deref(), Ok("debian/"));
        assert_eq!(normalise("/").as_deref(), Ok(""));
        assert_eq!(normalise("a/..b/c..").as_deref(), Ok("a/..b/c.."));
    }

    #[test]
    fn what_climbs_or_hides_is_refused() {
        for (path, why) in [
            ("../etc/passwd", BadPath::Climbs),
            ("a/../../b", BadPath::Climbs),
            ("a/..", BadPath::Climbs),
            ("a\0b", BadPath::Forbidden),
            ("a\\..\\b", BadPath::Forbidden),
            ("a\nb", BadPath::Forbidden),
            ("a\u{85}b", BadPath::Forbidden),
            ("a\u{7f}b", BadPath::Forbidden),
        ] {
            assert_eq!(normalise(path), Err(why), "{path:?}");
        }
        assert_eq!(normalise(&"a".repeat(MAX_PATH + 1)), Err(BadPath::TooLong));
        assert_eq!(normalise_file("/etc/passwd"), Err(BadPath::Climbs));
        assert_eq!(normalise_file("./"), Err(BadPath::Empty));
        assert_eq!(normalise_file("pool/"), Err(BadPath::Empty));
    }

    proptest! {
        #[test]
        fn what_is_normalised_stays_as_it_is(path in r"[a-c./\\\x00]{0,24}") {
            if let Ok(clean) = normalise(&path) {
                prop_assert_eq!(normalise(&clean), Ok(clean.clone()));
                prop_assert!(clean.split('/').all(|segment| segment != ".." && segment != "."));
                prop_assert!(!clean.starts_with('/') && !clean.contains("//"));
            }
        }
    }
}
