//! Why a file is what it is said to be: the chain from a key to its hash, or where and why it breaks.
//!
//! ```text
//!  signer: fingerprint, key file -> Release: repository, suite, date -> index: path, hash -> file: hash, size
//! ```
//!
//! The answer to `GET /api/v1/why?q=QUESTION`; what may be asked is in [`question`].

pub mod page;
pub mod pieces;
pub mod question;
mod unknown;
mod version;

use std::{cmp::Reverse, fmt, time::SystemTime};

use actix_web::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    archive::{Location, Repository, is_release, path},
    fetch,
    store::{Holding, Sought, StoreError, Vouching},
};

use super::{
    Window, look,
    report::{self, Refused, Suite, seconds},
};

use pieces::Pieces;
use question::{BadQuestion, FileName, Question, Subject, name_begins, same_file};

/// Chains shown of one question.
const MAX_CHAINS: usize = 20;
/// Refusals shown with an answer.
const MAX_REFUSALS: usize = 5;
/// Suites shown where nothing vouches.
const MAX_SUITES: usize = 10;

/// What is known of a question.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = WhyAnswer)]
pub struct Answer {
    /// The question, without passwords.
    pub question: String,
    /// Whether a chain is whole.
    pub whole: bool,
    /// What vouches, whole chains first and the newest first among them.
    pub chains: Vec<Chain>,
    /// Chains that are not shown.
    pub more: usize,
    /// Why there is none.
    pub missing: Option<Missing>,
}

/// From a key to a file.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Chain {
    /// The signature's key.
    pub signer: Signer,
    /// What it signed.
    pub release: Release,
    /// The index, listed by the Release, that lists the file; none when the Release does.
    pub index: Option<Index>,
    /// What the file must be.
    pub file: File,
    /// Where the chain breaks, if it does.
    pub breaks: Option<Break>,
    /// Whether the store has it.
    pub store: Kept,
    /// Whether peers are asked for it and may have it.
    pub peers: Peers,
    /// Who brought it, when it is held or on its way.
    pub pieces: Option<Pieces>,
    /// What was refused of the same suite since the start, newest first.
    pub refusals: Vec<Refused>,
}

/// A key that signed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Signer {
    /// Its fingerprint, in upper-case hexadecimal digits.
    pub fingerprint: String,
    /// The file that apt has it from; for a key inside of a source, that file and the line.
    pub key_file: String,
}

/// A Release whose signature was checked.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Release {
    /// The repository that it speaks for: `host[:port]/path`.
    pub repository: String,
    /// Its folder there; empty in a flat repository.
    pub suite: String,
    /// When it was made, in seconds since 1970.
    pub date: u64,
    /// When it was learned, in seconds since 1970.
    pub learned: u64,
}

/// An index whose bytes were hashed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Index {
    /// Its path in the repository.
    pub path: String,
    /// Its SHA-256.
    pub sha256: String,
}

/// A file that an archive vouches for.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct File {
    /// Its path in the repository.
    pub path: String,
    /// Its SHA-256.
    pub sha256: String,
    /// Its size in bytes.
    pub size: u64,
}

/// Where a chain breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Break {
    /// The index, or the Release, named the file in its version before this one and does not any more.
    Superseded,
    /// The Release lists another version of the index, which was not learned yet.
    IndexReplaced,
}

/// Whether the store has a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Holding)]
pub enum Kept {
    /// Whole and proven.
    Held,
    /// Found after a damage to the catalogue, not hashed yet.
    Unproven,
    /// On its way.
    Arriving,
    /// Not.
    Absent,
}

/// Whether peers may have a file, and are asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Peers {
    /// Given and announced.
    Offered,
    /// Would be offered, were it held.
    NotHeld,
    /// Not offered, because the archive has replaced it.
    Superseded,
    /// Kept from them, because the mirror's address was not public when the Release was learned.
    NotPublic,
    /// Kept from them, because the configuration names the host.
    HostNamed,
    /// Asked for, and nothing is given.
    TakeOnly,
    /// There is no network.
    Off,
}

/// Nothing vouches.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Missing {
    /// Why not.
    pub reason: Absence,
    /// What was refused since the start where the file might be, newest first.
    pub refusals: Vec<Refused>,
    /// The suites that are known where the file might be.
    pub suites: Vec<Suite>,
}

/// Why nothing vouches for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Absence {
    /// A Release is signed itself.
    IsRelease,
    /// Its URL has a password.
    Password,
    /// Its URL has a query.
    Query,
    /// A Release or index where it might be was refused.
    Refused,
    /// No Release of its repository was verified.
    UnknownRepository,
    /// No index that was learned names it.
    Unlisted,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// The question cannot be read.
    #[error("{0}")]
    Question(#[from] BadQuestion),
    /// The catalogue cannot.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// What the API says instead of an answer.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Trouble {
    /// Why.
    pub error: String,
}

impl NoAnswer {
    /// The HTTP status for it.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Question(_) => StatusCode::BAD_REQUEST,
            Self::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Answer {
    /// Looks for what is asked.
    pub(super) fn of(window: &Window, text: &str, wall: SystemTime) -> Result<Self, NoAnswer> {
        let question = Question::parse(text, &window.listen)?;
        let mut found = seek(window, &question.subject)?;
        found.sort_by(newest_first);
        let more = found.len().saturating_sub(MAX_CHAINS);
        found.truncate(MAX_CHAINS);
        let refused: Vec<_> = window.flow.learning().refusals.into_iter().map(report::refused).collect();
        let fetched = window.fetcher.snapshot();
        let chains: Vec<_> =
            found.iter().map(|vouching| chain(window, vouching, &refused, &fetched)).collect::<Result<_, _>>()?;
        let missing = if chains.is_empty() { Some(missing(window, &question.subject, refused, wall)?) } else { None };
        let whole = chains.iter().any(|chain| chain.breaks.is_none());
        Ok(Self { question: question.text, whole, chains, more, missing })
    }
}

fn seek(window: &Window, subject: &Subject) -> Result<Vec<Vouching>, StoreError> {
    let store = &window.store;
    let at = |location: &Location| match window.flow.home(location) {
        _ if location.credentials().is_some() || location.query().is_some() => Ok(Vec::new()),
        Some((home, path)) => store.why(&Sought::In(&home, &path)),
        None => store.why(&Sought::At(&format!("{}{}", location.authority(), location.path()))),
    };
    let mut found = Vec::new();
    match subject {
        Subject::Hash(hash) => return store.why(&Sought::Hash(*hash)),
        Subject::Package(package) => {
            return store.why(&Sought::Named { begins: package.begins(), fits: &|name| package.fits(name) });
        }
        Subject::Name(asked) => {
            return store.why(&Sought::Named { begins: name_begins(asked), fits: &|name| same_file(asked, name) });
        }
        Subject::Url(places) => {
            for place in places {
                found.extend(at(place)?);
            }
        }
        Subject::Path { paths, url } => {
            for path in paths {
                found.extend(store.why(&Sought::Path(path))?);
            }
            if let (Some(url), true) = (url, found.is_empty()) {
                found = at(url)?;
            }
        }
    }
    Ok(found)
}

/// Whole chains before broken ones; then newer versions; then newer Releases.
fn newest_first(one: &Vouching, other: &Vouching) -> std::cmp::Ordering {
    let version = |vouching: &Vouching| {
        let name = path::split(vouching.file.path()).1;
        FileName::parse(name).map(|file| (file.package.to_owned(), file.version.replace("%3a", ":")))
    };
    let by_version = match (version(one), version(other)) {
        (Some((name, version)), Some((other_name, other))) if name == other_name => version::compare(&other, &version),
        _ => std::cmp::Ordering::Equal,
    };
    let place = |vouching: &Vouching| (vouching.file.repository().clone(), vouching.file.path().to_owned());
    breaks(one)
        .is_some()
        .cmp(&breaks(other).is_some())
        .then(by_version)
        .then_with(|| Reverse(one.date).cmp(&Reverse(other.date)))
        .then_with(|| place(one).cmp(&place(other)))
}

fn breaks(vouching: &Vouching) -> Option<Break> {
    match &vouching.index {
        _ if !vouching.is_current => Some(Break::Superseded),
        Some(index) if !index.is_listed => Some(Break::IndexReplaced),
        _ => None,
    }
}

fn chain(
    window: &Window,
    vouching: &Vouching,
    refused: &[Refused],
    fetched: &fetch::Snapshot,
) -> Result<Chain, StoreError> {
    let (file, repository) = (&vouching.file, vouching.file.repository());
    let holding = window.store.holding(file.expected())?;
    let (fingerprint, key_file) = vouching.signer.split_once(' ').unwrap_or((&vouching.signer, ""));
    let in_suite = |path: String| {
        vouching.suite.is_empty() || path.strip_prefix(&vouching.suite).is_some_and(|rest| rest.starts_with('/'))
    };
    let of_suite = |refusal: &&Refused| {
        Location::parse(&refusal.location).ok().and_then(|at| repository.path_of(&at)).is_some_and(in_suite)
    };
    Ok(Chain {
        signer: Signer { fingerprint: fingerprint.to_owned(), key_file: key_file.to_owned() },
        release: Release {
            repository: repository.to_string(),
            suite: vouching.suite.clone(),
            date: seconds(vouching.date),
            learned: seconds(vouching.learned),
        },
        index: vouching.index.as_ref().map(|index| Index { path: index.path.clone(), sha256: index.hash.to_string() }),
        file: File {
            path: file.path().to_owned(),
            sha256: file.expected().hash.to_string(),
            size: file.expected().size,
        },
        breaks: breaks(vouching),
        store: holding.into(),
        peers: peers(window, vouching, holding)?,
        pieces: pieces::of(file.expected(), holding.into(), fetched, window.dht.is_some()),
        refusals: refused.iter().filter(of_suite).take(MAX_REFUSALS).cloned().collect(),
    })
}

/// The same bytes are offered when any public repository vouches for them now, whichever chain this is.
fn peers(window: &Window, vouching: &Vouching, holding: Holding) -> Result<Peers, StoreError> {
    let file = &vouching.file;
    let current = window.store.by_hash(file.expected().hash)?;
    let is_public =
        current.iter().any(|one| one.shareable().is_some_and(|file| file.expected() == vouching.file.expected()));
    Ok(match (&window.dht, &window.upload) {
        (None, _) => Peers::Off,
        _ if !is_public && !window.privacy.allows(file.repository()) => Peers::HostNamed,
        _ if !is_public && !vouching.was_public => Peers::NotPublic,
        _ if !is_public => Peers::Superseded,
        (_, None) => Peers::TakeOnly,
        _ if holding == Holding::Held => Peers::Offered,
        _ => Peers::NotHeld,
    })
}

fn missing(
    window: &Window,
    subject: &Subject,
    mut refusals: Vec<Refused>,
    wall: SystemTime,
) -> Result<Missing, StoreError> {
    let places: &[Location] = match subject {
        Subject::Url(places) => places,
        Subject::Path { url, .. } => url.as_slice(),
        _ => &[],
    };
    let within = |repository: &Repository| places.iter().any(|place| repository.path_of(place).is_some());
    let mut suites = window.store.suites()?;
    let known: Vec<_> = suites.iter().map(|suite| suite.repository.clone()).filter(|known| within(known)).collect();
    let is_near = |refusal: &Refused| {
        Location::parse(&refusal.location).is_ok_and(|at| {
            Repository::of_release(&at).is_some_and(|(repository, _)| within(&repository))
                || known.iter().any(|repository| repository.path_of(&at).is_some())
        })
    };
    // A path without a host may be in any repository, and so may a name.
    if matches!(subject, Subject::Url(_)) || !known.is_empty() || refusals.iter().any(is_near) {
        refusals.retain(is_near);
        suites.retain(|suite| within(&suite.repository));
    } else {
        refusals.retain(|refusal| unknown::may_be_by(refusal, subject, &suites));
    }
    let reason = match subject {
        Subject::Url(places) if places.iter().any(|place| place.credentials().is_some()) => Absence::Password,
        Subject::Url(places) if places.iter().any(|place| place.query().is_some()) => Absence::Query,
        Subject::Url(_) | Subject::Path { .. } if places.iter().any(is_release) => Absence::IsRelease,
        _ if !refusals.is_empty() => Absence::Refused,
        _ if suites.is_empty() => Absence::UnknownRepository,
        _ => Absence::Unlisted,
    };
    refusals.truncate(MAX_REFUSALS);
    let suites = suites.into_iter().take(MAX_SUITES).map(|info| look::suite(info, wall)).collect();
    Ok(Missing { reason, refusals, suites })
}

impl From<Holding> for Kept {
    fn from(holding: Holding) -> Self {
        match holding {
            Holding::Held => Self::Held,
            Holding::Unproven => Self::Unproven,
            Holding::Arriving => Self::Arriving,
            Holding::Absent => Self::Absent,
        }
    }
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Superseded => "superseded: the archive does not list this file any more",
            Self::IndexReplaced => {
                "the Release lists a newer version of the index, which was not seen yet; apt-get update brings it"
            }
        })
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Held => "held",
            Self::Unproven => "on the disk, not hashed again yet after a damage to the catalogue",
            Self::Arriving => "on its way",
            Self::Absent => "not held",
        })
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Offered => "offered: given to peers, and announced",
            Self::NotHeld => "may be asked for; not offered: it is not held",
            Self::Superseded => "not offered: it is superseded, and that would name hosts without the update",
            Self::NotPublic => {
                "never asked for, never offered: the mirror's address is not public, and public in [privacy] does not \
                 name it"
            }
            Self::HostNamed => "never asked for, never offered: hosts in [privacy] names the mirror",
            Self::TakeOnly => "may be asked for; not offered: share in [peer] is \"take\"",
            Self::Off => "nobody is asked or told: share in [peer] or network in [dht] is \"off\"",
        })
    }
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IsRelease => "a Release carries its signature itself, and nothing else vouches for it",
            Self::Password => "its URL has a password: it is passed on unseen, never kept or shared",
            Self::Query => "its URL has a query: it is passed on unseen, never kept or shared",
            Self::Refused => "nobody vouches for it, and this was refused as a source of hashes",
            Self::UnknownRepository => {
                "nobody vouches for it: no signed Release of its repository was seen; apt-get update through apt-huddle \
                 brings it"
            }
            Self::Unlisted => "nobody vouches for it: no index that was seen lists it",
        })
    }
}
