//! The faucet: one rate for all uploads, shared fairly among the peers that want some.
//!
//! A token bucket over bytes. Whoever wants to send asks for a turn; turns go round the peers, not the connections, so
//! that opening more of them gains nothing. A turn is given while the bucket is not empty, and may leave it in debt by
//! one chunk: so the rate holds exactly over time, and no turn waits for a level it could never reach.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::Peer;

/// Nanoseconds in a second: the bucket counts in billionths of a byte.
const NANOS: i128 = 1_000_000_000;

/// Names a turn that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// What the faucet wants to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// The bytes of this turn may go.
    Pour(Ticket),
    /// Nothing more before then.
    Wait(Instant),
}

/// The bucket and the queue before it. Ask, then poll until it says wait or nothing.
pub(super) struct Faucet {
    /// Bytes a second.
    rate: u64,
    /// Bytes that may go at once after a pause.
    burst: u64,
    level: i128,
    /// What may go out of turn.
    aside: i128,
    filled: Instant,
    /// Peers with turns to come, the next one first.
    round: VecDeque<Peer>,
    turns: HashMap<Peer, VecDeque<(Ticket, u64)>>,
    next: u64,
}

impl Faucet {
    /// A full bucket of an eighth of a second's bytes.
    pub(super) fn new(rate: u64, now: Instant) -> Self {
        let burst = (rate / 8).max(1);
        Self {
            rate,
            burst,
            level: i128::from(burst) * NANOS,
            aside: i128::from(burst) * NANOS,
            filled: now,
            round: VecDeque::new(),
            turns: HashMap::new(),
            next: 0,
        }
    }

    /// Asks for a turn to send that many bytes.
    pub(super) fn ask(&mut self, peer: Peer, bytes: u64) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        let turns = self.turns.entry(peer).or_default();
        if turns.is_empty() {
            self.round.push_back(peer);
        }
        turns.push_back((ticket, bytes));
        ticket
    }

    /// Gives a turn up that was not given yet.
    pub(super) fn forget(&mut self, peer: Peer, ticket: Ticket) {
        let Some(turns) = self.turns.get_mut(&peer) else { return };
        turns.retain(|(waiting, _)| *waiting != ticket);
        if turns.is_empty() {
            self.turns.remove(&peer);
            self.round.retain(|waiting| *waiting != peer);
        }
    }

    /// Whether so few bytes may go before those who wait; then they are taken from the bucket. That is an eighth of the
    /// rate at most, so that a flood of small answers leaves turns for the rest.
    pub(super) fn goes_at_once(&mut self, bytes: u64, now: Instant) -> bool {
        self.fill(now);
        let cost = i128::from(bytes) * NANOS;
        let goes = cost <= self.aside;
        if goes {
            self.aside -= cost;
            self.level -= cost;
        }
        goes
    }

    /// The next turn that may be taken, or when there will be one. `None` while nobody waits.
    #[must_use]
    pub(super) fn poll(&mut self, now: Instant) -> Option<Output> {
        self.fill(now);
        let &peer = self.round.front()?;
        if self.level <= 0 {
            let missing = u64::try_from(1 - self.level).unwrap_or(u64::MAX);
            return Some(Output::Wait(now + Duration::from_nanos(missing.div_ceil(self.rate))));
        }
        self.round.pop_front();
        let turns = self.turns.get_mut(&peer).expect("a peer in the round has turns");
        let (ticket, bytes) = turns.pop_front().expect("a peer in the round has turns");
        if turns.is_empty() {
            self.turns.remove(&peer);
        } else {
            self.round.push_back(peer);
        }
        self.level -= i128::from(bytes) * NANOS;
        Some(Output::Pour(ticket))
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled).as_nanos();
        let gained = i128::try_from(elapsed).unwrap_or(i128::MAX).saturating_mul(self.rate.into());
        let full = i128::from(self.burst) * NANOS;
        self.level = self.level.saturating_add(gained).min(full);
        self.aside = self.aside.saturating_add(gained / 8).min(full);
        self.filled = self.filled.max(now);
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's clock begins somewhere")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn peer(last: u8) -> Peer {
        Peer::of([192, 0, 2, last].into())
    }

    /// Lets everybody go on asking for `span`, and counts the bytes of each.
    fn run(faucet: &mut Faucet, asking: &[(u8, u64)], start: Instant, span: Duration) -> HashMap<u8, u64> {
        let mut tickets: HashMap<Ticket, (u8, u64)> =
            asking.iter().map(|&(last, bytes)| (faucet.ask(peer(last), bytes), (last, bytes))).collect();
        let mut sent = HashMap::new();
        let mut now = start;
        while now < start + span {
            match faucet.poll(now).expect("everybody asks again at once") {
                Output::Pour(ticket) => {
                    let (last, bytes) = tickets.remove(&ticket).expect("a turn is given once");
                    *sent.entry(last).or_default() += bytes;
                    tickets.insert(faucet.ask(peer(last), bytes), (last, bytes));
                }
                Output::Wait(until) => {
                    assert!(until > now);
                    now = until;
                }
            }
        }
        sent
    }

    #[test]
    fn the_rate_is_kept_to_a_burst_and_a_chunk() {
        let start = Instant::now();
        let mut faucet = Faucet::new(500_000, start);
        let sent: u64 = run(&mut faucet, &[(1, 65_536), (2, 4096)], start, Duration::from_secs(60)).values().sum();
        assert!((30_000_000..=30_000_000 + 500_000 / 8 + 65_536).contains(&sent), "{sent}");
    }

    #[test]
    fn a_peer_with_many_connections_gets_no_more_than_one_with_one() {
        let start = Instant::now();
        let mut faucet = Faucet::new(1_000_000, start);
        let mut asking = vec![(1, 16_384), (2, 16_384)];
        asking.extend([(3, 16_384); 20]);
        let sent = run(&mut faucet, &asking, start, Duration::from_secs(30));
        let (least, most) = (sent.values().min().unwrap(), sent.values().max().unwrap());
        assert!(most - least <= 16_384, "{sent:?}");
    }

    #[test]
    fn a_turn_that_is_given_up_costs_nothing_and_blocks_nobody() {
        let start = Instant::now();
        let mut faucet = Faucet::new(1000, start);
        let first = faucet.ask(peer(1), 1 << 40);
        let second = faucet.ask(peer(2), 10);
        faucet.forget(peer(1), first);
        assert_eq!(faucet.poll(start), Some(Output::Pour(second)));
        assert_eq!(faucet.poll(start), None);
        faucet.forget(peer(2), second);
        assert!(faucet.turns.is_empty() && faucet.round.is_empty());
    }

    #[test]
    fn small_answers_go_at_once_are_counted_and_leave_most_of_the_rate_to_the_rest() {
        let start = Instant::now();
        let mut faucet = Faucet::new(80_000, start);
        let (mut small, mut turns, mut now) = (0, 0, start);
        while now < start + Duration::from_secs(20) {
            while faucet.goes_at_once(250, now) {
                small += 250;
            }
            faucet.ask(peer(1), 1000);
            while let Some(Output::Pour(_)) = faucet.poll(now) {
                turns += 1000;
                faucet.ask(peer(1), 1000);
            }
            now += Duration::from_millis(10);
        }
        assert!((190_000..=220_000).contains(&small), "{small}");
        assert!((1_370_000..=1_430_000).contains(&turns), "{turns}");
        assert!(small + turns <= 20 * 80_000 + 10_000 + 1000);
    }

    #[test]
    fn a_pause_saves_up_no_more_than_the_burst() {
        let start = Instant::now();
        let mut faucet = Faucet::new(8000, start);
        let later = start + Duration::from_secs(3600);
        for _ in 0..3 {
            faucet.ask(peer(1), 500);
        }
        assert!(matches!(faucet.poll(later), Some(Output::Pour(_))));
        assert!(matches!(faucet.poll(later), Some(Output::Pour(_))));
        assert!(matches!(faucet.poll(later), Some(Output::Wait(_))));
    }

    proptest! {
        #[test]
        fn every_turn_is_given_once_and_never_above_the_rate(
            rate in 1_u64..1_000_000_000,
            asks in prop::collection::vec((0_u8..4, 0_u64..70_000), 1..60),
        ) {
            let start = Instant::now();
            let mut faucet = Faucet::new(rate, start);
            let mut waiting: HashMap<Ticket, u64> =
                asks.iter().map(|&(last, bytes)| (faucet.ask(peer(last), bytes), bytes)).collect();
            let (mut now, mut sent) = (start, 0);
            while let Some(output) = faucet.poll(now) {
                match output {
                    Output::Pour(ticket) => {
                        let allowed = rate / 8 + 1 + (now - start).as_nanos() as u64 / 1000 * rate / 1_000_000 + rate / 1_000_000;
                        prop_assert!(sent <= allowed, "{sent} bytes were out where {allowed} were allowed");
                        sent += waiting.remove(&ticket).expect("given once");
                    }
                    Output::Wait(until) => {
                        prop_assert!(until > now);
                        now = until;
                    }
                }
            }
            prop_assert!(waiting.is_empty());
        }
    }
}
