//! One connection to a peer as a machine: asks in, bytes in, answers out.
//!
//! Plain HTTP/1.1 (RFC 9112) with several requests under way at once; answers come in the order of the asks.
//!
//! ```text
//!  GET /~/<sha256> HTTP/1.1            HTTP/1.1 206 Partial Content
//!  Host: 192.0.2.7:9978                Content-Range: bytes 524288-1048575/1600000
//!  Range: bytes=524288-1048575         Content-Length: 524288
//!                                      X-Huddle-Chain: <sha256 of the peer's piece chain>
//!                                   or X-Huddle-Unproven: 1     bytes that it has of a mirror and cannot prove yet
//!                                      HTTP/1.1 416             not this piece, or not yet
//!
//!  GET /~/<sha256>/pieces HTTP/1.1     HTTP/1.1 200 OK
//!  Host: 192.0.2.7:9978                Content-Length: 96       the chain; 0 when an unfinished holder has none
//!                                      X-Huddle-Chain: <sha256 of it>
//!                                      X-Huddle-Have: 05        of an unfinished holder: its pieces, in hexadecimal
//!
//!  POST /~/have HTTP/1.1              HTTP/1.1 200 OK
//!  Host: 192.0.2.7:9978               Content-Length: 1        one bit each, the lowest of each byte first
//!  Content-Length: 96
//!                                      05                       it has the first and the third
//!  32 bytes for each hash
//! ```
//!
//! In a private network every request carries a field more (see [`crate::seal`]). A peer without `X-Huddle-Have` has the
//! whole file. The set's bytes are those of [`Pieces`].
//!
//! **Security.** The reader is strict: what is not exactly the answer to the ask is a [`Violation`] and ends the
//! connection. A body's length is known before its first byte is kept, so memory is bounded by what was asked.

use std::{collections::VecDeque, mem, net::SocketAddr, time::Duration};

use bytes::{Bytes, BytesMut};

use crate::{
    hash::{ContentHash, Expected, PieceChain, Pieces},
    seal::Seal,
};

use super::ask::Sealing;
pub use super::ask::{Ask, MAX_HOLDS, Question};

/// Bytes of an answer's head at most.
const MAX_HEAD: usize = 8 * 1024;
/// Header fields of an answer at most.
const MAX_FIELDS: usize = 32;
/// Bytes of the text beside a refusal at most; it is read and dropped.
const MAX_REFUSAL: u64 = 4 * 1024;
/// The longest wait that a busy peer's word is taken for.
const MAX_RETRY_AFTER: u64 = 300;

/// Header in which a peer names, by its digest, the piece chain that it vouches for.
pub const CHAIN_HEADER: &str = "x-huddle-chain";
/// Header in which an unfinished holder says which pieces it has.
pub const HAVE_HEADER: &str = "x-huddle-have";
/// Header that marks bytes which a peer passes on from a mirror without a proof.
pub const UNPROVEN_HEADER: &str = "x-huddle-unproven";

/// A peer's answer to one ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The piece that was asked for, in full length; the bytes are claims.
    Body {
        /// Exactly [`Ask::body_len`] bytes.
        bytes: Bytes,
        /// The digest of the chain that the peer vouches for, when it named one.
        chain: Option<ContentHash>,
        /// Whether it says that it has these from a mirror and cannot prove them: it answers for nothing then, and names
        /// no chain.
        unproven: bool,
    },
    /// What the peer has of the file.
    Pieces {
        /// The chain that it vouches for; a whole holder always names one.
        chain: Option<PieceChain>,
        /// The pieces that an unfinished holder has; `None` of a whole one.
        have: Option<Pieces>,
    },
    /// Which of the files of [`Question::Holds`] it says it has, in the same order.
    Holds(Vec<bool>),
    /// 416: it has the file only in part, and this piece not, or not yet.
    Lacking,
    /// 404: it has not the file.
    Missing,
    /// 503: ask again after that time.
    Busy(Duration),
    /// 429: it was asked too much.
    TooMuch,
}

/// A peer broke the protocol; nothing that follows on the connection can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The head is not HTTP/1.1 or too long.
    #[error("unreadable answer head")]
    Head,
    /// The status is none that answers the ask.
    #[error("unexpected status {0}")]
    Status(u16),
    /// The body has no length, two, or not the one asked for.
    #[error("answer of a wrong length")]
    Length,
    /// The answer is of another range.
    #[error("answer of another range")]
    Range,
    /// The pieces that it says it has are none of this file's.
    #[error("a piece set of another file")]
    Have,
    /// It does not answer for bytes of a file that it has whole.
    #[error("unproven bytes of a whole holder")]
    Unproven,
    /// Bytes came that nobody asked for.
    #[error("bytes that nobody asked for")]
    Unasked,
}

/// One connection's asks and answers. `handle_*` takes what happened, [`Pipeline::poll_answer`] gives what came of it.
#[derive(Debug)]
pub struct Pipeline {
    host: SocketAddr,
    sealing: Option<Sealing>,
    asks: VecDeque<(u64, Question)>,
    input: BytesMut,
    output: BytesMut,
    reading: Reading,
    closing: bool,
}

#[derive(Debug)]
enum Reading {
    Head,
    Body { left: usize, kept: BytesMut, tells: Tells },
    Refusal { left: usize, answer: Answer },
}

/// What an answer's head says of its body.
#[derive(Debug, Clone)]
enum Tells {
    Piece { chain: Option<ContentHash>, unproven: bool },
    Chain { of: Expected, have: Option<Pieces> },
    Holds { count: usize },
}

impl Tells {
    fn answer(self, bytes: Bytes) -> Answer {
        match self {
            Self::Piece { chain, unproven } => Answer::Body { bytes, chain, unproven },
            // Empty where a chain has states: an unfinished holder's that has none.
            Self::Chain { of, have } => Answer::Pieces { chain: PieceChain::decode(&of, &bytes).ok(), have },
            Self::Holds { count } => Answer::Holds((0..count).map(|n| bytes[n / 8] >> (n % 8) & 1 == 1).collect()),
        }
    }
}

impl Pipeline {
    /// A fresh connection to that peer.
    pub fn new(host: SocketAddr) -> Self {
        Self {
            host,
            sealing: None,
            asks: VecDeque::new(),
            input: BytesMut::new(),
            output: BytesMut::new(),
            reading: Reading::Head,
            closing: false,
        }
    }

    /// The same in a private network. [`Pipeline::handle_clock`] is due before each ask.
    pub fn sealed(self, seal: Option<Seal>) -> Self {
        Self { sealing: seal.map(|seal| Sealing { seal, at: 0 }), ..self }
    }

    /// It is so many seconds since 1970.
    pub fn handle_clock(&mut self, seconds: u64) {
        if let Some(sealing) = &mut self.sealing {
            sealing.at = seconds;
        }
    }

    /// Asks under way.
    pub fn outstanding(&self) -> usize {
        self.asks.len()
    }

    /// Whether the peer said that it closes after the answers so far; what is still asked must be asked elsewhere.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Bytes of answers still to come, for the estimate of what a connection has in flight.
    pub fn bytes_due(&self) -> usize {
        self.asks.iter().map(|(_, ask)| ask.body_len()).sum()
    }

    /// Queues an ask under a name that [`Pipeline::poll_answer`] gives back.
    pub fn ask(&mut self, id: u64, question: impl Into<Question>) {
        let question = question.into();
        question.write(self.host, self.sealing.as_ref(), &mut self.output);
        self.asks.push_back((id, question));
    }

    /// Bytes to be sent.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        (!self.output.is_empty()).then(|| mem::take(&mut self.output).freeze())
    }

    /// Takes bytes that arrived. Call [`Pipeline::poll_answer`] until it has no more.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next whole answer. After a [`Violation`] the connection is of no more use.
    pub fn poll_answer(&mut self) -> Result<Option<(u64, Answer)>, Violation> {
        loop {
            let Some((id, ask)) = self.asks.front().cloned() else {
                return if self.input.is_empty() { Ok(None) } else { Err(Violation::Unasked) };
            };
            match &mut self.reading {
                Reading::Head => match self.read_head(&ask)? {
                    Some(reading) => self.reading = reading,
                    None => return Ok(None),
                },
                Reading::Body { left, kept, tells } => {
                    let take = self.input.len().min(*left);
                    kept.extend_from_slice(&self.input.split_to(take));
                    *left -= take;
                    if *left > 0 {
                        return Ok(None);
                    }
                    let answer = tells.clone().answer(mem::take(kept).freeze());
                    return Ok(Some(self.answered(id, answer)));
                }
                Reading::Refusal { left, answer } => {
                    let take = self.input.len().min(*left);
                    let _dropped = self.input.split_to(take);
                    *left -= take;
                    if *left > 0 {
                        return Ok(None);
                    }
                    let answer = answer.clone();
                    return Ok(Some(self.answered(id, answer)));
                }
            }
        }
    }

    /// The connection is gone: the asks that were not answered.
    pub fn into_unanswered(self) -> impl Iterator<Item = (u64, Question)> {
        self.asks.into_iter()
    }

    fn answered(&mut self, id: u64, answer: Answer) -> (u64, Answer) {
        self.asks.pop_front();
        self.reading = Reading::Head;
        (id, answer)
    }

    fn read_head(&mut self, ask: &Question) -> Result<Option<Reading>, Violation> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let window = &self.input[..self.input.len().min(MAX_HEAD)];
        let len = match response.parse(window).map_err(|_| Violation::Head)? {
            httparse::Status::Complete(len) => len,
            httparse::Status::Partial if window.len() < MAX_HEAD => return Ok(None),
            httparse::Status::Partial => return Err(Violation::Head),
        };
        let head = Head::read(&response)?;
        let reading = head.judge(ask)?;
        self.closing |= head.close;
        let _head = self.input.split_to(len);
        Ok(Some(reading))
    }
}

/// The fields of an answer's head that matter.
struct Head {
    status: u16,
    length: u64,
    content_range: Option<String>,
    retry_after: Option<u64>,
    chain: Option<ContentHash>,
    /// Hexadecimal digits, by their look.
    have: Option<String>,
    unproven: bool,
    close: bool,
}

impl Head {
    fn read(response: &httparse::Response<'_, '_>) -> Result<Self, Violation> {
        if response.version != Some(1) {
            return Err(Violation::Head);
        }
        let status = response.code.ok_or(Violation::Head)?;
        let (mut length, mut content_range, mut retry_after) = (None, None, None);
        let (mut chain, mut have, mut unproven, mut close) = (None, None, false, false);
        for field in &*response.headers {
            let value = std::str::from_utf8(field.value).map_err(|_| Violation::Head)?;
            // Of all that Unicode calls white only these two may surround a value (RFC 9110, section 5.6.3).
            let value = value.trim_matches([' ', '\t']);
            match field.name.to_ascii_lowercase().as_str() {
                "content-length" => {
                    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                    let value = value.parse().ok().filter(|_| digits).ok_or(Violation::Length)?;
                    if length.replace(value).is_some() {
                        return Err(Violation::Length);
                    }
                }
                "transfer-encoding" => return Err(Violation::Length),
                "content-range" => content_range = Some(value.to_owned()),
                "retry-after" => retry_after = value.parse().ok(),
                "connection" => close |= value.eq_ignore_ascii_case("close"),
                CHAIN_HEADER => chain = value.parse().ok(),
                HAVE_HEADER if have.is_some() => return Err(Violation::Have),
                HAVE_HEADER => have = Some(value.to_owned()),
                UNPROVEN_HEADER => unproven = true,
                _ => {}
            }
        }
        let length = length.ok_or(Violation::Length)?;
        Ok(Self { status, length, content_range, retry_after, chain, have, unproven, close })
    }

    fn judge(&self, ask: &Question) -> Result<Reading, Violation> {
        let refusal = |answer| {
            let left = self.length.try_into().ok().filter(|_| self.length <= MAX_REFUSAL).ok_or(Violation::Length)?;
            Ok(Reading::Refusal { left, answer })
        };
        match self.status {
            206 if !ask.is_ranged() || self.content_range != ask.content_range() => return Err(Violation::Range),
            200 if ask.is_ranged() => return Err(Violation::Range),
            200 | 206 => {}
            404 => return refusal(Answer::Missing),
            416 if ask.is_ranged() => return refusal(Answer::Lacking),
            429 => return refusal(Answer::TooMuch),
            503 => {
                let seconds = self.retry_after.unwrap_or(1).min(MAX_RETRY_AFTER);
                return refusal(Answer::Busy(Duration::from_secs(seconds)));
            }
            other => return Err(Violation::Status(other)),
        }
        let (tells, may_be_empty) = self.tells(ask)?;
        let body_len = ask.body_len();
        if self.length != body_len as u64 && !(may_be_empty && self.length == 0) {
            return Err(Violation::Length);
        }
        let left = self.length as usize;
        Ok(Reading::Body { left, kept: BytesMut::with_capacity(left), tells })
    }

    /// What a good answer's body is, and whether there may be none.
    fn tells(&self, question: &Question) -> Result<(Tells, bool), Violation> {
        let ask = match question {
            Question::Holds(hashes) => return Ok((Tells::Holds { count: hashes.len() }, false)),
            Question::Of(ask) => ask,
        };
        let file = match ask {
            // A file of one piece is whole or not there at all, and who has it whole answers for it.
            Ask::Piece { file, .. } if self.unproven && file.pieces() == 1 => return Err(Violation::Unproven),
            Ask::Piece { .. } => {
                let chain = self.chain.filter(|_| !self.unproven);
                return Ok((Tells::Piece { chain, unproven: self.unproven }, false));
            }
            Ask::Chain { file } => *file,
        };
        let have = match &self.have {
            Some(_) if file.pieces() == 1 => return Err(Violation::Have),
            Some(digits) => Some(read_have(&file, digits).ok_or(Violation::Have)?),
            None => None,
        };
        let may_be_empty = have.is_some();
        Ok((Tells::Chain { of: file, have }, may_be_empty))
    }
}

/// Reads the digits of a piece set of that file.
fn read_have(file: &Expected, digits: &str) -> Option<Pieces> {
    let pieces = file.pieces();
    if digits.len() != 2 * Pieces::encoded_len(pieces) {
        return None;
    }
    let nibble = |digit: u8| (digit as char).to_digit(16);
    let byte = |pair: &[u8]| Some((nibble(pair[0])? << 4 | nibble(pair[1])?) as u8);
    let bytes = digits.as_bytes().chunks_exact(2).map(byte).collect::<Option<Vec<_>>>()?;
    Pieces::decode(pieces, &bytes).ok()
}

#[cfg(test)]
mod tests;
