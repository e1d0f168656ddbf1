//! `why` and `status`: the chain from a key to a file as the real binary tells it, and every way in which it breaks.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;

use crate::harness::{
    archive::{Archive, FIRST_DATE, LATER_DATE, Package},
    client::fetch,
    daemon::{Daemon, Output, product, run_to_end},
    deb::Size,
    eventually,
    huddle::Host,
    machine::Config,
    mirror::Mirror,
    scratch,
    suite::{self, Form, Suite},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a command against the daemon that listens there.
fn ask(proxy: SocketAddr, arguments: &[&str]) -> Output {
    let mut command = product();
    command.args(arguments).env("APT_HUDDLE_PROXY_LISTEN", proxy.to_string());
    let output = run_to_end(command);
    let is_text = !arguments.contains(&"--json");
    for line in output.stdout.lines().filter(|_| is_text) {
        assert!(line.chars().count() <= 80, "80 columns: {line:?}");
    }
    assert!(!output.stdout.contains('\u{1b}'), "{output:?}");
    output
}

/// Asks why, and expects this exit code.
#[track_caller]
fn why(daemon: &Daemon, question: &str, code: i32) -> String {
    let output = ask(daemon.proxy(), &["why", question]);
    assert_eq!(output.status.code(), Some(code), "{question}: {output:?}");
    output.stdout
}

/// The API's answer by way of `--json`.
#[track_caller]
fn why_json(daemon: &Daemon, question: &str) -> Value {
    let output = ask(daemon.proxy(), &["why", "--json", question]);
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{question}: {error}: {output:?}"))
}

/// Text without its line breaks, where a long path was broken.
fn squeezed(text: &str) -> String {
    text.split_whitespace().collect()
}

/// Fetches a suite's Release and index through a daemon, as apt does.
fn update(daemon: &Daemon, mirror: &Mirror) {
    for file in ["InRelease", "main/binary-amd64/Packages.xz"] {
        let target = format!("http://{}/debian/dists/huddle/{file}", mirror.authority());
        assert_eq!(fetch(daemon.proxy(), &target, &[]).status, 200, "{file}");
    }
}

/// Fetches a package; it comes as a file of known hash when the index was learned, which this waits for.
fn download(daemon: &Daemon, mirror: &Mirror, package: &Package) {
    let target = format!("http://{}{}", mirror.authority(), package.url_path());
    let answer = fetch(daemon.proxy(), &target, &[]);
    assert!(answer.whole && answer.body.len() as u64 == package.size, "{}", answer.head);
}

/// Waits until the package's file is in the catalogue.
fn wait_until_learned(daemon: &Daemon, package: &Package) {
    eventually("the index is learned", PATIENCE, || {
        (ask(daemon.proxy(), &["why", &package.sha256]).status.code() == Some(0)).then_some(())
    });
}

#[test]
fn the_chain_of_a_file_is_told_whole_in_whichever_way_it_is_asked_for() {
    let archive = Archive::shared();
    let hello = archive.package("hello");
    let mirror = Mirror::start(archive.root());
    let host = Host::start("whole", &mirror, &Config::default());
    let daemon = &host.daemon;
    update(daemon, &mirror);
    wait_until_learned(daemon, hello);

    let text = why(daemon, &hello.path, 0);
    assert!(text.contains("not held") && text.contains("whole"), "{text}");
    download(daemon, &mirror, hello);
    eventually("it is kept", PATIENCE, || (!why(daemon, &hello.path, 0).contains("not held")).then_some(()));

    let text = why(daemon, &hello.path, 0);
    let key_file = host.machine.apt_dir().join("trusted.gpg.d/huddle.asc");
    for part in [
        &*key_file.to_string_lossy(),
        &format!("{}/debian dists/huddle", mirror.authority()),
        "2025-03-01 12:00:00 UTC",
        "dists/huddle/main/binary-amd64/Packages.xz",
        "30,",
        &hello.sha256,
        "held",
        "offered: given to peers",
    ] {
        assert!(squeezed(&text).contains(&squeezed(part)), "{part} in\n{text}");
    }
    let answer = why_json(daemon, &hello.path);
    let chain = &answer["chains"][0];
    let index = std::fs::read(archive.root().join("debian/dists/huddle/main/binary-amd64/Packages.xz"));
    let index = apt_huddle::hash::ContentHash::of(&index.expect("published")).to_string();
    assert_eq!(chain["signer"]["fingerprint"].as_str().map(str::len), Some(40));
    assert_eq!(chain["signer"]["key_file"], key_file.to_string_lossy().as_ref());
    assert_eq!((&chain["release"]["suite"], &chain["release"]["date"]), (&"dists/huddle".into(), &FIRST_DATE.into()));
    assert_eq!(chain["index"]["sha256"], index);
    assert_eq!((&chain["file"]["sha256"], &chain["file"]["size"]), (&(*hello.sha256).into(), &hello.size.into()));
    assert_eq!((&answer["whole"], &chain["breaks"]), (&true.into(), &Value::Null));

    let (proxy, at) = (daemon.proxy(), mirror.authority());
    for question in [
        &hello.sha256,
        &hello.sha256.to_uppercase(),
        "hello",
        "hello:amd64",
        "hello=2.10+huddle~1",
        "hello:all=2.10+huddle~1",
        "hello_2.10+huddle~1_all.deb",
        &format!("{at}/debian/{}", hello.path),
        &format!("http://{at}/debian/{}", hello.path),
        &format!("http://{proxy}/{at}/debian/{}", hello.path),
        &format!("/{at}/debian//./{}", hello.path.replace('+', "%2B")),
    ] {
        assert_eq!(why(daemon, question, 0), text, "{question}");
    }

    let text = why(daemon, "dists/huddle/main/binary-amd64/Packages.xz", 0);
    assert!(text.contains(&index) && !text.contains("\n  index"), "a Release lists it itself:\n{text}");
    let page = daemon.page();
    let link = format!("/why?q={}", hello.sha256);
    assert!(page.contains(&format!("href=\"{link}\"")), "the recent files lead to it: {page}");
    let page = fetch(daemon.proxy(), &link, &[]);
    assert!(page.status == 200 && page.text().contains(&index), "{}", page.text());
}

#[test]
fn what_was_replaced_is_told_as_superseded_behind_what_replaced_it() {
    let archive = Archive::shared();
    let branch = archive.branch();
    let debian = branch.path().join("debian");
    let (old, keeps) = (archive.package("hello"), archive.package("huddle-empty"));
    let newer = Package::create(&debian, "pool-new", "hello", "2.11", Size::Whole(40_000), 21);
    Suite { date: LATER_DATE, packages: vec![newer.clone(), keeps.clone()], ..archive.suite("huddle") }
        .publish(&debian, archive.signer());

    let mirror = Mirror::start(archive.root());
    let host = Host::start("superseded", &mirror, &Config::default());
    let daemon = &host.daemon;
    update(daemon, &mirror);
    wait_until_learned(daemon, old);
    mirror.serve(branch.path());
    let release = format!("http://{}/debian/dists/huddle/InRelease", mirror.authority());
    assert_eq!(fetch(daemon.proxy(), &release, &[]).status, 200);
    let text = why(daemon, "huddle-empty", 1);
    assert!(squeezed(&text).contains("newerversionoftheindex"), "a mirror between two versions:\n{text}");

    update(daemon, &mirror);
    wait_until_learned(daemon, &newer);
    let text = why(daemon, &format!("hello={}", old.version), 1);
    assert!(text.contains("BROKEN") && text.contains("superseded"), "{text}");
    assert!(squeezed(&text).contains("notoffered:itissuperseded"), "{text}");
    assert_eq!(why(daemon, &old.sha256, 1), text);
    let both = why_json(daemon, "hello");
    let versions: Vec<_> =
        both["chains"].as_array().expect("a list").iter().map(|chain| &chain["file"]["path"]).collect();
    assert_eq!(versions, [&*newer.path, &*old.path]);
    assert_eq!(both["whole"], true);
    assert!(why(daemon, "hello", 0).matches("BROKEN").count() == 1);
}

#[test]
fn of_many_versions_the_newest_are_shown_and_the_others_counted() {
    let archive = Archive::shared();
    let branch = archive.branch();
    let hello = archive.package("hello");
    let package = |number: u32| Package {
        version: format!("1.{number}"),
        path: format!("pool/main/m/many/many_1.{number}_all.deb"),
        sha256: apt_huddle::hash::ContentHash::of(&number.to_be_bytes()).to_string(),
        name: "many".into(),
        ..hello.clone()
    };
    let packages: Vec<_> = (1..=30).map(package).collect();
    Suite { packages: packages.clone(), forms: vec![Form::Xz], ..archive.suite("huddle") }
        .publish(&branch.path().join("debian"), archive.signer());
    let mirror = Mirror::start(branch.path());
    let host = Host::start("many", &mirror, &Config::default());
    update(&host.daemon, &mirror);
    wait_until_learned(&host.daemon, &packages[0]);
    let answer = why_json(&host.daemon, "many");
    let shown: Vec<_> =
        answer["chains"].as_array().expect("a list").iter().map(|chain| &chain["file"]["path"]).collect();
    let newest: Vec<_> = packages.iter().rev().take(20).map(|package| &*package.path).collect();
    assert_eq!(shown, newest);
    assert_eq!(answer["more"], 10);
    assert!(why(&host.daemon, "many", 0).contains("10 more"));
    assert!(why(&host.daemon, "many=1.2", 0).contains("many_1.2_all.deb"));
}

#[test]
fn what_nobody_vouches_for_is_told_with_what_is_known() {
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    let host = Host::start("unknown", &mirror, &Config::default());
    let daemon = &host.daemon;
    let hello = archive.package("hello");
    let text = why(daemon, &hello.path, 1);
    assert!(text.contains("no signed Release"), "{text}");
    update(daemon, &mirror);
    wait_until_learned(daemon, hello);
    for question in ["pool/main/n/nothing.deb", "nothing", &"0".repeat(64), "hello=2.10", "hello:i386=1"] {
        let text = why(daemon, question, 1);
        assert!(squeezed(&text).contains("noindexthatwasseenlistsit"), "{question}:\n{text}");
        assert!(text.contains("known") && text.contains("dists/huddle"), "{question}:\n{text}");
    }
    let elsewhere = why(daemon, &format!("http://mirror.example.org/debian/{}", hello.path), 1);
    assert!(elsewhere.contains("no signed Release") && !elsewhere.contains("known"), "{elsewhere}");
    let release = why(daemon, "dists/huddle/InRelease", 1);
    assert!(squeezed(&release).contains("carriesitssignatureitself"), "{release}");
    let private = format!("http://penguin:secret@{}/debian/{}", mirror.authority(), hello.path);
    let text = why(daemon, &private, 1);
    assert!(text.contains("password") && !text.contains("secret"), "{text}");
}

#[test]
fn what_was_refused_is_told_with_the_reason() {
    let archive = Archive::shared();
    let hello = archive.package("hello");
    let branch = archive.branch();
    let debian = branch.path().join("debian");
    archive.suite("huddle").publish(&debian, archive.signer());
    suite::tamper_with_packages(&debian, "huddle", hello);
    let mirror = Mirror::start(branch.path());
    let host = Host::start("refused", &mirror, &Config::default());
    let daemon = &host.daemon;
    update(daemon, &mirror);
    for question in [&*hello.path, "hello", &format!("http://{}/debian/{}", mirror.authority(), hello.path)] {
        let text = why(daemon, question, 1);
        assert!(text.contains("REFUSED") && squeezed(&text).contains("Packages.xz:"), "{question}:\n{text}");
    }

    suite::tamper_with_release(&debian, "huddle");
    let release = format!("http://{}/debian/dists/huddle/InRelease", mirror.authority());
    assert_eq!(fetch(daemon.proxy(), &release, &[]).status, 200);
    let text = why(daemon, "hello", 1);
    assert!(text.contains("InRelease") && text.contains("bad signature"), "{text}");
    let text = why(daemon, "dists/huddle/main/binary-amd64/Packages.xz", 0);
    assert!(text.contains("whole") && text.contains("REFUSED"), "what was learned before still holds:\n{text}");
    let elsewhere = why(daemon, "http://mirror.example.org/debian/pool/a.deb", 1);
    assert!(!elsewhere.contains("REFUSED"), "that is another mirror's matter:\n{elsewhere}");
}

#[test]
fn why_peers_get_nothing_is_told() {
    let archive = Archive::shared();
    let hello = archive.package("hello");
    let mirror = Mirror::start(archive.root());
    let told = |daemon: &Daemon| why_json(daemon, "hello")["chains"][0]["peers"].clone();
    for (config, peers) in [
        (Config { public: false, ..Config::default() }, "not_public"),
        (Config { share: "take", ..Config::default() }, "take_only"),
        (Config { share: "off", ..Config::default() }, "off"),
    ] {
        let host = Host::start(peers, &mirror, &config);
        update(&host.daemon, &mirror);
        wait_until_learned(&host.daemon, hello);
        assert_eq!(told(&host.daemon), peers);
        why(&host.daemon, "hello", 0);
    }
    let mut host = Host::start("named", &mirror, &Config::default());
    update(&host.daemon, &mirror);
    wait_until_learned(&host.daemon, hello);
    assert_eq!(told(&host.daemon), "not_held");
    host.daemon.stop("TERM");
    let mut command = product();
    command.arg("run").arg("--config").arg(host.machine.dir().join("apt-huddle.toml"));
    command.env("APT_HUDDLE_PRIVACY_HOSTS", mirror.authority());
    host.daemon = Daemon::start_as("named", command, true).expect("it starts");
    assert_eq!(told(&host.daemon), "host_named");
}

#[test]
fn hostile_questions_find_nothing_and_are_shown_as_text() {
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    let host = Host::start("hostile", &mirror, &Config::default());
    let daemon = &host.daemon;
    update(daemon, &mirror);
    wait_until_learned(daemon, archive.package("hello"));
    for question in
        ["%", "_", "hell_", "hel%", "he'llo", "' OR '1'='1", "\"; DROP TABLE promise; --", "*", "%00", "hello%"]
    {
        assert!(why(daemon, question, 1).contains("nobody vouches"), "{question}");
    }
    why(daemon, "hello", 0);
    for question in
        ["", "  ", "\u{1b}[31mhello", "a\tb", "../../etc/passwd", "ftp://mirror.example.org/a", &"a".repeat(5000)]
    {
        let output = ask(daemon.proxy(), &["why", question]);
        assert_eq!(output.status.code(), Some(2), "{question:?}: {output:?}");
        assert!(output.stdout.is_empty() && output.stderr.trim().lines().count() == 1, "{question:?}: {output:?}");
    }
    for query in ["%3Cscript%3Ealert(1)%3C/script%3E", "%22%3E%3Cscript%3E", "http://%3Cscript%3E/", "%00%3Cscript%3E"]
    {
        let page = fetch(daemon.proxy(), &format!("/why?q={query}"), &[]).text();
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script>"), "{query}: {page}");
    }
    let page = fetch(daemon.proxy(), "/why?q=..%2F..%2Fa", &[]);
    assert!(page.status == 400 && page.field("content-security-policy").is_some(), "{page:?}");
    for target in ["/why", "/why?", "/why?q=", "/why?p=1&q"] {
        assert_eq!(fetch(daemon.proxy(), target, &[]).status, 200, "{target} shows how to ask");
    }
    for target in ["/api/v1/why", "/api/v1/why?q=%ff%fe%00"] {
        let answer = fetch(daemon.proxy(), target, &[]);
        let said: Value = serde_json::from_slice(&answer.body).expect("JSON in any case");
        assert!(answer.status == 400 && said["error"].is_string(), "{target}: {answer:?}");
    }
}

#[test]
fn the_status_is_told_in_the_terminal_and_without_a_daemon_what_to_do() {
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    let mut host = Host::start("status", &mirror, &Config::default());
    update(&host.daemon, &mirror);
    wait_until_learned(&host.daemon, archive.package("hello"));
    download(&host.daemon, &mirror, archive.package("huddle-1"));
    let proxy = host.daemon.proxy();
    let output = ask(proxy, &["status"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for part in ["apt-huddle 0.", "from peers", "from mirror", "nodes", "dists/huddle", &format!("http://{proxy}/")] {
        assert!(output.stdout.contains(part), "{part} in\n{}", output.stdout);
    }
    let output = ask(proxy, &["status", "--json"]);
    let said: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!(said["suites"][0]["suite"], host.daemon.status().0["suites"][0]["suite"]);

    // A configuration file says where to ask as well.
    let config = scratch("asks-").keep().join("apt-huddle.toml");
    std::fs::write(&config, format!("[proxy]\nlisten = [\"{proxy}\"]\n")).expect("the scratch directory is ours");
    let asked = |arguments: &[&str]| {
        let mut command = product();
        command.args(arguments).arg("--config").arg(&config);
        run_to_end(command)
    };
    assert_eq!(asked(&["status"]).status.code(), Some(0));
    assert_eq!(asked(&["why", "hello"]).status.code(), Some(0));
    assert_eq!(asked(&["why"]).status.code(), Some(2), "a question is missing");

    host.daemon.stop("TERM");
    for arguments in [&["status"][..], &["why", "hello"], &["why", "--json", "hello"]] {
        let output = asked(arguments);
        assert_eq!((output.status.code(), output.stdout.as_str()), (Some(3), ""), "{output:?}");
        assert!(output.stderr.contains("apt-huddle run") && output.stderr.contains(&proxy.to_string()), "{output:?}");
    }
}
