//! Indexes: brought as the mirror has them, kept when they are what a Release promises, and read into the catalogue.

use crate::{
    archive::{Compression, Location, Vouched, by_hash, index_kind},
    hash::Hasher,
    store::{Blob, Partial, StoreError},
};

use super::{Answer, Ask, Flow, passed, read::read, refused};

/// An index, by its plain path.
#[derive(Debug, Clone)]
pub(super) struct Index {
    /// The promise under the plain path.
    vouched: Vouched,
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
            let (_, compression) = index_kind(plain.path())?;
            Some(Index { vouched: plain, compression })
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
        let learning = self.learning_now();
        tokio::task::spawn_blocking(move || {
            if let Ok(Some(blob)) = flow.shared.stations.store.open_object(index.vouched.expected().hash) {
                flow.learn_index(&index, &blob);
            }
            drop(learning);
        });
    }

    fn learn_index(&self, index: &Index, blob: &Blob) {
        match read(&self.shared.stations.store, &index.vouched, index.compression, &blob.file) {
            Ok(0) => {}
            Ok(files) => tracing::info!(path = index.vouched.path(), files, "learned"),
            Err(error) => tracing::warn!(path = index.vouched.path(), %error, "not learned"),
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
        let learning = flow.learning_now();
        tokio::task::spawn_blocking(move || {
            let kept = partial.and_then(|partial| flow.shared.stations.store.commit(partial, verified, &index.vouched));
            match kept {
                Ok(blob) => flow.learn_index(&index, &blob),
                Err(error) => tracing::warn!(%location, %error, "index not kept, so not learned"),
            }
            drop(learning);
        });
    }
}
