//! The mirror's stream ended in trouble: what is tried again, and what has to come anew.

use std::time::Instant;

use crate::{fetch::io::growing::Failure, mirror::Trouble};

use super::Flight;

impl Flight<'_> {
    pub(super) fn handle_trouble(&mut self, trouble: &Trouble, now: Instant) {
        let fatal = matches!(trouble, Trouble::Forbidden(_) | Trouble::Redirects);
        self.lose_stream(fatal, Failure::NoSource(trouble.to_string()), now);
        // What the mirror sent before is of another version than what it has now. Claimed piece hashes tell which is
        // right; without any, all of it comes anew.
        if matches!(trouble, Trouble::Changed) && !self.ledger.has_claim() {
            self.broken_off = None;
            self.taint(0);
            self.ledger.reset();
        }
    }
}
