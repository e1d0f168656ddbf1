//! What an earlier download of the file left, and what this one leaves for the next.

use crate::store::{Earlier, Kept};

use super::Course;

impl Course {
    /// An earlier download left pieces on disk. To be told before anything else, and once.
    pub fn handle_earlier(&mut self, earlier: Earlier) {
        self.ledger.handle_earlier(earlier);
        self.attend();
    }

    /// A piece of which something else is known than before, to be noted for the next download, should this one be
    /// interrupted. Ask when every deed is done.
    #[must_use]
    pub fn poll_changed(&mut self) -> Option<(usize, Kept)> {
        self.ledger.poll_changed()
    }
}
