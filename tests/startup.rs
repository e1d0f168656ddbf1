//! The command line: what is said at the start, what ends it, and what is in the way.

use std::{
    net::TcpListener,
    process::{Command, Stdio},
    time::Duration,
};

use crate::harness::{
    archive::Archive,
    client::fetch,
    daemon::{Daemon, bare, product, run_to_end},
    eventually,
    huddle::Host,
    machine::Config,
    mirror::{Fault, Mirror},
    own_network, say, scratch,
};

/// `apt-huddle run` of a user who configured nothing, on ports that are free.
fn unconfigured(home: &std::path::Path) -> Command {
    let mut command = product();
    command.arg("run").env("HOME", home).env("APT_HUDDLE_PROXY_LISTEN", "127.0.0.1:0");
    command.env("APT_HUDDLE_PEER_LISTEN", format!("{}:0", own_network()));
    command
}

#[test]
fn without_configuration_it_says_where_it_listens_and_how_to_point_apt_at_it() {
    let home = scratch("home-");
    let mut daemon = Daemon::start_as("unconfigured", unconfigured(home.path()), true).expect("it starts");
    let proxy = daemon.proxy();
    let said = daemon.said();
    assert!(proxy.ip().is_loopback());
    for line in [
        format!("Acquire::http::Proxy=http://{proxy}"),
        format!("deb http://{proxy}/"),
        format!("http://{proxy}/"),
        format!("{}", daemon.peers()),
    ] {
        assert!(said.contains(&line), "{line:?} in:\n{said}");
    }
    assert!((3..=12).contains(&said.lines().count()), "a few lines:\n{said}");
    assert!(daemon.page().contains("apt-huddle"));
    let store = home.path().join(".local/share/apt-huddle");
    assert!(store.is_dir(), "the store is under the user's own data directory");
    assert!(daemon.stop("INT").0.success(), "{}", daemon.log());
}

#[test]
fn the_data_directory_follows_the_users_wish() {
    let home = scratch("home-");
    let data = home.path().join("elsewhere");
    let mut command = unconfigured(home.path());
    command.env("XDG_DATA_HOME", &data);
    let daemon = Daemon::start_as("elsewhere", command, true).expect("it starts");
    assert!(data.join("apt-huddle").is_dir());
    drop(daemon);
}

#[test]
fn the_ports_are_the_documented_ones_when_they_are_free() {
    let free = |addr| TcpListener::bind(addr).is_ok();
    if !free("127.0.0.1:9977") || !free("[::]:9978") && !free("0.0.0.0:9978") {
        say("skipped: another program has port 9977 or 9978");
        return;
    }
    let home = scratch("home-");
    let mut command = product();
    command.arg("run").env("HOME", home.path());
    let mut daemon = Daemon::start_as("defaults", command, true).expect("it starts");
    assert_eq!(daemon.proxy().to_string(), "127.0.0.1:9977");
    assert_eq!(daemon.peers().port(), 9978);
    assert!(daemon.stop("TERM").0.success());
}

#[test]
fn int_and_term_stop_it_in_order_also_while_apt_waits() {
    let mirror = Mirror::start(Archive::shared().root());
    for signal in ["INT", "TERM"] {
        let mut host = Host::start("stopped", &mirror, &Config::default());
        mirror.fault("/debian/pool", Fault::StallAfter(100_000));
        let target = format!("http://{}{}", mirror.authority(), Archive::shared().package("huddle-4").url_path());
        let mut client = bare(Command::new("curl"));
        client.args([
            "--silent",
            "--output",
            "/dev/null",
            "--proxy",
            &format!("http://{}", host.daemon.proxy()),
            &target,
        ]);
        let client = client.stdout(Stdio::null()).spawn().ok();
        if client.is_some() {
            eventually("the client waits", Duration::from_secs(30), || {
                (mirror.server().sent("/debian/pool") > 0).then_some(())
            });
        }
        let (status, took) = host.daemon.stop(signal);
        assert!(status.success(), "{signal}: {status}\n{}", host.daemon.log());
        assert!(took < Duration::from_secs(15), "{signal}: {took:?}");
        if let Some(mut client) = client {
            client.wait().expect("our child");
        }
        mirror.heal();
        host.daemon = host.machine.start(&Config::default());
        assert_eq!(fetch(host.daemon.proxy(), "/", &[]).status, 200, "and it starts again");
    }
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("it is bound").to_string();
    let peer_taken = TcpListener::bind((own_network(), 0)).expect("a free port");
    let peer_addr = peer_taken.local_addr().expect("it is bound").to_string();
    for (key, addr) in [("APT_HUDDLE_PROXY_LISTEN", &addr), ("APT_HUDDLE_PEER_LISTEN", &peer_addr)] {
        let home = scratch("home-");
        let mut command = unconfigured(home.path());
        command.env(key, addr);
        let (status, log) = Daemon::start_as("in-use", command, true).err().expect("it ends");
        assert!(!status.success(), "{key}");
        assert_eq!(log.trim().lines().count(), 1, "{key}: {log}");
        assert!(log.contains(addr) && log.contains("in use"), "{key}: {log}");
    }
}

#[test]
fn the_version_and_the_help_are_told() {
    let run = |argument| {
        let mut command = product();
        command.arg(argument);
        run_to_end(command)
    };
    assert_eq!(run("--version").stdout.trim(), concat!("apt-huddle ", env!("CARGO_PKG_VERSION")));
    let help = run("--help");
    assert!(help.status.success() && help.stdout.contains("run"), "{help:?}");
    assert_eq!(run("--no-such-thing").status.code(), Some(2));
}
