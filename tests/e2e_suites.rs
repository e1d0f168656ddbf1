//! Publications: a suite flips from one to the next while clients are behind, beside each other, or at a mirror half-way.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Barrier,
    thread,
    time::Duration,
};

use apt_huddle::hash::ContentHash;
use tempfile::TempDir;

use crate::harness::{
    apt::{Apt, Way, have_apt},
    archive::{Archive, LATER_DATE, Package},
    client::fetch,
    deb::Size,
    eventually,
    huddle::Host,
    machine::{Config, Machine},
    mirror::Mirror,
    scratch,
    suite::{Form, Suite},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// The suite's folder of indexes, below the archive's base.
const FOLDER: &str = "dists/huddle/main/binary-amd64";

/// The shared archive is the first publication; the second has another `hello` and nothing else.
struct Scene {
    later: TempDir,
    newer: Package,
    mirror: Mirror,
    host: Host,
}

impl Scene {
    fn set(name: &str) -> Self {
        let archive = Archive::shared();
        let later = archive.branch();
        let debian = later.path().join("debian");
        let newer = Package::create(&debian, "pool-new", "hello", "2.11", Size::Whole(40_000), 11);
        Suite { date: LATER_DATE, packages: vec![newer.clone()], ..archive.suite("huddle") }
            .publish(&debian, archive.signer());
        let mirror = Mirror::start(archive.root());
        let host = Host::start(name, &mirror, &Config::default());
        Self { later, newer, mirror, host }
    }

    /// Another machine that has the host's daemon for a proxy.
    fn client(&self, name: &str) -> (Machine, Apt) {
        let machine = Machine::new(name, &self.mirror);
        let apt = machine.apt(Way::Proxy(self.host.daemon.proxy()));
        (machine, apt)
    }

    fn fetch(&self, path: &str) -> Vec<u8> {
        let answer = fetch(self.host.daemon.proxy(), &format!("http://{}/debian/{path}", self.mirror.authority()), &[]);
        assert!(answer.status == 200 && answer.whole, "{path}: {}", answer.head);
        answer.body
    }

    /// How often a Packages file of this many entries was learned.
    fn times_learned(&self, files: usize) -> usize {
        let is_of = |line: &&str| line.contains("learned ") && line.ends_with(&format!(" files={files}"));
        self.host.daemon.log().lines().filter(is_of).count()
    }

    fn until_learned(&self, files: usize) {
        self.host.daemon.until("it has learned", PATIENCE, |_| self.times_learned(files) > 0);
    }

    /// A mirror's folder with the Release of one publication and the indexes of another.
    fn half_way(&self, release: &Path, indexes: &Path) -> TempDir {
        let mixed = scratch("half-way-");
        let (debian, dists) = (mixed.path().join("debian"), mixed.path().join("debian/dists/huddle"));
        fs::create_dir_all(&dists).expect("the scratch directory is ours");
        fs::copy(release.join("debian/dists/huddle/InRelease"), dists.join("InRelease")).expect("a published suite");
        symlink(indexes.join("debian/dists/huddle/main"), dists.join("main")).expect("the scratch directory is ours");
        for pool in ["pool", "pool-new"] {
            symlink(self.later.path().join("debian").join(pool), debian.join(pool))
                .expect("the scratch directory is ours");
        }
        mixed
    }
}

fn hello() -> &'static Package {
    Archive::shared().package("hello")
}

fn all() -> usize {
    Archive::shared().packages().len()
}

fn indexes(root: &Path) -> PathBuf {
    root.join("debian").join(FOLDER)
}

#[test]
fn clients_that_update_the_same_suite_at_once_are_all_served_and_it_is_learned_once() {
    if !have_apt() {
        return;
    }
    let scene = Scene::set("at-once");
    let clients = ["one", "two", "three"].map(|name| scene.client(name));
    for (publication, package, files) in
        [(Archive::shared().root(), hello(), all()), (scene.later.path(), &scene.newer, 1)]
    {
        scene.mirror.serve(publication);
        let start = Barrier::new(clients.len());
        thread::scope(|scope| {
            for (_, apt) in &clients {
                scope.spawn(|| {
                    start.wait();
                    apt.update().expect_success();
                    apt.install(&["hello"]).expect_success();
                    apt.assert_installed(package);
                });
            }
        });
        scene.until_learned(files);
        assert_eq!(scene.times_learned(files), 1, "{}", scene.host.daemon.log());
        let recent = scene.host.daemon.status().recent(&package.sha256);
        assert!(recent.is_some(), "it was vouched for");
    }
    assert_eq!(scene.host.daemon.status().refused(), [""; 0]);
}

#[test]
fn a_client_one_publication_behind_is_served_while_others_go_on_and_the_newer_stands() {
    if !have_apt() {
        return;
    }
    let scene = Scene::set("behind");
    let (_behind, behind) = scene.client("behind");
    let (_ahead, ahead) = scene.client("ahead");
    behind.update().expect_success();
    scene.until_learned(all());
    scene.mirror.serve(scene.later.path());
    let start = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            behind.install(&["hello"]).expect_success();
            behind.assert_installed(hello());
        });
        scope.spawn(|| {
            start.wait();
            ahead.update().expect_success();
            ahead.install(&["hello"]).expect_success();
            ahead.assert_installed(&scene.newer);
        });
    });
    scene.until_learned(1);
    // What is superseded is still known, and proven: both are held.
    for package in [hello(), &scene.newer] {
        assert!(scene.host.machine.objects().iter().any(|(hash, _)| *hash == package.sha256), "{}", package.version);
    }

    // A mirror that lags behind answers another client; what was learned stays.
    scene.mirror.serve(Archive::shared().root());
    let (_lags, lags) = scene.client("lags");
    lags.update();
    scene.host.daemon.until("the older Release is refused", PATIENCE, |status| !status.refused().is_empty());
    assert_eq!((scene.times_learned(all()), scene.times_learned(1)), (1, 1));
    scene.mirror.server().vanish();
    let by_name = scene.fetch(&format!("{FOLDER}/Packages.xz"));
    assert!(by_name == fs::read(indexes(scene.later.path()).join("Packages.xz")).expect("published"));
}

#[test]
fn an_index_of_the_release_before_is_answered_by_its_hash() {
    if !have_apt() {
        return;
    }
    let scene = Scene::set("flip");
    let archive = Archive::shared();
    for (root, files) in [(archive.root(), all()), (scene.later.path(), 1)] {
        scene.mirror.serve(root);
        scene.host.apt().update().expect_success();
        scene.until_learned(files);
    }
    // The mirror has no by-hash file of the first publication any more, and then nothing at all.
    for is_there in [true, false] {
        if !is_there {
            scene.mirror.server().vanish();
        }
        for root in [archive.root(), scene.later.path()] {
            let index = fs::read(indexes(root).join("Packages.xz")).expect("published");
            let by_hash = format!("{FOLDER}/by-hash/SHA256/{}", ContentHash::of(&index));
            assert!(scene.fetch(&by_hash) == index, "{} with the mirror: {is_there}", root.display());
        }
        let by_name = scene.fetch(&format!("{FOLDER}/Packages.xz"));
        assert!(by_name == fs::read(indexes(scene.later.path()).join("Packages.xz")).expect("published"));
    }
}

#[test]
fn a_new_release_with_the_indexes_of_the_one_before_yields_no_wrong_promise() {
    if !have_apt() {
        return;
    }
    let scene = Scene::set("old-indexes");
    let (_behind, behind) = scene.client("behind");
    behind.update().expect_success();
    scene.until_learned(all());
    let mixed = scene.half_way(scene.later.path(), Archive::shared().root());
    scene.mirror.serve(mixed.path());
    let (_ahead, ahead) = scene.client("ahead");
    ahead.update().expect_complaint();
    assert_eq!(scene.times_learned(1), 0);
    assert_eq!(scene.times_learned(all()), 1, "the old index is not the new Release's");
    behind.install(&["hello"]).expect_success();
    behind.assert_installed(hello());

    scene.mirror.serve(scene.later.path());
    ahead.update().expect_success();
    ahead.install(&["hello"]).expect_success();
    ahead.assert_installed(&scene.newer);
    scene.until_learned(1);
}

#[test]
fn an_old_release_with_the_indexes_of_the_next_yields_no_wrong_promise() {
    if !have_apt() {
        return;
    }
    let scene = Scene::set("new-indexes");
    let mixed = scene.half_way(Archive::shared().root(), scene.later.path());
    scene.mirror.serve(mixed.path());
    let (_early, early) = scene.client("early");
    early.update().expect_complaint();
    assert_eq!((scene.times_learned(1), scene.times_learned(all())), (0, 0));
    assert!(scene.fetch(&scene.newer.path) == scene.newer.bytes(), "it goes past");
    let is_kept = scene.host.machine.objects().iter().any(|(hash, _)| *hash == scene.newer.sha256);
    assert!(!is_kept, "nobody vouches for it yet");

    scene.mirror.serve(scene.later.path());
    early.update().expect_success();
    early.install(&["hello"]).expect_success();
    early.assert_installed(&scene.newer);
    assert!(scene.host.machine.objects().iter().any(|(hash, _)| *hash == scene.newer.sha256));
}

/// An index half as large as that of Debian's main.
#[test]
fn what_learning_takes_of_memory_is_given_back() {
    const FILES: usize = 30_000;
    const GROWTH: u64 = 4_000;
    const GIVEN_BACK: Duration = Duration::from_secs(3);
    let archive = Archive::shared();
    let branch = archive.branch();
    let entry = |n: usize| Package {
        name: format!("package-of-some-length-{n}"),
        path: format!("pool/main/p/package-of-some-length-{n}/package-of-some-length-{n}_1.2.3-4_all.deb"),
        sha256: ContentHash::of(&n.to_be_bytes()).to_string(),
        ..hello().clone()
    };
    let suite =
        Suite { forms: vec![Form::Plain], packages: (0..FILES).map(entry).collect(), ..archive.suite("huddle") };
    suite.publish(&branch.path().join("debian"), archive.signer());
    let mirror = Mirror::start(branch.path());
    let host = Host::start("memory", &mirror, &Config::default());
    // In kB, as the kernel says; what is mapped from files is not counted.
    let memory = || {
        let status = fs::read_to_string(format!("/proc/{}/status", host.daemon.pid())).expect("it runs");
        let value = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
        value.and_then(|value| value.parse::<u64>().ok()).expect("the kernel's own form")
    };
    let get = |path: &str| {
        let answer = fetch(host.daemon.proxy(), &format!("http://{}/debian/{path}", mirror.authority()), &[]);
        assert!(answer.status == 200 && answer.whole, "{path}: {}", answer.head);
    };
    get("dists/huddle/InRelease");
    let before = memory();
    get(&format!("{FOLDER}/Packages"));
    host.daemon.until("it has learned", PATIENCE, |_| host.daemon.log().contains(&format!("files={FILES}")));
    eventually("the memory is given back", GIVEN_BACK, || (memory() <= before + GROWTH).then_some(()));
}
