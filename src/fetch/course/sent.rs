//! What a peer sent.

use bytes::Bytes;

use crate::{fetch::ledger::Grade, hash::ContentHash};

/// A piece as a peer sent it.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The bytes, of the piece's length.
    pub bytes: Bytes,
    /// The digest of the chain that the peer stands for, when it named one.
    pub chain: Option<ContentHash>,
    /// Whether it answers for the bytes.
    pub grade: Grade,
}
