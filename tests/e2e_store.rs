//! What a host holds: listed, pinned, checked, mended, brought in from elsewhere; and hosts without room.

use std::{fs, thread, time::Duration};

use serde_json::Value;

use crate::harness::{
    PIECE,
    archive::{Archive, Package},
    client::{fetch, speak},
    daemon::{Output, product, run_to_end},
    eventually,
    huddle::Host,
    machine::Config,
    mirror::{Fault, Mirror},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a command against a host's daemon.
#[track_caller]
fn ask(host: &Host, arguments: &[&str], code: i32) -> Output {
    let mut command = product();
    command.args(arguments).env("APT_HUDDLE_PROXY_LISTEN", host.daemon.proxy().to_string());
    let output = run_to_end(command);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    output
}

fn listed(host: &Host) -> Vec<Value> {
    let list = ask(host, &["list", "--json"], 0).stdout;
    let list: Value = serde_json::from_str(&list).expect("JSON");
    list["objects"].as_array().expect("a list").clone()
}

fn of<'a>(list: &'a [Value], package: &Package) -> Option<&'a Value> {
    list.iter().find(|object| object["sha256"] == package.sha256.as_str())
}

/// How many files it holds that are no metadata: an index may still be on its way into the store.
fn packages_of(host: &Host) -> usize {
    listed(host).iter().filter(|object| object["role"] != "metadata").count()
}

/// A host that has learned what the archive promises and holds these packages.
fn holding(name: &str, mirror: &Mirror, packages: &[&Package]) -> Host {
    let host = Host::start(name, mirror, &Config::default());
    host.learn(mirror.addr());
    for package in packages {
        host.bring(mirror.addr(), package);
        eventually("it is kept", PATIENCE, || of(&listed(&host), package).map(drop));
    }
    host
}

#[test]
fn files_are_listed_and_pinned_and_a_damaged_one_is_found_set_aside_and_fetched_again() {
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    let (small, large) = (archive.package("huddle-1"), archive.package("huddle-71"));
    let host = holding("keeper", &mirror, &[small, large]);

    let object = of(&listed(&host), large).expect("it is held").clone();
    assert_eq!(
        (&object["size"], &object["role"], &object["pinned"]),
        (&large.size.into(), &"current".into(), &false.into())
    );
    ask(&host, &["pin", "huddle-71"], 0);
    assert_eq!(of(&listed(&host), large).expect("it is held")["pinned"], true);
    ask(&host, &["unpin", &large.sha256], 0);
    assert_eq!(of(&listed(&host), large).expect("it is held")["pinned"], false);
    ask(&host, &["pin", "nothing-of-that-name"], 1);
    let output = ask(&host, &["gc", "--dry-run"], 0);
    assert!(output.stdout.contains("superseded") && output.stdout.contains("0 files"), "{output:?}");

    assert!(ask(&host, &["verify"], 0).stdout.contains("Verified"));
    host.machine.flip(&large.sha256, 3 * PIECE + 5);
    let output = ask(&host, &["verify"], 1);
    assert!(output.stdout.contains("damaged") && output.stdout.contains(&large.sha256), "{output:?}");
    assert!(output.stderr.contains("verifying 100 %"), "{output:?}");
    assert!(of(&listed(&host), large).is_none() && of(&listed(&host), small).is_some());
    assert!(host.machine.store().join("quarantine").join(&large.sha256).exists());
    host.bring(mirror.addr(), large);
    eventually("it is kept", PATIENCE, || of(&listed(&host), large).map(drop));

    host.machine.flip(&small.sha256, 7);
    let output = ask(&host, &["verify", "--repair"], 0);
    assert!(output.stdout.contains("repaired") && output.stdout.contains(&small.sha256), "{output:?}");
    assert!(of(&listed(&host), small).is_some());
    host.machine.assert_store_is_whole();
}

#[test]
fn a_mirrors_tree_is_taken_in_and_only_what_is_signed_unless_told_otherwise() {
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    let host = holding("importer", &mirror, &[]);
    let four = archive.package("huddle-4");
    let folder = host.machine.dir().join("archives");
    fs::create_dir(&folder).expect("the scratch directory is ours");
    for package in [archive.package("huddle-1"), four] {
        fs::copy(&package.file, folder.join(package.file.file_name().expect("a file"))).expect("room");
    }
    fs::write(folder.join("stray_1_all.deb"), "of nobody").expect("room");
    let path = folder.display().to_string();
    let before = packages_of(&host);
    let output = ask(&host, &["import", &path], 0);
    assert!(output.stdout.contains("no signed index names them"), "{output:?}");
    assert_eq!(packages_of(&host), before + 2);
    let fetched = mirror.server().sent(&four.url_path());
    host.bring(mirror.addr(), four);
    assert_eq!(mirror.server().sent(&four.url_path()), fetched, "from the store");

    let output = ask(&host, &["import", "--private", &path], 0);
    assert!(output.stdout.contains("held already") && output.stdout.contains("kept as private"), "{output:?}");
    assert_eq!(packages_of(&host), before + 3);
    host.machine.assert_store_is_whole();
    ask(&host, &["gc"], 0);
    assert_eq!(packages_of(&host), before + 3, "the newest version of a package stays, whoever vouches for it");
    ask(&host, &["import", "/nowhere/at/all"], 2);
}

#[test]
fn pages_of_other_sites_change_nothing_and_see_nothing() {
    let mirror = Mirror::start(Archive::shared().root());
    let host = holding("guarded", &mirror, &[Archive::shared().package("huddle-1")]);
    let to = host.daemon.proxy();
    let post = |target: &str, host: &str, fields: &str| {
        speak(
            to,
            &format!(
                "POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n{fields}Connection: close\r\n\r\n"
            ),
        )
        .status
    };
    let own = to.to_string();
    assert_eq!(post("/api/v1/gc?dry_run", &own, ""), 200);
    assert_eq!(post("/api/v1/gc?dry_run", &own, &format!("Origin: http://{own}\r\n")), 200);
    for origin in ["http://evil.example.org", "null", "http://127.0.0.1:1", ""] {
        for target in ["/api/v1/gc", "/api/v1/pin?q=huddle-1", "/api/v1/verify", "/api/v1/import"] {
            assert_eq!(post(target, &own, &format!("Origin: {origin}\r\n")), 403, "{target} {origin}");
        }
    }
    assert_ne!(post("/api/v1/gc", "evil.example.org", ""), 200);
    assert_eq!(fetch(to, "/api/v1/objects", &["Origin: http://evil.example.org"]).status, 403);
    assert_eq!(post("/api/v1/pin?q=", &own, ""), 400);
    assert_eq!(post("/api/v1/verify?after=nonsense", &own, ""), 400);
}

#[test]
fn a_host_without_room_serves_all_the_same_and_keeps_nothing() {
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    let host = Host::start("tiny", &mirror, &Config { quota: "2MB", ..Config::default() });
    host.learn(mirror.addr());
    let large = archive.package("huddle-71");
    for _twice in 0..2 {
        host.bring(mirror.addr(), large);
    }
    assert_eq!(mirror.server().sent(&large.url_path()), 2 * large.size);
    assert!(of(&listed(&host), large).is_none());
    for package in ["huddle-1", "huddle-4"].map(|name| archive.package(name)) {
        host.bring(mirror.addr(), package);
    }
    let held: u64 =
        host.machine.objects().iter().map(|(_, path)| fs::metadata(path).map_or(0, |meta| meta.len())).sum();
    assert!(held <= 2_000_000, "{held} bytes");
    host.machine.assert_store_is_whole();
}

/// How often the daemon is killed; `APT_HUDDLE_KILLS` says otherwise.
const KILLS: u32 = 8;

#[test]
fn a_daemon_that_is_killed_at_any_moment_loses_nothing_that_was_proven_and_keeps_nothing_wrong() {
    let kills = std::env::var("APT_HUDDLE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    let config = Config { quota: "60MB", ..Config::default() };
    let mut host = Host::start("often-killed", &mirror, &config);
    host.learn(mirror.addr());
    let names = ["huddle-1", "huddle-4", "huddle-69", "huddle-70", "huddle-71"];
    let mut resumed = 0;
    for kill in 0..kills {
        let proxy = host.daemon.proxy();
        let authority = mirror.authority();
        let clients: Vec<_> = names
            .iter()
            .map(|name| format!("http://{authority}{}", archive.package(name).url_path()))
            .map(|url| thread::spawn(move || drop(fetch(proxy, &url, &[]))))
            .collect();
        // No moment is like another: the seed is the number of the kill.
        thread::sleep(Duration::from_millis(u64::from(kill * 7919 % 400)));
        host.daemon.kill();
        clients.into_iter().for_each(|client| client.join().expect("a client"));
        host.machine.assert_store_is_whole();
        host.daemon = host.machine.start(&config);
        host.machine.assert_store_is_whole();
        let held: u64 =
            host.machine.objects().iter().map(|(_, path)| fs::metadata(path).map_or(0, |meta| meta.len())).sum();
        assert!(held <= 60_000_000, "kill {kill}: {held} bytes");
        let list = listed(&host);
        let on_disk = host.machine.objects();
        assert_eq!(list.len(), on_disk.len(), "kill {kill}: catalogue and disk agree");
        assert!(list.iter().all(|object| on_disk.iter().any(|(hash, _)| object["sha256"] == hash.as_str())));
        host.learn(mirror.addr());
        for name in names {
            host.bring(mirror.addr(), archive.package(name));
        }
        resumed += host.daemon.log().matches("goes on where it was interrupted").count();
        ask(&host, &["gc"], 0);
        // What is there is given up, so that the next round fetches again.
        let quota = Config { quota: "1MB", ..config.clone() };
        let (status, _) = host.daemon.stop("TERM");
        assert!(status.success(), "{status}");
        host.daemon = host.machine.start(&quota);
        host.daemon.stop("TERM");
        host.daemon = host.machine.start(&config);
    }
    println!("{kills} kills, {resumed} downloads went on where they stood");
    assert!(resumed > 0, "some were interrupted half-way");
}

#[test]
fn a_download_that_an_admin_stops_goes_on_where_it_stood() {
    let archive = Archive::shared();
    let package = archive.package("huddle-70");
    let mirror = Mirror::start(archive.root());
    let mut host = Host::start("stopped", &mirror, &Config::default());
    host.learn(mirror.addr());
    mirror.fault(&package.url_path(), Fault::StallAfter(40 * PIECE));
    let (proxy, url) = (host.daemon.proxy(), format!("http://{}{}", mirror.authority(), package.url_path()));
    let client = thread::spawn(move || drop(fetch(proxy, &url, &[])));
    eventually("it stalls", PATIENCE, || (mirror.server().sent(&package.url_path()) >= 40 * PIECE).then_some(()));
    host.daemon.stop("TERM");
    client.join().expect("a client");
    mirror.heal();
    let taken = mirror.server().sent(&package.url_path());
    host.daemon = host.machine.start(&Config::default());
    host.bring(mirror.addr(), package);
    let rest = mirror.server().sent(&package.url_path()) - taken;
    assert!(rest <= package.size - 38 * PIECE, "{rest} of {} bytes again", package.size);
}
