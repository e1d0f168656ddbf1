//! The path from end to end: from the mirror to one host, from host to host, into dpkg.

use std::net::TcpListener;

use apt_huddle::hash::ContentHash;

use crate::harness::{
    apt::{Way, have_apt},
    archive::{Archive, Package, SUITE},
    client::fetch,
    daemon::binary,
    huddle::{Host, Huddle},
    liar::Liar,
    machine::{Config, Machine},
    mirror::{Fault, Mirror},
    say,
};

fn all() -> Vec<&'static Package> {
    Archive::shared().packages().iter().collect()
}

fn names(packages: &[&'static Package]) -> Vec<&'static str> {
    packages.iter().map(|package| package.name.as_str()).collect()
}

fn last() -> Config {
    Config { mirror: "last", ..Config::default() }
}

#[test]
fn what_one_host_installed_another_installs_without_a_byte_of_the_pool_from_the_mirror() {
    if !have_apt() {
        return;
    }
    let mut huddle = Huddle::of(&[Config::default(), last()]);
    let apt = huddle[0].apt();
    apt.update().expect_success();
    apt.install(&names(&all())).expect_success();
    all().into_iter().for_each(|package| apt.assert_installed(package));
    let pool = Archive::shared().pool_size();
    assert_eq!(huddle.mirror.pool_bytes(), pool, "alone, a host takes each byte from the mirror once");
    assert!(huddle[0].daemon.status().bytes_from_mirror() >= pool);
    all().into_iter().for_each(|package| huddle.wait_until_known(0, package));

    let apt = huddle[1].apt();
    apt.update().expect_success();
    apt.install(&names(&all())).expect_success();
    all().into_iter().for_each(|package| apt.assert_installed(package));
    assert_eq!(huddle.mirror.pool_bytes() - pool, 0, "bytes of the pool from the mirror");
    let status = huddle[1].daemon.status();
    assert!((pool..pool + pool / 20).contains(&status.bytes_from_peers()), "{} of {pool}", status.bytes_from_peers());
    assert!(huddle[0].daemon.status().number("/bytes/up") >= pool);

    huddle.join(Config::default());
    let apt = huddle[2].apt();
    apt.update().expect_success();
    let before = huddle[2].daemon.status().bytes_from_peers();
    apt.install(&names(&all())).expect_success();
    let share = (huddle[2].daemon.status().bytes_from_peers() - before) as f64 / pool as f64;
    say(&format!("share from peers with mirror = \"sparing\": {:.1} %", share * 100.0));
    assert!(share > 0.5, "{share}");
}

#[test]
fn when_the_mirror_is_gone_a_host_installs_everything_from_two_others() {
    if !have_apt() {
        return;
    }
    // As slow as lines are, so that it takes both to be quick.
    let line = |config| Config { upload_limit: "40MB/s", ..config };
    let mut huddle = Huddle::of(&[line(Config::default()), line(last())]);
    huddle.give(0, &all());
    huddle.give(1, &all());
    huddle.join(Config::default());
    let apt = huddle[2].apt();
    apt.update().expect_success();
    let before = [0, 1].map(|host| huddle[host].daemon.status().number("/bytes/up"));
    huddle.mirror.server().vanish();
    apt.install(&names(&all())).expect_success();
    all().into_iter().for_each(|package| apt.assert_installed(package));
    for (host, before) in before.into_iter().enumerate() {
        let up = huddle[host].daemon.status().number("/bytes/up") - before;
        assert!(up > Archive::shared().pool_size() / 5, "host {host} gave {up} bytes");
    }
}

#[test]
fn apt_comes_in_as_to_a_proxy_and_as_to_a_mirror() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let packages: Vec<_> = ["hello", "huddle-2", "huddle-5", "huddle-empty"].map(|name| archive.package(name)).into();
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let mut huddle = Huddle::of(&[Config::default()]);
    huddle.join(Config { proxy: port.to_string(), ..last() });
    huddle.give(0, &packages);
    let taken = huddle.mirror.pool_bytes();

    let apt = huddle[1].machine.apt(Way::Rewritten(huddle[1].daemon.proxy()));
    apt.update().expect_success();
    apt.install(&names(&packages)).expect_success();
    packages.into_iter().for_each(|package| apt.assert_installed(package));
    assert_eq!(huddle.mirror.pool_bytes(), taken, "the hashes are known under the rewritten source too");
    assert!(apt.update().expect_success().text.contains("Hit:1"), "Last-Modified passes through");
}

#[test]
fn who_comes_late_finds_what_a_host_had_when_it_was_alone() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let packages: Vec<_> = ["hello", "huddle-5"].map(|name| archive.package(name)).into();
    let mut huddle = Huddle::of(&[Config::default()]);
    let apt = huddle[0].apt();
    apt.update().expect_success();
    apt.download(&names(&packages)).expect_success();
    huddle.join(last());
    packages.iter().for_each(|package| huddle.wait_until_known(0, package));
    let taken = huddle.mirror.pool_bytes();
    let apt = huddle[1].apt();
    apt.update().expect_success();
    apt.install(&names(&packages)).expect_success();
    assert_eq!(huddle.mirror.pool_bytes(), taken);
}

#[test]
fn a_second_request_is_answered_from_the_own_store_in_every_spelling_and_range() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    let host = Host::start("store", &mirror, &Config::default());
    let apt = host.apt();
    apt.update().expect_success();
    apt.download(&["hello", "huddle-5"]).expect_success();
    let taken = mirror.pool_bytes();
    apt.clean();
    apt.download(&["hello", "huddle-5"]).expect_success();
    let hello = archive.package("hello");
    apt.assert_downloaded(hello);

    let url = format!("http://{}{}", mirror.authority(), hello.url_path());
    let encoded = url.replace('+', "%2b").replace('~', "%7E");
    let rewritten = format!("/{}{}", mirror.authority(), hello.url_path());
    for target in [&url, &encoded, &rewritten] {
        let answer = fetch(host.daemon.proxy(), target, &[]);
        assert!(answer.status == 200 && answer.whole && answer.body == hello.bytes(), "{target}: {}", answer.head);
        let part = fetch(host.daemon.proxy(), target, &["Range: bytes=29000-"]);
        assert_eq!((part.status, &part.body[..]), (206, &hello.bytes()[29_000..]), "{target}: {}", part.head);
    }
    assert_eq!(mirror.pool_bytes(), taken);
    assert!(host.daemon.status().number("/bytes/from_store") > hello.size + archive.package("huddle-5").size);
}

#[test]
fn the_status_page_and_the_api_say_where_the_pieces_came_from() {
    if !have_apt() {
        return;
    }
    let package = Archive::shared().package("huddle-5");
    let huddle = Huddle::of(&[Config::default(), last()]);
    huddle.give(0, &[package]);
    huddle.give(1, &[package]);
    let pieces = |host: usize| {
        let status = huddle[host].daemon.status();
        let recent = status.recent(&package.sha256).expect("a recent file");
        (recent.number("/pieces_from_peers"), recent.number("/pieces_from_mirror"))
    };
    assert_eq!((pieces(0), pieces(1)), ((0, 5), (5, 0)));
    let file = package.path.rsplit('/').next().expect("a file name");
    for host in [0, 1] {
        let page = huddle[host].daemon.page();
        assert!(page.starts_with("<!DOCTYPE html>") && page.contains(file), "{page}");
        assert_eq!(page.matches("<script").count(), 1, "what it says, it says without JavaScript");
        for word in ["peers", "mirror", "store", "DHT"] {
            assert!(page.contains(word), "{word}: {page}");
        }
        assert!(page.contains(SUITE), "the suite that vouches is shown: {page}");
    }
}

#[test]
fn a_peer_is_plain_http_that_says_nothing_but_what_is_asked_by_hash() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let packages: Vec<_> = ["hello", "huddle-4", "huddle-71"].map(|name| archive.package(name)).into();
    let huddle = Huddle::of(&[Config::default(), Config::default()]);
    huddle.give(0, &packages);
    let peer = huddle[0].daemon.peers();
    for package in &packages {
        let path = Liar::path(&package.sha256);
        let part = fetch(peer, &path, &["Range: bytes=1000-1999"]);
        assert_eq!((part.status, &part.body[..]), (206, &package.bytes()[1000..2000]));
        assert!(fetch(peer, &path, &[]).body == package.bytes());
        let chain = fetch(peer, &format!("{path}/pieces"), &[]);
        assert_eq!((chain.status, chain.body.len() as u64), (200, 32 * (package.pieces() - 1)));
        let digest = ContentHash::of(&chain.body).to_string();
        assert_eq!(part.field("x-huddle-chain"), Some(digest.as_str()), "{}", part.head);
        assert_eq!(part.field("server"), None);
        assert_eq!(fetch(peer, &path, &["Range: bytes=999999999-"]).status, 416);
    }
    let unknown = ContentHash::of(b"nobody has this").to_string();
    for path in ["/", "/~/", "/~", "/status", "/api/v1/status", "/metrics", &Liar::path(&unknown)] {
        assert_eq!(fetch(peer, path, &[]).status, 404, "{path}");
    }
}

#[test]
fn the_script_for_the_real_mirror_works_on_a_mirror_of_our_own() {
    if !have_apt() {
        return;
    }
    let mirror = Mirror::start(Archive::shared().root());
    // As fast as a real one: over loopback alone no peer could be quicker.
    mirror.fault("/debian/pool", Fault::Slow(10_000_000));
    let machine = Machine::new("script", &mirror);
    let mut command = machine.apt(Way::Direct).command(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real-mirror"));
    let output = command.arg(binary()).output().expect("there is a bash wherever there is apt");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("bytes from A: "), "{}\n{said}", output.status);
    mirror.server().vanish();
    let output = command.output().expect("as before");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.starts_with("skipped: "), "{said}");
}
