//! Indexes: brought as the mirror has them, kept when they are what a Release promises, and read into the catalogue.

use std::io::BufReader;

use crate::{
    archive::{Compression, IndexKind, Location, MAX_UNPACKED, Vouched, by_hash, decompress, entries, index_kind},
    hash::Hasher,
    store::{Blob, Partial, Store, StoreError},
};

use super::{Answer, Ask, Flow, passed, refused};

/// An index, by its plain path.
#[derive(Debug, Clone)]
pub(super) struct Index {
    /// The promise under the plain path.
    vouched: Vouched,
    kind: IndexKind,
    compression: Compression,
}

impl Flow {
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

    /// An index that is held may be new to its repository: the same bytes under another mirror, or learning was cut off.
    pub(super) async fn learn_held(&self, vouched: &Vouched) {
        let Some(index) = self.index_named(vouched).await else { return };
        let flow = self.clone();
        flow.shared.busy.send_modify(|busy| *busy += 1);
        tokio::task::spawn_blocking(move || {
            if let Ok(Some(blob)) = flow.shared.stations.store.open_object(index.vouched.expected().hash) {
                flow.learn_index(&index, &blob);
            }
            flow.shared.busy.send_modify(|busy| *busy -= 1);
        });
    }

    fn learn_index(&self, index: &Index, blob: &Blob) {
        let store = &self.shared.stations.store;
        match read_index(store, index, blob) {
            Ok(0) => {}
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
    let plain = decompress(index.compression, BufReader::with_capacity(256 * 1024, file), MAX_UNPACKED)
        .map_err(|error| error.to_string())?;
    let mut malformed = None;
    let entries = entries(index.kind, &index.vouched, plain).filter_map(|entry| match entry {
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
