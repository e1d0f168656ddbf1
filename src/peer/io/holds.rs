//! What is asked before peers are asked for anything: which files they hold, and how good they were so far.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    hash::ContentHash,
    peer::{Answer, Question},
};

use super::{Failure, Pool};

impl Pool {
    /// Asks a peer which of these files it holds, at most [`crate::peer::MAX_HOLDS`]; its answer is a claim. A peer that does not
    /// know the question, or is busy, is one that says nothing: an empty answer.
    pub async fn holds(&self, peer: SocketAddr, hashes: Arc<[ContentHash]>) -> Result<Vec<bool>, Failure> {
        match self.ask(peer, Question::Holds(hashes)).await? {
            Answer::Holds(holds) => Ok(holds),
            _ => Ok(Vec::new()),
        }
    }

    /// Bytes of good pieces that a peer has given.
    pub fn given(&self, peer: SocketAddr) -> u64 {
        self.shared.lock().standings.of(peer).map_or(0, |standing| standing.given)
    }

    /// The rate of the quickest peer that is connected now, in bytes a second, if any was measured.
    pub fn quickest(&self) -> Option<f64> {
        let state = self.shared.lock();
        let open = state.connections.iter().filter(|(_, connection)| !connection.is_closed());
        open.filter_map(|(peer, _)| state.standings.of(*peer)?.rate).reduce(f64::max)
    }
}
