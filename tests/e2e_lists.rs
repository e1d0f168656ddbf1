//! apt's own lists: what apt fetched past the daemon is known to it too, with the same proof and no other.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use flate2::write::GzEncoder;
use lz4_flex::frame::FrameEncoder;

use crate::harness::{
    apt::{Apt, Way, have_apt},
    archive::{Archive, LATER_DATE, Package},
    daemon::Daemon,
    huddle::Huddle,
    machine::{Config, Machine, mirror_url},
    suite::{Signature, Suite},
};

const PATIENCE: Duration = Duration::from_secs(60);

fn hello() -> &'static Package {
    Archive::shared().package("hello")
}

/// Of two hosts one has `hello`, and a third has run `apt-get update` without a daemon.
struct Scene {
    huddle: Huddle,
    machine: Machine,
}

impl Scene {
    fn set(suite: &str) -> Self {
        let huddle = Huddle::of(&[Config::default(), Config::default()]);
        huddle.give(0, &[hello()]);
        let machine = Machine::new("lists", &huddle.mirror);
        machine.write_sources(&format!("deb {} {suite} main\n", mirror_url(&huddle.mirror.authority())));
        Self { huddle, machine }
    }

    /// apt's own update, past the daemon.
    fn update(&self) -> Apt {
        let apt = self.machine.apt(Way::Direct);
        apt.update().expect_success();
        apt
    }

    fn start(&self) -> Daemon {
        let bootstrap = vec![self.huddle[0].daemon.peers()];
        let daemon = self.machine.start(&Config { bootstrap, own_lists: true, mirror: "last", ..Config::default() });
        daemon.until("it knows the others", PATIENCE, |status| status.nodes() >= 2);
        daemon
    }

    /// The file of apt's lists that ends so.
    fn list(&self, end: &str) -> PathBuf {
        let lists = self.machine.dir().join("var/lib/apt/lists");
        let mut files = fs::read_dir(lists).expect("apt has updated").flatten().map(|entry| entry.path());
        files
            .find(|path| path.to_string_lossy().ends_with(end))
            .unwrap_or_else(|| panic!("a list that ends with {end}"))
    }

    /// Installs `hello`, and says how many bytes of the pool came from the mirror.
    fn install(&self, daemon: &Daemon) -> u64 {
        let before = self.huddle.mirror.pool_bytes();
        let apt = self.machine.apt(Way::Proxy(daemon.proxy()));
        apt.install(&["hello"]).expect_success();
        apt.assert_installed(hello());
        self.huddle.mirror.pool_bytes() - before
    }
}

fn lz4(path: &Path) {
    let mut encoder = FrameEncoder::new(Vec::new());
    encoder.write_all(&fs::read(path).expect("a list")).expect("memory");
    fs::write(with_end(path, ".lz4"), encoder.finish().expect("memory")).expect("the scratch directory is ours");
    fs::remove_file(path).expect("the scratch directory is ours");
}

/// With a compressor that is not the archive's, so that these bytes are listed nowhere.
fn gz(path: &Path) {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::none());
    encoder.write_all(&fs::read(path).expect("a list")).expect("memory");
    fs::write(with_end(path, ".gz"), encoder.finish().expect("memory")).expect("the scratch directory is ours");
    fs::remove_file(path).expect("the scratch directory is ours");
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    PathBuf::from(format!("{}{end}", path.display()))
}

#[test]
fn a_package_comes_from_peers_before_the_first_update_through_the_daemon_whatever_form_the_lists_have() {
    if !have_apt() {
        return;
    }
    for name in ["plain", "lz4", "gz"] {
        let scene = Scene::set("huddle");
        scene.update();
        let list = scene.list("_Packages");
        match name {
            "lz4" => lz4(&list),
            "gz" => gz(&list),
            _ => {}
        }
        let daemon = scene.start();
        assert_eq!(scene.install(&daemon), 0, "{name}: {}", daemon.log());
        assert!(daemon.log().contains("learned from apt's lists"), "{name}");
    }
}

#[test]
fn what_apt_fetches_past_a_running_daemon_is_learned_when_it_is_there() {
    if !have_apt() {
        return;
    }
    let scene = Scene::set("huddle");
    let mut daemon = scene.start();
    assert_eq!(daemon.status().number("/suites"), 0);
    scene.update();
    daemon.until("it has learned the lists", PATIENCE, |_| daemon.log().contains("learned from apt's lists"));
    assert_eq!(daemon.status().number("/suites"), 1);
    assert_eq!(scene.install(&daemon), 0);

    // At the next start nothing is new.
    daemon.stop("TERM");
    let again = scene.start();
    scene.machine.apt(Way::Proxy(again.proxy())).clean();
    scene.machine.apt(Way::Proxy(again.proxy())).download(&["hello"]).expect_success();
    assert!(!again.log().contains("learned from apt's lists"), "{}", again.log());
}

#[test]
fn a_release_with_its_signature_beside_it_is_learned_too() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let branch = archive.branch();
    let suite = Suite { signature: Signature::Beside, ..archive.suite("huddle") };
    suite.publish(&branch.path().join("debian"), archive.signer());
    let scene = Scene::set("huddle");
    scene.huddle.mirror.serve(branch.path());
    scene.update();
    assert!(scene.list("_Release.gpg").exists());
    assert_eq!(scene.install(&scene.start()), 0);
}

#[test]
fn lists_that_were_tampered_with_teach_nothing() {
    if !have_apt() {
        return;
    }
    for end in ["_Packages", "_InRelease"] {
        let scene = Scene::set("huddle");
        scene.update();
        let list = scene.list(end);
        let text = fs::read_to_string(&list).expect("a list").replacen("Architecture", "architecture", 1);
        let text = if end == "_InRelease" { text.replacen("Date: ", "Date:  ", 1) } else { text };
        fs::write(&list, text).expect("the scratch directory is ours");
        let daemon = scene.start();
        if end == "_Packages" {
            daemon.until("it has seen the Release", PATIENCE, |status| status.number("/suites") == 1);
        }
        // What nobody vouches for comes from the mirror.
        assert_eq!(scene.install(&daemon), hello().size, "{end}: {}", daemon.log());
        assert!(!daemon.log().contains("learned from apt's lists"), "{end}: {}", daemon.log());
    }
}

#[test]
fn older_lists_change_nothing() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let branch = archive.branch();
    Suite { date: LATER_DATE, ..archive.suite("huddle") }.publish(&branch.path().join("debian"), archive.signer());
    let scene = Scene::set("huddle");
    scene.update();
    let lists = scene.machine.dir().join("var/lib/apt/lists");
    let old = scene.machine.dir().join("old-lists");
    fs::rename(&lists, &old).expect("the scratch directory is ours");
    scene.huddle.mirror.serve(branch.path());
    let daemon = scene.start();
    scene.machine.apt(Way::Proxy(daemon.proxy())).update().expect_success();
    let date = || daemon.status().0["suites"][0]["date"].clone();
    let newest = date();
    fs::remove_dir_all(&lists).expect("the scratch directory is ours");
    fs::rename(&old, &lists).expect("the scratch directory is ours");
    daemon.until("it has looked at the old lists", PATIENCE, |_| daemon.log().contains("older than what is known"));
    assert_eq!(date(), newest);
    assert_eq!(daemon.status().number("/suites"), 1);
}

#[test]
fn lists_of_a_source_with_a_password_are_left_alone() {
    if !have_apt() {
        return;
    }
    for where_it_is in ["source", "auth.conf"] {
        let scene = Scene::set("huddle");
        scene.update();
        let authority = scene.huddle.mirror.authority();
        match where_it_is {
            "source" => {
                let url = mirror_url(&authority).replace("http://", "http://user:password@");
                scene.machine.write_sources(&format!("deb {url} huddle main\n"));
            }
            _ => {
                let text = format!("machine http://{authority} login user password password\n");
                fs::write(scene.machine.apt_dir().join("auth.conf"), text).expect("the scratch directory is ours");
            }
        }
        let daemon = scene.start();
        daemon.until("it has looked at them", PATIENCE, |_| daemon.log().contains("may need a password"));
        assert_eq!(daemon.status().number("/suites"), 0, "{where_it_is}");
        assert!(!daemon.log().contains("password@") && !daemon.log().contains("user:"), "{}", daemon.log());
    }
}
