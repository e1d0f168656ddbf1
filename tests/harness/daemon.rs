//! The real daemon as a process: started, watched, asked, killed.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{client, eventually, own_network};

/// How long a daemon may take to say where it listens, or to go; generous, since many tests share few cores.
const PATIENCE: Duration = Duration::from_secs(30);

/// Stands for `[archive] lists`.
const LISTS: &str = "APT_HUDDLE_ARCHIVE_LISTS";

/// Stand for the keys by which a daemon looks for others by itself.
const OUTWARD: [&str; 2] = ["APT_HUDDLE_DHT_RENDEZVOUS", "APT_HUDDLE_DHT_LAN"];

/// The command line of the product with nothing inherited but the path. What this machine's own apt has fetched is not
/// looked at.
pub fn product() -> Command {
    let mut command = bare(Command::new(binary()));
    command.env(LISTS, "/nonexistent");
    // No test speaks to any network but its own.
    for key in OUTWARD {
        command.env(key, "false");
    }
    command
}

/// The binary under test.
pub fn binary() -> OsString {
    env::var_os("APT_HUDDLE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_apt-huddle").into())
}

/// A command with nothing inherited but the path.
pub fn bare(mut command: Command) -> Command {
    let path = env::var("PATH").unwrap_or_default() + ":/usr/local/sbin:/usr/sbin:/sbin";
    command.env_clear().env("PATH", path).env("LC_ALL", "C").stdin(Stdio::null());
    command
}

/// Runs a command that is to end by itself, and soon.
#[track_caller]
pub fn run_to_end(mut command: Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary was built");
    let out = Transcript::of(child.stdout.take().expect("piped"));
    let log = Transcript::of(child.stderr.take().expect("piped"));
    let start = Instant::now();
    let status = loop {
        match child.try_wait().expect("our child") {
            Some(status) => break status,
            None if start.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(10)),
            None => {
                child.kill().ok();
                child.wait().ok();
                panic!("{command:?} goes on:\n{}\n{}", out.now().text, log.now().text);
            }
        }
    };
    let text = |transcript: &Transcript| transcript.wait(PATIENCE, |_| false).text;
    Output { status, stdout: text(&out), stderr: text(&log) }
}

/// What a command left.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

/// A bare node of a DHT, `apt-huddle dht node`, and where it is. It ends when it is dropped.
pub fn bare_node(network: &str, entry: Option<SocketAddr>, dir: &Path) -> (BareNode, SocketAddr) {
    let mut command = product();
    command.args(["dht", "node", "--json", "--network", network, "--listen", &format!("{}:0", own_network()), "--dir"]);
    command.arg(dir).env("APT_HUDDLE_DHT_SECRET", "of the tests").env("APT_HUDDLE_DHT_MAINLINE", "");
    if let Some(entry) = entry {
        command.args(["--bootstrap", &entry.to_string()]);
    }
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary was built");
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    out.read_line(&mut line).expect("it says where it listens");
    let node = BareNode(child);
    let said: Value = serde_json::from_str(&line).expect("JSON");
    let at = said["listen"][0].as_str().expect("an address").parse().expect("an address");
    (node, at)
}

/// The process of a bare node.
pub struct BareNode(Child);

impl Drop for BareNode {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A running daemon. It is killed when it is dropped; when a test fails, it shows what it said.
pub struct Daemon {
    name: String,
    child: Child,
    out: Arc<Transcript>,
    log: Arc<Transcript>,
    proxy: SocketAddr,
    peers: Option<SocketAddr>,
}

impl Daemon {
    /// Starts `apt-huddle run --config FILE`, which shares with peers or not.
    pub fn start(name: &str, config: &Path, shares: bool) -> Self {
        let mut command = product();
        command.arg("run").arg("--config").arg(config).env("APT_HUDDLE_LOG", "info").env_remove(LISTS);
        for key in OUTWARD {
            command.env_remove(key);
        }
        command.env("HOME", config.parent().expect("a file is in a folder"));
        Self::start_as(name, command, shares).unwrap_or_else(|how| panic!("{name} ended with {how:?}"))
    }

    /// Starts any command that speaks as the daemon does. The error is how it ended before it was up, and its log.
    pub fn start_as(name: &str, mut command: Command, shares: bool) -> Result<Self, (ExitStatus, String)> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary was built");
        let out = Transcript::of(child.stdout.take().expect("piped"));
        let log = Transcript::of(child.stderr.take().expect("piped"));
        let says = out.wait(PATIENCE, |said| announced(said, shares).is_some());
        match announced(&says, shares) {
            Some((proxy, peers)) => Ok(Self { name: name.to_owned(), child, out, log, proxy, peers }),
            None => {
                if says.ended {
                    let status = child.wait().expect("our child");
                    let said = log.wait(PATIENCE, |_| false).text;
                    return Err((status, said));
                }
                child.kill().ok();
                panic!("{name} did not say where it listens:\n{}\n{}", says.text, log.now().text);
            }
        }
    }

    /// Where apt's proxy and the status page listen.
    pub fn proxy(&self) -> SocketAddr {
        self.proxy
    }

    /// Where the peers' HTTP and the DHT listen, one port for both.
    pub fn peers(&self) -> SocketAddr {
        self.peers.expect("this daemon shares")
    }

    /// What it printed.
    pub fn said(&self) -> String {
        self.out.now().text
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.log.now().text
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Bytes of memory that are its own: not those of files that it has mapped (proc(5), `RssAnon`).
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux says it");
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kibibytes * 1024
    }

    /// The local API's answer.
    pub fn status(&self) -> Status {
        let answer = client::fetch(self.proxy, "/api/v1/status", &[]);
        assert_eq!(answer.status, 200, "{}: {answer:?}", self.name);
        Status(serde_json::from_slice(&answer.body).expect("the API speaks JSON"))
    }

    /// The status page.
    pub fn page(&self) -> String {
        let answer = client::fetch(self.proxy, "/", &[]);
        assert_eq!(answer.status, 200, "{}: {answer:?}", self.name);
        answer.text()
    }

    /// Whether the API and the page show that something was refused whose location has these words.
    pub fn shows_refusal(&self, words: &str) -> bool {
        let (status, page) = (self.status(), self.page());
        let shown = status.refused().into_iter().find(|location| location.contains(words));
        shown.is_some_and(|location| page.contains(">Refused</h2>") && page.contains(location))
    }

    /// Waits for its status to be so.
    #[track_caller]
    pub fn until(&self, what: &str, limit: Duration, so: impl Fn(&Status) -> bool) {
        eventually(&format!("{}: {what}", self.name), limit, || so(&self.status()).then_some(()));
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "{} is gone already", self.name);
    }

    /// Ends it as an admin does, and says how it went and how long it took.
    pub fn stop(&mut self, signal: &str) -> (ExitStatus, Duration) {
        let start = Instant::now();
        self.signal(signal);
        let status = eventually(&format!("{} ends on {signal}", self.name), PATIENCE, || self.child.try_wait().ok()?);
        (status, start.elapsed())
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        let status = self.child.wait().expect("our child");
        assert_eq!(status.signal(), Some(9), "{} had ended by itself: {status}\n{}", self.name, self.log());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(60).collect();
            let tail: Vec<_> = tail.into_iter().rev().collect();
            eprintln!("--- {} said:\n{}--- and logged:\n{}", self.name, self.said(), tail.join("\n"));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What `GET /api/v1/status` says.
pub struct Status(pub Value);

impl Status {
    /// A number by its JSON pointer (RFC 6901).
    #[track_caller]
    pub fn number(&self, pointer: &str) -> u64 {
        let number =
            self.0.pointer(pointer).and_then(|value| value.as_u64().or(value.as_array().map(|a| a.len() as u64)));
        number.unwrap_or_else(|| panic!("no number at {pointer} of {}", self.0))
    }

    /// Bytes that peers brought.
    pub fn bytes_from_peers(&self) -> u64 {
        self.number("/bytes/from_peers")
    }

    /// Bytes that mirrors brought.
    pub fn bytes_from_mirror(&self) -> u64 {
        self.number("/bytes/from_mirror")
    }

    /// Nodes of the DHT that it knows.
    pub fn nodes(&self) -> u64 {
        self.number("/dht/nodes")
    }

    /// Peers that are kept out for a proven lie.
    pub fn banned(&self) -> BTreeSet<SocketAddr> {
        let peers = self.0.pointer("/peers").and_then(Value::as_array).expect("a list of peers");
        let banned = peers.iter().filter(|peer| peer["banned"] == true);
        banned.map(|peer| peer["address"].as_str().and_then(|at| at.parse().ok()).expect("an address")).collect()
    }

    /// What was refused as wrong, newest first.
    pub fn refused(&self) -> Vec<&str> {
        let all = self.0.pointer("/refusals").and_then(Value::as_array).expect("a list of refusals");
        all.iter()
            .filter(|refusal| refusal["is_bad"] == true)
            .filter_map(|refusal| refusal["location"].as_str())
            .collect()
    }

    /// How many Releases were verified, how many could not be, and how much was bad.
    pub fn releases(&self) -> [u64; 3] {
        let count = |name: &str| self.0.pointer(&format!("/releases/{name}")).and_then(Value::as_u64).expect("a count");
        ["verified", "unverifiable", "bad"].map(count)
    }

    /// The entry of `recent` for a file.
    pub fn recent(&self, sha256: &str) -> Option<Self> {
        let recent = self.0.pointer("/recent")?.as_array()?;
        Some(Self(recent.iter().find(|entry| entry["hash"] == sha256)?.clone()))
    }
}

/// What a process wrote to a pipe so far.
struct Transcript {
    said: Mutex<Said>,
    more: Condvar,
}

#[derive(Clone, Default)]
struct Said {
    text: String,
    ended: bool,
}

impl Transcript {
    fn of(pipe: impl Read + Send + 'static) -> Arc<Self> {
        let transcript = Arc::new(Self { said: Mutex::default(), more: Condvar::new() });
        let writing = Arc::clone(&transcript);
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                writing.said.lock().expect("no reader panics").text += &String::from_utf8_lossy(&line);
                writing.more.notify_all();
                line.clear();
            }
            writing.said.lock().expect("no reader panics").ended = true;
            writing.more.notify_all();
        });
        transcript
    }

    fn now(&self) -> Said {
        self.said.lock().expect("no reader panics").clone()
    }

    /// Waits until it is enough, or the pipe ended, or the time is over.
    fn wait(&self, limit: Duration, enough: impl Fn(&Said) -> bool) -> Said {
        let said = self.said.lock().expect("no reader panics");
        let waited = self.more.wait_timeout_while(said, limit, |said| !said.ended && !enough(said));
        waited.expect("no reader panics").0.clone()
    }
}

/// The first address of the proxy and, when it shares, of the peers' port; once it has said them.
fn announced(said: &Said, shares: bool) -> Option<(SocketAddr, Option<SocketAddr>)> {
    let complete = &said.text[..said.text.rfind('\n')? + 1];
    let proxy = complete.split("http://").skip(1).find_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(rest.len());
        rest[..end].trim_end_matches([':', '.']).parse().ok()
    })?;
    let mut peers = complete.lines().filter_map(|line| {
        let rest = line.split_once("peers:")?.1;
        rest.trim_start().split([' ', ',']).next()?.parse().ok()
    });
    if shares { Some((proxy, Some(peers.next()?))) } else { Some((proxy, None)) }
}

#[test]
fn a_daemon_is_up_when_it_has_said_its_addresses_whole() {
    let at = |text: &str, shares| announced(&Said { text: text.to_owned(), ended: false }, shares);
    let proxy: SocketAddr = "127.0.0.1:9977".parse().expect("an address");
    assert_eq!(at("proxy on http://127.0.0.1:99", false), None);
    assert_eq!(at("proxy on http://127.0.0.1:9977/\n", true), None);
    assert_eq!(at("Acquire::http::Proxy=http://127.0.0.1:9977\npeers: off\n", false), Some((proxy, None)));
    let all = "status page: http://127.0.0.1:9977/\npeers: 127.3.4.5:6, 127.3.4.6:6\n";
    assert_eq!(at(all, true), Some((proxy, "127.3.4.5:6".parse().ok())));
}
