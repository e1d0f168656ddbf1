//! Nodes of libtorrent's DHT, an implementation apart from ours: a Mainline of its own on loopback.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use super::{eventually, own_network};

/// How long nodes may take to know each other.
const FINDING: Duration = Duration::from_secs(60);

/// Some nodes in one process, each on a network of its own. It is killed when it is dropped.
pub struct Mainline {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    nodes: Vec<SocketAddr>,
}

impl Mainline {
    /// Starts so many nodes, which enter through the first one and these.
    #[track_caller]
    pub fn start(count: usize, entries: &[SocketAddr]) -> Self {
        let addresses: Vec<_> = (0..count).map(|_| own_network().to_string()).collect();
        // Debian's own Python, whatever else is on the path: its package brings libtorrent.
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-W", "ignore", "-c", include_str!("mainline.py"), &addresses.join(",")]);
        command.args(entries.iter().map(ToString::to_string));
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.expect("/usr/bin/python3 runs: apt-get install python3-libtorrent");
        let commands = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        let mut mainline = Self { child, commands, answers, nodes: Vec::new() };
        let own = mainline.answer().expect("libtorrent is there: apt-get install python3-libtorrent");
        let addresses = own.as_array().expect("a list").iter();
        mainline.nodes = addresses.map(|addr| addr.as_str().expect("an address").parse().expect("a socket")).collect();
        mainline
    }

    /// Waits until each node knows so many.
    #[track_caller]
    pub fn until_known(&mut self, known: u64) {
        for node in 0..self.nodes.len() {
            eventually("libtorrent's nodes know others", FINDING, || {
                (self.ask(&format!("nodes {node}")).as_u64()? >= known).then_some(())
            });
        }
    }

    /// Where the nodes are.
    pub fn nodes(&self) -> &[SocketAddr] {
        &self.nodes
    }

    /// Has a line obeyed (see `mainline.py`).
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> Value {
        writeln!(self.commands, "{line}").expect("it listens");
        let answer = self.answer().expect("it answers");
        assert!(answer.get("error").is_none(), "{line}: {answer}");
        answer
    }

    /// Whom a node finds under a key.
    #[track_caller]
    pub fn peers(&mut self, node: usize, key: &str) -> Vec<SocketAddr> {
        let answer = self.ask(&format!("peers {node} {key}"));
        let peers = answer.as_array().expect("a list").iter();
        peers.map(|peer| peer.as_str().expect("an address").parse().expect("a socket")).collect()
    }

    fn answer(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.answers.read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }
}

impl Drop for Mainline {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
