//! One file from many sources: how many bytes cross the wire for it, counted at those who send them.

use crate::harness::{
    PIECE,
    archive::{Archive, Package, SUITE},
    client::fetch,
    daemon::Daemon,
    eventually,
    huddle::{Host, Huddle},
    liar::{Liar, Tale},
    machine::Config,
    mirror::{Fault, Mirror},
};

/// Bytes a second of one peer, so that no single one could bring it all before the others are asked.
const PEER_RATE: u64 = 5_000_000;

/// Lets a host's daemon learn what the archive promises, as apt would.
fn learn(host: &Host, mirror: &Mirror) {
    for file in ["InRelease", "main/binary-amd64/Packages"] {
        let url = format!("http://{}/debian/dists/{SUITE}/{file}", mirror.authority());
        assert_eq!(fetch(host.daemon.proxy(), &url, &[]).status, 200, "{url}");
    }
}

/// Asks for a package as apt does.
#[track_caller]
fn bring(daemon: &Daemon, mirror: &Mirror, package: &Package) {
    let answer = fetch(daemon.proxy(), &format!("http://{}{}", mirror.authority(), package.url_path()), &[]);
    assert!(answer.status == 200 && answer.whole, "{}: {}", package.name, answer.head);
    assert!(answer.body == package.bytes(), "{} came wrong", package.name);
}

/// Peers that tell these tales, known to both hosts.
fn peers(huddle: &Huddle, tales: Vec<Tale>) -> Vec<Liar> {
    let peers: Vec<_> = tales.into_iter().map(|tale| Liar::start(vec![tale])).collect();
    peers.iter().for_each(|peer| peer.announce(&huddle.nodes()));
    peers
}

#[test]
fn ten_willing_peers_and_a_mirror_send_a_file_about_once() {
    for name in ["huddle-1", "huddle-200"] {
        let package = Archive::shared().package(name);
        let huddle = Huddle::of(&[Config::default(), Config::default()]);
        learn(&huddle[1], &huddle.mirror);
        huddle.mirror.fault("/debian/pool", Fault::Slow(10_000_000));
        let tale = Tale::honest(package).slowly(PEER_RATE);
        let peers = peers(&huddle, vec![tale; 10]);
        bring(&huddle[1].daemon, &huddle.mirror, package);
        let path = Liar::path(&package.sha256);
        let from_peers: u64 = peers.iter().map(|peer| peer.server().sent(&path)).sum();
        let sent = huddle.mirror.pool_bytes() + from_peers;
        assert!(sent * 100 <= package.size * 105, "{name}: {sent} of {} bytes", package.size);
    }
}

#[test]
fn one_false_piece_is_fetched_once_more_and_who_sent_it_is_banned_within_the_download() {
    let package = Archive::shared().package("huddle-200");
    let huddle = Huddle::of(&[Config::default(), Config { mirror: "last", ..Config::default() }]);
    learn(&huddle[1], &huddle.mirror);
    let honest = Tale::honest(package).slowly(PEER_RATE);
    let liar = honest.clone().slipping_once();
    let peers = peers(&huddle, vec![honest.clone(), honest.clone(), honest, liar]);
    let daemon = &huddle[1].daemon;
    bring(daemon, &huddle.mirror, package);
    assert_eq!(huddle.mirror.pool_bytes(), 0, "the peers are enough");
    let banned = |peer: &Liar| {
        let warned = |line: &str| line.contains("liar banned") && line.contains(&peer.addr().ip().to_string());
        daemon.log().lines().any(warned)
    };
    eventually("the log says who it was", std::time::Duration::from_secs(5), || banned(&peers[3]).then_some(()));
    assert!(!peers[..3].iter().any(banned), "{}", daemon.log());
    let report = daemon.status().recent(&package.sha256).expect("a recent file");
    let wasted = report.number("/wasted");
    assert!(wasted <= PIECE, "{wasted} bytes were of no use");
}
