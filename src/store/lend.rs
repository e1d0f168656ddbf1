//! Lend: pieces of files that are still on their way, for peers that need the same.
//!
//! A [`Partial`](super::Partial) lends its pieces one by one; [`Store::offer`](super::Store::offer) finds them by the
//! file's hash, in memory alone. A loan ends with its partial: bytes of a download that failed are never given again,
//! while those of a file that was kept go on to whoever is reading them.
//!
//! **Security.** Two kinds of pieces are lent, and told apart on the wire. A *proven* one is joined to the signed digest,
//! and who gives it answers for it. One *from the mirror* is not proven yet: it is lent so that a crowd beside one slow
//! mirror can share out a file that nobody has whole, and nobody is convicted for it. What came from a peer and is not
//! proven is never lent, so that a lie goes one step and no further.

use std::{
    collections::HashMap,
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex},
};

use tokio::sync::broadcast;

use crate::hash::{ContentHash, Expected, PIECE_SIZE, PieceChain, Pieces};

use super::{Change, locked};

/// Most pieces of a file that is lent from before it is whole (4 GiB): a set of them is told in one header field.
pub const MAX_PIECES: usize = 8192;

/// What is known of a piece that is lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lent {
    /// It is joined to the signed digest.
    Proven,
    /// It came from the mirror to this host itself, and is not proven yet.
    FromMirror,
}

/// The pieces of one unfinished file that peers may have.
pub struct Loan {
    expected: Expected,
    file: Arc<File>,
    lots: Mutex<Lots>,
}

/// The two sets have no piece in common.
struct Lots {
    proven: Pieces,
    from_mirror: Pieces,
    chain: Option<PieceChain>,
}

impl Lots {
    fn lent(&self, piece: usize) -> Option<Lent> {
        let proven = self.proven.contains(piece).then_some(Lent::Proven);
        proven.or_else(|| self.from_mirror.contains(piece).then_some(Lent::FromMirror))
    }

    fn is_empty(&self) -> bool {
        self.proven.is_empty() && self.from_mirror.is_empty()
    }
}

impl Loan {
    pub(super) fn new(expected: Expected, file: Arc<File>) -> Self {
        let none = || Pieces::new(if is_lendable(&expected) { expected.pieces() } else { 0 });
        let lots = Lots { proven: none(), from_mirror: none(), chain: None };
        Self { expected, file, lots: Mutex::new(lots) }
    }

    /// What the file is to become.
    pub fn expected(&self) -> &Expected {
        &self.expected
    }

    /// Every piece that is lent now.
    pub fn pieces(&self) -> Pieces {
        let lots = locked(&self.lots);
        let mut all = lots.proven.clone();
        lots.from_mirror.iter().for_each(|piece| all.insert(piece));
        all
    }

    /// The file's piece hashes, when every one of them is proven.
    pub fn chain(&self) -> Option<PieceChain> {
        locked(&self.lots).chain.clone()
    }

    /// Whether all of these bytes, at least one, are lent; and as what, when not all are as good.
    pub fn lent(&self, bytes: &Range<u64>) -> Option<Lent> {
        if bytes.is_empty() || bytes.end > self.expected.size {
            return None;
        }
        let lots = locked(&self.lots);
        let mut pieces = (bytes.start / PIECE_SIZE) as usize..=((bytes.end - 1) / PIECE_SIZE) as usize;
        pieces.try_fold(Lent::Proven, |weakest, piece| match lots.lent(piece)? {
            Lent::Proven => Some(weakest),
            Lent::FromMirror => Some(Lent::FromMirror),
        })
    }

    /// Reads `length` bytes from `offset` on; an error when they are no longer lent.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let bytes = offset..offset + length as u64;
        let lent = || self.lent(&bytes).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
        lent()?;
        let mut read = vec![0; length];
        self.file.read_exact_at(&mut read, offset)?;
        // A piece is taken back before other bytes are written in its place: these were read before that.
        lent()?;
        Ok(read)
    }

    fn insert(&self, piece: usize, how: Lent) {
        let mut lots = locked(&self.lots);
        match how {
            Lent::Proven => {
                lots.from_mirror.remove(piece);
                lots.proven.insert(piece);
            }
            Lent::FromMirror if lots.proven.contains(piece) => {}
            Lent::FromMirror => lots.from_mirror.insert(piece),
        }
    }

    fn remove(&self, piece: usize) {
        let mut lots = locked(&self.lots);
        lots.from_mirror.remove(piece);
        lots.proven.remove(piece);
    }

    /// Takes everything back.
    fn revoke(&self) {
        let mut lots = locked(&self.lots);
        let none = Pieces::new(lots.proven.of());
        *lots = Lots { proven: none.clone(), from_mirror: none, chain: None };
    }
}

/// The loans of all partials, at most one a partial.
#[derive(Clone)]
pub(super) struct Loans {
    lent: Arc<Mutex<HashMap<ContentHash, Arc<Loan>>>>,
    changes: broadcast::Sender<Change>,
}

impl Loans {
    pub(super) fn new(changes: broadcast::Sender<Change>) -> Self {
        Self { lent: Arc::default(), changes }
    }

    /// What is lent of that file, if anything is.
    pub(super) fn of(&self, hash: ContentHash) -> Option<Arc<Loan>> {
        locked(&self.lent).get(&hash).filter(|loan| !locked(&loan.lots).is_empty()).cloned()
    }

    /// Lends a piece; the first one of a file is a [`Change::Lent`].
    pub(super) fn lend(&self, loan: &Arc<Loan>, piece: usize, how: Lent) {
        if !is_lendable(&loan.expected) {
            return;
        }
        loan.insert(piece, how);
        let mut lent = locked(&self.lent);
        if let std::collections::hash_map::Entry::Vacant(place) = lent.entry(loan.expected.hash) {
            place.insert(loan.clone());
            drop(lent);
            let _ = self.changes.send(Change::Lent(loan.expected));
        }
    }

    /// Takes a piece back.
    pub(super) fn unlend(&self, loan: &Loan, piece: usize) {
        loan.remove(piece);
    }

    /// Says that every piece hash of a file is proven.
    pub(super) fn lend_chain(&self, loan: &Loan, chain: PieceChain) {
        locked(&loan.lots).chain = Some(chain);
    }

    /// The partial is no more. What was kept is still read to its end by those who began.
    pub(super) fn end(&self, loan: &Arc<Loan>, kept: bool) {
        if !kept {
            loan.revoke();
        }
        let hash = loan.expected.hash;
        let mut lent = locked(&self.lent);
        if lent.get(&hash).is_some_and(|known| Arc::ptr_eq(known, loan)) {
            lent.remove(&hash);
            drop(lent);
            if !kept {
                let _ = self.changes.send(Change::Withdrawn(hash));
            }
        }
    }
}

/// Whether a file can be lent in parts: one of a single piece is whole as soon as that is proven.
fn is_lendable(expected: &Expected) -> bool {
    (2..=MAX_PIECES).contains(&expected.pieces())
}
