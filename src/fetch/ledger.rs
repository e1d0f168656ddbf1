//! What has been shown about each piece of a file, by whom, and who lied.
//!
//! ```text
//!  boundary  0     1     2     3     4     5     6     7     8 = n
//!            IV    M1    M2    M3    M4    M5    M6    M7    digest
//!            |--0--|--1--|--2--|  3  |  4  |  5  |--6--|--7--|
//!            +-- from the front ---->             <----- from the back, proven
//!                                front = 3        anchor = 6
//! ```
//!
//! - Pieces before `front` joined the initial value one after another; their bytes are as good as their source.
//! - From boundary `anchor` to the end every state is proven: bytes were hashed from it to the signed digest.
//! - Between the two, a held piece led its state in a claimed chain to the next one: it is consistent, not yet proven.
//! - Where nobody claims a chain, a piece can be *raw*: on disk and not judged, whatever its source says of it. It is hashed
//!   when the front reaches it, or when a chain turns up.
//! - When the front reaches a held piece whose state agrees, they join; joined to the end, the file is [`Verified`].
//!
//! **Forks.** Chains that differ are compared before data is asked for under them. Behind their last difference they
//! agree, so the piece that leads from it, the fork, decides: from two states no one piece leads to the same third. The
//! claim that it does not fit is set aside, and convicts who served it once the true state there is proven ([`forks`]).
//!
//! **Blame.** A piece that fits no claim is thrown away. It convicts its source when both its states are known without a
//! claim, or when the source itself served the states that its piece contradicts. Otherwise it is a dispute, and the next
//! copy that is proven shows who was wrong. A source that served a state which differs from a proven one, or two chains
//! for one file, is convicted by that alone: honest peers serve only states that they have proven. Who passes on a
//! mirror's bytes as unproven ([`Grade::Raw`]) answers for nothing and is never convicted for them.

mod blame;
mod doubt;
mod earlier;
mod forks;

use std::collections::{HashMap, HashSet};

use crate::hash::{Expected, PieceChain, State, Step, Verified};

use blame::Dispute;
pub use earlier::EARLIER;
use forks::Claim;

/// A source of bytes within one download.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u32);

/// The mirror, as a source; peers are counted from 1.
pub const MIRROR: SourceId = SourceId(0);

/// What a source says of the piece that it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grade {
    /// It has proven it, and answers for it.
    Proven,
    /// It has it from a mirror and cannot prove it yet.
    Raw,
}

/// What became of a piece that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// It fits and is to be written.
    Kept,
    /// It cannot be judged yet, and is to be written all the same.
    Raw,
    /// It is held already.
    Surplus,
    /// It fits nothing that is claimed: throw it away and ask another source.
    Unfit,
    /// It cannot be judged: no state before it is known or claimed.
    Unjudged,
}

/// What the ledger found out beside the ruling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// This source sent a false piece, or served a false state.
    Convicted {
        /// The liar.
        source: SourceId,
        /// The piece by which it was found out.
        piece: usize,
    },
    /// This piece of this source is proven good.
    Proven {
        /// Who sent it.
        source: SourceId,
        /// The piece.
        piece: usize,
    },
    /// This piece had been taken for good and is not: it has to be fetched again.
    Discarded {
        /// Who had sent it.
        source: SourceId,
        /// What it had said of it.
        grade: Grade,
        /// The piece.
        piece: usize,
    },
    /// This piece is on disk and not judged, or judged under a claim that turned out false: read it and judge it.
    Reread {
        /// The piece.
        piece: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Missing,
    /// On disk, not judged: nothing to judge it by was known.
    Raw {
        source: SourceId,
        grade: Grade,
    },
    Held {
        step: Step,
        source: SourceId,
        grade: Grade,
    },
    /// On disk, to be judged again.
    Doubted {
        source: SourceId,
        grade: Grade,
    },
}

impl Slot {
    fn sender(&self) -> Option<(SourceId, Grade)> {
        match *self {
            Self::Missing => None,
            Self::Raw { source, grade } | Self::Held { source, grade, .. } | Self::Doubted { source, grade } => {
                Some((source, grade))
            }
        }
    }
}

/// The ledger of one download.
#[derive(Debug)]
pub struct Ledger {
    expected: Expected,
    slots: Vec<Slot>,
    missing: usize,
    /// Pieces of peers that are held and not proven.
    unproven: usize,
    claims: Vec<Claim>,
    /// Claims that nobody is to be believed by any more, kept for the day of proof.
    set_aside: Vec<Claim>,
    front: usize,
    front_state: State,
    anchor: usize,
    anchor_state: State,
    /// Pieces of which a copy fitted nothing.
    disputes: HashMap<usize, Dispute>,
    convicted: HashSet<SourceId>,
    /// To be convicted as soon as the anchor stands still.
    liars: Vec<(SourceId, usize)>,
    findings: Vec<Finding>,
    /// Pieces of which something else is known than before.
    changed: Vec<usize>,
}

impl Ledger {
    /// Nothing held, nothing claimed.
    pub fn new(expected: Expected) -> Self {
        let pieces = expected.pieces();
        Self {
            expected,
            slots: vec![Slot::Missing; pieces],
            missing: pieces,
            unproven: 0,
            claims: Vec::new(),
            set_aside: Vec::new(),
            front: 0,
            front_state: State::INITIAL,
            anchor: pieces,
            anchor_state: expected.end(),
            disputes: HashMap::new(),
            convicted: HashSet::new(),
            liars: Vec::new(),
            findings: Vec::new(),
            changed: Vec::new(),
        }
    }

    /// The file.
    pub fn expected(&self) -> &Expected {
        &self.expected
    }

    /// Whether that piece has still to be fetched.
    pub fn is_missing(&self, piece: usize) -> bool {
        self.slots[piece] == Slot::Missing
    }

    /// Who sent the bytes of that piece that are on disk, if any are.
    pub fn sender(&self, piece: usize) -> Option<SourceId> {
        self.slots[piece].sender().map(|(source, _)| source)
    }

    /// Pieces still to be fetched.
    pub fn missing(&self) -> usize {
        self.missing
    }

    /// Pieces of peers that are held, or lie there raw, and not proven.
    pub fn unproven(&self) -> usize {
        self.unproven
    }

    /// Whether the piece at the front is there and does not join: one of the two is false, and neither is proven.
    pub fn is_contradicted(&self) -> bool {
        self.front < self.anchor && matches!(self.slots[self.front], Slot::Held { .. })
    }

    /// Whether that piece lies on disk without having been judged.
    pub fn is_raw(&self, piece: usize) -> bool {
        matches!(self.slots[piece], Slot::Raw { .. })
    }

    /// How many pieces from the first are joined to the initial value, and the state after them.
    pub fn front(&self) -> (usize, State) {
        (self.front, self.front_state)
    }

    /// How many of the pieces before the front peers sent.
    pub fn front_of_peers(&self) -> usize {
        let of_peer = |slot: &&Slot| slot.sender().is_some_and(|(source, _)| source != MIRROR);
        self.slots[..self.front.min(self.anchor)].iter().filter(of_peer).count()
    }

    /// The boundary from which on all states are proven.
    pub fn anchor(&self) -> usize {
        self.anchor
    }

    /// The chain, once every state of it is proven: the anchor has come to the first piece.
    pub fn proven_chain(&self) -> Option<PieceChain> {
        if self.anchor > 1 || self.slots.len() == 1 {
            return None;
        }
        let states = (1..self.slots.len()).map(|boundary| self.proven_state(boundary));
        let bytes: Vec<u8> = states.flat_map(|state| *state.as_bytes()).collect();
        Some(PieceChain::decode(&self.expected, &bytes).expect("a state for each inner boundary"))
    }

    /// Findings since the last call, oldest first.
    #[must_use]
    pub fn poll_finding(&mut self) -> Option<Finding> {
        (!self.findings.is_empty()).then(|| self.findings.remove(0))
    }

    /// A whole piece came. `bytes` must be of the piece's length.
    pub fn handle_piece(&mut self, piece: usize, source: SourceId, grade: Grade, bytes: &[u8]) -> Ruling {
        if !matches!(self.slots[piece], Slot::Missing | Slot::Doubted { .. }) {
            return Ruling::Surplus;
        }
        let mut fitting = None;
        let states = self.states_before(piece);
        for &from in &states {
            let step = Step::take(&self.expected, piece, from, bytes).expect("the caller gives whole pieces");
            if self.fits(&step) {
                fitting = Some(step);
                break;
            }
        }
        if let Some(step) = fitting {
            self.hold(step, source, grade, Some(bytes));
            return Ruling::Kept;
        }
        if states.is_empty() {
            if self.claims.is_empty() && !self.convicted.contains(&source) {
                self.put(piece, Slot::Raw { source, grade });
                self.read_raw_front();
                return Ruling::Raw;
            }
            return Ruling::Unjudged;
        }
        self.put(piece, Slot::Missing);
        if grade == Grade::Proven {
            self.blame(piece, source, bytes);
        }
        Ruling::Unfit
    }

    /// Bytes are about to be streamed over the piece at the front. A held piece that does not join the front gives way:
    /// the two contradict each other and neither is proven.
    pub fn handle_overwrite(&mut self) {
        if self.front < self.anchor {
            self.put(self.front, Slot::Missing);
        }
    }

    /// A piece of the mirror's was hashed as it streamed in at the front. Its bytes are already written.
    pub fn handle_front(&mut self, step: Step) {
        if step.index() == self.front && step.from() == self.front_state && self.front < self.anchor {
            self.hold(step, MIRROR, Grade::Raw, None);
        }
    }

    /// Judges a piece from the bytes on disk.
    pub fn handle_reread(&mut self, piece: usize, bytes: &[u8]) {
        match self.slots[piece] {
            Slot::Raw { source, grade }
                if piece == self.front && self.claims.is_empty() && self.front < self.anchor =>
            {
                let step = Step::take(&self.expected, piece, self.front_state, bytes).expect("a whole piece is read");
                self.hold(step, source, grade, None);
            }
            Slot::Doubted { source, grade } => {
                match self.handle_piece(piece, source, grade, bytes) {
                    Ruling::Kept | Ruling::Raw => return,
                    Ruling::Unjudged | Ruling::Unfit | Ruling::Surplus => self.put(piece, Slot::Missing),
                }
                self.findings.push(Finding::Discarded { source, grade, piece });
            }
            Slot::Raw { .. } | Slot::Held { .. } | Slot::Missing => {}
        }
    }

    /// The proof of the whole file, once every piece joins.
    pub fn verified(&self) -> Option<Verified> {
        if self.front < self.slots.len() {
            return None;
        }
        let steps = self.slots.iter().filter_map(|slot| match slot {
            Slot::Held { step, .. } => Some(*step),
            _ => None,
        });
        Verified::join(&self.expected, steps).ok()
    }

    /// Whether the front met what is proven behind it without agreeing, and no claim says which piece is false.
    pub fn is_hopeless(&self) -> bool {
        self.front >= self.anchor && self.front_state != self.proven_state(self.front) && self.claims.is_empty()
    }

    /// The states that the bytes of a piece may be hashed from: known from the front, or claimed.
    fn states_before(&self, piece: usize) -> Vec<State> {
        let mut states: Vec<State> = Vec::new();
        let closes = self.front == piece && self.anchor == piece + 1;
        let claimed = self.claims.iter().map(|claim| claim.chain.at(&self.expected, piece));
        for state in claimed.chain(closes.then_some(self.front_state)) {
            if !states.contains(&state) {
                states.push(state);
            }
        }
        states
    }

    fn fits(&self, step: &Step) -> bool {
        let after = step.index() + 1;
        if self.anchor <= after {
            return step.to() == self.proven_state(after);
        }
        let follows = |claim: &Claim| {
            claim.chain.at(&self.expected, step.index()) == step.from()
                && claim.chain.at(&self.expected, after) == step.to()
        };
        self.claims.iter().any(follows)
    }

    /// The proven state at a boundary at or behind the anchor.
    fn proven_state(&self, boundary: usize) -> State {
        if boundary == self.anchor {
            return self.anchor_state;
        }
        match self.slots[boundary - 1] {
            Slot::Held { step, .. } => step.to(),
            _ => unreachable!("every piece behind the anchor is held"),
        }
    }

    fn put(&mut self, piece: usize, slot: Slot) {
        let old = std::mem::replace(&mut self.slots[piece], slot);
        let weight = |slot: &Slot| {
            let of_peer = slot.sender().is_some_and(|(source, _)| source != MIRROR);
            (usize::from(*slot == Slot::Missing), usize::from(of_peer))
        };
        self.missing = self.missing + weight(&slot).0 - weight(&old).0;
        self.unproven = self.unproven + weight(&slot).1 - weight(&old).1;
        self.changed.push(piece);
    }

    fn hold(&mut self, step: Step, source: SourceId, grade: Grade, bytes: Option<&[u8]>) {
        let piece = step.index();
        self.put(piece, Slot::Held { step, source, grade });
        bytes.into_iter().for_each(|bytes| self.handle_copy(piece, bytes));
        self.weigh_claims(&step);
        self.extend_front();
        self.extend_anchor();
    }

    fn extend_front(&mut self) {
        let before = self.front;
        while let Some(Slot::Held { step, .. }) = self.slots.get(self.front)
            && step.from() == self.front_state
        {
            self.front_state = step.to();
            self.front += 1;
        }
        if self.front != before {
            self.read_raw_front();
        }
    }

    /// A raw piece that the front has reached can be hashed.
    fn read_raw_front(&mut self) {
        if self.claims.is_empty() && self.slots.get(self.front).is_some_and(|slot| matches!(slot, Slot::Raw { .. })) {
            self.findings.push(Finding::Reread { piece: self.front });
        }
    }

    fn extend_anchor(&mut self) {
        self.advance_anchor();
        // Only now, so that nothing is judged again which the same run proves.
        for (source, piece) in std::mem::take(&mut self.liars) {
            self.convict(source, piece);
        }
    }

    fn advance_anchor(&mut self) {
        while let Some(piece) = self.anchor.checked_sub(1)
            && let Slot::Held { step, source, grade } = self.slots[piece]
        {
            if step.to() == self.anchor_state {
                self.anchor = piece;
                self.anchor_state = step.from();
                self.unproven -= usize::from(source != MIRROR);
                self.findings.push(Finding::Proven { source, piece });
                self.settle_dispute(piece);
                self.refute_claims();
            } else if piece < self.front {
                return self.doubt_front();
            } else {
                // Consistent under a claim that has been refuted since: its bytes may be the right ones all the same.
                return self.doubt(piece, source, grade);
            }
        }
    }

    /// The front does not lead to the proven state behind it: at least one of its pieces is false. The claims say which.
    fn doubt_front(&mut self) {
        if self.claims.is_empty() {
            return;
        }
        for piece in 0..self.front {
            if let Slot::Held { source, grade, .. } = self.slots[piece] {
                self.doubt(piece, source, grade);
            }
        }
        self.front = 0;
        self.front_state = State::INITIAL;
    }

    fn doubt(&mut self, piece: usize, source: SourceId, grade: Grade) {
        self.put(piece, Slot::Doubted { source, grade });
        self.findings.push(Finding::Reread { piece });
    }
}

#[cfg(test)]
mod tests;
