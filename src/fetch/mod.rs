//! Bring and prove: one file from many sources, each byte hashed once.
//!
//! ```text
//!   holders (peers, claimed chains) --.                                .--> Growing: readers, as bytes are released
//!                                      +--> flight: course --> partial file
//!   origin (the mirror's stream) -----'                                '--> Verified --> the store
//! ```
//!
//! [`Fetcher`] is the handle: one flight a file, however many ask. [`plan`] decides whom to ask for what, [`ledger`] what
//! the answers prove, [`course`] joins the two; they are machines without clock or sockets. `io/` is their driver.
#![expect(clippy::disallowed_methods, reason = "the handle starts one task a flight, and notes when")]

mod audience;
pub mod course;
mod crowd;
mod io;
pub mod ledger;
pub mod plan;
pub mod routes;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use futures_util::stream::BoxStream;
use tokio::sync::watch;

use crate::{
    archive::{Location, Vouched},
    hash::{ContentHash, PieceChain},
    mirror::{Mirror, guard::Reach},
    peer::{self, Pool},
    store::Store,
};

pub use course::SAFETY_CATCH;
pub use crowd::is_dialled;
use io::doubts::Doubts;
use io::live::Live;
pub use io::{
    doubts::Unproven,
    growing::{Cut, Failure, Growing, Progress},
    live::{MAX_CELLS, Map, Picture, Source},
    tally::{MirrorReason, Outcome, Report, Snapshot, Tally},
};
pub use plan::{MirrorUse, STALEMATE};
use routes::Routes;

/// Downloads at a time; further ones are left to the mirror alone.
const MAX_FLIGHTS: usize = 512;
/// Files remembered of which a wrong prefix was once sent.
const MAX_CUTS: usize = 4096;

/// Section `[fetch]` of the configuration.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How much the mirror does beside peers.
    pub mirror: MirrorUse,
}

/// What a lookup finds out about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// Somebody who has it, or says so.
    Peer(SocketAddr),
    /// A piece chain that somebody claims.
    Chain(PieceChain),
    /// All who can be found now were named; a later search may find more.
    Searched,
}

/// Where a file comes from when nobody else has it.
pub struct Origin {
    /// Its addresses.
    routes: Arc<Mutex<Routes>>,
    /// Judges where the addresses, and every redirect, may lead.
    reach: Arc<dyn Fn(&Location) -> Reach + Send + Sync>,
}

impl Origin {
    /// The address that the client named, others that promise the same hash, and how far they and their redirects may lead.
    pub fn new(
        location: Location,
        others: impl IntoIterator<Item = Location>,
        reach: impl Fn(&Location) -> Reach + Send + Sync + 'static,
    ) -> Self {
        Self { routes: Arc::new(Mutex::new(Routes::new(location, others))), reach: Arc::new(reach) }
    }
}

/// Whether a file is already on its way.
pub enum Claim {
    /// It is: read along.
    Follow(Growing),
    /// It is not: start it with [`Fetcher::start`]. Others follow this one from now on.
    Lead(Lead),
    /// There are too many downloads.
    Full,
}

/// The right, and the duty, to start one download.
pub struct Lead {
    vouched: Vouched,
    growing: Growing,
    progress: watch::Sender<Progress>,
    live: Arc<Live>,
    shared: Arc<Shared>,
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.shared.lock().flights.remove(&self.vouched.expected().hash);
    }
}

/// The handle of the station. Cheap to clone.
#[derive(Clone)]
pub struct Fetcher {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    pool: Pool,
    mirror: Mirror,
    store: Store,
    tally: Tally,
    doubts: Doubts,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    flights: HashMap<ContentHash, (Growing, Arc<Live>)>,
    /// Files of which a reader was cut once; further readers get proven bytes only.
    cuts: HashSet<ContentHash>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn was_cut(&self, hash: ContentHash) -> bool {
        self.lock().cuts.contains(&hash) || self.store.was_cut(hash)
    }

    /// Here, in case that the store cannot; and there, for the next run.
    fn remember_cut(&self, hash: ContentHash) {
        if let Err(error) = self.store.mark_cut(hash) {
            tracing::warn!(%error, "a cut is remembered until the end of this run only");
        }
        let mut state = self.lock();
        if state.cuts.len() >= MAX_CUTS {
            state.cuts.clear();
        }
        state.cuts.insert(hash);
    }
}

impl Fetcher {
    /// A fetcher over these stations.
    pub fn new(config: Config, pool: Pool, mirror: Mirror, store: Store) -> Self {
        let (tally, doubts, state) = (Tally::default(), Doubts::new(store.clone()), Mutex::default());
        let shared = Shared { config, pool, mirror, store, tally, doubts, state };
        Self { shared: Arc::new(shared) }
    }

    /// Joins the download of a file, or takes its lead.
    pub fn claim(&self, vouched: &Vouched) -> Claim {
        let hash = vouched.expected().hash;
        let mut state = self.shared.lock();
        if let Some((growing, _)) = state.flights.get(&hash) {
            return Claim::Follow(growing.clone());
        }
        if state.flights.len() >= MAX_FLIGHTS {
            return Claim::Full;
        }
        let (progress, growing) = Growing::new(*vouched.expected());
        let repository = vouched.repository().to_string();
        let live = Arc::new(Live::new(vouched.path(), &repository, *vouched.expected(), Instant::now()));
        state.flights.insert(hash, (growing.clone(), live.clone()));
        Claim::Lead(Lead { vouched: vouched.clone(), growing, progress, live, shared: self.shared.clone() })
    }

    /// Starts a download. It goes on when its first reader leaves. Holders of a file that is not shareable are ignored.
    pub fn start(&self, lead: Lead, origin: Option<Origin>, holders: BoxStream<'static, Holder>) -> Growing {
        let growing = lead.growing.clone();
        tokio::spawn(io::fly(lead, origin, holders));
        growing
    }

    /// Asks a peer which of these files it holds, over the connection on which it is asked for them then. At most
    /// [`peer::MAX_HOLDS`]; what it says is hearsay, and nothing when it will not say.
    pub async fn holds(&self, peer: SocketAddr, hashes: Arc<[ContentHash]>) -> Result<Vec<bool>, peer::Failure> {
        self.shared.pool.holds(peer, hashes).await
    }

    /// Bytes of good pieces that a peer has given.
    pub fn given(&self, peer: SocketAddr) -> u64 {
        self.shared.pool.given(peer)
    }

    /// Bytes of a file are about to leave past this station before they are proven. May block for a moment.
    pub fn out(&self, hash: ContentHash) -> Unproven {
        self.shared.doubts.out(hash)
    }

    /// Whether a client may hold bytes of a file that were never proven. May block for a moment.
    pub fn is_doubtful(&self, hash: ContentHash) -> bool {
        self.shared.doubts.is_doubtful(hash)
    }

    /// Whether a client that says to have the beginning of a file may be given the rest alone as it grows: whatever is out
    /// of it is of this download.
    pub fn may_resume(&self, growing: &Growing) -> bool {
        let hash = growing.expected().hash;
        growing.may_resume() && !self.shared.doubts.is_doubtful_beside_one(hash) && !self.shared.was_cut(hash)
    }

    /// A client that had wrong bytes of a file was cut. May block for a moment.
    pub fn remember_cut(&self, hash: ContentHash) {
        self.shared.remember_cut(hash);
    }

    /// What was brought so far, and what is on its way.
    pub fn snapshot(&self) -> Snapshot {
        let flights: Vec<_> = self.shared.lock().flights.values().map(|(_, live)| live.clone()).collect();
        let now = Instant::now();
        let mut live: Vec<_> = flights.iter().map(|live| live.picture(now)).collect();
        live.sort_by(|a, b| (b.since, &a.path).cmp(&(a.since, &b.path)));
        self.shared.tally.snapshot(live)
    }

    /// Bytes of a mirror that went past this station, straight to a client.
    pub fn passed(&self, bytes: u64) {
        self.shared.tally.add_mirror(bytes);
    }
}
