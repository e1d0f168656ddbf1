//! Mirrors and peers that fail: apt gets what it would have got without the daemon, or better.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::harness::{
    PIECE,
    apt::have_apt,
    archive::Archive,
    client::fetch,
    huddle::{Host, Huddle},
    liar::{Liar, Tale},
    machine::Config,
    mirror::{Fault, Mirror},
};

#[test]
fn when_all_peers_die_in_the_middle_the_mirror_brings_the_rest_and_nothing_twice() {
    if !have_apt() {
        return;
    }
    let package = Archive::shared().package("huddle-200");
    let slow = Config { upload_limit: "15MB/s", ..Config::default() };
    let last = Config { mirror: "last", ..Config::default() };
    let mut huddle = Huddle::of(&[slow.clone(), Config { mirror: "last", ..slow }, last]);
    huddle.give(0, &[package]);
    huddle.give(1, &[package]);
    let apt = huddle[2].apt();
    apt.update().expect_success();
    let (before, taken) = (huddle[2].daemon.status().bytes_from_peers(), huddle.mirror.pool_bytes());
    let run = apt.download_in_background(&[&package.name]);
    huddle[2].daemon.until("peers bring a third", Duration::from_secs(60), |status| {
        status.bytes_from_peers() - before > package.size / 3
    });
    let brought = huddle[2].daemon.status().bytes_from_peers() - before;
    assert!(brought < package.size * 9 / 10, "the peers are slow enough to die in the middle: {brought}");
    huddle.host_mut(0).daemon.kill();
    huddle.host_mut(1).daemon.kill();
    run.finish().expect_success();
    apt.assert_downloaded(package);

    let status = huddle[2].daemon.status();
    let recent = status.recent(&package.sha256).expect("a recent file");
    let (peers, mirror) = (recent.number("/pieces_from_peers"), recent.number("/pieces_from_mirror"));
    assert_eq!(peers + mirror, 200);
    assert!(peers * PIECE + 16 * PIECE >= brought, "of {brought} bytes {peers} pieces were kept");
    let from_mirror = huddle.mirror.pool_bytes() - taken;
    assert!(from_mirror <= mirror * PIECE + package.size / 20, "{from_mirror} bytes for {mirror} pieces");
}

#[test]
fn whatever_the_mirror_does_apt_gets_the_peers_copy() {
    if !have_apt() {
        return;
    }
    let faults = [
        ("hello", Fault::Status(404)),
        ("huddle-1", Fault::Status(500)),
        ("huddle-2", Fault::Garbage),
        ("huddle-4", Fault::TooLong),
        ("huddle-5", Fault::TooShort),
        ("huddle-69", Fault::StallAfter(3 * PIECE + 5)),
        ("huddle-70", Fault::Lie),
        ("huddle-71", Fault::ResetAfter(PIECE)),
        ("huddle-empty", Fault::Nothing),
        ("huddle-exact", Fault::Hang),
        ("huddle-over", Fault::CutAfter(1000)),
    ];
    let archive = Archive::shared();
    let packages: Vec<_> = faults.iter().map(|(name, _)| archive.package(name)).collect();
    let names: Vec<_> = faults.iter().map(|(name, _)| *name).collect();
    for mirror in ["first", "sparing", "last"] {
        println!("mirror = {mirror:?}");
        let huddle = Huddle::of(&[Config::default(), Config { mirror, ..Config::default() }]);
        huddle.give(0, &packages);
        faults.iter().for_each(|(name, fault)| huddle.mirror.fault(&archive.package(name).url_path(), *fault));
        let apt = huddle[1].apt();
        apt.update().expect_success();
        apt.install(&names).expect_success();
        packages.iter().for_each(|package| apt.assert_installed(package));
        huddle[1].machine.assert_store_is_whole();
    }
}

#[test]
fn peers_carry_what_a_slow_mirror_cannot() {
    if !have_apt() {
        return;
    }
    let package = Archive::shared().package("huddle-70");
    let huddle = Huddle::of(&[Config::default(), Config::default()]);
    huddle.give(0, &[package]);
    huddle.mirror.fault("/debian/pool", Fault::Slow(2_000_000));
    let apt = huddle[1].apt();
    apt.update().expect_success();
    let taken = huddle.mirror.pool_bytes();
    let start = Instant::now();
    apt.download(&[&package.name]).expect_success();
    apt.assert_downloaded(package);
    assert!(start.elapsed() < Duration::from_secs(15), "alone the mirror would need 18 s: {:?}", start.elapsed());
    let from_mirror = huddle.mirror.pool_bytes() - taken;
    assert!(from_mirror < package.size / 2, "{from_mirror} of {} from the mirror", package.size);
}

#[test]
fn a_dead_a_silent_and_a_slow_peer_cost_apt_nothing_it_would_notice() {
    if !have_apt() {
        return;
    }
    let packages = ["hello", "huddle-5", "huddle-71"].map(|name| Archive::shared().package(name));
    let huddle = Huddle::of(&[Config::default(), Config::default()]);
    let tales = |change: &dyn Fn(Tale) -> Tale| packages.map(|package| change(Tale::honest(package))).to_vec();
    let dead = Liar::start(tales(&|tale| tale));
    let silent = Liar::start(tales(&|tale| tale.stalling_on(0..u64::MAX)));
    let slow = Liar::start(tales(&|tale| tale.slowly(20_000)));
    [&dead, &silent, &slow].iter().for_each(|peer| peer.announce(&huddle.nodes()));
    dead.server().vanish();

    let apt = huddle[1].apt();
    apt.update().expect_success();
    let start = Instant::now();
    apt.download(&packages.map(|package| package.name.as_str())).expect_success();
    packages.iter().for_each(|package| apt.assert_downloaded(package));
    let took = start.elapsed();
    println!("took {took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    for package in packages {
        let sent = huddle.mirror.server().sent(&package.url_path());
        assert!(sent <= package.size * 21 / 20 + PIECE, "{}: {sent} of {}", package.name, package.size);
    }
}

#[test]
fn a_mirror_that_breaks_off_is_asked_for_the_rest() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    let host = Host::start("rest", &mirror, &Config::default());
    let apt = host.apt();
    apt.update().expect_success();
    let faults = [
        ("huddle-4", Fault::CutAfter(3 * PIECE + 7)),
        ("huddle-5", Fault::ResetAfter(2 * PIECE)),
        ("hello", Fault::CutAfter(20_000)),
    ];
    for (name, fault) in faults {
        let package = archive.package(name);
        mirror.fault(&package.url_path(), fault);
        apt.download(&[name]).expect_success();
        apt.assert_downloaded(package);
        let sent = mirror.server().sent(&package.url_path());
        assert!(sent <= package.size + 2 * PIECE, "{name}: {sent} bytes for {}", package.size);
    }
    host.machine.assert_store_is_whole();
}

#[test]
fn a_mirror_that_lies_is_never_believed_and_forgiven_when_it_is_healed() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    let host = Host::start("lied-to", &mirror, &Config::default());
    let apt = host.apt();
    apt.update().expect_success();
    mirror.fault("/debian/pool", Fault::Lie);
    for name in ["hello", "huddle-4"] {
        let run = apt.download(&[name]).expect_complaint();
        assert!(!run.text.contains("Hash Sum mismatch"), "apt never completes a wrong file: {}", run.text);
        assert!(host.machine.objects().iter().all(|(hash, _)| *hash != archive.package(name).sha256));
    }
    mirror.heal();
    apt.download(&["hello", "huddle-4"]).expect_success();
    apt.assert_downloaded(archive.package("huddle-4"));
    host.machine.assert_store_is_whole();
}

#[test]
fn what_no_index_names_is_passed_through_as_the_mirror_says_it() {
    let archive = Archive::shared();
    let branch = archive.branch();
    let notes = b"not in any index".repeat(10_000);
    fs::write(branch.path().join("debian/notes"), &notes).expect("the scratch directory is ours");
    let mirror = Mirror::start(branch.path());
    let host = Host::start("through", &mirror, &Config::default());
    let url = format!("http://{}/debian/notes", mirror.authority());
    let proxy = host.daemon.proxy();

    let answer = fetch(proxy, &url, &[]);
    assert_eq!((answer.status, answer.whole, answer.body == notes), (200, true, true), "{}", answer.head);
    let direct = fetch(mirror.addr(), "/debian/notes", &[]);
    assert_eq!(answer.field("last-modified"), direct.field("last-modified"));
    for status in [403, 404, 410, 500, 503] {
        mirror.heal();
        mirror.fault("/debian/notes", Fault::Status(status));
        let answer = fetch(proxy, &url, &[]);
        assert_eq!((answer.status, answer.text()), (status, format!("this mirror says {status}\n")));
    }
    for fault in [Fault::Garbage, Fault::Nothing] {
        mirror.heal();
        mirror.fault("/debian/notes", fault);
        let answer = fetch(proxy, &url, &[]);
        assert_eq!(answer.status, 502, "{fault:?}: {}", answer.head);
    }
    for fault in [Fault::TooLong, Fault::CutAfter(50_000), Fault::ResetAfter(50_000)] {
        mirror.heal();
        mirror.fault("/debian/notes", fault);
        let answer = fetch(proxy, &url, &[]);
        assert!(!(answer.status == 200 && answer.whole), "{fault:?} is not passed off as whole: {}", answer.head);
    }
    mirror.heal();
    assert!(fetch(proxy, &url, &[]).body == notes, "nothing of that was kept");
    mirror.server().vanish();
    assert_eq!(fetch(proxy, &url, &[]).status, 502, "it is gone");
    assert_eq!(fetch(proxy, "/", &[]).status, 200, "the daemon lives");
}

#[test]
fn with_the_hash_known_and_no_peer_the_mirrors_refusal_reaches_apt() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    let host = Host::start("refused", &mirror, &Config::default());
    host.apt().update().expect_success();
    let hello = archive.package("hello");
    let url = format!("http://{}{}", mirror.authority(), hello.url_path());
    for said in [404, 403, 500, 503] {
        mirror.heal();
        mirror.fault(&hello.url_path(), Fault::Status(said));
        let answer = fetch(host.daemon.proxy(), &url, &[]);
        assert_eq!((answer.status, answer.whole), (said, true), "{}", answer.head);
    }
    mirror.heal();
    assert!(fetch(host.daemon.proxy(), &url, &[]).body == hello.bytes());
}

#[test]
fn a_loopback_origin_that_nobody_allowed_is_refused_with_the_key_to_set() {
    let mirror = Mirror::start(Archive::shared().root());
    let config = Config { origin_allowed: false, ..Config::default() };
    let host = Host::start("ssrf", &mirror, &config);
    let stranger = Mirror::start(Archive::shared().root());
    for target in
        [format!("http://{}/debian/pool", stranger.authority()), format!("/{}/debian/pool", stranger.authority())]
    {
        let answer = fetch(host.daemon.proxy(), &target, &[]);
        assert_eq!(answer.status, 403, "{target}: {}", answer.head);
        assert!(answer.text().contains("origins"), "{}", answer.text());
    }
    assert!(stranger.server().requests("/").is_empty());
    let known =
        fetch(host.daemon.proxy(), &format!("http://{}/debian/dists/huddle/InRelease", mirror.authority()), &[]);
    assert_eq!(known.status, 200, "apt's own sources are allowed: {}", known.head);
}
