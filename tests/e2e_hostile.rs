//! Peers that break the protocol: the file comes all the same, soon, and neither bytes nor memory grow without bound.

use std::time::{Duration, Instant};

use crate::harness::{
    PIECE,
    apt::have_apt,
    archive::{Archive, Package},
    client::fetch,
    huddle::Huddle,
    liar::Liar,
    machine::Config,
    mirror::Fault,
    probe::Probe,
    rogue::{Manner, Rogue},
};

/// Memory that a daemon may take more than before because of any number of such peers.
const MEMORY: u64 = 48 * 1024 * 1024;

/// Bytes that one of them gets rid of in vain: what fits into the sockets' buffers, and a window of pieces.
const IN_VAIN: u64 = 16 * PIECE;

/// How long a file may take, each of them taken for itself; every second word of a test is for other tests' load.
const LIMIT: Duration = Duration::from_secs(25);

#[track_caller]
fn bring(huddle: &Huddle, package: &Package) -> Duration {
    let url = format!("http://{}{}", huddle.mirror.authority(), package.url_path());
    let start = Instant::now();
    let answer = fetch(huddle[1].daemon.proxy(), &url, &[]);
    let took = start.elapsed();
    assert!(answer.status == 200 && answer.whole, "{}: {}", package.name, answer.head);
    assert!(answer.body == package.bytes(), "{}: other bytes", package.name);
    took
}

#[test]
fn a_peer_that_breaks_the_protocol_costs_little_whatever_its_manner() {
    if !have_apt() {
        return;
    }
    // Packages of several pieces, each brought once by a host.
    let names = ["huddle-4", "huddle-5", "huddle-2", "huddle-over", "huddle-1"];
    for manners in Manner::ALL.chunks(names.len()) {
        let last = Config { mirror: "last", ..Config::default() };
        let huddle = Huddle::of(&[Config::default(), last]);
        huddle[1].apt().update().expect_success();
        for (manner, name) in manners.iter().zip(names) {
            let package = Archive::shared().package(name);
            let rogue = Rogue::start(*manner, package);
            rogue.announce(&huddle.nodes());
            let before = huddle[1].daemon.memory();
            let took = bring(&huddle, package);
            let memory = huddle[1].daemon.memory().saturating_sub(before);
            let path = Liar::path(&package.sha256);
            let asked = rogue.server().requests(&path).iter().filter(|request| request.path == path).count();
            let mirror = huddle.mirror.server().sent(&package.url_path());
            let vain = rogue.server().sent("/~/");
            println!(
                "{manner:?}: {took:?}, asked {asked}, {mirror} of {} from the mirror, {vain} from it, {memory} of memory",
                package.size
            );
            assert!(asked > 0, "{manner:?}: it was asked");
            assert!(took < LIMIT, "{manner:?}: {took:?}");
            assert!(mirror <= package.size + 2 * PIECE, "{manner:?}: {mirror} bytes from the mirror");
            assert!(vain <= IN_VAIN, "{manner:?}: {vain} bytes in vain");
            assert!(memory < MEMORY, "{manner:?}: {memory} bytes of memory");
            let log = huddle[1].daemon.log();
            let is_banned = log.lines().any(|line| line.contains("banned") && line.contains(&rogue.addr().to_string()));
            assert_eq!(is_banned, *manner == Manner::OtherFile, "{manner:?}: who sends false bytes is banned:\n{log}");
        }
        huddle[1].machine.assert_store_is_whole();
    }
}

#[test]
fn all_of_them_together_beside_an_honest_peer_do_not_stop_it() {
    if !have_apt() {
        return;
    }
    let package = Archive::shared().package("huddle-71");
    let huddle = Huddle::of(&[Config::default(), Config::default()]);
    huddle.give(0, &[package]);
    huddle[1].apt().update().expect_success();
    huddle.mirror.fault("/debian/pool", Fault::Slow(4_000_000));
    let rogues = Manner::ALL.map(|manner| Rogue::start(manner, package));
    rogues.iter().for_each(|rogue| rogue.announce(&huddle.nodes()));
    let (before, taken) = (huddle[1].daemon.memory(), huddle.mirror.pool_bytes());
    let took = bring(&huddle, package);
    let memory = huddle[1].daemon.memory().saturating_sub(before);
    println!("{took:?}, {} from the mirror, {memory} of memory", huddle.mirror.pool_bytes() - taken);
    assert!(took < LIMIT, "{took:?}");
    assert!(memory < 2 * MEMORY, "{memory} bytes of memory");
    let vain: u64 = rogues.iter().map(|rogue| rogue.server().sent("/~/")).sum();
    assert!(vain <= package.size + rogues.len() as u64 * IN_VAIN, "{vain} bytes");
    let log = huddle[1].daemon.log();
    let is_named = |address: std::net::SocketAddr| {
        log.lines().any(|line| line.contains("banned") && line.contains(&address.to_string()))
    };
    assert!(!is_named(huddle[0].daemon.peers()), "the honest peer is not banned:\n{log}");
    huddle[1].machine.assert_store_is_whole();
}

#[test]
fn a_host_that_is_told_to_ask_itself_asks_the_mirror() {
    if !have_apt() {
        return;
    }
    let package = Archive::shared().package("huddle-5");
    let huddle = Huddle::of(&[Config::default(), Config::default()]);
    huddle[1].apt().update().expect_success();
    let own = huddle[1].daemon.peers();
    let std::net::IpAddr::V4(ip) = own.ip() else { panic!("an IPv4 network") };
    let probe = Probe::bind(ip);
    huddle.nodes().into_iter().for_each(|node| probe.announce(node, &package.sha256, own.port(), None));
    let took = bring(&huddle, package);
    assert!(took < LIMIT, "{took:?}");
    let mirror = huddle.mirror.server().sent(&package.url_path());
    assert!(mirror <= package.size * 21 / 20 + PIECE, "{mirror} of {}", package.size);
    assert!(!huddle[1].daemon.log().contains("banned"), "{}", huddle[1].daemon.log());
}

#[test]
fn a_ban_outlives_a_restart_and_a_kill() {
    if !have_apt() {
        return;
    }
    let package = Archive::shared().package("huddle-1");
    let last = Config { mirror: "last", ..Config::default() };
    let mut huddle = Huddle::of(&[Config::default(), last.clone()]);
    huddle[1].apt().update().expect_success();
    let rogue = Rogue::start(Manner::OtherFile, package);
    rogue.announce(&huddle.nodes());
    bring(&huddle, package);
    let banned = |huddle: &Huddle| {
        let status = huddle[1].daemon.status();
        let peers = status.0.pointer("/peers").and_then(serde_json::Value::as_array).expect("a list of peers").clone();
        peers.iter().any(|peer| peer["address"] == rogue.addr().to_string() && peer["banned"] == true)
    };
    assert!(banned(&huddle), "it sent false bytes");
    for round in 0..2 {
        let host = huddle.host_mut(1);
        if round == 0 {
            assert!(host.daemon.stop("TERM").0.success());
        } else {
            host.daemon.kill();
        }
        host.daemon = host.machine.start(&last);
        assert!(banned(&huddle), "round {round}: it is still out");
    }
}
