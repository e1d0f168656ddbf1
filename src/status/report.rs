//! Everything that the page says, as data: `GET /api/v1/status`.

use std::{
    net::{IpAddr, SocketAddr},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{dht, fetch, flow::learn::Refusal};

pub use super::reasons::{MirrorReason, PassReason};

/// The daemon at one moment.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// Version of the program.
    pub version: String,
    /// The moment, in seconds since 1970.
    pub at: u64,
    /// Seconds since the start.
    pub uptime: u64,
    /// Where apt is served.
    #[schema(value_type = Vec<String>)]
    pub listen: Vec<SocketAddr>,
    /// Where peers are served; empty when nothing is shared.
    #[schema(value_type = Vec<String>)]
    pub peer_listen: Vec<SocketAddr>,
    /// Whether apt uses it.
    pub apt: AptUse,
    /// Bytes, since the start.
    pub bytes: Bytes,
    /// Bytes by day, over restarts.
    pub saved: Saved,
    /// The network of peers.
    pub dht: Option<Network>,
    /// Every peer known, those that gave most first.
    pub peers: Vec<Peer>,
    /// Addresses that took something and are none of these peers', those that took most first.
    pub takers: Vec<Taker>,
    /// Connections to peers that are open.
    pub connections: usize,
    /// Mirrors that failed when they were last asked.
    pub failing_mirrors: Vec<FailingMirror>,
    /// Downloads under way.
    pub under_way: usize,
    /// What is on its way, the one asked for first at the front.
    pub live: Vec<Transfer>,
    /// Downloads since the start.
    pub downloads: Downloads,
    /// What peers asked for since the start.
    pub uploads: Uploads,
    /// The latest downloads, newest first.
    pub recent: Vec<Download>,
    /// What was passed on from a mirror, neither kept nor shared, newest first.
    pub passed: Vec<Passed>,
    /// What is kept.
    pub store: Kept,
    /// The suites that are known.
    pub suites: Vec<Suite>,
    /// Releases with a good signature, without a known key, and with a wrong signature or index, since the start.
    pub releases: Releases,
    /// What was not learned from, newest first.
    pub refusals: Vec<Refused>,
}

/// Whether apt uses the daemon.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AptUse {
    /// Requests since the start.
    pub requests: u64,
    /// When the last one came, in seconds since 1970.
    pub last: Option<u64>,
}

/// What was saved, by days of UTC and over restarts.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Saved {
    /// Today.
    pub today: Volume,
    /// The last thirty days, today among them.
    pub month: Volume,
    /// Since the store was made.
    pub ever: Volume,
    /// The last thirty days one by one, today last.
    pub days: Vec<DayVolume>,
}

/// Bytes, by where they came from; none is counted twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Volume {
    /// From peers beyond the LAN.
    pub peers: u64,
    /// From peers in the LAN.
    pub lan: u64,
    /// From the store.
    pub store: u64,
    /// From mirrors.
    pub mirror: u64,
    /// To peers.
    pub up: u64,
}

/// One day.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DayVolume {
    /// As `2026-07-11`.
    pub day: String,
    /// What came, and what went.
    pub bytes: Volume,
}

/// Bytes, since the start.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Bytes {
    /// Proven bytes that peers brought.
    pub from_peers: u64,
    /// Of these, the bytes of peers in the LAN.
    pub from_lan: u64,
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
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Network {
    /// Nodes known that answer.
    pub nodes: usize,
    /// Of these, over IPv4.
    pub nodes_v4: usize,
    /// Of these, over IPv6.
    pub nodes_v6: usize,
    /// Keys and items stored for others.
    pub stored: usize,
    /// Questions of others that were answered.
    pub queries_in: u64,
    /// Questions that were asked.
    pub queries_out: u64,
    /// Datagrams that were not of this network, or beyond a budget.
    pub dropped: u64,
    /// Searches and announcements under way.
    pub searching: usize,
    /// Median time of the last searches to their end, in milliseconds.
    pub lookup_p50_ms: Option<f64>,
    /// The time that one in twenty of them exceeded, in milliseconds.
    pub lookup_p95_ms: Option<f64>,
    /// The own addresses, as other nodes see them.
    #[schema(value_type = Vec<String>)]
    pub external: Vec<SocketAddr>,
    /// Whether others can connect over IPv4 to the port where peers are served; none when nothing is served.
    #[schema(value_type = Option<serde_json::Value>)]
    pub reachable_v4: Option<dht::Reachability>,
    /// The same over IPv6.
    #[schema(value_type = Option<serde_json::Value>)]
    pub reachable_v6: Option<dht::Reachability>,
    /// How many nodes the network has, estimated by how densely they stand.
    pub estimate: usize,
    /// How often the own address was another one than before.
    pub moves: u32,
}

/// What others found of the port where peers are served, by family.
pub fn reachability(report: &Report) -> impl Iterator<Item = (&'static str, dht::Reachability)> {
    let figures = report.dht.as_ref().map(|dht| [("IPv4", dht.reachable_v4), ("IPv6", dht.reachable_v6)]);
    figures.into_iter().flatten().filter_map(|(family, state)| Some((family, state?)))
}

/// A peer that was met.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Peer {
    /// Its address.
    #[schema(value_type = String)]
    pub address: SocketAddr,
    /// Whether that is a private, link-local or loopback one.
    pub is_lan: bool,
    /// Whether a connection to it is open.
    pub is_connected: bool,
    /// Bytes a second that it sends, when measured.
    pub rate: Option<u64>,
    /// Round trip in milliseconds, when measured.
    pub round_trip_ms: Option<f64>,
    /// Proven bytes that it gave.
    pub given: u64,
    /// Bytes that its address took.
    pub taken: u64,
    /// Pieces or states of its that were proven false.
    pub convictions: u32,
    /// Whether it is kept out for that, or for what others at its address did.
    pub banned: bool,
    /// Seconds until it may try again, when it was itself convicted.
    pub banned_for: Option<u64>,
}

/// An address that took something.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Taker {
    /// The address; of an IPv6 /64, its first.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// Bytes that it took.
    pub taken: u64,
}

/// The peers: `GET /api/v1/peers`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PeerList {
    /// Every peer known, those that gave most first.
    pub peers: Vec<Peer>,
    /// Addresses that took something and are none of these peers', those that took most first.
    pub takers: Vec<Taker>,
    /// Connections to peers that are open.
    pub connections: usize,
}

/// A download under way.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Transfer {
    /// The file's path in its repository.
    pub path: String,
    /// The repository that vouches for it.
    pub repository: String,
    /// Its SHA-256.
    pub hash: String,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes that came.
    pub bytes: u64,
    /// Bytes a second, of late.
    pub rate: u64,
    /// Milliseconds since it was asked for.
    pub since_ms: f64,
    /// Pieces that are there.
    pub pieces_there: usize,
    /// Who brought which.
    pub map: PieceMap,
}

/// Who brought which piece of a file.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PieceMap {
    /// Pieces of the file.
    pub pieces: usize,
    /// Pieces that each letter stands for; the last one may stand for fewer.
    pub pieces_per_cell: usize,
    /// A letter for each of them: `m` mirror, `p` peer, `l` peer in the LAN, `s` store, `.` missing.
    pub cells: String,
}

/// A mirror that failed when it was last asked.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
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

/// Downloads since the start.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Downloads {
    /// Those that ended with the file.
    pub brought: u64,
    /// Those that ended without it.
    pub failed: u64,
    /// Peers' pieces that were proven false.
    pub convictions: u64,
}

/// What peers asked for since the start.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Uploads {
    /// Requests answered in any way.
    pub requests: u64,
    /// Files being sent now.
    pub active: usize,
    /// Requests and connections turned away.
    pub refused: u64,
}

/// A download that ended.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
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
    /// Of these, pieces of peers in the LAN.
    pub pieces_from_lan: usize,
    /// Pieces that the mirror brought.
    pub pieces_from_mirror: usize,
    /// Who brought which.
    pub map: PieceMap,
    /// Why the mirror brought something, if it did.
    pub mirror_reason: Option<MirrorReason>,
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

/// A file that was passed on from a mirror, neither kept nor shared.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Passed {
    /// Where it is: `host[:port]/path`.
    pub location: String,
    /// Why.
    pub reason: PassReason,
    /// When it was asked for, in seconds since 1970.
    pub at: u64,
}

/// What is kept.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Kept {
    /// Files.
    pub objects: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files on their way.
    pub partials: usize,
    /// Bytes set aside for those.
    pub in_flight: u64,
    /// Bytes that they may take.
    pub quota: u64,
    /// Bytes free on the disk, when known.
    pub free: Option<u64>,
}

/// A suite that is known.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Suite {
    /// Its repository.
    pub repository: String,
    /// Its folder there.
    pub suite: String,
    /// When its Release was made, in seconds since 1970.
    pub date: u64,
    /// Until when its Release may be believed, in seconds since 1970, when that says so.
    pub valid_until: Option<u64>,
    /// Whether that has passed.
    pub is_expired: bool,
    /// Who signed it.
    pub signer: String,
    /// Files that it vouches for.
    pub files: u64,
    /// When it was learned, in seconds since 1970.
    pub learned: u64,
}

/// Counts of Releases and indexes.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Releases {
    /// With a good signature.
    pub verified: u64,
    /// Without a known key.
    pub unverifiable: u64,
    /// With a wrong signature, date or index.
    pub bad: u64,
}

/// Something that was not learned from.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
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

impl Volume {
    /// All that came.
    pub fn total(&self) -> u64 {
        self.peers.saturating_add(self.lan).saturating_add(self.store).saturating_add(self.mirror)
    }

    /// How much of it did not come from a mirror, in percent; none of nothing.
    pub fn share_saved(&self) -> Option<u64> {
        let saved = u128::from(self.total() - self.mirror.min(self.total()));
        (self.total() > 0).then(|| (saved * 100 / u128::from(self.total())) as u64)
    }
}

impl From<&fetch::Map> for PieceMap {
    fn from(map: &fetch::Map) -> Self {
        let letter = |cell: &Option<fetch::Source>| match cell {
            None => '.',
            Some(fetch::Source::Mirror) => 'm',
            Some(fetch::Source::Peer) => 'p',
            Some(fetch::Source::Lan) => 'l',
            Some(fetch::Source::Store) => 's',
        };
        let cells = map.cells.iter().map(letter).collect();
        Self { pieces: map.pieces, pieces_per_cell: map.pieces_per_cell, cells }
    }
}

pub(super) fn refused(refusal: Refusal) -> Refused {
    Refused { location: refusal.location, reason: refusal.reason, is_bad: refusal.is_bad, at: seconds(refusal.at) }
}

/// Seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
