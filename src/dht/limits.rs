//! Budgets: what one address may ask, and who is left alone for being silent.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// Questions a second that one address may ask for long.
const QUERIES_PER_SECOND: f64 = 200.0;

/// Questions that one address may ask at once: an upgrade looks up a thousand files in some seconds.
const QUERY_BURST: f64 = 1000.0;

/// Most addresses with a budget of their own.
const MAX_ASKERS: usize = 4096;

/// Budgets that all others share, each address one of them by a lot that nobody else knows: a flood from ever new
/// addresses takes a little of each, and leaves an honest one its answer.
const SHARED_BUDGETS: usize = 4096;

/// Questions a second of one shared budget.
const SHARED_PER_SECOND: f64 = 20.0;

/// Questions at once of one shared budget.
const SHARED_BURST: f64 = 50.0;

/// Most addresses remembered as silent.
const MAX_SILENT: usize = 2048;

/// How long a silent address is left alone by lookups.
const SILENCE: Duration = Duration::from_secs(60);

/// Unanswered questions in a row that make an address silent: a single one may be a lost datagram.
const SILENT_AFTER: u8 = 2;

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    since: Duration,
}

impl Bucket {
    fn full(burst: f64, now: Duration) -> Self {
        Self { left: burst, since: now }
    }

    fn refill(&mut self, rate: f64, burst: f64, now: Duration) {
        let passed = now.saturating_sub(self.since).as_secs_f64();
        self.left = (self.left + passed * rate).min(burst);
        self.since = now;
    }

    fn take(&mut self, amount: f64) -> bool {
        let enough = self.left >= amount;
        if enough {
            self.left -= amount;
        }
        enough
    }
}

/// Who has asked how much.
pub struct Askers {
    one: HashMap<u64, Bucket>,
    /// None while all have their own.
    shared: Vec<Bucket>,
    lot: u64,
}

impl Askers {
    /// Nobody has asked yet.
    pub fn new(seed: u64) -> Self {
        Self { one: HashMap::new(), shared: Vec::new(), lot: seed }
    }

    /// Whether a question from that address is looked at.
    pub fn admits(&mut self, ip: IpAddr, now: Duration) -> bool {
        self.takes(ip, 1, now)
    }

    /// The same of as many questions as come in one datagram; all or none.
    pub fn takes(&mut self, ip: IpAddr, questions: usize, now: Duration) -> bool {
        let questions = questions as f64;
        let asker = asker(ip);
        if self.one.len() < MAX_ASKERS || self.one.contains_key(&asker) {
            let bucket = self.one.entry(asker).or_insert_with(|| Bucket::full(QUERY_BURST, now));
            bucket.refill(QUERIES_PER_SECOND, QUERY_BURST, now);
            return bucket.take(questions);
        }
        if self.shared.is_empty() {
            self.shared = vec![Bucket::full(SHARED_BURST, now); SHARED_BUDGETS];
        }
        let drawn = mixed(asker ^ self.lot) as usize % SHARED_BUDGETS;
        let bucket = &mut self.shared[drawn];
        bucket.refill(SHARED_PER_SECOND, SHARED_BURST, now);
        bucket.take(questions)
    }

    /// Lets go of those whose budget is whole again.
    pub fn sweep(&mut self, now: Duration) {
        let idle = Duration::from_secs_f64(QUERY_BURST / QUERIES_PER_SECOND);
        self.one.retain(|_, bucket| now.saturating_sub(bucket.since) < idle);
        self.one.shrink_to_fit();
        if self.one.len() < MAX_ASKERS {
            self.shared = Vec::new();
        }
    }
}

/// An IPv4 address or an IPv6 /64: what one host commands.
fn asker(ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn mixed(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Addresses that did not answer of late, so that a lookup does not wait for what another one waited for in vain.
#[derive(Default)]
pub struct Silent {
    addrs: HashMap<SocketAddr, (u8, Duration)>,
}

impl Silent {
    /// A question to that address was not answered.
    pub fn handle_silence(&mut self, addr: SocketAddr, now: Duration) {
        if self.addrs.len() >= MAX_SILENT {
            self.addrs.retain(|_, (_, since)| now.saturating_sub(*since) < SILENCE);
        }
        if self.addrs.len() < MAX_SILENT || self.addrs.contains_key(&addr) {
            let (count, since) = self.addrs.entry(addr).or_insert((0, now));
            if now.saturating_sub(*since) >= SILENCE {
                *count = 0;
            }
            *count = count.saturating_add(1);
            *since = now;
        }
    }

    /// Lets go of silences that are long ago.
    pub fn sweep(&mut self, now: Duration) {
        self.addrs.retain(|_, (_, since)| now.saturating_sub(*since) < SILENCE);
        self.addrs.shrink_to_fit();
    }

    /// That address answered.
    pub fn handle_answer(&mut self, addr: &SocketAddr) {
        self.addrs.remove(addr);
    }

    /// Whether lookups leave the address alone.
    pub fn contains(&self, addr: &SocketAddr, now: Duration) -> bool {
        self.addrs
            .get(addr)
            .is_some_and(|(count, since)| *count >= SILENT_AFTER && now.saturating_sub(*since) < SILENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u32) -> IpAddr {
        IpAddr::from((0x0500_0000 + n).to_be_bytes())
    }

    #[test]
    fn one_address_exhausts_only_itself() {
        let mut askers = Askers::new(7);
        let admitted = (0..5000).filter(|_| askers.admits(ip(1), Duration::ZERO)).count();
        assert_eq!(admitted, 1000);
        assert!(askers.admits(ip(2), Duration::ZERO));
        let later = (0..5000).filter(|_| askers.admits(ip(1), Duration::from_secs(1))).count();
        assert_eq!(later, 200);
    }

    #[test]
    fn a_flood_from_new_addresses_leaves_an_honest_one_its_answers() {
        let mut askers = Askers::new(7);
        for n in 0..600_000 {
            askers.admits(ip(n), Duration::from_micros(u64::from(n) * 100));
        }
        let minute = Duration::from_secs(60);
        let admitted = (0..5000).filter(|_| askers.admits(ip(700_000), minute)).count();
        assert!((10..=50).contains(&admitted), "{admitted}");
        assert_eq!((askers.one.len(), askers.shared.len()), (MAX_ASKERS, SHARED_BUDGETS));
        askers.sweep(2 * minute);
        assert_eq!((askers.one.len(), askers.shared.len()), (0, 0));
    }

    #[test]
    fn two_silences_in_a_row_are_remembered_for_a_minute() {
        let mut silent = Silent::default();
        let addr = SocketAddr::new(ip(1), 1);
        let at = Duration::from_secs;
        silent.handle_silence(addr, at(0));
        assert!(!silent.contains(&addr, at(0)));
        silent.handle_silence(addr, at(1));
        assert!(silent.contains(&addr, at(60)));
        assert!(!silent.contains(&addr, at(61)));
        silent.handle_silence(addr, at(62));
        assert!(!silent.contains(&addr, at(62)));
        silent.handle_silence(addr, at(63));
        silent.handle_answer(&addr);
        assert!(!silent.contains(&addr, at(63)));
    }

    #[test]
    fn the_memory_of_silence_is_bounded() {
        let mut silent = Silent::default();
        for n in 0..10_000 {
            silent.handle_silence(SocketAddr::new(ip(n), 1), Duration::ZERO);
        }
        assert_eq!(silent.addrs.len(), MAX_SILENT);
    }
}
