//! Networks of any size in which only the lookup is real: what a node knows is worked out when it is asked.

use std::{collections::BTreeSet, ops::Range};

use apt_huddle::dht::id::Id;
use rand::Rng;

use super::internet::{Internet, mix, unit};

/// Who is told of, and asked to store.
pub const K: usize = 8;

/// How the nodes of a network keep their tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tables {
    /// Eight nodes a bucket, whoever came first.
    Plain,
    /// 128, 64, 32, 16 and then eight a bucket, each the quickest of so many times as many that were met.
    WideAndQuick {
        /// Nodes met for each that is kept.
        met: usize,
        /// Sizes of the first buckets; the last is that of all others.
        sizes: &'static [usize],
    },
}

/// A network.
pub struct VirtualNet {
    pub internet: Internet,
    tables: Tables,
    /// First 64 bits of the ids, sorted. A node is its place in here.
    ids: Vec<u64>,
    dead: f64,
}

impl VirtualNet {
    /// A network of so many living nodes, in whose tables part of the nodes is dead.
    pub fn new(internet: Internet, living: usize, dead: f64, tables: Tables) -> Self {
        let mut rng = internet.rng(living as u64);
        let all = living;
        let mut ids: Vec<u64> = (0..all).map(|_| rng.next_u64()).collect();
        ids.sort_unstable();
        ids.dedup();
        Self { internet, tables, ids, dead }
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_dead(&self, node: usize) -> bool {
        unit(mix(node as u64 ^ 0xdead)) < self.dead
    }

    /// The whole id of a node.
    pub fn id(&self, node: usize) -> Id {
        whole(self.ids[node])
    }

    /// The node of an id.
    pub fn node(&self, id: &Id) -> usize {
        let first = u64::from_be_bytes(*id.as_bytes().first_chunk().expect("an id has 20 bytes"));
        self.ids.binary_search(&first).expect("only ids of this net are asked for")
    }

    /// The living nodes nearest to a target.
    pub fn nearest_living(&self, target: u64) -> Vec<usize> {
        let mut bits = 64;
        loop {
            let range = self.sharing(target, bits);
            let mut living: Vec<usize> = range.filter(|node| !self.is_dead(*node)).collect();
            if living.len() >= K || bits == 0 {
                living.sort_by_key(|node| self.ids[*node] ^ target);
                living.truncate(K);
                return living;
            }
            bits -= 1;
        }
    }

    /// The nodes of a node's table that are nearest to a target, nearest first.
    pub fn known(&self, by: usize, target: u64, count: usize) -> Vec<usize> {
        let own = self.ids[by];
        let shared = (own ^ target).leading_zeros();
        let mut known = self.bucket(by, shared);
        known.sort_by_key(|node| self.ids[*node] ^ target);
        let deeper = (shared + 1..=64).take_while(|bits| *bits < 64 && self.sharing(own, *bits).len() > 1);
        let mut near: Vec<usize> = deeper.flat_map(|bits| self.bucket(by, bits)).collect();
        near.sort_by_key(|node| self.ids[*node] ^ target);
        known.extend(near);
        for bits in (0..shared).rev() {
            if known.len() >= count {
                break;
            }
            let mut far = self.bucket(by, bits);
            far.sort_by_key(|node| self.ids[*node] ^ target);
            known.extend(far);
        }
        known.truncate(count);
        known
    }

    /// The bucket of the nodes that share exactly so many bits with a node.
    fn bucket(&self, by: usize, bits: u32) -> Vec<usize> {
        let own = self.ids[by];
        if bits >= 64 {
            return Vec::new();
        }
        let other = own ^ (1 << (63 - bits));
        let range = self.sharing(other, bits + 1);
        let (capacity, met) = match self.tables {
            Tables::Plain => (K, 1),
            Tables::WideAndQuick { met, sizes } => (sizes[(bits as usize).min(sizes.len() - 1)], met),
        };
        if range.len() <= capacity * met {
            return self.quickest(by, range.collect(), capacity);
        }
        let mut drawn = BTreeSet::new();
        let mut state = mix(own ^ u64::from(bits));
        while drawn.len() < capacity * met {
            state = mix(state);
            drawn.insert(range.start + (state % range.len() as u64) as usize);
        }
        self.quickest(by, drawn.into_iter().collect(), capacity)
    }

    fn quickest(&self, by: usize, mut nodes: Vec<usize>, capacity: usize) -> Vec<usize> {
        if nodes.len() > capacity {
            nodes.sort_by_cached_key(|node| self.internet.round_trip(by, *node));
            nodes.truncate(capacity);
        }
        nodes
    }

    /// The nodes that share so many bits with an id.
    fn sharing(&self, id: u64, bits: u32) -> Range<usize> {
        if bits == 0 {
            return 0..self.ids.len();
        }
        let (low, rest) = (id & !(u64::MAX.checked_shr(bits).unwrap_or(0)), u64::MAX.checked_shr(bits).unwrap_or(0));
        let start = self.ids.partition_point(|id| *id < low);
        start..self.ids.partition_point(|id| *id <= low | rest)
    }
}

/// An id that begins with these bits.
pub fn whole(first: u64) -> Id {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&first.to_be_bytes());
    bytes[8..16].copy_from_slice(&mix(first).to_be_bytes());
    Id::new(bytes)
}
