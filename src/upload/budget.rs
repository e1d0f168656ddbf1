//! The budget of an address: what it may ask before it is told to wait.
//!
//! Every question costs a little and every miss a lot, so that a peer which fetches what it found in the DHT never
//! notices, and one which tries hashes to see what is here soon does. Debt is paid off with time.
//!
//! **Security.** The table has two halves. Who is seen moves to the young one; when that is full it becomes the old one,
//! whose accounts are forgotten. So memory is bounded and no insertion ever searches. Someone with many thousand
//! addresses can have his own debts forgotten, which their number gave him anyway.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::Peer;

/// What a question costs, and what it costs on top when there is nothing to give.
pub(super) const QUESTION: u64 = 1;
pub(super) const MISS: u64 = 63;

/// What a hash costs that is not here, of the many in one question: who looks for holders asks for more than there is.
pub(super) const UNKNOWN: u64 = 8;

/// The debt up to which questions are answered: a burst of 4,096 hits, or of 64 misses.
const CREDIT: u64 = 4096;

/// Paid off each second: 128 hits, or 2 misses.
const INCOME: u64 = 128;

/// Accounts in each half of the table.
const ACCOUNTS: usize = 4096;

/// What a peer owes, in thousandths, as of a moment.
#[derive(Clone, Copy)]
struct Debt {
    owed: u64,
    at: Instant,
}

impl Debt {
    fn at(self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.at).as_millis();
        self.owed.saturating_sub(u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_mul(INCOME))
    }
}

/// Everybody's accounts.
#[derive(Default)]
pub(super) struct Budget {
    young: HashMap<Peer, Debt>,
    old: HashMap<Peer, Debt>,
}

impl Budget {
    /// Charges for a question, or says how long to wait until one is answered again.
    pub(super) fn ask(&mut self, peer: Peer, now: Instant) -> Result<(), Duration> {
        let over = self.owed(peer, now).saturating_add(QUESTION * 1000).saturating_sub(CREDIT * 1000);
        if over > 0 {
            return Err(Duration::from_millis(over.div_ceil(INCOME)));
        }
        self.charge(peer, QUESTION, now);
        Ok(())
    }

    /// Charges for what an answer turned out to be.
    pub(super) fn charge(&mut self, peer: Peer, cost: u64, now: Instant) {
        let owed = self.owed(peer, now).saturating_add(cost * 1000);
        self.old.remove(&peer);
        self.young.insert(peer, Debt { owed, at: now });
        if self.young.len() >= ACCOUNTS {
            self.old = std::mem::take(&mut self.young);
        }
    }

    fn owed(&self, peer: Peer, now: Instant) -> u64 {
        self.young.get(&peer).or_else(|| self.old.get(&peer)).map_or(0, |debt| debt.at(now))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's clock begins somewhere")]
mod tests {
    use super::*;

    fn peer(number: u32) -> Peer {
        Peer::of(std::net::Ipv4Addr::from_bits(number).into())
    }

    #[test]
    fn hits_go_on_for_long_and_misses_do_not() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        for _ in 0..4096 {
            budget.ask(peer(1), now).unwrap();
        }
        let wait = budget.ask(peer(1), now).unwrap_err();
        assert!(budget.ask(peer(1), now + wait - Duration::from_millis(1)).is_err());
        assert!(budget.ask(peer(1), now + wait).is_ok());
        let mut misses = 0;
        while budget.ask(peer(2), now).is_ok() {
            budget.charge(peer(2), MISS, now);
            misses += 1;
        }
        assert_eq!(misses, 64);
    }

    #[test]
    fn who_waits_long_enough_owes_nothing_and_a_clock_that_stands_still_forgives_nothing() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        budget.charge(peer(1), CREDIT, now);
        assert!(budget.ask(peer(1), now).is_err());
        assert!(budget.ask(peer(1), now.checked_sub(Duration::from_secs(1)).unwrap_or(now)).is_err());
        assert_eq!(budget.owed(peer(1), now + Duration::from_secs(32)), 0);
        assert_eq!(budget.owed(peer(1), now + Duration::from_secs(u32::MAX.into())), 0);
    }

    #[test]
    fn the_table_is_bounded_and_remembers_who_was_seen_lately() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        budget.charge(peer(0), CREDIT, now);
        for number in 1..4 * ACCOUNTS as u32 {
            budget.charge(peer(number), QUESTION, now);
            assert!(budget.young.len() + budget.old.len() <= 2 * ACCOUNTS);
            if number % 1000 == 0 {
                budget.charge(peer(0), QUESTION, now);
                assert!(budget.ask(peer(0), now).is_err());
            }
        }
        for number in 4 * ACCOUNTS as u32..7 * ACCOUNTS as u32 {
            budget.charge(peer(number), QUESTION, now);
        }
        assert!(budget.ask(peer(0), now).is_ok());
    }
}
