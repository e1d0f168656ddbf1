//! A look at every station: from their snapshots to what is reported.

use std::{
    cmp::Reverse,
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use crate::{dht, fetch, flow, mirror::breaker::Failing, peer::Met, store, upload::Meter};

use super::{
    Window,
    report::{
        AptUse, Bytes, Download, Downloads, FailingMirror, Kept, MirrorReason, Network, Passed, Peer, PeerList,
        PieceMap, Releases, Report, Suite, Taker, Transfer, Uploads, refused, seconds,
    },
};

impl Report {
    /// Looks at every station.
    pub fn of(window: &Window, now: Instant, wall: SystemTime) -> Self {
        let fetched = window.fetcher.snapshot();
        let upload = window.upload.as_ref().map(Meter::snapshot).unwrap_or_default();
        let learning = window.flow.learning();
        let suites = window.store.suites().unwrap_or_default();
        let has_network = window.dht.is_some();
        let PeerList { peers, takers, connections } = PeerList::of(window);
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at: seconds(wall),
            uptime: (now - window.started).as_secs(),
            listen: window.listen.clone(),
            peer_listen: window.peer_listen.clone(),
            apt: apt_use(window),
            bytes: Bytes {
                from_peers: fetched.from_peers,
                from_lan: fetched.from_lan,
                from_mirror: fetched.from_mirror,
                from_store: window.flow.from_store(),
                up: upload.bytes_up,
                wasted: fetched.wasted,
            },
            saved: window.saved(wall),
            dht: window.dht.as_ref().map(|dht| network(dht.snapshot())),
            peers,
            takers,
            connections,
            failing_mirrors: window.mirror.failing().into_iter().map(failing_mirror).collect(),
            under_way: fetched.live.len(),
            live: fetched.live.into_iter().map(transfer).collect(),
            downloads: Downloads { brought: fetched.brought, failed: fetched.failed, convictions: fetched.convicted },
            uploads: Uploads { requests: upload.requests, active: upload.active, refused: upload.refused },
            recent: fetched.recent.into_iter().map(|report| download(report, wall, has_network)).collect(),
            passed: window.flow.passed_on().into_iter().map(passed).collect(),
            store: kept(window.store.snapshot()),
            suites: suites.into_iter().map(|info| suite(info, wall)).collect(),
            releases: Releases { verified: learning.verified, unverifiable: learning.unverifiable, bad: learning.bad },
            refusals: learning.refusals.into_iter().map(refused).collect(),
        }
    }
}

impl PeerList {
    /// Looks at the peers.
    pub fn of(window: &Window) -> Self {
        let pool = window.pool.snapshot();
        let mut takers: Vec<_> = window.upload.as_ref().map(Meter::takers).unwrap_or_default();
        takers.sort_by_key(|(address, taken)| (Reverse(*taken), *address));
        let mut met = pool.peers;
        met.sort_by_key(|met| (Reverse(met.standing.given), met.address));
        // What an address took is shown with the first peer there.
        let mut take = |address: SocketAddr| {
            let counted_as = Meter::counted_as(address.ip());
            let at = takers.iter().position(|(address, _)| *address == counted_as);
            at.map_or(0, |at| takers.remove(at).1)
        };
        let peers = met.into_iter().map(|met| peer(met, take(met.address))).collect();
        let takers = takers.into_iter().map(|(address, taken)| Taker { address, taken }).collect();
        Self { peers, takers, connections: pool.connections }
    }
}

fn apt_use(window: &Window) -> AptUse {
    let usage = window.flow.usage();
    AptUse { requests: usage.requests, last: usage.last.map(seconds) }
}

fn network(figures: dht::Snapshot) -> Network {
    let nodes = figures.nodes();
    let dht::Snapshot {
        nodes_v4,
        nodes_v6,
        stored,
        queries_in,
        queries_out,
        dropped,
        searching,
        lookup_p50_ms,
        lookup_p95_ms,
        external,
        reachable_v4,
        reachable_v6,
        estimate,
        moves,
    } = figures;
    Network {
        nodes,
        nodes_v4,
        nodes_v6,
        stored,
        queries_in,
        queries_out,
        dropped,
        searching,
        lookup_p50_ms,
        lookup_p95_ms,
        external,
        reachable_v4,
        reachable_v6,
        estimate,
        moves,
    }
}

fn peer(met: Met, taken: u64) -> Peer {
    let Met { address, standing, is_banned, banned_for, is_connected } = met;
    Peer {
        address,
        is_lan: fetch::Source::of_peer(address.ip()) == fetch::Source::Lan,
        is_connected,
        rate: standing.rate.map(|rate| rate as u64),
        round_trip_ms: standing.round_trip.map(milliseconds),
        given: standing.given,
        taken,
        convictions: standing.convictions,
        banned: is_banned,
        banned_for: banned_for.map(|left| left.as_secs()),
    }
}

fn failing_mirror(Failing { host, failures, is_open, retry_in, why }: Failing) -> FailingMirror {
    FailingMirror { host, failures, is_open, retry_in: retry_in.as_secs_f64().ceil() as u64, why }
}

fn transfer(picture: fetch::Picture) -> Transfer {
    Transfer {
        path: picture.path,
        repository: picture.repository,
        hash: picture.expected.hash.to_string(),
        size: picture.expected.size,
        bytes: picture.bytes,
        rate: picture.rate,
        since_ms: milliseconds(picture.since),
        pieces_there: picture.there,
        map: PieceMap::from(&picture.map),
    }
}

fn download(report: fetch::Report, wall: SystemTime, has_network: bool) -> Download {
    Download {
        path: report.path,
        repository: report.repository,
        hash: report.expected.hash.to_string(),
        size: report.expected.size,
        pieces: report.expected.pieces(),
        pieces_from_peers: report.from_peers,
        pieces_from_lan: report.from_lan,
        pieces_from_mirror: report.from_mirror,
        peers: report.peers,
        map: PieceMap::from(&report.map),
        mirror_reason: report.mirror_reason.map(|reason| MirrorReason::of(reason, has_network)),
        wasted: report.wasted,
        took_ms: milliseconds(report.took),
        first_byte_ms: report.first_byte.map(milliseconds),
        ended: seconds(report.ended.min(wall)),
        failure: report.outcome.err().map(|failure| failure.to_string()),
    }
}

fn passed(passed: flow::usage::Passed) -> Passed {
    Passed { location: passed.location, reason: passed.reason.into(), at: seconds(passed.at) }
}

fn kept(snapshot: store::Snapshot) -> Kept {
    Kept {
        objects: snapshot.objects,
        bytes: snapshot.bytes,
        partials: snapshot.partials,
        in_flight: snapshot.in_flight,
        quota: snapshot.quota,
        free: snapshot.free,
    }
}

pub(super) fn suite(info: store::SuiteInfo, now: SystemTime) -> Suite {
    Suite {
        repository: info.repository.to_string(),
        suite: info.suite,
        date: seconds(info.date),
        valid_until: info.valid_until.map(seconds),
        is_expired: info.valid_until.is_some_and(|until| until < now),
        signer: info.signer,
        files: info.files,
        learned: seconds(info.learned),
    }
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 1e2
}
