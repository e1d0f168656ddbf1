//! What a person wants to know of the peers.

use std::{net::SocketAddr, time::Duration};

use crate::peer::standing::Standing;

/// A peer that was met.
#[derive(Debug, Clone, Copy)]
pub struct Met {
    /// Where.
    pub address: SocketAddr,
    /// Its record.
    pub standing: Standing,
    /// Whether it is kept out, for a lie of its own or of others at its address.
    pub is_banned: bool,
    /// For how long still, when the lie was its own.
    pub banned_for: Option<Duration>,
    /// Whether a connection to it is open.
    pub is_connected: bool,
}

/// What a person wants to know of the peers.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Connections open now.
    pub connections: usize,
    /// Every peer met.
    pub peers: Vec<Met>,
}
