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

use super::{Location, Repository, Validity, is_release, keyring::Pick, path};

mod one_line;
mod stanza;

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
}

/// All of apt's sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    sources: Vec<Source>,
}

impl Sources {
    /// Reads files, given as name and text: `.list` in the one-line style, `.sources` in deb822 style, others not at
    /// all, as apt does. `proxies` are the authorities (`host:port`) that this proxy listens on.
    pub fn parse<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
        proxies: &[String],
    ) -> (Self, Vec<BadSource>) {
        let (mut sources, mut bad) = (Vec::new(), Vec::new());
        for (file, text) in files {
            let found = match file.rsplit_once('.') {
                Some((_, "list")) => one_line::parse(file, text, proxies),
                Some((_, "sources")) => stanza::parse(file, text, proxies),
                _ => continue,
            };
            for source in found {
                match source {
                    Ok(source) => sources.push(source),
                    Err(error) => bad.push(error),
                }
            }
        }
        (Self { sources }, bad)
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

    /// Who may sign a Release: the entries for its suite decide, else those for its repository, else the default.
    pub fn signing(&self, release: &Location) -> Signing<'_> {
        let by_suite: Vec<_> = self.entries_for(release).map(|(source, _)| source).collect();
        let repository = Repository::of_release(release).map(|(repository, _)| repository);
        let in_repository = |source: &&Source| Some(Repository::at(&source.base)) == repository;
        let entries = match by_suite.is_empty() {
            false => by_suite,
            true => self.sources.iter().filter(in_repository).collect(),
        };
        match entries.split_first() {
            None => Signing::Default,
            Some((first, rest)) if rest.iter().any(|other| other.signed_by != first.signed_by) => Signing::Conflict,
            Some((first, _)) => first.signed_by.as_ref().map_or(Signing::Default, Signing::By),
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

/// Reads the URI of an entry: `None` when its scheme is none of ours. One that leads through this proxy is turned into
/// what it stands for.
fn read_base(uri: &str, proxies: &[String]) -> Option<Result<Location, String>> {
    let scheme = uri.split_once(':')?.0;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let base = Location::parse(uri).and_then(|written| {
        let authority = format!("{}:{}", written.host(), written.port_or_default());
        match proxies.iter().any(|proxy| proxy.eq_ignore_ascii_case(&authority)) {
            true => Location::from_rewritten(&written.key()[written.authority().len()..]),
            false => Ok(written),
        }
    });
    Some(base.map_err(|error| error.to_string()))
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
