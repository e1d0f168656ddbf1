//! Tell: who is told what we hold, and when.
//!
//! The store says what may be offered and what changed; the [`schedule`] says which files are due together; the DHT is told.
//! Nothing is told before a node is known that could keep it. What is gone, or superseded, is not told again: when that is
//! learned while it is being told of, telling stops, and what else it was told with is told anew.
//!
//! A big file is told of as soon as its first piece is lent, without piece hashes, so that those who begin together find
//! each other; and once more, with them, when it is whole.
#![expect(clippy::disallowed_methods, reason = "the conductor's clock")]

pub mod schedule;

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{
        broadcast::{Receiver, error::RecvError},
        oneshot,
    },
    time::{sleep, sleep_until},
};

use crate::{
    archive::Shareable,
    dht::Dht,
    hash::{ContentHash, PieceChain},
    store::{Change, Offer, Offered, Store, StoreError},
};

use schedule::Schedule;

/// Rounds of announcements under way at a time.
const PARALLEL: usize = 8;
/// Pieces from which on a file is told of before it is whole; a smaller one is there before anybody could come for it.
const UNFINISHED_FROM: usize = 8;
/// How often a network that is empty, or that cannot reach this host, is looked at again.
const LONELY: Duration = Duration::from_millis(500);

/// The task that announces.
pub struct Announcer {
    dht: Dht,
    store: Store,
    port: u16,
    schedule: Schedule,
    changes: Receiver<Change>,
    scheduled: HashSet<ContentHash>,
    /// Those of `scheduled` that are not whole yet.
    unfinished: HashSet<ContentHash>,
    /// What is being told of together, and how to stop that.
    under_way: Vec<UnderWay>,
}

struct UnderWay {
    files: Vec<ContentHash>,
    stop: oneshot::Sender<()>,
}

/// What came of one file's announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// So many nodes keep it.
    To(usize),
    /// There is nothing to offer.
    Nothing,
    /// It was stopped for the sake of another one.
    Stopped,
}

type Telling = BoxFuture<'static, Vec<(ContentHash, Told)>>;

impl Announcer {
    /// Announces what the store offers, at the TCP port where peers are served.
    pub fn new(dht: Dht, store: Store, port: u16) -> Self {
        let changes = store.changes();
        let (scheduled, unfinished) = (HashSet::new(), HashSet::new());
        let schedule = Schedule::new(rand::random(), Instant::now());
        Self { dht, store, port, schedule, changes, scheduled, unfinished, under_way: Vec::new() }
    }

    /// Runs until the store is gone.
    pub async fn run(mut self) {
        self.survey().await;
        let mut telling: FuturesUnordered<Telling> = FuturesUnordered::new();
        loop {
            // Nothing is told of before somebody was able to connect.
            let network = self.dht.snapshot();
            let lonely = network.nodes() == 0 || !network.is_reachable();
            while !lonely && telling.len() < PARALLEL {
                let files = self.schedule.poll(Instant::now());
                if files.is_empty() {
                    break;
                }
                telling.push(self.tell(files));
            }
            let wake = match telling.len() {
                _ if lonely => Some(Instant::now() + LONELY),
                PARALLEL => None,
                _ => self.schedule.next_wake(),
            };
            tokio::select! {
                change = self.changes.recv() => match change {
                    Ok(Change::Lent(file)) if file.pieces() >= UNFINISHED_FROM => self.begin(file.hash),
                    Ok(Change::Lent(_)) => {}
                    Ok(Change::Stored(hash)) => self.add(hash),
                    Ok(Change::Withdrawn(hash)) if !self.unfinished.contains(&hash) => {}
                    Ok(Change::Gone(hash) | Change::Withdrawn(hash)) => self.remove(hash),
                    Ok(Change::Learned) | Err(RecvError::Lagged(_)) => self.survey().await,
                    Err(RecvError::Closed) => return,
                },
                Some(told) = telling.next(), if !telling.is_empty() => self.handle_told(told),
                () = sleep_until(wake.unwrap_or_else(Instant::now).into()), if wake.is_some() => {}
            }
        }
    }

    /// Compares what is scheduled with all that is offered.
    async fn survey(&mut self) {
        let store = self.store.clone();
        let offered = tokio::task::spawn_blocking(move || store.offered()).await.expect("the store does not panic");
        let offered: HashSet<_> = match offered {
            Ok(offered) => offered.into_iter().collect(),
            Err(error) => {
                tracing::warn!(%error, "what is held cannot be listed; announcements go on as they were");
                return sleep(LONELY).await;
            }
        };
        let is_gone = |hash: &&ContentHash| !offered.contains(*hash) && !self.unfinished.contains(*hash);
        for gone in self.scheduled.iter().filter(is_gone).copied().collect::<Vec<_>>() {
            self.remove(gone);
        }
        offered.into_iter().for_each(|hash| self.add(hash));
    }

    /// A file is on its way, and pieces of it are lent.
    fn begin(&mut self, hash: ContentHash) {
        if self.scheduled.insert(hash) {
            self.unfinished.insert(hash);
            self.schedule.handle_held(hash, self.dht.place(&hash), Instant::now());
        }
    }

    /// A file is whole.
    fn add(&mut self, hash: ContentHash) {
        if self.scheduled.insert(hash) {
            self.schedule.handle_held(hash, self.dht.place(&hash), Instant::now());
        } else if self.unfinished.remove(&hash) {
            self.schedule.handle_changed(hash, Instant::now());
        }
    }

    fn remove(&mut self, hash: ContentHash) {
        self.unfinished.remove(&hash);
        if self.scheduled.remove(&hash) {
            self.schedule.handle_gone(hash);
        }
        if let Some(at) = self.under_way.iter().position(|telling| telling.files.contains(&hash)) {
            // Whoever has just ended needs no stopping.
            let _ = self.under_way.swap_remove(at).stop.send(());
        }
    }

    /// Begins to tell of files together.
    fn tell(&mut self, files: Vec<ContentHash>) -> Telling {
        let (stop, stopped) = oneshot::channel();
        self.under_way.push(UnderWay { files: files.clone(), stop });
        let telling = tell(self.dht.clone(), self.store.clone(), self.port, files.clone());
        let telling = async move {
            tokio::select! {
                biased;
                Ok(()) = stopped => files.into_iter().map(|hash| (hash, Told::Stopped)).collect(),
                told = telling => told,
            }
        };
        telling.boxed()
    }

    fn handle_told(&mut self, told: Vec<(ContentHash, Told)>) {
        // Before anything is removed, which would stop what has ended.
        self.under_way.retain(|telling| !told.iter().any(|(hash, _)| telling.files.contains(hash)));
        for (hash, told) in told {
            match told {
                Told::To(stored) => self.schedule.handle_announced(hash, stored, Instant::now()),
                Told::Nothing => self.remove(hash),
                Told::Stopped => self.schedule.handle_stopped(hash, Instant::now()),
            }
        }
    }
}

/// Tells of what the store offers of these files at this moment.
async fn tell(dht: Dht, store: Store, port: u16, hashes: Vec<ContentHash>) -> Vec<(ContentHash, Told)> {
    let asked = hashes.clone();
    let offers = tokio::task::spawn_blocking(move || asked.into_iter().map(|hash| chain(&store, hash)).collect());
    let offers: Vec<_> = offers.await.expect("the store does not panic");
    let (mut files, mut told) = (Vec::new(), Vec::new());
    for (hash, offer) in hashes.into_iter().zip(offers) {
        match offer {
            Ok(Some(file)) => files.push((hash, file)),
            Ok(None) => told.push((hash, Told::Nothing)),
            Err(error) => {
                tracing::warn!(%hash, %error, "not announced");
                told.push((hash, Told::To(0)));
            }
        }
    }
    let (hashes, files): (Vec<_>, Vec<_>) = files.into_iter().unzip();
    if files.is_empty() {
        return told;
    }
    let stored = dht.announce(files, port).await;
    tracing::debug!(files = hashes.len(), ?stored, "announced");
    told.extend(hashes.into_iter().zip(stored.into_iter().map(Told::To)));
    told
}

/// A file that may be told of, and its piece hashes.
fn chain(store: &Store, hash: ContentHash) -> Result<Option<(Shareable, PieceChain)>, StoreError> {
    let chain = |of| match of {
        Offered::Whole(blob) => blob.chain.clone(),
        // None to tell yet: whoever comes asks which pieces there are.
        Offered::Lent(_) => PieceChain::default(),
    };
    Ok(store.offer(hash)?.map(|Offer { file, of }| (file, chain(of))))
}

#[cfg(test)]
mod tests;
