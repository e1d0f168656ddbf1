//! The node's door: UDP sockets, the clock, names of entry nodes, and the file that outlives a restart.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the one place of the station that has sockets, a clock, a task and a file"
)]

use std::{
    collections::HashMap,
    future::poll_fn,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    task::{Context, Poll},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncReadExt, ReadBuf},
    net::UdpSocket,
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use crate::hash::{Expected, PieceChain};

use super::{
    Snapshot,
    find::Found,
    message::MAX_READ,
    node::{Event, JobId, Node, Output, Setup, Transmit},
    realm::Realm,
    saved::{self, Saved},
};

/// How often figures are renewed while something happens.
pub const FIGURES_EVERY: Duration = Duration::from_millis(250);

/// How often the state is saved.
const SAVE_EVERY: Duration = Duration::from_secs(15 * 60);

/// When the state is saved first.
const FIRST_SAVE: Duration = Duration::from_secs(60);

/// Datagrams taken at once before anything else has its turn.
const MAX_BATCH: usize = 64;

/// Wished size of a socket's receive buffer, in bytes: replies to many searches come in bursts.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Entries that are resolved at one try.
const MAX_ENTRIES: usize = 32;

/// How long one name may take.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);

/// What the handle asks of the task.
#[derive(Debug)]
pub enum Command {
    /// Look for a file.
    Find {
        /// The file.
        expected: Expected,
        /// Where to say what is found.
        found: mpsc::Sender<Found>,
    },
    /// Announce a file.
    Publish {
        /// The file.
        expected: Expected,
        /// Its piece hashes.
        chain: PieceChain,
        /// TCP port.
        port: u16,
        /// Where to say how many stored it.
        stored: oneshot::Sender<usize>,
    },
    /// Save, and end.
    Shutdown {
        /// Where to say that it is done.
        done: oneshot::Sender<()>,
    },
}

/// The node and what it touches of the world.
pub struct Driver {
    node: Node,
    sockets: Vec<Endpoint>,
    start: Instant,
    bootstrap: Vec<String>,
    state_file: PathBuf,
    figures: watch::Sender<Snapshot>,
    figures_at: Duration,
    finds: HashMap<JobId, mpsc::Sender<Found>>,
    publishes: HashMap<JobId, oneshot::Sender<usize>>,
    entries: (mpsc::Sender<Vec<SocketAddr>>, mpsc::Receiver<Vec<SocketAddr>>),
    save_at: Duration,
}

struct Endpoint {
    socket: UdpSocket,
    local: SocketAddr,
    is_dual: bool,
}

enum Wake {
    Received(usize, SocketAddr, usize),
    Command(Option<Command>),
    Entries(Vec<SocketAddr>),
    Time,
}

impl Driver {
    /// Binds the sockets and reads the state.
    pub async fn bind(
        realm: Realm,
        bootstrap: Vec<String>,
        listen: &[SocketAddr],
        state_file: PathBuf,
        seed: u64,
        figures: watch::Sender<Snapshot>,
    ) -> io::Result<Self> {
        let sockets = listen.iter().map(|addr| Endpoint::bind(*addr, listen)).collect::<io::Result<Vec<_>>>()?;
        let families = [
            sockets.iter().any(|endpoint| endpoint.local.is_ipv4() || endpoint.is_dual),
            sockets.iter().any(|endpoint| endpoint.local.is_ipv6()),
        ];
        let saved = load(&state_file).await;
        let setup = Setup { realm, families, saved, has_entries: !bootstrap.is_empty() };
        Ok(Self {
            node: Node::new(setup, seed, Duration::ZERO),
            sockets,
            start: Instant::now(),
            bootstrap,
            state_file,
            figures,
            figures_at: Duration::ZERO,
            finds: HashMap::new(),
            publishes: HashMap::new(),
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
                () = tokio::time::sleep_until(wake) => Wake::Time,
            };
            let now = self.now();
            match event {
                Wake::Received(via, from, len) => {
                    self.node.handle_datagram(from, via, &buffer[..len], now);
                    self.receive_more(&mut buffer).await;
                }
                Wake::Command(Some(Command::Find { expected, found })) => {
                    let job = self.node.find(expected, now);
                    self.finds.insert(job, found);
                }
                Wake::Command(Some(Command::Publish { expected, chain, port, stored })) => {
                    let job = self.node.publish(expected, &chain, port, now);
                    self.publishes.insert(job, stored);
                }
                Wake::Command(Some(Command::Shutdown { done })) => {
                    self.save().await;
                    let _ = done.send(());
                    return;
                }
                Wake::Command(None) => {
                    self.save().await;
                    return;
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

    /// Takes what else has come, without waiting.
    async fn receive_more(&mut self, buffer: &mut [u8]) {
        for _ in 0..MAX_BATCH {
            let now = self.now();
            let received = self.sockets.iter().enumerate().find_map(|(via, endpoint)| {
                let (len, from) = endpoint.socket.try_recv_from(buffer).ok()?;
                Some((via, from, len))
            });
            let Some((via, from, len)) = received else { return };
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
                    let is_heard = self.finds.get(&job).is_some_and(|finder| finder.try_send(found).is_ok());
                    if !is_heard {
                        self.finds.remove(&job);
                        self.node.cancel(job);
                    }
                }
                Output::Event(Event::Ended(job, stored)) => {
                    self.finds.remove(&job);
                    if let Some(publisher) = self.publishes.remove(&job) {
                        let _ = publisher.send(stored);
                    }
                }
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

    fn renew_figures(&mut self, now: Duration) {
        if self.figures_at <= now {
            self.figures.send_replace(self.node.figures().into());
            self.figures_at = Duration::MAX;
        } else if self.figures_at == Duration::MAX {
            self.figures_at = now + FIGURES_EVERY;
        }
    }

    async fn save(&self) {
        if let Err(error) = store(&self.state_file, &self.node.saved()).await {
            tracing::warn!(file = %self.state_file.display(), %error, "state of the DHT not saved");
        }
    }
}

impl Endpoint {
    /// Binds one address; `[::]` for both families unless IPv4 has an address of its own in `all`.
    fn bind(addr: SocketAddr, all: &[SocketAddr]) -> io::Result<Self> {
        let is_any_v6 = addr.is_ipv6() && addr.ip().is_unspecified();
        let is_dual = is_any_v6 && !all.iter().any(SocketAddr::is_ipv4);
        match Self::bind_exactly(addr, is_dual) {
            Err(error) if is_dual && error.kind() != io::ErrorKind::AddrInUse => {
                Self::bind_exactly((Ipv4Addr::UNSPECIFIED, addr.port()).into(), false)
            }
            bound => bound,
        }
    }

    fn bind_exactly(addr: SocketAddr, is_dual: bool) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(!is_dual)?;
        }
        // A smaller buffer loses some replies, and that is all.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        let local = socket.local_addr()?;
        Ok(Self { socket, local, is_dual })
    }

    /// How well the socket suits a destination: not at all, by family, or by family and scope.
    fn fitness(&self, to: SocketAddr) -> u8 {
        let ip = self.local.ip();
        let has_family = self.is_dual || self.local.is_ipv4() == to.is_ipv4();
        let has_scope = ip.is_unspecified() || ip.is_loopback() == to.ip().is_loopback();
        u8::from(has_family) + u8::from(has_family && has_scope)
    }

    /// A destination in the form that the socket's family takes.
    fn spelled(&self, to: SocketAddr) -> SocketAddr {
        match to.ip() {
            IpAddr::V4(ip) if self.local.is_ipv6() => (ip.to_ipv6_mapped(), to.port()).into(),
            _ => to,
        }
    }
}

/// Waits for a datagram on any socket; each is looked at first in its turn.
async fn receive(sockets: &[Endpoint], turn: usize, buffer: &mut [u8]) -> (usize, SocketAddr, usize) {
    let mut poll_all = |context: &mut Context<'_>| {
        for nth in 0..sockets.len() {
            let via = (turn + nth) % sockets.len();
            let mut read = ReadBuf::new(buffer);
            match sockets[via].socket.poll_recv_from(context, &mut read) {
                Poll::Ready(Ok(from)) => return Poll::Ready((via, from, read.filled().len())),
                // An error is about a datagram sent before; an empty one in its place is dropped.
                Poll::Ready(Err(_)) => return Poll::Ready((via, sockets[via].local, 0)),
                Poll::Pending => {}
            }
        }
        Poll::Pending
    };
    poll_fn(&mut poll_all).await
}

pub(super) async fn load(path: &Path) -> Option<Saved> {
    let file = tokio::fs::File::open(path).await.ok()?;
    let mut bytes = Vec::new();
    file.take(saved::MAX_LEN as u64).read_to_end(&mut bytes).await.ok()?;
    let saved = Saved::decode(&bytes);
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
    tokio::fs::write(&fresh, saved.encode()).await?;
    tokio::fs::rename(&fresh, path).await
}
