//! What was brought, and from where: the figures of the status page.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use crate::hash::Expected;

use super::{
    growing::Failure,
    live::{Map, Picture},
};

/// Finished downloads remembered.
const RECENT: usize = 100;

/// Why a mirror brought something of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorReason {
    /// The file's repository is not public: nobody else is asked.
    Private,
    /// Nobody who may be asked has it.
    Nobody,
    /// The mirror was done before anybody was found.
    Sooner,
    /// Who was found could not give it.
    PeersFailed,
    /// The mirror was quicker than those who were found.
    Quicker,
    /// It brought the first bytes, so that apt need not wait, and peers the rest.
    FirstBytes,
    /// The configuration lets it bring what it can.
    Configured,
}

/// How a download ended.
pub type Outcome = Result<(), Failure>;

/// One finished download.
#[derive(Debug, Clone)]
pub struct Report {
    /// The file's path in its repository.
    pub path: String,
    /// The repository that vouches for it.
    pub repository: String,
    /// What it had to be.
    pub expected: Expected,
    /// Pieces that peers brought.
    pub from_peers: usize,
    /// Pieces that the mirror brought.
    pub from_mirror: usize,
    /// Of the pieces of peers, those from the LAN.
    pub from_lan: usize,
    /// Who brought which piece.
    pub map: Map,
    /// Why the mirror brought something, if it did.
    pub mirror_reason: Option<MirrorReason>,
    /// Distinct peers that brought a piece.
    pub peers: usize,
    /// Bytes that came and were of no use.
    pub wasted: u64,
    /// From the request to the end.
    pub took: Duration,
    /// From the request to the first byte released.
    pub first_byte: Option<Duration>,
    /// When it ended.
    pub ended: SystemTime,
    /// How it ended.
    pub outcome: Outcome,
}

/// The station's counters.
#[derive(Debug, Default)]
pub struct Tally {
    from_peers: AtomicU64,
    from_lan: AtomicU64,
    from_mirror: AtomicU64,
    wasted: AtomicU64,
    convicted: AtomicU64,
    brought: AtomicU64,
    failed: AtomicU64,
    recent: Mutex<VecDeque<Report>>,
}

/// The counters at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Proven bytes that peers brought.
    pub from_peers: u64,
    /// Of these, the bytes of peers in the LAN.
    pub from_lan: u64,
    /// Bytes that mirrors brought.
    pub from_mirror: u64,
    /// Bytes that came and were of no use.
    pub wasted: u64,
    /// Convictions of peers.
    pub convicted: u64,
    /// Downloads that ended with the file.
    pub brought: u64,
    /// Downloads that ended without it.
    pub failed: u64,
    /// Downloads under way, the one asked for first at the front.
    pub live: Vec<Picture>,
    /// The latest downloads, newest first.
    pub recent: Vec<Report>,
}

impl Tally {
    pub(in crate::fetch) fn add_peers(&self, bytes: u64, in_lan: bool) {
        self.from_peers.fetch_add(bytes, Relaxed);
        if in_lan {
            self.from_lan.fetch_add(bytes, Relaxed);
        }
    }

    pub(in crate::fetch) fn add_mirror(&self, bytes: u64) {
        self.from_mirror.fetch_add(bytes, Relaxed);
    }

    pub(in crate::fetch) fn add_conviction(&self) {
        self.convicted.fetch_add(1, Relaxed);
    }

    pub(in crate::fetch) fn add_report(&self, report: Report) {
        self.wasted.fetch_add(report.wasted, Relaxed);
        if report.outcome.is_ok() { &self.brought } else { &self.failed }.fetch_add(1, Relaxed);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.truncate(RECENT - 1);
        recent.push_front(report);
    }

    pub(in crate::fetch) fn snapshot(&self, live: Vec<Picture>) -> Snapshot {
        Snapshot {
            from_peers: self.from_peers.load(Relaxed),
            from_lan: self.from_lan.load(Relaxed),
            from_mirror: self.from_mirror.load(Relaxed),
            wasted: self.wasted.load(Relaxed),
            convicted: self.convicted.load(Relaxed),
            brought: self.brought.load(Relaxed),
            failed: self.failed.load(Relaxed),
            live,
            recent: self.recent.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect(),
        }
    }
}
