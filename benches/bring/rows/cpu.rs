//! What a proven byte costs the processor.
//!
//! Peers are another process, so that this one's time is the downloader's alone. The yardstick reads the same bytes from
//! the same peer's socket, hashes them and writes them to a file of the same disk, fsync included, by the plainest loop
//! there is.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::FileExt,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
};

use apt_huddle::{fetch::MirrorUse, hash::Hasher};

use crate::{
    Seen, World,
    harness::{archive::Package, depot::Depot},
    host::{Holders, Host, known},
    median,
};

use super::MB;

/// Set for the process that holds the file.
pub const HOLDER: &str = "APT_HUDDLE_BENCH_HOLDER";

const SIZE: u64 = 100 * MB;
const PEERS: usize = 4;
/// Files of one measurement.
const FILES: usize = 5;

/// Serves the file until nobody listens to it any more.
pub fn hold() {
    let depot = Depot::one(SIZE);
    let mut holders = Holders::of(&depot.all());
    (0..PEERS).for_each(|_| println!("{}", holders.port()));
    // The end of the pipe is the end of the bench.
    std::io::stdin().read_to_end(&mut Vec::new()).ok();
}

/// CPU for a byte.
pub fn cpu(world: &World<'_>) -> Vec<Seen> {
    let depot = Depot::one(SIZE);
    let other = Other::start();
    let (mut ratios, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..world.runs {
        let (mut brought, mut plain) = (0.0, 0.0);
        // One after the other, each file gone before the next is begun, so that both meet the same memory.
        for _ in 0..FILES {
            let host = Host::new(MirrorUse::Sparing);
            brought += spent(|| {
                world.wait(async {
                    let mut growing = host.start(depot.package(), None, known(other.peers.clone()));
                    growing.kept().await.expect("room");
                });
            });
            drop(host);
            plain += spent(|| plainly(&depot, other.peers[0]));
        }
        ratios.push(brought / plain);
        rates.push(brought / (FILES as f64 * SIZE as f64));
    }
    let each = format!("{:.2} ns a byte", median(rates));
    vec![Seen::at_most("processor time of a proven byte", 1.3, "x read+hash+write", median(ratios)).with(&each)]
}

/// Reads, hashes and writes the file once.
fn plainly(depot: &Depot, from: SocketAddr) {
    let package: &Package = depot.package();
    let mut stream = TcpStream::connect(from).expect("the other process listens");
    let ask = format!("GET /~/{} HTTP/1.1\r\nHost: {from}\r\nConnection: close\r\n\r\n", package.sha256);
    stream.write_all(ask.as_bytes()).expect("an open connection");
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert!(reader.read_line(&mut line).is_ok_and(|read| read > 0), "a head");
    }
    let path = depot.package().file.with_extension("plain");
    let file = fs::File::create(&path).expect("room");
    let hash = package.sha256.parse().expect("a hash of ours");
    let mut hasher = Hasher::new(&apt_huddle::hash::Expected { hash, size: package.size });
    let (mut buffer, mut at) = (vec![0; 128 * 1024], 0);
    while let Ok(read @ 1..) = reader.read(&mut buffer) {
        hasher.update(&buffer[..read]);
        file.write_all_at(&buffer[..read], at).expect("room");
        at += read as u64;
    }
    file.sync_data().expect("room");
    hasher.finish().expect("the true bytes");
    fs::remove_file(&path).expect("our file");
}

/// Processor time of this process for something, in nanoseconds.
fn spent(work: impl FnOnce()) -> f64 {
    let before = threads();
    work();
    let after = threads();
    let spent = after.iter().map(|(thread, time)| time - before.get(thread).unwrap_or(&0));
    spent.sum::<u64>() as f64
}

/// Time that each thread has run so far, in nanoseconds, by what the scheduler counts. Threads that end within one
/// measurement would be missed; the runtime's live for longer.
fn threads() -> BTreeMap<OsString, u64> {
    let tasks = fs::read_dir("/proc/self/task").expect("this is Linux");
    let time = |path: PathBuf| fs::read_to_string(path.join("schedstat")).ok()?.split(' ').next()?.parse().ok();
    tasks.flatten().filter_map(|task| Some((task.file_name(), time(task.path())?))).collect()
}

/// The process that has the file.
struct Other {
    child: Child,
    /// Kept open: its end is the process's end.
    _stdin: ChildStdin,
    peers: Vec<SocketAddr>,
}

impl Other {
    fn start() -> Self {
        let mut command = Command::new(env::current_exe().expect("this program"));
        let mut child =
            command.env(HOLDER, "1").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("this program runs");
        let stdin = child.stdin.take().expect("piped");
        let said = BufReader::new(child.stdout.take().expect("piped"));
        let peers = said.lines().take(PEERS).map(|line| line.expect("a line").parse().expect("an address")).collect();
        Self { child, _stdin: stdin, peers }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
