//! Hard use: many clients at once at a small store and a mirror that fails, and what is left of it afterwards.

use std::{
    env, fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::harness::{
    PIECE,
    archive::Archive,
    client::fetch,
    eventually,
    huddle::Host,
    machine::Config,
    mirror::{Fault, Mirror},
};

/// Clients at a time.
const CLIENTS: u64 = 64;
/// How long it goes on, in seconds; `APT_HUDDLE_SOAK` says otherwise.
const SECONDS: u64 = 6;
/// How long what is left may take to go.
const PATIENCE: Duration = Duration::from_secs(90);
/// Bytes of memory of its own that the daemon may have more than before.
const MORE: u64 = 8 << 20;
/// Descriptors that it may have more than before: connections to the mirror are kept for a while.
const MORE_FILES: usize = 8;

#[test]
fn hard_use_leaves_nothing_behind_and_delivers_no_wrong_byte() {
    let seconds = env::var("APT_HUDDLE_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let archive = Archive::shared();
    let packages: Vec<_> = ["huddle-1", "huddle-2", "huddle-4", "huddle-5", "huddle-over", "huddle-69", "huddle-71"]
        .map(|name| archive.package(name))
        .into();
    let mirror = Mirror::start(archive.root());
    let host = Host::start("soaked", &mirror, &Config { quota: "45MB", ..Config::default() });
    host.learn(mirror.addr());
    packages.iter().for_each(|package| host.bring(mirror.addr(), package));
    let files = || fs::read_dir(format!("/proc/{}/fd", host.daemon.pid())).expect("it runs").count();
    let (memory_before, files_before) = (host.daemon.memory(), files());

    let contents: Vec<_> = packages.iter().map(|package| package.bytes()).collect();
    let (stop, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for seed in 0..CLIENTS {
            let (stop, answers, packages, contents, proxy) =
                (&stop, &answers, &packages, &contents, host.daemon.proxy());
            let authority = mirror.authority();
            scope.spawn(move || {
                let mut rng = SmallRng::seed_from_u64(seed);
                while !stop.load(Relaxed) {
                    // The small ones are most of what is asked for.
                    let at = rng.random_range(0..packages.len()).min(rng.random_range(0..packages.len()));
                    let whole =
                        one(&mut rng, proxy, &format!("http://{authority}{}", packages[at].url_path()), &contents[at]);
                    let whole = whole.unwrap_or_else(|wrong| panic!("client {seed}: {}: {wrong}", packages[at].name));
                    answers.fetch_add(u64::from(whole), Relaxed);
                }
            });
        }
        let mut rng = SmallRng::seed_from_u64(CLIENTS);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(seconds) {
            let package = packages[rng.random_range(0..packages.len())];
            let fault = match rng.random_range(0..4) {
                0 => Fault::CutAfter(rng.random_range(0..package.size)),
                1 => Fault::ResetAfter(rng.random_range(0..package.size)),
                2 => Fault::Status(503),
                _ => Fault::Nothing,
            };
            mirror.fault(&package.url_path(), fault);
            thread::sleep(Duration::from_millis(20));
            mirror.heal();
            thread::sleep(Duration::from_millis(380));
        }
        stop.store(true, Relaxed);
    });
    mirror.heal();
    println!("{} whole answers in {seconds} s", answers.load(Relaxed));
    assert!(answers.load(Relaxed) > CLIENTS, "it was of use meanwhile");

    for package in &packages {
        host.bring(mirror.addr(), package);
    }
    host.machine.assert_store_is_whole();
    let held: u64 =
        host.machine.objects().iter().map(|(_, path)| fs::metadata(path).map_or(0, |meta| meta.len())).sum();
    assert!(held <= 45_000_000, "{held} bytes");
    let counted = || (files(), host.daemon.memory());
    eventually("descriptors and memory are given back", PATIENCE, || {
        let (files, memory) = counted();
        (files <= files_before + MORE_FILES && memory <= memory_before + MORE).then_some(())
    });
    let left = fs::read_dir(host.machine.store().join("partial")).expect("the store has it");
    let left: Vec<_> = left.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    for name in &left {
        let partner = name.strip_suffix(".have").map_or_else(|| format!("{name}.have"), str::to_owned);
        assert!(left.contains(&partner), "{name} is left behind: {left:?}");
    }
}

/// One request of some kind; says whether it came whole. The error is the head of an answer that is wrong.
fn one(rng: &mut SmallRng, proxy: SocketAddr, url: &str, content: &[u8]) -> Result<bool, String> {
    let from = match rng.random_range(0..10) {
        0 => {
            // A client that goes away.
            if let Ok(mut stream) = TcpStream::connect(proxy) {
                let _gone = write!(stream, "GET {url} HTTP/1.1\r\nHost: mirror.example.org\r\n\r\n");
                let _some = stream.read(&mut vec![0; rng.random_range(1..PIECE as usize)]);
            }
            return Ok(false);
        }
        1 => Some(rng.random_range(0..content.len())),
        _ => None,
    };
    let range = from.map(|from| format!("Range: bytes={from}-"));
    let answer = fetch(proxy, url, &range.iter().map(String::as_str).collect::<Vec<_>>());
    let right = match answer.status {
        200 => content,
        206 => &content[from.unwrap_or(0)..],
        _ => return Ok(false),
    };
    if right.starts_with(&answer.body) { Ok(answer.whole) } else { Err(answer.head) }
}
