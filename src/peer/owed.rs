//! What a connection that owes answers must bring, and how long it may bring nothing: bytes by ones and twos hold a socket
//! and a task as well as silence does.

use std::time::{Duration, Instant};

/// Time without a byte after which a connection that owes answers is given up.
pub(super) const SILENCE: Duration = Duration::from_secs(10);
/// Bytes that must come, or a whole answer.
const LEAST: usize = 16 * 1024;
/// The time within which they must.
const WITHIN: Duration = Duration::from_secs(20);

/// What came since answers are due, or since the last mark that was reached.
#[derive(Debug)]
pub(super) struct Owed {
    bytes: usize,
    since: Instant,
}

impl Owed {
    /// Answers are due from now on.
    pub fn new(now: Instant) -> Self {
        Self { bytes: 0, since: now }
    }

    /// Bytes came.
    pub fn handle_bytes(&mut self, len: usize, now: Instant) {
        self.bytes += len;
        if self.bytes >= LEAST {
            *self = Self::new(now);
        }
    }

    /// A whole answer came.
    pub fn handle_answer(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// How long the next byte may be waited for.
    pub fn patience(&self, now: Instant) -> Duration {
        SILENCE.min((self.since + WITHIN).saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "only as an origin for differences")]
    fn start() -> Instant {
        Instant::now()
    }

    /// When a peer that sends so many bytes every nine seconds is given up, within ten minutes.
    fn given_up(bytes: usize) -> Option<u64> {
        let start = start();
        let mut owed = Owed::new(start);
        (0..600).step_by(9).find(|&second| {
            let now = start + Duration::from_secs(second);
            owed.handle_bytes(bytes, now);
            owed.patience(now) < Duration::from_secs(9)
        })
    }

    #[test]
    fn who_trickles_is_given_up_and_who_is_slow_is_not() {
        assert_eq!(given_up(1), Some(18));
        assert_eq!(given_up(5000), Some(18));
        assert_eq!(given_up(9 * 2000), None);
    }

    #[test]
    fn small_answers_are_answers() {
        let start = start();
        let mut owed = Owed::new(start);
        let later = start + Duration::from_secs(19);
        owed.handle_bytes(200, later);
        owed.handle_answer(later);
        assert_eq!(owed.patience(later), SILENCE);
    }
}
