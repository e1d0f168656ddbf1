//! The meeting point on Mainline: drives [`Rendezvous`] with a read-only node, which is there only while it is needed.
#![expect(clippy::disallowed_methods, reason = "the driver's clock, and the day")]

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{mpsc::WeakSender, watch},
    time::{Instant, sleep_until, timeout},
};

use crate::dht::{
    Snapshot,
    probe::{Heard, Probe},
    reach::Reachability,
    realm::Realm,
    rendezvous::{Rendezvous, Situation, Wish},
    table::K,
};

use super::{Command, explorer::Explorer};

/// How long Mainline may take to be found.
const FINDING: Duration = Duration::from_secs(20);

/// A node that is needed again later than this is not kept.
const KEPT: Duration = Duration::from_secs(60);

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// So near midnight, the neighbouring day's key counts as well: clocks differ, and announcements last some half an hour.
const TWILIGHT: u64 = 60 * 60;

/// What it is built from.
pub struct Meeting {
    /// The own network.
    pub realm: Realm,
    /// `host:port` of Mainline's entries.
    pub entries: Vec<String>,
    /// Where to bind; ports are chosen by the system.
    pub listen: Vec<SocketAddr>,
    /// Where Mainline's nodes are remembered.
    pub state_file: PathBuf,
    /// The TCP and UDP port to be announced; none when nothing is served.
    pub port: Option<u16>,
    /// Decides all that is drawn.
    pub seed: u64,
    /// To the own node.
    pub commands: WeakSender<Command>,
    /// What it says of the own network.
    pub snapshot: watch::Receiver<Snapshot>,
}

impl Meeting {
    /// Starts the task. It ends with the own node.
    pub fn spawn(self) {
        tokio::spawn(self.run());
    }

    async fn run(mut self) {
        let start = Instant::now();
        let mut machine = Rendezvous::new(self.seed, Duration::ZERO);
        let mut mainline: Option<Explorer> = None;
        loop {
            let situation = self.situation();
            machine.handle_situation(situation, start.elapsed());
            while let Some(wish) = machine.poll(start.elapsed()) {
                let node = match mainline.take() {
                    Some(node) => Some(node),
                    None => self.enter_mainline().await,
                };
                match wish {
                    Wish::Look => {
                        self.look(node.as_ref()).await;
                        machine.handle_looked(start.elapsed());
                    }
                    Wish::Announce => {
                        let stored = self.announce(node.as_ref()).await;
                        machine.handle_announced(stored, start.elapsed());
                    }
                }
                mainline = node;
            }
            let next = machine.next();
            let is_near = next.is_some_and(|next| next < start.elapsed() + KEPT);
            if !is_near && let Some(node) = mainline.take() {
                node.shutdown().await;
            }
            let changed = self.snapshot.wait_for(|now| situation != situation_of(now, self.port));
            tokio::select! {
                changed = changed => if changed.is_err() { return },
                () = sleep_until(start + next.unwrap_or_default()), if next.is_some() => {}
            }
        }
    }

    fn situation(&mut self) -> Situation {
        situation_of(&self.snapshot.borrow_and_update(), self.port)
    }

    async fn enter_mainline(&self) -> Option<Explorer> {
        let listen: Vec<_> = self.listen.iter().map(|at| SocketAddr::new(at.ip(), 0)).collect();
        let (entries, state) = (self.entries.clone(), Some(self.state_file.clone()));
        let node = Explorer::mainline(entries, &listen, state, true, rand::random()).await;
        let node = node.inspect_err(|error| tracing::debug!(%error, "Mainline")).ok()?;
        let found = timeout(FINDING, node.until(|figures| figures.nodes() > 0)).await;
        let is_found = matches!(found, Ok(true));
        if !is_found {
            tracing::info!("nobody of Mainline answers; the meeting point cannot be looked at");
        }
        is_found.then_some(node)
    }

    async fn look(&self, node: Option<&Explorer>) {
        let Some(node) = node else { return };
        for day in days() {
            let peers = node.peers(self.realm.rendezvous(day)).await;
            tracing::debug!(day, peers = peers.len(), "looked at the meeting point");
            self.enter(peers).await;
        }
    }

    /// Gives the number of nodes that keep it.
    async fn announce(&self, node: Option<&Explorer>) -> usize {
        let (Some(node), Some(port)) = (node, self.port) else { return 0 };
        let mut hearing = node.probe(Probe::Announce { key: self.realm.rendezvous(today()), port }).await;
        let mut peers = Vec::new();
        while let Some(heard) = hearing.next().await {
            if let Heard::Peer(peer) = heard {
                peers.push(peer);
            }
        }
        let stored = hearing.count().await;
        tracing::debug!(stored, "announced at the meeting point");
        // What is heard on the way anyway joins networks that began apart.
        if self.snapshot.borrow().nodes() < K {
            self.enter(peers).await;
        }
        stored
    }

    async fn enter(&self, peers: Vec<SocketAddr>) {
        if let Some(commands) = self.commands.upgrade().filter(|_| !peers.is_empty()) {
            let _gone = commands.send(Command::Enter(peers)).await;
        }
    }
}

fn situation_of(now: &Snapshot, port: Option<u16>) -> Situation {
    let states = [now.reachable_v4, now.reachable_v6].into_iter().flatten();
    // One family that is open is enough; of two that are not, what one knows.
    let rank = |state: &Reachability| match state {
        Reachability::Open => 2,
        Reachability::Untested => 1,
        Reachability::Closed(_) => 0,
    };
    let reachability = port.and(states.max_by_key(rank).or(Some(Reachability::Untested)));
    Situation { nodes: now.nodes(), estimate: now.estimate, reachability }
}

fn today() -> u32 {
    u32::try_from(seconds() / DAY).unwrap_or(u32::MAX)
}

/// Today, and the day that is near.
fn days() -> impl Iterator<Item = u32> {
    let (today, into) = (today(), seconds() % DAY);
    let before = (into < TWILIGHT).then(|| today.saturating_sub(1));
    let after = (into >= DAY - TWILIGHT).then(|| today.saturating_add(1));
    [today].into_iter().chain(before).chain(after)
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
