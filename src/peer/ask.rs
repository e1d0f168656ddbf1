//! What a peer can be asked, and how that is written.

use std::{net::SocketAddr, sync::Arc};

use bytes::BytesMut;

use crate::{
    hash::{ContentHash, Expected, PieceChain},
    seal::{self, Seal},
};

/// Files of one question [`Question::Holds`] at most.
pub const MAX_HOLDS: usize = 256;

/// What a peer is asked for of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// The bytes of one piece.
    Piece {
        /// The file.
        file: Expected,
        /// Which piece, counted from 0.
        index: usize,
    },
    /// Which pieces it has, and the file's piece chain.
    Chain {
        /// The file.
        file: Expected,
    },
}

/// All that a peer can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Something of a file.
    Of(Ask),
    /// Which of these files it holds: at least one, at most [`MAX_HOLDS`].
    Holds(Arc<[ContentHash]>),
}

impl From<Ask> for Question {
    fn from(ask: Ask) -> Self {
        Self::Of(ask)
    }
}

/// Makes seals at a second since 1970.
#[derive(Debug, Clone)]
pub(super) struct Sealing {
    pub seal: Seal,
    pub at: u64,
}

impl Ask {
    /// Length of the body of a good answer, in bytes; an unfinished holder's answer to [`Ask::Chain`] may be empty.
    pub fn body_len(&self) -> usize {
        match self {
            Self::Piece { file, index } => file.piece_len(*index),
            Self::Chain { file } => PieceChain::encoded_len(file),
        }
    }

    fn path(&self) -> String {
        match self {
            Self::Piece { file, .. } => format!("/~/{}", file.hash),
            Self::Chain { file } => format!("/~/{}/pieces", file.hash),
        }
    }

    fn is_ranged(&self) -> bool {
        matches!(self, Self::Piece { file, .. } if file.pieces() > 1)
    }
}

impl Question {
    /// Appends the request.
    pub(super) fn write(&self, host: SocketAddr, sealing: Option<&Sealing>, out: &mut BytesMut) {
        let (method, path, body) = match self {
            Self::Of(ask) => ("GET", ask.path(), Vec::new()),
            Self::Holds(hashes) => {
                let body = hashes.iter().flat_map(|hash| *hash.as_bytes()).collect();
                ("POST", "/~/have".to_owned(), body)
            }
        };
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
        if let Self::Of(Ask::Piece { file, index }) = self
            && self.is_ranged()
        {
            let span = file.span(*index);
            head += &format!("Range: bytes={}-{}\r\n", span.start, span.end - 1);
        }
        if let Some(Sealing { seal, at }) = sealing {
            head += &format!("{}: {}\r\n", seal::HEADER, seal.write(method, &path, &body, *at));
        }
        if method == "POST" {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&body);
    }

    /// Length of the body of a good answer, in bytes.
    pub(super) fn body_len(&self) -> usize {
        match self {
            Self::Of(ask) => ask.body_len(),
            Self::Holds(hashes) => hashes.len().div_ceil(8),
        }
    }

    pub(super) fn is_ranged(&self) -> bool {
        matches!(self, Self::Of(ask) if ask.is_ranged())
    }

    pub(super) fn content_range(&self) -> Option<String> {
        let Self::Of(Ask::Piece { file, index }) = self else { return None };
        let span = file.span(*index);
        Some(format!("bytes {}-{}/{}", span.start, span.end.saturating_sub(1), file.size))
    }
}
