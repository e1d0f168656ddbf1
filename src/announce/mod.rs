//! Tell: who is told what we hold, and when.
//!
//! The store says what may be offered and what changed; the [`schedule`] says when each file is due; the DHT is told.
//! Nothing is told before a node is known that could keep it, and what is gone is not told again.
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
    sync::broadcast::{Receiver, error::RecvError},
    time::{sleep, sleep_until},
};

use crate::{
    dht::Dht,
    hash::{ContentHash, PieceChain},
    store::{Change, Offer, Offered, Store},
};

use schedule::Schedule;

/// Announcements under way at a time.
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
}

/// What came of one announcement: how many nodes keep it, or that there is nothing to offer.
type Told = (ContentHash, Option<usize>);

impl Announcer {
    /// Announces what the store offers, at the TCP port where peers are served.
    pub fn new(dht: Dht, store: Store, port: u16) -> Self {
        let changes = store.changes();
        let (scheduled, unfinished) = (HashSet::new(), HashSet::new());
        Self { dht, store, port, schedule: Schedule::new(rand::random()), changes, scheduled, unfinished }
    }

    /// Runs until the store is gone.
    pub async fn run(mut self) {
        self.survey().await;
        let mut telling: FuturesUnordered<BoxFuture<'static, Told>> = FuturesUnordered::new();
        loop {
            // Nothing is told of before somebody was able to connect.
            let network = self.dht.snapshot();
            let lonely = network.nodes() == 0 || !network.is_reachable();
            while !lonely
                && telling.len() < PARALLEL
                && let Some(hash) = self.schedule.poll(Instant::now())
            {
                telling.push(tell(self.dht.clone(), self.store.clone(), self.port, hash).boxed());
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
                Some((hash, stored)) = telling.next(), if !telling.is_empty() => match stored {
                    Some(stored) => self.schedule.handle_announced(hash, stored, Instant::now()),
                    None => self.remove(hash),
                },
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
            self.schedule.handle_held(hash, Instant::now());
        }
    }

    /// A file is whole.
    fn add(&mut self, hash: ContentHash) {
        if self.scheduled.insert(hash) {
            self.schedule.handle_held(hash, Instant::now());
        } else if self.unfinished.remove(&hash) {
            self.schedule.handle_changed(hash, Instant::now());
        }
    }

    fn remove(&mut self, hash: ContentHash) {
        self.unfinished.remove(&hash);
        if self.scheduled.remove(&hash) {
            self.schedule.handle_gone(hash);
        }
    }
}

async fn tell(dht: Dht, store: Store, port: u16, hash: ContentHash) -> Told {
    let offer = tokio::task::spawn_blocking(move || store.offer(hash)).await.expect("the store does not panic");
    match offer {
        Ok(Some(Offer { file, of })) => {
            let chain = match of {
                Offered::Whole(blob) => blob.chain,
                // None to tell yet: whoever comes asks which pieces there are.
                Offered::Lent(_) => PieceChain::default(),
            };
            let stored = dht.announce(file, &chain, port).await;
            tracing::debug!(%hash, stored, "announced");
            (hash, Some(stored))
        }
        Ok(None) => (hash, None),
        Err(error) => {
            tracing::warn!(%hash, %error, "not announced");
            (hash, Some(0))
        }
    }
}

#[cfg(test)]
mod tests;
