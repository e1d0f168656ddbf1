//! Holders of files of one piece, by way of the shelves that they stand on (see [`crate::dht::shelf`]).
//!
//! [`desk`] decides whom to ask; this is its driver: one task, that searches in the DHT and asks over the peers' connections.
//! Nothing waits for it that the mirror could bring.
#![expect(clippy::disallowed_methods, reason = "the driver's clock and tasks")]

pub mod desk;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    time::{sleep_until, timeout},
};

use crate::{
    archive::{Shareable, SuiteName},
    dht::{Dht, Found, Shelf},
    fetch::{Fetcher, is_dialled},
    hash::{ContentHash, Expected},
    store::Store,
};

use desk::{Answer, Desk, Output, WantId};

/// Files that wait for the task.
const MAX_WAITING: usize = 1024;
/// Events that wait for it.
const MAX_HAPPENED: usize = 1024;
/// Holders that wait for whoever wants them.
const MAX_FOUND: usize = 16;
/// How long a peer may take for an answer.
const ANSWER_WAIT: Duration = Duration::from_secs(3);

/// The handle. It ends with the last clone.
#[derive(Debug, Clone)]
pub(super) struct Shelves {
    wants: mpsc::Sender<Want>,
}

#[derive(Debug)]
struct Want {
    file: Expected,
    found: mpsc::Sender<Found>,
}

/// What came in meanwhile.
enum Happened {
    Listed(Want, Vec<SuiteName>),
    Found(Shelf, SocketAddr),
    Searched(Shelf),
    Answered(SocketAddr, Answer),
}

impl Shelves {
    /// Starts the task, on the current runtime.
    pub(super) fn start(dht: Dht, fetcher: Fetcher, store: Store) -> Self {
        let (wants, waiting) = mpsc::channel(MAX_WAITING);
        let (happened, happenings) = mpsc::channel(MAX_HAPPENED);
        let clerk = Clerk { dht, fetcher, store, happened, desk: Desk::new(rand::random()), wanting: HashMap::new() };
        tokio::spawn(clerk.run(waiting, happenings));
        Self { wants }
    }

    /// Looks for peers that say they hold a file of one piece. The channel closes when nobody else will be found; to drop
    /// it ends the asking. The search for a shelf's peers goes on: the next file may want them.
    pub(super) fn search(&self, file: Shareable) -> mpsc::Receiver<Found> {
        let (found, receiver) = mpsc::channel(MAX_FOUND);
        // When too many are wanted, nothing is found.
        let _ = self.wants.try_send(Want { file: *file.expected(), found });
        receiver
    }
}

struct Clerk {
    dht: Dht,
    fetcher: Fetcher,
    store: Store,
    happened: mpsc::Sender<Happened>,
    desk: Desk,
    wanting: HashMap<WantId, mpsc::Sender<Found>>,
}

impl Clerk {
    async fn run(mut self, mut waiting: mpsc::Receiver<Want>, mut happenings: mpsc::Receiver<Happened>) {
        loop {
            self.carry_out();
            let wake = self.desk.next_timeout();
            tokio::select! {
                want = waiting.recv() => match want {
                    Some(want) => self.look_up(want),
                    None => return,
                },
                Some(happened) = happenings.recv() => self.handle(happened),
                () = sleep_until(wake.unwrap_or_else(Instant::now).into()), if wake.is_some() => {}
            }
            for (id, _) in self.wanting.extract_if(|_, found| found.is_closed()) {
                self.desk.handle_dropped(id);
            }
        }
    }

    /// Finds out which shelves the file stands on.
    fn look_up(&self, want: Want) {
        let (store, happened) = (self.store.clone(), self.happened.clone());
        tokio::spawn(async move {
            let file = want.file;
            let suites = tokio::task::spawn_blocking(move || store.suites_of(&file)).await;
            let suites = suites.expect("the store does not panic").unwrap_or_else(|error| {
                tracing::warn!(%error, "catalogue not readable; nobody is asked");
                Vec::new()
            });
            let _gone = happened.send(Happened::Listed(want, suites)).await;
        });
    }

    fn handle(&mut self, happened: Happened) {
        let now = Instant::now();
        match happened {
            Happened::Listed(Want { found, .. }, _) if found.is_closed() => {}
            Happened::Listed(Want { file, found }, suites) => {
                let shelves = suites.into_iter().map(|suite| Shelf::of(suite, &file.hash)).collect();
                let id = self.desk.handle_wanted(file.hash, shelves, now);
                self.wanting.insert(id, found);
            }
            Happened::Found(shelf, peer) if is_dialled(peer) => self.desk.handle_found(shelf, peer, now),
            Happened::Found(..) => {}
            Happened::Searched(shelf) => self.desk.handle_searched(shelf, now),
            Happened::Answered(peer, answer) => self.desk.handle_answer(peer, &answer, now),
        }
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.desk.poll(Instant::now()) {
            match output {
                Output::Search(shelf) => self.search(shelf),
                Output::Ask(peer, hashes) => self.ask(peer, hashes),
                Output::Holder(id, peer) => {
                    // More than fit are more than are asked.
                    let _full = self.wanting.get(&id).map(|found| found.try_send(Found::Holder(peer)));
                }
                Output::End(id) => drop(self.wanting.remove(&id)),
            }
        }
    }

    fn search(&self, shelf: Shelf) {
        let (mut found, happened) = (self.dht.look_at(shelf), self.happened.clone());
        tokio::spawn(async move {
            while let Some(one) = found.recv().await {
                if let Found::Holder(peer) = one {
                    let _gone = happened.send(Happened::Found(shelf, peer)).await;
                }
            }
            let _gone = happened.send(Happened::Searched(shelf)).await;
        });
    }

    fn ask(&self, peer: SocketAddr, hashes: Vec<ContentHash>) {
        let (fetcher, happened) = (self.fetcher.clone(), self.happened.clone());
        tokio::spawn(async move {
            let begun = Instant::now();
            let hashes: Arc<[ContentHash]> = hashes.into();
            let holds = match timeout(ANSWER_WAIT, fetcher.holds(peer, hashes)).await {
                Ok(Ok(holds)) => holds,
                Ok(Err(error)) => {
                    tracing::debug!(%peer, %error, "a peer of a shelf was asked in vain");
                    Vec::new()
                }
                Err(_) => Vec::new(),
            };
            let took = if holds.is_empty() { ANSWER_WAIT } else { begun.elapsed() };
            let answer = Answer { holds, took, given: fetcher.given(peer) };
            let _gone = happened.send(Happened::Answered(peer, answer)).await;
        });
    }
}
