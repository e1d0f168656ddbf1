//! The rows of the table.

pub mod cpu;
pub mod daemons;
mod lies;
mod speed;
mod swarm;

use crate::{Seen, World};

/// One row: a name to ask for it by, and what measures it.
pub struct Row {
    pub name: &'static str,
    pub run: fn(&World<'_>) -> Vec<Seen>,
}

/// All of them, in the order in which they are measured.
pub const ROWS: &[Row] = &[
    Row { name: "four-peers", run: speed::four_peers },
    Row { name: "eight-peers", run: speed::eight_peers },
    Row { name: "slow-peer", run: speed::slow_peer },
    Row { name: "alone", run: daemons::alone },
    Row { name: "wire", run: speed::wire },
    Row { name: "packages", run: speed::packages },
    Row { name: "poison", run: lies::poison },
    Row { name: "liars-everywhere", run: lies::everywhere },
    Row { name: "liars-fork", run: lies::fork },
    Row { name: "liars-first", run: lies::first },
    Row { name: "replay", run: swarm::replay },
    Row { name: "twenty", run: swarm::twenty },
    Row { name: "cpu", run: cpu::cpu },
];

/// Millions of bytes, as lines and files are measured here.
pub const MB: u64 = 1_000_000;
