//! A run of the mirror's bytes, as they come.

use std::ops::Range;

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};

use crate::{
    fetch::Origin,
    hash::Expected,
    mirror::{self, Mirror, Reply, Trouble, header},
};

use super::growing::Failure;

/// One request to the mirror for a run of pieces.
pub(super) struct Stream {
    source: Source,
    /// Where the next byte belongs.
    pub at: u64,
    /// Where the run ends.
    pub until: u64,
    /// Bytes still to be dropped, when the mirror does not serve ranges.
    pub skip: u64,
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
        let whole = at == 0 && until == expected.size;
        let ask = mirror::Ask { range: (!whole).then_some((at, Some(until))), ..mirror::Ask::default() };
        let (mirror, location, reach) = (mirror.clone(), origin.location.clone(), origin.reach.clone());
        let opening = async move { mirror.ask(&location, &ask, |at| reach(at)).await };
        Self { source: Source::Opening(opening.boxed()), at, until, skip: 0 }
    }

    /// What comes next; for ever nothing when there is no stream.
    pub async fn next(stream: &mut Option<Self>) -> Came {
        match stream.as_mut().map(|stream| &mut stream.source) {
            None => std::future::pending().await,
            Some(Source::Opening(opening)) => match opening.await {
                Ok(reply) => Came::Reply(Box::new(reply)),
                Err(trouble) => Came::Trouble(trouble),
            },
            Some(Source::Open(reply)) => match reply.chunk().await {
                Ok(Some(bytes)) => Came::Bytes(bytes),
                Ok(None) => Came::End,
                Err(trouble) => Came::Trouble(trouble),
            },
        }
    }

    /// Whether a reply is of the promised file: the bytes to drop before the run begins; or whether there is no use in
    /// trying again, and why.
    pub fn judge(&self, reply: &Reply, expected: &Expected) -> Result<u64, (bool, Failure)> {
        let size = expected.size;
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

    /// Takes the reply's body for the bytes to come.
    pub fn begin(&mut self, reply: Box<Reply>, skip: u64) {
        self.skip = skip;
        self.source = Source::Open(reply);
    }
}
