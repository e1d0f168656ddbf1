//! A file as it grows: one download, many readers.

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

use bytes::Bytes;
use tokio::{sync::watch, task::spawn_blocking};

use crate::hash::Expected;

/// Bytes that a reader takes at a time.
const CHUNK: u64 = 256 * 1024;

/// Why a download ended without the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The origin has not the promised file, or cannot be reached, and nobody else has it.
    #[error("no source: {0}")]
    NoSource(String),
    /// The origin's file has another size than the promised one, and nobody else has that.
    #[error("the mirror's file is not of the {size} bytes that the archive signed")]
    WrongSize {
        /// The promised size.
        size: u64,
    },
    /// Every source gave bytes that are not the promised ones.
    #[error("no source gave the bytes that the archive signed")]
    Mismatch,
    /// The store cannot take it.
    #[error("the store cannot take it: {0}")]
    Store(String),
    /// No source gave a byte of use for [`crate::fetch::STALEMATE`], though each of them may yet.
    #[error("no source gives a byte")]
    Silent,
    /// Nobody waits for it any longer.
    #[error("nobody waits for it")]
    Deserted,
}

/// How far a download is.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// The file on disk, once there is one.
    pub file: Option<Arc<File>>,
    /// Whether bytes of this file may have been out before this download gave any, and were never proven.
    pub is_doubtful: bool,
    /// Bytes from the front that readers may have.
    pub released: u64,
    /// The lowest offset at which released bytes turned out to be wrong.
    pub tainted: Option<u64>,
    /// The end, when it has come.
    pub outcome: Option<Result<(), Failure>>,
    /// The mirror's `Last-Modified`, as it was sent.
    pub last_modified: Option<String>,
    /// Whether the store has it.
    pub kept: bool,
}

/// A download that is under way; cheap to clone. A clone is one reader: it knows which bytes it had.
#[derive(Debug, Clone)]
pub struct Growing {
    expected: Expected,
    progress: watch::Receiver<Progress>,
    /// [`Progress::tainted`] as it was when this reader last had bytes: what it had by then was judged by it.
    judged_by: Option<u64>,
}

/// A response has to end here, before its length is reached.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// Bytes that this reader already had turned out to be wrong.
    #[error("bytes already sent turned out to be wrong")]
    Tainted,
    /// The download failed.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The disk failed.
    #[error("cannot read back: {0}")]
    Io(#[from] io::Error),
}

impl Growing {
    /// A download that is about to begin.
    pub(in crate::fetch) fn new(expected: Expected) -> (watch::Sender<Progress>, Self) {
        let (sender, progress) = watch::channel(Progress::default());
        (sender, Self { expected, progress, judged_by: None })
    }

    /// What is being downloaded.
    pub fn expected(&self) -> &Expected {
        &self.expected
    }

    /// The mirror's `Last-Modified`, once it has answered.
    pub fn last_modified(&self) -> Option<String> {
        self.progress.borrow().last_modified.clone()
    }

    /// Whether a client that says to have the beginning may be given the rest alone. Whatever it has was proven, or is of
    /// this download, of which nothing was wrong so far: should that turn out later, a reader that attached behind the
    /// wrong bytes is cut like those that read them here, before the last bytes leave. See [`super::super::Fetcher::may_resume`]
    /// for what others give meanwhile.
    pub fn may_resume(&self) -> bool {
        let progress = self.progress.borrow();
        progress.released > 0 && !progress.is_doubtful && progress.tainted.is_none()
    }

    /// Waits until the first bytes are released, or the download failed before any were: it does when nobody gives a byte.
    pub async fn begun(&mut self) -> Result<Progress, Failure> {
        let begun = |progress: &Progress| progress.released > 0 || progress.outcome.is_some();
        let progress = self.progress.wait_for(begun).await.map_err(|_| Failure::Deserted)?.clone();
        match progress.outcome {
            Some(Err(failure)) if progress.released == 0 => Err(failure),
            _ => Ok(progress),
        }
    }

    /// Waits until the store has it.
    pub async fn kept(&mut self) -> Result<(), Failure> {
        let settled = |progress: &Progress| progress.kept || matches!(progress.outcome, Some(Err(_)));
        let progress = self.progress.wait_for(settled).await.map_err(|_| Failure::Deserted)?;
        if progress.kept { Ok(()) } else { Err(Failure::Deserted) }
    }

    /// Reads bytes from `at` to before `end` at most, as soon as any are released. Empty at `end`. A reader that had wrong
    /// bytes is cut, once; one that began after these were withdrawn is not.
    pub async fn read(&mut self, at: u64, end: u64) -> Result<Bytes, Cut> {
        if at >= end {
            return Ok(Bytes::new());
        }
        let judged_by = self.judged_by;
        let is_cut =
            |progress: &Progress| progress.tainted != judged_by && progress.tainted.is_some_and(|from| from < at);
        let ready = |progress: &Progress| progress.released > at || progress.outcome.is_some() || is_cut(progress);
        let progress = self.progress.wait_for(ready).await.map_err(|_| Failure::Deserted)?.clone();
        if is_cut(&progress) {
            return Err(Cut::Tainted);
        }
        self.judged_by = progress.tainted;
        if let (true, Some(file)) = (progress.released > at, progress.file) {
            let mut buffer = vec![0; CHUNK.min(end - at).min(progress.released - at) as usize];
            let read = move || file.read_exact_at(&mut buffer, at).map(|()| buffer);
            return Ok(spawn_blocking(read).await.expect("reading does not panic")?.into());
        }
        Err(progress.outcome.and_then(Result::err).unwrap_or(Failure::Deserted).into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::hash::ContentHash;

    fn growing(bytes: &[u8]) -> (watch::Sender<Progress>, Growing) {
        let expected = Expected { hash: ContentHash::of(bytes), size: bytes.len() as u64 };
        let (progress, growing) = Growing::new(expected);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        progress.send_modify(|progress| progress.file = Some(Arc::new(file)));
        (progress, growing)
    }

    #[tokio::test]
    async fn who_had_wrong_bytes_is_cut_and_who_comes_later_is_not() {
        let (progress, growing) = growing(&[7; 1000]);
        progress.send_modify(|progress| progress.released = 600);
        let (mut behind, mut ahead) = (growing.clone(), growing.clone());
        assert_eq!(behind.read(0, 100).await.unwrap().len(), 100);
        assert_eq!(ahead.read(0, 1000).await.unwrap().len(), 600);
        progress.send_modify(|progress| (progress.tainted, progress.released) = (Some(300), 300));
        assert!(matches!(ahead.read(600, 1000).await, Err(Cut::Tainted)));
        let mut later = growing.clone();
        assert_eq!(later.read(0, 1000).await.unwrap().len(), 300);
        progress.send_modify(|progress| (progress.released, progress.outcome) = (1000, Some(Ok(()))));
        for (reader, mut at) in [(&mut behind, 100), (&mut later, 300), (&mut ahead, 0)] {
            while at < 1000 {
                let bytes = reader.read(at, (at + 250).min(1000)).await.unwrap();
                assert!(!bytes.is_empty());
                at += bytes.len() as u64;
            }
        }
    }

    #[tokio::test]
    async fn who_attaches_behind_bytes_that_turn_out_wrong_is_cut_and_then_nobody_may_resume() {
        let (progress, growing) = growing(&[7; 1000]);
        progress.send_modify(|progress| progress.released = 600);
        let mut resumed = growing.clone();
        assert!(resumed.may_resume());
        assert_eq!(resumed.read(500, 1000).await.unwrap().len(), 100);
        progress.send_modify(|progress| (progress.tainted, progress.released) = (Some(300), 0));
        assert!(matches!(resumed.read(600, 1000).await, Err(Cut::Tainted)));
        assert!(!growing.may_resume());
        let (progress, doubtful) = Growing::new(*growing.expected());
        assert!(!doubtful.may_resume(), "nothing is known yet");
        progress.send_modify(|progress| (progress.is_doubtful, progress.released) = (true, 1));
        assert!(!doubtful.may_resume());
    }

    #[tokio::test]
    async fn wrong_bytes_further_to_the_front_cut_those_who_had_them_in_between() {
        let (progress, growing) = growing(&[7; 1000]);
        progress.send_modify(|progress| (progress.tainted, progress.released) = (Some(300), 300));
        let mut reader = growing.clone();
        assert_eq!(reader.read(0, 1000).await.unwrap().len(), 300);
        progress.send_modify(|progress| (progress.tainted, progress.released) = (Some(100), 100));
        assert!(matches!(reader.read(300, 1000).await, Err(Cut::Tainted)));
    }
}
