//! Whether anybody still waits for a download.

use std::time::{Duration, Instant};

/// How long a download goes on without readers before more than half of it is there.
const DESERTED: Duration = Duration::from_secs(30);

/// The readers of one download, as far as it matters that there are none.
#[derive(Debug, Default)]
pub struct Audience {
    gone_since: Option<Instant>,
}

impl Audience {
    /// Whether the download is to end: nobody has read for a while, and half of its pieces or more are missing.
    pub fn is_gone(&mut self, has_readers: bool, missing: usize, pieces: usize, now: Instant) -> bool {
        if has_readers || 2 * missing < pieces {
            self.gone_since = None;
            return false;
        }
        now > *self.gone_since.get_or_insert(now) + DESERTED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "only as an origin for differences")]
    fn a_download_without_readers_ends_after_a_while_unless_more_than_half_is_there() {
        let start = Instant::now();
        let (soon, later) = (start + Duration::from_secs(20), start + Duration::from_secs(31));
        let mut audience = Audience::default();
        assert!(!audience.is_gone(false, 1, 1, start));
        assert!(!audience.is_gone(false, 1, 1, soon));
        assert!(audience.is_gone(false, 1, 1, later));
        assert!(!audience.is_gone(true, 1, 1, later), "somebody came back");
        assert!(!audience.is_gone(false, 1, 1, later + DESERTED), "and left again");
        let mut audience = Audience::default();
        assert!(!audience.is_gone(false, 5, 10, start));
        assert!(!audience.is_gone(false, 4, 10, soon));
        assert!(!audience.is_gone(false, 4, 10, later + DESERTED));
        let mut audience = Audience::default();
        assert!(!audience.is_gone(false, 5, 10, start));
        assert!(audience.is_gone(false, 5, 10, later));
    }
}
