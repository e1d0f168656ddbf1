//! What a node of Mainline answers, in bytes: by neighbourhood of addresses, and in all.
//!
//! In the own networks no reply is much longer than its question. On Mainline a question for peers or for an item may be
//! answered at ten times its length, as everybody else does, so that the answers themselves are what is limited.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use super::contact::Subnet;

/// Bytes a second that one neighbourhood is answered for long.
const ONE_PER_SECOND: f64 = 2000.0;

/// Bytes that it is answered at once.
const ONE_BURST: f64 = 40_000.0;

/// Bytes a second that all are answered for long.
const ALL_PER_SECOND: f64 = 16_000.0;

/// Bytes that all are answered at once.
const ALL_BURST: f64 = 256_000.0;

/// Most neighbourhoods with an allowance of their own. While there are more, others are not answered.
const MAX_NEIGHBOURHOODS: usize = 4096;

/// What is left for whom.
pub struct Allowance {
    all: Left,
    one: HashMap<Subnet, Left>,
}

#[derive(Debug, Clone, Copy)]
struct Left {
    bytes: f64,
    since: Duration,
}

impl Left {
    fn refill(&mut self, rate: f64, burst: f64, now: Duration) -> f64 {
        self.bytes = (self.bytes + now.saturating_sub(self.since).as_secs_f64() * rate).min(burst);
        self.since = now;
        self.bytes
    }
}

impl Allowance {
    /// Nobody was answered yet.
    pub fn new(now: Duration) -> Self {
        Self { all: Left { bytes: ALL_BURST, since: now }, one: HashMap::new() }
    }

    /// Whether an answer of so many bytes may go there. It then counts as sent.
    pub fn takes(&mut self, to: IpAddr, len: usize, now: Duration) -> bool {
        let subnet = Subnet::of(to);
        if self.one.len() >= MAX_NEIGHBOURHOODS && !self.one.contains_key(&subnet) {
            self.one.retain(|_, left| left.refill(ONE_PER_SECOND, ONE_BURST, now) < ONE_BURST);
            if self.one.len() >= MAX_NEIGHBOURHOODS {
                return false;
            }
        }
        let one = self.one.entry(subnet).or_insert(Left { bytes: ONE_BURST, since: now });
        let len = len as f64;
        let enough =
            one.refill(ONE_PER_SECOND, ONE_BURST, now) >= len && self.all.refill(ALL_PER_SECOND, ALL_BURST, now) >= len;
        if enough {
            one.bytes -= len;
            self.all.bytes -= len;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u32) -> IpAddr {
        IpAddr::from((0x0500_0000 + n).to_be_bytes())
    }

    #[test]
    fn one_neighbourhood_exhausts_only_itself_and_all_have_an_end() {
        let mut allowance = Allowance::new(Duration::ZERO);
        let mut answered = |of: &mut dyn FnMut(u32) -> u32, now| {
            (0..10_000).filter(|n| allowance.takes(ip(of(*n)), 1000, now)).count()
        };
        assert_eq!(answered(&mut |n| n % 256, Duration::ZERO), 40);
        assert_eq!(answered(&mut |n| n << 8, Duration::ZERO), 216);
        assert_eq!(answered(&mut |_| 1, Duration::from_secs(1)), 2);
        assert_eq!(answered(&mut |n| n << 8, Duration::from_secs(3600)), 256);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut allowance = Allowance::new(Duration::ZERO);
        for n in 0..20_000 {
            allowance.takes(ip(n << 8), 10, Duration::ZERO);
        }
        assert_eq!(allowance.one.len(), MAX_NEIGHBOURHOODS);
        assert!(allowance.takes(ip(30_000 << 8), 10, Duration::from_secs(60)));
    }
}
