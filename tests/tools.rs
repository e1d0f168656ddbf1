//! The tools that probe a DHT, on networks of bare nodes, and the lookup through a daemon.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;

use crate::harness::{
    apt::have_apt,
    archive::Archive,
    daemon::{Output, bare_node, product, run_to_end},
    huddle::Huddle,
    machine::Config,
    own_network, scratch,
};

const KEY: &str = "0123456789abcdef0123456789abcdef01234567";

/// Runs a tool, with `--json`.
#[track_caller]
fn dht(task: &[&str], network: &str, entry: Option<SocketAddr>) -> (Output, Value) {
    let mut command = product();
    command.arg("dht").args(task).args(["--json", "--network", network]);
    command.args(["--listen", &format!("{}:0", own_network())]);
    command.env("APT_HUDDLE_DHT_SECRET", "of the tests");
    if let Some(entry) = entry {
        command.args(["--bootstrap", &entry.to_string()]);
    }
    let output = run_to_end(command);
    let said = serde_json::from_str(&output.stdout).unwrap_or(Value::Null);
    (output, said)
}

#[test]
fn every_task_works_on_every_network_without_a_daemon() {
    for network in ["public", "private", "mainline"] {
        let dir = scratch("dht-");
        let (first, entry) = bare_node(network, None, dir.path());
        let other_dir = scratch("dht-");
        let (_other, other) = bare_node(network, Some(entry), other_dir.path());

        let (_, ping) = dht(&["ping", &entry.to_string()], network, None);
        assert_eq!(ping["answer"]["version"], "AH 0.1", "{network}: {ping}");
        let (_, near) = dht(&["find-node", KEY], network, Some(entry));
        assert_eq!(near["nodes"].as_array().map(Vec::len), Some(2), "{network}: {near}");
        let (output, peers) = dht(&["get-peers", KEY], network, Some(entry));
        assert_eq!((output.status.code(), &peers["peers"]), (Some(1), &Value::Array(vec![])), "{network}");
        let (_, stored) = dht(&["announce", KEY, "--port", "4321"], network, Some(entry));
        assert_eq!(stored["stored"], 2, "{network}");
        let (_, peers) = dht(&["get-peers", KEY], network, Some(other));
        assert!(peers["peers"][0].as_str().is_some_and(|peer| peer.ends_with(":4321")), "{network}: {peers}");
        let (_, put) = dht(&["put", "--text", "snow and ice"], network, Some(entry));
        assert_eq!(put["stored"], 2, "{network}: {put}");
        let (_, item) = dht(&["get", put["target"].as_str().expect("an id")], network, Some(other));
        assert_eq!(item["text"], "snow and ice", "{network}: {item}");
        let (_, count) = dht(&["walk"], network, Some(entry));
        assert_eq!((&count["answered"], &count["programs"]["AH 0.1"]), (&2.into(), &2.into()), "{network}: {count}");
        let elsewhere = if network == "mainline" { "public" } else { "mainline" };
        let (output, _) = dht(&["ping", &entry.to_string()], elsewhere, None);
        assert_eq!(output.status.code(), Some(1), "{network}: nodes of one network do not answer another");
        drop(first);
    }
}

#[test]
fn a_mutable_item_is_replaced_by_its_next_number_alone() {
    let dir = scratch("dht-");
    let (_first, entry) = bare_node("public", None, dir.path());
    let file = dir.path().join("seed");
    std::fs::write(&file, format!("{}\n", "5a".repeat(32))).expect("a folder of our own");
    let key = file.to_str().expect("a path in ASCII");
    let put = |text: &str, more: &[&str]| {
        dht(&[&["put", "--text", text, "--key", key, "--salt", "ice"][..], more].concat(), "public", Some(entry)).1
    };
    let first = put("snow", &[]);
    assert_eq!((&first["seq"], &first["stored"]), (&1.into(), &1.into()), "{first}");
    let second = put("hail", &[]);
    assert_eq!((&second["seq"], &second["stored"], &second["target"]), (&2.into(), &1.into(), &first["target"]));
    assert_eq!(put("old", &["--seq", "1"])["stored"], 0);
    assert_eq!(put("not this", &["--cas", "1"])["stored"], 0);
    assert_eq!(put("rain", &["--cas", "2"])["seq"], 3);
    let target = first["target"].as_str().expect("an id");
    let (_, item) = dht(&["get", target, "--salt", "ice"], "public", Some(entry));
    assert_eq!((&item["text"], &item["seq"]), (&"rain".into(), &3.into()), "{item}");
    std::fs::write(&file, "penguin").expect("a folder of our own");
    let (output, _) = dht(&["put", "--text", "x", "--key", key], "public", Some(entry));
    assert_eq!(output.status.code(), Some(2), "a seed has 64 digits");
}

#[test]
fn what_cannot_be_meant_is_said_and_nobody_is_waited_for_long() {
    for (task, code) in [
        (&["ping", "127.0.0.1"][..], 2),
        (&["ping", "127.0.0.1:99999"], 2),
        (&["find-node", "abc"], 2),
        (&["announce", KEY, "--port", "0"], 2),
        (&["put", "--text", &"x".repeat(997)], 2),
        (&["get-peers", KEY], 3),
    ] {
        let gone = SocketAddr::from((own_network(), 9));
        let (output, _) = dht(task, "public", Some(gone));
        assert_eq!(output.status.code(), Some(code), "{task:?}: {}", output.stderr);
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn a_lookup_through_the_daemon_tells_who_has_a_file_and_asks_for_no_private_one() {
    if !have_apt() {
        return;
    }
    let package = Archive::shared().package("huddle-5");
    let huddle = Huddle::of(&[Config::default(), Config::default(), Config { public: false, ..Config::default() }]);
    huddle.give(0, &[package]);
    let lookup = |host: usize, sha256: &str| {
        let mut command = product();
        command
            .args(["lookup", "--json", sha256])
            .env("APT_HUDDLE_PROXY_LISTEN", huddle[host].daemon.proxy().to_string());
        let output = run_to_end(command);
        let answer: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        (output.status.success(), answer)
    };
    let (_, unknown) = lookup(1, &package.sha256);
    assert_eq!(unknown["not_asked"], "unknown", "it has not seen the archive's indexes yet");
    for host in [1, 2] {
        huddle[host].apt().update().expect_success();
    }
    let (found, answer) = lookup(1, &package.sha256);
    assert!(found && answer["holders"][0] == huddle[0].daemon.peers().to_string(), "{answer}");
    assert_eq!(lookup(2, &package.sha256).1["not_asked"], "private");
    huddle[0].daemon.until("somebody could connect", Duration::from_secs(20), |status| {
        status.0.pointer("/dht/reachable_v4").is_some_and(|state| state == "open")
    });
}
