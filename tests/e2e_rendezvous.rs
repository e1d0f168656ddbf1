//! Three daemons that know nothing but a Mainline, made of libtorrent's nodes, find each other and share a package.

use std::time::Duration;

use crate::harness::{
    apt::have_apt, archive::Archive, eventually, huddle::Host, libtorrent::Mainline, machine::Config, mirror::Mirror,
    own_network, probe::Probe,
};

/// How long they may take: some seconds of patience each, and looks that grow rarer.
const FINDING: Duration = Duration::from_secs(120);

#[test]
fn daemons_that_know_nothing_but_mainline_find_each_other_and_share_a_package() {
    if !have_apt() {
        return;
    }
    let mut mainline = Mainline::start(5, &[]);
    mainline.until_known(2);
    let mirror = Mirror::start(Archive::shared().root());
    let config = Config { mainline: mainline.nodes()[..2].to_vec(), mirror: "last", ..Config::default() };
    let hosts = ["A", "B", "C"].map(|name| Host::start(name, &mirror, &config));
    for host in &hosts {
        host.daemon.until("it knows the two others", FINDING, |status| status.nodes() >= 2);
    }
    for host in &hosts {
        host.daemon.until("others were able to connect", FINDING, |status| {
            status.0.pointer("/dht/reachable_v4").is_some_and(|state| state == "open")
        });
    }
    let package = Archive::shared().package("huddle-5");
    let apt = hosts[0].apt();
    apt.update().expect_success();
    apt.download(&[&package.name]).expect_success();
    let nodes = [0, 1, 2].map(|host: usize| hosts[host].daemon.peers());
    Probe::bind(own_network()).wait_for(nodes[0], (&package.sha256, package.size), &nodes);
    let taken = mirror.pool_bytes();
    for host in &hosts[1..] {
        let apt = host.apt();
        apt.update().expect_success();
        apt.install(&[&package.name]).expect_success();
    }
    assert_eq!(mirror.pool_bytes(), taken, "all of it came from peers");
}

#[test]
fn nothing_is_announced_while_nobody_can_connect() {
    if !have_apt() {
        return;
    }
    let mirror = Mirror::start(Archive::shared().root());
    let first = Host::start("open", &mirror, &Config::default());
    // Who gives nothing has no port that could be tried.
    let bootstrap = vec![first.daemon.peers()];
    let taker = Host::start("taker", &mirror, &Config { share: "take", bootstrap, ..Config::default() });
    eventually("the open one was tried", FINDING, || {
        let status = first.daemon.status();
        (status.0.pointer("/dht/reachable_v4")? == "open").then_some(())
    });
    let status = taker.daemon.status();
    assert!(status.0.pointer("/dht/reachable_v4").is_some_and(serde_json::Value::is_null), "{}", status.0);
    assert!(first.daemon.page().contains("others can connect"), "{}", first.daemon.page());
}
