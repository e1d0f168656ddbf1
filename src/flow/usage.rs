//! Whether apt comes by: how many requests, when the last one came, and what was only passed on.
#![expect(clippy::disallowed_methods, reason = "the clock for when apt was last here")]

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::archive::Location;

/// Files remembered that were passed on.
const MAX_PASSED: usize = 50;

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Counters {
    requests: AtomicU64,
    /// Seconds since 1970; 0 before the first.
    last: AtomicU64,
    passed: Mutex<VecDeque<Passed>>,
}

/// How apt uses this daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Requests since the start.
    pub requests: u64,
    /// When the last one came.
    pub last: Option<SystemTime>,
}

/// Why a mirror's answer was passed on, neither kept nor shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No archive's signature covers the file, as far as is known.
    NotVouched,
    /// It was asked for with a password.
    Password,
    /// Its URL has a query.
    Query,
}

/// A file that was passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Where it is: `host[:port]/path`, without passwords and query.
    pub location: String,
    /// Why.
    pub reason: Reason,
    /// When it was asked for.
    pub at: SystemTime,
}

impl Counters {
    /// A request came.
    pub(super) fn count(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.requests.fetch_add(1, Relaxed);
        self.last.store(now, Relaxed);
    }

    /// A file is passed on. One that was passed on lately is named once, as of now.
    pub(super) fn pass(&self, at: &Location, reason: Reason) {
        let location = format!("{}{}", at.authority(), at.path());
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        passed.retain(|passed| passed.location != location);
        passed.truncate(MAX_PASSED - 1);
        passed.push_front(Passed { location, reason, at: SystemTime::now() });
    }

    /// What was passed on lately, the latest first.
    pub(super) fn passed(&self) -> Vec<Passed> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
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

    #[test]
    fn what_was_passed_on_is_named_once_without_secrets_and_is_bounded() {
        let counters = Counters::default();
        let pass = |url: &str, reason| counters.pass(&Location::parse(url).unwrap(), reason);
        pass("http://m.example.org/a.deb?token=secret", Reason::Query);
        pass("http://me:secret@m.example.org/b.deb", Reason::Password);
        pass("http://m.example.org/a.deb", Reason::NotVouched);
        let passed: Vec<_> = counters.passed().into_iter().map(|passed| (passed.location, passed.reason)).collect();
        let named = |file: &str| format!("m.example.org/{file}.deb");
        assert_eq!(passed, [(named("a"), Reason::NotVouched), (named("b"), Reason::Password)]);
        (0..2 * MAX_PASSED).for_each(|n| pass(&format!("http://m.example.org/{n}.deb"), Reason::NotVouched));
        assert_eq!(counters.passed().len(), MAX_PASSED);
    }
}
