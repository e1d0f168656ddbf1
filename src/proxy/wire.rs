//! The stream under actix's dispatcher: a TCP connection of apt that always ends in good order.
//!
//! apt sits idle for half a minute after a reset in the middle of a pipeline, and reconnects at once after a FIN. A socket
//! that is closed with unread requests in its buffer sends a reset. So, however the dispatcher lets go of a connection,
//! it is half-closed first, what the client still sends is read and dropped, and only then is it closed.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "the door's sockets")]

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::timeout,
};

/// How long a client may take to close its side.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes read and dropped while lingering, at most.
const MAX_DRAIN: usize = 1024 * 1024;
/// Time for the first line of a request to show what kind it is.
const FIRST_LINE: Duration = Duration::from_secs(30);

/// Time between two looks at a first line that comes in parts.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// One connection of a client.
pub struct Wire {
    stream: Option<TcpStream>,
    peer: SocketAddr,
}

impl Wire {
    /// Takes a connection over. Small answers leave at once.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr()?;
        Ok(Self { stream: Some(stream), peer })
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

    fn inner(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.stream.as_mut().expect("the stream is taken only when the wire goes"))
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.inner().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(cx)
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

    #[tokio::test]
    async fn a_wire_that_is_dropped_with_unread_requests_ends_with_a_fin() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("listening");
        let (server, _) = listener.accept().await.expect("a client");
        client.write_all(&[b'x'; 10_000]).await.expect("sent");
        let mut wire = Wire::new(server).expect("connected");
        wire.write_all(b"half an answer").await.expect("sent");
        drop(wire);
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.expect("a FIN, not a reset");
        assert_eq!(got, b"half an answer");
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
            let wire = Wire::new(server).expect("connected");
            assert_eq!(wire.asks_for_tunnel().await, tunnel, "{sent}");
        }
    }
}
