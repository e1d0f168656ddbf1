//! The node's door: UDP sockets, the clock, names of entry nodes, and the file that outlives a restart.
//!
//! ```text
//!  mod.rs       the driver: one loop around one node
//!  socket.rs    UDP                               explorer.rs  a node that is asked for raw things
//!  dial.rs      TCP, to try somebody's port       lan.rs       neighbours
//!                                                 meeting.rs   the meeting point on Mainline
//! ```
#![expect(clippy::disallowed_methods, reason = "the node's clock, its task and its file")]

mod dial;
pub mod explorer;
pub mod lan;
pub mod meeting;
mod socket;

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    fs::OpenOptions,
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use crate::hash::Expected;

use super::{
    Snapshot,
    find::Found,
    message::MAX_READ,
    node::{Event, JobId, Node, Output, Setup, Ticket, Transmit},
    probe::{Heard, Probe},
    reach::Dial,
    realm::Realm,
    saved::{self, Saved},
    shelf::{Record, Shelf},
    terms::Terms,
};

use socket::{Endpoint, receive};

/// How often figures are renewed while something happens.
pub const FIGURES_EVERY: Duration = Duration::from_millis(250);

/// How often the state is saved.
const SAVE_EVERY: Duration = Duration::from_secs(15 * 60);

/// When the state is saved first.
const FIRST_SAVE: Duration = Duration::from_secs(60);

/// Datagrams taken at once before anything else has its turn.
const MAX_BATCH: usize = 64;

/// Entries that are resolved at one try.
const MAX_ENTRIES: usize = 32;

/// Outcomes of connections that wait for the node.
const DIALLED: usize = 16;

/// How long one name may take.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);

/// What the handle asks of the task.
#[derive(Debug)]
pub enum Command {
    /// Look for a file.
    Find {
        /// The file.
        expected: Expected,
        /// How urgent it is.
        terms: Terms,
        /// Where to say what is found.
        found: mpsc::Sender<Found>,
    },
    /// Look for peers that have something of a shelf.
    LookAt {
        /// The shelf.
        shelf: Shelf,
        /// Where to say what is found.
        found: mpsc::Sender<Found>,
    },
    /// Announce several files and shelves.
    Publish {
        /// What is held.
        records: Vec<Record>,
        /// TCP port.
        port: u16,
        /// Where to say how many stored each. When nobody listens there any more, it ends.
        stored: oneshot::Sender<Vec<usize>>,
    },
    /// Ask what no file is behind.
    Probe {
        /// What to ask.
        probe: Probe,
        /// Where to say what is heard.
        heard: mpsc::Sender<Heard>,
        /// Where to say how many answered a single question, or stored.
        done: oneshot::Sender<usize>,
    },
    /// Peers are served at that TCP port: have it tried.
    Serve(u16),
    /// The network can be entered there.
    Enter(Vec<SocketAddr>),
    /// Save, and end.
    Shutdown {
        /// Where to say that it is done.
        done: oneshot::Sender<()>,
    },
}

/// What a driver is built from.
pub struct Plan {
    /// The network.
    pub realm: Realm,
    /// `host:port` of nodes through which it is entered.
    pub bootstrap: Vec<String>,
    /// Where to bind UDP.
    pub listen: Vec<SocketAddr>,
    /// What outlives a restart; none for a node that does not.
    pub state_file: Option<PathBuf>,
    /// Decides all that is drawn. Not to be guessed.
    pub seed: u64,
    /// Whether it only asks (BEP 43).
    pub is_mute: bool,
}

/// The node and what it touches of the world.
pub struct Driver {
    node: Node,
    sockets: Vec<Endpoint>,
    start: Instant,
    bootstrap: Vec<String>,
    state_file: Option<PathBuf>,
    figures: watch::Sender<Snapshot>,
    figures_at: Duration,
    finds: HashMap<JobId, Finder>,
    /// Searches whose finder is gone; one that is not ends with it.
    unheard: FuturesUnordered<BoxFuture<'static, JobId>>,
    rounds: HashMap<JobId, oneshot::Sender<Vec<usize>>>,
    probes: HashMap<JobId, (mpsc::Sender<Heard>, oneshot::Sender<usize>)>,
    dialled: (mpsc::Sender<Dialled>, mpsc::Receiver<Dialled>),
    entries: (mpsc::Sender<Vec<SocketAddr>>, mpsc::Receiver<Vec<SocketAddr>>),
    save_at: Duration,
}

/// Somebody who waits for what a search finds.
struct Finder {
    found: mpsc::Sender<Found>,
    /// Dropped with it, which ends the watch for its end.
    _watch: oneshot::Sender<()>,
}

/// How a connection went.
type Dialled = (Ticket, Dial);

enum Wake {
    Received(usize, SocketAddr, usize),
    Command(Option<Command>),
    Entries(Vec<SocketAddr>),
    Dialled(Ticket, Dial),
    Unheard(JobId),
    Time,
}

impl Driver {
    /// Binds the sockets and reads the state.
    pub async fn bind(plan: Plan, figures: watch::Sender<Snapshot>) -> io::Result<Self> {
        let Plan { realm, bootstrap, listen, state_file, seed, is_mute } = plan;
        let sockets = listen.iter().map(|addr| Endpoint::bind(*addr, &listen)).collect::<io::Result<Vec<_>>>()?;
        let families = [
            sockets.iter().any(|endpoint| endpoint.local.is_ipv4() || endpoint.is_dual),
            sockets.iter().any(|endpoint| endpoint.local.is_ipv6()),
        ];
        let saved = match &state_file {
            Some(path) => load(path).await,
            None => None,
        };
        let setup = Setup { realm, families, saved, has_entries: !bootstrap.is_empty() };
        let begin = if is_mute { Node::mute } else { Node::new };
        Ok(Self {
            node: begin(setup, seed, Duration::ZERO),
            sockets,
            start: Instant::now(),
            bootstrap,
            state_file,
            figures,
            figures_at: Duration::ZERO,
            finds: HashMap::new(),
            unheard: FuturesUnordered::new(),
            rounds: HashMap::new(),
            probes: HashMap::new(),
            dialled: mpsc::channel(DIALLED),
            entries: mpsc::channel(1),
            save_at: FIRST_SAVE,
        })
    }

    /// The addresses that are bound.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|endpoint| endpoint.local).collect()
    }

    /// Starts the task. It ends at [`Command::Shutdown`], or when nobody can command it any more.
    pub fn spawn(self, commands: mpsc::Receiver<Command>) {
        tokio::spawn(self.run(commands));
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut buffer = [0; MAX_READ + 1];
        let mut turn = 0;
        loop {
            self.carry_out().await;
            let wake = self.start + self.node.next_timeout().min(self.save_at).min(self.figures_at);
            turn += 1;
            let event = tokio::select! {
                (via, from, len) = receive(&self.sockets, turn, &mut buffer) => Wake::Received(via, from, len),
                command = commands.recv() => Wake::Command(command),
                Some(addrs) = self.entries.1.recv() => Wake::Entries(addrs),
                Some((ticket, dial)) = self.dialled.1.recv() => Wake::Dialled(ticket, dial),
                Some(job) = self.unheard.next() => Wake::Unheard(job),
                () = tokio::time::sleep_until(wake) => Wake::Time,
            };
            let now = self.now();
            self.stop_unwanted();
            match event {
                Wake::Received(via, from, len) => {
                    self.node.handle_datagram(from, via, &buffer[..len], now);
                    self.receive_more(&mut buffer).await;
                }
                Wake::Command(Some(Command::Shutdown { done })) => {
                    self.save().await;
                    let _ = done.send(());
                    return;
                }
                Wake::Command(Some(command)) => self.obey(command, now),
                Wake::Command(None) => {
                    self.save().await;
                    return;
                }
                Wake::Dialled(ticket, dial) => self.node.handle_dialled(ticket, dial, now),
                Wake::Unheard(job) => {
                    if self.finds.remove(&job).is_some() {
                        self.node.cancel(job);
                    }
                }
                Wake::Entries(addrs) => self.node.handle_entries(&addrs, now),
                Wake::Time => self.node.handle_timeout(now),
            }
            self.renew_figures(now);
            if self.save_at <= now {
                self.save().await;
                self.save_at = now + SAVE_EVERY;
            }
        }
    }

    /// Passes on what a search finds, and ends it when nobody listens any more.
    fn hear(&mut self, job: JobId, found: mpsc::Sender<Found>) {
        let (watch, ended) = oneshot::channel::<()>();
        let finder = found.clone();
        let unheard = async move {
            tokio::select! {
                () = finder.closed() => {}
                _ended = ended => {}
            }
            job
        };
        self.unheard.push(unheard.boxed());
        self.finds.insert(job, Finder { found, _watch: watch });
    }

    fn obey(&mut self, command: Command, now: Duration) {
        match command {
            Command::Find { expected, terms, found } => {
                let job = self.node.find(expected, terms, now);
                self.hear(job, found);
            }
            Command::LookAt { shelf, found } => {
                // Whoever looks remembers who was there, for as long as is good.
                let job = self.node.find_shelf(&shelf, Terms { anew: true, ..Terms::default() }, now);
                self.hear(job, found);
            }
            Command::Publish { records, port, stored } => {
                let job = self.node.publish_many(&records, port, now);
                self.rounds.insert(job, stored);
            }
            Command::Probe { probe, heard, done } => {
                let job = self.node.probe(probe, now);
                self.probes.insert(job, (heard, done));
            }
            Command::Serve(port) => self.node.serve(port, now),
            Command::Enter(addrs) => self.node.handle_entries(&addrs, now),
            Command::Shutdown { .. } => unreachable!("it ends the loop"),
        }
    }

    /// Ends rounds that nobody waits for, before they say another word: a file in them was withdrawn.
    fn stop_unwanted(&mut self) {
        for (job, _) in self.rounds.extract_if(|_, waits| waits.is_closed()) {
            self.node.cancel(job);
        }
    }

    /// Takes what else has come, without waiting.
    async fn receive_more(&mut self, buffer: &mut [u8]) {
        for _ in 0..MAX_BATCH {
            let now = self.now();
            let received = self.sockets.iter().enumerate().find_map(|(via, endpoint)| {
                let (len, from) = endpoint.socket.try_recv_from(buffer).ok()?;
                Some((via, from, len))
            });
            let Some((via, from, len)) = received else { return };
            self.stop_unwanted();
            self.node.handle_datagram(from, via, &buffer[..len], now);
            self.carry_out().await;
        }
    }

    /// Does what the node wants.
    async fn carry_out(&mut self) {
        while let Some(output) = self.node.poll() {
            match output {
                Output::Transmit(transmit) => self.send(transmit).await,
                Output::Event(Event::Found(job, found)) => {
                    let is_heard = self.finds.get(&job).is_some_and(|finder| finder.found.try_send(found).is_ok());
                    if !is_heard {
                        self.finds.remove(&job);
                        self.node.cancel(job);
                    }
                }
                Output::Event(Event::Told(job, stored)) => {
                    if let Some(waits) = self.rounds.remove(&job) {
                        let _ = waits.send(stored);
                    }
                }
                Output::Event(Event::Ended(job, stored)) => {
                    self.rounds.remove(&job);
                    self.finds.remove(&job);
                    if let Some((_, done)) = self.probes.remove(&job) {
                        let _ = done.send(stored);
                    }
                }
                Output::Event(Event::Heard(job, heard)) => {
                    // What does not fit is more than anybody can look at.
                    let is_gone = |(prober, _): &(mpsc::Sender<Heard>, _)| {
                        matches!(prober.try_send(heard), Err(mpsc::error::TrySendError::Closed(_)))
                    };
                    if self.probes.get(&job).is_some_and(is_gone) {
                        self.probes.remove(&job);
                        self.node.cancel(job);
                    }
                }
                Output::Event(Event::Dial(ticket, to)) => self.dial(ticket, to),
                Output::Event(Event::Lonely) => self.resolve(),
            }
        }
    }

    async fn send(&mut self, Transmit { to, via, datagram }: Transmit) {
        let endpoint = match via {
            Some(via) => self.sockets.get(via),
            None => self.sockets.iter().max_by_key(|endpoint| endpoint.fitness(to)),
        };
        let sent = match endpoint {
            Some(endpoint) => endpoint.socket.send_to(&datagram, endpoint.spelled(to)).await.is_ok(),
            None => false,
        };
        if !sent && via.is_none() {
            let now = self.now();
            self.node.handle_unreachable(to, now);
        }
    }

    /// Asks the system for the addresses of the entry nodes, unless it is being asked already.
    fn resolve(&self) {
        let Ok(permit) = self.entries.0.clone().try_reserve_owned() else { return };
        let names: Vec<String> = self.bootstrap.iter().take(MAX_ENTRIES).cloned().collect();
        tokio::spawn(async move {
            let mut addrs = Vec::new();
            for name in names {
                match tokio::time::timeout(RESOLVE_DEADLINE, tokio::net::lookup_host(&name)).await {
                    Ok(Ok(resolved)) => addrs.extend(resolved),
                    Ok(Err(error)) => tracing::debug!(name, %error, "entry node not found"),
                    Err(_) => tracing::debug!(name, "entry node not found in time"),
                }
            }
            permit.send(addrs);
        });
    }

    /// Tries to connect, from the address that is bound.
    fn dial(&self, ticket: Ticket, to: SocketAddr) {
        let suits = |endpoint: &&Endpoint| endpoint.local.is_ipv4() == to.is_ipv4();
        let bind = self.sockets.iter().filter(suits).map(|endpoint| endpoint.local.ip());
        let bind = bind.filter(|ip: &IpAddr| !ip.is_unspecified()).last();
        let dialled = self.dialled.0.clone();
        tokio::spawn(async move {
            let _gone = dialled.send((ticket, dial::dial(to, bind).await)).await;
        });
    }

    fn renew_figures(&mut self, now: Duration) {
        if self.figures_at <= now {
            self.figures.send_replace(self.node.figures().into());
            self.figures_at = Duration::MAX;
        } else if self.figures_at == Duration::MAX {
            self.figures_at = now + FIGURES_EVERY;
        }
    }

    async fn save(&mut self) {
        let Some(path) = &self.state_file else { return };
        if let Err(error) = store(path, &self.node.saved(self.now())).await {
            tracing::warn!(file = %path.display(), %error, "state of the DHT not saved");
        }
    }
}

pub(super) async fn load(path: &Path) -> Option<Saved> {
    let file = tokio::fs::File::open(path).await.ok()?;
    // A clock that went back: as if no time had passed.
    let written = file.metadata().await.ok()?.modified().ok()?;
    let away = written.elapsed().unwrap_or_default();
    let mut bytes = Vec::new();
    file.take(saved::MAX_LEN as u64).read_to_end(&mut bytes).await.ok()?;
    let saved = Saved::decode(&bytes).map(|saved| saved.after(away));
    if saved.is_none() {
        tracing::warn!(file = %path.display(), "state of the DHT not understood, starting afresh");
    }
    saved
}

async fn store(path: &Path, saved: &Saved) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        tokio::fs::create_dir_all(parent).await?;
    }
    let fresh = path.with_extension("new");
    // What tokens are made from is nobody else's business.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh).await?;
    file.write_all(&saved.encode()).await?;
    file.flush().await?;
    tokio::fs::rename(&fresh, path).await
}
