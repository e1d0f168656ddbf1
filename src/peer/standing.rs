//! What is remembered of each peer: how fast it is, whether to wait before the next try, whether it lied.
//!
//! A machine without clock: every call takes `now`. Bounded: the peers heard of longest ago are forgotten first, the
//! banned ones last. An IPv4 address means the same peer whether it is written as such or mapped into IPv6. Rates, round
//! trips and bans outlive a restart: see [`saved`].
//!
//! | whose false piece or state was proven | who is kept out |
//! |---|---|
//! | one port of any address | that port, for a day, and twice as long each further time |
//! | three ports of a public IPv4 address, or of the /64 of a public IPv6 address | the whole address, or /64, while all three are |
//! | any number of ports of a private or loopback address | those ports: many hosts may sit behind it |

pub mod saved;

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
/// The longest term of a ban: a convict is given one more chance a year.
const MAX_BAN: Duration = Duration::from_secs(365 * 24 * 3600);
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

    /// For how long a false piece or state of its keeps it out still.
    pub fn banned_for(&self, now: Instant) -> Option<Duration> {
        self.banned_until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// Whether a false piece or state of its keeps it out.
    pub fn is_banned(&self, now: Instant) -> bool {
        self.banned_until.is_some_and(|until| now < until)
    }
}

impl Standings {
    /// The record of a peer, if it was ever met.
    pub fn of(&self, peer: SocketAddr) -> Option<&Standing> {
        self.peers.get(&canonical(peer))
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
        let ip = peer.ip().to_canonical();
        let convict =
            |(other, standing): &(&SocketAddr, &Standing)| same_host(other.ip(), ip) && standing.is_banned(now);
        is_global(ip) && self.peers.iter().filter(convict).count() >= PORTS_UNTIL_ADDRESS
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
        let standing = self.entry(peer, now);
        standing.given = standing.given.saturating_add(bytes);
    }

    /// It could not be reached, broke off or broke the protocol.
    pub fn handle_failure(&mut self, peer: SocketAddr, now: Instant) {
        let standing = self.entry(peer, now);
        let pause = FIRST_PAUSE.saturating_mul(1 << standing.failures.min(16)).min(MAX_PAUSE);
        standing.failures = standing.failures.saturating_add(1);
        standing.paused_until = Some(now + pause);
    }

    /// It asked to be left alone for a while.
    pub fn handle_pause(&mut self, peer: SocketAddr, pause: Duration, now: Instant) {
        self.entry(peer, now).paused_until = Some(now + pause.min(MAX_PAUSE));
    }

    /// A piece or a state that it alone answers for was proven false. Returns how long it is kept out.
    pub fn handle_convicted(&mut self, peer: SocketAddr, now: Instant) -> Duration {
        let standing = self.entry(peer, now);
        let term = FIRST_BAN.saturating_mul(1 << standing.convictions.min(16)).min(MAX_BAN);
        standing.convictions = standing.convictions.saturating_add(1);
        standing.banned_until = Some(now + term);
        term
    }

    fn entry(&mut self, peer: SocketAddr, now: Instant) -> &mut Standing {
        let peer = canonical(peer);
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

/// One spelling of an address, so that a ban holds for all of them.
fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

fn same_host(a: IpAddr, b: IpAddr) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => a == b,
        (IpAddr::V6(a), IpAddr::V6(b)) => a.segments()[..4] == b.segments()[..4],
        _ => false,
    }
}

#[cfg(test)]
mod tests;
