//! The path's other half: a Release went past, and what it lists is known from then on.
#![expect(clippy::disallowed_methods, reason = "the conductor's clock and tasks")]

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

use bytes::Bytes;

use crate::{
    archive::{Location, MAX_RELEASE, Release, SuiteName, Verdict, index_kind},
    mirror::{self, header},
    store::{Recorded, StoreError},
};

use super::{
    Answer, Ask, Flow, passed, refused,
    texts::{self, Texts},
};

/// Refusals remembered for the status page.
const MAX_REFUSALS: usize = 50;
/// Suites remembered as learned in this run.
const MAX_SUITES: usize = 10_000;

/// What was learned in this run, and what was refused.
#[derive(Debug, Default)]
pub struct Learning {
    state: Mutex<Snapshot>,
    /// Releases of which this run knows the current one; only these may be asked for conditionally.
    known: Mutex<HashSet<String>>,
    texts: Mutex<Texts>,
}

/// The counts and refusals at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Releases with a good signature.
    pub verified: u64,
    /// Releases for which no key is known: passed on, never shared.
    pub unverifiable: u64,
    /// Releases and indexes with a wrong signature or hash: passed on, never learned from.
    pub bad: u64,
    /// The latest refusals, newest first.
    pub refusals: VecDeque<Refusal>,
}

/// Something that was not learned from.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// What it was.
    pub location: String,
    /// Why.
    pub reason: String,
    /// Whether it was wrong, and not merely without a known key.
    pub is_bad: bool,
    /// When.
    pub at: SystemTime,
}

impl Learning {
    /// The counts and refusals now.
    pub fn snapshot(&self) -> Snapshot {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count_verified(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).verified += 1;
    }

    /// Something was not learned from: it is passed on, and shown; loudly when it was wrong.
    pub(super) fn refuse(&self, location: &Location, reason: String, is_bad: bool) {
        if is_bad {
            tracing::warn!(%location, reason, "REFUSED as a source of hashes; passed on as it is");
        } else {
            tracing::info!(%location, reason, "not verifiable; passed on, never shared");
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *(if is_bad { &mut state.bad } else { &mut state.unverifiable }) += 1;
        state.refusals.truncate(MAX_REFUSALS - 1);
        state.refusals.push_front(Refusal { location: location.to_string(), reason, is_bad, at: SystemTime::now() });
    }

    fn texts(&self) -> MutexGuard<'_, Texts> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn knows(&self, location: &Location) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(&location.key())
    }

    /// Says whether it was new to this run.
    fn remember(&self, location: &Location) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.len() < MAX_SUITES && known.insert(location.key())
    }
}

/// The file of a suite that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Text and signature in one.
    InRelease,
    /// The text, which is worth nothing before its signature came.
    Text,
    /// The signature of the text that came before.
    Signature,
}

impl Part {
    fn of(location: &Location) -> Option<Self> {
        match location.file_name() {
            "InRelease" => Some(Self::InRelease),
            "Release" => Some(Self::Text),
            "Release.gpg" => Some(Self::Signature),
            _ => None,
        }
    }
}

impl Flow {
    /// Brings a Release, learns from it, and only then hands it on, so that what it lists is known when apt asks for it.
    pub(super) async fn release(&self, ask: Ask) -> Answer {
        let mut headers = ask.headers.clone();
        let condition = headers.get(header::IF_MODIFIED_SINCE).cloned();
        if !self.shared.learning.knows(&ask.location) {
            headers.remove(header::IF_MODIFIED_SINCE);
        }
        headers.remove(header::RANGE);
        let mut reply = match self.ask_mirror(&ask, headers).await {
            Ok(reply) => reply,
            Err(trouble) => return refused(&ask.location, &trouble),
        };
        if reply.status != 200 || ask.head_only || reply.length.is_some_and(|len| len > MAX_RELEASE as u64) {
            return passed(reply, |_| {});
        }
        let body = match reply.collect(MAX_RELEASE).await {
            Ok(Some(body)) => body,
            Ok(None) => return Answer::Refused { status: 502, reason: "a Release of more than 8 MiB".to_owned() },
            Err(trouble) => return refused(&ask.location, &trouble),
        };
        self.fetcher().passed(body.len() as u64);
        match Part::of(&ask.location) {
            Some(Part::InRelease) => self.learn_release(&ask.location, body.clone(), None).await,
            Some(Part::Text) => self.keep_text(&ask.location, body.clone()),
            Some(Part::Signature) => {
                let waiting = self.shared.learning.texts().take(&ask.location, Instant::now());
                if let Some((at, text)) = waiting {
                    self.learn_release(&at, text, Some(body.clone())).await;
                }
            }
            None => {}
        }
        let unchanged = condition.is_some() && reply.headers.get(header::LAST_MODIFIED) == condition.as_ref();
        if unchanged {
            reply.status = mirror::StatusCode::NOT_MODIFIED;
            return Answer::Whole { reply, body: Bytes::new() };
        }
        Answer::Whole { reply, body }
    }

    /// Keeps a Release until its signature comes, or does not.
    fn keep_text(&self, location: &Location, text: Bytes) {
        self.shared.learning.texts().keep(location, text, Instant::now());
        let flow = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(texts::PATIENCE).await;
            flow.shared.learning.texts().forget(Instant::now());
        });
    }

    /// Judges a Release, which is signed in itself or by a signature of its own, and records what it lists when it is good.
    pub(super) async fn learn_release(&self, location: &Location, text: Bytes, signature: Option<Bytes>) {
        let shareable = {
            let global = self.shared.stations.mirror.is_global(location).await;
            self.shared.rules.privacy.shareable(location, global)
        };
        let (apt, at) = (self.shared.rules.apt.clone(), location.clone());
        let verdict = tokio::task::spawn_blocking(move || {
            apt.reload();
            let (trust, now) = (apt.trust(), SystemTime::now());
            match signature {
                None => trust.verify_inrelease(&at, &text, shareable, now),
                Some(signature) => trust.verify_detached(&at, &text, &signature, shareable, now),
            }
        });
        let learning = &self.shared.learning;
        match verdict.await.expect("verification does not panic") {
            Verdict::Verified(release) => {
                self.record_release(location, *release).await;
            }
            Verdict::Unverifiable(reason) => learning.refuse(location, reason.to_string(), false),
            Verdict::Bad(reason) => learning.refuse(location, reason.to_string(), true),
            Verdict::Stale { .. } => learning.refuse(location, "expired: Valid-Until has passed".to_owned(), true),
        }
    }

    async fn record_release(&self, location: &Location, release: Release) {
        match self.record(location, release).await {
            Ok(Recorded::Older) => {
                let reason = "older than one already seen".to_owned();
                self.shared.learning.refuse(location, reason, true);
            }
            Ok(Recorded::Nested) => {
                let reason = "inside or around another repository that is known".to_owned();
                self.shared.learning.refuse(location, reason, false);
            }
            Ok(Recorded::New | Recorded::Same) => self.shared.learning.count_verified(),
            Err(error) => tracing::warn!(%location, %error, "Release not recorded"),
        }
    }

    /// Records what a Release lists, and under all the names that it gives it. Indexes of it that are held already, since
    /// before the catalogue was lost or learning was cut off, are learned: a client that has them does not ask again.
    pub(super) async fn record(&self, location: &Location, release: Release) -> Result<Recorded, StoreError> {
        let signer = format!("{} {}", release.signer().fingerprint, release.signer().origin);
        let (pin, repository) = (release.pin(), release.repository().clone());
        let is_source = self.shared.rules.apt.trust().sources().has(release.repository());
        let indexes: Vec<_> = release.members().filter(|member| index_kind(member.path()).is_some()).collect();
        let recorded = self.in_store(move |store| {
            if !is_source && store.is_nested(release.repository()) {
                return Ok((Recorded::Nested, None));
            }
            let members = release.members().chain(release.aliases());
            let (repository, suite_dir, date) = (release.repository(), release.suite_dir(), release.date());
            let recorded = store.record_release(repository, suite_dir, date, &signer, members)?;
            if recorded != Recorded::Older {
                store.name_suite(repository, suite_dir, SuiteName::from(&release))?;
            }
            let is_latest = recorded != Recorded::Older && store.pin(&pin, date)?;
            if is_latest {
                store.keep_valid_until(repository, suite_dir, date, release.valid_until())?;
            }
            Ok::<_, StoreError>((recorded, is_latest.then_some(pin)))
        });
        let (recorded, pin) = recorded.await?;
        if let Some(pin) = pin {
            self.shared.rules.apt.pin(pin);
        }
        if matches!(recorded, Recorded::New | Recorded::Same) {
            let is_first = self.shared.learning.remember(location);
            if is_first || recorded == Recorded::New {
                self.learn_all_held(&repository, indexes);
            }
        }
        Ok(recorded)
    }
}
