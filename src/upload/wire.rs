//! A peer's connection: counts what is written, and ends what goes nowhere.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "the door to a peer's socket and the clock")]

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use actix_http::Protocol;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};

use super::{
    Meter, Peer,
    seats::{Seat, Seats},
};

/// A peer for which bytes wait must take so many of them in so long.
const WINDOW: Duration = Duration::from_secs(20);
const WINDOW_BYTES: u64 = 20 * 2048;

/// A connection on which nothing is sent for so long is of no use, whatever trickles in.
const SILENCE: Duration = Duration::from_secs(180);

/// The stream that actix reads and writes.
pub(super) struct Wire {
    socket: TcpStream,
    meter: Meter,
    patience: Patience,
    wrote: Instant,
    slow: Alarm,
    silent: Alarm,
    _seat: Seat,
}

/// Gives a new connection its seat, or ends it.
pub(super) fn admit(
    socket: TcpStream,
    seats: &Seats,
    meter: &Meter,
) -> Result<(Wire, Protocol, Option<SocketAddr>), ()> {
    let address = socket.peer_addr().map_err(|_| ())?;
    let Some(seat) = seats.take(Peer::of(address.ip())) else {
        meter.0.refused.fetch_add(1, Relaxed);
        return Err(());
    };
    // Answers are whole segments or the end of something; waiting for more only delays them.
    let _ = socket.set_nodelay(true);
    let wire = Wire {
        socket,
        meter: meter.clone(),
        patience: Patience::default(),
        wrote: Instant::now(),
        slow: Alarm::default(),
        silent: Alarm::default(),
        _seat: seat,
    };
    Ok((wire, Protocol::Http1, Some(address)))
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.socket).poll_read(cx, buffer);
        if read.is_ready() {
            return read;
        }
        let until = self.wrote + SILENCE;
        ready!(self.silent.poll(until, cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let now = Instant::now();
            if let Poll::Ready(written) = Pin::new(&mut self.socket).poll_write(cx, bytes) {
                let written = written?;
                self.patience.wrote(written as u64);
                self.wrote = now;
                self.meter.0.bytes_up.fetch_add(written as u64, Relaxed);
                return Poll::Ready(Ok(written));
            }
            let Some(until) = self.patience.blocked(now) else {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            };
            ready!(self.slow.poll(until, cx));
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Called when nothing waits to be written any more.
        self.patience = Patience::default();
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Judges a peer that is slower than what waits for it.
#[derive(Default)]
struct Patience {
    since: Option<Instant>,
    taken: u64,
}

impl Patience {
    fn wrote(&mut self, bytes: u64) {
        self.taken += bytes;
    }

    /// The socket takes nothing now: until when to wait, or `None` when it was enough.
    fn blocked(&mut self, now: Instant) -> Option<Instant> {
        let since = *self.since.get_or_insert_with(|| {
            self.taken = 0;
            now
        });
        if now < since + WINDOW {
            return Some(since + WINDOW);
        }
        if self.taken < WINDOW_BYTES {
            return None;
        }
        *self = Self { since: Some(now), taken: 0 };
        Some(now + WINDOW)
    }
}

/// A timer made at its first use and set anew only when its time changes.
#[derive(Default)]
struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    fn poll(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let until = until.into();
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if sleep.deadline() != until {
            sleep.as_mut().reset(until);
        }
        sleep.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_enough_may_go_on_and_who_does_not_may_not() {
        let start = Instant::now();
        let mut patience = Patience::default();
        patience.wrote(1 << 30);
        assert_eq!(patience.blocked(start), Some(start + WINDOW));
        patience.wrote(WINDOW_BYTES);
        assert_eq!(patience.blocked(start + WINDOW / 2), Some(start + WINDOW));
        assert_eq!(patience.blocked(start + WINDOW), Some(start + 2 * WINDOW));
        patience.wrote(WINDOW_BYTES - 1);
        assert_eq!(patience.blocked(start + 2 * WINDOW), None);
    }
}
