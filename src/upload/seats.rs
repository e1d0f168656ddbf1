//! Seats: how many connections are open, and how many files are being sent, in all and to one peer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::Peer;

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
    each: HashMap<Peer, usize>,
}

/// A seat, free again when dropped.
pub(super) struct Seat {
    peer: Peer,
    hall: Arc<Hall>,
}

impl Seats {
    pub(super) fn new(total: usize, each: usize) -> Self {
        Self(Arc::new(Hall { total, each, taken: Mutex::default() }))
    }

    /// A seat, unless all are taken or the peer has its share.
    pub(super) fn take(&self, peer: Peer) -> Option<Seat> {
        let mut taken = self.0.taken();
        let has = taken.each.get(&peer).copied().unwrap_or(0);
        if taken.total >= self.0.total || has >= self.0.each {
            return None;
        }
        taken.total += 1;
        taken.each.insert(peer, has + 1);
        Some(Seat { peer, hall: self.0.clone() })
    }
}

impl Hall {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.hall.taken();
        taken.total -= 1;
        let left = taken.each.get(&self.peer).map_or(0, |has| has - 1);
        match left {
            0 => taken.each.remove(&self.peer),
            _ => taken.each.insert(self.peer, left),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_cannot_take_every_seat_and_none_is_lost() {
        let seats = Seats::new(3, 2);
        let peer = |last: u8| Peer::of([192, 0, 2, last].into());
        let (first, second) = (seats.take(peer(1)), seats.take(peer(1)));
        assert!(first.is_some() && second.is_some());
        assert!(seats.take(peer(1)).is_none());
        let third = seats.take(peer(2));
        assert!(third.is_some());
        assert!(seats.take(peer(3)).is_none());
        drop(first);
        assert!(seats.take(peer(1)).is_some());
        drop((second, third));
        assert!(seats.0.taken().each.is_empty());
        assert_eq!(seats.0.taken().total, 0);
    }
}
