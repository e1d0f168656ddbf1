//! A promised file that goes straight from the mirror to apt: proven before its last bytes leave.

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};

use crate::{
    fetch::{Fetcher, SAFETY_CATCH, Unproven},
    hash::{Expected, Hasher},
    mirror::Trouble,
};

/// Holds the last bytes of a body back until all of it is proven; a wrong one ends short. What cannot be marked leaves all
/// the same, and is in doubt until the end of this run: a full disk is no error to apt.
pub(super) fn checked(
    body: impl Stream<Item = Result<Bytes, Trouble>> + Send + 'static,
    expected: Expected,
    fetcher: Fetcher,
    unproven: Unproven,
) -> impl Stream<Item = Result<Bytes, Trouble>> + Send {
    let state = (Box::pin(body), Some((Hasher::new(&expected), unproven, fetcher)), BytesMut::new(), 0);
    futures_util::stream::try_unfold(state, move |(mut body, mut proof, mut held, mut came)| async move {
        while let Some((hashing, ..)) = &mut proof {
            let Some(chunk) = body.next().await.transpose()? else {
                let (hasher, unproven, fetcher) = proof.take().expect("it is there");
                let verdict = hasher.finish();
                if verdict.is_err() {
                    fetcher.remember_cut(expected.hash);
                }
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
    use tempfile::TempDir;

    use super::*;
    use crate::{
        hash::ContentHash,
        mirror::{Mirror, upstream::Upstream},
        peer::Pool,
        store::{Config, Store},
    };

    /// A fetcher that nobody is around, over a store of its own.
    fn fetcher() -> (TempDir, Store, Fetcher) {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { path: dir.path().join("store"), quota: 1 << 30, min_free: 0 };
        let store = Store::open(&config, |_| true).unwrap();
        let mirror = Mirror::new(Upstream::default()).unwrap();
        let fetcher = Fetcher::new(crate::fetch::Config::default(), Pool::new(None), mirror, store.clone());
        (dir, store, fetcher)
    }

    /// What comes of a body, in bytes.
    async fn pass(fetcher: &Fetcher, promised: &[u8], sent: &'static [u8], reads: usize) -> usize {
        let expected = Expected { hash: ContentHash::of(promised), size: promised.len() as u64 };
        let body = futures_util::stream::iter(sent.chunks(10_000).map(|chunk| Ok(Bytes::from_static(chunk))));
        let passed = Box::pin(checked(body, expected, fetcher.clone(), fetcher.out(expected.hash)));
        assert!(fetcher.is_doubtful(expected.hash));
        let chunks: Vec<_> = passed.take(reads).collect().await;
        chunks.iter().flatten().map(Bytes::len).sum()
    }

    const SENT: &[u8] = &[7; 50_000];
    const BUT_THE_LAST: usize = SENT.len() - SAFETY_CATCH as usize;

    #[tokio::test]
    async fn a_right_file_leaves_no_mark_a_wrong_one_leaves_a_cut_and_a_broken_off_one_stays_marked() {
        for can_mark in [true, false] {
            let (dir, store, fetcher) = fetcher();
            if !can_mark {
                std::fs::remove_dir(dir.path().join("store/released")).unwrap();
            }
            let wrong = [8; 50_000];
            let [right, wrong_hash] = [SENT, &wrong].map(ContentHash::of);
            assert_eq!(pass(&fetcher, SENT, SENT, usize::MAX).await, SENT.len());
            assert!(!fetcher.is_doubtful(right) && !store.is_marked(right));
            assert_eq!(pass(&fetcher, &wrong, SENT, usize::MAX).await, BUT_THE_LAST);
            assert!(fetcher.is_doubtful(wrong_hash) && store.was_cut(wrong_hash) == can_mark);
            let came = pass(&fetcher, SENT, SENT, 2).await;
            assert!(came > 0 && came <= BUT_THE_LAST, "{came}");
            assert!(fetcher.is_doubtful(right) && !store.was_cut(right));
            assert_eq!(store.is_marked(right), can_mark);
        }
    }

    #[tokio::test]
    async fn one_that_ends_well_does_not_answer_for_another_that_is_under_way() {
        let (_dir, store, fetcher) = fetcher();
        let hash = ContentHash::of(SENT);
        let other = fetcher.out(hash);
        assert_eq!(pass(&fetcher, SENT, SENT, usize::MAX).await, SENT.len());
        assert!(fetcher.is_doubtful(hash) && store.is_marked(hash));
        drop(other);
        assert!(fetcher.is_doubtful(hash) && store.is_marked(hash), "it broke off");
    }
}
