//! The world around the product.

pub mod apt;
pub mod archive;
pub mod bencode;
pub mod burst;
pub mod chromium;
pub mod client;
pub mod daemon;
pub mod deb;
pub mod depot;
pub mod huddle;
pub mod liar;
pub mod libtorrent;
pub mod machine;
pub mod mirror;
pub mod probe;
pub mod rogue;
pub mod server;
pub mod suite;

use std::{
    env, fs,
    io::{self, Write},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process,
    sync::{
        LazyLock,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Length of a piece in bytes, as the product has it.
pub const PIECE: u64 = apt_huddle::hash::PIECE_SIZE;

/// Everything that this run writes lies below; what dead runs left behind is removed first.
static SCRATCH: LazyLock<PathBuf> = LazyLock::new(|| {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("huddle");
    fs::create_dir_all(&all).expect("the target directory is ours");
    for left in fs::read_dir(&all).expect("just made").flatten() {
        if !Path::new("/proc").join(left.file_name()).exists() {
            fs::remove_dir_all(left.path()).ok();
        }
    }
    let own = all.join(process::id().to_string());
    fs::create_dir_all(&own).expect("the target directory is ours");
    own
});

/// A directory that goes with its test.
pub fn scratch(name: &str) -> TempDir {
    tempfile::Builder::new().prefix(name).tempdir_in(&*SCRATCH).expect("a scratch directory")
}

/// A directory that goes with the run.
pub fn scratch_of_the_run(name: &str) -> PathBuf {
    scratch(name).keep()
}

/// A loopback address in a /24 that nobody else in this run has.
pub fn own_network() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    Ipv4Addr::new(127, 20 + (next / 250) as u8, 1 + (next % 250) as u8, 1)
}

/// Asks until there is an answer, and fails with `what` after `limit`.
#[track_caller]
pub fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < limit, "within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(25));
    }
}

/// What a count is once it has stood still for a while, so that what was under way has come.
pub fn settled(count: impl Fn() -> u64) -> u64 {
    let mut last = count();
    loop {
        thread::sleep(Duration::from_millis(150));
        let now = count();
        if now == last {
            return now;
        }
        last = now;
    }
}

/// Prints a line that is shown also when the test passes: only the printing macros are captured.
pub fn say(line: &str) {
    writeln!(io::stdout(), "{line}").ok();
}

/// Whether a program is on the path; says `skipped` for the test that asks when it is not. With `CI=true` in the environment
/// nothing may be skipped, and the test fails.
pub fn have(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), "/sbin".into()])
        .any(|dir| dir.join(program).is_file());
    if !found {
        assert!(
            env::var_os("CI").is_none_or(|ci| ci != "true"),
            "no {program} here, and CI=true lets nothing be skipped"
        );
        say(&format!("skipped: no {program} here"));
    }
    found
}
