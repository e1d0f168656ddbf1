//! The net between the nodes: who answers whom how soon, what is lost, who is gone.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// What all cases share: half of all pairs answer within 90 ms, three nodes in a hundred are 400 ms slower, two datagrams
/// in a hundred are lost.
#[derive(Debug, Clone, Copy)]
pub struct Internet {
    seed: u64,
}

const MEDIAN_MS: f64 = 90.0;

/// A pair's round trip is drawn from a logarithmic normal distribution with this standard deviation.
const SIGMA: f64 = 0.5;

const SLOW_NODES: f64 = 0.03;

/// By how much slow nodes are slower.
pub const SLOWER_BY: Duration = Duration::from_millis(400);

/// Part of the round trips that lose their question or its answer.
pub const LOSS: f64 = 0.02;

impl Internet {
    /// A net that is always the same under one seed.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The time from a node's question to the other's answer, every time the same.
    pub fn round_trip(&self, asking: usize, asked: usize) -> Duration {
        self.base_round_trip(asking, asked) + if self.is_slow(asked) { SLOWER_BY } else { Duration::ZERO }
    }

    /// The same were no node slow; alike in both directions.
    pub fn base_round_trip(&self, a: usize, b: usize) -> Duration {
        let (low, high) = (a.min(b) as u64, a.max(b) as u64);
        let millis = MEDIAN_MS * (SIGMA * normal(mix(self.seed ^ mix(low << 32 | high)))).exp();
        Duration::from_secs_f64(millis / 1000.0)
    }

    /// Whether a node takes its time to answer.
    pub fn is_slow(&self, node: usize) -> bool {
        unit(mix(self.seed ^ mix(node as u64 | 1 << 63))) < SLOW_NODES
    }

    /// Whether a question or its answer is lost.
    pub fn loses(&self, rng: &mut StdRng) -> bool {
        rng.random_bool(LOSS)
    }

    /// A generator for one case of this net.
    pub fn rng(&self, case: u64) -> StdRng {
        StdRng::seed_from_u64(mix(self.seed ^ mix(case)))
    }
}

/// A number in 0..1 of 64 random bits.
pub fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// A number of the standard normal distribution of 64 random bits.
fn normal(bits: u64) -> f64 {
    let [a, b] = [bits, mix(bits)].map(unit);
    (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos()
}

/// SplitMix64: bits that look as if they were drawn.
pub fn mix(bits: u64) -> u64 {
    let z = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
