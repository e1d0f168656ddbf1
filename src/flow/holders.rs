//! Who has it: looked for while the file is already being brought, and again for as long as that takes.
//!
//! Those who want a new file often want it at the same moment, when nobody is known to have any of it. So a big file is
//! searched for again at growing intervals until its download ends and drops the stream. After each search the stream
//! says so, and nothing waits for the next one.
#![expect(clippy::disallowed_methods, reason = "waits between two searches")]

use std::{collections::HashSet, time::Duration};

use futures_util::Stream;
use tokio::{sync::mpsc::Receiver, time::sleep};

use crate::{
    dht::Found,
    fetch::Holder,
    hash::{ContentHash, Expected},
};

/// Pieces from which on a file is searched for again; a smaller one is there before it could help.
const AGAIN_FROM: usize = 8;
/// Time from the end of the first search to the next one; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest time between two searches.
const MAX_PAUSE: Duration = Duration::from_secs(32);
/// Searches of one download at most: they span some fifteen minutes.
const MAX_SEARCHES: usize = 33;

/// Finds holders by `search`, which is told whether it was asked before and gives nothing while there is nobody to ask.
/// Polled at first, it is ready at once then.
pub(super) fn look_for(
    file: &Expected,
    search: impl Fn(bool) -> Option<Receiver<Found>> + Send + 'static,
) -> impl Stream<Item = Holder> + Send + 'static {
    look_at_times(file, search, sleep)
}

fn look_at_times<R: Future<Output = ()> + Send + 'static>(
    file: &Expected,
    search: impl Fn(bool) -> Option<Receiver<Found>> + Send + 'static,
    rest: impl Fn(Duration) -> R + Send + 'static,
) -> impl Stream<Item = Holder> + Send + 'static {
    let left = if file.pieces() >= AGAIN_FROM { MAX_SEARCHES } else { 1 };
    let begun = Search { found: search(false), pause: FIRST_PAUSE, left, rests: false, chains: HashSet::new() };
    futures_util::stream::unfold((begun, search, rest), |(mut at, search, rest)| async {
        if at.rests {
            rest(at.pause).await;
            at.again(search(true));
        }
        let holder = at.next().await?;
        Some((holder, (at, search, rest)))
    })
}

/// How far the searches are.
struct Search {
    found: Option<Receiver<Found>>,
    pause: Duration,
    /// Searches still to end, with this one.
    left: usize,
    /// Whether the last search has ended and that was said.
    rests: bool,
    /// Chains that were told of. One that was found false must not come back with each search.
    chains: HashSet<ContentHash>,
}

impl Search {
    fn again(&mut self, found: Option<Receiver<Found>>) {
        (self.found, self.rests) = (found, false);
        self.pause = (2 * self.pause).min(MAX_PAUSE);
    }

    async fn next(&mut self) -> Option<Holder> {
        while let Some(found) = &mut self.found {
            match found.recv().await {
                Some(Found::Holder(address)) => return Some(Holder::Peer(address)),
                Some(Found::Chain(chain)) if !self.chains.insert(chain.digest()) => {}
                Some(Found::Chain(chain)) => return Some(Holder::Chain(chain)),
                None => self.found = None,
            }
        }
        self.left = self.left.saturating_sub(1);
        self.rests = true;
        (self.left > 0).then_some(Holder::Searched)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::ready,
        net::SocketAddr,
        sync::{
            Arc, Mutex,
            atomic::{AtomicU16, Ordering::Relaxed},
        },
    };

    use futures_util::{FutureExt, StreamExt};
    use tokio::sync::mpsc;

    use crate::hash::{PIECE_SIZE, PieceChain};

    use super::*;

    fn file(pieces: u64) -> Expected {
        Expected { hash: ContentHash::of(b""), size: pieces * PIECE_SIZE }
    }

    fn holder(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// Each search finds one more holder than the last, and one and the same chain.
    fn growing(file: Expected) -> impl Fn(bool) -> Option<Receiver<Found>> + Send + 'static {
        let searches = Arc::new(AtomicU16::new(0));
        move |again| {
            let known = searches.fetch_add(1, Relaxed) + 1;
            assert!(again || known == 1, "what was found before is no answer the next time");
            let (sender, found) = mpsc::channel(100);
            let states = vec![7; PieceChain::encoded_len(&file)];
            let chain = PieceChain::decode(&file, &states).expect("of that length");
            sender.try_send(Found::Chain(chain)).expect("room");
            (1..=known).for_each(|port| sender.try_send(Found::Holder(holder(port))).expect("room"));
            Some(found)
        }
    }

    #[tokio::test]
    async fn a_small_file_is_searched_for_once() {
        let found: Vec<_> = look_for(&file(7), growing(file(7))).collect().await;
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[1], Holder::Peer(holder(1)));
    }

    #[tokio::test]
    async fn a_big_file_is_searched_for_again_at_growing_intervals_and_not_for_ever() {
        let rests = Arc::new(Mutex::new(Vec::new()));
        let seen = rests.clone();
        let rest = move |pause: Duration| {
            seen.lock().expect("one thread").push(pause.as_secs_f64());
            ready(())
        };
        let (mut ends, mut holders, mut chains) = (0, HashSet::new(), 0);
        let found: Vec<_> = look_at_times(&file(8), growing(file(8)), rest).collect().await;
        for one in found {
            match one {
                Holder::Peer(address) => drop(holders.insert(address)),
                Holder::Chain(_) => chains += 1,
                Holder::Searched => ends += 1,
            }
        }
        // The last search ends the stream and says nothing more.
        assert_eq!((ends, holders.len(), chains), (MAX_SEARCHES - 1, MAX_SEARCHES, 1));
        let rests = rests.lock().expect("one thread");
        assert_eq!((rests.len(), &rests[..7]), (MAX_SEARCHES - 1, &[0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0][..]));
    }

    #[tokio::test]
    async fn with_nobody_to_ask_that_is_known_at_once_and_somebody_may_turn_up() {
        let nodes = Arc::new(AtomicU16::new(0));
        let (later, known) = (growing(file(9)), nodes.clone());
        let search = move |again| (known.load(Relaxed) > 0).then(|| later(again)).flatten();
        let mut found = Box::pin(look_at_times(&file(9), search, |_| ready(())));
        assert_eq!(found.next().now_or_never(), Some(Some(Holder::Searched)));
        assert_eq!(found.next().await, Some(Holder::Searched));
        nodes.store(1, Relaxed);
        assert!(matches!(found.next().await, Some(Holder::Chain(_))));
        assert_eq!(found.next().await, Some(Holder::Peer(holder(1))));
        let mut none = Box::pin(look_for(&file(1), |_| None));
        assert_eq!(none.next().now_or_never(), Some(None));
    }
}
