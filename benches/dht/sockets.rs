//! Nodes on real sockets, all in this process: what a lookup takes when the network takes nothing.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use apt_huddle::dht::{Config, Explorer, Heard, Id, Probe};
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// The TCP port that every holder announces.
const PORT: u16 = 80;

/// Nodes that each must know before the network counts as there.
const KNOWN: usize = 24;

/// Nodes, each with an address of its own in 127.0.0.0/8.
pub struct Crowd {
    rng: StdRng,
    nodes: Vec<Explorer>,
}

/// What came of one lookup.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// When the first peer was heard of.
    pub first: Option<Duration>,
    /// When it was over.
    pub complete: Duration,
    /// Nodes that answered.
    pub answers: usize,
}

impl Crowd {
    /// Starts so many nodes on 127.`net`.0.0/16, which enter through the first, and waits until all know each other.
    pub async fn start(net: u8, count: usize, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut nodes: Vec<Explorer> = Vec::new();
        for n in 0..count {
            let bootstrap = nodes.first().map(|first| first.local_addrs()[0].to_string());
            let config = Config { bootstrap: bootstrap.into_iter().collect(), lan: false, ..Config::default() };
            let listen = SocketAddr::from(([127, net, (n / 250) as u8, (n % 250) as u8 + 1], 0));
            let node = Explorer::start(&config, &[listen], None, false, rng.random()).await;
            nodes.push(node.expect("a loopback address"));
        }
        for node in &nodes {
            assert!(node.until(|figures| figures.nodes() >= KNOWN.min(count - 1)).await);
        }
        Self { rng, nodes }
    }

    /// So many lookups, one after the other, each of a key that another node has just announced.
    pub async fn look_up(&mut self, lookups: usize) -> Vec<Took> {
        let mut took = Vec::new();
        for _ in 0..lookups {
            let (holder, seeker) = (self.anybody(), self.anybody());
            let key = Id::random(&mut self.rng);
            self.nodes[holder].probe(Probe::Announce { key, port: PORT }).await.count().await;
            let begun = Instant::now();
            let mut hearing = self.nodes[seeker].probe(Probe::GetPeers(key)).await;
            let (mut first, mut answers) = (None, 0);
            while let Some(heard) = hearing.next().await {
                match heard {
                    Heard::Peer(_) => first = first.or(Some(begun.elapsed())),
                    Heard::Node(_) => answers += 1,
                    Heard::Named(_) | Heard::Item { .. } => {}
                }
            }
            took.push(Took { first, complete: begun.elapsed(), answers });
        }
        took
    }

    /// Ends part of the nodes, who say nothing of it.
    pub async fn kill(&mut self, part: f64) {
        for node in (0..self.nodes.len()).rev() {
            if self.rng.random_bool(part) {
                self.nodes.swap_remove(node).shutdown().await;
            }
        }
    }

    fn anybody(&mut self) -> usize {
        self.rng.random_range(0..self.nodes.len())
    }
}
