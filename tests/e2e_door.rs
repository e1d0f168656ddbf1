//! The door: requests in a row on one connection, clients that must not be left in silence, and the rest of a file alone.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use apt_huddle::{
    archive::{Privacy, Proxies},
    fetch::{self, Fetcher},
    flow::{Flow, Rules, Stations, apt::Apt},
    mirror::{Mirror as Origins, guard, upstream::Upstream},
    peer::Pool,
    proxy::{Door, wire::Pace},
    store::{self, Store},
};

use crate::harness::{
    PIECE,
    apt::{Way, have_apt},
    archive::Archive,
    client::{fetch, speak},
    eventually,
    huddle::Host,
    machine::{Config, Machine},
    mirror::{Fault, Mirror, http_date},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A door of this process, on a machine's store and sources, that breaks the silence sooner than the daemon's.
fn open_door(machine: &Machine) -> SocketAddr {
    let config = store::Config { path: machine.store(), quota: 1 << 30, min_free: 0 };
    let store = Store::open(&config, |_| true).expect("a store");
    let mirror = Origins::new(Upstream::default()).expect("a client of mirrors");
    let fetcher = Fetcher::new(fetch::Config::default(), Pool::new(None), mirror.clone(), store.clone());
    let apt = Apt::load(machine.apt_dir(), Vec::new(), Proxies::default());
    let rules = Rules { origins: guard::Origins::default(), privacy: Privacy::default(), apt };
    let flow = Flow::new(Stations { store, dht: None, fetcher, mirror }, rules);
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    let pace = Pace { silence: Duration::from_millis(500) };
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let door = Door { flow, allow: Vec::new(), pace };
            door.open(vec![listener], |_| {}).expect("a door").await.ok();
        });
    });
    address
}

/// Sends requests in one go and reads their answers one after the other: status, fields and body of each.
fn converse(to: SocketAddr, requests: &[(&str, String)]) -> Vec<(u16, String, Vec<u8>)> {
    let mut stream = TcpStream::connect(to).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let all: String =
        requests.iter().map(|(method, url)| format!("{method} {url} HTTP/1.1\r\nHost: {to}\r\n\r\n")).collect();
    stream.write_all(all.as_bytes()).expect("it reads");
    let mut reader = BufReader::new(stream);
    let read = |(method, _): &(&str, String)| {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).expect("an answer") > 0, "it ended: {head}");
        }
        let head = head.to_ascii_lowercase();
        let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        let mut body = vec![0; if *method == "HEAD" { 0 } else { length }];
        reader.read_exact(&mut body).expect("the whole body");
        (status, head, body)
    };
    requests.iter().map(read).collect()
}

#[test]
fn heads_and_files_in_a_row_are_answered_in_their_order() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    let host = Host::start("row", &mirror, &Config::default());
    host.apt().update().expect_success();
    let url = |path: &str| format!("http://{}{path}", mirror.authority());
    let packages = ["hello", "huddle-1", "huddle-2", "huddle-empty"].map(|name| archive.package(name));
    let mut requests = vec![("GET", "/healthz".to_owned())];
    for package in packages {
        requests.extend([("HEAD", url(&package.url_path())), ("GET", url(&package.url_path()))]);
        requests.push(("GET", url("/debian/none.deb")));
    }
    for round in 0..2 {
        let answers = converse(host.daemon.proxy(), &requests);
        assert_eq!(answers[0].0, 200);
        for (answers, package) in answers[1..].chunks(3).zip(packages) {
            let [head, file, none] = answers else { panic!("three of each") };
            assert_eq!((head.0, file.0, none.0), (200, 200, 404), "round {round}, {}", package.name);
            assert!(head.1.contains(&format!("content-length: {}", package.size)), "{}", head.1);
            assert!(file.2 == package.bytes(), "round {round}, {}: {}", package.name, file.1);
        }
    }
    packages.iter().for_each(|package| {
        assert_eq!(mirror.server().sent(&package.url_path()), package.size, "{}: once", package.name);
    });
}

#[test]
fn ten_requests_that_wait_are_asked_of_the_mirror_at_once() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    let host = Host::start("ahead", &mirror, &Config::default());
    host.apt().update().expect_success();
    let promised: Vec<_> = archive.packages().iter().filter(|package| package.size < 4 * PIECE).collect();
    // Of suites that nobody learned.
    let files = [("gz", "Packages.gz"), ("xz", "Packages.xz"), ("plain", "Packages")];
    let files = files.map(|(suite, file)| format!("/debian/dists/{suite}/main/binary-amd64/{file}"));
    let paths: Vec<_> = promised.iter().map(|package| package.url_path()).chain(files).take(10).collect();
    paths.iter().for_each(|path| mirror.fault(path, Fault::StallAfter(0)));
    assert_eq!(paths.len(), 10);
    let asked = || paths.iter().filter(|path| !mirror.server().requests(path).is_empty()).count();
    let requests: Vec<_> = paths.iter().map(|path| ("GET", format!("http://{}{path}", mirror.authority()))).collect();
    thread::scope(|scope| {
        let answers = scope.spawn(|| converse(host.daemon.proxy(), &requests));
        eventually("all are asked while none is answered", PATIENCE, || (asked() == paths.len()).then_some(()));
        mirror.heal();
        for (path, (status, head, body)) in paths.iter().zip(answers.join().expect("answers")) {
            assert_eq!(status, 200, "{path}: {head}");
            assert!(body == fs::read(archive.root().join(&path[1..])).expect("a file"), "{path}: {head}");
        }
    });
}

#[test]
fn what_may_be_framed_in_two_ways_ends_the_connection_and_nothing_behind_it_is_asked() {
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    let host = Host::start("torture", &mirror, &Config::default());
    let url = |path: &str| format!("http://{}{path}", mirror.authority());
    let smuggled = format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", url("/debian/smuggled"));
    for (fields, status) in [
        (format!("Content-Length: {}\r\n", smuggled.len()), 413),
        ("Transfer-Encoding: chunked\r\n".to_owned(), 413),
        ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n".to_owned(), 400),
        ("Content-Length: 0\r\nContent-Length: 9\r\n".to_owned(), 400),
        ("X: a\r\n b\r\n".to_owned(), 400),
        ("X: a\nY: b\r\n".to_owned(), 400),
        (format!("X: {}\r\n", "x".repeat(100_000)), 431),
    ] {
        let target = url("/debian/dists/huddle/InRelease");
        let answer = speak(
            host.daemon.proxy(),
            &format!("POST {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n{smuggled}{smuggled}"),
        );
        assert!(answer.status == status && answer.whole, "{fields:.60}: {answer:?}");
        assert_eq!(answer.field("connection"), Some("close"));
    }
    assert_eq!(mirror.server().requests("/").len(), 0);
    // One that asks for another protocol is answered in this one.
    let fields = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"];
    let answer = fetch(host.daemon.proxy(), &url("/debian/dists/huddle/InRelease"), &fields);
    assert_eq!((answer.status, answer.whole), (200, true), "{}", answer.head);
}

#[test]
fn apt_waits_for_a_silent_mirror_far_beyond_its_own_patience() {
    if !have_apt() {
        return;
    }
    let mirror = Mirror::start(Archive::shared().root());
    let machine = Machine::new("silent", &mirror);
    let apt = machine.apt(Way::Proxy(open_door(&machine)));
    apt.update().expect_success();
    for (name, fault) in [("huddle-1", Fault::StallAfter(0)), ("huddle-2", Fault::StallAfter(200_000))] {
        let package = Archive::shared().package(name);
        mirror.fault(&package.url_path(), fault);
        let run = apt.download_with(&["Acquire::http::Timeout=2", "Acquire::Retries=0"], &[name]);
        eventually("the mirror is asked", PATIENCE, || {
            (!mirror.server().requests(&package.url_path()).is_empty()).then_some(())
        });
        // Two connections of two seconds each are what apt would spend.
        thread::sleep(Duration::from_secs(7));
        mirror.heal();
        let run = run.finish().expect_success();
        assert!(!run.text.contains("Ign:") && !run.text.contains("Err:"), "{fault:?}: {}", run.text);
        apt.assert_downloaded(package);
    }
}

/// Asks for a file and looks at what comes for as long as it is on its way: nothing but a beginning that says nothing. A
/// refusal is another matter, and it asks again. How often it looked.
fn watch(door: SocketAddr, target: &str, is_on_its_way: impl Fn() -> bool) -> usize {
    let mut looks = 0;
    while is_on_its_way() {
        let mut stream = TcpStream::connect(door).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_millis(100))).expect("not zero");
        write!(stream, "GET {target} HTTP/1.1\r\nHost: {door}\r\n\r\n").expect("it reads");
        let mut came = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => came.extend_from_slice(&buffer[..read]),
                Err(error) => assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}"),
            }
            if !is_on_its_way() {
                return looks;
            }
            let text = String::from_utf8_lossy(&came);
            let text = text.trim_start_matches("HTTP/1.1").trim_start();
            if text.starts_with("502") {
                break;
            }
            assert!(text.is_empty(), "given before it was proven: {text:?}");
            looks += 1;
        }
    }
    looks
}

#[test]
fn after_a_cut_apt_waits_for_bytes_that_are_proven() {
    if !have_apt() {
        return;
    }
    let package = Archive::shared().package("huddle-2");
    let mirror = Mirror::start(Archive::shared().root());
    let machine = Machine::new("proven", &mirror);
    let door = open_door(&machine);
    let apt = machine.apt(Way::Proxy(door));
    apt.update().expect_success();
    mirror.fault(&package.url_path(), Fault::Lie);
    let run = apt.download_with(&["Acquire::http::Timeout=2", "Acquire::Retries=3"], &[&package.name]);
    let mark = machine.store().join("released").join(&package.sha256);
    eventually("it is cut", PATIENCE, || fs::metadata(&mark).is_ok_and(|mark| mark.len() > 0).then_some(()));
    mirror.heal();
    mirror.fault(&package.url_path(), Fault::Slow(package.size / 7));
    let start = Instant::now();
    let sent = mirror.server().sent(&package.url_path());
    let is_on_its_way = || mirror.server().sent(&package.url_path()) < sent + package.size / 2;
    let looks = watch(door, &format!("http://{}{}", mirror.authority(), package.url_path()), is_on_its_way);
    assert!(looks > 3, "it was given nothing {looks} times");
    let run = run.finish().expect_success();
    assert!(start.elapsed() > Duration::from_secs(6), "nothing was given before it was proven: {}", run.text);
    assert_eq!(run.text.matches("Ign:").count(), 1, "cut once: {}", run.text);
    apt.assert_downloaded(package);
}

#[test]
fn the_rest_of_a_file_is_given_alone_to_who_has_the_beginning_of_this_version() {
    if !have_apt() {
        return;
    }
    let package = Archive::shared().package("huddle-4");
    let mirror = Mirror::start(Archive::shared().root());
    let host = Host::start("rest", &mirror, &Config::default());
    host.apt().update().expect_success();
    mirror.fault(&package.url_path(), Fault::Slow(1_000_000));
    let target = format!("http://{}{}", mirror.authority(), package.url_path());
    let modified = http_date(fs::metadata(&package.file).and_then(|meta| meta.modified()).expect("a file with times"));
    let (same, other) = (format!("If-Range: {modified}"), "If-Range: Thu, 01 Jan 1970 00:00:00 GMT");
    let (bytes, rest) = (package.bytes(), "Range: bytes=100000-");
    // On its way, and then held; also after a restart.
    let ask = |proxy: SocketAddr, when: &str| {
        for (fields, status, body) in [
            (vec![rest, &same], 206, &bytes[100_000..]),
            (vec![rest, other], 200, &bytes[..]),
            (vec![rest], 206, &bytes[100_000..]),
        ] {
            let answer = fetch(proxy, &target, &fields);
            assert_eq!((answer.status, answer.whole), (status, true), "{when}: {fields:?}: {}", answer.head);
            assert!(answer.body == body, "{when}: {fields:?}");
            assert_eq!(answer.field("last-modified"), Some(&*modified.to_ascii_lowercase()), "{when}");
        }
    };
    let proxy = host.daemon.proxy();
    thread::scope(|scope| {
        scope.spawn(|| ask(proxy, "on its way"));
        scope.spawn(|| ask(proxy, "on its way"));
    });
    eventually("it is held", PATIENCE, || {
        (fetch(proxy, &target, &[]).field("x-apt-huddle") == Some("hit")).then_some(())
    });
    ask(proxy, "held");
    let mut host = host;
    assert!(host.daemon.stop("TERM").0.success());
    host.daemon = host.machine.start(&Config::default());
    ask(host.daemon.proxy(), "after a restart");
    let known = fetch(host.daemon.proxy(), &target, &[&format!("If-Modified-Since: {modified}")]);
    assert_eq!((known.status, known.body.len()), (304, 0), "{}", known.head);
    assert_eq!(mirror.server().sent(&package.url_path()), package.size, "once");
}

#[test]
fn clients_that_do_not_read_take_little_memory_whatever_they_asked_for_ahead() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    let host = Host::start("unread", &mirror, &Config::default());
    host.apt().update().expect_success();
    let packages = ["huddle-70", "huddle-5", "huddle-4", "huddle-2", "huddle-1"].map(|name| archive.package(name));
    let release = "/debian/dists/xz/InRelease".to_owned();
    let paths: Vec<_> = packages.iter().map(|package| package.url_path()).chain([release]).collect();
    let before = host.daemon.memory();
    let unread: Vec<_> = (0..10)
        .map(|_| {
            let mut stream = TcpStream::connect(host.daemon.proxy()).expect("it listens");
            let ask = |path| format!("GET http://{}{path} HTTP/1.1\r\nHost: a\r\n\r\n", mirror.authority());
            stream.write_all(paths.iter().map(ask).collect::<String>().as_bytes()).expect("it reads");
            stream.read_exact(&mut [0; 100]).expect("an answer begins");
            stream
        })
        .collect();
    eventually("all that waits is brought", PATIENCE, || {
        packages.iter().all(|package| host.daemon.status().recent(&package.sha256).is_some()).then_some(())
    });
    let memory = host.daemon.memory().saturating_sub(before);
    assert!(memory < 48 << 20, "{memory} bytes for {} connections", unread.len());
    packages.iter().for_each(|package| assert_eq!(mirror.server().sent(&package.url_path()), package.size, "once"));
}
