//! Tell: who is told what we hold, and when.
//!
//! The store says what may be offered and what changed; [`holdings`] turns that into files and shelves to tell of; the
//! [`schedule`] says which of them are due together; the DHT is told.
//! Nothing is told before a node is known that could keep it. What is gone, or superseded, is not told again: when that is
//! learned while it is being told of, telling stops, and what else it was told with is told anew.
//!
//! A big file is told of as soon as its first piece is lent, without piece hashes, so that those who begin together find
//! each other; and once more, with them, when it is whole. Files of one piece are not told of: their shelves are (see
//! [`crate::dht::shelf`]), in the hope that who comes asks for more than one file.
#![expect(clippy::disallowed_methods, reason = "the conductor's clock")]

pub mod holdings;
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
    dht::{Announcement, Dht},
    hash::{ContentHash, PieceChain},
    store::{Change, Offer, Offered, Store, StoreError},
};

use holdings::{Holdings, Step, Topic};
use schedule::Schedule;

/// Rounds of announcements under way at a time.
const PARALLEL: usize = 8;
/// Pieces from which on a file is told of before it is whole; a smaller one is there before anybody could come for it.
const UNFINISHED_FROM: usize = 8;
/// How often a network that is empty, or that cannot reach this host, is looked at again.
const LONELY: Duration = Duration::from_millis(500);
/// How often it is asked whether this host has moved.
const SETTLED: Duration = Duration::from_secs(10);

/// The task that announces.
pub struct Announcer {
    dht: Dht,
    store: Store,
    port: u16,
    schedule: Schedule,
    changes: Receiver<Change>,
    holdings: Holdings,
    /// Whether what is held could not be listed the last time.
    is_unsure: bool,
    /// What is being told of together, and how to stop that.
    under_way: Vec<UnderWay>,
    /// How often something was begun to be told.
    tellings: u64,
}

struct UnderWay {
    number: u64,
    topics: Vec<Topic>,
    stop: oneshot::Sender<()>,
}

/// What came of one announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// So many nodes keep it.
    To(usize),
    /// There is nothing to offer.
    Nothing,
    /// It was stopped for the sake of another one.
    Stopped,
}

/// The number of a telling, and what came of it.
type Telling = BoxFuture<'static, (u64, Vec<(Topic, Told)>)>;

impl Announcer {
    /// Announces what the store offers, at the TCP port where peers are served.
    pub fn new(dht: Dht, store: Store, port: u16) -> Self {
        let changes = store.changes();
        let schedule = Schedule::new(rand::random(), Instant::now());
        Self {
            dht,
            store,
            port,
            schedule,
            changes,
            holdings: Holdings::default(),
            is_unsure: false,
            under_way: Vec::new(),
            tellings: 0,
        }
    }

    /// Runs until the store is gone.
    pub async fn run(mut self) {
        self.survey().await;
        let mut telling: FuturesUnordered<Telling> = FuturesUnordered::new();
        let mut moves = self.dht.snapshot().moves;
        loop {
            // Nothing is told of before somebody was able to connect.
            let network = self.dht.snapshot();
            if self.is_unsure {
                self.survey().await;
            }
            if network.moves != moves {
                moves = network.moves;
                self.schedule.handle_moved(Instant::now());
            }
            let lonely = network.nodes() == 0 || !network.is_reachable();
            while !lonely && telling.len() < PARALLEL {
                let topics = self.schedule.poll(Instant::now());
                if topics.is_empty() {
                    break;
                }
                telling.push(self.tell(topics));
            }
            let wake = match telling.len() {
                _ if lonely => Some(Instant::now() + LONELY),
                PARALLEL => None,
                _ => {
                    let look = Instant::now() + SETTLED;
                    Some(self.schedule.next_wake().map_or(look, |due| due.min(look)))
                }
            };
            tokio::select! {
                change = self.changes.recv() => match change {
                    Ok(Change::Lent(file)) if file.pieces() >= UNFINISHED_FROM => {
                        let steps = self.holdings.handle_begun(file.hash);
                        self.follow(steps);
                    }
                    Ok(Change::Lent(_)) => {}
                    Ok(Change::Stored(hash)) => self.add(hash).await,
                    Ok(Change::Withdrawn(hash)) => {
                        let steps = self.holdings.handle_withdrawn(hash);
                        self.follow(steps);
                    }
                    Ok(Change::Gone(hash)) => self.remove(hash),
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
        let offered = match offered {
            Ok(offered) => offered,
            Err(error) => {
                tracing::warn!(%error, "what is held cannot be listed; announcements go on as they were");
                self.is_unsure = true;
                return sleep(LONELY).await;
            }
        };
        self.is_unsure = false;
        let hashes: HashSet<_> = offered.iter().map(|listed| listed.expected.hash).collect();
        // What is new first: a shelf from which the last file goes as the next one comes is told of as before.
        for listed in offered {
            let steps = self.holdings.handle_listed(&listed);
            self.follow(steps);
        }
        let gone: Vec<_> = self.holdings.whole().filter(|hash| !hashes.contains(hash)).collect();
        gone.into_iter().for_each(|hash| self.remove(hash));
    }

    /// A file is whole. One that may not be told of is none of ours, and whether it may be said later, all are looked at.
    async fn add(&mut self, hash: ContentHash) {
        let store = self.store.clone();
        let listed = tokio::task::spawn_blocking(move || store.listed(hash)).await.expect("the store does not panic");
        match listed {
            Ok(Some(listed)) => {
                let steps = self.holdings.handle_listed(&listed);
                self.follow(steps);
            }
            Ok(None) => self.remove(hash),
            Err(error) => tracing::warn!(%hash, %error, "not announced"),
        }
    }

    fn remove(&mut self, hash: ContentHash) {
        let steps = self.holdings.handle_gone(hash);
        self.follow(steps);
    }

    fn follow(&mut self, steps: Vec<Step>) {
        let now = Instant::now();
        for step in steps {
            match step {
                Step::Begin(topic) => {
                    let place = match &topic {
                        Topic::File(hash) => self.dht.place(hash),
                        Topic::Shelf(shelf) => self.dht.place_of(shelf),
                    };
                    self.schedule.handle_held(topic, place, now);
                }
                Step::Again(topic) => self.schedule.handle_changed(topic, now),
                Step::End(topic) => {
                    self.schedule.handle_gone(topic);
                    if let Some(at) = self.under_way.iter().position(|telling| telling.topics.contains(&topic)) {
                        // Whoever has just ended needs no stopping.
                        let _ = self.under_way.swap_remove(at).stop.send(());
                    }
                }
            }
        }
    }

    /// Begins to tell of files and shelves together.
    fn tell(&mut self, topics: Vec<Topic>) -> Telling {
        let (stop, stopped) = oneshot::channel();
        self.tellings += 1;
        let number = self.tellings;
        self.under_way.push(UnderWay { number, topics: topics.clone(), stop });
        let telling = tell(self.dht.clone(), self.store.clone(), self.port, topics.clone());
        let telling = async move {
            let told = tokio::select! {
                biased;
                Ok(()) = stopped => topics.into_iter().map(|topic| (topic, Told::Stopped)).collect(),
                told = telling => told,
            };
            (number, told)
        };
        telling.boxed()
    }

    fn handle_told(&mut self, (number, told): (u64, Vec<(Topic, Told)>)) {
        // Before anything is removed, which would stop what has ended.
        self.under_way.retain(|telling| telling.number != number);
        for (topic, told) in told {
            match (told, topic) {
                (Told::To(stored), _) => self.schedule.handle_announced(topic, stored, Instant::now()),
                (Told::Nothing, Topic::File(hash)) => self.remove(hash),
                (Told::Stopped, _) | (Told::Nothing, Topic::Shelf(_)) => {
                    self.schedule.handle_stopped(topic, Instant::now());
                }
            }
        }
    }
}

/// Tells of what the store offers of these files at this moment, and of these shelves.
async fn tell(dht: Dht, store: Store, port: u16, topics: Vec<Topic>) -> Vec<(Topic, Told)> {
    let asked = topics.clone();
    let offers = move || asked.into_iter().map(|topic| announcement(&store, topic)).collect();
    let offers: Vec<_> = tokio::task::spawn_blocking(offers).await.expect("the store does not panic");
    let (mut announcements, mut told) = (Vec::new(), Vec::new());
    for (topic, offer) in topics.into_iter().zip(offers) {
        match offer {
            Ok(Some(announcement)) => announcements.push((topic, announcement)),
            Ok(None) => told.push((topic, Told::Nothing)),
            Err(error) => {
                tracing::warn!(?topic, %error, "not announced");
                told.push((topic, Told::To(0)));
            }
        }
    }
    let (topics, announcements): (Vec<_>, Vec<_>) = announcements.into_iter().unzip();
    if announcements.is_empty() {
        return told;
    }
    let stored = dht.announce(announcements, port).await;
    tracing::debug!(topics = topics.len(), ?stored, "announced");
    told.extend(topics.into_iter().zip(stored.into_iter().map(Told::To)));
    told
}

/// What may be told of: a file and its piece hashes, or a shelf.
fn announcement(store: &Store, topic: Topic) -> Result<Option<Announcement>, StoreError> {
    let hash = match topic {
        Topic::Shelf(shelf) => return Ok(Some(Announcement::Shelf(shelf))),
        Topic::File(hash) => hash,
    };
    let chain = |of| match of {
        Offered::Whole(blob) => blob.chain.clone(),
        // None to tell yet: whoever comes asks which pieces there are.
        Offered::Lent(_) => PieceChain::default(),
    };
    Ok(store.offer(hash)?.map(|Offer { file, of }| Announcement::File(file, chain(of))))
}

#[cfg(test)]
mod tests;
