//! Releases that wait for their signature: apt asks for `Release`, then for `Release.gpg`.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::archive::{Location, MAX_RELEASE};

/// Releases that may wait, and their bytes together.
const MAX_TEXTS: usize = 16;
const MAX_BYTES: usize = MAX_RELEASE;

/// How long one waits: apt asks for the signature at once.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The texts, the latest last.
#[derive(Debug, Default)]
pub(super) struct Texts(VecDeque<Waiting>);

#[derive(Debug)]
struct Waiting {
    at: Location,
    text: Bytes,
    since: Instant,
}

impl Texts {
    /// Keeps a text in the place of an earlier one of the same name. The oldest make room for it.
    pub(super) fn keep(&mut self, at: &Location, text: Bytes, now: Instant) {
        self.0.retain(|waiting| waiting.at != *at);
        self.0.push_back(Waiting { at: at.clone(), text, since: now });
        while self.0.len() > MAX_TEXTS || self.0.iter().map(|waiting| waiting.text.len()).sum::<usize>() > MAX_BYTES {
            self.0.pop_front();
        }
    }

    /// The text that a signature is for.
    pub(super) fn take(&mut self, signature: &Location, now: Instant) -> Option<(Location, Bytes)> {
        self.forget(now);
        let text = signature.sibling("Release").ok()?;
        let at = self.0.iter().position(|waiting| waiting.at == text)?;
        self.0.remove(at).map(|waiting| (waiting.at, waiting.text))
    }

    /// Lets go of those that have waited for too long.
    pub(super) fn forget(&mut self, now: Instant) {
        self.0.retain(|waiting| now.saturating_duration_since(waiting.since) < PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(suite: usize, file: &str) -> Location {
        Location::parse(&format!("http://m.example.org/dists/{suite}/{file}")).unwrap()
    }

    #[test]
    fn a_text_waits_for_its_own_signature_once_and_not_for_long() {
        let (mut texts, now) = (Texts::default(), crate::flow::now());
        texts.keep(&at(1, "Release"), "old".into(), now);
        texts.keep(&at(1, "Release"), "one".into(), now);
        texts.keep(&at(2, "Release"), "two".into(), now);
        assert_eq!(texts.take(&at(1, "Release.gpg"), now), Some((at(1, "Release"), "one".into())));
        assert_eq!(texts.take(&at(1, "Release.gpg"), now), None);
        assert_eq!(texts.take(&at(2, "Release.gpg"), now + PATIENCE), None);
        texts.keep(&at(3, "Release"), "three".into(), now);
        texts.forget(now + PATIENCE);
        assert!(texts.0.is_empty());
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_bytes() {
        let (mut texts, now) = (Texts::default(), crate::flow::now());
        let held = |texts: &Texts| texts.0.iter().map(|waiting| waiting.text.len()).collect::<Vec<_>>();
        for (suite, length) in [MAX_BYTES / 2, MAX_BYTES / 2, 1].into_iter().enumerate() {
            texts.keep(&at(suite, "Release"), vec![0; length].into(), now);
        }
        assert_eq!(held(&texts), [MAX_BYTES / 2, 1]);
        texts.keep(&at(9, "Release"), vec![0; MAX_BYTES].into(), now);
        assert_eq!(held(&texts), [MAX_BYTES]);
        (0..2 * MAX_TEXTS).for_each(|suite| texts.keep(&at(suite, "Release"), "x".into(), now));
        assert_eq!(held(&texts), [1; MAX_TEXTS]);
    }
}
