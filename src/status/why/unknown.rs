//! Which refusals may be why nobody vouches for a file whose place nobody knows.

use crate::{
    archive::{Location, is_release, path},
    status::report::{Refused, seconds},
    store::SuiteInfo,
};

use super::question::Subject;

/// Whether the file might have been known but for this refusal.
///
/// A source without a key here never taught anything: where others do, it is no answer. Neither is a Release that was
/// verified since, nor, for a file of a suite, what was refused of another one.
pub(super) fn may_be_by(refusal: &Refused, subject: &Subject, suites: &[SuiteInfo]) -> bool {
    let Ok(at) = Location::parse(&refusal.location) else { return false };
    let verified_since = |suite: &SuiteInfo| {
        let below = suite.repository.path_of(&at);
        below.is_some_and(|below| path::split(&below).0 == suite.suite) && seconds(suite.learned) > refusal.at
    };
    let is_over = is_release(&at) && suites.iter().any(verified_since);
    let is_in_suite = match subject {
        Subject::Path { paths, .. } => paths.iter().any(|path| is_in_suite_of(path, &at)),
        _ => true,
    };
    (refusal.is_bad || suites.is_empty()) && !is_over && is_in_suite
}

/// `dists/<suite>/...` is of that suite, in whatever repository; other paths may be of any.
fn is_in_suite_of(path: &str, at: &Location) -> bool {
    let Some(below) = path.strip_prefix("dists/") else { return true };
    let suite = below.split('/').next().unwrap_or_default();
    at.path().contains(&format!("/dists/{suite}/"))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use crate::{archive::Repository, hash::ContentHash};

    use super::*;

    fn refused(url: &str, is_bad: bool) -> Refused {
        Refused { location: url.to_owned(), reason: "it was".to_owned(), is_bad, at: 1000 }
    }

    fn suite(learned: u64) -> SuiteInfo {
        let learned = UNIX_EPOCH + Duration::from_secs(learned);
        let repository = Repository::restore("m.example.org/debian");
        let (suite, signer) = ("dists/sid".to_owned(), "key".to_owned());
        SuiteInfo { repository, suite, date: UNIX_EPOCH, signer, files: 1, learned, valid_until: None }
    }

    #[test]
    fn what_has_nothing_to_do_with_a_question_is_no_answer_to_it() {
        let path = |path: &str| Subject::Path { paths: vec![path.to_owned()], url: None };
        let hash = Subject::Hash(ContentHash::of(b""));
        let release = "http://m.example.org/debian/dists/sid/InRelease";
        let index = "http://m.example.org/debian/dists/sid/main/binary-amd64/Packages.xz";
        for (subject, url, is_bad, suites, may_be) in [
            (&hash, release, true, &[][..], true),
            (&hash, release, true, &[suite(500)], true),
            (&hash, release, true, &[suite(1500)], false),
            (&hash, index, true, &[suite(1500)], true),
            (&hash, "http://v.example.org/InRelease", false, &[suite(500)], false),
            (&hash, "http://v.example.org/InRelease", false, &[], true),
            (&path("pool/a.deb"), index, true, &[suite(500)], true),
            (&path("dists/sid/main/Contents-amd64"), index, true, &[suite(500)], true),
            (&path("dists/trixie/main/Contents-amd64"), index, true, &[suite(500)], false),
        ] {
            assert_eq!(may_be_by(&refused(url, is_bad), subject, suites), may_be, "{subject:?} {url} {suites:?}");
        }
    }
}
