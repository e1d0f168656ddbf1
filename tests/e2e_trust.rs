//! Trust: what is signed is learned in every form, what was tampered with is refused, shown, and left to apt to judge.

use std::{fs, time::Duration};

use apt_huddle::hash::ContentHash;

use crate::harness::{
    apt::{Way, have_apt},
    archive::{Archive, FIRST_DATE, LATER_DATE, Package},
    client::fetch,
    daemon::Daemon,
    deb::Size,
    huddle::{Host, Huddle},
    liar::Liar,
    machine::{Config, mirror_url},
    mirror::{Fault, Mirror},
    suite::{self, Form, Signature, Signer, Suite},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A package whose hash nobody signed is passed on from the mirror, and no peer is asked for it.
fn assert_comes_from_the_mirror_alone(huddle: &Huddle, daemon: &Daemon, package: &Package) {
    let before = (daemon.status().bytes_from_peers(), huddle.mirror.pool_bytes());
    let target = format!("http://{}{}", huddle.mirror.authority(), package.url_path());
    assert!(fetch(daemon.proxy(), &target, &[]).body == package.bytes());
    assert_eq!(daemon.status().bytes_from_peers(), before.0, "nobody is asked for what nobody signed");
    assert_eq!(huddle.mirror.pool_bytes() - before.1, package.size);
}

#[test]
fn hashes_are_learned_from_each_compression_with_and_without_by_hash() {
    if !have_apt() {
        return;
    }
    // Of more than one piece: those of one are looked for among hosts of the same suite.
    let package = Archive::shared().package("huddle-2");
    let mut huddle = Huddle::of(&[Config::default()]);
    for (host, suite) in ["huddle", "gz", "plain", "xz"].into_iter().enumerate().skip(1) {
        huddle.join(Config { mirror: "last", ..Config::default() });
        if host == 1 {
            huddle.give(0, &[package]);
        }
        let taken = huddle.mirror.pool_bytes();
        let url = mirror_url(&huddle.mirror.authority());
        huddle[host].machine.write_sources(&format!("deb {url} {suite} main\n"));
        let apt = huddle[host].apt();
        apt.update().expect_success();
        apt.install(&["huddle-2"]).expect_success();
        apt.assert_installed(package);
        assert_eq!(huddle.mirror.pool_bytes(), taken, "the hash was learned from suite {suite}");
    }
}

#[test]
fn an_index_whose_hash_is_signed_comes_from_peers_where_the_mirror_fails() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let hello = archive.package("hello");
    let huddle = Huddle::of(&[Config::default(), Config::default()]);
    huddle.give(0, &[hello]);
    let index = fs::read(archive.root().join("debian/dists/huddle/main/binary-amd64/Packages.xz")).expect("published");
    let (index, size) = (ContentHash::of(&index).to_string(), index.len() as u64);
    huddle.probe.wait_for(huddle[0].daemon.peers(), (&index, size), &huddle.nodes());
    huddle.mirror.fault("/debian/dists/huddle/main", Fault::Status(500));
    let apt = huddle[1].apt();
    apt.update().expect_success();
    apt.install(&["hello"]).expect_success();
    apt.assert_installed(hello);
}

#[test]
fn where_the_mirror_has_no_by_hash_apt_falls_back_and_the_plain_name_is_learned() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    mirror.fault("/debian/dists/huddle/main/binary-amd64/by-hash", Fault::Status(404));
    let host = Host::start("fallback", &mirror, &Config::default());
    let apt = host.apt();
    apt.update().expect_success();
    apt.install(&["hello"]).expect_success();
    assert!(host.daemon.status().recent(&archive.package("hello").sha256).is_some());
}

#[test]
fn a_key_counts_only_for_the_source_that_names_it() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let branch = archive.branch();
    let debian = branch.path().join("debian");
    let other = Signer::new("Another Archive");
    archive.suite("huddle").publish(&debian, &other);
    let mirror = Mirror::start(branch.path());
    let host = Host::start("scoped", &mirror, &Config::default());
    let url = mirror_url(&mirror.authority());
    let key = host.machine.dir().join("other.asc");
    fs::write(&key, other.armored()).expect("the scratch directory is ours");

    let apt = host.apt();
    apt.update().expect_complaint();
    assert_eq!(host.daemon.status().releases(), [0, 1, 0], "the default keyrings do not know the key");
    assert!(host.machine.objects().is_empty());
    let path = archive.package("hello").url_path();
    let target = format!("http://{}{path}", mirror.authority());
    assert!(fetch(host.daemon.proxy(), &target, &[]).whole, "passed through");
    assert!(host.daemon.status().recent(&archive.package("hello").sha256).is_none(), "but not as a file of known hash");

    host.machine.write_sources(&format!("deb [signed-by={}] {url} huddle main\n", key.display()));
    drop(host.daemon);
    let daemon = host.machine.start(&Config::default());
    let apt = host.machine.apt(Way::Proxy(daemon.proxy()));
    apt.update().expect_success();
    apt.install(&["hello"]).expect_success();
    assert!(daemon.status().recent(&archive.package("hello").sha256).is_some());
    assert_eq!(daemon.status().releases(), [1, 0, 0]);

    // A stranger who signs anew is no one without a name: the key that must have signed is known.
    archive.suite("huddle").publish(&debian, &Signer::new("A Stranger"));
    mirror.serve(branch.path());
    let target = format!("http://{}/debian/dists/huddle/InRelease", mirror.authority());
    let passed = fetch(daemon.proxy(), &target, &[]);
    assert!(passed.whole && passed.body == fs::read(suite::release_file(&debian, "huddle")).expect("published"));
    assert_eq!(daemon.status().releases(), [1, 0, 1]);
    assert!(daemon.shows_refusal("/dists/huddle/InRelease"), "{}", daemon.page());
}

#[test]
fn a_tampered_release_is_refused_shown_and_passed_to_apt_as_it_is() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let branch = archive.branch();
    let debian = branch.path().join("debian");
    archive.suite("huddle").publish(&debian, archive.signer());
    suite::tamper_with_release(&debian, "huddle");
    let huddle = Huddle::of(&[Config::default(), Config { mirror: "last", ..Config::default() }]);
    let hello = archive.package("hello");
    huddle.give(0, &[hello]);
    huddle.mirror.serve(branch.path());

    let run = huddle[1].apt().update().expect_complaint();
    assert!(run.text.contains("invalid"), "apt decides, and says what it says without us: {}", run.text);
    let daemon = &huddle[1].daemon;
    let target = format!("http://{}/debian/dists/huddle/InRelease", huddle.mirror.authority());
    let passed = fetch(daemon.proxy(), &target, &[]);
    assert!(passed.whole && passed.body == fs::read(suite::release_file(&debian, "huddle")).expect("published"));
    assert!(daemon.shows_refusal("/dists/huddle/InRelease"), "{}", daemon.page());

    assert_comes_from_the_mirror_alone(&huddle, daemon, hello);

    huddle.mirror.serve(archive.root());
    let apt = huddle[1].apt();
    apt.update().expect_success();
    apt.install(&["huddle-2"]).expect_success();
    huddle[1].machine.assert_store_is_whole();
}

#[test]
fn a_release_with_its_signature_beside_it_is_learned_from() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let hello = archive.package("hello");
    let branch = archive.branch();
    let debian = branch.path().join("debian");
    Suite { signature: Signature::Beside, ..archive.suite("huddle") }.publish(&debian, archive.signer());
    let huddle = Huddle::of(&[Config::default(), Config { mirror: "last", ..Config::default() }]);
    huddle.give(0, &[hello]);
    huddle.mirror.serve(branch.path());

    let taken = huddle.mirror.pool_bytes();
    let apt = huddle[1].apt();
    apt.update().expect_success();
    apt.install(&["hello"]).expect_success();
    apt.assert_installed(hello);
    assert_eq!(huddle.mirror.pool_bytes(), taken, "the hash is known, and a peer has the file");
    assert!(huddle[1].daemon.status().bytes_from_peers() >= hello.size);
    assert!(huddle[1].daemon.status().refused().is_empty() && !huddle[1].daemon.page().contains(">Refused<"));
}

#[test]
fn a_wrong_signature_beside_a_release_is_refused_shown_and_passed_to_apt_as_it_is() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let hello = archive.package("hello");
    let branch = archive.branch();
    let debian = branch.path().join("debian");
    Suite { signature: Signature::Beside, ..archive.suite("huddle") }.publish(&debian, archive.signer());
    suite::tamper_with_signature(&debian, "huddle", archive.signer());
    let huddle = Huddle::of(&[Config::default(), Config { mirror: "last", ..Config::default() }]);
    huddle.give(0, &[hello]);
    huddle.mirror.serve(branch.path());

    let run = huddle[1].apt().update().expect_complaint();
    assert!(run.text.contains("invalid"), "apt decides, and says what it says without us: {}", run.text);
    let daemon = &huddle[1].daemon;
    assert!(daemon.shows_refusal("/dists/huddle/Release"), "{}", daemon.page());
    let signature =
        fetch(daemon.proxy(), &format!("http://{}/debian/dists/huddle/Release.gpg", huddle.mirror.authority()), &[]);
    assert!(signature.whole && signature.body == fs::read(debian.join("dists/huddle/Release.gpg")).expect("published"));

    assert_comes_from_the_mirror_alone(&huddle, daemon, hello);
}

#[test]
fn a_tampered_packages_file_is_refused_and_shown_and_nothing_is_learned_from_it() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let hello = archive.package("hello");
    let branch = archive.branch();
    let debian = branch.path().join("debian");
    archive.suite("huddle").publish(&debian, archive.signer());
    suite::tamper_with_packages(&debian, "huddle", hello);
    let mirror = Mirror::start(branch.path());
    let host = Host::start("tampered", &mirror, &Config::default());
    let apt = host.apt();
    apt.update().expect_complaint();
    host.daemon.until("the page shows the refusal", PATIENCE, |_| host.daemon.shows_refusal("/main/binary-amd64/"));
    let target = format!("http://{}{}", mirror.authority(), hello.url_path());
    let answer = fetch(host.daemon.proxy(), &target, &[]);
    assert!(answer.whole && answer.body == hello.bytes(), "the true file is not held against the forged hash");
    assert!(host.machine.objects().iter().all(|(hash, _)| *hash != hello.sha256), "nor kept as vouched for");

    mirror.serve(archive.root());
    apt.update().expect_success();
    apt.install(&["hello"]).expect_success();
    apt.assert_installed(hello);
}

#[test]
fn a_release_with_another_date_takes_over_and_an_older_one_does_not() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let branch = archive.branch();
    let debian = branch.path().join("debian");
    let newer = Package::create(&debian, "pool-new", "hello", "2.11", Size::Whole(40_000), 11);
    Suite { date: LATER_DATE, packages: vec![newer.clone()], ..archive.suite("huddle") }
        .publish(&debian, archive.signer());

    let huddle = Huddle::of(&[Config::default(), Config::default()]);
    let old = archive.package("hello");
    huddle.give(0, &[old]);
    let peer = huddle[0].daemon.peers();
    assert_eq!(fetch(peer, &Liar::path(&old.sha256), &[]).status, 200);
    huddle.mirror.serve(branch.path());
    let apt = huddle[0].apt();
    apt.update().expect_success();
    apt.install(&["hello"]).expect_success();
    apt.assert_installed(&newer);
    huddle.wait_until_known(0, &newer);
    let gone = fetch(peer, &Liar::path(&old.sha256), &[]).status;
    assert_eq!(gone, 404, "who still holds what is superseded does not say so to strangers");

    // A mirror that lags behind takes nothing back.
    huddle.mirror.serve(archive.root());
    let [verified, unverifiable, bad] = huddle[0].daemon.status().releases();
    huddle[0].apt().update();
    assert_eq!(huddle[0].daemon.status().releases(), [verified, unverifiable, bad + 1], "it is bad, and nothing else");
    assert_eq!(fetch(peer, &Liar::path(&newer.sha256), &[]).status, 200);
    assert_eq!(fetch(peer, &Liar::path(&old.sha256), &[]).status, 404);
}

#[test]
fn an_index_that_lists_paths_outside_of_its_repository_teaches_only_the_rest() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let branch = archive.branch();
    let debian = branch.path().join("debian");
    let hello = archive.package("hello");
    let outside = Package { name: "outside".into(), path: "../../etc/passwd".into(), ..hello.clone() };
    let suite = Suite {
        date: FIRST_DATE,
        forms: vec![Form::Xz],
        packages: vec![outside, hello.clone()],
        ..archive.suite("huddle")
    };
    suite.publish(&debian, archive.signer());
    let mirror = Mirror::start(branch.path());
    let host = Host::start("outside", &mirror, &Config::default());
    let apt = host.apt();
    apt.update();
    apt.install(&["hello"]).expect_success();
    apt.assert_installed(hello);
    assert!(host.daemon.status().recent(&hello.sha256).is_some(), "the honest entry was learned");
}
