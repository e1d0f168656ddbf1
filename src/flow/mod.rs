//! The path: one request from question to answer.
//!
//! [`Flow::serve`] is the map of the product: what must this be, have we got it, who has it, bring and prove it.
//! [`learn`] is its other half: an index went past, and what it promises is known from then on.

mod ahead;
pub mod apt;
mod checked;
mod file;
mod holders;
mod index;
pub mod learn;
mod lists;
pub mod read;
pub mod shelves;
mod texts;
pub mod usage;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{
    archive::{self, Location, Privacy, Repository, Shareable, Vouched},
    dht::{self, Dht, Found, Priority, Terms},
    fetch::{Claim, Failure, Fetcher, Holder, Origin, STALEMATE},
    hash::ContentHash,
    mirror::{
        self, Mirror, Trouble,
        guard::{Origins, Reach},
        header::HeaderMap,
    },
    store::{Blob, Store},
};

use apt::Apt;
use index::Index;
use learn::Learning;
use shelves::Shelves;

pub use crate::fetch::Growing;
pub use ahead::Foreseen;

/// How long a request for a file that nobody vouches for yet waits while an index is being learned.
const LEARNING: Duration = Duration::from_secs(3);

/// Further mirrors of one repository that are looked at.
const MAX_TWINS: usize = 8;

/// What apt asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// The file.
    pub location: Location,
    /// Whether the client runs on this host.
    pub is_local: bool,
    /// Only the head is wanted.
    pub head_only: bool,
    /// The fields of the request that are passed on to a mirror.
    pub headers: HeaderMap,
}

impl Ask {
    /// Whether the origin is asked with a password: then everything of it is the client's own business.
    fn is_private(&self) -> bool {
        self.location.credentials().is_some() || self.headers.contains_key(mirror::header::AUTHORIZATION)
    }

    /// Why it is passed on when nobody vouches for it.
    fn why_passed(&self) -> usage::Reason {
        if self.location.query().is_some() { usage::Reason::Query } else { usage::Reason::NotVouched }
    }
}

/// What apt gets.
pub enum Answer {
    /// A file from the store.
    Held(Blob),
    /// A file on its way, promised and not yet whole.
    Growing(Growing),
    /// The mirror's answer, whole.
    Whole {
        /// Its head.
        reply: mirror::Reply,
        /// Its body.
        body: Bytes,
    },
    /// The mirror's answer, as it comes.
    Passed {
        /// Its head.
        status: u16,
        /// Its fields.
        headers: HeaderMap,
        /// The length of the body in bytes, when it was said.
        length: Option<u64>,
        /// Its body.
        body: BoxStream<'static, Result<Bytes, Trouble>>,
    },
    /// No answer can be had.
    Refused {
        /// HTTP status.
        status: u16,
        /// Why, for people.
        reason: String,
    },
}

/// The conductor's handle. Cheap to clone.
#[derive(Clone)]
pub struct Flow {
    shared: Arc<Shared>,
}

/// The stations that a flow leads through.
pub struct Stations {
    /// What and have.
    pub store: Store,
    /// Who; without it nobody is asked.
    pub dht: Option<Dht>,
    /// Bring and prove.
    pub fetcher: Fetcher,
    /// The origins.
    pub mirror: Mirror,
}

/// What the administrator decided.
pub struct Rules {
    /// Origins that may be asked although apt's sources do not name them.
    pub origins: Origins,
    /// What is never shared.
    pub privacy: Privacy,
    /// apt's sources and keys.
    pub apt: Apt,
}

struct Shared {
    stations: Stations,
    rules: Rules,
    learning: Learning,
    /// Who has files of one piece; none where nobody is asked.
    shelves: Option<Shelves>,
    /// Repositories of which an index is being learned now, one entry an index.
    busy: watch::Sender<Vec<Repository>>,
    from_store: AtomicU64,
    usage: usage::Counters,
    ahead: ahead::Seats,
}

impl Flow {
    /// A flow through these stations under these rules.
    pub fn new(stations: Stations, rules: Rules) -> Self {
        let apt = rules.apt.clone();
        stations.store.spare(move |repository, suite_dir| apt.names_suite(repository, suite_dir));
        let with = |dht: &Dht| Shelves::start(dht.clone(), stations.fetcher.clone(), stations.store.clone());
        let shared = Shared {
            shelves: stations.dht.as_ref().map(with),
            stations,
            rules,
            learning: Learning::default(),
            busy: watch::Sender::default(),
            from_store: AtomicU64::new(0),
            usage: usage::Counters::default(),
            ahead: ahead::Seats::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Answers one request.
    pub async fn serve(&self, ask: Ask) -> Answer {
        self.shared.usage.count();
        if ask.is_private() {
            self.shared.usage.pass(&ask.location, usage::Reason::Password);
            return self.pass_through(ask).await;
        }
        let promised = self.promise(&ask.location).await;
        // Components have a Release too, and that one is listed by the suite's.
        if promised.is_none() && archive::is_release(&ask.location) {
            return self.release(ask).await;
        }
        let Some(vouched) = promised else {
            self.shared.usage.pass(&ask.location, ask.why_passed());
            return self.pass_through(ask).await;
        };
        if let Some(blob) = self.open(&vouched).await {
            self.learn_held(&vouched);
            return Answer::Held(blob);
        }
        if ask.head_only {
            return self.pass_through(ask).await;
        }
        let others = self.elsewhere(&ask.location, &vouched).await;
        let Some((growing, leads)) = self.bring(&ask, &vouched, others) else {
            return self.pass_checked(ask, &vouched).await;
        };
        if leads && let Some(index) = Index::of(&vouched) {
            self.learn_when_there(index, growing.clone());
        }
        self.answer_growing(growing, ask, &vouched).await
    }

    /// Bytes that clients were given from the store.
    pub fn from_store(&self) -> u64 {
        self.shared.from_store.load(Relaxed)
    }

    /// How apt uses this daemon.
    pub fn usage(&self) -> usage::Usage {
        self.shared.usage.usage()
    }

    /// What was only passed on lately, the latest first.
    pub fn passed_on(&self) -> Vec<usage::Passed> {
        self.shared.usage.passed()
    }

    /// A client was given bytes from the store.
    pub fn add_from_store(&self, bytes: u64) {
        self.shared.from_store.fetch_add(bytes, Relaxed);
    }

    /// Whether a client that says to have the beginning of a file that is held may have a wrong one. May block for a moment.
    pub fn is_doubtful(&self, hash: ContentHash) -> bool {
        self.fetcher().is_doubtful(hash)
    }

    /// Whether a client that says to have the beginning of a file may be given the rest alone as it grows. May block for a
    /// moment.
    pub fn may_resume(&self, growing: &Growing) -> bool {
        self.fetcher().may_resume(growing)
    }

    /// What was learned and what was refused, the entries of apt's sources that cannot be used among it.
    pub fn learning(&self) -> learn::Snapshot {
        let mut learning = self.shared.learning.snapshot();
        learning.refusals.extend(self.shared.rules.apt.refusals());
        learning
    }

    fn fetcher(&self) -> &Fetcher {
        &self.shared.stations.fetcher
    }

    /// What the file must be. A question that comes while an index is being learned waits for it, unless it is for what
    /// everything else is learned from.
    async fn promise(&self, location: &Location) -> Option<Vouched> {
        if location.query().is_some() {
            return None;
        }
        if let Some(vouched) = self.ask_promise(location).await {
            return Some(self.by_plain_path(vouched).await);
        }
        if archive::is_release(location) {
            return None;
        }
        let mut busy = self.shared.busy.subscribe();
        let is_settled = |busy: &Vec<Repository>| busy.iter().all(|repository| repository.path_of(location).is_none());
        if is_settled(&busy.borrow()) {
            return None;
        }
        let _is_late = timeout(LEARNING, busy.wait_for(is_settled)).await.is_err();
        self.ask_promise(location).await
    }

    async fn ask_promise(&self, location: &Location) -> Option<Vouched> {
        let home = self.home(location);
        let key = format!("{}{}", location.authority(), location.path());
        let promise = self.in_store(move |store| match home {
            Some((home, path)) => store.promise_in(&home, &path),
            None => store.promise(&key),
        });
        let promise = promise.await;
        promise.unwrap_or_else(|error| {
            tracing::warn!(%error, "catalogue not readable; the mirror answers");
            None
        })
    }

    async fn open(&self, vouched: &Vouched) -> Option<Blob> {
        let hash = vouched.expected().hash;
        let opened = self.in_store(move |store| store.open_object(hash)).await;
        opened.unwrap_or_else(|error| {
            tracing::warn!(%error, "object not readable; the mirror answers");
            None
        })
    }

    /// Runs a question to the store where it may block.
    async fn in_store<T: Send + 'static>(&self, question: impl FnOnce(&Store) -> T + Send + 'static) -> T {
        let store = self.shared.stations.store.clone();
        tokio::task::spawn_blocking(move || question(&store)).await.expect("the store does not panic")
    }

    /// Joins or starts the download of a promised file, and says whether it was started. `None` when there are too many.
    fn bring(&self, ask: &Ask, vouched: &Vouched, others: Vec<Location>) -> Option<(Growing, bool)> {
        match self.fetcher().claim(vouched) {
            Claim::Follow(growing) => Some((growing, false)),
            Claim::Lead(lead) => {
                let origin = self.origin(ask, others);
                Some((self.fetcher().start(lead, Some(origin), self.holders(vouched)), true))
            }
            Claim::Full => None,
        }
    }

    /// Who has it: found while the mirror already brings it, never waited for.
    fn holders(&self, vouched: &Vouched) -> BoxStream<'static, Holder> {
        let Some(file) = vouched.shareable().filter(|_| self.shared.stations.dht.is_some()) else {
            return futures_util::stream::empty().boxed();
        };
        let flow = self.clone();
        holders::look_for(vouched.expected(), move |again| flow.search(file, again)).boxed()
    }

    /// Looks for those who have a file, by its own key or by its shelves; `again`: whoever has come since the last time.
    /// `None` while there is nobody to ask.
    pub fn search(&self, file: Shareable, again: bool) -> Option<mpsc::Receiver<Found>> {
        let dht = self.shared.stations.dht.as_ref().filter(|dht| dht.snapshot().nodes() > 0)?;
        match &self.shared.shelves {
            Some(shelves) if dht::is_shelved(file.expected()) => Some(shelves.search(file)),
            _ => {
                // Who looks again has a source already.
                let priority = if again { Priority::Ahead } else { Priority::Urgent };
                Some(dht.lookup(file, Terms { priority, anew: again, ..Terms::default() }))
            }
        }
    }

    fn origin(&self, ask: &Ask, others: Vec<Location>) -> Origin {
        let (flow, is_local) = (self.clone(), ask.is_local);
        Origin::new(ask.location.clone(), others, move |at: &Location| flow.reach(at, is_local))
    }

    /// Where else the same file is to be had: at mirrors that apt's sources name for a suite that they name here too, and of
    /// which a signed Release that was fetched *there* promises the same hash at the same path. What is private is asked of
    /// nobody else.
    async fn elsewhere(&self, location: &Location, vouched: &Vouched) -> Vec<Location> {
        if vouched.shareable().is_none() {
            return Vec::new();
        }
        let trust = self.shared.rules.apt.trust();
        let mirrors: Vec<_> = trust.sources().twins(vouched.repository());
        let same_file = mirrors.iter().filter_map(|base| base.join(vouched.path()).ok());
        let mut others = Vec::new();
        for other in same_file.filter(|other| other.key() != location.key()).take(MAX_TWINS) {
            let promised = self.ask_promise(&other).await;
            if promised.is_some_and(|promised| promised.expected() == vouched.expected()) {
                others.push(other);
            }
        }
        others
    }

    /// Whether a request was sent from here, through a proxy, and has come round in a circle.
    pub fn leads_back(&self, headers: &HeaderMap) -> bool {
        self.shared.stations.mirror.has_sent(headers)
    }

    /// How far a client may lead the daemon to an origin.
    pub fn reach(&self, at: &Location, is_local: bool) -> Reach {
        if self.shared.rules.origins.name(at) || self.shared.rules.apt.trust().sources().names(at) {
            return Reach::Named;
        }
        if is_local { Reach::Local } else { Reach::Remote }
    }

    /// The repository of apt's sources that a file lies in, and its path below that: no other speaks for it, whatever else is
    /// known there.
    pub fn home(&self, location: &Location) -> Option<(Repository, String)> {
        let trust = self.shared.rules.apt.trust();
        let home = trust.sources().home(location)?;
        Some((home.clone(), home.path_of(location)?))
    }

    async fn ask_mirror(&self, ask: &Ask, headers: HeaderMap) -> Result<mirror::Reply, Trouble> {
        let request = mirror::Ask { head_only: ask.head_only, headers, ..mirror::Ask::default() };
        let mirror = &self.shared.stations.mirror;
        let answer = mirror.ask(&ask.location, &request, |at| self.reach(at, ask.is_local)).await;
        // apt's sources may name it since they were last read.
        if !matches!(answer, Err(Trouble::Forbidden(_))) || !self.shared.rules.apt.reload_again().await {
            return answer;
        }
        mirror.ask(&ask.location, &request, |at| self.reach(at, ask.is_local)).await
    }

    /// A promised file as it comes. When nobody has it, apt gets what it would have got from the mirror: nothing wrong was
    /// sent before. Wrong bytes of a package are never handed on in full; of wrong metadata apt is the judge.
    async fn answer_growing(&self, mut growing: Growing, ask: Ask, vouched: &Vouched) -> Answer {
        let Err(failure) = growing.begun().await else { return Answer::Growing(growing) };
        let is_metadata = vouched.path().starts_with("dists/") || Index::of(vouched).is_some();
        if is_metadata && matches!(failure, Failure::Mismatch | Failure::WrongSize { .. }) {
            self.shared.learning.refuse(&ask.location, format!("{}: {failure}", vouched.path()), true);
        }
        match failure {
            Failure::Silent => {
                let reason = format!("nobody gives a byte of {} for {} s", ask.location.path(), STALEMATE.as_secs());
                Answer::Refused { status: 504, reason }
            }
            _ if is_metadata => self.pass_through(ask).await,
            Failure::Mismatch => {
                let reason = format!("no source has the file that the archive signed for {}", ask.location.path());
                Answer::Refused { status: 502, reason }
            }
            _ => self.pass_checked(ask, vouched).await,
        }
    }

    /// A promised package straight from the mirror, when it cannot be kept or nobody has it: its last bytes leave only after
    /// all were hashed. A file of another size is the mirror's own answer, which apt refuses by itself.
    async fn pass_checked(&self, mut ask: Ask, vouched: &Vouched) -> Answer {
        ask.headers.remove(mirror::header::RANGE);
        match self.ask_mirror(&ask, ask.headers.clone()).await {
            Ok(reply) if reply.status == 200 && reply.length == Some(vouched.expected().size) => {
                let (status, headers, length) = (reply.status.as_u16(), reply.headers.clone(), reply.length);
                let fetcher = self.fetcher().clone();
                let body = reply.into_stream().inspect(move |chunk| {
                    chunk.iter().for_each(|chunk| fetcher.passed(chunk.len() as u64));
                });
                let expected = *vouched.expected();
                let (fetcher, passing) = (self.fetcher().clone(), self.fetcher().clone());
                let marked = tokio::task::spawn_blocking(move || fetcher.out(expected.hash));
                let unproven = marked.await.expect("the store does not panic");
                let body = checked::checked(body, expected, passing, unproven).boxed();
                Answer::Passed { status, headers, length, body }
            }
            Ok(reply) => passed(reply, |_| {}),
            Err(trouble) => refused(&ask.location, &trouble),
        }
    }

    /// What nobody vouches for goes past untouched and is never shared.
    async fn pass_through(&self, ask: Ask) -> Answer {
        match self.ask_mirror(&ask, ask.headers.clone()).await {
            Ok(reply) => {
                let fetcher = self.fetcher().clone();
                passed(reply, move |bytes| fetcher.passed(bytes.len() as u64))
            }
            Err(trouble) => refused(&ask.location, &trouble),
        }
    }
}

/// The mirror's answer as it comes; `look` sees every chunk before apt does.
fn passed(reply: mirror::Reply, mut look: impl FnMut(&Bytes) + Send + 'static) -> Answer {
    let (status, headers, length) = (reply.status.as_u16(), reply.headers.clone(), reply.length);
    let body = reply.into_stream().inspect(move |chunk| chunk.iter().for_each(&mut look)).boxed();
    Answer::Passed { status, headers, length, body }
}

fn refused(location: &Location, trouble: &Trouble) -> Answer {
    let status = match trouble {
        Trouble::Forbidden(_) => 403,
        Trouble::Unreachable(_)
        | Trouble::Open { .. }
        | Trouble::Changed
        | Trouble::Slow(_)
        | Trouble::Redirects
        | Trouble::Mismatch(_) => 502,
    };
    Answer::Refused { status, reason: format!("{location}: {trouble}") }
}

#[cfg(test)]
use tests::now;

#[cfg(test)]
mod tests;
