//! Mirrors that fail, lie about parts, or are several; and the proxy in between.

use std::time::{Duration, Instant};

use crate::harness::{
    PIECE,
    apt::{Apt, have_apt},
    archive::{Archive, SUITE},
    client::fetch,
    huddle::Host,
    machine::{Config, Machine, mirror_url},
    mirror::{Fault, Mirror},
};

/// A name that only the proxy knows.
const UNKNOWN: &str = "mirror.huddle.invalid";

/// A host with two mirrors of one archive in its sources, the first one first.
fn of_two(name: &str, first: &Mirror, second: &Mirror) -> (Host, Apt) {
    let machine = Machine::new(name, first);
    let lines = [first, second].map(|mirror| format!("deb {} {SUITE} main\n", mirror_url(&mirror.authority())));
    machine.write_sources(&lines.concat());
    let daemon = machine.start(&Config { more_public: vec![second.authority()], ..Config::default() });
    let host = Host { machine, daemon };
    let apt = host.apt();
    apt.update().expect_success();
    (host, apt)
}

#[test]
fn where_one_mirror_fails_another_of_the_same_repository_goes_on() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let faults = [
        ("huddle-69", Fault::CutAfter(3 * PIECE + 7)),
        ("huddle-70", Fault::ResetAfter(2 * PIECE)),
        ("huddle-5", Fault::Status(404)),
        ("huddle-4", Fault::Status(503)),
        ("huddle-2", Fault::Circle),
        ("huddle-1", Fault::TooLong),
        ("huddle-over", Fault::Hang),
        ("huddle-71", Fault::Slow(20_000)),
    ];
    let (first, second) = (Mirror::start(archive.root()), Mirror::start(archive.root()));
    let (host, _apt) = of_two("twins", &first, &second);
    for (name, fault) in faults {
        let package = archive.package(name);
        first.fault(&package.url_path(), fault);
        let start = Instant::now();
        let url = format!("http://{}{}", first.authority(), package.url_path());
        let answer = fetch(host.daemon.proxy(), &url, &[]);
        let took = start.elapsed();
        assert!(answer.status == 200 && answer.body == package.bytes(), "{fault:?}: {}", answer.head);
        let sent = [&first, &second].map(|mirror| mirror.server().sent(&package.url_path()));
        println!("{fault:?}: {took:?}, {sent:?} of {}", package.size);
        assert!(
            sent[1] > 0 && sent[0] + sent[1] <= package.size + 2 * PIECE,
            "{fault:?}: {sent:?} of {}",
            package.size
        );
        assert!(took < Duration::from_secs(20), "{fault:?}: {took:?}");
    }
    first.server().vanish();
    let hello = archive.package("hello");
    let url = format!("http://{}{}", first.authority(), hello.url_path());
    assert!(fetch(host.daemon.proxy(), &url, &[]).body == hello.bytes(), "the first one is gone altogether");
    host.machine.assert_store_is_whole();
}

#[test]
fn a_file_that_changes_between_two_parts_comes_anew_and_a_wrong_part_is_not_taken() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    let host = Host::start("changes", &mirror, &Config::default());
    host.apt().update().expect_success();
    let get = |name: &str| {
        let url = format!("http://{}{}", mirror.authority(), archive.package(name).url_path());
        fetch(host.daemon.proxy(), &url, &[])
    };

    let package = archive.package("huddle-5");
    mirror.fault(&package.url_path(), Fault::Changes(PIECE + 1000));
    let answer = get("huddle-5");
    assert!(!answer.whole, "old bytes do not pass for new ones");
    let again = get("huddle-5");
    assert!(again.whole && again.body == package.bytes(), "{}", again.head);
    let sent = mirror.server().sent(&package.url_path());
    assert!(sent <= package.size + 2 * PIECE, "once more from the front, and no more: {sent} of {}", package.size);

    let package = archive.package("huddle-69");
    mirror.fault(&package.url_path(), Fault::AlwaysChanges(2 * PIECE));
    assert!(!get("huddle-69").whole);
    let sent = mirror.server().sent(&package.url_path());
    assert!(sent <= 12 * 2 * PIECE, "it gives up: {sent}");

    for honest in [true, false] {
        let package = archive.package(if honest { "huddle-70" } else { "huddle-71" });
        mirror.fault(&package.url_path(), Fault::OtherRange { honest });
        let answer = get(&package.name);
        assert!(!answer.whole, "{honest}: a part of something else is not taken: {}", answer.head);
        let sent = mirror.server().sent(&package.url_path());
        assert!(sent <= 2 * package.size + 4 * PIECE, "{honest}: {sent} of {}", package.size);
    }
    mirror.fault("/debian/pool", Fault::Circle);
    assert_eq!(get("huddle-2").status, 502);
    assert!(mirror.server().requests(&archive.package("huddle-2").url_path()).len() <= 60, "a circle is left");
    mirror.heal();
    for name in ["huddle-69", "huddle-70", "huddle-71", "huddle-2"] {
        assert!(get(name).body == archive.package(name).bytes(), "{name}: healed");
    }
    host.machine.assert_store_is_whole();
}

#[test]
fn a_mirror_that_hangs_is_not_waited_for_by_each_request_anew_and_is_asked_again_when_it_is_back() {
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    let host = Host::start("broken", &mirror, &Config::default());
    let get = |path: &str| fetch(host.daemon.proxy(), &format!("http://{}{path}", mirror.authority()), &[]);
    mirror.fault("/debian/", Fault::Nothing);
    for n in 0..12 {
        assert_eq!(get(&format!("/debian/{n}")).status, 502);
    }
    let asked = mirror.server().requests("/debian/").len();
    let failing = host.daemon.status();
    assert_eq!(failing.0.pointer("/failing_mirrors/0/is_open"), Some(&true.into()), "{}", failing.0);
    assert!(host.daemon.page().contains(&mirror.authority()), "people see it");
    let refused = get("/debian/x");
    assert!(refused.text().contains("times in a row"), "{}", refused.text());
    assert!(asked <= 24, "a circuit opened: {asked} requests");
    mirror.heal();
    let start = Instant::now();
    while get("/debian/dists/huddle/InRelease").status != 200 {
        assert!(start.elapsed() < Duration::from_secs(15), "it is taken for dead no longer");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(host.daemon.status().number("/failing_mirrors"), 0);
}

#[test]
fn a_mirror_is_reached_through_the_proxy_that_alone_knows_it_and_a_circle_is_seen() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let proxy = Mirror::start(archive.root());
    let machine = Machine::new("behind", &proxy);
    machine.write_sources(&format!("deb {} {SUITE} main\n", mirror_url(UNKNOWN)));
    let upstream = format!("http://{}", proxy.authority());
    let daemon = machine.start(&Config { upstream, ..Config::default() });
    let host = Host { machine, daemon };
    let apt = host.apt();
    apt.update().expect_success();
    apt.download(&["huddle-5"]).expect_success();
    apt.assert_downloaded(archive.package("huddle-5"));
    let asked = proxy.server().requests(&format!("http://{UNKNOWN}/debian/"));
    assert!(!asked.is_empty(), "it was asked in absolute form");
    let via = asked[0].field("via").expect("it says who asks").to_owned();

    let url = format!("http://{UNKNOWN}/debian/dists/{SUITE}/InRelease");
    assert_eq!(fetch(host.daemon.proxy(), &url, &[&format!("Via: 1.0 other, {via}")]).status, 508);
    assert_eq!(fetch(host.daemon.proxy(), &url, &["Via: 1.1 apt-huddle-0"]).status, 200);

    // A name that has no address here, and loopback by its number, are nothing that the proxy is asked for.
    let stranger = fetch(host.daemon.proxy(), "http://stranger.huddle.invalid/debian/x", &[]);
    assert!(stranger.status == 403 && stranger.text().contains("origins"), "{}", stranger.text());
    assert_eq!(fetch(host.daemon.proxy(), "http://127.0.0.1:9/debian/x", &[]).status, 403);
    assert!(proxy.server().requests("http://stranger").is_empty() && proxy.server().requests("http://127").is_empty());
}
