//! The commands for people: sources are rewritten for the real apt and come back, the doctor finds what is wrong, and
//! what keeps the daemon from starting is one line.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::harness::{
    apt::{Apt, Way, have_apt},
    archive::{Archive, SUITE},
    daemon::{Daemon, Output, bare, binary, product, run_to_end},
    have,
    huddle::Host,
    machine::{Config, mirror_url},
    mirror::Mirror,
    own_network, say, scratch,
};

/// Runs a command of the product on a host, as if its apt were the machine's own.
fn on(host: &Host, apt: &Apt, arguments: &[&str]) -> Output {
    on_with(host, &apt_conf(apt), arguments)
}

/// The same with another configuration of apt's.
fn on_with(host: &Host, conf: &Path, arguments: &[&str]) -> Output {
    let mut command = bare(Command::new(binary()));
    command.env("APT_CONFIG", conf).env("APT_HUDDLE_PROXY_LISTEN", host.daemon.proxy().to_string());
    command.args(arguments).arg("--config").arg(host.machine.dir().join("apt-huddle.toml"));
    run_to_end(command)
}

/// Where the configuration of a host's apt is.
fn apt_conf(apt: &Apt) -> PathBuf {
    let command = apt.command("apt-config");
    let conf = command.get_envs().find(|(key, _)| *key == "APT_CONFIG").and_then(|(_, value)| value);
    conf.expect("the harness sets it").into()
}

/// The findings of a doctor by their names.
fn findings(output: &Output) -> serde_json::Map<String, Value> {
    let told: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let findings = told["findings"].as_array().expect("a list").iter();
    findings.map(|finding| (finding["check"].as_str().expect("a name").to_owned(), finding.clone())).collect()
}

#[track_caller]
fn assert_quiet(run: crate::harness::apt::Run) {
    let run = run.expect_success();
    assert!(!run.text.lines().any(|line| line.starts_with("N:")), "{}", run.text);
}

#[test]
fn real_apt_works_with_rewritten_sources_in_both_styles_and_they_come_back_as_they_were() {
    if !have_apt() {
        return;
    }
    let mirror = Mirror::start(Archive::shared().root());
    let one_line = format!("# ours\ndeb [arch=amd64]  {} {SUITE} main # all\n", mirror_url(&mirror.authority()));
    let stanza =
        format!("Types: deb\n# ours\nURIs:\n {}\nSuites: {SUITE}\nComponents: main\n", mirror_url(&mirror.authority()));
    for (name, text, package) in
        [("sources.list", &one_line, "huddle-1"), ("sources.list.d/ours.sources", &stanza, "huddle-2")]
    {
        let mut host = Host::start("rewritten", &mirror, &Config::default());
        let file = host.machine.apt_dir().join(name);
        fs::remove_file(host.machine.apt_dir().join("sources.list")).expect("the harness wrote it");
        fs::write(&file, text).expect("our directory");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o604)).expect("our file");
        let was = fs::metadata(&file).expect("our file");
        let apt = host.machine.apt(Way::Direct);
        apt.update().expect_success();
        let kept = || host.daemon.status().number("/store/objects");
        assert_eq!(kept(), 0, "apt goes past the daemon");

        let dry = on(&host, &apt, &["sources", "--rewrite", "--dry-run"]);
        assert!(dry.status.success() && dry.stdout.contains("\n+"), "{dry:?}");
        assert_eq!(&fs::read_to_string(&file).expect("our file"), text);
        let told = on(&host, &apt, &["sources", "--rewrite"]);
        assert!(told.status.success(), "{told:?}");
        assert!(!told.stdout.contains("Nobody answers"), "{told:?}");
        let listed = on(&host, &apt, &["sources"]);
        assert!(listed.stdout.contains("through apt-huddle, by its address"), "{listed:?}");
        assert_quiet(apt.update());
        assert_quiet(apt.install(&[package]));
        apt.assert_installed(Archive::shared().package(package));
        assert!(kept() > 0, "apt goes through the daemon");
        let doctor = findings(&on(&host, &apt, &["doctor", "--json"]));
        for check in ["configuration", "daemon", "apt", "sources", "keyrings", "signatures"] {
            assert_eq!(doctor[check]["grade"], "ok", "{doctor:?}");
        }

        let told = on(&host, &apt, &["sources", "--restore"]);
        assert!(told.status.success(), "{told:?}");
        let is = fs::metadata(&file).expect("our file");
        assert_eq!(&fs::read_to_string(&file).expect("our file"), text);
        assert_eq!(
            (is.mode(), is.uid(), is.gid(), is.mtime_nsec()),
            (was.mode(), was.uid(), was.gid(), was.mtime_nsec())
        );
        let folder = file.parent().expect("a folder");
        let left = fs::read_dir(folder).expect("our folder").flatten().map(|entry| entry.file_name());
        assert!(left.filter(|name| name.to_string_lossy().contains("apt-huddle")).count() == 0);
        host.daemon.kill();
        assert_quiet(apt.update());
    }
}

#[test]
fn a_doctor_finds_a_half_removed_package_a_bad_configuration_and_a_daemon_that_is_gone() {
    if !have_apt() {
        return;
    }
    let mirror = Mirror::start(Archive::shared().root());
    let mut host = Host::start("ill", &mirror, &Config::default());
    let apt = host.machine.apt(Way::Proxy(host.daemon.proxy()));
    let well = on(&host, &apt, &["doctor"]);
    assert!(well.stdout.contains("ok    daemon") && !well.stdout.contains('\x1b'), "{well:?}");
    assert!(well.stdout.lines().all(|line| line.chars().count() <= 80), "{well:?}");

    let parts = host.machine.apt_dir().join("apt.conf.d");
    fs::create_dir_all(&parts).expect("our directory");
    let conf = parts.join("30apt-huddle");
    fs::write(&conf, "Acquire::http::Proxy-Auto-Detect \"/nonexistent/apt-detect\";\n").expect("our directory");
    let apt = host.machine.apt(Way::Direct);
    let ill = with_parts(&host, &apt, &parts);
    let doctor = findings(&ill);
    assert_eq!((ill.status.code(), doctor["apt"]["grade"].as_str()), (Some(1), Some("bad")), "{doctor:?}");
    assert!(
        doctor["apt"]["advice"].as_str().is_some_and(|advice| advice.contains(&conf.display().to_string())),
        "{doctor:?}"
    );
    fs::rename(&conf, parts.join("30apt-huddle.disabled")).expect("our directory");
    let doctor = findings(&with_parts(&host, &apt, &parts));
    assert_eq!(doctor["apt"]["grade"], "warn", "{doctor:?}");
    assert!(doctor["apt"]["advice"].as_str().is_some_and(|advice| advice.starts_with("mv ")), "{doctor:?}");

    host.daemon.kill();
    let apt = host.machine.apt(Way::Proxy(host.daemon.proxy()));
    let down = on(&host, &apt, &["doctor", "--json"]);
    let doctor = findings(&down);
    assert_eq!((down.status.code(), doctor["daemon"]["grade"].as_str()), (Some(1), Some("bad")), "{doctor:?}");
    assert!(doctor["daemon"]["says"].as_str().is_some_and(|says| says.contains("apt fails without it")), "{doctor:?}");
    fs::write(host.machine.dir().join("apt-huddle.toml"), "[store]\nquota = \"lots\"\n").expect("our directory");
    let confused = on(&host, &apt, &["doctor", "--json"]);
    let doctor = findings(&confused);
    assert_eq!((confused.status.code(), doctor["configuration"]["grade"].as_str()), (Some(1), Some("bad")));
    assert!(
        doctor["configuration"]["says"].as_str().is_some_and(|says| says.contains("apt-huddle.toml:2")),
        "{doctor:?}"
    );
}

/// The doctor's findings where apt has these parts of its configuration.
fn with_parts(host: &Host, apt: &Apt, parts: &Path) -> Output {
    let read = |path: &Path| fs::read_to_string(path).expect("a file of ours");
    let parts = fs::read_dir(parts).expect("our directory").flatten().map(|part| part.path());
    let parts: String = parts.filter(|part| part.extension().is_none()).map(|part| read(&part)).collect();
    let conf = host.machine.dir().join("with-parts.conf");
    fs::write(&conf, read(&apt_conf(apt)) + &parts).expect("our directory");
    on_with(host, &conf, &["doctor", "--json"])
}

#[test]
fn a_configuration_is_checked_and_told() {
    let dir = scratch("told-");
    let file = dir.path().join("a.toml");
    fs::write(&file, "[store]\nquota = \"5GB\"\n").expect("our directory");
    let run = |arguments: &[&str]| {
        let mut command = product();
        command.args(arguments).env("HOME", dir.path());
        run_to_end(command)
    };
    let path = file.display().to_string();
    let good = run(&["config", "check", &path]);
    assert_eq!((good.status.code(), good.stdout), (Some(0), format!("{path}: good\n")));
    let told = run(&["config", "--config", &path]);
    for line in
        [format!("quota = \"5GB\"   # {path}:2"), "lan = false   # APT_HUDDLE_DHT_LAN".into(), "allow = []".into()]
    {
        assert!(told.stdout.contains(&line), "{line:?} in\n{}", told.stdout);
    }
    fs::write(&file, "[store]\nquota = \"lots\"\n").expect("our directory");
    let bad = run(&["config", "check", &path]);
    assert_eq!((bad.status.code(), bad.stdout.as_str(), bad.stderr.trim_end().lines().count()), (Some(2), "", 1));
    assert!(bad.stderr.contains("a.toml:2") && bad.stderr.contains("20GB"), "{bad:?}");
}

/// Starts a daemon with a store there, which has to fail with one line that has these words.
#[track_caller]
fn assert_refused(mut command: Command, store: &Path, words: &[&str]) {
    command.env("APT_HUDDLE_PROXY_LISTEN", "127.0.0.1:0").env("APT_HUDDLE_PEER_LISTEN", format!("{}:0", own_network()));
    command.env("APT_HUDDLE_STORE_PATH", store).env("APT_HUDDLE_ARCHIVE_LISTS", "/nonexistent");
    command.env("APT_HUDDLE_DHT_LAN", "false").env("APT_HUDDLE_DHT_RENDEZVOUS", "false");
    let (status, log) = Daemon::start_as("refused", command, true).err().expect("it ends");
    assert_eq!((status.code(), log.trim().lines().count()), (Some(1), 1), "{log}");
    let store = store.display().to_string();
    for word in words.iter().copied().chain([store.as_str(), "[store]"]) {
        assert!(log.contains(word), "{word:?} in: {log}");
    }
}

#[test]
fn a_store_that_cannot_be_used_is_one_line_that_says_what_to_do() {
    let dir = scratch("stores-");
    let run = || {
        let mut command = product();
        command.arg("run");
        command
    };
    let later = dir.path().join("later");
    fs::create_dir(&later).expect("our directory");
    let database = rusqlite::Connection::open(later.join("catalogue.sqlite")).expect("our directory");
    database.execute_batch("PRAGMA user_version = 99; CREATE TABLE a (b);").expect("SQL");
    drop(database);
    assert_refused(run(), &later, &["later version", "99", "run that version"]);

    let mut command = run();
    let taken = dir.path().join("taken");
    command.env("APT_HUDDLE_STORE_PATH", &taken).env("APT_HUDDLE_PROXY_LISTEN", "127.0.0.1:0");
    command.env("APT_HUDDLE_PEER_LISTEN", format!("{}:0", own_network()));
    let first = Daemon::start_as("first", command, true).expect("it starts");
    assert_refused(run(), &taken, &["in use by another daemon", "stop that one"]);
    drop(first);

    let is_root = fs::metadata(dir.path()).is_ok_and(|data| data.uid() == 0);
    if !is_root || !have("setpriv") || !have("unshare") {
        say("skipped: only root can take rights away, and mount");
        return;
    }
    let others = dir.path().join("others");
    fs::create_dir(&others).expect("our directory");
    for path in [dir.path(), &others] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("our directory");
    }
    let mut command = bare(Command::new("setpriv"));
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(binary()).arg("run");
    assert_refused(command, &others.join("store"), &["ermission denied", "give it to the user"]);

    let disk = dir.path().join("disk");
    fs::create_dir(&disk).expect("our directory");
    let mut command = bare(Command::new("unshare"));
    let script = format!("mount -t tmpfs -o ro none {} || exit 77; exec \"$0\" run", disk.display());
    command.args(["--mount", "sh", "-c", &script]).arg(binary());
    assert_refused(command, &disk.join("store"), &["ead-only", "mount it for writing"]);
}
