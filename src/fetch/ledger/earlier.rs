//! What an earlier download of the file left, and what this one leaves for the next.

use crate::store::{Earlier, Kept};

use super::{Grade, Ledger, Slot, SourceId};

/// An earlier download, as a source. It answers for nothing: a power cut may have taken any of its bytes.
pub const EARLIER: SourceId = SourceId(u32::MAX);

impl Ledger {
    /// An earlier download left pieces. To be told before anything else, and once.
    pub fn handle_earlier(&mut self, earlier: Earlier) {
        for step in earlier.steps {
            self.hold(step, EARLIER, Grade::Raw, None);
        }
        for piece in earlier.written {
            if self.is_missing(piece) {
                self.put(piece, Slot::Raw { source: EARLIER, grade: Grade::Raw });
            }
        }
        self.read_raw_front();
        // It is noted already.
        self.changed.clear();
    }

    /// A piece of which something else is known than when this was last asked; a piece may come up more than once.
    #[must_use]
    pub fn poll_changed(&mut self) -> Option<(usize, Kept)> {
        let piece = self.changed.pop()?;
        let kept = match self.slots[piece] {
            Slot::Missing => Kept::Nothing,
            Slot::Raw { .. } | Slot::Doubted { .. } => Kept::Written,
            Slot::Held { step, .. } => Kept::Hashed { from: step.from(), to: step.to() },
        };
        Some((piece, kept))
    }
}
