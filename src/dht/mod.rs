//! Who: a Kademlia of our own. Which peers have a file, and what its piece hashes are said to be.
//!
//! ```text
//!  Dht (handle) --commands--> io: sockets, clock, file, names --> node: jobs, walks, lookups, tables, storage, replies
//! ```
//!
//! All but this file and `io.rs` is pure: bytes and time in, bytes and events out, so that a whole network runs in a test
//! under a clock of its own. The wire is KRPC (see `message`); a node speaks only within its network (see `realm`).
//!
//! The pure modules are public for the simulation in `benches/dht`, which the tests run as well, on fewer nodes.
//!
//! Files of one piece have no keys of their own: they are found by the shelves that they stand on (see [`shelf`]).
//!
//! Everything found is hearsay. Who fetches proves it.

mod allowance;
mod bencode;
mod claim;
pub mod contact;
pub mod find;
mod flights;
pub mod id;
mod io;
mod limits;
pub mod lookup;
pub mod message;
mod neighbourhood;
pub mod node;
mod probe;
mod reach;
pub mod realm;
mod rendezvous;
mod round;
pub mod saved;
mod serve;
pub mod shelf;
mod signed;
pub mod storage;
mod table;
mod terms;
mod tokens;
mod votes;
mod walk;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    archive::Shareable,
    hash::{ContentHash, Expected},
};

pub use contact::Contact;
pub use find::Found;
pub use id::{BadId, Id};
pub use io::explorer::{Explorer, Hearing};
pub use message::About;
pub use probe::{Answered, Heard, Probe};
pub use reach::{Dial, Reachability};
pub use shelf::{Announcement, Record, SHARDS, Shelf, is_shelved};
pub use signed::{BadItem, OwnItem};
pub use terms::{Priority, Terms};

use io::{Command, Driver, Plan, lan::Lan, meeting::Meeting};
use realm::Realm;

/// Commands that wait for the task.
const MAX_COMMANDS: usize = 1024;

/// Nodes through which everybody enters Mainline.
const MAINLINE: [&str; 4] = [
    "router.bittorrent.com:6881",
    "router.utorrent.com:6881",
    "dht.transmissionbt.com:6881",
    "dht.libtorrent.org:25401",
];

/// The section `[dht]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which network to join.
    pub network: Network,
    /// `host:port` of nodes through which the network is entered.
    pub bootstrap: Vec<String>,
    /// What the members of a private network share. Means nothing in the public one.
    pub secret: String,
    /// Whether neighbours on the local link are looked for.
    pub lan: bool,
    /// Whether the network may be found through Mainline, and this node there.
    pub rendezvous: bool,
    /// `host:port` of nodes through which Mainline is entered.
    pub mainline: Vec<String>,
}

/// Which network to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The common one.
    #[default]
    Public,
    /// One of those who know the secret.
    Private,
    /// None: no [`Dht`] is to be started.
    Off,
}

/// A configuration cannot be meant so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadConfig {
    /// A private network without a secret.
    #[error("network = \"private\" needs a secret")]
    NoSecret,
    /// An entry is not `host:port`.
    #[error("bootstrap: expected \"host:port\", found {0:?}")]
    Entry(String),
    /// The same of Mainline's.
    #[error("mainline: expected \"host:port\", found {0:?}")]
    Mainline(String),
    /// A handle is asked for although the network is off.
    #[error("network = \"off\"")]
    Off,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            network: Network::Public,
            bootstrap: Vec::new(),
            secret: String::new(),
            lan: true,
            rendezvous: true,
            mainline: MAINLINE.map(str::to_owned).to_vec(),
        }
    }
}

impl Config {
    /// Whether it can be meant so; the error is one line for people.
    pub fn check(&self) -> Result<(), BadConfig> {
        if let Some(entry) = self.bootstrap.iter().find(|entry| !is_entry(entry)) {
            return Err(BadConfig::Entry(entry.clone()));
        }
        if let Some(entry) = self.mainline.iter().find(|entry| !is_entry(entry)) {
            return Err(BadConfig::Mainline(entry.clone()));
        }
        match self.network {
            Network::Private if self.secret.is_empty() => Err(BadConfig::NoSecret),
            _ => Ok(()),
        }
    }

    fn realm(&self) -> Result<Realm, BadConfig> {
        self.check()?;
        match self.network {
            Network::Public => Ok(Realm::public()),
            Network::Private => Realm::private(&self.secret).ok_or(BadConfig::NoSecret),
            Network::Off => Err(BadConfig::Off),
        }
    }
}

fn is_entry(entry: &str) -> bool {
    let port = |port: &str| port.parse::<u16>().is_ok_and(|port| port != 0);
    entry.parse::<SocketAddr>().is_ok_and(|addr| addr.port() != 0)
        || entry.rsplit_once(':').is_some_and(|(host, after)| !host.is_empty() && !host.contains(':') && port(after))
}

/// Figures for the status page.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// IPv4 nodes known that answer.
    pub nodes_v4: usize,
    /// IPv6 nodes known that answer.
    pub nodes_v6: usize,
    /// Keys and items stored for others.
    pub stored: usize,
    /// Questions of others that were answered.
    pub queries_in: u64,
    /// Questions that were asked.
    pub queries_out: u64,
    /// Datagrams that were not of this network, or beyond a budget.
    pub dropped: u64,
    /// Searches and announcements under way.
    pub searching: usize,
    /// Median time of the last searches to their end, in milliseconds.
    pub lookup_p50_ms: Option<f64>,
    /// The time that one in twenty of them exceeded, in milliseconds.
    pub lookup_p95_ms: Option<f64>,
    /// The own addresses, as other nodes see them.
    pub external: Vec<SocketAddr>,
    /// Whether others can connect over IPv4 to the port where peers are served; none when nothing is served.
    pub reachable_v4: Option<Reachability>,
    /// The same over IPv6.
    pub reachable_v6: Option<Reachability>,
    /// How many nodes the network has, estimated by how densely they stand.
    pub estimate: usize,
    /// How often the own address was another one than before: what was announced names one that is no more.
    pub moves: u32,
}

impl Snapshot {
    /// Nodes known that answer, over IPv4 and IPv6.
    pub fn nodes(&self) -> usize {
        self.nodes_v4 + self.nodes_v6
    }

    /// Whether a stranger was able to connect to the port where peers are served.
    pub fn is_reachable(&self) -> bool {
        [self.reachable_v4, self.reachable_v6].contains(&Some(Reachability::Open))
    }
}

impl From<node::Figures> for Snapshot {
    fn from(figures: node::Figures) -> Self {
        let mut timings = figures.timings;
        timings.sort();
        let percentile = |percent: usize| {
            let at = (timings.len() * percent / 100).min(timings.len().saturating_sub(1));
            timings.get(at).map(|time| time.as_secs_f64() * 1000.0)
        };
        Self {
            nodes_v4: figures.nodes[0],
            nodes_v6: figures.nodes[1],
            stored: figures.stored,
            queries_in: figures.queries_in,
            queries_out: figures.queries_out,
            dropped: figures.dropped,
            searching: figures.searching,
            lookup_p50_ms: percentile(50),
            lookup_p95_ms: percentile(95),
            external: figures.external.into_iter().flatten().collect(),
            reachable_v4: figures.reachability[0],
            reachable_v6: figures.reachability[1],
            estimate: figures.estimate,
            moves: figures.moves,
        }
    }
}

/// A running node. Clones are the same node; it ends when the last one is dropped, or at [`Dht::shutdown`].
#[derive(Debug, Clone)]
pub struct Dht {
    commands: mpsc::Sender<Command>,
    snapshot: watch::Receiver<Snapshot>,
    addrs: Arc<[SocketAddr]>,
    realm: Realm,
}

impl Dht {
    /// Binds UDP at each address, takes up what `state_file` saved, and starts the node's task on the current runtime.
    ///
    /// `[::]` takes both families, or IPv4 alone where the host has no IPv6. The seed decides ids, tokens and transactions:
    /// it must not be guessable. Fails when an address cannot be bound, or when the configuration cannot be meant so.
    pub async fn start(
        config: &Config,
        listen: &[SocketAddr],
        state_file: PathBuf,
        seed: u64,
    ) -> std::io::Result<Self> {
        let realm = config.realm().map_err(|bad| std::io::Error::new(std::io::ErrorKind::InvalidInput, bad))?;
        let (sender, commands) = mpsc::channel(MAX_COMMANDS);
        let (figures, snapshot) = watch::channel(Snapshot::default());
        let plan = Plan {
            realm: realm.clone(),
            bootstrap: config.bootstrap.clone(),
            listen: listen.to_vec(),
            state_file: Some(state_file),
            seed,
            is_mute: false,
        };
        let driver = Driver::bind(plan, figures).await?;
        let addrs = driver.local_addrs().into();
        driver.spawn(commands);
        Ok(Self { commands: sender, snapshot, addrs, realm })
    }

    /// The addresses that are bound.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Looks for holders and piece hashes of a file. Each comes once, as soon as it is known; the channel closes when the
    /// search is over, at once when there is nobody to ask. To drop it ends the search, its questions and its turn.
    /// Searches under way are bounded, those that wait for their turn as well.
    pub fn lookup(&self, file: Shareable, terms: Terms) -> mpsc::Receiver<Found> {
        self.find(*file.expected(), terms)
    }

    fn find(&self, expected: Expected, terms: Terms) -> mpsc::Receiver<Found> {
        let (found, receiver) = mpsc::channel(find::MAX_HOLDERS + find::MAX_CLAIMS);
        // When the task is gone or drowned in commands, the sender is dropped here: nothing is found.
        let _ = self.commands.try_send(Command::Find { expected, terms, found });
        receiver
    }

    /// Looks for peers that have something of a shelf, in the same way.
    pub fn look_at(&self, shelf: Shelf) -> mpsc::Receiver<Found> {
        let (found, receiver) = mpsc::channel(find::MAX_HOLDERS);
        let _ = self.commands.try_send(Command::LookAt { shelf, found });
        receiver
    }

    /// Says that this host holds these files, and something of these shelves, and serves peers at a TCP port of the address that it sends from. Gives the
    /// number of nodes that keep each, in the same order; 0 is worth another try. To drop the future ends it.
    ///
    /// What has its [`Dht::place`] near another's costs little more than one of them.
    pub async fn announce(&self, announcements: Vec<Announcement>, port: u16) -> Vec<usize> {
        self.tell(announcements.into_iter().map(Record::from).collect(), port).await
    }

    async fn tell(&self, records: Vec<Record>, port: u16) -> Vec<usize> {
        let none = vec![0; records.len()];
        let (stored, receiver) = oneshot::channel();
        let _ = self.commands.send(Command::Publish { records, port, stored }).await;
        receiver.await.unwrap_or(none)
    }

    /// Where in the key space a file is announced.
    pub fn place(&self, file: &ContentHash) -> Id {
        self.realm.key(file)
    }

    /// Where a shelf is.
    pub fn place_of(&self, shelf: &Shelf) -> Id {
        self.realm.shelf(shelf)
    }

    /// Peers are served at that TCP port from now on. Others are asked to connect to it, and nothing is announced over a
    /// family before one of them could; [`Snapshot`] has what they say.
    pub async fn serve(&self, port: u16) {
        let _ = self.commands.send(Command::Serve(port)).await;
    }

    /// Looks for the network where no saved node and no entry leads to it: on the local link, and at the meeting point on
    /// Mainline, as far as the configuration wants it. `port` is the one given to [`Dht::serve`], if any. `state_file` keeps
    /// the nodes of Mainline. What is started ends with the node.
    pub async fn seek(&self, config: &Config, port: Option<u16>, state_file: PathBuf, seeds: [u64; 2]) {
        let Ok(realm) = config.realm() else { return };
        if config.lan {
            let (commands, snapshot) = (self.commands.downgrade(), self.snapshot.clone());
            match Lan::join(realm.clone(), &self.addrs, seeds[0], commands, snapshot) {
                Ok(lan) => lan.into_iter().for_each(Lan::spawn),
                Err(error) => tracing::warn!(%error, "neighbours on the local link cannot be looked for"),
            }
        }
        if config.rendezvous {
            let meeting = Meeting {
                realm,
                entries: config.mainline.clone(),
                listen: self.addrs.to_vec(),
                state_file,
                port,
                seed: seeds[1],
                commands: self.commands.downgrade(),
                snapshot: self.snapshot.clone(),
            };
            meeting.spawn();
        }
    }

    /// Figures, at most a quarter of a second old while something happens.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.borrow().clone()
    }

    /// Saves the node's state and ends it. All later searches find nothing.
    pub async fn shutdown(&self) {
        let (done, receiver) = oneshot::channel();
        let _ = self.commands.send(Command::Shutdown { done }).await;
        let _ = receiver.await;
    }
}

#[cfg(test)]
mod tests;
