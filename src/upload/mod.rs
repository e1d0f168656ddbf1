//! Give: the public port, what peers may have of us.
//!
//! Plain HTTP/1.1; curl can be a peer. One must know a file's hash to ask for it, and whatever may not be given is
//! answered like what is not here.
//!
//! ```text
//!  a file that is held
//!  GET|HEAD /~/<sha256>          the file, or one Range of it:      200, 206, 416
//!  GET|HEAD /~/<sha256>/pieces   its piece chain as bytes:          200
//!       X-Huddle-Chain: <sha256 of the chain>                       with all of these
//!
//!  a file on its way, of which pieces are lent
//!  GET|HEAD /~/<sha256>          a Range of pieces that it has:     206; of others, or not yet: 416; the whole: 404
//!       X-Huddle-Unproven: 1     the bytes came from a mirror and are not proven
//!  GET|HEAD /~/<sha256>/pieces   its chain if proven, or nothing:   200
//!       X-Huddle-Have: 05        the pieces that it has: one bit each, the lowest of each byte first, in hexadecimal
//!       X-Huddle-Chain: ...      with proven bytes and a chain, once every state of that is proven
//!
//!  POST /~/have                  which of 1 to 256 files are held whole
//!       32 bytes each            one bit each, the lowest of each byte first: 200; more: 413; not a multiple: 400
//!                                 another method: 405
//!
//!  anything else                                                    404 (costs the asker more than a hit)
//!  too many uploads at once                                         503 and Retry-After
//!  an address that asked or missed too much                         429 and Retry-After
//! ```
//!
//! In a private network every question carries a [`seal`](crate::seal); without a good one, everything is `404`.
//!
//! A piece that is not there yet is `416` and no miss: who asks has been told that the file is here, and asks again. So
//! `404` goes on to mean that there is nothing at all.
//!
//! What the wire sees, in order: a seat for the connection ([`seats`]), the address's [`budget`], a seat among the
//! uploads, the store's offer, and a stream that writes what the [`faucet`] lets through: one rate for all bytes that
//! sockets take, shared fairly among peers. Without a limit the line is what is scarce, and TCP shares it out among
//! connections; what is fair then are the seats: who waits for one gets it from who has more than its share, or is slow. It is of this port alone; what apt is given never waits for it. [`budget`],
//! [`faucet`] and [`ask`] are pure, [`seats`] too but for its lock; `pace` drives the faucet, `wire` is the connection's stream, `answer` the only handler, and
//! `have` what it says of many files at once.

mod answer;
mod ask;
mod budget;
mod faucet;
mod have;
mod pace;
mod peer;
mod recall;
mod seats;
mod takers;
mod wire;

use std::{
    io,
    net::{IpAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use actix_http::{HttpService, KeepAlive};
use actix_server::{Server, ServerHandle};
use actix_service::{ServiceFactoryExt, fn_service, map_config};
use actix_web::{App, dev::AppConfig, web};

use crate::{seal::Seal, store::Store};

use budget::Budget;
use pace::Pace;
use peer::Peer;
use seats::Seats;
use takers::Takers;
use wire::Gate;

/// How long a new connection may take for its first request's head.
const HEAD_WAIT: Duration = Duration::from_secs(10);

/// How long an idle connection is kept for a next request.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Questions for many files that the store is asked at the same time, and those of one address.
const QUESTIONS: usize = 8;
const QUESTIONS_PER_ADDRESS: usize = 2;

/// Threads that read files for uploads.
const READERS: usize = 4;

/// What the public port may spend on others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Bytes a second that all uploads together may take; `None` is as fast as the line.
    pub upload_limit: Option<u64>,
    /// Files being sent at the same time.
    pub uploads: usize,
    /// The same to one address (IPv6: one /64).
    pub uploads_per_address: usize,
    /// Connections open at the same time.
    pub connections: usize,
    /// The same from one address.
    pub connections_per_address: usize,
    /// Sockets of listening backlog that the system keeps.
    pub backlog: u32,
    /// How slow a peer may be.
    pub patience: Patience,
    /// What members of a private network show; without it everybody may ask.
    pub seal: Option<Seal>,
}

/// How slow a peer may be before its connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// While bytes wait for it, it takes ...
    pub window: Duration,
    /// ... so many of them in each such time. The time that it waits for its turn under the limit does not count.
    pub bytes: u64,
    /// The same bytes in this part of the window, half or less, while others wait for a place.
    pub haste: u32,
    /// A connection on which nothing is sent for so long is of no use, whatever trickles in.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { window: Duration::from_secs(20), bytes: 20 * 2048, haste: 4, silence: Duration::from_secs(180) }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            upload_limit: None,
            uploads: 48,
            uploads_per_address: 12,
            connections: 512,
            connections_per_address: 24,
            backlog: 256,
            patience: Patience::default(),
            seal: None,
        }
    }
}

/// What the public port has given, for the status page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Bytes written to peers, heads of answers included.
    pub bytes_up: u64,
    /// Requests answered in any way.
    pub requests: u64,
    /// Files being sent.
    pub active: usize,
    /// Requests and connections turned away: 429, 503, no seat.
    pub refused: u64,
}

/// Reads the counters at any time, for as long as anybody likes.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    bytes_up: AtomicU64,
    requests: AtomicU64,
    active: AtomicUsize,
    refused: AtomicU64,
    takers: Takers,
}

impl Meter {
    /// The counters as they stand.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            bytes_up: self.0.bytes_up.load(Relaxed),
            requests: self.0.requests.load(Relaxed),
            active: self.0.active.load(Relaxed),
            refused: self.0.refused.load(Relaxed),
        }
    }

    /// Who took how many bytes since the start, in no order; of an IPv6 /64, its first address.
    pub fn takers(&self) -> Vec<(IpAddr, u64)> {
        self.0.takers.all()
    }

    /// What an address is counted as in [`Meter::takers`].
    pub fn counted_as(address: IpAddr) -> IpAddr {
        Peer::of(address).address()
    }
}

/// What all connections share.
struct Give {
    store: Store,
    meter: Meter,
    budget: Mutex<Budget>,
    places: Seats,
    questions: Seats,
    seal: Option<Seal>,
}

#[expect(clippy::disallowed_methods, reason = "the door to the clock, for the faucet's first moment")]
/// Begins to serve peers. The future does the work and ends after the handle's `stop`; it belongs on a tokio runtime.
pub fn start(
    listeners: Vec<TcpListener>,
    config: &Config,
    store: Store,
) -> io::Result<(ServerHandle, impl Future<Output = io::Result<()>> + Send + use<>, Meter)> {
    let meter = Meter::default();
    let pace = Pace::new(config.upload_limit, Instant::now());
    let places = Seats::new(config.uploads, config.uploads_per_address);
    let give = web::Data::new(Give {
        store,
        meter: meter.clone(),
        budget: Mutex::default(),
        places: places.clone(),
        questions: Seats::new(QUESTIONS, QUESTIONS_PER_ADDRESS),
        seal: config.seal.clone(),
    });
    let seats = Seats::new(config.connections, config.connections_per_address);
    let gate = Gate { seats, places, meter: meter.clone(), pace: pace.clone(), patience: config.patience };
    let mut server = Server::build()
        .workers(1)
        .worker_max_blocking_threads(READERS)
        .max_concurrent_connections(config.connections.saturating_mul(2))
        .backlog(config.backlog)
        .shutdown_timeout(3)
        .disable_signals();
    for listener in listeners {
        let (give, gate) = (give.clone(), gate.clone());
        server = server.listen("upload", listener, move || {
            let (give, gate) = (give.clone(), gate.clone());
            let app = App::new().app_data(give).default_service(web::to(answer::answer));
            let http = HttpService::build()
                .keep_alive(KeepAlive::Timeout(KEEP_ALIVE))
                .client_request_timeout(HEAD_WAIT)
                .client_disconnect_timeout(HEAD_WAIT)
                .on_connect_ext(|wire: &wire::Wire, data| drop(data.insert(wire.recall())))
                .finish(map_config(app, |()| AppConfig::default()));
            fn_service(move |socket| {
                let admitted = gate.admit(socket);
                async move { admitted }
            })
            .and_then(http.map_err(|error| tracing::debug!(%error, "a peer's connection ended")))
        })?;
    }
    let server = server.run();
    let handle = server.handle();
    let run = async move {
        tokio::select! {
            ended = server => ended,
            never = pace.run() => match never {},
        }
    };
    Ok((handle, run, meter))
}

#[cfg(test)]
mod tests;
