//! Mirrors that fail are not waited for again and again: one circuit breaker a host.
//!
//! ```text
//!            FAILURES in a row                   the pause is over
//!   closed ---------------------> open --------------------------------> half-open: one request tries
//!     ^                             ^  <------------------------------------'  |
//!     '---------- an answer --------+-------- it fails: a longer pause --------'
//! ```
//!
//! A machine without clock or sockets. Only hosts that cannot be reached, fall silent before they answer or speak no HTTP
//! count as failing; a refusal is an answer. While a circuit is open, requests for which another mirror is at hand go there
//! at once. Those that have nobody else are refused with the reason of the last failure, but for [`LONGEST_ALONE`] at most,
//! so that a host that is back is never taken for dead much longer than apt itself would have; while one of them tries,
//! the others wait for what comes of it.
//!
//! **Security.** Clients name the hosts, so there is a bound on those remembered; the ones in good order go first.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Failures in a row that open a circuit.
const FAILURES: u32 = 5;
/// The first pause of an open circuit; it doubles with each further failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause when another mirror can serve.
const LONGEST: Duration = Duration::from_secs(300);
/// The longest pause when none can.
pub const LONGEST_ALONE: Duration = Duration::from_secs(5);
/// How long a host that was slow is passed by when another mirror can serve.
const SLOW: Duration = Duration::from_secs(60);
/// Hosts remembered at most.
const MAX_HOSTS: usize = 512;
/// Bytes remembered of why a host failed.
const MAX_REASON: usize = 200;

/// Whether a request may go to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Pass,
    /// It may, and what comes of it decides: every probe is told of with one of the `handle_*`.
    Probe,
    /// Another request tries just now: ask again when that is over.
    Wait,
    /// It may not.
    Open {
        /// Failures in a row.
        failures: u32,
        /// Why the last one failed.
        why: String,
    },
}

/// A host that failed last time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// `host` or `host:port`.
    pub host: String,
    /// Failures in a row.
    pub failures: u32,
    /// Whether its circuit is open.
    pub is_open: bool,
    /// Time until a request that could go elsewhere tries it again.
    pub retry_in: Duration,
    /// Why the last one failed.
    pub why: String,
}

/// The circuit breakers of all hosts.
#[derive(Debug, Default)]
pub struct Breakers {
    hosts: HashMap<String, Breaker>,
    /// Hosts that are passed by where that costs nothing, until then.
    slow: HashMap<String, Instant>,
}

#[derive(Debug)]
struct Breaker {
    failures: u32,
    failed: Instant,
    probing: bool,
    why: String,
}

impl Breaker {
    fn is_open(&self) -> bool {
        self.failures >= FAILURES
    }

    fn retry_at(&self, longest: Duration) -> Instant {
        let doublings = self.failures.saturating_sub(FAILURES).min(16);
        self.failed + FIRST_PAUSE.saturating_mul(1 << doublings).min(longest)
    }
}

impl Breakers {
    /// Whether a request may go to a host. `has_other`: another mirror can serve it.
    pub fn admit(&mut self, host: &str, has_other: bool, now: Instant) -> Admission {
        let Some(breaker) = self.hosts.get_mut(host).filter(|breaker| breaker.is_open()) else {
            return Admission::Pass;
        };
        let longest = if has_other { LONGEST } else { LONGEST_ALONE };
        if breaker.probing && !has_other {
            return Admission::Wait;
        }
        if breaker.probing || now < breaker.retry_at(longest) {
            return Admission::Open { failures: breaker.failures, why: breaker.why.clone() };
        }
        breaker.probing = true;
        Admission::Probe
    }

    /// Whether a request that could go elsewhere had better do so: the circuit is open, or the host was slow of late.
    pub fn is_shunned(&self, host: &str, now: Instant) -> bool {
        let is_open = |breaker: &Breaker| breaker.is_open() && (breaker.probing || now < breaker.retry_at(LONGEST));
        self.hosts.get(host).is_some_and(is_open) || self.slow.get(host).is_some_and(|until| now < *until)
    }

    /// The host was slow while another mirror was at hand.
    pub fn handle_slow(&mut self, host: &str, now: Instant) {
        self.slow.retain(|_, until| now < *until);
        if self.slow.len() < MAX_HOSTS {
            self.slow.insert(host.to_owned(), now + SLOW);
        }
    }

    /// The host answered.
    pub fn handle_answer(&mut self, host: &str) {
        self.hosts.remove(host);
    }

    /// The host failed.
    pub fn handle_failure(&mut self, host: &str, why: &str, now: Instant) {
        if self.hosts.len() >= MAX_HOSTS && !self.hosts.contains_key(host) {
            let least =
                self.hosts.iter().min_by_key(|(_, breaker)| (breaker.probing, breaker.is_open(), breaker.failed));
            let least = least.map(|(host, _)| host.clone());
            least.map(|host| self.hosts.remove(&host));
        }
        let why: String = why.chars().take(MAX_REASON).collect();
        let fresh = || Breaker { failures: 0, failed: now, probing: false, why: String::new() };
        let breaker = self.hosts.entry(host.to_owned()).or_insert_with(fresh);
        let failures = breaker.failures.saturating_add(1);
        *breaker = Breaker { failures, failed: now, probing: false, why };
    }

    /// A probe was given up before anything came of it.
    pub fn handle_abandoned(&mut self, host: &str) {
        if let Some(breaker) = self.hosts.get_mut(host) {
            breaker.probing = false;
        }
    }

    /// The hosts that failed last time, in the order of their names.
    pub fn failing(&self, now: Instant) -> Vec<Failing> {
        let failing = |(host, breaker): (&String, &Breaker)| Failing {
            host: host.clone(),
            failures: breaker.failures,
            is_open: breaker.is_open(),
            retry_in: if breaker.is_open() {
                breaker.retry_at(LONGEST) - now.min(breaker.retry_at(LONGEST))
            } else {
                Duration::ZERO
            },
            why: breaker.why.clone(),
        };
        let mut all: Vec<_> = self.hosts.iter().map(failing).collect();
        all.sort_by(|a, b| a.host.cmp(&b.host));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "mirror.example.org";

    #[expect(clippy::disallowed_methods, reason = "only as an origin for differences")]
    fn start() -> Instant {
        Instant::now()
    }

    fn broken(now: Instant) -> Breakers {
        let mut breakers = Breakers::default();
        for _failure in 0..FAILURES {
            assert_eq!(breakers.admit(HOST, false, now), Admission::Pass);
            breakers.handle_failure(HOST, "connection refused", now);
        }
        breakers
    }

    #[test]
    fn failures_in_a_row_open_a_circuit_and_one_answer_closes_it() {
        let now = start();
        let mut breakers = broken(now);
        let refused = Admission::Open { failures: FAILURES, why: "connection refused".into() };
        assert_eq!(breakers.admit(HOST, false, now), refused);
        assert_eq!(breakers.admit("other.example.org", false, now), Admission::Pass);
        assert_eq!(breakers.admit(HOST, false, now + FIRST_PAUSE), Admission::Probe);
        breakers.handle_answer(HOST);
        assert_eq!(breakers.admit(HOST, false, now), Admission::Pass);
        for _round in 0..3 * FAILURES {
            breakers.handle_failure(HOST, "x", now);
            breakers.handle_answer(HOST);
        }
        assert_eq!(breakers.admit(HOST, false, now), Admission::Pass, "an answer in between ends a row");
    }

    #[test]
    fn one_request_tries_while_those_without_another_mirror_wait_and_those_with_one_go_there() {
        let now = start();
        let mut breakers = broken(now);
        let later = now + FIRST_PAUSE;
        assert_eq!(breakers.admit(HOST, true, later), Admission::Probe);
        assert_eq!(breakers.admit(HOST, false, later), Admission::Wait);
        assert!(matches!(breakers.admit(HOST, true, later), Admission::Open { .. }));
        breakers.handle_abandoned(HOST);
        assert_eq!(breakers.admit(HOST, false, later), Admission::Probe, "the next one tries");
        breakers.handle_failure(HOST, "silence", later);
        assert!(matches!(breakers.admit(HOST, false, later), Admission::Open { why, .. } if why == "silence"));
    }

    #[test]
    fn pauses_grow_and_stay_short_for_those_who_have_nobody_else() {
        let mut now = start();
        let mut breakers = broken(now);
        let mut last = Duration::ZERO;
        for _probe in 0..20 {
            breakers.handle_failure(HOST, "x", now);
            let pause = breakers.failing(now)[0].retry_in;
            assert!(pause >= last && pause <= LONGEST);
            assert!(matches!(
                breakers.admit(HOST, true, now + pause - Duration::from_millis(1)),
                Admission::Open { .. }
            ));
            last = pause;
            assert_eq!(breakers.admit(HOST, false, now + pause.min(LONGEST_ALONE)), Admission::Probe);
            now += pause;
        }
        assert_eq!(last, LONGEST);
    }

    #[test]
    fn a_slow_host_is_passed_by_for_a_while_and_asked_all_the_same_by_those_who_have_nobody_else() {
        let (mut breakers, now) = (Breakers::default(), start());
        breakers.handle_slow(HOST, now);
        assert!(breakers.is_shunned(HOST, now) && !breakers.is_shunned(HOST, now + SLOW));
        assert_eq!(breakers.admit(HOST, false, now), Admission::Pass);
        (0..3 * MAX_HOSTS).for_each(|n| breakers.handle_slow(&n.to_string(), now));
        assert!(breakers.slow.len() <= MAX_HOSTS);
    }

    #[test]
    fn hosts_that_clients_name_are_bounded_and_push_no_open_circuit_out() {
        let now = start();
        let mut breakers = broken(now);
        for n in 0..3 * MAX_HOSTS {
            breakers.handle_failure(&format!("h{n}.example.org"), &"x".repeat(10_000), now);
        }
        let failing = breakers.failing(now);
        assert_eq!(failing.len(), MAX_HOSTS);
        assert!(failing.iter().all(|host| host.why.len() <= MAX_REASON));
        assert!(breakers.is_shunned(HOST, now) && !breakers.is_shunned("h1535.example.org", now));
    }
}
