//! What is taken back when nobody can say what is false.

use std::collections::HashSet;

use crate::hash::State;

use super::{Finding, Grade, Ledger, MIRROR, Slot, SourceId};

impl Ledger {
    /// Nobody can say which piece of the front is false: what peers sent and is not proven is thrown away, what the
    /// mirror sent is judged again from the first piece on. Says who is left out for it: the mirror, if it was alone.
    pub fn handle_distrust(&mut self) -> HashSet<SourceId> {
        let senders = |ledger: &Self| -> HashSet<SourceId> {
            ledger.slots[..ledger.anchor].iter().filter_map(|slot| slot.sender().map(|(source, _)| source)).collect()
        };
        let mut distrusted = senders(self);
        if distrusted.iter().any(|source| *source != MIRROR) {
            distrusted.remove(&MIRROR);
        }
        for piece in 0..self.anchor {
            match self.slots[piece].sender() {
                Some((source, grade)) if distrusted.contains(&source) => {
                    self.put(piece, Slot::Missing);
                    self.findings.push(Finding::Discarded { source, grade, piece });
                }
                Some((source, grade)) => self.put(piece, Slot::Raw { source, grade }),
                None => {}
            }
        }
        (self.front, self.front_state) = (0, State::INITIAL);
        self.read_raw_front();
        distrusted
    }

    /// What the mirror sent is not of the file that it has now: all of it that is not proven is thrown away.
    /// Says which pieces.
    pub fn handle_mirror_changed(&mut self) -> Vec<usize> {
        let mut forgotten = Vec::new();
        for piece in 0..self.anchor {
            match self.slots[piece].sender() {
                Some((MIRROR, _)) => {
                    self.put(piece, Slot::Missing);
                    forgotten.push(piece);
                }
                Some((source, grade @ Grade::Raw)) => self.put(piece, Slot::Raw { source, grade }),
                _ => {}
            }
        }
        (self.front, self.front_state) = (0, State::INITIAL);
        self.extend_front();
        forgotten
    }
}
