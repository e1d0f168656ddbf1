//! The edges: what cannot be kept, what comes late, what stays open.

use std::{
    io::{Read, Write},
    net::{TcpStream, UdpSocket},
    time::Duration,
};

use crate::harness::{
    apt::{Way, have_apt},
    archive::Archive,
    client::fetch,
    daemon::{Daemon, product},
    eventually,
    huddle::Host,
    machine::{Config, Machine},
    mirror::{Fault, Mirror},
    own_network, scratch,
};

#[test]
fn a_package_that_cannot_be_kept_is_still_never_completed_with_wrong_bytes() {
    if !have_apt() {
        return;
    }
    let package = Archive::shared().package("huddle-4");
    let mirror = Mirror::start(Archive::shared().root());
    let host = Host::start("narrow", &mirror, &Config { quota: "100kB", ..Config::default() });
    host.apt().update().expect_success();
    let target = format!("http://{}{}", mirror.authority(), package.url_path());

    mirror.fault(&package.url_path(), Fault::Lie);
    let answer = fetch(host.daemon.proxy(), &target, &[]);
    assert!(!answer.whole, "{} bytes with status {}", answer.body.len(), answer.status);
    mirror.heal();
    let answer = fetch(host.daemon.proxy(), &target, &["Range: bytes=100-"]);
    assert!(answer.whole && answer.status == 200 && answer.body == package.bytes(), "the whole, and the right one");
    assert!(host.machine.objects().iter().all(|(hash, _)| *hash != package.sha256));
}

#[test]
fn odd_ranges_of_a_held_file_are_answered_as_rfc_9110_says() {
    if !have_apt() {
        return;
    }
    let package = Archive::shared().package("huddle-1");
    let mirror = Mirror::start(Archive::shared().root());
    let host = Host::start("ranges", &mirror, &Config::default());
    let apt = host.apt();
    apt.update().expect_success();
    apt.download(&["huddle-1"]).expect_success();
    let target = format!("http://{}{}", mirror.authority(), package.url_path());
    eventually("it is held", Duration::from_secs(10), || {
        (fetch(host.daemon.proxy(), &target, &[]).field("x-apt-huddle") == Some("hit")).then_some(())
    });
    let (bytes, size) = (package.bytes(), package.size);
    let ranges = [
        ("bytes=0-18446744073709551615", 206, &bytes[..]),
        ("bytes=2-99999999999999999999999999", 206, &bytes[2..]),
        ("bytes=-5", 206, &bytes[bytes.len() - 5..]),
        ("bytes=7-9", 206, &bytes[7..10]),
        ("bytes=9-7", 200, &bytes[..]),
        ("bytes=0-1,5-6", 200, &bytes[..]),
    ];
    for (range, status, body) in ranges {
        let answer = fetch(host.daemon.proxy(), &target, &[&format!("Range: {range}")]);
        assert_eq!((answer.status, answer.whole), (status, true), "{range}: {}", answer.head);
        assert!(answer.body == body, "{range}");
    }
    let answer = fetch(host.daemon.proxy(), &target, &[&format!("Range: bytes={size}-")]);
    assert_eq!((answer.status, answer.field("content-range")), (416, Some(&*format!("bytes */{size}"))));
}

#[test]
fn a_source_that_is_added_while_the_daemon_runs_is_known_when_it_is_asked_for() {
    if !have_apt() {
        return;
    }
    let mirror = Mirror::start(Archive::shared().root());
    let machine = Machine::new("late", &mirror);
    let sources = std::fs::read_to_string(machine.apt_dir().join("sources.list")).expect("the harness wrote it");
    machine.write_sources("");
    let daemon = machine.start(&Config { origin_allowed: false, ..Config::default() });
    let target = format!("http://{}/debian/dists/huddle/InRelease", mirror.authority());
    assert_eq!(fetch(daemon.proxy(), &target, &[]).status, 403, "nobody named it yet");
    machine.write_sources(&sources);
    eventually("the new source is known", Duration::from_secs(20), || {
        (fetch(daemon.proxy(), &target, &[]).status == 200).then_some(())
    });
    machine.apt(Way::Proxy(daemon.proxy())).update().expect_success();
}

#[test]
fn connections_that_wait_do_not_hold_up_the_stop() {
    let mirror = Mirror::start(Archive::shared().root());
    let mut host = Host::start("stopping", &mirror, &Config::default());
    let mut idle = TcpStream::connect(host.daemon.proxy()).expect("it listens");
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").expect("it reads");
    let mut answer = [0; 16];
    idle.read_exact(&mut answer).expect("it answers");
    let silent = TcpStream::connect(host.daemon.proxy()).expect("it listens");
    let (status, took) = host.daemon.stop("TERM");
    assert!(status.success() && took < Duration::from_secs(5), "{status} after {took:?}");
    drop((idle, silent));
}

#[test]
fn a_port_in_use_for_the_dht_is_one_clear_line() {
    let home = scratch("home-");
    let taken = UdpSocket::bind((own_network(), 0)).expect("a free port");
    let addr = taken.local_addr().expect("it is bound").to_string();
    let mut command = product();
    command.arg("run").env("HOME", home.path()).env("APT_HUDDLE_PROXY_LISTEN", "127.0.0.1:0");
    command.env("APT_HUDDLE_PEER_LISTEN", &addr);
    let (status, log) = Daemon::start_as("in-use", command, true).err().expect("it ends");
    assert!(!status.success() && log.trim().lines().count() == 1, "{log}");
    assert!(log.contains(&addr) && log.contains("in use"), "{log}");
}
