//! Figures of a node, for people.

use std::{net::SocketAddr, time::Duration};

use crate::dht::{contact::Family, reach::Reachability, table::Table};

use super::Node;

/// Figures of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Nodes known that answer, by [`Family::index`].
    pub nodes: [usize; 2],
    /// Keys and items stored for others.
    pub stored: usize,
    /// Questions that were answered.
    pub queries_in: u64,
    /// Questions that were asked.
    pub queries_out: u64,
    /// Datagrams that were not of this network, or beyond a budget.
    pub dropped: u64,
    /// Searches under way.
    pub searching: usize,
    /// Durations of the last searches, unsorted.
    pub timings: Vec<Duration>,
    /// The own address as most others see it, by [`Family::index`].
    pub external: [Option<SocketAddr>; 2],
    /// Whether others can connect to the own port, by [`Family::index`]; none where nothing is served.
    pub reachability: [Option<Reachability>; 2],
    /// How many nodes the network has, by how densely they stand.
    pub estimate: usize,
    /// How often the own address was another one than before.
    pub moves: u32,
}

impl Node {
    /// Figures for people.
    pub fn figures(&self) -> Figures {
        Figures {
            nodes: self.tables.each_ref().map(Table::lively),
            stored: self.server.stored(),
            queries_in: self.queries_in,
            queries_out: self.queries_out,
            dropped: self.dropped,
            searching: self.jobs.len() + self.turns.len(),
            timings: self.timings.iter().copied().collect(),
            external: Family::BOTH.map(|family| self.external(family)),
            reachability: Family::BOTH
                .map(|family| self.dials.reachability(family).filter(|_| self.families[family.index()])),
            estimate: self.tables.iter().map(Table::estimate).max().unwrap_or(0),
            moves: self.moves,
        }
    }
}
