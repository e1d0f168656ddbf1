//! Indexes: brought like every promised file, and read into the catalogue.
#![expect(clippy::disallowed_methods, reason = "learning runs beside the requests")]

use crate::{
    archive::{Compression, Repository, Vouched, by_hash, index_kind},
    store::{Blob, Holding, Store, StoreError},
};

use super::{Flow, Growing, read::read};

/// An index, by its plain path.
#[derive(Debug, Clone)]
pub(super) struct Index {
    /// The promise under the plain path.
    vouched: Vouched,
    compression: Compression,
}

impl Index {
    /// The index that a promised file is, if it is one.
    pub(super) fn of(vouched: &Vouched) -> Option<Self> {
        let (_, compression) = index_kind(vouched.path())?;
        Some(Self { vouched: vouched.clone(), compression })
    }
}

impl Flow {
    /// The promise under the plain path, for a file that was asked for by its digest, as long as a Release lists it.
    pub(super) async fn by_plain_path(&self, vouched: Vouched) -> Vouched {
        if by_hash(vouched.path()).is_none() {
            return vouched;
        }
        let asked = vouched.clone();
        let plain = self.in_store(move |store| store.under_plain_path(&asked)).await;
        plain.ok().flatten().unwrap_or(vouched)
    }

    /// Learns an index as soon as it is there.
    pub(super) fn learn_when_there(&self, index: Index, mut growing: Growing) {
        let (flow, learning) = (self.clone(), self.begin_learning(index.vouched.repository()));
        tokio::spawn(async move {
            if growing.kept().await.is_ok() {
                flow.learn_from_store(index, learning).await;
            }
        });
    }

    /// An index that is held may be new to its repository: the same bytes under another mirror, or learning was cut off.
    pub(super) fn learn_held(&self, vouched: &Vouched) {
        let Some(index) = Index::of(vouched) else { return };
        let (flow, learning) = (self.clone(), self.begin_learning(vouched.repository()));
        tokio::spawn(async move { flow.learn_from_store(index, learning).await });
    }

    /// Learns those of a Release's indexes that are held and not learned yet, one after another.
    pub(super) fn learn_all_held(&self, repository: &Repository, indexes: Vec<Vouched>) {
        let (flow, learning) = (self.clone(), self.begin_learning(repository));
        tokio::spawn(async move {
            let is_due = |store: &Store, index: &Vouched| -> Result<bool, StoreError> {
                let is_held = matches!(store.holding(index.expected())?, Holding::Held | Holding::Unproven);
                Ok(is_held && !store.learned(index)?)
            };
            let due = flow.in_store(move |store| {
                let due = |index: &Vouched| is_due(store, index).unwrap_or(false);
                indexes.into_iter().filter(due).collect::<Vec<_>>()
            });
            for index in due.await.iter().filter_map(Index::of) {
                let underway = flow.begin_learning(index.vouched.repository());
                flow.learn_from_store(index, underway).await;
            }
            drop(learning);
        });
    }

    async fn learn_from_store(&self, index: Index, learning: Underway) {
        let flow = self.clone();
        let learned = tokio::task::spawn_blocking(move || {
            match flow.shared.stations.store.open_object(index.vouched.expected().hash) {
                Ok(Some(blob)) => flow.learn_index(&index, &blob),
                Ok(None) => {}
                Err(error) => tracing::warn!(path = index.vouched.path(), %error, "not learned"),
            }
            drop(learning);
            flow.tidy();
        });
        learned.await.expect("learning does not panic");
    }

    /// What learning leaves to be done when nobody waits for it any more.
    pub(super) fn tidy(&self) {
        if let Err(error) = self.shared.stations.store.tidy() {
            tracing::warn!(%error, "catalogue not tidied");
        }
    }

    /// Until the guard is dropped, questions about files of that repository that nobody vouches for wait a little.
    pub(super) fn begin_learning(&self, repository: &Repository) -> Underway {
        self.shared.busy.send_modify(|busy| busy.push(repository.clone()));
        Underway { flow: self.clone(), repository: repository.clone() }
    }

    fn learn_index(&self, index: &Index, blob: &Blob) {
        match read(&self.shared.stations.store, &index.vouched, index.compression, &blob.file) {
            Ok(0) => {}
            Ok(files) => tracing::info!(path = index.vouched.path(), files, "learned"),
            Err(error) => tracing::warn!(path = index.vouched.path(), %error, "not learned"),
        }
    }
}

/// Says for as long as it lives that a repository's index is being learned.
pub(super) struct Underway {
    flow: Flow,
    repository: Repository,
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.flow.shared.busy.send_modify(|busy| {
            if let Some(at) = busy.iter().position(|learning| *learning == self.repository) {
                busy.swap_remove(at);
            }
        });
    }
}
