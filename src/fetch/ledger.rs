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
//! - When the front reaches a held piece whose state agrees, they join; joined to the end, the file is [`Verified`].
//!
//! **Blame.** A piece that fits no claim is thrown away. It convicts its source when both its states are known without a
//! claim, or when the source itself served the states that its piece contradicts. Otherwise it is a dispute, and the next copy that is proven shows who was wrong. A source that served a state which differs from a proven one is convicted by that alone:
//! honest peers serve only states that they have proven.

use std::collections::{HashMap, HashSet};

use crate::hash::{Expected, PieceChain, State, Step, Verified};

/// Distinct chains kept at a time; a true one costs its first supplier nothing to repeat.
const MAX_CLAIMS: usize = 8;
/// Failed copies remembered for one piece.
const MAX_UNFIT: usize = 16;

/// A source of bytes within one download; what it means is the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u32);

/// What became of a piece that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// It fits and is to be written.
    Kept,
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
        /// The piece.
        piece: usize,
    },
    /// This piece is on disk but was judged under a claim that turned out false: read it and judge it again.
    Reread {
        /// The piece.
        piece: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Missing,
    Held {
        step: Step,
        source: SourceId,
    },
    /// On disk, to be judged again.
    Doubted {
        source: SourceId,
    },
}

#[derive(Debug)]
struct Claim {
    chain: PieceChain,
    /// Sources that served it themselves; what others say of them is hearsay and not kept.
    suppliers: Vec<SourceId>,
}

/// Copies of one piece that differ, by fingerprints of their bytes.
#[derive(Debug, Default)]
struct Dispute {
    unfit: Vec<(SourceId, State)>,
    fit: Option<State>,
}

/// The ledger of one download.
#[derive(Debug)]
pub struct Ledger {
    expected: Expected,
    slots: Vec<Slot>,
    claims: Vec<Claim>,
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
}

impl Ledger {
    /// Nothing held, nothing claimed.
    pub fn new(expected: Expected) -> Self {
        let pieces = expected.pieces();
        Self {
            expected,
            slots: vec![Slot::Missing; pieces],
            claims: Vec::new(),
            front: 0,
            front_state: State::INITIAL,
            anchor: pieces,
            anchor_state: expected.end(),
            disputes: HashMap::new(),
            convicted: HashSet::new(),
            liars: Vec::new(),
            findings: Vec::new(),
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

    /// Pieces still to be fetched.
    pub fn missing(&self) -> usize {
        self.slots.iter().filter(|slot| **slot == Slot::Missing).count()
    }

    /// How many pieces from the first are joined to the initial value, and the state after them.
    pub fn front(&self) -> (usize, State) {
        (self.front, self.front_state)
    }

    /// The boundary from which on all states are proven.
    pub fn anchor(&self) -> usize {
        self.anchor
    }

    /// Whether any chain is claimed; without one, only a file of one piece can be judged piece by piece.
    pub fn has_claim(&self) -> bool {
        !self.claims.is_empty() || self.expected.pieces() == 1
    }

    /// Whether a chain of that digest is known here, be it that somebody vouches for it.
    pub fn vouch(&mut self, digest: crate::hash::ContentHash, source: SourceId) -> bool {
        let Some(claim) = self.claims.iter_mut().find(|claim| claim.chain.digest() == digest) else { return false };
        if !claim.suppliers.contains(&source) {
            claim.suppliers.push(source);
        }
        true
    }

    /// The piece that decides between the first two claims: behind it they agree, before it they differ.
    pub fn fork(&self) -> Option<usize> {
        let [first, second, ..] = &self.claims[..] else { return None };
        let (first, second) = (first.chain.states(), second.chain.states());
        (0..first.len()).rev().find(|&inner| first[inner] != second[inner]).map(|inner| inner + 1)
    }

    /// Findings since the last call, oldest first.
    #[must_use]
    pub fn poll_finding(&mut self) -> Option<Finding> {
        (!self.findings.is_empty()).then(|| self.findings.remove(0))
    }

    /// Somebody claims a chain: a source that served it itself, or, with `None`, hearsay. Says whether it is a new one:
    /// what fitted nothing before may fit now.
    pub fn handle_claim(&mut self, chain: PieceChain, supplier: Option<SourceId>) -> bool {
        if chain.states().len() + 1 != self.expected.pieces() {
            return false;
        }
        if let Some(piece) = self.contradiction(&chain) {
            if let Some(source) = supplier {
                self.convict(source, piece);
            }
            return false;
        }
        if let Some(claim) = self.claims.iter_mut().find(|claim| claim.chain == chain) {
            let known = &claim.suppliers;
            let new = supplier.filter(|source| !known.contains(source));
            claim.suppliers.extend(new);
            return false;
        }
        let has_room = self.claims.len() < MAX_CLAIMS;
        if has_room {
            self.claims.push(Claim { chain, suppliers: supplier.into_iter().collect() });
        }
        has_room
    }

    /// A whole piece came. `bytes` must be of the piece's length.
    pub fn handle_piece(&mut self, piece: usize, source: SourceId, bytes: &[u8]) -> Ruling {
        if matches!(self.slots[piece], Slot::Held { .. }) {
            return Ruling::Surplus;
        }
        let mut judged = false;
        for from in self.states_before(piece) {
            let step = Step::take(&self.expected, piece, from, bytes).expect("the caller gives whole pieces");
            judged = true;
            if self.fits(&step) {
                self.hold(step, source, Some(bytes));
                return Ruling::Kept;
            }
        }
        if !judged {
            return Ruling::Unjudged;
        }
        self.slots[piece] = Slot::Missing;
        self.blame(piece, source, bytes);
        Ruling::Unfit
    }

    /// Bytes are about to be streamed over the piece at the front. A held piece that does not join the front gives way:
    /// the two contradict each other and neither is proven.
    pub fn handle_overwrite(&mut self) {
        if self.front < self.anchor {
            self.slots[self.front] = Slot::Missing;
        }
    }

    /// A piece was hashed as it streamed in at the front. Its bytes are already written.
    pub fn handle_front(&mut self, step: Step, source: SourceId) {
        if step.index() == self.front && step.from() == self.front_state && self.front < self.anchor {
            self.hold(step, source, None);
        }
    }

    /// Every source that could give this piece has failed at it: the claims that ask for another are given up.
    pub fn handle_exhausted(&mut self, piece: usize) {
        self.disputes.remove(&piece);
        self.claims.clear();
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

    /// Forgets every piece and every claim, to begin again with other bytes; says who had sent what is thrown away.
    pub fn reset(&mut self) -> HashSet<SourceId> {
        let sender = |slot: &Slot| match slot {
            Slot::Held { source, .. } | Slot::Doubted { source } => Some(*source),
            Slot::Missing => None,
        };
        let senders = self.slots.iter().filter_map(sender).collect();
        let (findings, convicted) = (std::mem::take(&mut self.findings), std::mem::take(&mut self.convicted));
        *self = Self { findings, convicted, ..Self::new(self.expected) };
        senders
    }

    /// The states that the bytes of a piece may be hashed from: known from the front, or claimed.
    fn states_before(&self, piece: usize) -> Vec<State> {
        let mut states: Vec<State> = self.claims.iter().map(|claim| claim.chain.at(&self.expected, piece)).collect();
        if self.front == piece && self.anchor == piece + 1 {
            states.push(self.front_state);
        }
        let mut seen = Vec::with_capacity(states.len());
        states.retain(|state| {
            !seen.contains(state) && {
                seen.push(*state);
                true
            }
        });
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

    fn hold(&mut self, step: Step, source: SourceId, bytes: Option<&[u8]>) {
        let piece = step.index();
        self.slots[piece] = Slot::Held { step, source };
        if let (Some(dispute), Some(bytes)) = (self.disputes.get_mut(&piece), bytes) {
            dispute.fit = Some(fingerprint(&self.expected, piece, bytes));
        }
        self.extend_front();
        self.extend_anchor();
    }

    fn extend_front(&mut self) {
        while let Some(Slot::Held { step, .. }) = self.slots.get(self.front)
            && step.from() == self.front_state
        {
            self.front_state = step.to();
            self.front += 1;
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
            && let Slot::Held { step, source } = self.slots[piece]
        {
            if step.to() == self.anchor_state {
                self.anchor = piece;
                self.anchor_state = step.from();
                self.findings.push(Finding::Proven { source, piece });
                self.settle_dispute(piece);
                self.refute_claims();
            } else if piece < self.front {
                return self.doubt_front();
            } else {
                // Consistent under a claim that has been refuted since: its bytes may be the right ones all the same.
                return self.doubt(piece, source);
            }
        }
    }

    /// A piece is proven of which other copies fitted nothing: who sent other bytes is convicted.
    fn settle_dispute(&mut self, piece: usize) {
        let Some(Dispute { unfit, fit: Some(good) }) = self.disputes.remove(&piece) else { return };
        let liars = unfit.into_iter().filter(|(_, print)| *print != good);
        self.liars.extend(liars.map(|(source, _)| (source, piece)));
    }

    /// The front does not lead to the proven state behind it: at least one of its pieces is false. The claims say which.
    fn doubt_front(&mut self) {
        if self.claims.is_empty() {
            return;
        }
        for piece in 0..self.front {
            if let Slot::Held { source, .. } = self.slots[piece] {
                self.doubt(piece, source);
            }
        }
        self.front = 0;
        self.front_state = State::INITIAL;
    }

    fn doubt(&mut self, piece: usize, source: SourceId) {
        self.slots[piece] = Slot::Doubted { source };
        self.findings.push(Finding::Reread { piece });
    }

    /// Judges a doubted piece again from the bytes on disk.
    pub fn handle_reread(&mut self, piece: usize, bytes: &[u8]) {
        let Slot::Doubted { source } = self.slots[piece] else { return };
        if self.handle_piece(piece, source, bytes) != Ruling::Kept {
            self.slots[piece] = Slot::Missing;
            self.findings.push(Finding::Discarded { source, piece });
        }
    }

    /// Drops the claims that differ from the state just proven, and convicts who served them.
    fn refute_claims(&mut self) {
        let (expected, boundary, proven) = (self.expected, self.anchor, self.anchor_state);
        let (standing, refuted) = std::mem::take(&mut self.claims)
            .into_iter()
            .partition(|claim| claim.chain.at(&expected, boundary) == proven);
        self.claims = standing;
        let liars = refuted.into_iter().flat_map(|claim: Claim| claim.suppliers);
        self.liars.extend(liars.map(|source| (source, boundary)));
    }

    /// The boundary's piece at which a chain differs from what is proven.
    fn contradiction(&self, chain: &PieceChain) -> Option<usize> {
        let differs = |&boundary: &usize| chain.at(&self.expected, boundary) != self.proven_state(boundary);
        (self.anchor..self.slots.len()).find(differs)
    }

    /// A piece fitted nothing. Its source answers for it alone when the states on both sides are known without any claim,
    /// or when it served one of them itself.
    fn blame(&mut self, piece: usize, source: SourceId, bytes: &[u8]) {
        let between_known = piece == 0 && self.anchor == 1;
        if between_known || self.claims.iter().any(|claim| claim.suppliers.contains(&source)) {
            self.convict(source, piece);
            return;
        }
        let print = fingerprint(&self.expected, piece, bytes);
        let dispute = self.disputes.entry(piece).or_default();
        if dispute.unfit.len() < MAX_UNFIT {
            dispute.unfit.push((source, print));
        }
    }

    /// A convicted source's word counts no more: a claim that was its alone goes, and what it sent and is not proven is
    /// judged again without it.
    fn convict(&mut self, source: SourceId, piece: usize) {
        if !self.convicted.insert(source) {
            return;
        }
        self.findings.push(Finding::Convicted { source, piece });
        self.claims.retain_mut(|claim| {
            let alone = claim.suppliers == [source];
            claim.suppliers.retain(|supplier| *supplier != source);
            !alone
        });
        for piece in (0..self.anchor).rev() {
            match self.slots[piece] {
                Slot::Held { step, source: sender } if sender == source => {
                    if piece < self.front {
                        (self.front, self.front_state) = (piece, step.from());
                    }
                    self.doubt(piece, source);
                }
                _ => {}
            }
        }
    }
}

/// Names the bytes of a piece, whatever state leads to it.
fn fingerprint(expected: &Expected, piece: usize, bytes: &[u8]) -> State {
    Step::take(expected, piece, State::INITIAL, bytes).expect("the caller gives whole pieces").to()
}

#[cfg(test)]
mod tests;
