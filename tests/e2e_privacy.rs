//! What is private stays private, and a host that gives nothing gives nothing.

use std::{collections::BTreeSet, fs, io, net::TcpStream};

use crate::harness::{
    apt::have_apt,
    archive::Archive,
    client::fetch,
    daemon::Daemon,
    huddle::{Host, Huddle},
    liar::{Liar, Tale},
    machine::Config,
    mirror::Mirror,
};

#[test]
fn files_of_an_origin_that_is_not_public_are_neither_asked_for_nor_given() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let (hello, five) = (archive.package("hello"), archive.package("huddle-5"));
    let huddle = Huddle::of(&[Config::default(), Config { public: false, mirror: "last", ..Config::default() }]);
    huddle.give(0, &[hello]);
    let tempting = Liar::start(vec![Tale::honest(hello), Tale::honest(five)]);
    tempting.announce(&huddle.nodes());

    let taken = huddle.mirror.pool_bytes();
    let apt = huddle[1].apt();
    apt.update().expect_success();
    apt.install(&["hello", "huddle-5"]).expect_success();
    apt.assert_installed(five);
    assert_eq!(huddle.mirror.pool_bytes() - taken, hello.size + five.size, "all from the mirror");
    assert_eq!(huddle[1].daemon.status().bytes_from_peers(), 0);
    assert!(tempting.server().requests("/").is_empty());
    assert!(huddle[1].machine.objects().iter().any(|(hash, _)| *hash == five.sha256), "kept for itself");
    assert_eq!(fetch(huddle[1].daemon.peers(), &Liar::path(&five.sha256), &[]).status, 404);

    // By the time that another holder is known, the private one would have been.
    huddle.give(0, &[five]);
    let private = huddle[1].daemon.peers();
    for node in huddle.nodes() {
        assert!(!huddle.probe.holders(node, &five.sha256, five.size).contains(&private));
        assert!(!huddle.probe.holders(node, &hello.sha256, hello.size).contains(&private));
    }
}

#[test]
fn who_only_takes_is_known_to_nobody_and_serves_nobody() {
    if !have_apt() {
        return;
    }
    let package = Archive::shared().package("huddle-5");
    let mut huddle = Huddle::of(&[Config::default(), Config { share: "take", mirror: "last", ..Config::default() }]);
    huddle.give(0, &[package]);
    let taken = huddle.mirror.pool_bytes();
    let apt = huddle[1].apt();
    apt.update().expect_success();
    apt.install(&[&package.name]).expect_success();
    assert_eq!(huddle.mirror.pool_bytes(), taken, "it asks");
    let taker = huddle[1].daemon.peers();
    let refused = TcpStream::connect(taker).expect_err("nobody listens there");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);

    // By the time that a third holder is known, the taker would have been.
    huddle.join(Config::default());
    huddle.give(2, &[package]);
    for node in huddle.nodes() {
        assert!(!huddle.probe.holders(node, &package.sha256, package.size).contains(&taker));
    }
    assert_eq!(huddle[1].daemon.status().number("/bytes/up"), 0);
}

#[test]
fn who_shares_nothing_opens_no_socket_but_the_proxys() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    let open = Host::start("open", &mirror, &Config::default());
    assert!(!sockets(&open.daemon, "udp").is_empty(), "this is how an open host looks");
    assert_eq!(listeners(&open.daemon), BTreeSet::from([open.daemon.proxy().port(), open.daemon.peers().port()]));

    let bootstrap = vec![open.daemon.peers()];
    let silent = Host::start("silent", &mirror, &Config { share: "off", bootstrap, ..Config::default() });
    let apt = silent.apt();
    apt.update().expect_success();
    apt.install(&["hello", "huddle-5"]).expect_success();
    assert_eq!(sockets(&silent.daemon, "udp"), Vec::<Vec<String>>::new());
    assert_eq!(listeners(&silent.daemon), BTreeSet::from([silent.daemon.proxy().port()]));
    assert_eq!(open.daemon.status().nodes(), 0, "it did not say hello either");
    assert_eq!(silent.daemon.status().bytes_from_peers(), 0);
}

/// Ports on which a daemon listens for TCP.
fn listeners(daemon: &Daemon) -> BTreeSet<u16> {
    let listening = sockets(daemon, "tcp").into_iter().filter(|fields| fields[3] == "0A");
    listening.map(|fields| u16::from_str_radix(&fields[1][fields[1].len() - 4..], 16).expect("four digits")).collect()
}

/// The lines of `/proc/net/<protocol>` and its twin for IPv6 that are sockets of the daemon, in fields (proc(5)).
fn sockets(daemon: &Daemon, protocol: &str) -> Vec<Vec<String>> {
    let process = format!("/proc/{}", daemon.pid());
    let links = fs::read_dir(format!("{process}/fd")).expect("our own child").flatten();
    let links = links.filter_map(|fd| fs::read_link(fd.path()).ok()?.into_os_string().into_string().ok());
    let own: BTreeSet<_> =
        links.filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect();
    let tables = [protocol.to_owned(), format!("{protocol}6")];
    let text = tables.map(|table| fs::read_to_string(format!("{process}/net/{table}")).unwrap_or_default()).concat();
    let lines = text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    lines.filter(|fields| fields.get(9).is_some_and(|inode| own.contains(inode))).collect()
}
