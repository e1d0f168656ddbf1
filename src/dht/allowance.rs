//! What is answered, in bytes: to one neighbourhood of addresses, and to all.
//!
//! ```text
//!  answer -> its neighbourhood's own -> half of what all may have, first come
//!                                       or, when that is gone, one of 64 reserves, drawn by the neighbourhood
//! ```
//!
//! In the own networks no reply is much longer than its question. On Mainline a question for peers or for an item may be
//! answered at ten times its length, as everybody else does, so that the answers themselves are what is limited.
//!
//! **Security.** One neighbourhood cannot exhaust what all may have. Many together, or one that writes false senders on
//! its questions, exhaust the first half; then each takes the reserve of those alone who are drawn to the same one, by a lot
//! that nobody else knows.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use super::contact::Subnet;

/// Most neighbourhoods with an allowance of their own. While there are more, others have the reserves.
const MAX_NEIGHBOURHOODS: usize = 4096;

/// Reserves, each of an equal part of one half.
const RESERVES: usize = 64;

/// Bytes that one neighbourhood and all may be answered.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    one: Rate,
    all: Rate,
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: f64,
    at_once: f64,
}

/// Of Mainline's nodes, who ask for what they have no right to expect.
pub const MAINLINE: Rates = Rates {
    one: Rate { per_second: 2000.0, at_once: 40_000.0 },
    all: Rate { per_second: 16_000.0, at_once: 256_000.0 },
};

/// Of the nodes of an own network: an upgrade looks up a thousand files in some seconds.
pub const OWN: Rates = Rates {
    one: Rate { per_second: 64.0 * 1024.0, at_once: 1024.0 * 1024.0 },
    all: Rate { per_second: 512.0 * 1024.0, at_once: 4.0 * 1024.0 * 1024.0 },
};

impl Rate {
    fn part(self, of: usize) -> Self {
        Self { per_second: self.per_second / of as f64, at_once: self.at_once / of as f64 }
    }
}

/// What is left for whom.
pub struct Allowance {
    rates: Rates,
    common: Left,
    reserves: Vec<Left>,
    one: HashMap<IpAddr, Left>,
    lot: u64,
}

#[derive(Debug, Clone, Copy)]
struct Left {
    bytes: f64,
    since: Duration,
}

impl Left {
    fn all(of: Rate, now: Duration) -> Self {
        Self { bytes: of.at_once, since: now }
    }

    fn refill(&mut self, rate: Rate, now: Duration) -> f64 {
        let passed = now.saturating_sub(self.since).as_secs_f64();
        self.bytes = (self.bytes + passed * rate.per_second).min(rate.at_once);
        self.since = now;
        self.bytes
    }
}

impl Allowance {
    /// Nobody was answered yet. The lot is not to be guessed.
    pub fn new(rates: Rates, lot: u64, now: Duration) -> Self {
        let half = rates.all.part(2);
        let reserves = vec![Left::all(half.part(RESERVES), now); RESERVES];
        Self { rates, common: Left::all(half, now), reserves, one: HashMap::new(), lot }
    }

    /// Whether an answer of so many bytes may go there. It then counts as sent.
    pub fn takes(&mut self, to: IpAddr, len: usize, now: Duration) -> bool {
        let (whom, rate, len) = (neighbourhood(to), self.rates.one, len as f64);
        if self.one.len() >= MAX_NEIGHBOURHOODS && !self.one.contains_key(&whom) {
            self.sweep(now);
        }
        let has_own = self.one.len() < MAX_NEIGHBOURHOODS || self.one.contains_key(&whom);
        if has_own && self.one.entry(whom).or_insert(Left::all(rate, now)).refill(rate, now) < len {
            return false;
        }
        let half = self.rates.all.part(2);
        let shared = if has_own && self.common.refill(half, now) >= len {
            &mut self.common
        } else {
            let reserve = &mut self.reserves[drawn(whom, self.lot) % RESERVES];
            if reserve.refill(half.part(RESERVES), now) < len {
                return false;
            }
            reserve
        };
        shared.bytes -= len;
        self.one.entry(whom).and_modify(|one| one.bytes -= len);
        true
    }

    /// Lets go of those who have their whole allowance again.
    pub fn sweep(&mut self, now: Duration) {
        let rate = self.rates.one;
        self.one.retain(|_, left| left.refill(rate, now) < rate.at_once);
        self.one.shrink_to_fit();
    }
}

/// The first address of those that share an allowance: all of a neighbourhood, and each alone where they cost nothing.
fn neighbourhood(ip: IpAddr) -> IpAddr {
    match ip {
        _ if !Subnet::is_scarce(ip) => ip,
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            [a, b, c, 0].into()
        }
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 80 << 80).into(),
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014) of an address.
fn drawn(ip: IpAddr, lot: u64) -> usize {
    let bits = match ip {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
    };
    let bits = (bits ^ lot).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits ^ (bits >> 31)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u32) -> IpAddr {
        IpAddr::from((0x0500_0000 + n).to_be_bytes())
    }

    /// How many of so many answers of 1,000 bytes each are sent.
    fn answered(allowance: &mut Allowance, count: u32, now: Duration, to: impl Fn(u32) -> IpAddr) -> usize {
        (0..count).filter(|n| allowance.takes(to(*n), 1000, now)).count()
    }

    #[test]
    fn one_neighbourhood_exhausts_only_itself() {
        for (rates, burst, second) in [(MAINLINE, 40, 2), (OWN, 1048, 66)] {
            let mut allowance = Allowance::new(rates, 7, Duration::ZERO);
            assert_eq!(answered(&mut allowance, 10_000, Duration::ZERO, |n| ip(n % 256)), burst);
            assert!(allowance.takes(ip(256), 1000, Duration::ZERO));
            assert_eq!(answered(&mut allowance, 10_000, Duration::from_secs(1), |_| ip(1)), second);
        }
    }

    #[test]
    fn hosts_of_one_machine_and_of_a_private_range_are_not_one_neighbourhood() {
        let mut allowance = Allowance::new(OWN, 7, Duration::ZERO);
        for range in [[127, 0, 80], [10, 1, 1]] {
            let to = |n: u32| IpAddr::from([range[0], range[1], range[2], 1 + (n % 2) as u8]);
            assert!(
                answered(&mut allowance, 3000, Duration::ZERO, to) >= 2000 - 100,
                "a burst each, as long as all may"
            );
            allowance = Allowance::new(OWN, 7, Duration::ZERO);
        }
    }

    #[test]
    fn all_have_an_end_and_a_new_neighbourhood_has_a_reserve() {
        let mut allowance = Allowance::new(OWN, 7, Duration::ZERO);
        let flooded = answered(&mut allowance, 1_000_000, Duration::ZERO, |n| ip((n % 20) << 8));
        assert!((2097..=2700).contains(&flooded), "half of all, and twenty reserves: {flooded}");
        let honest = (1000..1200).filter(|n| allowance.takes(ip(n << 8), 1000, Duration::ZERO)).count();
        assert!(honest > 100, "{honest} of 200 others are answered");
        let all = answered(&mut allowance, 1_000_000, Duration::ZERO, |n| ip(n << 8));
        assert!(flooded + honest + all <= 4194);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut allowance = Allowance::new(MAINLINE, 7, Duration::ZERO);
        for n in 0..20_000 {
            allowance.takes(ip(n << 8), 10, Duration::ZERO);
        }
        assert_eq!(allowance.one.len(), MAX_NEIGHBOURHOODS);
        assert!(allowance.takes(ip(30_000 << 8), 10, Duration::from_secs(60)));
    }
}
