//! What a peer answers, byte for byte, by its manner.

use bytes::Bytes;

use crate::{
    fetch::ledger::Grade,
    hash::{PieceChain, Pieces},
};

use super::files::File;

/// How a peer behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Manner {
    Honest,
    /// A flipped byte in this piece; the chain is true.
    Flips(usize),
    /// A flipped byte in this piece and the chain that belongs to it.
    LiesConsistently(usize),
    /// True bytes, a false state after this piece.
    FalseChain(usize),
    /// Every piece before that one false, and the chain with it; that piece is never given.
    Forks {
        fork: usize,
        salt: u8,
    },
    /// Takes asks and never answers.
    Silent,
    /// Cannot be reached, which takes a while to see.
    Dead,
    /// Refuses connections at once.
    Refuses,
    /// Has not the file.
    Missing,
    /// Is always busy.
    Busy,
    /// Asks too much of.
    TooMuch,
    /// Closes after each answer.
    Closes,
    /// Breaks off in the middle of each answer.
    Cuts,
    /// Sends more than asked.
    TooLong,
    /// Promises less than asked.
    TooShort,
    /// Answers with another range.
    OtherRange,
    /// Answers a range with 200.
    WholeForRange,
    Chunked,
    EndlessHead,
    TwoLengths,
    /// One byte a second.
    Trickles,
    /// Has the whole file and answers for none of its bytes.
    Evades,
}

/// What becomes of a connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    Stays,
    Closes,
}

/// What a client asked a peer, read off the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Piece(usize),
    Have,
}

/// Reads the requests that a pipeline wrote.
pub fn requests(text: &[u8]) -> Vec<Asked> {
    let text = std::str::from_utf8(text).expect("requests are text");
    let heads = text.split("\r\n\r\n").filter(|head| !head.is_empty());
    heads
        .map(|head| {
            if head.lines().next().expect("a request line").contains("/pieces ") {
                return Asked::Have;
            }
            let start = head
                .split_once("bytes=")
                .map_or(0, |(_, range)| range.split_once('-').expect("a range").0.parse::<u64>().expect("a number"));
            Asked::Piece((start / crate::hash::PIECE_SIZE) as usize)
        })
        .collect()
}

/// What a holder has to give.
pub struct Stock<'a> {
    pub file: &'a File,
    /// Of each piece whether it is given, and as what, and the bytes; `None` of a whole holder.
    pub lent: Option<(&'a [Option<Grade>], &'a [u8])>,
}

impl Stock<'_> {
    /// An honest answer, whole or unfinished.
    pub fn answer(&self, asked: Asked) -> Vec<Bytes> {
        let file = self.file;
        match (asked, self.lent) {
            (Asked::Have, None) => good(200, &chain_field(&file.chain), file.chain.encode().into()),
            (Asked::Have, Some((lent, _))) => {
                let mut have = Pieces::new(file.pieces());
                (0..lent.len()).filter(|&piece| lent[piece].is_some()).for_each(|piece| have.insert(piece));
                let digits: String = have.encode().iter().map(|byte| format!("{byte:02x}")).collect();
                good(200, &format!("X-Huddle-Have: {digits}\r\n"), Bytes::new())
            }
            (Asked::Piece(piece), None) => piece_answer(file, piece, file.piece(piece), &chain_field(&file.chain)),
            (Asked::Piece(piece), Some((lent, disk))) => {
                let span = file.expected.span(piece);
                let bytes = Bytes::copy_from_slice(&disk[span.start as usize..span.end as usize]);
                match lent[piece] {
                    Some(Grade::Proven) => piece_answer(file, piece, bytes, ""),
                    Some(Grade::Raw) => piece_answer(file, piece, bytes, "X-Huddle-Unproven: 1\r\n"),
                    None => status(416),
                }
            }
        }
    }
}

/// The answer of a peer of that manner; `None`: it never comes.
pub fn answer(file: &File, manner: Manner, asked: Asked) -> Option<(Vec<Bytes>, After)> {
    let honest = || Stock { file, lent: None }.answer(asked);
    let stays = |answer| Some((answer, After::Stays));
    let closes = |answer| Some((answer, After::Closes));
    let chain = file.chain_told(manner);
    let lie = |bytes: Bytes| match asked {
        Asked::Have => stays(good(200, &chain_field(&chain), chain.encode().into())),
        Asked::Piece(piece) => stays(piece_answer(file, piece, bytes, &chain_field(&chain))),
    };
    let piece = match asked {
        Asked::Piece(piece) => piece,
        Asked::Have => 0,
    };
    match manner {
        Manner::Honest => stays(honest()),
        Manner::Flips(bad) | Manner::LiesConsistently(bad) => {
            lie(if bad == piece { file.flipped(piece, 1) } else { file.piece(piece) })
        }
        Manner::FalseChain(_) => lie(file.piece(piece)),
        Manner::Forks { fork, .. } if asked == Asked::Piece(fork) => None,
        Manner::Forks { fork, salt } => lie(if piece < fork { file.flipped(piece, salt) } else { file.piece(piece) }),
        Manner::Silent | Manner::Dead | Manner::Refuses => None,
        Manner::Missing => stays(status(404)),
        Manner::Busy => stays(vec!["HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n".into()]),
        Manner::TooMuch => stays(status(429)),
        Manner::Closes => closes(honest()),
        Manner::Cuts => {
            let mut answer = honest();
            let last = answer.pop().expect("a body");
            answer.push(last.slice(..last.len() / 2));
            closes(answer)
        }
        Manner::TooLong => {
            let mut answer = honest();
            answer.push(vec![0; 70_000].into());
            stays(answer)
        }
        Manner::TooShort => stays(good(206, "", vec![0; 1000].into())),
        Manner::OtherRange => {
            let range = format!("Content-Range: bytes 1-{}/{}\r\n", file.expected.size, file.expected.size);
            stays(good(206, &range, file.piece(piece)))
        }
        Manner::WholeForRange => stays(good(200, "", file.bytes.clone())),
        Manner::Chunked => {
            let head = "HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\n\r\n80000\r\n";
            stays(vec![head.into(), file.piece(piece)])
        }
        Manner::EndlessHead => {
            let mut head = "HTTP/1.1 200 OK\r\n".to_owned();
            (0..20_000).for_each(|n| head.push_str(&format!("X-{n}: endless\r\n")));
            stays(vec![head.into()])
        }
        Manner::TwoLengths => {
            let two = format!("Content-Length: {}\r\n", file.expected.piece_len(piece));
            stays(good(206, &two, file.piece(piece)))
        }
        Manner::Trickles => stays(honest()),
        Manner::Evades if asked == Asked::Have => stays(honest()),
        Manner::Evades => stays(piece_answer(file, piece, file.piece(piece), "X-Huddle-Unproven: 1\r\n")),
    }
}

fn chain_field(chain: &PieceChain) -> String {
    format!("X-Huddle-Chain: {}\r\n", chain.digest())
}

fn piece_answer(file: &File, piece: usize, bytes: Bytes, fields: &str) -> Vec<Bytes> {
    if file.pieces() == 1 {
        return good(200, fields, bytes);
    }
    let span = file.expected.span(piece);
    let range = format!("Content-Range: bytes {}-{}/{}\r\n{fields}", span.start, span.end - 1, file.expected.size);
    good(206, &range, bytes)
}

fn good(status: u16, fields: &str, body: Bytes) -> Vec<Bytes> {
    vec![format!("HTTP/1.1 {status} OK\r\nContent-Length: {}\r\n{fields}\r\n", body.len()).into(), body]
}

fn status(status: u16) -> Vec<Bytes> {
    vec![format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n").into()]
}
