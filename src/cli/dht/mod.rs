//! `apt-huddle dht`: a node of any network for a moment, or for as long as it is let. It needs no daemon.
//!
//! The one command that does not ask the daemon, and so the one that knows a station: [`crate::dht`]. But for `node` it
//! is a read-only node (BEP 43) at a port of its own: it asks, it answers nothing, and nobody remembers it.
#![expect(clippy::disallowed_methods, reason = "the tools' clock, and a seed that nobody can guess")]

mod census;
mod told;
mod walk;

use std::{
    future::Future,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use crate::{
    config::Config,
    dht::{Explorer, Heard, Id, Network, OwnItem, Probe},
};

use super::{Failure, Outcome, text::clean};

use told::{Item, Near, Peers, Ping, Put, Stored, Told};

/// How long the network may take to be found.
const FINDING: Duration = Duration::from_secs(10);

/// Longest text of an item, in bytes: 1000 with its length and colon (BEP 44).
const MAX_TEXT: usize = 996;

/// Nodes nearest to an id that are shown: Kademlia's `k`.
const SHOWN: usize = 8;

/// What to do with a DHT, and which.
#[derive(Debug, Args)]
pub struct Tool {
    /// The network; without it, that of the configuration. `private` takes its secret from there.
    #[arg(long, value_enum, global = true)]
    network: Option<Which>,
    /// A node through which the network is entered; may be given several times. Without one: those of the configuration,
    /// or else the daemon on this host.
    #[arg(long, value_name = "HOST:PORT", global = true)]
    bootstrap: Vec<String>,
    /// Where to bind UDP.
    #[arg(long, value_name = "IP:PORT", global = true)]
    listen: Option<SocketAddr>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    task: Task,
}

/// A network, by its name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// The common one.
    Public,
    /// The one of the configuration's secret.
    Private,
    /// `BitTorrent`'s.
    Mainline,
}

/// What to do. IDs are 40 hexadecimal digits.
#[derive(Debug, Subcommand)]
enum Task {
    /// Run a bare node until it is stopped.
    Node {
        /// Where it keeps what outlives a restart; without it, nothing does.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Ask one node whether it is there.
    Ping {
        /// Where it is.
        #[arg(value_name = "HOST:PORT")]
        node: String,
    },
    /// Find the nodes nearest to an ID.
    FindNode {
        /// The ID.
        id: Id,
    },
    /// Find who is announced under an ID.
    GetPeers {
        /// The ID.
        id: Id,
    },
    /// Announce this host under an ID.
    Announce {
        /// The ID.
        id: Id,
        /// TCP port.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
        port: u16,
    },
    /// Find an item (BEP 44).
    Get {
        /// SHA-1 of its value; of a mutable one, of its key and salt.
        #[arg(value_name = "TARGET")]
        target: Id,
        /// The salt of a mutable item.
        #[arg(long, default_value = "")]
        salt: String,
    },
    /// Put an item (BEP 44): an immutable one, or, with a key, a mutable one.
    Put {
        /// Its text, of 996 bytes at most.
        #[arg(long)]
        text: String,
        /// A file with the 64 hexadecimal digits of an Ed25519 seed, which signs a mutable item.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// What tells apart the items of one key.
        #[arg(long, default_value = "", requires = "key")]
        salt: String,
        /// Its number; without it, the next after that of the one that is found.
        #[arg(long, requires = "key")]
        seq: Option<i64>,
        /// The number of the item that it may replace, and no other.
        #[arg(long, requires = "key")]
        cas: Option<i64>,
    },
    /// Count the nodes of a network: programs, reachability, how long they are up. Nothing of what they hold.
    Walk,
}

/// Does it.
pub fn run(config: &Config, tool: &Tool) -> Result<Outcome, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Daemon(error.to_string()))?;
    runtime.block_on(tool.run(config))
}

impl Tool {
    async fn run(&self, config: &Config) -> Result<Outcome, Failure> {
        if let Task::Put { text, .. } = &self.task
            && text.len() > MAX_TEXT
        {
            let problem = format!("the text has {} bytes: expected {MAX_TEXT} at most", text.len());
            return Err(Failure::Question(problem));
        }
        let node = self.start(config).await?;
        match &self.task {
            Task::Node { .. } => self.serve(&node).await,
            Task::Ping { node: at } => {
                let to = resolve(at).await?;
                let heard = all(&node, Probe::Ping(to)).await;
                let answered = heard
                    .into_iter()
                    .find_map(|heard| if let Heard::Node(answered) = heard { Some(answered) } else { None });
                Ok(self.told(&Ping::of(to, answered.as_ref())))
            }
            task => {
                let seed = match task {
                    Task::Put { key: Some(path), .. } => Some(read_seed(path).await?),
                    _ => None,
                };
                self.find_network(&node).await?;
                match (task, seed) {
                    (Task::Put { text, salt, seq, cas, .. }, Some(seed)) => {
                        self.put_signed(&node, &seed, salt, text, (*seq, *cas)).await
                    }
                    _ => self.ask(&node, task).await,
                }
            }
        }
    }

    async fn ask(&self, node: &Explorer, task: &Task) -> Result<Outcome, Failure> {
        Ok(match task {
            Task::FindNode { id } => self.told(&Near::of(id, all(node, Probe::FindNode(*id)).await, SHOWN)),
            Task::GetPeers { id } => self.told(&Peers::of(all(node, Probe::GetPeers(*id)).await)),
            Task::Announce { id, port } => {
                let stored = node.probe(Probe::Announce { key: *id, port: *port }).await.count().await;
                self.told(&Stored { stored })
            }
            Task::Get { target, salt } => {
                let probe = Probe::Get { target: *target, salt: salt.as_bytes().to_vec() };
                self.told(&Item::of(all(node, probe).await))
            }
            Task::Put { text, .. } => {
                let value = bencoded(text);
                let target = Id::of_item(&value);
                let stored = node.probe(Probe::Put { value }).await.count().await;
                self.told(&Put { target: target.to_string(), seq: None, stored })
            }
            Task::Walk => self.told(&walk::walk(node).await),
            Task::Node { .. } | Task::Ping { .. } => unreachable!("done without the network"),
        })
    }

    async fn put_signed(
        &self,
        node: &Explorer,
        seed: &[u8; 32],
        salt: &str,
        text: &str,
        (seq, cas): (Option<i64>, Option<i64>),
    ) -> Result<Outcome, Failure> {
        let salt = salt.as_bytes().to_vec();
        let seq = match seq {
            Some(seq) => seq,
            None => {
                let target = OwnItem::target_of(seed, &salt);
                let heard = all(node, Probe::Get { target, salt: salt.clone() }).await;
                let found =
                    heard.iter().filter_map(|heard| if let Heard::Item { seq, .. } = heard { *seq } else { None });
                found.max().map_or(1, |seq| seq.saturating_add(1))
            }
        };
        let item = OwnItem::sign(seed, salt, seq, bencoded(text));
        let item = Box::new(item.map_err(|bad| Failure::Question(bad.to_string()))?);
        let target = item.target().to_string();
        let stored = node.probe(Probe::PutSigned { item, cas }).await.count().await;
        Ok(self.told(&Put { target, seq: Some(seq), stored }))
    }

    fn which(&self, config: &Config) -> Which {
        self.network.unwrap_or(match config.dht.network {
            Network::Private => Which::Private,
            Network::Public | Network::Off => Which::Public,
        })
    }

    async fn start(&self, config: &Config) -> Result<Explorer, Failure> {
        let which = self.which(config);
        let listen = [self.listen.unwrap_or((Ipv6Addr::UNSPECIFIED, 0).into())];
        let state_file = match &self.task {
            Task::Node { dir: Some(dir) } => Some(dir.join("dht.state")),
            _ => None,
        };
        let (is_mute, seed) = (!matches!(self.task, Task::Node { .. }), rand::random());
        let started = if which == Which::Mainline {
            let bootstrap = if self.bootstrap.is_empty() { &config.dht.mainline } else { &self.bootstrap };
            Explorer::mainline(bootstrap.clone(), &listen, state_file, is_mute, seed).await
        } else {
            let mut dht = config.dht.clone();
            dht.network = if which == Which::Private { Network::Private } else { Network::Public };
            if !self.bootstrap.is_empty() {
                dht.bootstrap.clone_from(&self.bootstrap);
            } else if dht.bootstrap.is_empty() && is_mute {
                dht.bootstrap = config.peer.listen.iter().map(|at| here(*at).to_string()).collect();
            }
            Explorer::start(&dht, &listen, state_file, is_mute, seed).await
        };
        started.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => Failure::Question(error.to_string()),
            _ => Failure::Daemon(format!("cannot listen on {}, UDP: {error}", listen[0])),
        })
    }

    async fn find_network(&self, node: &Explorer) -> Result<(), Failure> {
        let found = node.until(|figures| figures.nodes() > 0);
        let nobody = || {
            let seconds = FINDING.as_secs();
            Failure::Daemon(format!("no node answered in {seconds} s; name one that does with --bootstrap HOST:PORT"))
        };
        timeout(FINDING, found).await.ok().filter(|found| *found).map(|_| ()).ok_or_else(nobody)
    }

    /// Says where it is, and waits to be stopped.
    async fn serve(&self, node: &Explorer) -> Result<Outcome, Failure> {
        let failed = |error: io::Error| Failure::Daemon(error.to_string());
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt()).map_err(failed)?, signal(SignalKind::terminate()).map_err(failed)?);
        let said = self.told(&told::Listening { listen: node.local_addrs().to_vec() });
        // Whoever started it may not listen.
        let _closed = io::stdout().write_all(said.text.as_bytes()).and_then(|()| io::stdout().flush());
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        node.shutdown().await;
        Ok(Outcome { text: String::new(), good: true })
    }

    fn told<T: Told + Serialize>(&self, told: &T) -> Outcome {
        let text =
            if self.json { serde_json::to_string(told).expect("texts and numbers") + "\n" } else { told.render() };
        Outcome { text, good: told.is_good() }
    }
}

fn bencoded(text: &str) -> Vec<u8> {
    [format!("{}:", text.len()).as_bytes(), text.as_bytes()].concat()
}

/// The Ed25519 seed that a file holds.
async fn read_seed(path: &Path) -> Result<[u8; 32], Failure> {
    let bad = |why: &str| Failure::Question(format!("{}: {why}", clean(&path.to_string_lossy())));
    let text = tokio::fs::read_to_string(path).await.map_err(|error| bad(&error.to_string()))?;
    let text = text.trim_ascii();
    let mut seed = [0; 32];
    if text.len() != 2 * seed.len() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(bad("expected 64 hexadecimal digits"));
    }
    for (byte, at) in seed.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).expect("two hexadecimal digits");
    }
    Ok(seed)
}

/// All that a probe hears.
async fn all(node: &Explorer, probe: Probe) -> Vec<Heard> {
    let mut hearing = node.probe(probe).await;
    let mut heard = Vec::new();
    while let Some(next) = hearing.next().await {
        heard.push(next);
    }
    heard
}

async fn resolve(node: &str) -> Result<SocketAddr, Failure> {
    let unknown = |why: &str| Failure::Question(format!("{}: {why}; expected HOST:PORT", clean(node)));
    let resolved: Result<_, io::Error> = lookup(node).await;
    resolved.map_err(|error| unknown(&error.to_string()))?.ok_or_else(|| unknown("no address"))
}

fn lookup(node: &str) -> impl Future<Output = io::Result<Option<SocketAddr>>> {
    let node = node.to_owned();
    async move { Ok(tokio::net::lookup_host(node).await?.next()) }
}

/// Where on this host something listens.
fn here(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        // `[::]` takes IPv4 as well.
        _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    SocketAddr::new(ip, listen.port())
}
