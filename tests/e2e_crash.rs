//! Power cuts: after a restart every stored file is whole or gone, and the same install succeeds.

use std::time::{Duration, Instant};

use crate::harness::{
    PIECE,
    apt::have_apt,
    archive::{Archive, Package},
    daemon::{product, run_to_end},
    eventually,
    huddle::{Host, Huddle},
    liar::{Liar, Tale},
    machine::Config,
    mirror::{Fault, Mirror},
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
fn a_prefix_that_a_liar_supplied_before_the_kill_does_not_poison_the_install_after_it() {
    if !have_apt() {
        return;
    }
    let package = Archive::shared().package("huddle-200");
    let tales = [
        // The chain agrees with the flipped front to its end; the back, which would give the lie away, never comes.
        Tale::consistent_lie(package, &[0, 1, 2]).stalling_on(150 * PIECE..200 * PIECE),
        // All is proven but the front; what would give it away never comes.
        Tale::false_front(package).stalling_on(PIECE..2 * PIECE),
    ];
    for tale in tales {
        poison_and_kill(package, tale);
    }
}

fn poison_and_kill(package: &Package, tale: Tale) {
    let last = Config { mirror: "last", ..Config::default() };
    let mut huddle = Huddle::of(&[Config::default(), last.clone()]);
    let apt = huddle[1].apt();
    apt.update().expect_success();
    let wrong = tale.bytes().to_vec();
    let liar = Liar::start(vec![tale]);
    liar.announce(&huddle.nodes());
    huddle.mirror.fault(&package.url_path(), Fault::StallAfter(0));
    let mut run = apt.download_in_background(&[&package.name]);
    let asked = eventually("the liar is asked", PATIENCE, || {
        let asked = liar.server().sent(&Liar::path(&package.sha256)) > 0;
        (asked || run.ended()).then(Instant::now)
    });
    let part = eventually("apt has a part, or has had its time", PATIENCE, || {
        let part = apt.partial(package).unwrap_or_default();
        (part.len() > 200 || asked.elapsed() > Duration::from_secs(10)).then_some(part)
    });
    println!("apt had {} bytes, wrong ones: {}", part.len(), part.len() > 100 && wrong.starts_with(&part));
    huddle.host_mut(1).daemon.kill();
    drop(run);
    huddle[1].machine.assert_store_is_whole();
    liar.server().vanish();
    huddle.mirror.heal();

    let bootstrap = vec![huddle[0].daemon.peers()];
    huddle.host_mut(1).daemon = huddle[1].machine.start(&Config { bootstrap, ..last });
    let apt = huddle[1].apt();
    let run = apt.install(&[&package.name]).expect_success();
    assert!(!run.text.contains("Hash Sum mismatch"), "{}", run.text);
    apt.assert_installed(package);
    huddle[1].machine.assert_store_is_whole();
}

#[test]
fn apts_partial_file_is_continued_after_a_restart_when_nothing_was_wrong() {
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
    mirror.heal();
    host.daemon = host.machine.start(&Config::default());
    let apt = host.apt();
    apt.install(&[&package.name]).expect_success();
    apt.assert_installed(package);
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
