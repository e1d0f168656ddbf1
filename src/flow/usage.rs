//! Whether apt comes by: how many requests, and when the last one came.
#![expect(clippy::disallowed_methods, reason = "the clock for when apt was last here")]

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Counters {
    requests: AtomicU64,
    /// Seconds since 1970; 0 before the first.
    last: AtomicU64,
}

/// How apt uses this daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Requests since the start.
    pub requests: u64,
    /// When the last one came.
    pub last: Option<SystemTime>,
}

impl Counters {
    /// A request came.
    pub(super) fn count(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.requests.fetch_add(1, Relaxed);
        self.last.store(now, Relaxed);
    }

    /// The figures now.
    pub(super) fn usage(&self) -> Usage {
        let last = Some(self.last.load(Relaxed)).filter(|last| *last > 0);
        let last = last.map(|last| UNIX_EPOCH + Duration::from_secs(last));
        Usage { requests: self.requests.load(Relaxed), last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_first_request_there_is_no_last_one() {
        let counters = Counters::default();
        assert_eq!(counters.usage(), Usage::default());
        counters.count();
        counters.count();
        let usage = counters.usage();
        assert!(usage.requests == 2 && usage.last.is_some_and(|last| last <= SystemTime::now()));
    }
}
