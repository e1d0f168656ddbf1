//! Who lied: copies that fit nothing, disputes that a proven copy settles, and convictions.

use crate::hash::{Expected, State, Step};

use super::{Finding, Ledger, MIRROR, Slot, SourceId};

/// Failed copies remembered for one piece.
const MAX_UNFIT: usize = 16;

/// Copies of one piece that differ, by fingerprints of their bytes.
#[derive(Debug, Default)]
pub(super) struct Dispute {
    unfit: Vec<(SourceId, State)>,
    fit: Option<State>,
}

impl Ledger {
    /// Whether copies of that piece were thrown away that a good one can tell from honest ones.
    pub fn is_disputed(&self, piece: usize) -> bool {
        self.disputes.contains_key(&piece)
    }

    /// The bytes of a disputed piece that is about to be held; a part of the piece is of no use.
    pub fn handle_copy(&mut self, piece: usize, bytes: &[u8]) {
        if let Some(dispute) = self.disputes.get_mut(&piece)
            && bytes.len() == self.expected.piece_len(piece)
        {
            dispute.fit = Some(fingerprint(&self.expected, piece, bytes));
        }
    }

    /// A piece is proven of which other copies fitted nothing: who sent other bytes is convicted.
    pub(super) fn settle_dispute(&mut self, piece: usize) {
        let Some(Dispute { unfit, fit: Some(good) }) = self.disputes.remove(&piece) else { return };
        let liars = unfit.into_iter().filter(|(_, print)| *print != good);
        self.liars.extend(liars.map(|(source, _)| (source, piece)));
    }

    /// A piece fitted nothing. Its source answers for it alone when the states on both sides are known without any claim,
    /// or when it served one of them itself.
    pub(super) fn blame(&mut self, piece: usize, source: SourceId, bytes: &[u8]) {
        let between_known = piece == 0 && self.anchor == 1;
        if between_known || self.has_word_of(source) {
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
    pub(super) fn convict(&mut self, source: SourceId, piece: usize) {
        if source == MIRROR || !self.convicted.insert(source) {
            return;
        }
        self.findings.push(Finding::Convicted { source, piece });
        self.forget_word_of(source);
        for piece in (0..self.anchor).rev() {
            match self.slots[piece] {
                Slot::Held { step, source: sender, grade } if sender == source => {
                    if piece < self.front {
                        (self.front, self.front_state) = (piece, step.from());
                    }
                    self.doubt(piece, source, grade);
                }
                Slot::Raw { source: sender, grade } if sender == source => {
                    self.put(piece, Slot::Missing);
                    self.findings.push(Finding::Discarded { source, grade, piece });
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
