//! The path's other half: a Release or an index went past, and what it promises is known from then on.
#![expect(clippy::disallowed_methods, reason = "the conductor's clock and tasks")]

use std::{
    collections::{HashSet, VecDeque},
    io::BufReader,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;

use crate::{
    archive::{
        Compression, Entries, IndexKind, Location, MAX_RELEASE, MAX_UNPACKED, Release, Verdict, Vouched, by_hash,
        decompress, index_kind,
    },
    hash::Hasher,
    mirror::{self, header},
    store::{Blob, Partial, Recorded, Store, StoreError},
};

use super::{Answer, Ask, Flow, passed, refused};

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

    fn refuse(&self, location: &Location, reason: String, is_bad: bool) {
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

    fn knows(&self, location: &Location) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(&location.key())
    }

    fn remember(&self, location: &Location) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MAX_SUITES {
            known.insert(location.key());
        }
    }
}

/// An index, by its plain path.
#[derive(Debug, Clone)]
pub(super) struct Index {
    /// The promise under the plain path.
    vouched: Vouched,
    kind: IndexKind,
    compression: Compression,
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
        let is_inrelease = ask.location.file_name() == "InRelease";
        if reply.status != 200
            || ask.head_only
            || !is_inrelease
            || reply.length.is_some_and(|len| len > MAX_RELEASE as u64)
        {
            return passed(reply, |_| {});
        }
        let body = match reply.collect(MAX_RELEASE).await {
            Ok(Some(body)) => body,
            Ok(None) => return Answer::Refused { status: 502, reason: "a Release of more than 8 MiB".to_owned() },
            Err(trouble) => return refused(&ask.location, &trouble),
        };
        self.fetcher().passed(body.len() as u64);
        self.learn_release(&ask.location, body.clone()).await;
        let unchanged = condition.is_some() && reply.headers.get(header::LAST_MODIFIED) == condition.as_ref();
        if unchanged {
            reply.status = mirror::StatusCode::NOT_MODIFIED;
            return Answer::Whole { reply, body: Bytes::new() };
        }
        Answer::Whole { reply, body }
    }

    /// Judges a Release and, when it is good, records what it lists.
    async fn learn_release(&self, location: &Location, message: Bytes) {
        let shareable = {
            let global = self.shared.stations.mirror.is_global(location).await;
            self.shared.rules.privacy.shareable(location, global)
        };
        let (apt, at) = (self.shared.rules.apt.clone(), location.clone());
        let verdict = tokio::task::spawn_blocking(move || {
            apt.reload();
            apt.trust().verify_inrelease(&at, &message, shareable, SystemTime::now())
        });
        let learning = &self.shared.learning;
        match verdict.await.expect("verification does not panic") {
            Verdict::Verified(release) => {
                learning.count_verified();
                self.record_release(location, *release).await;
            }
            Verdict::Unverifiable(reason) => learning.refuse(location, reason.to_string(), false),
            Verdict::Bad(reason) => learning.refuse(location, reason.to_string(), true),
            Verdict::Stale { .. } => learning.refuse(location, "expired: Valid-Until has passed".to_owned(), true),
        }
    }

    async fn record_release(&self, location: &Location, release: Release) {
        let signer = format!("{} {}", release.signer().fingerprint, release.signer().origin);
        let recorded = self.in_store(move |store| {
            store.record_release(release.repository(), release.suite_dir(), release.date(), &signer, release.members())
        });
        match recorded.await {
            Ok(Recorded::Older) => {
                let reason = "older than one already seen".to_owned();
                self.shared.learning.refuse(location, reason, true);
            }
            Ok(Recorded::New | Recorded::Same) => self.shared.learning.remember(location),
            Err(error) => tracing::warn!(%location, %error, "Release not recorded"),
        }
    }

    /// Whether a promised file is an index that is read here, be it asked for by its digest.
    pub(super) async fn index_named(&self, vouched: &Vouched) -> Option<Index> {
        let plain = match by_hash(vouched.path()) {
            None => vec![vouched.clone()],
            Some(_) => {
                let hash = vouched.expected().hash;
                self.in_store(move |store| store.by_hash(hash)).await.unwrap_or_default()
            }
        };
        plain.into_iter().filter(|plain| plain.repository() == vouched.repository()).find_map(|plain| {
            let (kind, compression) = index_kind(plain.path())?;
            Some(Index { vouched: plain, kind, compression })
        })
    }

    /// Brings an index from the mirror, as it is, and keeps and learns it when its bytes are the promised ones.
    pub(super) async fn index(&self, ask: Ask, vouched: Vouched, index: Index) -> Answer {
        let reply = match self.ask_mirror(&ask, ask.headers.clone()).await {
            Ok(reply) => reply,
            Err(trouble) => return refused(&ask.location, &trouble),
        };
        let fetcher = self.fetcher().clone();
        let size = vouched.expected().size;
        if reply.status != 200 {
            return passed(reply, move |chunk| fetcher.passed(chunk.len() as u64));
        }
        if reply.length.is_some_and(|length| length != size) {
            let name = index.vouched.path();
            let reason = format!("{name}: the mirror's file is not of the {size} bytes that the Release says");
            self.shared.learning.refuse(&ask.location, reason, true);
            return passed(reply, move |chunk| fetcher.passed(chunk.len() as u64));
        }
        let expected = *vouched.expected();
        let partial = self.in_store(move |store| store.begin(expected)).await;
        let mut copy = Some(Copy {
            flow: self.clone(),
            location: ask.location,
            index,
            partial,
            hasher: Hasher::new(&expected),
            at: 0,
        });
        passed(reply, move |chunk| {
            fetcher.passed(chunk.len() as u64);
            let Some(mut copying) = copy.take() else { return };
            copying.take(chunk);
            if copying.at < size {
                copy = Some(copying);
            } else {
                copying.finish();
            }
        })
    }

    fn learn_index(&self, index: &Index, blob: &Blob) {
        let store = &self.shared.stations.store;
        match read_index(store, index, blob) {
            Ok(files) => tracing::info!(path = index.vouched.path(), files, "learned"),
            Err(reason) => tracing::warn!(path = index.vouched.path(), reason, "not learned"),
        }
    }
}

/// An index on its way to apt, being copied and hashed.
struct Copy {
    flow: Flow,
    location: Location,
    index: Index,
    partial: Result<Partial, StoreError>,
    hasher: Hasher,
    at: u64,
}

impl Copy {
    fn take(&mut self, chunk: &[u8]) {
        self.hasher.update(chunk);
        if let Ok(partial) = &self.partial
            && let Err(error) = partial.write_at(self.at, chunk)
        {
            self.partial = Err(error);
        }
        self.at += chunk.len() as u64;
    }

    /// The last byte is there, and apt has not got it yet: whoever asks from now on waits until the index is learned.
    fn finish(self) {
        let Self { flow, location, index, partial, hasher, .. } = self;
        let verified = match hasher.finish() {
            Ok(verified) => verified,
            Err(mismatch) => {
                let reason = format!("{}: {mismatch}", index.vouched.path());
                return flow.shared.learning.refuse(&location, reason, true);
            }
        };
        flow.shared.busy.send_modify(|busy| *busy += 1);
        tokio::task::spawn_blocking(move || {
            let kept = partial.and_then(|partial| flow.shared.stations.store.commit(partial, verified, &index.vouched));
            match kept {
                Ok(blob) => flow.learn_index(&index, &blob),
                Err(error) => tracing::warn!(%location, %error, "index not kept, so not learned"),
            }
            flow.shared.busy.send_modify(|busy| *busy -= 1);
        });
    }
}

/// Reads a proven index from the store into the catalogue. The number of files, or what was wrong.
fn read_index(store: &Store, index: &Index, blob: &Blob) -> Result<usize, String> {
    if store.learned(&index.vouched).map_err(|error| error.to_string())? {
        return Ok(0);
    }
    let file = blob.file.try_clone().map_err(|error| error.to_string())?;
    let IndexKind::Packages = index.kind;
    let plain = decompress(index.compression, BufReader::with_capacity(256 * 1024, file), MAX_UNPACKED)
        .map_err(|error| error.to_string())?;
    let mut malformed = None;
    let entries = Entries::new(&index.vouched, plain).filter_map(|entry| match entry {
        Ok(entry) => Some(entry.file),
        Err(error) => {
            malformed.get_or_insert(error.to_string());
            None
        }
    });
    let files = store.record_index(&index.vouched, entries).map_err(|error| error.to_string())?;
    if let Some(error) = malformed {
        tracing::warn!(path = index.vouched.path(), error, "entries left out");
    }
    Ok(files)
}
