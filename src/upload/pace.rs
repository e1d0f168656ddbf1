//! The faucet's driver: what is written to peers waits here for its turn.
#![expect(clippy::disallowed_methods, reason = "the driver that waits by the clock")]

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::{Notify, oneshot};

use super::{
    Peer,
    faucet::{Faucet, Output, Ticket},
};

/// Bytes of one turn: 64 KiB on a fast line, less on a slow one so that turns come round often.
const CHUNK: u64 = 64 * 1024;
const CHUNK_MIN: u64 = 4 * 1024;

/// A limit below this many bytes a second is taken for this much: less would hold peers without serving them.
const RATE_MIN: u64 = 1024;

/// Lets uploads through at the common rate. A clone is the same faucet.
#[derive(Clone)]
pub(super) struct Pace {
    chunk: usize,
    line: Option<Arc<Line>>,
}

struct Line {
    queue: Mutex<Queue>,
    asked: Notify,
}

struct Queue {
    faucet: Faucet,
    waiting: HashMap<Ticket, oneshot::Sender<()>>,
}

impl Pace {
    /// `None` lets everything through at once.
    pub(super) fn new(limit: Option<u64>, now: Instant) -> Self {
        let Some(limit) = limit else { return Self { chunk: CHUNK as usize, line: None } };
        let rate = limit.max(RATE_MIN);
        let queue = Queue { faucet: Faucet::new(rate, now), waiting: HashMap::new() };
        let line = Line { queue: Mutex::new(queue), asked: Notify::new() };
        Self { chunk: (rate / 16).clamp(CHUNK_MIN, CHUNK) as usize, line: Some(Arc::new(line)) }
    }

    /// Asks for a turn to write so many bytes, or fewer on a slow line: how many, and when they may go. `None` when there is
    /// no limit. Dropped, the turn is given up.
    pub(super) fn turn(&self, peer: Peer, bytes: usize) -> Option<(usize, BoxFuture<'static, ()>)> {
        let line = self.line.clone()?;
        let bytes = bytes.min(self.chunk);
        let (turn, ticket) = {
            let mut queue = line.queue();
            let ticket = queue.faucet.ask(peer, bytes as u64);
            let (given, turn) = oneshot::channel();
            queue.waiting.insert(ticket, given);
            (turn, ticket)
        };
        line.asked.notify_one();
        let waits = Waits { line, peer, ticket };
        let given = async move {
            // The sender leaves the map only when the turn is given or when this is dropped.
            let _ = turn.await;
            drop(waits);
        };
        Some((bytes, given.boxed()))
    }

    /// Whether so few bytes may go out of turn; then they are counted.
    pub(super) fn goes_at_once(&self, bytes: usize) -> bool {
        let Some(line) = &self.line else { return true };
        line.queue().faucet.goes_at_once(bytes as u64, Instant::now())
    }

    /// Gives turns, for ever.
    pub(super) async fn run(&self) -> Infallible {
        let Some(line) = &self.line else { return std::future::pending().await };
        loop {
            match line.pour() {
                Some(until) => tokio::select! {
                    () = tokio::time::sleep_until(until.into()) => {}
                    () = line.asked.notified() => {}
                },
                None => line.asked.notified().await,
            }
        }
    }
}

impl Line {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives every turn that is due, and says when to come back.
    fn pour(&self) -> Option<Instant> {
        let mut queue = self.queue();
        loop {
            match queue.faucet.poll(Instant::now())? {
                Output::Pour(ticket) => {
                    if let Some(waiting) = queue.waiting.remove(&ticket) {
                        let _ = waiting.send(());
                    }
                }
                Output::Wait(until) => return Some(until),
            }
        }
    }
}

/// An upload's place in the queue.
struct Waits {
    line: Arc<Line>,
    peer: Peer,
    ticket: Ticket,
}

impl Drop for Waits {
    fn drop(&mut self) {
        let mut queue = self.line.queue();
        if queue.waiting.remove(&self.ticket).is_some() {
            queue.faucet.forget(self.peer, self.ticket);
        }
    }
}
