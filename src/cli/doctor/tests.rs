use std::path::PathBuf;

use super::{
    facts::{Apt, Disk, Facts, Fault, Keyring, Release, Sharing},
    judge::{Finding, Grade, judge},
    *,
};
use crate::{
    cli::{
        apt::{By, Route},
        sources::Seen,
    },
    status::report::Report,
};

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

/// What a well daemon says.
fn report() -> Report {
    let none = serde_json::json!({"peers": 0, "lan": 0, "store": 0, "mirror": 0, "up": 0});
    serde_json::from_value(serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"), "at": NOW, "uptime": 3600,
        "listen": ["127.0.0.1:9977"], "peer_listen": ["[::]:9978"],
        "apt": {"requests": 3, "last": NOW - 60},
        "bytes": {"from_peers": 0, "from_lan": 0, "from_mirror": 0, "from_store": 0, "up": 0, "wasted": 0},
        "saved": {"today": none, "month": none, "ever": none, "days": []},
        "dht": null, "peers": [], "takers": [], "connections": 0, "failing_mirrors": [], "under_way": 0, "live": [],
        "downloads": {"brought": 0, "failed": 0, "convictions": 0},
        "uploads": {"requests": 0, "active": 0, "refused": 0}, "recent": [], "passed": [],
        "store": {"objects": 3, "bytes": 1000, "partials": 0, "in_flight": 0, "quota": 20_000_000_000_u64,
                  "free": 5_000_000_000_u64},
        "suites": [{"repository": "m.example.org/debian", "suite": "dists/sid", "date": NOW - DAY, "valid_until": null,
                    "is_expired": false, "signer": "K", "files": 5, "learned": NOW - DAY}],
        "releases": {"verified": 1, "unverifiable": 0, "bad": 0}, "refusals": [],
    }))
    .expect("a report")
}

fn seen(way: Option<(Route, By)>, sharing: Option<Result<(), &'static str>>) -> Seen {
    Seen { file: "a.list".into(), line: 1, shown: "http://m.example.org/".into(), way, sharing, left: None }
}

/// A machine on which all is well.
fn well() -> Facts {
    Facts {
        now: NOW,
        file: Some("/etc/apt-huddle/apt-huddle.toml".into()),
        bad_configuration: None,
        listen: vec!["127.0.0.1:9977".parse().unwrap()],
        daemon: Ok(report()),
        apt: Apt {
            auto_detect: Some("/usr/libexec/apt-huddle/apt-detect".into()),
            sources: vec![seen(Some((Route::Daemon, By::AutoDetect)), Some(Ok(())))],
            ..Apt::default()
        },
        keyrings: vec![Keyring { path: "/k.gpg".into(), fault: None }],
        disk: Disk { path: "/store".into(), fault: None, free: Some(5_000_000_000), min_free: 1_000_000_000 },
        latest_write: Some(NOW - 10),
        lists_changed: Some(NOW - DAY),
        releases: vec![Release { name: "m_InRelease".into(), date: Some(NOW - DAY), valid_until: Some(NOW + DAY) }],
        sharing: Sharing::Off,
    }
}

#[track_caller]
fn found(facts: &Facts, check: &str) -> Finding {
    let found = judge(facts).into_iter().find(|finding| finding.check == check);
    found.unwrap_or_else(|| panic!("nothing is said of {check}"))
}

/// Holds a check to a grade, to a word of what it says, and to one of what is to be done.
#[track_caller]
fn assert_says(facts: &Facts, check: &str, grade: Grade, says: &str, advice: &str) {
    let finding = found(facts, check);
    assert_eq!(finding.grade, grade, "{finding:?}");
    assert!(finding.says.contains(says), "{says:?} in {finding:?}");
    assert!(finding.advice.as_deref().unwrap_or_default().contains(advice), "{advice:?} in {finding:?}");
}

#[test]
fn a_machine_on_which_all_is_well_is_told_so() {
    for finding in judge(&well()) {
        assert_eq!((finding.grade, &finding.advice), (Grade::Ok, &None), "{finding:?}");
    }
    assert_eq!(found(&well(), "apt").says, "comes here, by apt's Proxy-Auto-Detect; last 1 min ago");
    let text = render(&judge(&well()), Paint::Plain);
    assert!(text.lines().all(|line| line.chars().count() <= 80 && line.starts_with("ok    ")), "{text}");
}

#[test]
fn whatever_is_not_well_says_what_to_do() {
    let broken = Facts {
        bad_configuration: Some("a.toml:1: no".into()),
        daemon: Err("no daemon listens at 127.0.0.1:9977".into()),
        apt: Apt::default(),
        keyrings: Vec::new(),
        releases: Vec::new(),
        disk: Disk { fault: Some("read-only".into()), ..Disk::default() },
        ..well()
    };
    let findings = judge(&broken);
    assert!(findings.iter().filter(|finding| finding.grade > Grade::Ok).count() >= 6);
    for finding in findings {
        assert_eq!(finding.grade > Grade::Ok, finding.advice.is_some(), "{finding:?}");
    }
}

#[test]
fn a_configuration_that_cannot_be_used_is_bad() {
    let facts = Facts { bad_configuration: Some("a.toml:3: quota".into()), ..well() };
    assert_says(&facts, "configuration", Grade::Bad, "a.toml:3: quota", "config check");
    assert_says(&Facts { file: None, ..well() }, "configuration", Grade::Ok, "defaults", "");
}

#[test]
fn a_daemon_that_is_down_is_worse_where_apt_is_told_to_go_there() {
    let down = || Err("no daemon listens at 127.0.0.1:9977 (refused)".to_owned());
    let facts = Facts { daemon: down(), ..well() };
    assert_says(&facts, "daemon", Grade::Bad, "no daemon", "systemctl restart");
    assert!(!found(&facts, "daemon").says.contains("apt fails"));
    for by in [By::General, By::Address] {
        let sources = vec![seen(Some((Route::Daemon, by)), Some(Ok(())))];
        let facts = Facts { daemon: down(), apt: Apt { sources, ..Apt::default() }, ..well() };
        assert_says(&facts, "daemon", Grade::Bad, "apt fails without it", "systemctl restart");
    }
    // The program that apt asks says DIRECT then.
    let apt = Apt { sources: vec![seen(Some((Route::Direct, By::AutoDetect)), None)], ..well().apt };
    assert_says(&Facts { daemon: down(), apt, ..well() }, "apt", Grade::Ok, "while there is no daemon", "");
}

#[test]
fn a_daemon_of_another_version_is_to_be_restarted() {
    let mut facts = well();
    facts.daemon = Ok(Report { version: "0.0.9".into(), ..report() });
    assert_says(&facts, "daemon", Grade::Warn, "0.0.9", "restart");
}

#[test]
fn a_half_removed_package_is_named_with_the_file_to_delete() {
    let apt = Apt {
        auto_detect_failure: Some("No such file or directory".into()),
        auto_detect_files: vec![PathBuf::from("/etc/apt/apt.conf.d/30apt-huddle")],
        ..well().apt
    };
    assert_says(&Facts { apt, ..well() }, "apt", Grade::Bad, "apt-detect", "/etc/apt/apt.conf.d/30apt-huddle");
    let apt = Apt { set_aside: Some("/etc/apt/apt.conf.d/30apt-huddle.disabled".into()), ..Apt::default() };
    let advice = "mv /etc/apt/apt.conf.d/30apt-huddle.disabled /etc/apt/apt.conf.d/30apt-huddle";
    assert_says(&Facts { apt, ..well() }, "apt", Grade::Warn, "set aside", advice);
}

#[test]
fn an_apt_that_goes_elsewhere_is_told_how_to_come_here() {
    let sources = vec![seen(Some((Route::Direct, By::Nothing)), None)];
    let facts = Facts { apt: Apt { sources, ..Apt::default() }, ..well() };
    assert_says(&facts, "apt", Grade::Warn, "does not come here", "Proxy \"http://127.0.0.1:9977\"");
    assert_says(&facts, "sources", Grade::Ok, "0 of 1 through apt-huddle, 1 past it", "");
    let unknown = Apt { unknown: Some("apt-config: not found".into()), ..Apt::default() };
    assert_says(&Facts { apt: unknown, ..well() }, "apt", Grade::Warn, "apt-config", "by hand");
}

#[test]
fn sources_that_are_not_understood_are_bad() {
    let apt = Apt { unclear: vec!["/etc/apt/sources.list: line 3: no suite".into(), "b".into()], ..well().apt };
    assert_says(&Facts { apt, ..well() }, "sources", Grade::Bad, "line 3: no suite and 1 more", "Correct");
    let apt = Apt { sources: Vec::new(), ..well().apt };
    assert_says(&Facts { apt, ..well() }, "sources", Grade::Warn, "none", "sources.list");
}

#[test]
fn a_clock_is_held_against_releases_and_files() {
    let made = |date| vec![Release { name: "m".into(), date: Some(date), valid_until: None }];
    let ahead = Facts { releases: made(NOW + 2 * DAY), ..well() };
    assert_says(&ahead, "clock", Grade::Bad, "2 d 0 h before the newest Release", "timedatectl");
    let jumped = Facts { latest_write: Some(NOW + DAY), ..well() };
    assert_says(&jumped, "clock", Grade::Warn, "before files were written", "timedatectl");
    let (mut late, mut alone) = (well(), report());
    alone.suites.clear();
    (late.daemon, late.releases) = (Ok(alone), made(NOW - 500 * DAY));
    assert_says(&late, "clock", Grade::Warn, "500 d 0 h after", "timedatectl");
    // A few minutes are nobody's fault.
    assert_eq!(found(&Facts { releases: made(NOW + 300), ..well() }, "clock").grade, Grade::Ok);
}

#[test]
fn keyrings_are_looked_at_one_by_one() {
    let with = |fault| Facts { keyrings: vec![Keyring { path: "/k.gpg".into(), fault: Some(fault) }], ..well() };
    assert_says(&with(Fault::Missing), "keyrings", Grade::Bad, "/k.gpg is missing", "Signed-By");
    assert_says(&with(Fault::NoKeyring("empty".into())), "keyrings", Grade::Warn, "no keyring: empty", "Replace");
    assert_says(&with(Fault::Unreadable("denied".into())), "keyrings", Grade::Warn, "denied", "as root");
    assert_says(&with(Fault::ForFew), "keyrings", Grade::Warn, "all users", "chmod a+r");
    assert_says(&Facts { keyrings: Vec::new(), ..well() }, "keyrings", Grade::Warn, "none", "debian-archive-keyring");
}

#[test]
fn what_was_refused_is_told() {
    let refusing = |is_bad: bool| {
        let refusal = serde_json::json!({"location": "http://m.example.org/InRelease", "reason": "bad signature",
                                         "is_bad": is_bad, "at": NOW});
        let mut report = report();
        report.refusals = vec![serde_json::from_value(refusal).unwrap()];
        Facts { daemon: Ok(report), ..well() }
    };
    assert_says(&refusing(true), "signatures", Grade::Bad, "was refused: bad signature", "before you know why");
    assert_says(&refusing(false), "signatures", Grade::Warn, "bad signature", "Signed-By");
}

#[test]
fn a_disk_that_is_full_or_closed_is_told() {
    let with = |free, fault: Option<&str>| {
        let mut report = report();
        report.store.free = free;
        let disk = Disk { fault: fault.map(str::to_owned), ..well().disk };
        Facts { daemon: Ok(report), disk, ..well() }
    };
    assert_says(&with(Some(999_999_999), None), "disk", Grade::Warn, "nothing new is kept", "min_free");
    assert_says(&with(Some(5 << 30), Some("read-only")), "disk", Grade::Bad, "/store: read-only", "path");
    assert_says(&with(Some(2_000_000_000), None), "disk", Grade::Ok, "3 files, 1.0 kB of 20.0 GB; 2.0 GB free", "");
}

#[test]
fn lists_that_are_expired_or_old_are_to_be_updated() {
    let expired = vec![Release { name: "m_InRelease".into(), date: Some(NOW - 9 * DAY), valid_until: Some(NOW - DAY) }];
    let facts = Facts { releases: expired, ..well() };
    assert_says(&facts, "lists", Grade::Warn, "m_InRelease was valid until 2027-01-14", "apt-get update");
    let old = Facts { lists_changed: Some(NOW - 30 * DAY), ..well() };
    assert_says(&old, "lists", Grade::Warn, "30 d 0 h", "apt-get update");
    assert_says(&Facts { releases: Vec::new(), ..well() }, "lists", Grade::Warn, "no lists yet", "apt-get update");
}

#[test]
fn the_network_is_looked_at_where_something_is_shared() {
    let with = |dht: serde_json::Value, uptime| {
        let mut told = serde_json::to_value(report()).unwrap();
        told["dht"] = dht;
        told["uptime"] = uptime;
        Facts { daemon: Ok(serde_json::from_value(told).unwrap()), sharing: Sharing::All, ..well() }
    };
    let figures = |nodes: u64, state: serde_json::Value| {
        let mut figures = serde_json::to_value(crate::dht::Snapshot::default()).unwrap();
        figures["nodes"] = nodes.into();
        figures["reachable_v4"] = state;
        figures
    };
    let open = figures(12, "open".into());
    assert_says(&with(open.clone(), 3600.into()), "peers", Grade::Ok, "12 nodes", "");
    assert_says(&with(open, 3600.into()), "port", Grade::Ok, "9978 over IPv4: others can connect", "");
    let closed = figures(0, serde_json::json!({"closed": "silent"}));
    assert_says(&with(closed.clone(), 3600.into()), "peers", Grade::Warn, "no node is known", "bootstrap");
    assert_says(&with(closed.clone(), 60.into()), "peers", Grade::Ok, "short time", "");
    assert_says(&with(closed, 3600.into()), "port", Grade::Warn, "Forward the port", "can stay so");
    let take = Facts { sharing: Sharing::Take, ..with(figures(1, serde_json::Value::Null), 3600.into()) };
    assert_says(&take, "port", Grade::Ok, "gives nothing", "");
}

#[test]
fn colors_are_shown_on_request_alone_and_do_not_count() {
    let findings = judge(&Facts { keyrings: Vec::new(), ..well() });
    let (plain, color) = (render(&findings, Paint::Plain), render(&findings, Paint::Color));
    assert!(!plain.contains('\x1b') && color.contains("\x1b[33mwarn\x1b[0m"), "{color}");
    let mut bare = color;
    for code in ["32", "33", "1;31", "0"] {
        bare = bare.replace(&format!("\x1b[{code}m"), "");
    }
    assert_eq!(bare, plain);
}
