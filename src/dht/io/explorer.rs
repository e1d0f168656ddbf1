//! A node that is asked for raw things, by ids and addresses: what the tools speak through, and the meeting point.

use std::{net::SocketAddr, path::PathBuf};

use tokio::sync::{mpsc, oneshot, watch};

use crate::dht::{
    BadConfig, Config, Snapshot,
    id::Id,
    probe::{Heard, Probe},
    realm::Realm,
};

use super::{Command, Driver, Plan};

/// Things heard that wait to be looked at: more than one walk can hear.
const MAX_HEARD: usize = 4096;

/// Commands that wait for the task.
const MAX_COMMANDS: usize = 1024;

/// A running node of any network, Mainline among them. It ends when it is dropped.
#[derive(Debug, Clone)]
pub struct Explorer {
    commands: mpsc::Sender<Command>,
    snapshot: watch::Receiver<Snapshot>,
    addrs: Vec<SocketAddr>,
}

/// What a probe hears, as it is heard.
#[derive(Debug)]
pub struct Hearing {
    heard: mpsc::Receiver<Heard>,
    done: oneshot::Receiver<usize>,
}

impl Hearing {
    /// The next thing heard; none when the probe is over.
    pub async fn next(&mut self) -> Option<Heard> {
        self.heard.recv().await
    }

    /// Waits for the end: nodes that answered a single question, or that stored.
    pub async fn count(mut self) -> usize {
        while self.heard.recv().await.is_some() {}
        self.done.await.unwrap_or(0)
    }
}

impl Explorer {
    /// Joins the network of a configuration.
    pub async fn start(
        config: &Config,
        listen: &[SocketAddr],
        state_file: Option<PathBuf>,
        is_mute: bool,
        seed: u64,
    ) -> std::io::Result<Self> {
        let invalid = |bad: BadConfig| std::io::Error::new(std::io::ErrorKind::InvalidInput, bad);
        let realm = config.realm().map_err(invalid)?;
        let (bootstrap, listen) = (config.bootstrap.clone(), listen.to_vec());
        Self::begin(Plan { realm, bootstrap, listen, state_file, seed, is_mute }).await
    }

    /// Joins Mainline through these nodes.
    pub async fn mainline(
        bootstrap: Vec<String>,
        listen: &[SocketAddr],
        state_file: Option<PathBuf>,
        is_mute: bool,
        seed: u64,
    ) -> std::io::Result<Self> {
        let (realm, listen) = (Realm::mainline(), listen.to_vec());
        Self::begin(Plan { realm, bootstrap, listen, state_file, seed, is_mute }).await
    }

    async fn begin(plan: Plan) -> std::io::Result<Self> {
        let (sender, commands) = mpsc::channel(MAX_COMMANDS);
        let (figures, snapshot) = watch::channel(Snapshot::default());
        let driver = Driver::bind(plan, figures).await?;
        let addrs = driver.local_addrs();
        driver.spawn(commands);
        Ok(Self { commands: sender, snapshot, addrs })
    }

    /// The addresses that are bound.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Figures, at most a quarter of a second old while something happens.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.borrow().clone()
    }

    /// Waits until the figures are so. `false`: the node has ended.
    pub async fn until(&self, so: impl FnMut(&Snapshot) -> bool) -> bool {
        self.snapshot.clone().wait_for(so).await.is_ok()
    }

    /// Begins a probe. One whose hearing is dropped ends.
    pub async fn probe(&self, probe: Probe) -> Hearing {
        let (heard_to, heard) = mpsc::channel(MAX_HEARD);
        let (done_to, done) = oneshot::channel();
        let _gone = self.commands.send(Command::Probe { probe, heard: heard_to, done: done_to }).await;
        Hearing { heard, done }
    }

    /// Peers under a key, as they are heard, once each.
    pub async fn peers(&self, key: Id) -> Vec<SocketAddr> {
        let mut hearing = self.probe(Probe::GetPeers(key)).await;
        let mut peers = Vec::new();
        while let Some(heard) = hearing.next().await {
            if let Heard::Peer(peer) = heard {
                peers.push(peer);
            }
        }
        peers
    }

    /// Saves the node's state and ends it.
    pub async fn shutdown(&self) {
        let (done, receiver) = oneshot::channel();
        let _ = self.commands.send(Command::Shutdown { done }).await;
        let _ = receiver.await;
    }
}
