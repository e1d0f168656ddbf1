//! The stream under actix's dispatcher: a TCP connection of apt that always ends in good order.
//!
//! apt sits idle for half a minute after a reset in the middle of a pipeline, and reconnects at once after a FIN. A socket
//! that is closed with unread requests in its buffer sends a reset. So, however the dispatcher lets go of a connection,
//! it is half-closed first, what the client still sends is read and dropped, and only then is it closed.
//!
//! What passes in between is the [`conversation`]'s to say; here it meets the socket and the clock. The dispatcher looks
//! for something to read whenever it is woken, so that is when timers are looked at, too.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "the door's sockets")]

mod conversation;
mod framing;
mod request;

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::{Sleep, timeout},
};

use super::ahead::Ahead;

use conversation::{Conversation, Given, Output, Passage};

pub use conversation::Pace;
pub use request::Head;

/// How long a client may take to close its side.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes read and dropped while lingering, at most.
const MAX_DRAIN: usize = 1024 * 1024;
/// Time for the first line of a request to show what kind it is.
const FIRST_LINE: Duration = Duration::from_secs(30);

/// Time between two looks at a first line that comes in parts.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// Bytes of a client's read at a time.
const READ: usize = 8 * 1024;

/// One connection of a client.
pub struct Wire {
    stream: Option<TcpStream>,
    peer: SocketAddr,
    conversation: Conversation,
    alarm: Option<Pin<Box<Sleep>>>,
    foresee: Option<Foresee>,
    ahead: Ahead,
}

/// Who is told of requests.
type Foresee = Box<dyn FnMut(Place, &Head)>;

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It is answered now.
    First,
    /// It waits behind another one.
    Behind,
}

impl Wire {
    /// Takes a connection over. Small answers leave at once.
    pub fn new(stream: TcpStream, pace: Pace) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr()?;
        let conversation = Conversation::new(pace);
        Ok(Self { stream: Some(stream), peer, conversation, alarm: None, foresee: None, ahead: Ahead::default() })
    }

    /// From now on tells of requests, in their order: those that wait behind another one, and each when its turn comes.
    pub fn foresee(&mut self, foresee: impl FnMut(Place, &Head) + 'static) {
        self.foresee = Some(Box::new(foresee));
    }

    /// What this connection's requests lead to before their turn.
    pub(super) fn ahead(&self) -> &Ahead {
        &self.ahead
    }

    /// The client.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether the first request is a CONNECT; nothing is taken from the stream.
    pub async fn asks_for_tunnel(&self) -> bool {
        const METHOD: &[u8] = b"CONNECT ";
        let Some(stream) = &self.stream else { return false };
        let mut start = [0; METHOD.len()];
        let look = async {
            loop {
                match stream.peek(&mut start).await {
                    Ok(len) if len == METHOD.len() => return start == METHOD,
                    Ok(len) if len > 0 && METHOD.starts_with(&start[..len]) => tokio::time::sleep(BETWEEN_LOOKS).await,
                    _ => return false,
                }
            }
        };
        timeout(FIRST_LINE, look).await.unwrap_or(false)
    }

    /// Hands the connection over to somebody who does without the dispatcher.
    pub fn into_stream(mut self) -> Option<TcpStream> {
        self.stream.take()
    }

    fn socket(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.stream.as_mut().expect("the stream is taken only when the wire goes"))
    }

    /// Reads what the client sends, as far as there is room for it.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.conversation.wants_input() {
            let mut bytes = [0; READ];
            let mut buffer = ReadBuf::new(&mut bytes);
            match self.socket().poll_read(cx, &mut buffer)? {
                Poll::Pending => break,
                Poll::Ready(()) if buffer.filled().is_empty() => self.conversation.handle_input_end(),
                Poll::Ready(()) => self.conversation.handle_input(buffer.filled()),
            }
        }
        Ok(())
    }

    /// Sends what is not the dispatcher's.
    fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.conversation.own().is_empty() {
            let stream = Pin::new(self.stream.as_mut().expect("the stream is taken only when the wire goes"));
            let sent = ready!(stream.poll_write(cx, self.conversation.own()))?;
            self.conversation.handle_own_sent(sent);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_alarm(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let at = at.into();
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if alarm.deadline() != at {
            alarm.as_mut().reset(at);
        }
        alarm.as_mut().poll(cx)
    }

    /// Sends what was held back and then these bytes; says how many of these went.
    fn poll_pass(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            let stream = Pin::new(self.stream.as_mut().expect("the stream is taken only when the wire goes"));
            let parts = [IoSlice::new(self.conversation.held()), IoSlice::new(bytes)];
            let Poll::Ready(sent) = stream.poll_write_vectored(cx, &parts) else {
                self.conversation.handle_blocked();
                return Poll::Pending;
            };
            let sent = sent?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let taken = self.conversation.handle_sent(sent, bytes, Instant::now());
            if taken > 0 || (bytes.is_empty() && self.conversation.held().is_empty()) {
                return Poll::Ready(Ok(taken));
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = &mut *self;
        loop {
            wire.poll_input(cx)?;
            let given = wire.conversation.request(buf.remaining(), Instant::now());
            while let Some(output) = wire.conversation.poll(Instant::now()) {
                let (place, head) = match output {
                    Output::Begun(head) => (Place::First, head),
                    Output::Foresee(head) => (Place::Behind, head),
                    Output::Cut => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                };
                wire.foresee.iter_mut().for_each(|foresee| foresee(place, &head));
            }
            if let Poll::Ready(sent) = wire.poll_own(cx) {
                sent?;
            }
            match given {
                Given::Bytes(bytes) => {
                    buf.put_slice(&bytes);
                    return Poll::Ready(Ok(()));
                }
                Given::End => return Poll::Ready(Ok(())),
                Given::Nothing => {}
            }
            let Some(at) = wire.conversation.next_wake() else { return Poll::Pending };
            ready!(wire.poll_alarm(at, cx));
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let wire = &mut *self;
        ready!(wire.poll_own(cx))?;
        let taken = match wire.conversation.passage(bytes, Instant::now()) {
            Passage::Drop(some) => {
                wire.conversation.handle_dropped(&bytes[..some]);
                some
            }
            Passage::Hold(some) => {
                wire.conversation.handle_held(&bytes[..some]);
                some
            }
            Passage::Pass { bytes: some, hold } => {
                let taken = ready!(wire.poll_pass(&bytes[..some], cx))?;
                let hold = if taken == some { hold } else { 0 };
                wire.conversation.handle_held(&bytes[taken..taken + hold]);
                taken + hold
            }
        };
        if wire.conversation.is_expectant() {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_own(cx))?;
        self.socket().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_own(cx))?;
        while !self.conversation.held().is_empty() {
            ready!(self.poll_pass(&[], cx))?;
        }
        self.socket().poll_shutdown(cx)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let (Some(stream), Ok(runtime)) = (self.stream.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(linger(stream));
        }
    }
}

async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let drain = async {
        let mut buffer = [0; 4096];
        let mut drained = 0;
        while let Ok(len) = stream.read(&mut buffer).await
            && len > 0
            && drained < MAX_DRAIN
        {
            drained += len;
        }
    };
    let _closed_late = timeout(LINGER, drain).await;
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const HALF: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf";

    #[tokio::test]
    async fn a_wire_that_is_dropped_with_unread_requests_ends_with_a_fin() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("listening");
        let (server, _) = listener.accept().await.expect("a client");
        client.write_all(&[b'x'; 10_000]).await.expect("sent");
        let mut wire = Wire::new(server, Pace::default()).expect("connected");
        wire.write_all(HALF).await.expect("sent");
        drop(wire);
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.expect("a FIN, not a reset");
        assert_eq!(got, HALF);
        client.write_all(b"more").await.expect("still drained");
    }

    #[tokio::test]
    async fn only_connect_asks_for_a_tunnel() {
        for (sent, tunnel) in
            [("CONNECT a:443 HTTP/1.1\r\n", true), ("GET / HTTP/1.1\r\n", false), ("CONNECTION", false)]
        {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
            let mut client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("listening");
            let (server, _) = listener.accept().await.expect("a client");
            client.write_all(sent.as_bytes()).await.expect("sent");
            let wire = Wire::new(server, Pace::default()).expect("connected");
            assert_eq!(wire.asks_for_tunnel().await, tunnel, "{sent}");
        }
    }
}
