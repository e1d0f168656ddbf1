//! apt's sources: which repositories this machine uses, and whose signature each one needs.
//!
//! ```text
//!  sources.list, *.list                                      *.sources (deb822)
//!  deb [signed-by=/a.gpg arch=amd64] URI suite component     Types: deb
//!                                                            URIs: URI
//!                                                            Suites: suite
//!                                                            Components: component
//!                                                            Signed-By: /a.gpg
//! ```
//!
//! An entry may be rewritten to go through this proxy, `http://127.0.0.1:9977/mirror.example.org/debian`; it then counts
//! as the origin it stands for. See sources.list(5). Entries that are not fetched over http or https are left out.
//!
//! **Security.** Who may sign is asked by the place of a Release, and whoever answers for a client can make up places.
//! So a place that no entry names gets less than one that an entry does:
//!
//! ```text
//!  deb [signed-by=/debian.gpg] http://m.example.org/debian sid main
//!
//!  m.example.org/debian/dists/sid        named: by its entries
//!  m.example.org/debian/dists/trixie     the same repository: by the entries for it
//!  m.example.org/debian                  no suite, and no entry says flat: refused
//!  m.example.org/debian/pool             inside of a source's repository: nobody
//!  m.example.org                         around one: nobody
//!  m.example.org/other                   of no source: the default keyrings
//! ```
//!
//! An entry that cannot be read lets nobody sign for the addresses in it; of one that leads to addresses that are not
//! known here, any place of no source may be one. apt takes neither.

use super::{Location, Repository, Validity, is_release, keyring::Pick, path};

mod one_line;
mod stanza;
mod uri;

pub use uri::{Bases, Proxies, Surroundings, mirror_lists};

/// Most entries that are remembered as bad; a person needs to see the first.
const MAX_BAD: usize = 50;

/// As Debian calls it.
const ARCHITECTURE: &str = if cfg!(target_arch = "x86_64") {
    "amd64"
} else if cfg!(target_arch = "aarch64") {
    "arm64"
} else if cfg!(target_arch = "x86") {
    "i386"
} else if cfg!(target_arch = "arm") {
    "armhf"
} else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
    "ppc64el"
} else if cfg!(target_arch = "loongarch64") {
    "loong64"
} else {
    std::env::consts::ARCH
};

/// What apt takes from a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceType {
    /// Binary packages.
    Deb,
    /// Source packages.
    DebSrc,
}

/// One base address in apt's sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What is taken from there.
    pub types: Vec<SourceType>,
    /// The base address of the origin.
    pub base: Location,
    /// Suites below `dists/`; one that ends with a slash is a folder of a flat repository.
    pub suites: Vec<String>,
    /// Components; none in a flat repository.
    pub components: Vec<String>,
    /// Architectures, when the entry names any.
    pub architectures: Vec<String>,
    /// Who may sign; `None` is anybody in the default keyrings.
    pub signed_by: Option<SignedBy>,
    /// From when and until when its Releases may be believed.
    pub validity: Validity,
    /// The file that the entry stands in.
    pub file: String,
    /// Its first line, counted from 1.
    pub line: u64,
}

/// A `Signed-By` value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct SignedBy {
    /// Absolute paths of keyrings; without any, the default keyrings are meant.
    pub files: Vec<String>,
    /// When not empty, only these keys of them.
    pub picks: Vec<Pick>,
    /// An armored keyring in the entry itself; then the other two are empty.
    pub embedded: Option<String>,
}

/// An entry that cannot be used; the others can.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {reason}")]
pub struct BadSource {
    /// The file.
    pub file: String,
    /// The line, counted from 1.
    pub line: u64,
    /// What is wrong.
    pub reason: String,
    /// Whether it is malformed, and not merely one whose mirrors are not known here.
    pub is_malformed: bool,
}

/// Who may sign for a place, by apt's sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signing<'a> {
    /// Anybody in the default keyrings.
    Default,
    /// These and nobody else.
    By(&'a SignedBy),
    /// Two entries for it disagree; apt refuses both.
    Conflict,
    /// Nobody, and why.
    Nobody(&'static str),
    /// No Release belongs there.
    Misplaced,
}

const UNREADABLE: &str = "an entry of apt's sources for this address cannot be read";
const NESTED: &str = "it lies inside or around the repository of one of apt's sources";
const UNKNOWN: &str = "apt's sources do not name it, and not all that they lead to is known";

/// All of apt's sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    sources: Vec<Source>,
    /// The repositories of entries that cannot be read.
    barred: Vec<Repository>,
    /// The repositories that entries name, bad ones too, the longest names first.
    homes: Vec<Repository>,
    /// Whether there are entries with keys of their own that lead to addresses not known here.
    has_unknown: bool,
}

/// An entry without its address.
#[derive(Debug, Clone)]
struct Entry {
    types: Vec<SourceType>,
    suites: Vec<String>,
    components: Vec<String>,
    architectures: Vec<String>,
    signed_by: Option<SignedBy>,
    validity: Validity,
    file: String,
    line: u64,
}

/// What was read so far.
#[derive(Default)]
struct Found {
    sources: Vec<Source>,
    barred: Vec<Repository>,
    has_unknown: bool,
    bad: Vec<BadSource>,
}

impl Found {
    /// An entry, for each of its addresses.
    fn add(&mut self, entry: &Entry, bases: Bases) {
        match bases {
            Bases::Known(bases) => self.sources.extend(bases.into_iter().map(|base| entry.at(base))),
            Bases::Unknown if entry.signed_by.is_some() => {
                self.has_unknown = true;
                let reason =
                    "its mirrors are not known here; only places that other entries name are believed".to_owned();
                self.tell(BadSource { file: entry.file.clone(), line: entry.line, reason, is_malformed: false });
            }
            Bases::Unknown | Bases::Elsewhere => {}
        }
    }

    /// An entry that cannot be read: nobody may sign for the addresses that its text seems to name.
    fn refuse(&mut self, file: &str, line: u64, reason: String, text: &str, around: &Surroundings) {
        let (bases, is_unknown) = around.guessed(text);
        self.barred.extend(bases.iter().map(Repository::at));
        self.has_unknown |= is_unknown;
        self.tell(BadSource { file: file.to_owned(), line, reason, is_malformed: true });
    }

    fn tell(&mut self, bad: BadSource) {
        if self.bad.len() < MAX_BAD {
            self.bad.push(bad);
        }
    }
}

impl Entry {
    fn at(&self, base: Location) -> Source {
        let Self { types, suites, components, architectures, signed_by, validity, file, line } = self.clone();
        Source { types, base, suites, components, architectures, signed_by, validity, file, line }
    }
}

impl Sources {
    /// Reads files, given as name and text: `.list` in the one-line style, `.sources` in deb822 style, others not at
    /// all, as apt does. The entries that cannot be used come second, 50 of them at most.
    pub fn parse<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
        around: &Surroundings,
    ) -> (Self, Vec<BadSource>) {
        let mut found = Found::default();
        for file in &around.unreadable {
            found.has_unknown = true;
            let reason = "the file cannot be read; only places that other entries name are believed".to_owned();
            found.tell(BadSource { file: file.clone(), line: 1, reason, is_malformed: true });
        }
        for (file, text) in files {
            match file.rsplit_once('.') {
                Some((_, "list")) => one_line::parse(file, text, around, &mut found),
                Some((_, "sources")) => stanza::parse(file, text, around, &mut found),
                _ => {}
            }
        }
        let Found { sources, barred, has_unknown, bad } = found;
        let mut homes: Vec<_> = sources.iter().map(|source| Repository::at(&source.base)).collect();
        homes.extend(barred.iter().cloned());
        homes.sort_by(|a, b| (b.as_str().len(), a).cmp(&(a.as_str().len(), b)));
        homes.dedup();
        (Self { sources, barred, homes, has_unknown }, bad)
    }

    /// The repository of a source that a file lies in, the innermost when there are several: no other may speak for it.
    pub fn home(&self, location: &Location) -> Option<&Repository> {
        self.homes.iter().find(|home| home.path_of(location).is_some())
    }

    /// Whether a repository is one of those that entries name.
    pub fn has(&self, repository: &Repository) -> bool {
        self.homes.contains(repository)
    }

    /// The entries, in the order of the files.
    pub fn iter(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter()
    }

    /// The keyring files that entries name, each once.
    pub fn keyring_files(&self) -> Vec<&str> {
        let named = self.sources.iter().filter_map(|source| source.signed_by.as_ref());
        let mut files: Vec<_> = named.flat_map(|signed_by| &signed_by.files).map(String::as_str).collect();
        files.sort_unstable();
        files.dedup();
        files
    }

    /// Whether a host and port are in apt's own sources, so that apt itself would go there.
    pub fn names(&self, location: &Location) -> bool {
        let same =
            |base: &Location| base.host() == location.host() && base.port_or_default() == location.port_or_default();
        self.sources.iter().any(|source| same(&source.base))
    }

    /// The base addresses of other repositories that entries name for a suite which an entry names for this one too, each
    /// once: mirrors of one another, perhaps. Whether they are is for the hashes to say.
    pub fn twins(&self, repository: &Repository) -> Vec<&Location> {
        let is_here = |source: &&Source| Repository::at(&source.base) == *repository;
        let suites: Vec<_> = self.sources.iter().filter(is_here).flat_map(|source| &source.suites).collect();
        let shares = |source: &&Source| source.suites.iter().any(|suite| suites.contains(&suite));
        let mut twins: Vec<&Location> = Vec::new();
        for source in self.sources.iter().filter(shares).filter(|source| !is_here(source)) {
            let is_new = twins.iter().all(|twin| Repository::at(twin) != Repository::at(&source.base));
            if is_new && source.base.credentials().is_none() {
                twins.push(&source.base);
            }
        }
        twins
    }

    /// The repository that a Release speaks for and the folder of its suite: as the entry says that it belongs to, else
    /// by its place alone.
    pub fn place(&self, release: &Location) -> Option<(Repository, String)> {
        let by_entry = self.entries_for(release).next();
        match by_entry {
            Some((source, suite_dir)) if is_release(release) => Some((Repository::at(&source.base), suite_dir)),
            _ => Repository::of_release(release),
        }
    }

    /// Whether an entry names the very place of a Release.
    pub fn names_place(&self, release: &Location) -> bool {
        self.entries_for(release).next().is_some()
    }

    /// Who may sign a Release: the entries for its suite decide, else those for its repository; see the module.
    pub fn signing(&self, release: &Location) -> Signing<'_> {
        let Some((repository, suite_dir)) = self.place(release) else { return Signing::Misplaced };
        let by_suite: Vec<_> = self.entries_for(release).map(|(source, _)| source).collect();
        if self.barred.contains(&repository) {
            return Signing::Nobody(UNREADABLE);
        }
        if !by_suite.is_empty() {
            return agreed(&by_suite);
        }
        let in_repository: Vec<_> =
            self.sources.iter().filter(|source| Repository::at(&source.base) == repository).collect();
        let is_beside = |others: &[Repository]| others.iter().any(|other| other.is_nested_with(&repository));
        match in_repository.is_empty() {
            false if suite_dir.starts_with("dists/") => agreed(&in_repository),
            false => Signing::Misplaced,
            true if is_beside(&self.barred) => Signing::Nobody(UNREADABLE),
            true if is_beside(&self.homes) => Signing::Nobody(NESTED),
            true if self.has_unknown => Signing::Nobody(UNKNOWN),
            true => Signing::Default,
        }
    }

    /// From when and until when a Release may be believed, by all the entries for its suite.
    pub fn validity(&self, release: &Location) -> Validity {
        self.entries_for(release).map(|(source, _)| source.validity).reduce(Validity::and).unwrap_or_default()
    }

    /// The entries that apt would fetch this Release for, with the suite's folder.
    fn entries_for(&self, release: &Location) -> impl Iterator<Item = (&Source, String)> {
        let authority = release.authority();
        let folder = path::split(release.path()).0.trim_start_matches('/').to_owned();
        let here = self.sources.iter().filter(move |source| source.base.authority() == authority);
        here.flat_map(|source| source.suites.iter().map(move |suite| (source, suite))).filter_map(
            move |(source, suite)| {
                let suite_dir = suite_dir(suite)?;
                let base = source.base.path().trim_matches('/');
                (path::join(base, &suite_dir).trim_end_matches('/') == folder).then_some((source, suite_dir))
            },
        )
    }
}

/// An address or a suite of an entry with the name of this machine's architecture filled in, which is taken to be the one
/// that this program was built for.
fn with_architecture(text: &str) -> String {
    text.replace("$(ARCH)", ARCHITECTURE)
}

/// The folder of a suite below the base.
fn suite_dir(suite: &str) -> Option<String> {
    let below = if suite.ends_with('/') { suite.to_owned() } else { format!("dists/{suite}") };
    Some(path::normalise(&below).ok()?.trim_end_matches('/').to_owned())
}

/// Who may sign by all of these entries together.
fn agreed<'a>(entries: &[&'a Source]) -> Signing<'a> {
    match entries.split_first() {
        None => Signing::Default,
        Some((first, rest)) if rest.iter().any(|other| other.signed_by != first.signed_by) => Signing::Conflict,
        Some((first, _)) => first.signed_by.as_ref().map_or(Signing::Default, Signing::By),
    }
}

impl SignedBy {
    /// Reads a list of absolute paths and fingerprints, separated by commas or spaces.
    fn parse(list: &str) -> Result<Self, String> {
        let mut signed_by = Self::default();
        for entry in list.split([',', ' ', '\t', '\n', '\r']).filter(|entry| !entry.is_empty()) {
            if entry.starts_with('/') {
                signed_by.files.push(entry.to_owned());
                continue;
            }
            signed_by.picks.push(entry.parse().map_err(|error| format!("Signed-By {entry}: {error}"))?);
        }
        if signed_by == Self::default() { Err("an empty Signed-By".to_owned()) } else { Ok(signed_by) }
    }
}

#[cfg(test)]
mod tests;
