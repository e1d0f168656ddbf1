//! Seats: how many connections are open, and how many files are being sent, in all and to one peer.
//!
//! As long as there are free seats, each peer may have as many as the limit for one says. Once somebody finds none, the
//! share counts: all seats divided by those who sit and those who wait. Whoever has less than that and waits is made room
//! for: of those who have more, the one with most gives up the seat that it has held longest, and who has its share gets
//! no further seat. So a few slow peers with many connections keep nobody out; what the seats of slow peers with one each
//! are worth, [`Seats::is_contended`] lets their connections know.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Peer, recall::Recall};

/// Peers that wait for a seat, at most; further ones find one or do not.
const MAX_WAITING: usize = 64;
/// How long a peer counts as waiting that found no seat: longer than it is told to wait.
const WAITING: Duration = Duration::from_secs(5);

/// Hands out seats while there are some.
#[derive(Clone)]
pub(super) struct Seats(Arc<Hall>);

struct Hall {
    total: usize,
    each: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    total: usize,
    /// The seats of each peer, the one held longest first.
    each: HashMap<Peer, VecDeque<Held>>,
    /// Who found no seat, less than its share as it has, and when.
    waiting: HashMap<Peer, Instant>,
    next: u64,
}

struct Held {
    number: u64,
    recall: Recall,
    is_recalled: bool,
}

/// A seat, free again when dropped.
pub(super) struct Seat {
    peer: Peer,
    number: u64,
    hall: Arc<Hall>,
}

impl Seats {
    pub(super) fn new(total: usize, each: usize) -> Self {
        Self(Arc::new(Hall { total, each, taken: Mutex::default() }))
    }

    /// A seat, unless all are taken or the peer has its share. `recall` ends what the seat is for.
    pub(super) fn take(&self, peer: Peer, recall: Recall, now: Instant) -> Option<Seat> {
        let mut taken = self.0.taken();
        taken.forget_waiting(now);
        let (has, share) = (taken.count(peer), taken.share(self.0.total, peer));
        let others_wait = taken.waiting.keys().any(|other| *other != peer);
        if has >= self.0.each || (others_wait && has >= share) {
            return None;
        }
        if taken.total >= self.0.total {
            if has < share && (taken.waiting.len() < MAX_WAITING || taken.waiting.contains_key(&peer)) {
                taken.waiting.insert(peer, now);
                taken.make_room(share);
            }
            return None;
        }
        taken.waiting.remove(&peer);
        let number = taken.next;
        (taken.total, taken.next) = (taken.total + 1, number + 1);
        taken.each.entry(peer).or_default().push_back(Held { number, recall, is_recalled: false });
        Some(Seat { peer, number, hall: self.0.clone() })
    }

    /// Whether somebody waits for a seat who has less than its share.
    pub(super) fn is_contended(&self, now: Instant) -> bool {
        let mut taken = self.0.taken();
        taken.forget_waiting(now);
        !taken.waiting.is_empty()
    }
}

impl Hall {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn count(&self, peer: Peer) -> usize {
        self.each.get(&peer).map_or(0, VecDeque::len)
    }

    fn forget_waiting(&mut self, now: Instant) {
        self.waiting.retain(|_, since| now < *since + WAITING);
    }

    /// The seats that are one peer's when that one is counted among those who sit and wait: one at least.
    fn share(&self, total: usize, peer: Peer) -> usize {
        let parties: HashSet<_> = self.each.keys().chain(self.waiting.keys()).chain([&peer]).collect();
        (total / parties.len()).max(1)
    }

    /// Calls back one seat of the peer that has most, if it has more than that share, and if not as many are on their way
    /// back as are waited for.
    fn make_room(&mut self, share: usize) {
        let is_kept = |held: &&Held| !held.is_recalled;
        let recalled = self.each.values().flatten().filter(|held| held.is_recalled).count();
        let most = self.each.iter_mut().max_by_key(|(peer, seats)| (seats.iter().filter(is_kept).count(), **peer));
        let Some((_, seats)) = most.filter(|_| recalled < self.waiting.len()) else { return };
        if seats.iter().filter(is_kept).count() > share
            && let Some(longest) = seats.iter_mut().find(|held| !held.is_recalled)
        {
            longest.is_recalled = true;
            longest.recall.call();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.hall.taken();
        taken.total -= 1;
        if let Some(seats) = taken.each.get_mut(&self.peer) {
            seats.retain(|held| held.number != self.number);
            if seats.is_empty() {
                taken.each.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's clock begins somewhere")]
mod tests {
    use super::*;

    fn peer(last: u8) -> Peer {
        Peer::of([192, 0, 2, last].into())
    }

    /// So many seats for that peer, each with what calls it back.
    fn sit(seats: &Seats, last: u8, count: usize, now: Instant) -> Vec<(Recall, Option<Seat>)> {
        let recalls = (0..count).map(|_| Recall::default());
        recalls.map(|recall| (recall.clone(), seats.take(peer(last), recall, now))).collect()
    }

    fn recalled(seats: &[(Recall, Option<Seat>)]) -> usize {
        seats.iter().filter(|(recall, _)| recall.is_called()).count()
    }

    #[test]
    fn one_peer_cannot_take_every_seat_and_none_is_lost() {
        let (seats, now) = (Seats::new(3, 2), Instant::now());
        let first = sit(&seats, 1, 3, now);
        assert!(first[0].1.is_some() && first[1].1.is_some() && first[2].1.is_none());
        assert!(!seats.is_contended(now), "it has its share");
        let second = sit(&seats, 2, 1, now);
        assert!(second[0].1.is_some());
        drop((first, second));
        assert!(seats.0.taken().each.is_empty());
        assert_eq!(seats.0.taken().total, 0);
    }

    #[test]
    fn who_has_most_gives_the_oldest_seat_to_who_has_none() {
        let (seats, now) = (Seats::new(8, 4), Instant::now());
        let mut many = sit(&seats, 1, 4, now);
        let (few, some) = (sit(&seats, 2, 2, now), sit(&seats, 3, 2, now));
        assert!(sit(&seats, 4, 1, now)[0].1.is_none());
        assert!(many[0].0.is_called(), "the oldest seat is called back");
        assert_eq!(recalled(&many) + recalled(&few) + recalled(&some), 1);
        assert!(sit(&seats, 4, 1, now)[0].1.is_none());
        assert_eq!(recalled(&many), 1, "one for the one who waits");
        drop(many.remove(0));
        assert!(sit(&seats, 1, 1, now)[0].1.is_none(), "the seat is kept for who waits");
        assert!(sit(&seats, 4, 1, now)[0].1.is_some());
        assert!(!seats.is_contended(now));
    }

    #[test]
    fn nobody_falls_below_the_share_and_who_does_not_come_back_is_not_waited_for() {
        let (seats, now) = (Seats::new(4, 4), Instant::now());
        let (first, mut second) = (sit(&seats, 1, 2, now), sit(&seats, 2, 2, now));
        for _try in 0..10 {
            assert!(sit(&seats, 3, 1, now)[0].1.is_none());
        }
        assert_eq!(recalled(&first) + recalled(&second), 1, "a third has one, as four seats for three peers");
        second.pop();
        assert!(sit(&seats, 2, 1, now)[0].1.is_none());
        assert!(seats.is_contended(now));
        assert!(!seats.is_contended(now + WAITING));
        assert!(sit(&seats, 2, 1, now + WAITING)[0].1.is_some());
    }

    #[test]
    fn many_who_wait_are_a_bounded_list() {
        let (seats, now) = (Seats::new(1, 1), Instant::now());
        let held = sit(&seats, 0, 1, now);
        (1..=200).for_each(|last| drop(sit(&seats, last, 1, now)));
        assert_eq!(seats.0.taken().waiting.len(), MAX_WAITING);
        assert_eq!(recalled(&held), 0, "one seat is the least share");
    }
}
