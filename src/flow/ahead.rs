//! Ahead: answers to requests that were seen while they still wait behind another one.
//!
//! [`Flow::foresee`] serves a request as if it were asked, and keeps the answer for whoever asks. A file that is promised
//! is kept for everybody, by its flight; what only passes through waits with its mirror, which is held up by its unread
//! body, so that little of it takes memory. What nobody comes for is let go.
#![expect(clippy::disallowed_methods, reason = "the conductor's tasks")]

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

use crate::{archive, mirror::header};

use super::{Answer, Ask, Flow};

/// Requests of one client that are foreseen at a time.
const MAX_OF_CLIENT: usize = 32;
/// Requests of all clients that are.
const MAX_ALL: usize = 256;
/// How long an answer is kept for somebody who does not come for it.
const UNCLAIMED: Duration = Duration::from_secs(60);
/// Bytes of an answer that are kept in memory; a longer one is asked for again.
const MAX_KEPT: usize = 1024 * 1024;

/// Who foresees how much.
#[derive(Debug, Clone, Default)]
pub(super) struct Seats(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// The right to foresee one request. It is given back when it is dropped.
struct Seat {
    client: IpAddr,
    seats: Seats,
}

impl Seats {
    fn take(&self, client: IpAddr) -> Option<Seat> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, own) = (taken.values().sum::<usize>(), taken.get(&client).copied().unwrap_or(0));
        if all >= MAX_ALL || own >= MAX_OF_CLIENT {
            return None;
        }
        taken.insert(client, own + 1);
        Some(Seat { client, seats: self.clone() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.client) {
            *own -= 1;
        }
        taken.retain(|_, own| *own > 0);
    }
}

/// An answer that is being got ready. Dropped, it is not waited for any more.
pub struct Foreseen {
    ask: Ask,
    claim: oneshot::Sender<oneshot::Sender<Answer>>,
}

impl Foreseen {
    /// What it is the answer to.
    pub fn ask(&self) -> &Ask {
        &self.ask
    }

    /// The answer; `None` when it was let go.
    pub async fn answer(self) -> Option<Answer> {
        let (sender, answer) = oneshot::channel();
        self.claim.send(sender).ok()?;
        answer.await.ok()
    }
}

impl Flow {
    /// Begins to answer a request of this client that waits behind another one. `None` for one that has to wait: when the
    /// client has begun enough, and for parts of files, and heads, which cost little.
    pub fn foresee(&self, ask: Ask, client: IpAddr) -> Option<Foreseen> {
        if ask.head_only || ask.headers.contains_key(header::RANGE) {
            return None;
        }
        let seat = self.shared.ahead.take(client)?;
        let (claim, claimed) = oneshot::channel();
        tokio::spawn(get_ready(self.clone(), ask.clone(), claimed, seat));
        Some(Foreseen { ask, claim })
    }

    /// Whether what waits behind this request may be answered otherwise once this one was.
    pub fn teaches(ask: &Ask) -> bool {
        archive::is_release(&ask.location)
    }
}

/// Serves a request, and waits for who asks it.
async fn get_ready(flow: Flow, ask: Ask, mut claimed: oneshot::Receiver<oneshot::Sender<Answer>>, _seat: Seat) {
    let mut serving = Box::pin(flow.serve(ask));
    let (answer, asker) = tokio::select! {
        answer = &mut serving => (answer, None),
        asker = &mut claimed => {
            let Ok(asker) = asker else { return };
            (serving.await, Some(asker))
        }
    };
    let is_long = matches!(&answer, Answer::Whole { body, .. } if body.len() > MAX_KEPT);
    let asker = match asker {
        Some(asker) => Some(asker),
        None if is_long => claimed.try_recv().ok(),
        None => timeout(UNCLAIMED, claimed).await.ok().and_then(Result::ok),
    };
    if let Some(asker) = asker {
        let _gone = asker.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_takes_no_more_than_its_seats_and_all_together_no_more_than_there_are() {
        let seats = Seats::default();
        let client = |number: usize| IpAddr::from([127, 0, 0, number as u8]);
        let mut taken: Vec<Seat> = (0..2 * MAX_OF_CLIENT).filter_map(|_| seats.take(client(0))).collect();
        assert_eq!(taken.len(), MAX_OF_CLIENT);
        taken.extend((1..200).filter_map(|number| seats.take(client(number))));
        assert_eq!(taken.len(), MAX_OF_CLIENT + 199);
        taken.extend((1..200).filter_map(|number| seats.take(client(number))));
        assert_eq!(taken.len(), MAX_ALL);
        taken.clear();
        assert!(seats.take(client(0)).is_some());
        assert!(seats.0.lock().unwrap().is_empty());
    }
}
