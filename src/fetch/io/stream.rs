//! The mirror's bytes from the front on, as they come; when one mirror fails or is slow, the next one goes on.
#![expect(clippy::disallowed_methods, reason = "a part of the door of fetch: time")]

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::timeout_at;

use crate::{
    archive::Location,
    fetch::{
        Origin,
        routes::{Routes, Version},
    },
    hash::Expected,
    mirror::{
        self, Mirror, Reply, Trouble,
        guard::Reach,
        header::{self, HeaderMap, HeaderValue},
    },
};

use super::growing::Failure;

/// Time without a byte after which another mirror goes on, when there is one.
const STALL: Duration = Duration::from_secs(4);
/// Bytes a second below which another mirror goes on, when there is one.
const SLOW: f64 = 64.0 * 1024.0;
/// Time over which that is measured.
const METER: Duration = Duration::from_secs(4);

/// One run of pieces from the mirrors.
pub(super) struct Stream {
    source: Source,
    /// Where the next byte belongs.
    pub at: u64,
    /// Where the run ends.
    pub until: u64,
    /// Bytes still to be dropped, when the mirror does not serve ranges.
    pub skip: u64,
    size: u64,
    mirror: Mirror,
    routes: Arc<Mutex<Routes>>,
    reach: Arc<dyn Fn(&Location) -> Reach + Send + Sync>,
    /// When the mirror was asked, what has come of it since, and when a byte came last.
    asked: Instant,
    came: u64,
    heard: Instant,
}

enum Source {
    Opening(BoxFuture<'static, Result<Reply, Trouble>>),
    Open(Box<Reply>),
}

/// What the stream brought.
pub(super) enum Came {
    /// The head of the answer: see [`Stream::judge`].
    Reply(Box<Reply>),
    /// Bytes.
    Bytes(Bytes),
    /// The end of the answer.
    End,
    /// The answer broke off, or never began.
    Trouble(Trouble),
}

impl Stream {
    /// Asks for these bytes.
    pub fn open(mirror: &Mirror, origin: &Origin, expected: &Expected, bytes: Range<u64>) -> Self {
        let Range { start: at, end: until } = bytes;
        let now = Instant::now();
        let mut stream = Self {
            source: Source::Opening(std::future::pending().boxed()),
            at,
            until,
            skip: 0,
            size: expected.size,
            mirror: mirror.clone(),
            routes: origin.routes.clone(),
            reach: origin.reach.clone(),
            asked: now,
            came: 0,
            heard: now,
        };
        stream.routes().avoid(|location| mirror.is_shunned(location));
        stream.ask();
        stream
    }

    /// What comes next; for ever nothing when there is no stream. What a mirror fails to bring, another one is asked for
    /// first. Cancel safe.
    pub async fn next(stream: &mut Option<Self>) -> Came {
        let Some(stream) = stream.as_mut() else { return std::future::pending().await };
        loop {
            let came = stream.next_of_one().await;
            match stream.consider(came) {
                Some(came) => return came,
                None => stream.ask(),
            }
        }
    }

    /// Whether a reply is of the promised file: the bytes to drop before the run begins; or whether there is no use in
    /// trying again, and why.
    pub fn judge(&self, reply: &Reply, expected: &Expected) -> Result<u64, (bool, Failure)> {
        let judged = self.judge_alone(reply, expected.size);
        judged.map_err(|(fatal, why)| (fatal && self.routes().all_gone(), why))
    }

    /// Whether less than the whole file is asked for.
    pub fn is_part(&self) -> bool {
        self.at > 0 || self.until < self.size
    }

    /// Takes the reply's body for the bytes to come.
    pub fn begin(&mut self, reply: Box<Reply>, skip: u64) {
        self.skip = skip;
        self.source = Source::Open(reply);
    }

    fn judge_alone(&self, reply: &Reply, size: u64) -> Result<u64, (bool, Failure)> {
        match reply.status.as_u16() {
            200 if reply.length.is_some_and(|length| length != size) => Err((true, Failure::WrongSize { size })),
            200 => Ok(self.at),
            206 => {
                let range = reply.text(header::CONTENT_RANGE).unwrap_or_default();
                let right = format!("bytes {}-{}/{size}", self.at, self.until - 1);
                let wrong = || Failure::NoSource(format!("the mirror gave {range:?} for {right:?}"));
                if range == right { Ok(0) } else { Err((true, wrong())) }
            }
            status => {
                let is_passing = matches!(status, 408 | 429 | 500..);
                Err((!is_passing, Failure::NoSource(format!("the mirror answered {status}"))))
            }
        }
    }

    /// Asks the mirror whose turn it is for what is missing.
    fn ask(&mut self) {
        let (at, until) = (self.at, self.until);
        let whole = !self.is_part();
        let (location, if_range, has_other) = {
            let routes = self.routes();
            (routes.location().clone(), routes.if_range().map(str::to_owned), routes.has_other())
        };
        let mut headers = HeaderMap::new();
        if let Some(version) = if_range.filter(|_| !whole).and_then(|version| HeaderValue::from_str(&version).ok()) {
            headers.insert(header::IF_RANGE, version);
        }
        let range = (!whole).then_some((at, Some(until)));
        let ask = mirror::Ask { range, headers, has_other, ..mirror::Ask::default() };
        let (mirror, reach) = (self.mirror.clone(), self.reach.clone());
        let opening = async move { mirror.ask(&location, &ask, |at| reach(at)).await };
        self.source = Source::Opening(opening.boxed());
        (self.asked, self.came, self.heard, self.skip) = (Instant::now(), 0, Instant::now(), 0);
    }

    /// What comes next of the mirror whose turn it is.
    async fn next_of_one(&mut self) -> Came {
        let patience = if self.routes().has_other() { STALL } else { Duration::from_secs(24 * 3600) };
        let deadline = (self.heard + patience).into();
        let late = || Came::Trouble(Trouble::Slow(patience));
        match &mut self.source {
            Source::Opening(opening) => match timeout_at(deadline, opening).await {
                Ok(Ok(reply)) => Came::Reply(Box::new(reply)),
                Ok(Err(trouble)) => Came::Trouble(trouble),
                Err(_) => late(),
            },
            Source::Open(reply) => match timeout_at(deadline, reply.chunk()).await {
                Ok(Ok(Some(bytes))) => Came::Bytes(bytes),
                Ok(Ok(None)) => Came::End,
                Ok(Err(trouble)) => Came::Trouble(trouble),
                Err(_) => late(),
            },
        }
    }

    /// What is passed on of that; `None` when another mirror is to be asked instead.
    fn consider(&mut self, came: Came) -> Option<Came> {
        let now = Instant::now();
        let (gone, why) = match &came {
            Came::Bytes(bytes) => {
                (self.came, self.heard) = (self.came + bytes.len() as u64, now);
                let took = now - self.asked;
                let is_slow = took > METER && (self.came as f64) < SLOW * took.as_secs_f64();
                if !is_slow || !self.routes().has_other() {
                    return Some(came);
                }
                (false, Trouble::Slow(METER).to_string())
            }
            Came::Reply(reply) => {
                self.heard = now;
                let text = |name| reply.text(name).map(str::to_owned);
                let version = Version { last_modified: text(header::LAST_MODIFIED), etag: text(header::ETAG) };
                match self.judge_alone(reply, self.size) {
                    Ok(_) if self.routes().handle_version(version) => return Some(came),
                    Ok(_) => (false, Trouble::Changed.to_string()),
                    Err((gone, why)) => (gone, why.to_string()),
                }
            }
            Came::End => (false, "the mirror's answer was too short".to_owned()),
            Came::Trouble(trouble) => {
                (matches!(trouble, Trouble::Forbidden(_) | Trouble::Redirects), trouble.to_string())
            }
        };
        let from = self.routes().location().clone();
        if matches!(&came, Came::Bytes(_) | Came::Trouble(Trouble::Slow(_))) {
            self.mirror.shun(&from);
        }
        let (goes_on, all_gone) = {
            let mut routes = self.routes();
            (routes.handle_failed(gone), routes.all_gone())
        };
        if goes_on {
            let to = self.routes().location().clone();
            tracing::info!(%from, %to, at = self.at, why, "another mirror goes on");
            return None;
        }
        Some(match came {
            Came::Reply(reply) if self.judge_alone(&reply, self.size).is_ok() => Came::Trouble(Trouble::Changed),
            Came::Trouble(trouble) if gone && !all_gone => Came::Trouble(Trouble::Unreachable(trouble.to_string())),
            came => came,
        })
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
