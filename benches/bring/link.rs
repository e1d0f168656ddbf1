//! A line with a rate and a round trip, in user space: a relay in front of a server of this machine.
//!
//! ```text
//!   dialler 127.a.a.a --TCP--> link 127.l.l.1:port --TCP, from 127.a.a.a--> server
//!           <== at most `rate` bytes a second over all connections, half a round trip late ==
//!           ==  half a round trip late; the first bytes a whole one more, for the handshake ==>
//! ```
//!
//! Each link has a network of its own and passes the dialler's address on, so that every limit that counts addresses or
//! networks sees the hosts that it would see. The rate is a bucket without loss: bytes have a time on the line, one after
//! another, and are handed over when it has passed. Slow start and lost segments are left out.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::JoinHandle,
    time::sleep_until,
};

use crate::{
    harness::own_network,
    meter::{Carried, Meter},
};

/// Time of bytes that may wait for the line; a home router has more.
const QUEUE: Duration = Duration::from_millis(20);
/// Time of the line that may be used late, since timers are no better than that.
const SLACK: Duration = Duration::from_millis(5);
/// Bounds of the bytes that are moved at a time.
const CHUNK: (u64, u64) = (2 * 1024, 64 * 1024);
/// Chunks on their way over one connection.
const UNDER_WAY: usize = 256;

/// What a line is like.
#[derive(Debug, Clone, Copy, Default)]
pub struct Line {
    /// Bytes a second towards the dialler, of all connections together.
    pub rate: Option<u64>,
    /// Time there and back.
    pub round_trip: Duration,
    /// Which byte towards the dialler, counted from the beginning of each connection, is flipped.
    pub flipped: Option<u64>,
}

impl Line {
    /// A line of so many million bytes a second.
    pub fn of(megabytes: u64) -> Self {
        Self { rate: Some(megabytes * 1_000_000), ..Self::default() }
    }
}

/// The relay. It ends, connections and all, when it is dropped.
pub struct Link {
    addr: SocketAddr,
    wire: Arc<Wire>,
    accepting: JoinHandle<()>,
}

struct Wire {
    to: SocketAddr,
    line: Line,
    /// When the last byte that was taken has left the line.
    free: Mutex<Instant>,
    down: AtomicU64,
    carried: Mutex<Carried>,
    connections: AtomicU64,
}

impl Link {
    /// A line to a server. Runs on the current runtime.
    pub fn to(server: SocketAddr, line: Line) -> Self {
        let listener = std::net::TcpListener::bind((own_network(), 0)).expect("a loopback address");
        listener.set_nonblocking(true).expect("a socket of ours");
        let addr = listener.local_addr().expect("a bound socket");
        let wire = Wire {
            to: server,
            line,
            free: Mutex::new(Instant::now()),
            down: AtomicU64::new(0),
            carried: Mutex::default(),
            connections: AtomicU64::new(0),
        };
        let wire = Arc::new(wire);
        let listener = TcpListener::from_std(listener).expect("a socket that does not block");
        let accepting = tokio::spawn(accept(listener, Arc::clone(&wire)));
        Self { addr, wire, accepting }
    }

    /// Where to dial.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Bytes handed over to diallers so far, heads of answers included.
    pub fn down(&self) -> u64 {
        self.wire.down.load(Relaxed)
    }

    /// Bytes of bodies so far of what is at a path, by the piece that they are of.
    pub fn carried(&self, path: &str) -> BTreeMap<u64, u64> {
        locked(&self.wire.carried).of(path)
    }

    /// Connections dialled so far.
    pub fn connections(&self) -> u64 {
        self.wire.connections.load(Relaxed)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Wire {
    /// Takes time of the line for some bytes: when the last of them arrives.
    fn send(&self, bytes: usize, rate: u64) -> Instant {
        let now = Instant::now();
        let mut free = locked(&self.free);
        let earliest = now.checked_sub(SLACK).unwrap_or(now);
        *free = (*free).max(earliest) + Duration::from_secs_f64(bytes as f64 / rate as f64);
        *free + self.line.round_trip / 2
    }

    /// When the next bytes may be put into the queue of the line.
    fn queue_open(&self) -> Instant {
        let free = *locked(&self.free);
        free.checked_sub(QUEUE).unwrap_or(free)
    }
}

async fn accept(listener: TcpListener, wire: Arc<Wire>) {
    // Connections end with the link: their tasks are this one's.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, from)) = listener.accept().await {
        wire.connections.fetch_add(1, Relaxed);
        let wire = Arc::clone(&wire);
        connections.spawn(async move {
            if let Ok(server) = dial(wire.to, from.ip()).await {
                relay(stream, server, &wire).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn dial(to: SocketAddr, from: IpAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.set_nodelay(true)?;
    socket.connect(to).await
}

async fn relay(dialler: TcpStream, server: TcpStream, wire: &Arc<Wire>) {
    dialler.set_nodelay(true).ok();
    let (from_dialler, to_dialler) = dialler.into_split();
    let (from_server, to_server) = server.into_split();
    let meter = Arc::new(Mutex::new(Meter::default()));
    tokio::join!(
        carry(
            from_dialler,
            to_server,
            Up { opened: Instant::now(), round_trip: wire.line.round_trip, meter: Arc::clone(&meter) }
        ),
        carry(from_server, to_dialler, Down { wire: Arc::clone(wire), passed: 0, meter }),
    );
}

/// One direction of a connection.
trait Direction {
    /// Bytes to move at a time.
    fn chunk(&self) -> usize;
    /// When to read on.
    fn ready(&self) -> Option<Instant>;
    /// When these bytes arrive at the other end.
    fn due(&mut self, bytes: &mut [u8]) -> Option<Instant>;
}

struct Up {
    opened: Instant,
    round_trip: Duration,
    meter: Arc<Mutex<Meter>>,
}

impl Direction for Up {
    fn chunk(&self) -> usize {
        CHUNK.1 as usize
    }

    fn ready(&self) -> Option<Instant> {
        None
    }

    fn due(&mut self, bytes: &mut [u8]) -> Option<Instant> {
        locked(&self.meter).handle_up(bytes);
        let connected = self.opened + self.round_trip;
        (self.round_trip > Duration::ZERO).then(|| Instant::now().max(connected) + self.round_trip / 2)
    }
}

struct Down {
    wire: Arc<Wire>,
    passed: u64,
    meter: Arc<Mutex<Meter>>,
}

impl Direction for Down {
    fn chunk(&self) -> usize {
        self.wire.line.rate.map_or(CHUNK.1, |rate| (rate / 500).clamp(CHUNK.0, CHUNK.1)) as usize
    }

    fn ready(&self) -> Option<Instant> {
        self.wire.line.rate.map(|_| self.wire.queue_open())
    }

    fn due(&mut self, bytes: &mut [u8]) -> Option<Instant> {
        let length = bytes.len() as u64;
        if let Some(at) = self.wire.line.flipped.and_then(|at| at.checked_sub(self.passed)).filter(|at| *at < length) {
            bytes[at as usize] ^= 0xff;
        }
        self.passed += length;
        self.wire.down.fetch_add(length, Relaxed);
        locked(&self.meter).handle_down(bytes, &mut locked(&self.wire.carried));
        let late = self.wire.line.round_trip / 2;
        let unlimited = || (late > Duration::ZERO).then(|| Instant::now() + late);
        self.wire.line.rate.map(|rate| self.wire.send(bytes.len(), rate)).or_else(unlimited)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut direction: impl Direction) {
    let (sender, mut under_way) = mpsc::channel::<(Option<Instant>, Vec<u8>)>(UNDER_WAY);
    let read = async move {
        loop {
            while let Some(ready) = direction.ready().filter(|ready| *ready > Instant::now()) {
                sleep_until(ready.into()).await;
            }
            let mut bytes = Vec::with_capacity(direction.chunk());
            match from.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    let due = direction.due(&mut bytes);
                    if sender.send((due, bytes)).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    let write = async move {
        while let Some((due, bytes)) = under_way.recv().await {
            if let Some(due) = due {
                sleep_until(due.into()).await;
            }
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        to.shutdown().await.ok();
    };
    tokio::join!(read, write);
}
