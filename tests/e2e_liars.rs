//! Peers that lie: apt gets right bytes, little is fetched twice, the liar is named and nobody else is.

use std::net::SocketAddr;

use crate::harness::{
    PIECE,
    apt::have_apt,
    archive::{Archive, Package},
    daemon::Daemon,
    huddle::Huddle,
    liar::{Liar, Tale},
    machine::Config,
    server::most_often,
};

fn last() -> Config {
    Config { mirror: "last", ..Config::default() }
}

/// Whether a warning in the log names the address.
fn is_named(daemon: &Daemon, addr: SocketAddr) -> bool {
    daemon.log().lines().any(|line| line.contains("WARN") && line.contains(&addr.ip().to_string()))
}

/// The three lies about a package; every piece that is wrong is one that is surely asked for.
fn lies(package: &Package) -> Vec<(&'static str, Tale)> {
    let pieces = package.pieces();
    let every: Vec<_> = (0..pieces).collect();
    let mut lies = vec![("flipped bytes", Tale::flipped(package, &every))];
    if pieces > 1 {
        lies.push(("a false chain", Tale::false_chain(package, pieces as usize - 2)));
        lies.push(("a false chain in the middle", Tale::false_chain(package, pieces as usize / 2 - 1)));
        lies.push(("both, matching each other", Tale::consistent_lie(package, &every)));
    }
    lies
}

#[test]
fn a_liar_alone_with_the_mirror_costs_little_and_is_named() {
    if !have_apt() {
        return;
    }
    for name in ["hello", "huddle-2", "huddle-4", "huddle-5", "huddle-69", "huddle-71"] {
        let package = Archive::shared().package(name);
        for (lie, tale) in lies(package) {
            println!("{name}: {lie}");
            let huddle = Huddle::of(&[Config::default(), last()]);
            let apt = huddle[1].apt();
            apt.update().expect_success();
            let liar = Liar::start(vec![tale]);
            liar.announce(&huddle.nodes());
            apt.install(&[name]).expect_success();
            apt.assert_installed(package);

            let path = Liar::path(&package.sha256);
            assert!(liar.server().sent(&path) > 0, "{name}, {lie}: the liar was asked");
            assert!(is_named(&huddle[1].daemon, liar.addr()), "{name}, {lie}:\n{}", huddle[1].daemon.log());
            let both = [huddle.mirror.server().spans(&package.url_path()), liar.server().spans(&path)].concat();
            assert!(most_often(&both) <= 2, "{name}, {lie}: {both:?}");
            huddle[1].machine.assert_store_is_whole();
        }
    }
}

#[test]
fn a_liar_beside_an_honest_peer_is_named_and_the_honest_one_is_not() {
    if !have_apt() {
        return;
    }
    let package = Archive::shared().package("huddle-71");
    for (lie, tale) in lies(package) {
        println!("{lie}");
        let huddle = Huddle::of(&[Config::default(), last()]);
        let apt = huddle[1].apt();
        apt.update().expect_success();
        let liar = Liar::start(vec![tale]);
        // Slow, so that the liar is asked too.
        let honest = Liar::start(vec![Tale::honest(package).slowly(8_000_000)]);
        [&liar, &honest].into_iter().for_each(|peer| peer.announce(&huddle.nodes()));
        apt.install(&[&package.name]).expect_success();
        apt.assert_installed(package);

        let daemon = &huddle[1].daemon;
        let path = Liar::path(&package.sha256);
        let spans = [&liar, &honest].map(|peer| peer.server().spans(&path));
        // A chain that is false is found out by comparison, before its server is asked for any piece.
        let asked = if lie == "flipped bytes" { &spans[..] } else { &spans[1..] };
        assert!(asked.iter().all(|spans| !spans.is_empty()), "{lie}: it was asked for pieces");
        assert!(is_named(daemon, liar.addr()), "{lie}:\n{}", daemon.log());
        assert!(!is_named(daemon, honest.addr()), "{lie}:\n{}", daemon.log());
        let mirror = huddle.mirror.server().spans(&package.url_path());
        let all = [mirror, spans.concat()].concat();
        assert!(most_often(&all) <= 2, "{lie}: {all:?}");
    }
}

#[test]
fn a_host_whose_disk_flips_bytes_is_a_liar_too() {
    if !have_apt() {
        return;
    }
    let package = Archive::shared().package("huddle-69");
    let huddle = Huddle::of(&[Config::default(), last(), last()]);
    huddle.give(0, &[package]);
    (0..package.pieces()).for_each(|piece| huddle[0].machine.flip(&package.sha256, piece * PIECE + 4711));
    let taken = huddle.mirror.pool_bytes();
    let apt = huddle[1].apt();
    apt.update().expect_success();
    apt.install(&[&package.name]).expect_success();
    apt.assert_installed(package);
    let up = huddle[0].daemon.status().number("/bytes/up");
    assert!(up > 0, "it was asked");
    assert!(is_named(&huddle[1].daemon, huddle[0].daemon.peers()), "{}", huddle[1].daemon.log());
    assert!(up + huddle.mirror.pool_bytes() - taken <= 2 * package.size);
    huddle[1].machine.assert_store_is_whole();
    assert_eq!(most_often(&huddle.mirror.server().spans(&package.url_path())), 2, "once for each of the two hosts");

    // The one that was lied to passes the truth on.
    huddle.wait_until_known(1, package);
    let apt = huddle[2].apt();
    apt.update().expect_success();
    apt.install(&[&package.name]).expect_success();
    apt.assert_installed(package);
}

#[test]
fn what_a_stranger_says_about_a_peer_convicts_nobody() {
    if !have_apt() {
        return;
    }
    for name in ["huddle-4", "huddle-5", "huddle-69"] {
        let package = Archive::shared().package(name);
        let huddle = Huddle::of(&[Config::default(), last()]);
        huddle.give(0, &[package]);
        let stranger = Liar::start(vec![Tale::false_chain(package, 1)]);
        stranger.announce(&huddle.nodes());
        stranger.server().vanish();
        let taken = huddle.mirror.pool_bytes();
        let apt = huddle[1].apt();
        apt.update().expect_success();
        apt.install(&[name]).expect_success();
        apt.assert_installed(package);
        let daemon = &huddle[1].daemon;
        assert!(!is_named(daemon, huddle[0].daemon.peers()), "{name}:\n{}", daemon.log());
        assert_eq!(huddle.mirror.pool_bytes(), taken, "{name}: the honest peer has it all");
    }
}
