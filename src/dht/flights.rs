//! Questions that wait for an answer.
//!
//! **Security.** An answer counts only from the address that was asked and with the four random bytes that the question
//! carried, so who cannot see our datagrams cannot answer for another.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use rand::{RngExt, rngs::StdRng};

use super::{id::Id, lookup::DEADLINE};

/// Most questions that wait at once.
const MAX_FLIGHTS: usize = 4096;

/// What a question is recognised by.
pub type Transaction = [u8; 4];

/// A question under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flight<P> {
    /// Who was asked.
    pub to: SocketAddr,
    /// Who is expected to answer there, if it is known.
    pub id: Option<Id>,
    /// When.
    pub sent: Duration,
    /// What for.
    pub purpose: P,
}

/// All questions under way.
pub struct Flights<P> {
    open: BTreeMap<Transaction, Flight<P>>,
    deadlines: VecDeque<(Duration, Transaction)>,
}

impl<P: Copy> Flights<P> {
    /// None yet.
    pub fn new() -> Self {
        Self { open: BTreeMap::new(), deadlines: VecDeque::new() }
    }

    /// Enters a question; `None` when too many wait already. Time must not go back between calls.
    pub fn depart(&mut self, flight: Flight<P>, rng: &mut StdRng) -> Option<Transaction> {
        if self.open.len() >= MAX_FLIGHTS {
            return None;
        }
        let transaction = loop {
            let drawn = rng.random();
            if !self.open.contains_key(&drawn) {
                break drawn;
            }
        };
        self.open.insert(transaction, flight);
        self.deadlines.push_back((flight.sent + DEADLINE, transaction));
        Some(transaction)
    }

    /// The question that an answer from there belongs to.
    pub fn land(&mut self, transaction: &[u8], from: &SocketAddr) -> Option<Flight<P>> {
        let transaction: Transaction = transaction.try_into().ok()?;
        self.open.get(&transaction).filter(|flight| flight.to == *from)?;
        self.open.remove(&transaction)
    }

    /// Who is expected to answer a question.
    #[cfg(test)]
    pub fn expected(&self, transaction: &[u8]) -> Option<Id> {
        self.open.get::<Transaction>(transaction.try_into().ok()?)?.id
    }

    /// A question whose time is up, one at a time.
    pub fn expired(&mut self, now: Duration) -> Option<Flight<P>> {
        loop {
            let (deadline, transaction) = *self.deadlines.front()?;
            if deadline > now && self.open.contains_key(&transaction) {
                return None;
            }
            self.deadlines.pop_front();
            // A transaction that was drawn again after it had landed has a later deadline of its own.
            if self.open.get(&transaction).is_some_and(|flight| flight.sent + DEADLINE == deadline) {
                return self.open.remove(&transaction);
            }
        }
    }

    /// All questions to an address that cannot be reached.
    pub fn lost(&mut self, to: &SocketAddr) -> Vec<Flight<P>> {
        let mut lost = Vec::new();
        self.open.retain(|_, flight| {
            let stays = flight.to != *to;
            if !stays {
                lost.push(*flight);
            }
            stays
        });
        lost
    }

    /// When the next one is up, or was.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.front().map(|(deadline, _)| *deadline)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn flight(port: u16, sent: Duration) -> Flight<u16> {
        Flight { to: ([5, 6, 7, 8], port).into(), id: None, sent, purpose: port }
    }

    #[test]
    fn an_answer_counts_once_and_only_from_who_was_asked() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut flights = Flights::new();
        let transaction = flights.depart(flight(1, MS), &mut rng).unwrap();
        assert_eq!(flights.land(&transaction, &([5, 6, 7, 8], 2).into()), None);
        assert_eq!(flights.land(&transaction[..3], &([5, 6, 7, 8], 1).into()), None);
        assert_eq!(flights.land(&transaction, &([5, 6, 7, 8], 1).into()), Some(flight(1, MS)));
        assert_eq!(flights.land(&transaction, &([5, 6, 7, 8], 1).into()), None);
        assert_eq!(flights.expired(1000 * DEADLINE), None);
    }

    #[test]
    fn questions_expire_in_their_order() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut flights = Flights::new();
        for n in 1..4_u16 {
            flights.depart(flight(n, MS * u32::from(n)), &mut rng).unwrap();
        }
        assert_eq!(flights.expired(DEADLINE), None);
        assert_eq!(flights.expired(DEADLINE + 2 * MS), Some(flight(1, MS)));
        assert_eq!(flights.expired(DEADLINE + 2 * MS), Some(flight(2, 2 * MS)));
        assert_eq!(flights.expired(DEADLINE + 2 * MS), None);
        assert_eq!(flights.next_deadline(), Some(DEADLINE + 3 * MS));
        assert_eq!(flights.lost(&([5, 6, 7, 8], 3).into()), [flight(3, 3 * MS)]);
        assert_eq!(flights.expired(DEADLINE), None);
        assert_eq!(flights.next_deadline(), None);
    }

    #[test]
    fn the_questions_under_way_are_bounded() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut flights = Flights::new();
        let departed = (0..5000).filter(|_| flights.depart(flight(1, MS), &mut rng).is_some()).count();
        assert_eq!((departed, flights.open.len()), (MAX_FLIGHTS, MAX_FLIGHTS));
    }
}
