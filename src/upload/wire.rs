//! A peer's connection: lets out what the faucet allows, counts it, and ends what goes nowhere.
//!
//! The limit is on bytes that the socket takes, heads of answers included, and a turn is asked for only when it takes some:
//! who reads slowly holds up nobody else. Heads alone go at once, so that a refusal tells a peer without delay to ask
//! elsewhere.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "the door to a peer's socket and the clock")]

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use actix_http::Protocol;
use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};

use super::{
    Meter, Pace, Patience, Peer,
    recall::Recall,
    seats::{Seat, Seats},
};

/// Bytes that need no turn: an answer's head, or the end of a body.
const SMALL: usize = 1024;

/// What new connections are given, and held to.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) seats: Seats,
    /// Those of uploads.
    pub(super) places: Seats,
    pub(super) meter: Meter,
    pub(super) pace: Pace,
    pub(super) patience: Patience,
}

/// The stream that actix reads and writes.
pub(super) struct Wire {
    socket: TcpStream,
    peer: Peer,
    /// What this peer took, over all its connections.
    taken: Arc<AtomicU64>,
    gate: Gate,
    /// Bytes of a turn that are still to be written.
    allowed: usize,
    turn: Option<Turn>,
    progress: Progress,
    wrote: Instant,
    slow: Alarm,
    silent: Alarm,
    recall: Recall,
    _seat: Seat,
}

/// A turn that was asked for.
struct Turn {
    bytes: usize,
    since: Instant,
    given: BoxFuture<'static, ()>,
}

impl Gate {
    /// Gives a new connection its seat, or ends it.
    pub(super) fn admit(&self, socket: TcpStream) -> Result<(Wire, Protocol, Option<SocketAddr>), ()> {
        let address = socket.peer_addr().map_err(|_| ())?;
        let peer = Peer::of(address.ip());
        let recall = Recall::default();
        let Some(seat) = self.seats.take(peer, recall.clone(), Instant::now()) else {
            self.meter.0.refused.fetch_add(1, Relaxed);
            return Err(());
        };
        // Answers are whole segments or the end of something; waiting for more only delays them.
        let _ = socket.set_nodelay(true);
        let wire = Wire {
            socket,
            peer,
            taken: self.meter.0.takers.of(peer),
            gate: self.clone(),
            allowed: 0,
            turn: None,
            progress: Progress::default(),
            wrote: Instant::now(),
            slow: Alarm::default(),
            silent: Alarm::default(),
            recall,
            _seat: seat,
        };
        Ok((wire, Protocol::Http1, Some(address)))
    }
}

impl Wire {
    /// What ends this connection when its seats are needed.
    pub(super) fn recall(&self) -> Recall {
        self.recall.clone()
    }

    /// Waits for the right to write some of these bytes, and says how many.
    fn poll_turn(&mut self, bytes: usize, cx: &mut Context<'_>) -> Poll<usize> {
        if self.allowed > 0 {
            return Poll::Ready(self.allowed.min(bytes));
        }
        if self.turn.is_none() && (bytes > SMALL || !self.gate.pace.goes_at_once(bytes)) {
            let turn = self.gate.pace.turn(self.peer, bytes);
            self.turn = turn.map(|(bytes, given)| Turn { bytes, since: Instant::now(), given });
        }
        let Some(turn) = &mut self.turn else { return Poll::Ready(bytes) };
        ready!(turn.given.as_mut().poll(cx));
        // It was not the peer that was slow.
        self.progress.excuse(turn.since.elapsed());
        self.allowed = turn.bytes;
        self.turn = None;
        Poll::Ready(self.allowed.min(bytes))
    }

    fn wrote(&mut self, bytes: usize, now: Instant) {
        self.allowed = self.allowed.saturating_sub(bytes);
        self.progress.wrote(bytes as u64);
        self.wrote = now;
        self.gate.meter.0.bytes_up.fetch_add(bytes as u64, Relaxed);
        self.taken.fetch_add(bytes as u64, Relaxed);
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.recall.poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let read = Pin::new(&mut self.socket).poll_read(cx, buffer);
        if read.is_ready() {
            return read;
        }
        let until = self.wrote + self.gate.patience.silence;
        ready!(self.silent.poll(until, cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wire = &mut *self;
        if wire.recall.poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        loop {
            if let Poll::Ready(takes_some) = wire.socket.poll_write_ready(cx) {
                takes_some?;
                let most = ready!(wire.poll_turn(bytes.len(), cx));
                if let Poll::Ready(written) = Pin::new(&mut wire.socket).poll_write(cx, &bytes[..most]) {
                    let written = written?;
                    wire.wrote(written, Instant::now());
                    return Poll::Ready(Ok(written));
                }
            }
            let now = Instant::now();
            let is_contended = wire.gate.places.is_contended(now) || wire.gate.seats.is_contended(now);
            let Some(until) = wire.progress.blocked(now, wire.gate.patience, is_contended) else {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            };
            ready!(wire.slow.poll(until, cx));
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Called when nothing waits to be written any more.
        self.progress = Progress::default();
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Judges a peer that is slower than what waits for it.
#[derive(Default)]
struct Progress {
    since: Option<Instant>,
    taken: u64,
}

impl Progress {
    fn wrote(&mut self, bytes: u64) {
        self.taken += bytes;
    }

    /// The peer was kept waiting for so long.
    fn excuse(&mut self, waited: Duration) {
        self.since = self.since.map(|since| since + waited);
    }

    /// The socket takes nothing now: until when to wait before asking again, or `None` when it was enough. Whoever takes
    /// up a place that others wait for is expected to make haste.
    fn blocked(&mut self, now: Instant, patience: Patience, is_contended: bool) -> Option<Instant> {
        let since = *self.since.get_or_insert_with(|| {
            self.taken = 0;
            now
        });
        let look = patience.window / patience.haste.max(1);
        let age = now.saturating_duration_since(since);
        if age < if is_contended { look } else { patience.window } {
            let looked = age.as_nanos() / look.as_nanos().max(1);
            return Some(since + look * (looked as u32 + 1));
        }
        if self.taken < patience.bytes {
            return None;
        }
        *self = Self { since: Some(now), taken: 0 };
        Some(now + look)
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

    const PATIENCE: Patience =
        Patience { window: Duration::from_secs(20), bytes: 40_000, haste: 4, silence: Duration::from_secs(180) };
    const LOOK: Duration = Duration::from_secs(5);

    /// Waits until the peer is given up, or for so many windows, and says how long that was.
    fn waits(progress: &mut Progress, start: Instant, windows: u32, is_contended: bool) -> Duration {
        let mut now = start;
        while now < start + windows * PATIENCE.window {
            let Some(until) = progress.blocked(now, PATIENCE, is_contended) else { break };
            assert!(until > now);
            now = until;
        }
        now - start
    }

    #[test]
    fn who_takes_enough_may_go_on_and_who_does_not_may_not() {
        let start = Instant::now();
        let mut progress = Progress::default();
        progress.wrote(1 << 30);
        assert_eq!(progress.blocked(start, PATIENCE, false), Some(start + LOOK));
        progress.wrote(PATIENCE.bytes);
        let (one, two) = (start + PATIENCE.window, start + 2 * PATIENCE.window);
        assert_eq!(progress.blocked(one, PATIENCE, false), Some(one + LOOK));
        progress.wrote(PATIENCE.bytes - 1);
        assert_eq!(progress.blocked(two - LOOK, PATIENCE, false), Some(two));
        assert_eq!(progress.blocked(two, PATIENCE, false), None);
    }

    #[test]
    fn who_takes_up_a_place_that_others_wait_for_has_a_quarter_of_the_time() {
        let start = Instant::now();
        assert_eq!(waits(&mut Progress::default(), start, 9, false), PATIENCE.window);
        assert_eq!(waits(&mut Progress::default(), start, 9, true), LOOK);
        let mut progress = Progress::default();
        assert!(progress.blocked(start, PATIENCE, true).is_some());
        progress.wrote(PATIENCE.bytes);
        assert!(progress.blocked(start + LOOK, PATIENCE, true).is_some(), "it is quick enough");
        assert_eq!(progress.blocked(start + 2 * LOOK, PATIENCE, true), None);
    }

    #[test]
    fn time_in_which_a_peer_had_to_wait_for_its_turn_is_not_held_against_it() {
        let start = Instant::now();
        let mut progress = Progress::default();
        progress.excuse(PATIENCE.window);
        assert_eq!(progress.blocked(start, PATIENCE, false), Some(start + LOOK));
        progress.excuse(PATIENCE.window);
        assert_eq!(waits(&mut progress, start, 9, true), PATIENCE.window + LOOK);
    }
}
