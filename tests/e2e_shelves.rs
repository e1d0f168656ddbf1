//! Packages of one piece, which have no key of their own; and private networks, where nothing is there for strangers.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;

use crate::harness::{
    PIECE,
    apt::have_apt,
    archive::Archive,
    client::{fetch, speak},
    daemon::{product, run_to_end},
    eventually,
    huddle::{Host, Huddle},
    liar::{Liar, Tale},
    machine::Config,
    mirror::Mirror,
};

const FINDING: Duration = Duration::from_secs(60);

fn last() -> Config {
    Config { mirror: "last", ..Config::default() }
}

/// Who has a file, as a host finds it.
fn holders(host: &Host, sha256: &str) -> Value {
    let mut command = product();
    command.args(["lookup", "--json", sha256]).env("APT_HUDDLE_PROXY_LISTEN", host.daemon.proxy().to_string());
    let answer: Value = serde_json::from_str(&run_to_end(command).stdout).expect("JSON");
    answer["holders"].clone()
}

#[test]
fn a_package_of_one_piece_is_found_through_its_shelf_at_those_who_really_have_it() {
    if !have_apt() {
        return;
    }
    let [hello, other] = ["hello", "huddle-1"].map(|name| Archive::shared().package(name));
    assert!(hello.size <= PIECE);
    let huddle = Huddle::of(&[Config::default(), last()]);
    huddle.give(0, &[hello]);
    // It stands on the shelf, and has something else.
    let neighbour = Liar::start(vec![Tale::honest(other)]);
    for node in huddle.nodes() {
        huddle.probe.announce(node, &hello.sha256, neighbour.addr().port(), None);
    }
    let apt = huddle[1].apt();
    apt.update().expect_success();
    let taken = huddle.mirror.pool_bytes();
    assert_eq!(holders(&huddle[1], &hello.sha256), Value::from(vec![huddle[0].daemon.peers().to_string()]));
    apt.install(&["hello"]).expect_success();
    apt.assert_installed(hello);
    assert_eq!(huddle.mirror.pool_bytes(), taken, "bytes of the pool from the mirror");
    assert!(neighbour.server().requests(&Liar::path(&hello.sha256)).is_empty(), "who said no is not asked for it");
}

#[test]
fn in_a_private_network_members_share_and_strangers_are_told_nothing() {
    if !have_apt() {
        return;
    }
    let packages = ["hello", "huddle-5"].map(|name| Archive::shared().package(name));
    let mirror = Mirror::start(Archive::shared().root());
    let secret = Config { secret: "of the huddle", ..Config::default() };
    let first = Host::start("A", &mirror, &secret);
    let bootstrap: Vec<SocketAddr> = vec![first.daemon.peers()];
    let second = Host::start("B", &mirror, &Config { bootstrap, mirror: "last", ..secret });
    for host in [&first, &second] {
        host.daemon.until("it knows the other", FINDING, |status| status.nodes() >= 1);
        host.apt().update().expect_success();
    }
    let names = packages.map(|package| package.name.as_str());
    first.apt().download(&names).expect_success();
    for package in packages {
        eventually("it is found by the other", FINDING, || {
            let found = holders(&second, &package.sha256);
            (found[0].as_str() == Some(&*first.daemon.peers().to_string())).then_some(())
        });
    }
    let taken = mirror.pool_bytes();
    second.apt().install(&names).expect_success();
    packages.iter().for_each(|package| second.apt().assert_installed(package));
    assert_eq!(mirror.pool_bytes(), taken, "bytes of the pool from the mirror");

    let peer = first.daemon.peers();
    for package in packages {
        assert_eq!(fetch(peer, &Liar::path(&package.sha256), &[]).status, 404);
        assert_eq!(fetch(peer, &format!("{}/pieces", Liar::path(&package.sha256)), &[]).status, 404);
    }
    assert_eq!(fetch(peer, "/~/have", &[]).status, 404);
    let question =
        format!("POST /~/have HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 32\r\n\r\n{:32}", "");
    assert_eq!(speak(peer, &question).status, 404);
}
