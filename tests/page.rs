//! The page, its stream, the local API and the metrics, as programs see them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;

use crate::harness::{
    apt::have_apt,
    archive::Archive,
    client::{Answer, fetch, speak},
    daemon::{product, run_to_end},
    eventually,
    huddle::{Host, Huddle},
    machine::Config,
    mirror::{Fault, Mirror},
};

/// What somebody might put into a question.
const HOSTILE: &str = "%3Cscript%3Ealert(1)%3C/script%3E%22%3E%27%0D%0Aevent:%20section%0D%0A%0D%0A%00";

/// A file that stands beside the sources.
fn kept(name: &str) -> String {
    fs::read_to_string(format!("{}/etc/{name}", env!("CARGO_MANIFEST_DIR"))).expect("a file of ours")
}

/// Where a daemon's answer differs from the schema of the API's description.
fn differences(api: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = api.pointer(reference.trim_start_matches('#')).expect("a reference leads somewhere");
        return differences(api, schema, value, at);
    }
    for kind in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[kind].as_array() {
            let all: Vec<_> = choices.iter().map(|choice| differences(api, choice, value, at)).collect();
            return if all.iter().any(Vec::is_empty) { Vec::new() } else { all.concat() };
        }
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        Value::String(one) => vec![one],
        _ => return Vec::new(),
    };
    let is = |kind: &&str| match *kind {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{at}: type {other} is not checked yet"),
    };
    if !types.iter().any(is) {
        return vec![format!("{at}: {value} is none of {types:?}")];
    }
    let mut found = Vec::new();
    if let Some(words) = schema["enum"].as_array().filter(|words| !words.contains(value)) {
        found.push(format!("{at}: {value} is none of {words:?}"));
    }
    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(differences(api, &schema["items"], item, &format!("{at}/{number}")));
    }
    if let (Some(fields), Some(known)) = (value.as_object(), schema["properties"].as_object()) {
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        found.extend(required.filter(|name| !fields.contains_key(*name)).map(|name| format!("{at}: no {name}")));
        for (name, field) in fields {
            match known.get(name) {
                Some(schema) => found.extend(differences(api, schema, field, &format!("{at}/{name}"))),
                None => found.push(format!("{at}: {name} is not described")),
            }
        }
    }
    found
}

/// Asks for a path of the description, and holds the answer to it.
#[track_caller]
fn described(api: &Value, to: SocketAddr, path: &str, query: &str) -> Value {
    let answer = fetch(to, &format!("{path}{query}"), &[]);
    let value: Value = serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{path}{query}: {answer:?}"));
    let response = &api["paths"][path]["get"]["responses"][answer.status.to_string()];
    let schema = &response["content"]["application/json"]["schema"];
    assert!(schema.is_object(), "{path}{query}: {} is not described", answer.status);
    assert_eq!(differences(api, schema, &value, ""), Vec::<String>::new(), "{path}{query}");
    value
}

#[test]
fn every_answer_of_the_api_is_as_its_description_says() {
    if !have_apt() {
        return;
    }
    let last = Config { mirror: "last", ..Config::default() };
    let package = Archive::shared().package("huddle-5");
    let huddle = Huddle::of(&[Config::default(), last]);
    huddle.give(0, &[package]);
    huddle.give(1, &[package]);
    let api = fetch(huddle[1].daemon.proxy(), "/api/v1/openapi.json", &[]).text();
    assert_eq!(api, kept("openapi.json"));
    let api: Value = serde_json::from_str(&api).expect("JSON");
    let to = huddle[1].daemon.proxy();
    let status = described(&api, to, "/api/v1/status", "");
    assert_eq!(
        (&status["recent"][0]["map"]["cells"], &status["bytes"]["from_lan"]),
        (&"lllll".into(), &status["bytes"]["from_peers"])
    );
    assert!(status["apt"]["requests"].as_u64() > Some(0) && status["apt"]["last"].is_u64(), "{}", status["apt"]);
    assert_eq!(status["saved"]["days"].as_array().map(Vec::len), Some(30));
    assert!(status["suites"][0]["date"].is_u64(), "{}", status["suites"]);
    let giver = described(&api, huddle[0].daemon.proxy(), "/api/v1/peers", "");
    let taken: u64 = ["peers", "takers"]
        .iter()
        .flat_map(|list| giver[list].as_array().expect("a list"))
        .filter_map(|one| one["taken"].as_u64())
        .sum();
    assert!(taken >= package.size, "{giver}");
    let why = described(&api, to, "/api/v1/why", &format!("?q={}", package.sha256));
    assert_eq!(
        (&why["chains"][0]["pieces"]["came"], &why["chains"][0]["pieces"]["map"]["cells"]),
        (&"this_run".into(), &"lllll".into())
    );
    for query in ["?q=nothing-of-this-name", "", &format!("?q={HOSTILE}"), "?q=http://mirror.example.org/debian/a.deb"]
    {
        described(&api, to, "/api/v1/why", query);
    }
    described(&api, to, "/api/v1/lookup", &format!("?q={}", package.sha256));
    described(&api, to, "/api/v1/lookup", &format!("?q={HOSTILE}"));
    let described_paths: BTreeSet<_> = api["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
    assert_eq!(described_paths, BTreeSet::from(["/api/v1/lookup", "/api/v1/peers", "/api/v1/status", "/api/v1/why"]));
}

/// The families of a text of OpenMetrics, each with its type, and every sample with its labels.
fn families(text: &str) -> BTreeMap<String, (String, Vec<(String, f64)>)> {
    let mut families = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut current = String::new();
    assert!(text.ends_with("# EOF\n"), "{text}");
    for line in text.lines() {
        let words: Vec<_> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, help] => drop((helped.insert(name.to_owned()), assert!(help.ends_with('.'), "{line}"))),
            ["#", "TYPE", name, kind] => {
                current = name.to_owned();
                let before = families.insert(current.clone(), (kind.to_owned(), Vec::new()));
                assert!(before.is_none() && helped.contains(name), "{line}");
            }
            ["#", "UNIT", name, unit] => assert!(name == current && name.ends_with(unit), "{line}"),
            ["#", "EOF"] => {}
            _ => {
                let (series, value) = line.rsplit_once(' ').expect("a sample");
                let name = series.split('{').next().expect("a name");
                assert!(
                    name.starts_with(&current) && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                    "{line}"
                );
                let samples = &mut families.get_mut(&current).expect("a family").1;
                assert!(samples.iter().all(|(other, _)| other != series), "{line}");
                samples.push((series.to_owned(), value.parse().expect("a number")));
            }
        }
    }
    families
}

#[test]
fn metrics_keep_the_rules_of_naming_and_dashboard_and_alerts_use_only_these() {
    if !have_apt() {
        return;
    }
    let mirror = Mirror::start(Archive::shared().root());
    let host = Host::start("metrics", &mirror, &Config::default());
    host.apt().update().expect_success();
    let package = Archive::shared().package("huddle-2");
    let url = format!("http://{}{}", mirror.authority(), package.url_path());
    assert!(fetch(host.daemon.proxy(), &url, &[]).whole);
    let answer = eventually("it is counted", Duration::from_secs(30), || {
        let answer = fetch(host.daemon.proxy(), "/metrics", &[]);
        answer.text().contains("apt_huddle_downloads_total{result=\"brought\"}").then_some(answer)
    });
    assert_eq!(answer.field("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let families = families(&answer.text());
    for (name, (kind, samples)) in &families {
        assert!(
            name.starts_with("apt_huddle_") && ["counter", "gauge", "info"].contains(&kind.as_str()),
            "{name} {kind}"
        );
        let ending = if kind == "counter" {
            "_total"
        } else if kind == "info" {
            "_info"
        } else {
            ""
        };
        for (series, value) in samples {
            assert_eq!(series.split('{').next(), Some(format!("{name}{ending}").as_str()));
            assert!(value.is_finite() && *value >= 0.0, "{series} {value}");
        }
        for unit in ["_ms", "_kb", "_mb", "_percent", "_minutes"] {
            assert!(!name.ends_with(unit), "{name}: base units");
        }
    }
    let sample = |series: &str| {
        let all = families.values().flat_map(|(_, samples)| samples);
        all.clone().find(|(name, _)| name == series).unwrap_or_else(|| panic!("{series}")).1
    };
    assert!(sample("apt_huddle_received_bytes_total{source=\"mirror\"}") >= package.size as f64);
    assert!(sample("apt_huddle_requests_total") > 1.0 && sample("apt_huddle_store_files") >= 1.0);
    let series: BTreeSet<_> = families
        .values()
        .flat_map(|(_, samples)| samples)
        .map(|(name, _)| name.split('{').next().expect("a name"))
        .collect();
    for file in ["apt-huddle.grafana.json", "apt-huddle.rules.yml"] {
        let text = kept(file);
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let used: BTreeSet<_> = text.split(|c| !is_of_name(c)).filter(|word| word.starts_with("apt_huddle_")).collect();
        assert!(used.len() >= 5, "{file} uses {used:?}");
        let unknown: Vec<_> = used.difference(&series).filter(|name| !OPTIONAL.contains(name)).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
    let dashboard: Value = serde_json::from_str(&kept("apt-huddle.grafana.json")).expect("JSON");
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() >= 6), "{dashboard}");
}

/// Series that are there only when somebody has measured them.
const OPTIONAL: [&str; 2] = ["apt_huddle_dht_lookup_seconds", "apt_huddle_reachable"];

/// A stream of the page's, and what it has sent.
struct Stream {
    reader: BufReader<TcpStream>,
    head: String,
}

impl Stream {
    fn open(to: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(to).expect("the daemon listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("not zero");
        stream.write_all(format!("GET /live HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).expect("it reads");
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).expect("a head") > 0, "{head}");
        }
        Self { reader, head: head.to_ascii_lowercase() }
    }

    /// The next section; `None` at the end of the stream.
    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).expect("JSON"));
            }
        }
    }
}

#[test]
fn a_stream_tells_what_changes_has_few_places_and_ends_with_the_daemon() {
    let mirror = Mirror::start(Archive::shared().root());
    let mut host = Host::start("stream", &mirror, &Config { share: "off", ..Config::default() });
    let to = host.daemon.proxy();
    let mut first = Stream::open(to);
    assert!(
        first.head.starts_with("http/1.1 200") && first.head.contains("content-type: text/event-stream"),
        "{}",
        first.head
    );
    let ids: Vec<_> =
        (0..8).map(|_| first.next().expect("a section")["id"].as_str().expect("an id").to_owned()).collect();
    assert_eq!(ids, ["state", "refused", "saved", "live", "recent", "mirrors", "peers", "kept"]);
    let next = first.next().expect("time goes on");
    assert!(next["id"] == "state" && next["html"].as_str().is_some_and(|html| html.contains("Working for")), "{next}");
    let mut more: Vec<_> = (1..16).map(|_| Stream::open(to)).collect();
    assert!(more.iter().all(|stream| stream.head.starts_with("http/1.1 200")));
    let refused = fetch(to, "/live", &[]);
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("30")), "{}", refused.head);
    drop(more.pop());
    eventually("a place is free again", Duration::from_secs(30), || {
        Stream::open(to).head.starts_with("http/1.1 200").then_some(())
    });
    let (status, took) = host.daemon.stop("TERM");
    assert!(status.success() && took < Duration::from_secs(8), "{status} {took:?}");
    while first.next().is_some() {}
    let mut rest = Vec::new();
    first.reader.read_to_end(&mut rest).ok();
}

#[test]
fn the_pages_are_for_this_host_alone_and_run_nothing_of_strangers() {
    let mirror = Mirror::start(Archive::shared().root());
    let host = Host::start("pages", &mirror, &Config { share: "off", ..Config::default() });
    let to = host.daemon.proxy();
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
                  form-action 'self'; frame-ancestors 'none'";
    let is_safe = |answer: &Answer| {
        let text = answer.text();
        answer.field("content-security-policy") == Some(policy)
            && answer.field("x-content-type-options") == Some("nosniff")
            && !text.to_ascii_lowercase().contains("<script>")
            && !text.contains(" style=")
            && !text.contains(" onerror")
    };
    let paths =
        ["/".to_owned(), "/why".into(), format!("/why?q={HOSTILE}"), format!("/why/{HOSTILE}"), format!("/?{HOSTILE}")];
    for path in &paths {
        let answer = fetch(to, path, &[]);
        assert!(is_safe(&answer) && answer.status < 500, "{path}: {}\n{}", answer.head, answer.text());
    }
    for (path, kind) in [("/style.css", "text/css"), ("/live.js", "text/javascript"), ("/icon.svg", "image/svg+xml")] {
        let answer = fetch(to, path, &[]);
        let is_of_kind = answer.field("content-type").is_some_and(|is| is.starts_with(kind));
        assert!(
            answer.status == 200 && is_of_kind && answer.field("x-content-type-options") == Some("nosniff"),
            "{path}: {}",
            answer.head
        );
    }
    for path in ["/", "/live", "/metrics", "/api/v1/status", "/api/v1/peers", "/why"] {
        let answer = speak(to, &format!("GET {path} HTTP/1.1\r\nHost: evil.example.org\r\nConnection: close\r\n\r\n"));
        assert!(answer.status >= 400 && !answer.text().contains("Working for"), "{path}: {}", answer.head);
    }
    assert_eq!(
        speak(to, "POST /api/v1/status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .status,
        405
    );
}

#[test]
fn what_was_saved_outlives_the_daemon() {
    if !have_apt() {
        return;
    }
    let mirror = Mirror::start(Archive::shared().root());
    let mut host = Host::start("saved", &mirror, &Config::default());
    host.apt().update().expect_success();
    let package = Archive::shared().package("huddle-4");
    let url = format!("http://{}{}", mirror.authority(), package.url_path());
    (0..2).for_each(|_| assert!(fetch(host.daemon.proxy(), &url, &[]).whole));
    let before = host.daemon.status();
    let saved = |status: &Value| ["today", "month", "ever"].map(|span| status["saved"][span].clone());
    assert!(before.number("/saved/ever/mirror") >= package.size, "{}", before.0["saved"]);
    assert_eq!(before.number("/saved/ever/store"), before.number("/bytes/from_store"));
    let (status, _) = host.daemon.stop("TERM");
    assert!(status.success());
    host.daemon = host.machine.start(&Config::default());
    let after = host.daemon.status();
    assert_eq!(after.number("/bytes/from_mirror"), 0);
    // Days change at midnight.
    assert_eq!(saved(&before.0)[2], saved(&after.0)[2]);
    host.daemon.kill();
}

#[test]
fn a_terminal_can_watch_and_sees_who_is_there() {
    if !have_apt() {
        return;
    }
    let last = Config { mirror: "last", ..Config::default() };
    let package = Archive::shared().package("huddle-5");
    let huddle = Huddle::of(&[Config::default(), last]);
    huddle.give(0, &[package]);
    huddle.give(1, &[package]);
    let command = |arguments: &[&str]| {
        let mut command = product();
        command.args(arguments).env("APT_HUDDLE_PROXY_LISTEN", huddle[1].daemon.proxy().to_string());
        command
    };
    let peers = run_to_end(command(&["peers"]));
    assert!(peers.status.success() && peers.stdout.contains(&huddle[0].daemon.peers().to_string()), "{}", peers.stdout);
    assert!(peers.stdout.lines().all(|line| line.chars().count() <= 80), "{}", peers.stdout);
    let json: Value = serde_json::from_str(&run_to_end(command(&["peers", "--json"])).stdout).expect("JSON");
    assert!(json["peers"][0]["given"].as_u64() >= Some(package.size), "{json}");

    let slow = Archive::shared().package("huddle-69");
    huddle.mirror.fault(&slow.url_path(), Fault::Slow(6_000_000));
    let mut watch =
        command(&["status", "--watch", "--json"]).stdout(Stdio::piped()).spawn().expect("the binary was built");
    let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().expect("a line").expect("text")).expect("JSON") };
    let first = next();
    std::thread::scope(|scope| {
        let url = format!("http://{}{}", huddle.mirror.authority(), slow.url_path());
        let proxy = huddle[1].daemon.proxy();
        scope.spawn(move || assert!(fetch(proxy, &url, &[]).whole));
        while next()["live"][0]["pieces_there"].as_u64() < Some(2) {}
    });
    assert!(next()["at"].as_u64() > first["at"].as_u64());
    watch.kill().expect("it goes on until it is told to stop");
    watch.wait().expect("our child");
    let nobody = run_to_end({
        let mut command = product();
        command.args(["status", "--watch"]).env("APT_HUDDLE_PROXY_LISTEN", "127.0.0.1:9");
        command
    });
    assert_eq!(nobody.status.code(), Some(3), "{}", nobody.stderr);
}
