//! One file from many sources: how many bytes cross the wire for it, counted at those who send them.

use std::{net::SocketAddr, thread, time::Duration};

use crate::harness::{
    PIECE,
    archive::{Archive, Package},
    client::{Answer, fetch},
    eventually,
    huddle::Huddle,
    liar::{Liar, Tale},
    machine::Config,
    mirror::Fault,
    settled,
};

/// Bytes a second of one peer, so that no single one could bring it all before the others are asked.
const PEER_RATE: u64 = 5_000_000;

/// Pieces besides the false one that may come twice: what is late on a busy machine is asked of a second peer.
const AHEAD: u64 = 4;

/// How long what is shown elsewhere than in an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Peers that tell these tales, known to both hosts.
fn peers(huddle: &Huddle, tales: Vec<Tale>) -> Vec<Liar> {
    let peers: Vec<_> = tales.into_iter().map(|tale| Liar::start(vec![tale])).collect();
    peers.iter().for_each(|peer| peer.announce(&huddle.nodes()));
    peers
}

#[test]
fn ten_willing_peers_and_a_mirror_send_a_file_of_any_size_about_once() {
    let huddle = Huddle::of(&[Config::default(), Config::default()]);
    huddle[1].learn(huddle.mirror.addr());
    huddle.mirror.server().limit(10_000_000);
    for name in ["hello", "huddle-1", "huddle-4", "huddle-200"] {
        let package = Archive::shared().package(name);
        let tale = Tale::honest(package).slowly(PEER_RATE);
        let peers = peers(&huddle, vec![tale; 10]);
        huddle[1].bring(huddle.mirror.addr(), package);
        let path = Liar::path(&package.sha256);
        let from_peers = || peers.iter().map(|peer| peer.server().sent(&path)).sum::<u64>();
        let from_mirror = || huddle.mirror.server().sent(&package.url_path());
        let sent = settled(|| from_mirror() + from_peers());
        println!("{name}: {} from the mirror, {} from peers, {} bytes", from_mirror(), from_peers(), package.size);
        assert!(sent * 100 <= package.size * 105, "{name}: {sent} of {} bytes", package.size);
    }
}

#[test]
fn one_false_piece_is_fetched_once_more_and_who_sent_it_is_banned_within_the_download() {
    let package = Archive::shared().package("huddle-200");
    let huddle = Huddle::of(&[Config::default(), Config { mirror: "last", ..Config::default() }]);
    huddle[1].learn(huddle.mirror.addr());
    let honest = Tale::honest(package).slowly(PEER_RATE);
    let liar = honest.clone().slipping_once();
    let peers = peers(&huddle, vec![honest.clone(), honest.clone(), honest, liar]);
    let daemon = &huddle[1].daemon;
    huddle[1].bring(huddle.mirror.addr(), package);
    assert_eq!(daemon.status().banned(), [peers[3].addr()].into(), "at the last byte, and nobody else");
    assert_eq!(huddle.mirror.pool_bytes(), 0, "the peers are enough");
    let path = Liar::path(&package.sha256);
    let spans = || peers.iter().flat_map(|peer| peer.server().spans(&path)).collect::<Vec<_>>();
    let sent = settled(|| spans().iter().map(|span| span.end - span.start).sum());
    let again = sent - package.size;
    let crossed = |piece: u64| spans().iter().filter(|span| span.contains(&(piece * PIECE))).count();
    let twice: Vec<_> = (0..package.pieces()).filter(|piece| crossed(*piece) > 1).collect();
    println!("{again} bytes crossed again, pieces {twice:?}; the liar sent {:?}", peers[3].server().spans(&path));
    assert!(again <= (1 + AHEAD) * PIECE, "{again} bytes crossed again, pieces {twice:?}");
    eventually("the log says who it was", PATIENCE, || {
        let named = format!("{}", peers[3].addr().ip());
        daemon.log().lines().any(|line| line.contains("liar banned") && line.contains(&named)).then_some(())
    });
    let report = daemon.status().recent(&package.sha256).expect("a recent file");
    assert!(report.number("/wasted") <= (1 + AHEAD) * PIECE, "the product says the same: {}", report.0);
}

/// Asks a peer for one piece of a package.
fn piece_of(peer: SocketAddr, package: &Package, piece: u64) -> Answer {
    let last = package.size.min((piece + 1) * PIECE) - 1;
    fetch(peer, &Liar::path(&package.sha256), &[&format!("Range: bytes={}-{last}", piece * PIECE)])
}

/// The pieces that a peer says it has; `None` when it does not say that any are missing.
fn told_by(peer: SocketAddr, package: &Package) -> (Answer, Option<Vec<u64>>) {
    let answer = fetch(peer, &format!("{}/pieces", Liar::path(&package.sha256)), &[]);
    let digits = answer.field("x-huddle-have").map(str::to_owned);
    let pieces = digits.map(|digits| {
        let byte = |at: u64| u8::from_str_radix(&digits[2 * at as usize..][..2], 16).expect("hexadecimal digits");
        (0..package.pieces()).filter(|piece| byte(piece / 8) >> (piece % 8) & 1 == 1).collect()
    });
    (answer, pieces)
}

#[test]
fn who_has_a_part_of_the_mirror_gives_its_pieces_as_unproven_and_says_which() {
    let package = Archive::shared().package("huddle-71");
    let huddle = Huddle::of(&[Config::default()]);
    huddle[0].learn(huddle.mirror.addr());
    huddle.mirror.fault(&package.url_path(), Fault::StallAfter(10 * PIECE + 1000));
    let holder = huddle[0].daemon.peers();
    thread::scope(|scope| {
        let brought = scope.spawn(|| huddle[0].bring(huddle.mirror.addr(), package));
        // Misses have a budget, so it is asked when it must have something.
        let sent = || huddle.mirror.server().sent(&package.url_path());
        eventually("the mirror stalls", PATIENCE, || (sent() >= 10 * PIECE + 1000).then_some(()));
        let ten: Vec<u64> = (0..10).collect();
        eventually("ten pieces are told of", PATIENCE, || {
            (told_by(holder, package).1 == Some(ten.clone())).then_some(())
        });
        let (answer, _) = told_by(holder, package);
        assert_eq!(
            (answer.status, answer.body.len(), answer.field("x-huddle-chain")),
            (200, 0, None),
            "nothing is proven"
        );
        for piece in [0, 5, 9] {
            let answer = piece_of(holder, package, piece);
            assert_eq!((answer.status, answer.field("x-huddle-unproven")), (206, Some("1")), "{}", answer.head);
            assert!(answer.body == package.bytes()[(piece * PIECE) as usize..][..PIECE as usize], "piece {piece}");
        }
        for piece in [10, 11, 70] {
            assert_eq!(piece_of(holder, package, piece).status, 416, "piece {piece} is not there yet");
        }
        assert_eq!(fetch(holder, &Liar::path(&package.sha256), &[]).status, 404, "the whole is not there");
        eventually("the mirror goes on", PATIENCE, || {
            huddle.mirror.server().go_on();
            brought.is_finished().then_some(())
        });
    });
    let is_whole = || told_by(holder, package).1.is_none().then_some(());
    eventually("it has all", PATIENCE, is_whole);
    assert_eq!(told_by(holder, package).0.body.len() as u64, 32 * (package.pieces() - 1), "and the whole chain");
    assert_eq!(piece_of(holder, package, 70).field("x-huddle-unproven"), None);
}

#[test]
fn who_has_a_part_of_peers_gives_its_proven_pieces_answers_for_them_and_is_found() {
    let package = Archive::shared().package("huddle-71");
    let huddle = Huddle::of(&[Config::default(), Config { mirror: "last", ..Config::default() }]);
    huddle[1].learn(huddle.mirror.addr());
    huddle.mirror.fault(&package.url_path(), Fault::Hang);
    let peers = peers(&huddle, vec![Tale::honest(package)]);
    peers[0].server().limit(1_500_000);
    let holder = huddle[1].daemon.peers();
    thread::scope(|scope| {
        scope.spawn(|| huddle[1].bring(huddle.mirror.addr(), package));
        huddle.probe.wait_for(holder, (&package.sha256, package.size), &huddle.nodes());
        let (answer, had) = told_by(holder, package);
        let had = had.unwrap_or_else(|| panic!("it is found while pieces are missing: {}", answer.head));
        assert!(had.contains(&70) && !had.is_empty(), "the last piece comes first: {had:?}");
        for piece in had {
            let answer = piece_of(holder, package, piece);
            assert_eq!((answer.status, answer.field("x-huddle-unproven")), (206, None), "{}", answer.head);
            let length = PIECE.min(package.size - piece * PIECE) as usize;
            assert!(answer.body == package.bytes()[(piece * PIECE) as usize..][..length], "piece {piece}");
        }
        peers[0].server().limit(1_000_000_000);
    });
}
