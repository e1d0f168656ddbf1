//! Peers that break the protocol: the file comes all the same, soon, and neither bytes nor memory grow without bound.
//!
//! | a peer that | its [`Manner`] | where |
//! |---|---|---|
//! | sends more than asked | `More` | alone, of hashes, together |
//! | sends less | `Less`, `Shorter` | alone, of hashes, together |
//! | sends another range | `OtherRange` | alone, of hashes, together |
//! | sends another file's bytes | `OtherFile` | alone, of hashes, together; the ban outlives a restart |
//! | sends chunks | `Chunked` | alone, of hashes, together |
//! | says 200 for a range | `Whole` | alone, of hashes, together |
//! | sends headers without end | `EndlessFields` | alone, of hashes, together |
//! | sends a gigabyte of header | `EndlessField` | alone, of hashes, together |
//! | sends `Content-Length` twice | `TwoLengths` | alone, of hashes, together |
//! | trickles one byte a second | `Trickle` | alone, of hashes, together |
//! | accepts and never answers | `Mute` | alone, of hashes, together |
//! | says 404 after announcing | `Missing` | alone, of hashes, together |
//! | closes after each reply | `Closes` | alone, of hashes, together |
//! | has more pieces than there are | `OddSet` | of hashes |
//! | says of every file that it holds it, and gives none | `Right` | of holds |
//! | does not say what it holds, or not in this world's time | `Mute`, `Trickle`, `EndlessField` | of holds |
//! | says more or less of what it holds than it was asked | `More`, `Shorter` | of holds |
//! | is ourselves | | [`a_host_that_is_told_to_ask_itself_asks_the_mirror`] |
//!
//! *Alone*: [`a_peer_that_breaks_the_protocol_costs_little_whatever_its_manner`], each of them the only peer. *Of hashes*:
//! [`the_same_in_answers_about_piece_hashes_costs_as_little`], each the only peer of its file, all at a time. *Of holds*:
//! [`who_lies_about_what_it_holds_keeps_nobody_from_the_mirror`], the same of files of one piece. *Together*:
//! [`all_of_them_together_beside_an_honest_peer_do_not_stop_it`]. Peers that send wrong bytes in right answers are in
//! `e2e_liars`, `e2e_bring` and `e2e_conspiracy`.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use crate::harness::{
    PIECE,
    apt::have_apt,
    archive::{Archive, Package},
    client::fetch,
    depot::Depot,
    huddle::{Host, Huddle},
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
fn the_same_in_answers_about_piece_hashes_costs_as_little() {
    let manners: Vec<_> = Manner::ALL.into_iter().chain([Manner::OddSet]).collect();
    let depot = Depot::of(manners.iter().map(|_| 3 * PIECE + 4711));
    let mirror = depot.mirror();
    let first = Host::of("first-", mirror.addr(), &depot.signer, &Config::default());
    let bootstrap = vec![first.daemon.peers()];
    let config = Config { mirror: "last", bootstrap, ..Config::default() };
    let host = Host::of("asking-", mirror.addr(), &depot.signer, &config);
    host.daemon.until("it knows the first", LIMIT, |status| status.nodes() >= 1);
    let rogues: Vec<_> =
        manners.iter().zip(depot.all()).map(|(manner, package)| Rogue::of_hashes(*manner, package)).collect();
    rogues.iter().for_each(|rogue| rogue.announce(&[first.daemon.peers(), host.daemon.peers()]));
    let before = host.daemon.memory();
    let (most, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                most.fetch_max(host.daemon.memory(), Relaxed);
                thread::sleep(Duration::from_millis(50));
            }
        });
        let bring = |(manner, package)| {
            let (host, mirror) = (&host, mirror.addr());
            let coming = scope.spawn(move || {
                let start = Instant::now();
                host.bring(mirror, package);
                start.elapsed()
            });
            (manner, coming)
        };
        let coming: Vec<_> = manners.iter().zip(depot.all()).map(bring).collect();
        let came: Vec<_> = coming.into_iter().map(|(manner, coming)| (manner, coming.join())).collect();
        is_over.store(true, Relaxed);
        for (manner, took) in came {
            println!("{manner:?}: {took:?}");
            assert!(took.is_ok_and(|took| took < LIMIT), "{manner:?}: it does not come in time");
        }
    });
    let memory = most.into_inner().saturating_sub(before);
    println!("{memory} bytes of memory");
    assert!(memory < 2 * MEMORY, "{memory} bytes of memory");
    for ((manner, rogue), package) in manners.iter().zip(&rogues).zip(depot.all()) {
        let hashes = format!("{}/pieces", Liar::path(&package.sha256));
        assert!(!rogue.server().requests(&hashes).is_empty(), "{manner:?}: it was asked");
        let sent = mirror.server().sent(&package.url_path()) + rogue.server().sent("/~/");
        assert!(sent <= package.size + IN_VAIN, "{manner:?}: {sent} bytes");
    }
    let is_liar = |(manner, rogue): (&Manner, &Rogue)| (*manner == Manner::OtherFile).then_some(rogue.addr());
    let liars = manners.iter().zip(&rogues).filter_map(is_liar).collect();
    assert_eq!(host.daemon.status().banned(), liars, "who tells false states is banned, and nobody else");
    host.machine.assert_store_is_whole();
}

#[test]
fn who_lies_about_what_it_holds_keeps_nobody_from_the_mirror() {
    use Manner::{EndlessField, More, Mute, Right, Shorter, Trickle};
    let manners = [Right, Mute, Trickle, EndlessField, More, Shorter];
    let depot = Depot::of((1..=manners.len() as u64).map(|number| 30_000 * number));
    let mirror = depot.mirror();
    let first = Host::of("first-", mirror.addr(), &depot.signer, &Config::default());
    let bootstrap = vec![first.daemon.peers()];
    for mirror_use in ["sparing", "last"] {
        let config = Config { mirror: mirror_use, bootstrap: bootstrap.clone(), ..Config::default() };
        let host = Host::of(&format!("{mirror_use}-"), mirror.addr(), &depot.signer, &config);
        host.daemon.until("it knows the first", LIMIT, |status| status.nodes() >= 1);
        let rogues: Vec<_> =
            manners.iter().zip(depot.all()).map(|(manner, package)| Rogue::of_holds(*manner, package)).collect();
        rogues.iter().for_each(|rogue| rogue.announce(&[first.daemon.peers(), host.daemon.peers()]));
        let before = host.daemon.memory();
        thread::scope(|scope| {
            let bring = |package| {
                let (host, mirror) = (&host, mirror.addr());
                scope.spawn(move || {
                    let start = Instant::now();
                    host.bring(mirror, package);
                    start.elapsed()
                })
            };
            let coming: Vec<_> = depot.all().into_iter().map(bring).collect();
            for (manner, coming) in manners.iter().zip(coming) {
                let took = coming.join();
                println!("{mirror_use}, {manner:?}: {took:?}");
                assert!(took.is_ok_and(|took| took < LIMIT), "{mirror_use}, {manner:?}: it does not come in time");
            }
        });
        let memory = host.daemon.memory().saturating_sub(before);
        assert!(memory < MEMORY, "{mirror_use}: {memory} bytes of memory");
        for (manner, rogue) in manners.iter().zip(&rogues) {
            if mirror_use == "last" {
                assert!(!rogue.server().requests("/~/have").is_empty(), "{manner:?}: it was asked");
            }
            let vain = rogue.server().sent("/~/");
            assert!(vain <= IN_VAIN, "{mirror_use}, {manner:?}: {vain} bytes in vain");
        }
        assert_eq!(host.daemon.status().banned(), Default::default(), "nobody gave a false byte");
        host.machine.assert_store_is_whole();
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
    let banned = |huddle: &Huddle| huddle[1].daemon.status().banned().contains(&rogue.addr());
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
