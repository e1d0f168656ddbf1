//! Everything that the page says, as data: `GET /api/v1/status`.

use std::{
    net::SocketAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{dht, fetch, flow::learn::Refusal, mirror::breaker::Failing, store};

use super::Window;

/// The daemon at one moment.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// Version of the program.
    pub version: String,
    /// Seconds since the start.
    pub uptime: u64,
    /// Where apt is served.
    pub listen: Vec<SocketAddr>,
    /// Where peers are served; empty when nothing is shared.
    pub peer_listen: Vec<SocketAddr>,
    /// Bytes, since the start.
    pub bytes: Bytes,
    /// The network of peers.
    pub dht: Option<Network>,
    /// Every peer met since the start, those that gave most first.
    pub peers: Vec<Peer>,
    /// Mirrors that failed when they were last asked.
    #[serde(default)]
    pub failing_mirrors: Vec<FailingMirror>,
    /// Downloads under way.
    pub under_way: usize,
    /// The latest downloads, newest first.
    pub recent: Vec<Download>,
    /// What is kept.
    pub store: Kept,
    /// The suites that are known.
    pub suites: Vec<Suite>,
    /// Releases with a good signature, without a known key, and with a wrong signature or index, since the start.
    pub releases: Releases,
    /// What was not learned from, newest first.
    pub refusals: Vec<Refused>,
}

/// Bytes, since the start.
#[derive(Debug, Serialize, Deserialize)]
pub struct Bytes {
    /// Proven bytes that peers brought.
    pub from_peers: u64,
    /// Bytes that mirrors brought.
    pub from_mirror: u64,
    /// Bytes that apt was given from the store.
    pub from_store: u64,
    /// Bytes given to peers.
    pub up: u64,
    /// Bytes that came and were of no use.
    pub wasted: u64,
}

/// The network of peers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Network {
    /// Nodes known that answer.
    pub nodes: usize,
    /// The figures in full.
    #[serde(flatten)]
    pub figures: dht::Snapshot,
}

/// What others found of the port where peers are served, by family.
pub fn reachability(report: &Report) -> impl Iterator<Item = (&'static str, dht::Reachability)> {
    let figures =
        report.dht.as_ref().map(|dht| [("IPv4", dht.figures.reachable_v4), ("IPv6", dht.figures.reachable_v6)]);
    figures.into_iter().flatten().filter_map(|(family, state)| Some((family, state?)))
}

/// A peer that was met.
#[derive(Debug, Serialize, Deserialize)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Bytes a second that it sends, when measured.
    pub rate: Option<u64>,
    /// Round trip in milliseconds, when measured.
    pub round_trip_ms: Option<f64>,
    /// Proven bytes that it gave.
    pub given: u64,
    /// Pieces or states of its that were proven false.
    pub convictions: u32,
    /// Whether it is kept out for that.
    pub banned: bool,
}

/// A mirror that failed when it was last asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct FailingMirror {
    /// `host` or `host:port`.
    pub host: String,
    /// Failures in a row.
    pub failures: u32,
    /// Whether it is passed by for now where another mirror is at hand.
    pub is_open: bool,
    /// Seconds until it is tried again where one is.
    pub retry_in: u64,
    /// Why it failed.
    pub why: String,
}

/// A download that ended.
#[derive(Debug, Serialize, Deserialize)]
pub struct Download {
    /// The file's path in its repository.
    pub path: String,
    /// The repository that vouches for it.
    pub repository: String,
    /// Its SHA-256.
    pub hash: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its pieces.
    pub pieces: usize,
    /// Pieces that peers brought.
    pub pieces_from_peers: usize,
    /// Pieces that the mirror brought.
    pub pieces_from_mirror: usize,
    /// Peers that brought a piece.
    pub peers: usize,
    /// Bytes that were of no use.
    pub wasted: u64,
    /// Milliseconds to the end.
    pub took_ms: f64,
    /// Milliseconds to the first byte that apt got.
    pub first_byte_ms: Option<f64>,
    /// When it ended, in seconds since 1970.
    pub ended: u64,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// What is kept.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kept {
    /// Files.
    pub objects: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that they may take.
    pub quota: u64,
    /// Bytes free on the disk, when known.
    pub free: Option<u64>,
}

/// A suite that is known.
#[derive(Debug, Serialize, Deserialize)]
pub struct Suite {
    /// Its repository.
    pub repository: String,
    /// Its folder there.
    pub suite: String,
    /// When its Release was made, in seconds since 1970.
    pub date: u64,
    /// Who signed it.
    pub signer: String,
    /// Files that it vouches for.
    pub files: u64,
    /// When it was learned, in seconds since 1970.
    pub learned: u64,
}

/// Counts of Releases and indexes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Releases {
    /// With a good signature.
    pub verified: u64,
    /// Without a known key.
    pub unverifiable: u64,
    /// With a wrong signature, date or index.
    pub bad: u64,
}

/// Something that was not learned from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Refused {
    /// What it was.
    pub location: String,
    /// Why.
    pub reason: String,
    /// Whether it was wrong, and not merely without a known key.
    pub is_bad: bool,
    /// When, in seconds since 1970.
    pub at: u64,
}

impl Report {
    /// Looks at every station.
    pub fn of(window: &Window, now: Instant, wall: SystemTime) -> Self {
        let fetched = window.fetcher.snapshot();
        let upload = window.upload.as_ref().map(|meter| meter.snapshot()).unwrap_or_default();
        let learning = window.flow.learning();
        let suites = window.store.suites().unwrap_or_default();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: (now - window.started).as_secs(),
            listen: window.listen.clone(),
            peer_listen: window.peer_listen.clone(),
            bytes: Bytes {
                from_peers: fetched.from_peers,
                from_mirror: fetched.from_mirror,
                from_store: window.flow.from_store(),
                up: upload.bytes_up,
                wasted: fetched.wasted,
            },
            dht: window.dht.as_ref().map(|dht| network(dht.snapshot())),
            peers: peers(window),
            failing_mirrors: window.mirror.failing().into_iter().map(failing_mirror).collect(),
            under_way: fetched.under_way,
            recent: fetched.recent.into_iter().map(|report| download(report, wall)).collect(),
            store: kept(window.store.snapshot()),
            suites: suites.into_iter().map(suite).collect(),
            releases: Releases { verified: learning.verified, unverifiable: learning.unverifiable, bad: learning.bad },
            refusals: learning.refusals.into_iter().map(refused).collect(),
        }
    }
}

fn network(figures: dht::Snapshot) -> Network {
    Network { nodes: figures.nodes(), figures }
}

fn peers(window: &Window) -> Vec<Peer> {
    let known = window.pool.snapshot().peers.into_iter();
    let mut peers: Vec<_> = known
        .map(|(address, standing, banned)| Peer {
            address,
            rate: standing.rate.map(|rate| rate as u64),
            round_trip_ms: standing.round_trip.map(milliseconds),
            given: standing.given,
            convictions: standing.convictions,
            banned,
        })
        .collect();
    peers.sort_by_key(|peer| (std::cmp::Reverse(peer.given), peer.address));
    peers
}

fn failing_mirror(Failing { host, failures, is_open, retry_in, why }: Failing) -> FailingMirror {
    FailingMirror { host, failures, is_open, retry_in: retry_in.as_secs_f64().ceil() as u64, why }
}

fn download(report: fetch::Report, wall: SystemTime) -> Download {
    Download {
        path: report.path,
        repository: report.repository,
        hash: report.expected.hash.to_string(),
        size: report.expected.size,
        pieces: report.expected.pieces(),
        pieces_from_peers: report.from_peers,
        pieces_from_mirror: report.from_mirror,
        peers: report.peers,
        wasted: report.wasted,
        took_ms: milliseconds(report.took),
        first_byte_ms: report.first_byte.map(milliseconds),
        ended: seconds(report.ended.min(wall)),
        failure: report.outcome.err().map(|failure| failure.to_string()),
    }
}

fn kept(snapshot: store::Snapshot) -> Kept {
    Kept { objects: snapshot.objects, bytes: snapshot.bytes, quota: snapshot.quota, free: snapshot.free }
}

pub(super) fn suite(info: store::SuiteInfo) -> Suite {
    Suite {
        repository: info.repository.to_string(),
        suite: info.suite,
        date: seconds(info.date),
        signer: info.signer,
        files: info.files,
        learned: seconds(info.learned),
    }
}

pub(super) fn refused(refusal: Refusal) -> Refused {
    Refused { location: refusal.location, reason: refusal.reason, is_bad: refusal.is_bad, at: seconds(refusal.at) }
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 1e2
}

/// Seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
