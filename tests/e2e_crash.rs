//! Power cuts: after a restart every stored file is whole or gone, and the same install succeeds.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use crate::harness::{
    PIECE,
    apt::{Background, have_apt},
    archive::{Archive, Package},
    client::fetch,
    daemon::{product, run_to_end},
    eventually,
    huddle::{Host, Huddle},
    liar::{Liar, Tale},
    machine::Config,
    mirror::{Fault, Mirror, http_date},
};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_kill_in_the_middle_of_a_download_leaves_nothing_wrong_and_the_same_install_succeeds() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    let mut host = Host::start("killed", &mirror, &Config::default());
    host.apt().update().expect_success();
    let four = archive.package("huddle-4");
    for (name, pieces) in [("huddle-69", 1), ("huddle-71", 69), ("huddle-200", 100)] {
        let package = archive.package(name);
        mirror.fault(&package.url_path(), Fault::StallAfter(pieces * PIECE + 333));
        let apt = host.apt();
        let run = apt.download_in_background(&["huddle-4", name]);
        eventually(&format!("{name} stalls"), PATIENCE, || {
            let stalled = mirror.server().sent(&package.url_path()) >= pieces * PIECE + 333;
            (stalled && host.machine.objects().iter().any(|(hash, _)| *hash == four.sha256)).then_some(())
        });
        host.daemon.kill();
        drop(run);
        host.machine.assert_store_is_whole();
        mirror.heal();

        host.daemon = host.machine.start(&Config::default());
        host.machine.assert_store_is_whole();
        let apt = host.apt();
        apt.install(&["huddle-4", name]).expect_success();
        apt.assert_installed(package);
        host.machine.assert_store_is_whole();
        apt.clean();
    }
    assert_eq!(mirror.server().sent(&four.url_path()), four.size, "what was whole before a kill is not fetched again");
}

#[test]
fn a_wrong_prefix_that_apt_has_of_liars_before_the_kill_does_not_poison_the_install_after_it() {
    if !have_apt() {
        return;
    }
    let package = Archive::shared().package("huddle-200");
    let tales = [
        // All is proven but the front; what would give it away never comes.
        (1, Tale::false_front(package).stalling_on(PIECE..2 * PIECE)),
        // The chain agrees with the flipped front to its end. One liar keeps the last piece back, which would give the
        // lie away, and the other tells the front meanwhile.
        (2, Tale::consistent_lie(package, &[0, 1, 2]).stalling_on(150 * PIECE..200 * PIECE)),
    ];
    for (liars, tale) in tales {
        let wrong = tale.bytes().to_vec();
        let mut poisoned = Poisoned::of(package, liars, tale);
        let part = eventually("apt has a part", PATIENCE, || poisoned.part().filter(|part| part.len() > 200));
        assert!(
            wrong.starts_with(&part) && !package.bytes().starts_with(&part),
            "{} bytes, not wrong ones",
            part.len()
        );
        poisoned.kill();
        let kept = poisoned.part().unwrap_or_default();
        assert!(wrong.starts_with(&kept) && kept.len() >= part.len(), "apt has it still");
        poisoned.assert_installs();
    }
}

#[test]
fn of_a_single_liar_that_keeps_the_last_piece_back_apt_gets_nothing_wrong() {
    if !have_apt() {
        return;
    }
    let package = Archive::shared().package("huddle-200");
    let tale = Tale::consistent_lie(package, &[0, 1, 2]).stalling_on(150 * PIECE..200 * PIECE);
    let mut poisoned = Poisoned::of(package, 1, tale);
    let last = format!("bytes={}-", (package.pieces() - 1) * PIECE);
    let is_asked = || {
        let asked = poisoned.liars[0].server().requests("/");
        asked.iter().any(|request| request.field("range").is_some_and(|range| range.starts_with(&last)))
    };
    let asked = eventually("the last piece is asked for", PATIENCE, || is_asked().then(Instant::now));
    while asked.elapsed() < Duration::from_secs(3) {
        assert!(package.bytes().starts_with(&poisoned.part().unwrap_or_default()), "a wrong byte");
        thread::sleep(Duration::from_millis(100));
    }
    poisoned.kill();
    poisoned.assert_installs();
}

/// Two hosts; the second one's apt is fetching a package of which only liars tell anything, and they stall.
struct Poisoned<'a> {
    package: &'a Package,
    huddle: Huddle,
    liars: Vec<Liar>,
    run: Option<Background>,
}

impl<'a> Poisoned<'a> {
    /// Begins the download beside so many liars that tell the same.
    fn of(package: &'a Package, liars: usize, tale: Tale) -> Self {
        let huddle = Huddle::of(&[Config::default(), last()]);
        let apt = huddle[1].apt();
        apt.update().expect_success();
        let liars: Vec<_> = (0..liars).map(|_| Liar::start(vec![tale.clone()])).collect();
        liars.iter().for_each(|liar| liar.announce(&huddle.nodes()));
        huddle.mirror.fault(&package.url_path(), Fault::StallAfter(0));
        let run = apt.download_in_background(&[&package.name]);
        Self { package, huddle, liars, run: Some(run) }
    }

    /// What apt has of the package.
    fn part(&self) -> Option<Vec<u8>> {
        self.huddle[1].apt().partial(self.package)
    }

    /// Kills the daemon and apt. The liars vanish; the mirror is well again.
    fn kill(&mut self) {
        self.huddle.host_mut(1).daemon.kill();
        self.run = None;
        self.huddle[1].machine.assert_store_is_whole();
        self.liars.iter().for_each(|liar| liar.server().vanish());
        self.huddle.mirror.heal();
    }

    /// Starts the daemon again and installs the package.
    fn assert_installs(&mut self) {
        let bootstrap = vec![self.huddle[0].daemon.peers()];
        self.huddle.host_mut(1).daemon = self.huddle[1].machine.start(&Config { bootstrap, ..last() });
        let apt = self.huddle[1].apt();
        let run = apt.install(&[&self.package.name]).expect_success();
        assert!(!run.text.contains("Hash Sum mismatch"), "{}", run.text);
        apt.assert_installed(self.package);
        self.huddle[1].machine.assert_store_is_whole();
    }
}

fn last() -> Config {
    Config { mirror: "last", ..Config::default() }
}

#[test]
fn an_interrupted_download_goes_on_after_a_restart_and_a_partial_file_is_answered_with_the_whole() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let package = archive.package("huddle-70");
    let mirror = Mirror::start(archive.root());
    let mut host = Host::start("partial", &mirror, &Config::default());
    let apt = host.apt();
    apt.update().expect_success();
    mirror.fault(&package.url_path(), Fault::StallAfter(40 * PIECE));
    let run = apt.download_in_background(&[&package.name]);
    eventually("apt has a part", PATIENCE, || apt.partial(package).filter(|part| part.len() as u64 > 20 * PIECE));
    host.daemon.kill();
    drop(run);
    let part = apt.partial(package).expect("apt keeps its part");
    let mark = host.machine.store().join("released").join(&package.sha256);
    assert!(package.bytes().starts_with(&part) && mark.exists());
    mirror.heal();

    host.daemon = host.machine.start(&Config::default());
    let left = fs::read_dir(host.machine.store().join("partial")).expect("the store has it").count();
    assert_eq!(left, 2, "what was on its way, and what is known of it");
    let taken = mirror.server().sent(&package.url_path());
    let target = format!("http://{}{}", mirror.authority(), package.url_path());
    let range = format!("Range: bytes={}-", part.len());
    let modified = http_date(fs::metadata(&package.file).and_then(|meta| meta.modified()).expect("a file with times"));
    // On its way from the mirror, then held; what left before the kill was never proven, and its mark says so.
    for fields in [vec![range.as_str(), &format!("If-Range: {modified}")], vec![range.as_str()]] {
        let answer = fetch(host.daemon.proxy(), &target, &fields);
        assert_eq!((answer.status, answer.field("content-range")), (200, None), "{}", answer.head);
        assert!(answer.whole && answer.body == package.bytes(), "{}", answer.head);
        assert!(mark.exists());
    }
    let rest = package.size - 40 * PIECE;
    assert_eq!(
        mirror.server().sent(&package.url_path()) - taken,
        rest,
        "the pieces that were whole are not fetched again"
    );
    let left = fs::read_dir(host.machine.store().join("partial")).expect("the store has it").count();
    assert_eq!(left, 0, "nothing is left behind");

    let apt = host.apt();
    assert_eq!(apt.partial(package), Some(part), "apt asks for the rest");
    apt.install(&[&package.name]).expect_success();
    apt.assert_installed(package);
    assert_eq!(mirror.server().sent(&package.url_path()) - taken, rest);
}

#[test]
fn a_second_daemon_on_the_same_store_is_refused_in_one_line() {
    let mirror = Mirror::start(Archive::shared().root());
    let host = Host::start("store", &mirror, &Config::default());
    let mut command = product();
    command.arg("run").arg("--config").arg(host.machine.dir().join("apt-huddle.toml"));
    let output = run_to_end(command);
    let said = output.stderr;
    assert!(!output.status.success() && said.trim().lines().count() == 1, "{said}");
    assert!(said.contains(&host.machine.store().display().to_string()), "{said}");
    assert_eq!(host.daemon.status().bytes_from_peers(), 0, "the first one lives");
}
