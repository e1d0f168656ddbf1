//! The proof that an archive's signature covers a file.

use crate::hash::{ContentHash, Expected};

use super::{Location, Repository};

/// What a signed Release, or an index that one lists, says of a file. Made only in this station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    expected: Expected,
    repository: Repository,
    path: String,
    shareable: bool,
}

impl Vouched {
    /// Only for what a verified signature covers.
    pub(super) fn new(expected: Expected, repository: Repository, path: String, shareable: bool) -> Self {
        Self { expected, repository, path, shareable }
    }

    /// Gives back what the store was given as `Vouched` before. The store's tables are as trusted as its objects.
    pub fn restore(expected: Expected, repository: Repository, path: String, shareable: bool) -> Self {
        Self::new(expected, repository, path, shareable)
    }

    /// The digest and size that the archive signed.
    pub fn expected(&self) -> &Expected {
        &self.expected
    }

    /// The repository that vouches.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The file's path below the repository, normalised, without a leading slash.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The right to name this file to strangers, when its repository is public.
    pub fn shareable(&self) -> Option<Shareable> {
        self.shareable.then_some(Shareable { expected: self.expected })
    }
}

/// A file that may be named to strangers: vouched for by a public repository.
///
/// DHT lookups, peers, uploads and announcements take this and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shareable {
    expected: Expected,
}

impl Shareable {
    /// What strangers are asked for or told of.
    pub fn expected(&self) -> &Expected {
        &self.expected
    }

    /// Its digest.
    pub fn hash(&self) -> ContentHash {
        self.expected.hash
    }
}

/// Which repositories are nobody else's business.
#[derive(Debug, Clone, Default)]
pub struct Privacy {
    /// Host names (`host` or `host:port`) that are never shared.
    pub hosts: Vec<String>,
    /// Hosts on loopback or in private ranges that may be shared all the same.
    pub public: Vec<String>,
}

impl Privacy {
    /// Whether files from there may be shared, given whether its address is reachable from everywhere.
    pub fn shareable(&self, location: &Location, globally_routable: bool) -> bool {
        location.credentials().is_none()
            && location.query().is_none()
            && !location.is_named_in(&self.hosts)
            && (globally_routable || location.is_named_in(&self.public))
    }

    /// Whether a repository that was shareable when it was learned may still be shared.
    pub fn allows(&self, repository: &Repository) -> bool {
        let allowed = |url: String| Location::parse(&url).is_ok_and(|location| !location.is_named_in(&self.hosts));
        // A repository is the same over either, and so is what was said of its host and port.
        allowed(format!("http://{repository}/")) && allowed(format!("https://{repository}/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> Location {
        Location::parse(url).unwrap()
    }

    #[test]
    fn a_host_that_is_named_private_later_takes_its_repositories_along() {
        let privacy = Privacy { hosts: vec!["corp.example.org".to_owned()], public: Vec::new() };
        assert!(!privacy.allows(&Repository::restore("corp.example.org/debian")));
        assert!(!privacy.allows(&Repository::restore("corp.example.org:8080/debian")));
        let port = Privacy { hosts: vec!["corp.example.org:443".to_owned()], public: Vec::new() };
        assert!(!port.allows(&Repository::restore("corp.example.org/debian")));
        assert!(privacy.allows(&Repository::restore("mirror.example.org/debian")));
    }

    fn shareable(privacy: &Privacy, url: &str, global: bool) -> bool {
        privacy.shareable(&at(url), global)
    }

    #[test]
    fn only_public_hosts_without_credentials_are_shared() {
        let privacy = Privacy::default();
        assert!(shareable(&privacy, "http://m.example.org/debian", true));
        assert!(!shareable(&privacy, "http://m.example.org/debian", false));
        assert!(!shareable(&privacy, "http://user:pw@m.example.org/debian", true));
        assert!(!shareable(&privacy, "http://m.example.org/debian?token=1", true));
    }

    #[test]
    fn hosts_that_are_named_are_private_whatever_else_is_said() {
        let names =
            ["Secret.example.org", "port.example.org:80", "odd.example.org:8080", "2001:db8::1"].map(str::to_owned);
        let privacy = Privacy { hosts: names.to_vec(), public: names.to_vec() };
        for (url, shared) in [
            ("http://secret.example.org/a", false),
            ("https://secret.example.org:8443/a", false),
            ("http://port.example.org/a", false),
            ("https://port.example.org/a", true),
            ("http://odd.example.org:8080/a", false),
            ("http://odd.example.org/a", true),
            ("http://[2001:db8::1]/a", false),
        ] {
            assert_eq!(shareable(&privacy, url, true), shared, "{url}");
        }
    }

    #[test]
    fn hosts_in_private_ranges_are_shared_only_when_named() {
        let privacy = Privacy { hosts: Vec::new(), public: vec!["127.0.0.1:8000".to_owned()] };
        assert!(shareable(&privacy, "http://127.0.0.1:8000/debian", false));
        assert!(!shareable(&privacy, "http://127.0.0.1:8001/debian", false));
        assert!(!shareable(&privacy, "http://user:pw@127.0.0.1:8000/debian", false));
    }

    #[test]
    fn what_is_not_shareable_yields_nothing_to_ask_strangers_with() {
        let expected = Expected { hash: ContentHash::of(b""), size: 0 };
        let vouched =
            |shareable| Vouched::restore(expected, Repository::restore("m.example.org"), "a".into(), shareable);
        assert_eq!(vouched(true).shareable().map(|file| file.hash()), Some(expected.hash));
        assert_eq!(vouched(false).shareable(), None);
    }
}
