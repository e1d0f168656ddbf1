//! Names of apt's lists: `URItoFileName` of apt's strutl.cc, backwards.
//!
//! ```text
//!  http://mirror.example.org:8080/a_b/dists/sid/InRelease  ->  mirror.example.org:8080_a%5fb_dists_sid_InRelease
//! ```
//!
//! Scheme, user and password are not in the name. A slash is `_`, and what would be mistaken for one, or is special to a
//! shell, is percent-encoded on top of what the URL has encoded already.

use percent_encoding::percent_decode_str;

use crate::archive::Location;

/// The place that a list was fetched from, as far as its name says; that of an https source is given as http, which is the
/// same for everything that is learned. `None` when it is of no such place.
pub(super) fn location(name: &str) -> Option<Location> {
    let path = name.replace('_', "/");
    let decoded = percent_decode_str(&path).decode_utf8().ok()?;
    let at = Location::parse(&format!("http://{decoded}")).ok()?;
    (at.query().is_none() && at.credentials().is_none()).then_some(at)
}

/// The name without the file at its end, if it is that of a Release: what the names of its indexes begin with.
pub(super) fn of_release(name: &str) -> Option<&str> {
    let (suite, _) = name.rsplit_once('_').filter(|(_, file)| matches!(*file, "InRelease" | "Release"))?;
    Some(&name[..=suite.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_place_back() {
        for (name, key) in [
            ("mirror.example.org_debian_dists_sid_InRelease", "mirror.example.org/debian/dists/sid/InRelease"),
            ("m.example.org:8080_a%5fb_dists_sid_InRelease", "m.example.org:8080/a_b/dists/sid/InRelease"),
            ("m.example.org_flat_._Packages.lz4", "m.example.org/flat/Packages.lz4"),
            ("m.example.org_a%252bb_dists_sid_InRelease", "m.example.org/a+b/dists/sid/InRelease"),
            ("127.0.0.1:9977_HTTPS___m.example.org_x_InRelease", "127.0.0.1:9977/HTTPS/m.example.org/x/InRelease"),
            ("HTTPS___m.example.org_x_InRelease", "m.example.org/x/InRelease"),
        ] {
            assert_eq!(location(name).map(|at| at.key()).as_deref(), Some(key), "{name}");
        }
    }

    #[test]
    fn what_is_no_place_is_none() {
        for name in [
            "",
            "lock",
            "partial",
            "_etc_apt_InRelease",
            "m.example.org_.._x",
            "m.example.org_a%00b",
            "m%ff.org_a",
            "m_a?b",
        ] {
            let at = location(name).filter(|at| at.path() != "/");
            assert_eq!(at, None, "{name}");
        }
    }

    #[test]
    fn the_lists_of_a_suite_begin_alike_and_those_of_another_do_not() {
        let suite = of_release("m_debian_dists_bookworm_InRelease").unwrap();
        assert!("m_debian_dists_bookworm_main_binary-amd64_Packages".starts_with(suite));
        assert!(!"m_debian_dists_bookworm-updates_main_binary-amd64_Packages".starts_with(suite));
        assert_eq!(of_release("m_debian_dists_bookworm_Release"), Some(suite));
        assert_eq!(of_release("m_debian_dists_bookworm_Release.gpg"), None);
        assert_eq!(of_release("InRelease"), None);
    }
}
