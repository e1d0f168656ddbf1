//! Records: what a partial has, written beside it, so that an interrupted download goes on where it stood.
//!
//! ```text
//!  partial/<sha256>-<n>        the bytes, where they belong
//!  partial/<sha256>-<n>.have   record
//!
//!  record   "huddle1\n" | size 8, big-endian | slot, one a piece
//!  slot     what 1 | state before the piece 32 | state after it 32
//!           what: 0 nothing, 1 all of its bytes are written, 2 they were hashed from the one state to the other
//! ```
//!
//! A slot is written after the piece's bytes, in one write, and nothing is synced for it. After a power cut a record may
//! so claim bytes that never reached the disk, or be torn itself. Nothing of it is believed therefore: what joins the
//! initial value or the signed digest is hashed again before it counts, and what joins neither is judged like bytes of a
//! source that answers for nothing.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::hash::{Expected, Pieces, State, Step};

use super::disk::Disk;

const MAGIC: &[u8; 8] = b"huddle1\n";
const HEAD: usize = 16;
const SLOT: usize = 65;

/// What is known of a piece on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is not there.
    Nothing,
    /// All of its bytes are.
    Written,
    /// They were hashed, from one state to the other.
    Hashed {
        /// Before the piece.
        from: State,
        /// Behind it.
        to: State,
    },
}

impl Kept {
    fn encode(self) -> [u8; SLOT] {
        let mut slot = [0; SLOT];
        match self {
            Self::Nothing => {}
            Self::Written => slot[0] = 1,
            Self::Hashed { from, to } => {
                slot[0] = 2;
                slot[1..33].copy_from_slice(from.as_bytes());
                slot[33..].copy_from_slice(to.as_bytes());
            }
        }
        slot
    }

    fn decode(slot: &[u8; SLOT]) -> Self {
        let state = |at: usize| State::new(slot[at..at + 32].try_into().expect("32 of 65 bytes"));
        match slot[0] {
            1 => Self::Written,
            2 => Self::Hashed { from: state(1), to: state(33) },
            _ => Self::Nothing,
        }
    }
}

/// What an earlier download of the file left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Earlier {
    /// Hashed again just now: those from the first piece on, in order, then those from the last one on, backwards.
    pub steps: Vec<Step>,
    /// Further pieces that were written, judged by nothing.
    pub written: Vec<usize>,
}

/// The record of one partial.
pub(super) struct Record {
    disk: Arc<dyn Disk>,
    expected: Expected,
    path: PathBuf,
    /// Once there was something to write down.
    file: Option<File>,
    noted: Pieces,
}

impl Record {
    /// The name of a partial's record.
    pub(super) fn beside(partial: &Path) -> PathBuf {
        let mut name = partial.as_os_str().to_owned();
        name.push(".have");
        name.into()
    }

    /// A record of nothing.
    pub(super) fn new(disk: Arc<dyn Disk>, expected: Expected, partial: &Path) -> Self {
        let noted = Pieces::new(expected.pieces());
        Self { disk, expected, path: Self::beside(partial), file: None, noted }
    }

    /// The record of a partial of an earlier download, and what it says; an error when it is none of this file's.
    pub(super) fn open(disk: Arc<dyn Disk>, expected: Expected, partial: &Path) -> io::Result<(Self, Vec<Kept>)> {
        let path = Self::beside(partial);
        let (file, length) = disk.open(&path, true)?;
        let mut bytes = vec![0; (HEAD + SLOT * expected.pieces()).min(length as usize)];
        file.read_exact_at(&mut bytes, 0)?;
        let slots = slots(&bytes, &expected).ok_or(io::ErrorKind::InvalidData)?;
        let mut noted = Pieces::new(expected.pieces());
        slots.iter().zip(0..).filter(|(slot, _)| **slot != Kept::Nothing).for_each(|(_, piece)| noted.insert(piece));
        Ok((Self { disk, expected, path, file: Some(file), noted }, slots))
    }

    /// Notes what is known of a piece. An error loses what is noted, and nothing else.
    pub(super) fn note(&mut self, piece: usize, kept: Kept) -> io::Result<()> {
        if piece >= self.noted.of() || (kept == Kept::Nothing && !self.noted.contains(piece)) {
            return Ok(());
        }
        if self.file.is_none() {
            let file = self.disk.create(&self.path)?;
            let head = [*MAGIC, self.expected.size.to_be_bytes()].concat();
            self.disk.write(&file, 0, &head)?;
            self.file = Some(file);
        }
        let file = self.file.as_ref().expect("it was just made");
        self.disk.write(file, (HEAD + SLOT * piece) as u64, &kept.encode())?;
        match kept {
            Kept::Nothing => self.noted.remove(piece),
            Kept::Written | Kept::Hashed { .. } => self.noted.insert(piece),
        }
        Ok(())
    }

    /// Bytes of the pieces that are noted.
    pub(super) fn bytes(&self) -> u64 {
        self.noted.iter().map(|piece| self.expected.piece_len(piece) as u64).sum()
    }

    /// Takes the record away.
    pub(super) fn remove(&mut self) {
        if self.file.take().is_some() {
            let _gone = self.disk.remove(&self.path);
        }
    }
}

/// The size of the file that a record is of.
pub(super) fn size(record: &[u8]) -> Option<u64> {
    let (magic, rest) = record.split_first_chunk()?;
    let size = rest.first_chunk()?;
    (magic == MAGIC).then(|| u64::from_be_bytes(*size))
}

/// What a record says of each piece; what lies behind its end was never noted.
pub(super) fn slots(record: &[u8], expected: &Expected) -> Option<Vec<Kept>> {
    if size(record)? != expected.size {
        return None;
    }
    let (slots, _torn) = record[HEAD..].as_chunks::<SLOT>();
    let mut slots: Vec<_> = slots.iter().take(expected.pieces()).map(Kept::decode).collect();
    slots.resize(expected.pieces(), Kept::Nothing);
    Some(slots)
}

/// Hashes again what joins either end of the file, from what is on disk now. `read` gives a piece's bytes.
pub(super) fn prove_again(expected: &Expected, slots: &[Kept], read: impl Fn(usize) -> io::Result<Vec<u8>>) -> Earlier {
    let mut earlier = Earlier::default();
    let again = |piece: usize, from: State, to: State| {
        let step = Step::take(expected, piece, from, &read(piece).ok()?)?;
        (step.to() == to).then_some(step)
    };
    let mut left = 0..slots.len();
    let mut false_ones = Vec::new();
    let mut state = State::INITIAL;
    while let Some(&Kept::Hashed { from, to }) = slots[left.clone()].first().filter(|_| !left.is_empty())
        && from == state
    {
        let Some(step) = again(left.start, from, to) else {
            false_ones.push(left.start);
            break;
        };
        earlier.steps.push(step);
        (state, left.start) = (to, left.start + 1);
    }
    let mut state = expected.end();
    while let Some(&Kept::Hashed { from, to }) = slots[left.clone()].last()
        && to == state
    {
        let Some(step) = again(left.end - 1, from, to) else {
            false_ones.push(left.end - 1);
            break;
        };
        earlier.steps.push(step);
        (state, left.end) = (from, left.end - 1);
    }
    earlier.written = left.filter(|piece| slots[*piece] != Kept::Nothing && !false_ones.contains(piece)).collect();
    earlier
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::{ContentHash, PIECE_SIZE};

    fn file() -> (Vec<u8>, Expected) {
        let bytes: Vec<u8> = (0..5 * PIECE_SIZE + 7).map(|at| (at % 251) as u8).collect();
        let expected = Expected { hash: ContentHash::of(&bytes), size: bytes.len() as u64 };
        (bytes, expected)
    }

    fn piece<'a>(bytes: &'a [u8], expected: &Expected, piece: usize) -> &'a [u8] {
        let span = expected.span(piece);
        &bytes[span.start as usize..span.end as usize]
    }

    fn hashed(bytes: &[u8], expected: &Expected) -> Vec<Kept> {
        let mut from = State::INITIAL;
        let steps = (0..expected.pieces()).map(|index| {
            let step = Step::take(expected, index, from, piece(bytes, expected, index)).unwrap();
            let kept = Kept::Hashed { from, to: step.to() };
            from = step.to();
            kept
        });
        steps.collect()
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_a_torn_one_as_far_as_it_goes() {
        let (bytes, expected) = file();
        let slots_in = hashed(&bytes, &expected);
        let mut record = [MAGIC.to_vec(), expected.size.to_be_bytes().to_vec()].concat();
        slots_in.iter().for_each(|slot| record.extend(slot.encode()));
        assert_eq!(slots(&record, &expected).unwrap(), slots_in);
        record.truncate(HEAD + 2 * SLOT + 64);
        let torn = slots(&record, &expected).unwrap();
        assert_eq!((&torn[..2], &torn[2..]), (&slots_in[..2], &[Kept::Nothing; 4][..]));
        assert!(slots(&record, &Expected { size: 7, ..expected }).is_none());
        assert!(slots(b"huddle1", &expected).is_none() && slots(&[9; 80], &expected).is_none());
    }

    #[test]
    fn what_joins_an_end_is_hashed_again_and_what_is_false_by_then_is_dropped() {
        let (bytes, expected) = file();
        let whole = hashed(&bytes, &expected);
        let read = |at: usize| Ok(piece(&bytes, &expected, at).to_vec());
        let indices = |earlier: &Earlier| earlier.steps.iter().map(Step::index).collect::<Vec<_>>();
        assert_eq!(indices(&prove_again(&expected, &whole, read)), [0, 1, 2, 3, 4, 5]);

        let mut slots = whole.clone();
        slots[1] = Kept::Nothing;
        slots[3] = Kept::Written;
        let earlier = prove_again(&expected, &slots, read);
        assert_eq!((indices(&earlier), earlier.written), (vec![0, 5, 4], vec![2, 3]));

        // The disk lost the second and the last piece.
        let lossy = |at: usize| if at == 1 || at == 5 { Ok(vec![0; expected.piece_len(at)]) } else { read(at) };
        let earlier = prove_again(&expected, &whole, lossy);
        assert_eq!((indices(&earlier), earlier.written), (vec![0], vec![2, 3, 4]));
        let unreadable = prove_again(&expected, &whole, |_| Err(io::ErrorKind::UnexpectedEof.into()));
        assert_eq!((indices(&unreadable), unreadable.written), (vec![], vec![1, 2, 3, 4]));
        assert_eq!(prove_again(&expected, &[Kept::Nothing; 6], read), Earlier::default());
    }
}
