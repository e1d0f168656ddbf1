//! Content hashes, piece chains, and the proof that bytes match.
//!
//! SHA-256 (FIPS 180-4) is a chain of compressions. Cut a file into pieces of [`PIECE_SIZE`] bytes, a multiple of the
//! 64-byte block, and the compression state at each boundary is well defined:
//!
//! ```text
//!   M0 --piece 0--> M1 --piece 1--> M2  ...  Mn-1 --piece n-1 and padding--> Mn
//!   IV, known       claimed by a stranger                     the digest, signed by the archive
//! ```
//!
//! Both ends are known, so the digest is treated as the state at the last boundary and every piece is one [`Step`] from
//! the state before it to the state after it. A `Step` comes into being only by hashing bytes. A file is [`Verified`]
//! when its steps join, without a break, the initial value to the signed digest; in which order, and from whom, the
//! pieces came does not matter, and no byte is hashed twice.
//!
//! **Security.** To find a state and bytes that lead to a given state without knowing the original is a free-start
//! preimage of SHA-256. A state from which hashed bytes lead to an authentic state is therefore authentic itself.

mod pieces;

use std::{fmt, ops::Range, str::FromStr};

use sha2::block_api::compress256;

pub use pieces::{BadPieces, Pieces};

/// Length of every piece but the last, in bytes.
pub const PIECE_SIZE: u64 = 512 * 1024;

/// Length of a SHA-256 block, in bytes.
const BLOCK: usize = 64;

/// The SHA-256 of a file's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// Takes a digest computed or claimed elsewhere.
    pub const fn new(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The 32 bytes of the digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Hashes bytes that are in memory.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest;
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text is not the 64 hexadecimal digits of a SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256: expected 64 hexadecimal digits")]
pub struct BadHash;

impl FromStr for ContentHash {
    type Err = BadHash;

    fn from_str(text: &str) -> Result<Self, BadHash> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(BadHash);
        }
        let nibble = |digit: u8| (digit as char).to_digit(16).ok_or(BadHash);
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (nibble(pair[0])? << 4 | nibble(pair[1])?) as u8;
        }
        Ok(Self(digest))
    }
}

/// What a file must be: its digest and its size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Expected {
    /// SHA-256 of the whole file.
    pub hash: ContentHash,
    /// Length in bytes.
    pub size: u64,
}

impl Expected {
    /// Number of pieces; an empty file has one empty piece.
    pub const fn pieces(&self) -> usize {
        let pieces = self.size.div_ceil(PIECE_SIZE) as usize;
        if pieces == 0 { 1 } else { pieces }
    }

    /// The bytes of the file that piece `index` covers.
    pub fn span(&self, index: usize) -> Range<u64> {
        let start = index as u64 * PIECE_SIZE;
        start.min(self.size)..(start + PIECE_SIZE).min(self.size)
    }

    /// Length of piece `index` in bytes.
    pub fn piece_len(&self, index: usize) -> usize {
        let span = self.span(index);
        (span.end - span.start) as usize
    }

    /// The state known at the last boundary: the digest.
    pub fn end(&self) -> State {
        State::from(self.hash)
    }
}

/// A SHA-256 chaining value at a piece boundary, big-endian on every wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct State([u8; 32]);

impl State {
    /// The state before the first byte (FIPS 180-4, section 5.3.3).
    pub const INITIAL: Self = Self(words_to_bytes([
        0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
    ]));

    /// Takes a state that somebody claims.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the state.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn words(self) -> [u32; 8] {
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(self.0.chunks_exact(4)) {
            *word = u32::from_be_bytes(bytes.try_into().expect("chunks of four bytes"));
        }
        words
    }
}

impl From<ContentHash> for State {
    fn from(hash: ContentHash) -> Self {
        Self(hash.0)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", ContentHash(self.0))
    }
}

const fn words_to_bytes(words: [u32; 8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    let mut i = 0;
    while i < 8 {
        let word = words[i].to_be_bytes();
        let mut j = 0;
        while j < 4 {
            bytes[4 * i + j] = word[j];
            j += 1;
        }
        i += 1;
    }
    bytes
}

/// The piece hashes of a file: the states M1..Mn-1 at its inner piece boundaries, as somebody claims them.
///
/// Bytes: the states one after another, 32 each, `32 * (n - 1)` in all, for exactly one file size.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct PieceChain {
    states: Vec<State>,
}

/// A piece chain has not the length that the file's size asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("piece chain of {got} bytes where the file's size asks for {want}")]
pub struct BadChain {
    /// Bytes that a chain for this file has.
    pub want: usize,
    /// Bytes that were claimed.
    pub got: usize,
}

impl PieceChain {
    /// Bytes of the chain of a file of that size.
    pub const fn encoded_len(expected: &Expected) -> usize {
        32 * (expected.pieces() - 1)
    }

    /// Reads a claimed chain; only its length can be judged without bytes of the file.
    pub fn decode(expected: &Expected, bytes: &[u8]) -> Result<Self, BadChain> {
        let want = Self::encoded_len(expected);
        if bytes.len() != want {
            return Err(BadChain { want, got: bytes.len() });
        }
        let states = bytes.chunks_exact(32).map(|state| State(state.try_into().expect("chunks of 32 bytes")));
        Ok(Self { states: states.collect() })
    }

    /// The chain as bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.states.iter().flat_map(|state| state.0).collect()
    }

    /// The inner states, M1 first.
    pub fn states(&self) -> &[State] {
        &self.states
    }

    /// The state at boundary `index` of 0..=n; the outer two are known without any claim.
    pub fn at(&self, expected: &Expected, index: usize) -> State {
        match index {
            0 => State::INITIAL,
            inner if inner <= self.states.len() => self.states[inner - 1],
            _ => expected.end(),
        }
    }

    /// A short name for this very chain: the SHA-256 of its bytes.
    pub fn digest(&self) -> ContentHash {
        ContentHash::of(&self.encode())
    }
}

/// Proof that certain bytes of piece `index` lead from one state to another. Made only by hashing them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    expected: Expected,
    index: usize,
    from: State,
    to: State,
}

impl Step {
    /// Hashes a whole piece from a state. `None` when the piece has not the length that the file's size asks for.
    pub fn take(expected: &Expected, index: usize, from: State, piece: &[u8]) -> Option<Self> {
        let mut stepper = Stepper::new(expected, index, from);
        stepper.update(piece);
        stepper.finish()
    }

    /// Which piece was hashed, counted from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The state that the hashing began with.
    pub fn from(&self) -> State {
        self.from
    }

    /// The state that the bytes led to.
    pub fn to(&self) -> State {
        self.to
    }
}

/// Hashes one piece as its bytes arrive.
#[derive(Clone)]
pub struct Stepper {
    expected: Expected,
    index: usize,
    from: State,
    words: [u32; 8],
    block: [u8; BLOCK],
    taken: u64,
}

impl Stepper {
    /// Begins piece `index` at a state that is known or claimed.
    pub fn new(expected: &Expected, index: usize, from: State) -> Self {
        Self { expected: *expected, index, from, words: from.words(), block: [0; BLOCK], taken: 0 }
    }

    /// Which piece is hashed, counted from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The state that the hashing began with.
    pub fn from(&self) -> State {
        self.from
    }

    /// Bytes of the piece still to come.
    pub fn missing(&self) -> usize {
        (self.expected.piece_len(self.index) as u64).saturating_sub(self.taken) as usize
    }

    /// Takes the next bytes. More than the piece holds makes [`Stepper::finish`] fail.
    pub fn update(&mut self, mut bytes: &[u8]) {
        let held = self.taken as usize % BLOCK;
        self.taken += bytes.len() as u64;
        if held > 0 {
            let fill = bytes.len().min(BLOCK - held);
            self.block[held..held + fill].copy_from_slice(&bytes[..fill]);
            bytes = &bytes[fill..];
            if held + fill < BLOCK {
                return;
            }
            compress256(&mut self.words, &[self.block]);
        }
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        compress256(&mut self.words, blocks);
        self.block[..rest.len()].copy_from_slice(rest);
    }

    /// Ends the piece; the last one takes SHA-256's padding (FIPS 180-4, section 5.1.1). `None` on a wrong length.
    pub fn finish(mut self) -> Option<Step> {
        if self.taken != self.expected.piece_len(self.index) as u64 {
            return None;
        }
        if self.index + 1 == self.expected.pieces() {
            let held = self.taken as usize % BLOCK;
            let mut tail = [0; 2 * BLOCK];
            tail[..held].copy_from_slice(&self.block[..held]);
            tail[held] = 0x80;
            let end = if held < BLOCK - 8 { BLOCK } else { 2 * BLOCK };
            tail[end - 8..end].copy_from_slice(&(self.expected.size * 8).to_be_bytes());
            compress256(&mut self.words, tail[..end].as_chunks().0);
        }
        let to = State(words_to_bytes(self.words));
        Some(Step { expected: self.expected, index: self.index, from: self.from, to })
    }
}

/// The bytes are not those that were promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes do not lead to {}", expected.hash)]
pub struct Mismatch {
    /// What was promised.
    pub expected: Expected,
}

/// Proof that every byte of a file was hashed and led to its signed digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    expected: Expected,
    chain: PieceChain,
}

impl Verified {
    /// Joins one step a piece, in order, from the initial value to the digest.
    pub fn join(expected: &Expected, steps: impl IntoIterator<Item = Step>) -> Result<Self, Mismatch> {
        let mut states = Vec::with_capacity(expected.pieces());
        let mut at = State::INITIAL;
        for (index, step) in steps.into_iter().enumerate() {
            if step.expected != *expected || step.index != index || step.from != at {
                return Err(Mismatch { expected: *expected });
            }
            at = step.to;
            states.push(at);
        }
        if states.len() != expected.pieces() || states.pop() != Some(expected.end()) {
            return Err(Mismatch { expected: *expected });
        }
        Ok(Self { expected: *expected, chain: PieceChain { states } })
    }

    /// What was promised and now is known.
    pub fn expected(&self) -> &Expected {
        &self.expected
    }

    /// The file's piece hashes, now proven.
    pub fn chain(&self) -> &PieceChain {
        &self.chain
    }
}

/// Hashes a file from its front, whatever sizes its bytes come in.
pub struct Hasher {
    expected: Expected,
    steps: Vec<Step>,
    piece: Option<Stepper>,
    excess: bool,
}

impl Hasher {
    /// Begins a file of which the digest and size are promised.
    pub fn new(expected: &Expected) -> Self {
        let piece = Some(Stepper::new(expected, 0, State::INITIAL));
        Self { expected: *expected, steps: Vec::new(), piece, excess: false }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while let Some(piece) = &mut self.piece {
            let take = bytes.len().min(piece.missing());
            piece.update(&bytes[..take]);
            bytes = &bytes[take..];
            if piece.missing() > 0 {
                return;
            }
            let step = self.piece.take().and_then(Stepper::finish).expect("a piece with nothing missing is whole");
            self.steps.push(step);
            if self.steps.len() < self.expected.pieces() {
                self.piece = Some(Stepper::new(&self.expected, self.steps.len(), step.to));
            }
        }
        self.excess |= !bytes.is_empty();
    }

    /// Ends the file.
    pub fn finish(mut self) -> Result<Verified, Mismatch> {
        if let Some(piece) = self.piece.take().filter(|piece| piece.missing() == 0) {
            self.steps.extend(piece.finish());
        }
        if self.excess {
            return Err(Mismatch { expected: self.expected });
        }
        Verified::join(&self.expected, self.steps)
    }
}

#[cfg(test)]
mod tests;
