//! Which pieces of a file somebody has.
//!
//! Bytes: one bit a piece, the lowest bit of the first byte for piece 0, `ceil(n / 8)` bytes in all; the bits behind the
//! last piece are zero. So a set of pieces has one spelling, and its length says nothing that the file's size does not.
//!
//! ```text
//!   n = 11, pieces 0, 3 and 10:   00001001 00000100   ->   09 04
//! ```

/// A set of pieces of a file of a known number of pieces.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pieces {
    pieces: usize,
    words: Vec<u64>,
}

/// Bytes are no set of so many pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPieces {
    /// Another number of bytes than the file's size asks for.
    #[error("piece set of {got} bytes where the file's size asks for {want}")]
    Length {
        /// Bytes that a set for this file has.
        want: usize,
        /// Bytes that came.
        got: usize,
    },
    /// A bit stands for a piece that the file has not.
    #[error("piece set with pieces behind the last one")]
    Beyond,
}

impl Pieces {
    /// The empty set, of a file of so many pieces.
    pub fn new(pieces: usize) -> Self {
        Self { pieces, words: vec![0; pieces.div_ceil(64)] }
    }

    /// Every piece of the file.
    pub fn full(pieces: usize) -> Self {
        let mut set = Self::new(pieces);
        (0..pieces).for_each(|piece| set.insert(piece));
        set
    }

    /// Bytes of the set of a file of so many pieces.
    pub const fn encoded_len(pieces: usize) -> usize {
        pieces.div_ceil(8)
    }

    /// Reads what somebody claims to have.
    pub fn decode(pieces: usize, bytes: &[u8]) -> Result<Self, BadPieces> {
        let want = Self::encoded_len(pieces);
        if bytes.len() != want {
            return Err(BadPieces::Length { want, got: bytes.len() });
        }
        let words = bytes.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        });
        let set = Self { pieces, words: words.collect() };
        let used = pieces % 64;
        let beyond = set.words.last().filter(|_| used > 0).is_some_and(|last| last >> used != 0);
        if beyond { Err(BadPieces::Beyond) } else { Ok(set) }
    }

    /// The set as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.truncate(Self::encoded_len(self.pieces));
        bytes
    }

    /// Pieces of the whole file.
    pub fn of(&self) -> usize {
        self.pieces
    }

    /// Adds a piece of the file; another index is a mistake of the caller's.
    pub fn insert(&mut self, piece: usize) {
        assert!(piece < self.pieces, "piece {piece} of a file of {}", self.pieces);
        self.words[piece / 64] |= 1 << (piece % 64);
    }

    /// Takes a piece out, if it is in.
    pub fn remove(&mut self, piece: usize) {
        if let Some(word) = self.words.get_mut(piece / 64) {
            *word &= !(1 << (piece % 64));
        }
    }

    /// Whether the piece is in the set.
    pub fn contains(&self, piece: usize) -> bool {
        self.words.get(piece / 64).is_some_and(|word| word >> (piece % 64) & 1 == 1)
    }

    /// How many pieces are in the set.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no piece is in the set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Whether every piece of the file is in the set.
    pub fn is_full(&self) -> bool {
        self.count() == self.pieces
    }

    /// The pieces in the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(64 * index + bit)
            })
        })
    }
}

impl std::fmt::Debug for Pieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} pieces", self.count(), self.pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_gives_back_what_was_put_in_whatever_the_files_length() {
        for pieces in [1, 2, 7, 8, 9, 63, 64, 65, 127, 128, 1000] {
            let mut set = Pieces::new(pieces);
            assert!(set.is_empty());
            let chosen: Vec<_> = (0..pieces).filter(|piece| piece % 3 == 0 || piece + 1 == pieces).collect();
            chosen.iter().for_each(|piece| set.insert(*piece));
            assert_eq!(set.iter().collect::<Vec<_>>(), chosen);
            assert_eq!((set.count(), set.of()), (chosen.len(), pieces));
            assert!((0..2 * pieces).all(|piece| set.contains(piece) == chosen.contains(&piece)));
            let bytes = set.encode();
            assert_eq!(bytes.len(), Pieces::encoded_len(pieces));
            assert_eq!(Pieces::decode(pieces, &bytes), Ok(set.clone()));
            set.remove(0);
            set.remove(10 * pieces);
            assert_eq!(set.iter().collect::<Vec<_>>(), chosen[1..]);
            assert!(Pieces::full(pieces).is_full() && !set.is_full());
        }
    }

    #[test]
    fn the_bytes_are_as_drawn() {
        let mut set = Pieces::new(11);
        [0, 3, 10].into_iter().for_each(|piece| set.insert(piece));
        assert_eq!(set.encode(), [0x09, 0x04]);
    }

    #[test]
    fn another_length_and_pieces_behind_the_last_one_are_refused() {
        assert_eq!(Pieces::decode(11, &[1]), Err(BadPieces::Length { want: 2, got: 1 }));
        assert_eq!(Pieces::decode(11, &[1, 0, 0]), Err(BadPieces::Length { want: 2, got: 3 }));
        assert_eq!(Pieces::decode(11, &[0, 0x08]), Err(BadPieces::Beyond));
        assert!(Pieces::decode(11, &[0xff, 0x07]).is_ok_and(|set| set.is_full()));
        assert!(Pieces::decode(64, &[0xff; 8]).is_ok_and(|set| set.is_full()));
    }
}
