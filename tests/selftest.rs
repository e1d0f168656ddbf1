//! The harness itself: what it builds is what the tests think it is.

use std::{net::SocketAddr, process::Command, thread, time::Duration};

use apt_huddle::hash::ContentHash;

use crate::harness::{
    PIECE,
    apt::{Way, have_apt},
    archive::Archive,
    client::{fetch, speak},
    daemon::{Daemon, bare},
    have,
    liar::{Liar, Tale},
    machine::Machine,
    mirror::{Fault, Mirror},
    own_network,
    server::most_often,
    suite,
};

#[test]
fn packages_have_the_wanted_sizes_and_dpkg_reads_them() {
    let archive = Archive::shared();
    for pieces in [1, 2, 4, 5, 69, 70, 71, 200] {
        assert_eq!(archive.package(&format!("huddle-{pieces}")).pieces(), pieces);
    }
    assert_eq!(archive.package("huddle-exact").size, PIECE);
    assert_eq!(archive.package("huddle-over").size, PIECE + 1);
    for package in archive.packages() {
        assert_eq!(package.file.metadata().expect("it was written").len(), package.size, "{}", package.name);
    }
    assert_eq!(archive.package("hello").sha256, ContentHash::of(&archive.package("hello").bytes()).to_string());
    if have("dpkg-deb") {
        for name in ["hello", "huddle-empty", "huddle-exact", "huddle-over"] {
            let package = archive.package(name);
            let listed =
                bare(Command::new("dpkg-deb")).arg("--contents").arg(&package.file).output().expect("dpkg-deb");
            let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
            assert!(listed.contains(&format!("./usr/share/{name}/data")), "{name}: {listed}");
        }
    }
}

#[test]
fn real_apt_installs_every_package_straight_from_the_mirror() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    let machine = Machine::new("direct-", &mirror);
    let apt = machine.apt(Way::Direct);
    apt.update().expect_success();
    let names: Vec<_> = archive.packages().iter().map(|package| package.name.as_str()).collect();
    apt.install(&names).expect_success();
    archive.packages().iter().for_each(|package| apt.assert_installed(package));
    assert_eq!(mirror.pool_bytes(), archive.pool_size());
    assert!(apt.update().expect_success().text.contains("Hit:1"), "an unchanged InRelease is not sent again");
}

#[test]
fn real_apt_takes_each_compression_and_refuses_what_was_tampered_with() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let branch = archive.branch();
    let debian = branch.path().join("debian");
    for name in ["forged-release", "forged-packages", "newer"] {
        archive.suite(name).publish(&debian, archive.signer());
    }
    suite::tamper_with_release(&debian, "forged-release");
    suite::tamper_with_packages(&debian, "forged-packages", archive.package("hello"));

    let mirror = Mirror::start(archive.root());
    let machine = Machine::new("forms-", &mirror);
    let apt = machine.apt(Way::Direct);
    for suite in ["gz", "plain", "xz"] {
        machine.write_sources(&format!("deb http://{}/debian {suite} main\n", mirror.authority()));
        apt.update().expect_success();
        apt.download(&["hello"]).expect_success();
        apt.clean();
    }
    mirror.serve(branch.path());
    for (suite, accepted) in [("newer", true), ("forged-release", false), ("forged-packages", false)] {
        machine.write_sources(&format!("deb http://{}/debian {suite} main\n", mirror.authority()));
        let run = apt.update();
        if accepted {
            run.expect_success()
        } else {
            run.expect_complaint()
        };
    }
}

#[test]
fn the_mirror_counts_and_misbehaves_as_it_is_told() {
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    let hello = archive.package("hello");
    let path = hello.url_path();
    let whole = fetch(mirror.addr(), &path, &[]);
    assert_eq!((whole.status, whole.whole, whole.body == hello.bytes()), (200, true, true));
    let date = format!("If-Modified-Since: {}", unlower(whole.field("last-modified").expect("it says so")));
    assert_eq!(fetch(mirror.addr(), &path, &[&date]).status, 304);
    let part = fetch(mirror.addr(), &path.replace('+', "%2b"), &["Range: bytes=100-199"]);
    assert_eq!((part.status, &part.body[..]), (206, &hello.bytes()[100..200]));
    assert_eq!(fetch(mirror.addr(), &path, &["Range: bytes=99999999-"]).status, 416);
    assert_eq!(mirror.pool_bytes(), hello.size + 100);
    assert_eq!(most_often(&mirror.server().spans(&path)), 2);
    assert_eq!(mirror.server().requests(&path).len(), 4);

    let mut answers = Vec::new();
    for fault in
        [Fault::Status(500), Fault::Garbage, Fault::TooLong, Fault::TooShort, Fault::Nothing, Fault::CutAfter(10_000)]
    {
        mirror.heal();
        mirror.fault(&path, fault);
        let answer = fetch(mirror.addr(), &path, &[]);
        answers.push((answer.status, answer.whole, answer.body.len() as u64));
    }
    let size = hello.size;
    let garbled = answers.remove(1);
    assert_eq!((garbled.0, garbled.1), (0, false));
    let wanted = [(500, true, 21), (200, false, size), (200, true, size - 1000), (0, false, 0), (200, false, 10_000)];
    assert_eq!(answers, wanted);
    mirror.heal();
    mirror.fault(&path, Fault::Lie);
    let lie = fetch(mirror.addr(), &path, &[]);
    assert!(lie.whole && lie.body.len() as u64 == size && lie.body != hello.bytes());
}

#[test]
fn a_stalled_mirror_goes_on_when_it_is_healed_and_a_vanished_one_is_gone() {
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    let path = archive.package("huddle-2").url_path();
    mirror.fault(&path, Fault::StallAfter(70_000));
    let addr = mirror.addr();
    let reading = thread::spawn({
        let path = path.clone();
        move || fetch(addr, &path, &[])
    });
    crate::harness::eventually("the mirror stalls", Duration::from_secs(10), || {
        (mirror.server().sent(&path) == 70_000).then_some(())
    });
    mirror.heal();
    assert!(reading.join().expect("a plain read").whole);
    mirror.server().vanish();
    assert_eq!(fetch(addr, &path, &[]).status, 0);
}

#[test]
fn a_tale_is_what_it_says() {
    let archive = Archive::shared();
    let package = archive.package("huddle-4");
    let (honest, lie) = (Tale::honest(package), Tale::consistent_lie(package, &[1]));
    assert_eq!(honest.bytes(), package.bytes());
    assert_ne!(lie.bytes(), package.bytes());

    let liar = Liar::start(vec![lie]);
    let path = Liar::path(&package.sha256);
    let chain = fetch(liar.addr(), &format!("{path}/pieces"), &[]);
    assert_eq!(chain.body.len(), 3 * 32);
    let digest = ContentHash::of(&chain.body).to_string();
    let part = fetch(liar.addr(), &path, &[&format!("Range: bytes={PIECE}-{}", PIECE + 199)]);
    assert_eq!((part.status, part.field("x-huddle-chain")), (206, Some(digest.as_str())));
    assert_eq!(part.body[100], package.bytes()[PIECE as usize + 100] ^ 0xff);
    assert_eq!(fetch(liar.addr(), &Liar::path(&archive.package("hello").sha256), &[]).status, 404);
}

#[test]
fn a_process_is_watched_asked_and_ended() {
    let script = |text: &str| {
        let mut command = bare(Command::new("sh"));
        command.args(["-c", text]);
        command
    };
    let mut up = Daemon::start_as(
        "stand-in",
        script(
            "trap 'exit 0' TERM; echo status page: http://127.0.0.1:1/; echo peers: 127.3.3.3:3; \
             while :; do sleep 0.1; done",
        ),
        true,
    )
    .expect("it speaks as a daemon does");
    assert_eq!((up.proxy().port(), up.peers()), (1, SocketAddr::from(([127, 3, 3, 3], 3))));
    assert!(up.stop("TERM").0.success());
    let down = Daemon::start_as("stand-in", script("echo no >&2; exit 2"), true);
    let (status, log) = down.err().expect("it ended before it was up");
    assert_eq!((status.code(), log.as_str()), (Some(2), "no\n"));
}

#[test]
fn networks_are_not_shared_and_odd_requests_are_sent_as_they_are() {
    let networks: Vec<_> = (0..300).map(|_| own_network()).collect();
    let mut of_24: Vec<_> = networks.iter().map(|ip| ip.octets()[..3].to_vec()).collect();
    of_24.sort();
    of_24.dedup();
    assert_eq!(of_24.len(), networks.len());
    let mirror = Mirror::start(Archive::shared().root());
    assert_eq!(speak(mirror.addr(), "GET /nothing HTTP/1.1\r\nConnection: close\r\n\r\n").status, 404);
}

/// An IMF-fixdate has one spelling; the client gives fields in lower case.
fn unlower(date: &str) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    let words: Vec<_> = date.split(' ').map(capital).collect();
    words.join(" ").replace("Gmt", "GMT")
}
