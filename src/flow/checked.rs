//! A promised file that goes straight from the mirror to apt: proven before its last bytes leave.

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};

use crate::{
    fetch::SAFETY_CATCH,
    hash::{ContentHash, Expected, Hasher},
    mirror::Trouble,
    store::{Mark, Store},
};

/// The mark on a file whose bytes leave before they are proven. Dropped before they are, it stays.
pub(super) struct Unproven {
    store: Store,
    hash: ContentHash,
    /// Whether nothing unproven had left before.
    is_first: bool,
    is_settled: bool,
}

impl Unproven {
    /// Marks the file. May block. What cannot be marked leaves all the same: a full disk is no error to apt.
    pub fn mark(store: &Store, hash: ContentHash) -> Self {
        let mark = store.mark_released(hash);
        let is_first = mark.as_ref().is_ok_and(|mark| *mark == Mark::Fresh);
        if let Err(error) = mark {
            tracing::warn!(%error, "what is passed on cannot be marked");
        }
        Self { store: store.clone(), hash, is_first, is_settled: false }
    }

    /// All of it was right, or a client holds a wrong beginning.
    fn settle(mut self, is_right: bool) {
        self.is_settled = true;
        let settled = match (is_right, self.is_first) {
            (true, true) => self.store.clear_mark(self.hash),
            (true, false) => Ok(()),
            (false, _) => self.store.mark_cut(self.hash),
        };
        if let Err(error) = settled {
            tracing::warn!(%error, "mark not changed");
        }
    }
}

impl Drop for Unproven {
    fn drop(&mut self) {
        // Another answer that ended well may have taken the common mark away.
        if !self.is_settled
            && let Err(error) = self.store.mark_released(self.hash)
        {
            tracing::warn!(%error, "what was passed on cannot be marked");
        }
    }
}

/// Holds the last bytes of a body back until all of it is proven; a wrong one ends short.
pub(super) fn checked(
    body: impl Stream<Item = Result<Bytes, Trouble>> + Send + 'static,
    expected: Expected,
    unproven: Unproven,
) -> impl Stream<Item = Result<Bytes, Trouble>> + Send {
    let state = (Box::pin(body), Some((Hasher::new(&expected), unproven)), BytesMut::new(), 0);
    futures_util::stream::try_unfold(state, move |(mut body, mut proof, mut held, mut came)| async move {
        while let Some((hashing, _)) = &mut proof {
            let Some(chunk) = body.next().await.transpose()? else {
                let (hasher, unproven) = proof.take().expect("it is there");
                let verdict = hasher.finish();
                unproven.settle(verdict.is_ok());
                verdict?;
                break;
            };
            hashing.update(&chunk);
            came += chunk.len() as u64;
            held.extend_from_slice(&chunk);
            let may_leave =
                (held.len() as u64).saturating_sub(SAFETY_CATCH.saturating_sub(expected.size.saturating_sub(came)));
            if may_leave > 0 {
                let ready = held.split_to(may_leave as usize).freeze();
                return Ok(Some((ready, (body, proof, held, came))));
            }
        }
        let rest = held.split().freeze();
        Ok((!rest.is_empty()).then_some((rest, (body, proof, held, came))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Config;

    /// What comes of a body, in bytes, and the marks after it.
    async fn pass(promised: &[u8], sent: &'static [u8], reads: usize) -> (usize, bool, bool) {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { path: dir.path().join("store"), quota: 1 << 30, min_free: 0 };
        let store = Store::open(&config, |_| true).unwrap();
        let expected = Expected { hash: ContentHash::of(promised), size: promised.len() as u64 };
        let body = futures_util::stream::iter(sent.chunks(10_000).map(|chunk| Ok(Bytes::from_static(chunk))));
        let passed = Box::pin(checked(body, expected, Unproven::mark(&store, expected.hash)));
        assert!(store.is_marked(expected.hash));
        let chunks: Vec<_> = passed.take(reads).collect().await;
        let came = chunks.iter().flatten().map(Bytes::len).sum();
        (came, store.is_marked(expected.hash), store.was_cut(expected.hash))
    }

    #[tokio::test]
    async fn a_right_file_leaves_no_mark_a_wrong_one_leaves_a_cut_and_a_broken_off_one_stays_marked() {
        const SENT: &[u8] = &[7; 50_000];
        let wrong = [8; 50_000];
        let but_the_last = SENT.len() - SAFETY_CATCH as usize;
        assert_eq!(pass(SENT, SENT, usize::MAX).await, (SENT.len(), false, false));
        assert_eq!(pass(&wrong, SENT, usize::MAX).await, (but_the_last, true, true));
        let (came, is_marked, was_cut) = pass(SENT, SENT, 2).await;
        assert!(came > 0 && came <= but_the_last && is_marked && !was_cut, "{came} {is_marked} {was_cut}");
    }
}
