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
        let named = |list: &[String]| {
            list.iter().any(|entry| {
                entry.eq_ignore_ascii_case(location.host()) || entry.eq_ignore_ascii_case(&location.authority())
            })
        };
        location.credentials().is_none() && !named(&self.hosts) && (globally_routable || named(&self.public))
    }
}
