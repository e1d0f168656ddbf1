//! A signed Release: what an archive says of its indexes (Debian policy has no chapter on it; see apt-secure(8) and
//! <https://wiki.debian.org/DebianRepository/Format>).
//!
//! ```text
//!  Suite: stable
//!  Codename: bookworm
//!  Date: Sat, 11 Jul 2026 09:12:31 UTC
//!  Valid-Until: Sat, 18 Jul 2026 09:12:31 UTC
//!  Acquire-By-Hash: yes
//!  SHA256:
//!   5a94...0f  50060112 main/binary-amd64/Packages         digest, size, path below the suite's folder
//! ```
//!
//! **Security.** A [`Release`] is made only here, only from text that an allowed key signed, that names the suite it was
//! found under, and that is neither expired nor from the future. Only the `SHA256` section promises; `MD5Sum` and `SHA512`
//! give further names to what it lists, and a Release without it is not learned from.

use std::{collections::BTreeMap, time::SystemTime};

use crate::hash::Expected;

use super::{
    Digest, Hex, Repository, Validity, Vouched, by_hash,
    clearsign::{self, ClearSigned},
    keyring::{Pick, Signers},
    path,
    pins::Pin,
    signature::{self, NotSigned, Signer},
};

pub(super) mod read;

/// Largest Release, in bytes. The largest known has 0.26 MB.
pub const MAX_RELEASE: usize = 8 * 1024 * 1024;

/// Most files of one Release. The most known are some 1,000.
pub const MAX_MEMBERS: usize = 100_000;

/// Where a Release was found, and what apt's sources say of that place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The repository that it speaks for.
    pub repository: Repository,
    /// The suite's folder below the repository's base, `dists/<suite>` or, in a flat repository, any or none.
    pub suite_dir: String,
    /// Whether an entry of apt's sources names this very place.
    pub is_named: bool,
    /// Whether the repository may be named to strangers.
    pub shareable: bool,
    /// From when and until when Releases found there may be believed.
    pub validity: Validity,
}

/// A Release whose signature was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    place: Place,
    signer: Signer,
    origin: Option<String>,
    suite: Option<String>,
    codename: Option<String>,
    components: Vec<String>,
    date: SystemTime,
    valid_until: Option<SystemTime>,
    has_by_hash: bool,
    next_signers: Vec<Pick>,
    members: BTreeMap<String, Member>,
}

/// A file that a Release lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    expected: Expected,
    md5: Option<Hex<16>>,
    sha512: Option<Hex<64>>,
}

/// What the check of a Release came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// An allowed key signed it.
    Verified(Box<Release>),
    /// No key that may sign for its source is known here; it passes through and nothing is learned.
    Unverifiable(NoKey),
    /// It was rightly signed and is too old to be believed.
    Stale {
        /// Until when it was to be believed, by its `Valid-Until` and by apt's sources.
        valid_until: SystemTime,
    },
    /// A key for its source is known and did not sign this, or signed something that cannot be used.
    Bad(BadRelease),
}

/// Why a Release can be neither believed nor called bad.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoKey {
    /// No key at all is known for the source.
    #[error("no key is known for this source")]
    NoKeyring,
    /// Keys are known that may sign for whatever names no other, and it is signed with others.
    #[error("signed with keys that are not known here: {}", .0.join(", "))]
    Strangers(Vec<String>),
    /// apt's sources contradict each other about who may sign.
    #[error("apt's sources name different Signed-By for this source")]
    Conflict,
    /// Nobody may sign there, whatever keys are known.
    #[error("{0}")]
    Nobody(&'static str),
}

/// Why a Release is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRelease {
    /// The place it was found at is not one of a Release.
    #[error("no Release belongs there")]
    Place,
    /// It is not one clear-signed message.
    #[error("{0}")]
    Framing(&'static str),
    /// The keys that must sign there are named, and it is signed with others.
    #[error("signed with keys that may not sign for this source: {}", .0.join(", "))]
    Strangers(Vec<String>),
    /// The signature is wrong, or the key no longer or not yet good.
    #[error("bad signature: {0}")]
    Signature(String),
    /// What was signed is not a Release that can be used.
    #[error("{0}")]
    Content(String),
    /// It speaks for another suite.
    #[error("it is the Release of {found}, found as that of {wanted}")]
    WrongSuite {
        /// The suite in the URL.
        wanted: String,
        /// Suite and codename that it claims.
        found: String,
    },
}

impl Verdict {
    /// The Release, when it was verified.
    pub fn verified(self) -> Option<Release> {
        match self {
            Self::Verified(release) => Some(*release),
            _ => None,
        }
    }
}

/// Checks an `InRelease`.
pub fn verify_inrelease(message: &[u8], place: Place, signers: &Signers, now: SystemTime) -> Verdict {
    if signers.keyring.is_empty() {
        return Verdict::Unverifiable(NoKey::NoKeyring);
    }
    if message.len() > MAX_RELEASE {
        return Verdict::Bad(BadRelease::Framing("a Release of more than 8 MiB"));
    }
    match clearsign::split(message) {
        Ok(ClearSigned { text, signatures }) => verify_detached(&text, &signatures, place, signers, now),
        Err(reason) => Verdict::Bad(BadRelease::Framing(reason)),
    }
}

/// Checks a `Release` by its `Release.gpg`.
pub fn verify_detached(text: &[u8], block: &[u8], place: Place, signers: &Signers, now: SystemTime) -> Verdict {
    if signers.keyring.is_empty() {
        return Verdict::Unverifiable(NoKey::NoKeyring);
    }
    if text.len() > MAX_RELEASE {
        return Verdict::Bad(BadRelease::Framing("a Release of more than 8 MiB"));
    }
    if !clearsign::is_plain(text) {
        return Verdict::Bad(BadRelease::Framing("a carriage return or NUL inside a line"));
    }
    let signer = match signature::check(block, text, signers, now) {
        Ok(signer) => signer,
        Err(NotSigned::Strangers(keys)) if signers.are_named => return Verdict::Bad(BadRelease::Strangers(keys)),
        Err(NotSigned::Strangers(keys)) => return Verdict::Unverifiable(NoKey::Strangers(keys)),
        Err(NotSigned::Bad(reason)) => return Verdict::Bad(BadRelease::Signature(reason)),
    };
    match read::read(text, place, signer) {
        Ok(release) => release.judged(now),
        Err(error) => Verdict::Bad(BadRelease::Content(error.to_string())),
    }
}

impl Release {
    /// The last questions, which need the clock and the place.
    fn judged(self, now: SystemTime) -> Verdict {
        let validity = &self.place.validity;
        if let Some(valid_until) = validity.end(self.date, self.valid_until).filter(|&end| end < now) {
            return Verdict::Stale { valid_until };
        }
        if validity.is_ahead(self.date, now) {
            return Verdict::Bad(BadRelease::Content("its Date is in the future".to_owned()));
        }
        match self.place.suite_dir.strip_prefix("dists/") {
            Some(suite) if !self.speaks_for(suite) => {
                let claims: Vec<_> = self.suite.iter().chain(&self.codename).map(String::as_str).collect();
                Verdict::Bad(BadRelease::WrongSuite { wanted: suite.to_owned(), found: claims.join(" or ") })
            }
            None if !self.place.is_named && self.is_of_suite() => Verdict::Bad(BadRelease::Content(
                "the Release of a suite, found as that of a flat repository".to_owned(),
            )),
            _ => Verdict::Verified(Box::new(self)),
        }
    }

    /// Whether it may stand under this name: that of its suite or its codename (`stable` and `bookworm` are one). One
    /// that claims neither stands anywhere, as apt has it: many vendors' do not. Other aliases, like Ubuntu's `devel`, are
    /// not known here, and nothing is learned under them. Three families of archives bend that:
    ///
    /// ```text
    ///  found under           Suite             Codename             Components
    ///  noble-updates         noble-updates     noble                main universe    Ubuntu: a codename alone is the
    ///                                                                                release's, not that of its updates
    ///  buster/updates        oldstable         buster               updates/main     Debian security, up to Debian 10
    ///  bookworm/mongo/7.0    bookworm          bookworm/mongo       main             apt leaves the last part out
    /// ```
    ///
    /// The last one holds only where apt's sources name the place.
    fn speaks_for(&self, suite: &str) -> bool {
        if self.suite.is_none() && self.codename.is_none() {
            return true;
        }
        let claims = |place: &str| !place.is_empty() && self.claims().any(|claim| claim == place);
        let is_part = !self.components.is_empty() && self.components.iter().all(|name| name.starts_with("updates/"));
        match suite.rsplit_once('/') {
            Some((release, "updates")) if is_part => claims(release),
            Some((longer, _)) if self.place.is_named && !is_part && claims(longer) => true,
            _ => claims(suite) && (!is_part || suite.ends_with("-security")),
        }
    }

    /// The names of its suite.
    fn claims(&self) -> impl Iterator<Item = &str> {
        let is_base = |codename: &&str| {
            let longer = self.suite.as_ref().and_then(|suite| suite.strip_prefix(codename));
            !longer.is_some_and(|rest| rest.starts_with('-'))
        };
        self.suite.as_deref().into_iter().chain(self.codename.as_deref().filter(is_base))
    }

    /// Whether it is laid out like the Release of a suite. Flat repositories name a suite or a codename too (those of the
    /// Open Build Service), but have no components, and no indexes in folders of them.
    fn is_of_suite(&self) -> bool {
        let is_index = |path: &str| {
            let (component, folder) = path::split(path::split(path).0);
            !component.is_empty() && (folder.starts_with("binary-") || matches!(folder, "source" | "i18n" | "dep11"))
        };
        !self.components.is_empty() || self.members.keys().any(|path| is_index(path))
    }

    /// The repository that it speaks for.
    pub fn repository(&self) -> &Repository {
        &self.place.repository
    }

    /// The suite's folder below the repository's base: `dists/<suite>`, or the folder of a flat repository.
    pub fn suite_dir(&self) -> &str {
        &self.place.suite_dir
    }

    /// Whether its files may be named to strangers.
    pub fn is_shareable(&self) -> bool {
        self.place.shareable
    }

    /// Who signed it.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// The distributor: `Debian`.
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// `stable`.
    pub fn suite(&self) -> Option<&str> {
        self.suite.as_deref()
    }

    /// `bookworm`.
    pub fn codename(&self) -> Option<&str> {
        self.codename.as_deref()
    }

    /// When it was made. What is learned never goes back behind the latest one seen.
    pub fn date(&self) -> SystemTime {
        self.date
    }

    /// Until when it may be believed.
    pub fn valid_until(&self) -> Option<SystemTime> {
        self.valid_until
    }

    /// What it says of the keys of the next one.
    pub fn pin(&self) -> Pin {
        Pin {
            repository: self.place.repository.clone(),
            suite_dir: self.place.suite_dir.clone(),
            picks: self.next_signers.clone(),
            until: self.valid_until,
        }
    }

    /// Whether the archive offers its indexes under their digests too.
    pub fn has_by_hash(&self) -> bool {
        self.has_by_hash
    }

    /// Every file that it lists, in the order of their paths.
    pub fn members(&self) -> impl ExactSizeIterator<Item = Vouched> {
        self.members.iter().map(|(path, member)| self.vouched(path::join(self.suite_dir(), path), member.expected))
    }

    /// The files that it lists under their by-hash paths of SHA-512 and MD5, where it has such sections and the archive
    /// offers by-hash. A path that would stand for two different files is left out. Those of SHA-256 go without saying.
    pub fn aliases(&self) -> impl Iterator<Item = Vouched> {
        let mut aliases: BTreeMap<String, Option<Expected>> = BTreeMap::new();
        for (path, member) in self.members.iter().filter(|_| self.has_by_hash) {
            let digests = [member.sha512.map(Digest::Sha512), member.md5.map(Digest::Md5)];
            for digest in digests.into_iter().flatten() {
                let alias = digest.path_in(path::split(path).0);
                let same = aliases.entry(alias).or_insert(Some(member.expected));
                *same = same.filter(|expected| *expected == member.expected);
            }
        }
        let known = aliases.into_iter().filter_map(|(path, expected)| Some((path, expected?)));
        known.map(|(path, expected)| self.vouched(path::join(self.suite_dir(), &path), expected))
    }

    /// What a file must be, by its path below the repository: the plain one, or a by-hash one of a listed file.
    pub fn vouch(&self, path: &str) -> Option<Vouched> {
        let member = self.members.get(self.below(path)?).map(|member| member.expected);
        let expected = member.or_else(|| {
            let mut named = self.named_by_hash(path).map(|member| member.expected);
            let first = named.next()?;
            named.all(|other| other == first).then_some(first)
        })?;
        Some(self.vouched(path.to_owned(), expected))
    }

    fn vouched(&self, path: String, expected: Expected) -> Vouched {
        Vouched::new(expected, self.place.repository.clone(), path, self.place.shareable)
    }

    /// A path below the repository as one below the suite's folder.
    fn below<'a>(&self, path: &'a str) -> Option<&'a str> {
        match self.suite_dir() {
            "" => Some(path),
            folder => path.strip_prefix(folder)?.strip_prefix('/'),
        }
    }

    fn named_by_hash(&self, path: &str) -> impl Iterator<Item = Member> {
        let asked = self.below(path).and_then(by_hash);
        self.members.iter().filter_map(move |(path, member)| {
            let (folder, digest) = asked?;
            let named = match digest {
                Digest::Sha256(hash) => member.expected.hash == hash,
                Digest::Sha512(hex) => member.sha512 == Some(hex),
                Digest::Md5(hex) => member.md5 == Some(hex),
            };
            (named && path::split(path).0 == folder).then_some(*member)
        })
    }
}

#[cfg(test)]
mod tests;
