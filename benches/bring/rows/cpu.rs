//! What a proven byte costs the processor.
//!
//! Peers are another process, so that this one's time is the downloader's alone. The yardstick reads the same bytes from
//! the same peer's socket, hashes them and writes them to a file of the same disk, fsync included, by the plainest loop
//! there is.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::FileExt,
    process::{Child, ChildStdin, Command, Stdio},
};

use apt_huddle::{fetch::MirrorUse, hash::Hasher};

use crate::{
    Seen, World,
    depot::Depot,
    harness::archive::Package,
    host::{Holders, Host, known},
    median,
};

use super::MB;

/// Set for the process that holds the file: `<size> <seed file>`.
pub const HOLDER: &str = "APT_HUDDLE_BENCH_HOLDER";

const SIZE: u64 = 100 * MB;
const PEERS: usize = 4;
/// Files of one measurement: the kernel counts in hundredths of a second.
const FILES: usize = 10;

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
        let hosts: Vec<_> = (0..FILES).map(|_| Host::new(MirrorUse::Sparing)).collect();
        let before = seconds();
        for host in &hosts {
            world.wait(async {
                let mut growing = host.start(depot.package(), None, known(other.peers.clone()));
                growing.kept().await.expect("room");
            });
        }
        let brought = seconds() - before;
        drop(hosts);
        let before = seconds();
        (0..FILES).for_each(|_| plainly(&depot, other.peers[0]));
        let plain = seconds() - before;
        ratios.push(brought / plain);
        rates.push(brought * 1e9 / (FILES as f64 * SIZE as f64));
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
    let path = depot.path().join("plain");
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

/// Processor time of this process so far, of threads that have ended too (proc(5), `utime` and `stime`).
fn seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("this is Linux");
    let fields = stat.rsplit_once(')').expect("the name is in parentheses").1.split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    // USER_HZ is 100 on every architecture that Debian has.
    ticks as f64 / 100.0
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
