//! What is remembered of each peer: how fast it is, whether to wait before the next try, whether it lied.
//!
//! A machine without clock: every call takes `now`. Bounded: the peers heard of longest ago are forgotten first.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use crate::archive::is_global;

/// Peers remembered at most.
const MAX_PEERS: usize = 4096;
/// The first pause after a failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause after failures.
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// The term of a first conviction; it doubles with each further one.
const FIRST_BAN: Duration = Duration::from_secs(24 * 3600);
/// Convicted ports of one public address that ban the whole address.
const PORTS_UNTIL_ADDRESS: usize = 3;
/// Weight of a new sample in the moving averages.
const GAIN: f64 = 0.25;

/// The peers that were met, and the verdicts on them.
#[derive(Debug, Default)]
pub struct Standings {
    peers: HashMap<SocketAddr, Standing>,
}

/// One peer's record.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// Bytes a second while it was sending, as a moving average; `None` before the first whole answer.
    pub rate: Option<f64>,
    /// Time from an ask to its answer's first byte on an idle connection, as a moving average.
    pub round_trip: Option<Duration>,
    /// Bytes of good pieces it gave.
    pub given: u64,
    /// Pieces of which it was proven that they or their states were false.
    pub convictions: u32,
    failures: u32,
    paused_until: Option<Instant>,
    banned_until: Option<Instant>,
    heard: Instant,
}

impl Standing {
    fn new(now: Instant) -> Self {
        Self {
            rate: None,
            round_trip: None,
            given: 0,
            convictions: 0,
            failures: 0,
            paused_until: None,
            banned_until: None,
            heard: now,
        }
    }

    /// Whether a false piece or state of its keeps it out.
    pub fn is_banned(&self, now: Instant) -> bool {
        self.banned_until.is_some_and(|until| now < until)
    }
}

impl Standings {
    /// The record of a peer, if it was ever met.
    pub fn of(&self, peer: SocketAddr) -> Option<&Standing> {
        self.peers.get(&peer)
    }

    /// All records, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&SocketAddr, &Standing)> {
        self.peers.iter()
    }

    /// Whether a peer may be asked now: neither banned nor in the pause after a failure.
    pub fn is_welcome(&self, peer: SocketAddr, now: Instant) -> bool {
        let paused = self.of(peer).and_then(|standing| standing.paused_until).is_some_and(|until| now < until);
        !paused && !self.is_banned(peer, now)
    }

    /// Whether a peer is kept out for a proven lie, its own or its address's.
    pub fn is_banned(&self, peer: SocketAddr, now: Instant) -> bool {
        if self.of(peer).is_some_and(|standing| standing.is_banned(now)) {
            return true;
        }
        // Behind one private address sit many hosts; a public one is answerable for what it forwards.
        is_global(peer.ip().to_canonical())
            && self
                .peers
                .iter()
                .filter(|(other, standing)| same_host(other.ip(), peer.ip()) && standing.is_banned(now))
                .count()
                >= PORTS_UNTIL_ADDRESS
    }

    /// A whole answer came.
    pub fn handle_good(&mut self, peer: SocketAddr, now: Instant) {
        let standing = self.entry(peer, now);
        standing.failures = 0;
        standing.paused_until = None;
    }

    /// It sent so many bytes in so much time, while it had some to send.
    pub fn handle_rate(&mut self, peer: SocketAddr, bytes: usize, took: Duration, now: Instant) {
        let standing = self.entry(peer, now);
        let sample = bytes as f64 / took.as_secs_f64().max(1e-4);
        standing.rate = Some(standing.rate.map_or(sample, |rate| rate + GAIN * (sample - rate)));
    }

    /// The first byte of an answer came on a connection that had been idle.
    pub fn handle_round_trip(&mut self, peer: SocketAddr, took: Duration, now: Instant) {
        let standing = self.entry(peer, now);
        standing.round_trip =
            Some(standing.round_trip.map_or(took, |old| old.mul_f64(1.0 - GAIN) + took.mul_f64(GAIN)));
    }

    /// A piece of its was proven.
    pub fn handle_proven(&mut self, peer: SocketAddr, bytes: u64, now: Instant) {
        self.entry(peer, now).given += bytes;
    }

    /// It could not be reached, broke off or broke the protocol.
    pub fn handle_failure(&mut self, peer: SocketAddr, now: Instant) {
        let standing = self.entry(peer, now);
        let pause = FIRST_PAUSE.saturating_mul(1 << standing.failures.min(16)).min(MAX_PAUSE);
        standing.failures += 1;
        standing.paused_until = Some(now + pause);
    }

    /// It asked to be left alone for a while.
    pub fn handle_pause(&mut self, peer: SocketAddr, pause: Duration, now: Instant) {
        self.entry(peer, now).paused_until = Some(now + pause.min(MAX_PAUSE));
    }

    /// A piece or a state that it alone answers for was proven false. Returns how long it is kept out.
    pub fn handle_convicted(&mut self, peer: SocketAddr, now: Instant) -> Duration {
        let standing = self.entry(peer, now);
        let term = FIRST_BAN.saturating_mul(1 << standing.convictions.min(8));
        standing.convictions += 1;
        standing.banned_until = Some(now + term);
        term
    }

    fn entry(&mut self, peer: SocketAddr, now: Instant) -> &mut Standing {
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&peer) {
            let oldest = |(_, standing): &(&SocketAddr, &Standing)| (standing.is_banned(now), standing.heard);
            let oldest = self.peers.iter().min_by_key(oldest).map(|(peer, _)| *peer);
            oldest.map(|oldest| self.peers.remove(&oldest));
        }
        let standing = self.peers.entry(peer).or_insert_with(|| Standing::new(now));
        standing.heard = now;
        standing
    }
}

fn same_host(a: IpAddr, b: IpAddr) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => a == b,
        (IpAddr::V6(a), IpAddr::V6(b)) => a.segments()[..4] == b.segments()[..4],
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[expect(clippy::disallowed_methods, reason = "only as an origin for differences")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn failures_pause_a_peer_longer_each_time_and_a_good_answer_ends_it() {
        let (mut standings, now, peer) = (Standings::default(), start(), at("9.9.9.1:9978"));
        assert!(standings.is_welcome(peer, now));
        standings.handle_failure(peer, now);
        assert!(!standings.is_welcome(peer, now + FIRST_PAUSE / 2));
        assert!(standings.is_welcome(peer, now + FIRST_PAUSE));
        standings.handle_failure(peer, now);
        assert!(!standings.is_welcome(peer, now + FIRST_PAUSE));
        for _ in 0..40 {
            standings.handle_failure(peer, now);
        }
        assert!(standings.is_welcome(peer, now + MAX_PAUSE));
        standings.handle_good(peer, now);
        assert!(standings.is_welcome(peer, now));
    }

    #[test]
    fn a_conviction_bans_the_port_and_three_the_public_address_but_never_a_private_one() {
        let now = start();
        for (host, whole) in [("9.9.9.1", true), ("127.0.0.9", false), ("10.1.1.1", false)] {
            let mut standings = Standings::default();
            for port in 1..=3 {
                assert!(!standings.is_banned(at(&format!("{host}:77")), now));
                standings.handle_convicted(at(&format!("{host}:{port}")), now);
                assert!(standings.is_banned(at(&format!("{host}:{port}")), now));
            }
            assert_eq!(standings.is_banned(at(&format!("{host}:77")), now), whole, "{host}");
            assert!(!standings.is_banned(at("9.9.9.2:1"), now));
            assert!(!standings.is_banned(at(&format!("{host}:1")), now + FIRST_BAN));
        }
    }

    #[test]
    fn a_second_conviction_bans_twice_as_long() {
        let (mut standings, now, peer) = (Standings::default(), start(), at("9.9.9.1:9978"));
        assert_eq!(standings.handle_convicted(peer, now), FIRST_BAN);
        assert_eq!(standings.handle_convicted(peer, now), 2 * FIRST_BAN);
    }

    #[test]
    fn the_record_is_bounded_and_keeps_the_banned_longest() {
        let (mut standings, now) = (Standings::default(), start());
        let liar = at("9.9.8.5:1");
        standings.handle_convicted(liar, now);
        for n in 0..2 * MAX_PEERS as u32 {
            let peer = SocketAddr::new(IpAddr::from((0x0100_0000 + n).to_be_bytes()), 9978);
            standings.handle_failure(peer, now + Duration::from_secs(1));
        }
        assert!(standings.iter().count() <= MAX_PEERS);
        assert!(standings.is_banned(liar, now + Duration::from_secs(2)));
    }
}
