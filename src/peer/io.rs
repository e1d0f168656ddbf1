//! The sockets of the peers' pool: one connection a peer, one task a connection.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "the door to peers: sockets, tasks and time")]

mod holds;
mod keep;
mod met;

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};

use crate::{hash::PIECE_SIZE, seal::Seal};

pub use met::{Met, Snapshot};

use super::{
    owed::{Owed, SILENCE},
    pipeline::{Answer, Pipeline, Question, Violation},
    standing::{Standing, Standings},
};

/// Open connections at most.
const MAX_CONNECTIONS: usize = 256;
/// Asks that may wait for one connection.
const MAX_WAITING: usize = 512;
/// Asks under way on one connection at most.
const MAX_OUTSTANDING: usize = 64;
/// Time for a connection to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Tasks of connections at most: those that are open, and those that are being dialled or ended beside them.
const MAX_TASKS: usize = MAX_CONNECTIONS + 64;
/// How long a peer that answers 429 is left alone.
const TOO_MUCH: Duration = Duration::from_secs(30);
/// Time over which a rate is measured, unless the peer has nothing more to send before.
const METER: Duration = Duration::from_millis(50);
/// Bytes from which on a rate is worth measuring: fewer come in one breath, however slow the way is.
const MIN_METERED: usize = 16 * 1024;
/// Time after which an idle connection is closed.
const IDLE: Duration = Duration::from_secs(90);
/// Bytes that a connection keeps asked for, before its rate is known.
const FIRST_WINDOW: usize = 3 * PIECE_SIZE as usize;
/// Bytes that a connection keeps asked for at most.
const MAX_WINDOW: usize = 16 * PIECE_SIZE as usize;

/// Why an ask got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It is banned, or pausing after a failure.
    #[error("not asked: banned or pausing")]
    Unwelcome,
    /// No connection, or no place for one more.
    #[error("no connection")]
    Unreachable,
    /// The connection ended or fell silent before the answer was whole.
    #[error("connection lost")]
    Lost,
    /// It broke the protocol.
    #[error(transparent)]
    Violation(#[from] Violation),
}

/// The connections to peers and what is remembered of them. Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    /// The own address that connections leave from, when the daemon is bound to one.
    bind: Option<IpAddr>,
    /// What shows members of a private network that this is one.
    seal: Option<Seal>,
    state: Mutex<State>,
    /// One for each task, beside this one.
    tasks: Arc<()>,
}

#[derive(Default)]
struct State {
    connections: HashMap<SocketAddr, Handle>,
    standings: Standings,
}

/// The pool's end of one connection's task; when it is dropped, an idle connection ends.
struct Handle {
    asks: mpsc::Sender<Waiting>,
    /// Asks that wait or are under way.
    unanswered: Arc<AtomicUsize>,
    /// Told when the peer turned out to be a liar.
    convicted: Arc<Notify>,
}

impl Handle {
    fn is_closed(&self) -> bool {
        self.asks.is_closed()
    }
}

struct Waiting {
    ask: Question,
    reply: oneshot::Sender<Result<Answer, Failure>>,
}

impl Pool {
    /// An empty pool. `bind` is the own address to dial from, if the daemon listens on one only.
    pub fn new(bind: Option<IpAddr>) -> Self {
        Self::sealed(bind, None)
    }

    /// The same in a private network, where every question shows that this host knows the secret.
    pub fn sealed(bind: Option<IpAddr>, seal: Option<Seal>) -> Self {
        Self { shared: Arc::new(Shared { bind, seal, state: Mutex::default(), tasks: Arc::default() }) }
    }

    /// Asks a peer. The answer's bytes are claims. Dropping the future gives the ask up.
    pub async fn ask(&self, peer: SocketAddr, question: impl Into<Question>) -> Result<Answer, Failure> {
        let ask = question.into();
        let (reply, answer) = oneshot::channel();
        let (connection, unanswered) = self.connection(peer)?;
        let _counted = Counted::new(unanswered);
        if connection.try_send(Waiting { ask, reply }).is_err() {
            return Err(Failure::Unreachable);
        }
        drop(connection);
        answer.await.unwrap_or(Err(Failure::Lost))
    }

    /// Whether a peer may be asked now.
    pub fn is_welcome(&self, peer: SocketAddr) -> bool {
        self.shared.lock().standings.is_welcome(peer, Instant::now())
    }

    /// The measured rate of a peer in bytes a second, if it may be asked at all.
    pub fn rate(&self, peer: SocketAddr) -> Option<f64> {
        let state = self.shared.lock();
        let rate = state.standings.of(peer)?.rate;
        rate.filter(|_| state.standings.is_welcome(peer, Instant::now()))
    }

    /// The measured time from an ask to the first byte of its answer.
    pub fn round_trip(&self, peer: SocketAddr) -> Option<Duration> {
        self.shared.lock().standings.of(peer)?.round_trip
    }

    /// Leaves a peer alone for a while.
    pub fn pause(&self, peer: SocketAddr, pause: Duration) {
        self.shared.lock().standings.handle_pause(peer, pause, Instant::now());
    }

    /// A piece of that peer was proven.
    pub fn proven(&self, peer: SocketAddr, bytes: u64) {
        self.shared.lock().standings.handle_proven(peer, bytes, Instant::now());
    }

    /// A piece or state of that peer was proven false: it is named in the log and kept out. Its connection ends, and what it
    /// was asked for is [`Failure::Unwelcome`].
    pub fn convict(&self, peer: SocketAddr, what: &str) {
        let mut state = self.shared.lock();
        let term = state.standings.handle_convicted(peer, Instant::now());
        if let Some(connection) = state.connections.remove(&peer) {
            connection.convicted.notify_one();
        }
        drop(state);
        tracing::warn!(%peer, hours = term.as_secs() / 3600, "liar banned: {what}");
    }

    /// The pool as it is now.
    pub fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        let state = self.shared.lock();
        let peers = state.standings.iter();
        Snapshot {
            connections: state.connections.values().filter(|connection| !connection.is_closed()).count(),
            peers: peers
                .map(|(&address, standing)| Met {
                    address,
                    standing: *standing,
                    is_banned: state.standings.is_banned(address, now),
                    banned_for: standing.banned_for(now),
                    is_connected: state.connections.get(&address).is_some_and(|connection| !connection.is_closed()),
                })
                .collect(),
        }
    }

    fn connection(&self, peer: SocketAddr) -> Result<(mpsc::Sender<Waiting>, Arc<AtomicUsize>), Failure> {
        let mut state = self.shared.lock();
        if !state.standings.is_welcome(peer, Instant::now()) {
            return Err(Failure::Unwelcome);
        }
        if let Some(connection) = state.connections.get(&peer).filter(|connection| !connection.is_closed()) {
            return Ok((connection.asks.clone(), connection.unanswered.clone()));
        }
        state.connections.retain(|_, connection| !connection.is_closed());
        if state.connections.len() >= MAX_CONNECTIONS {
            let is_idle = |(_, connection): &(&SocketAddr, &Handle)| connection.unanswered.load(Relaxed) == 0;
            let idle = state.connections.iter().find(is_idle).map(|(peer, _)| *peer);
            state.connections.remove(&idle.ok_or(Failure::Unreachable)?);
        }
        if Arc::strong_count(&self.shared.tasks) > MAX_TASKS {
            return Err(Failure::Unreachable);
        }
        let (connection, asks) = mpsc::channel(MAX_WAITING);
        let unanswered = Arc::new(AtomicUsize::new(0));
        let convicted = Arc::new(Notify::new());
        let handle = Handle { asks: connection.clone(), unanswered: unanswered.clone(), convicted: convicted.clone() };
        state.connections.insert(peer, handle);
        tokio::spawn(Connection::new(self.shared.clone(), peer, asks, convicted).run());
        Ok((connection, unanswered))
    }
}

/// Counts an ask for as long as somebody waits for its answer.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task of one connection.
struct Connection {
    shared: Arc<Shared>,
    peer: SocketAddr,
    asks: mpsc::Receiver<Waiting>,
    convicted: Arc<Notify>,
    /// Counts this task.
    _task: Arc<()>,
    waiting: VecDeque<Waiting>,
    replies: HashMap<u64, oneshot::Sender<Result<Answer, Failure>>>,
    pipeline: Pipeline,
    next_id: u64,
    window: usize,
    /// When the connection last turned from idle to busy, until the first byte comes.
    asked_idle: Option<Instant>,
    /// Whether the connection has answered before and has been silent since it was asked again.
    is_stale: bool,
    /// Whether nobody can ask any more: what is asked is still answered.
    is_last: bool,
    /// Answers that this connection has brought.
    answered: usize,
    /// Whether the peer closes after each answer: then there is no use in asking ahead.
    closes: bool,
    /// Bytes that came after that time while answers were due, for the rate. It begins with the first byte of an answer,
    /// which says nothing of how long it took itself.
    metered: Option<(usize, Instant)>,
    owed: Owed,
}

impl Connection {
    fn new(shared: Arc<Shared>, peer: SocketAddr, asks: mpsc::Receiver<Waiting>, convicted: Arc<Notify>) -> Self {
        let task = shared.tasks.clone();
        let pipeline = Pipeline::new(peer).sealed(shared.seal.clone());
        Self {
            shared,
            peer,
            asks,
            convicted,
            _task: task,
            waiting: VecDeque::new(),
            replies: HashMap::new(),
            pipeline,
            next_id: 0,
            window: FIRST_WINDOW,
            asked_idle: None,
            is_stale: false,
            is_last: false,
            answered: 0,
            closes: false,
            metered: None,
            owed: Owed::new(Instant::now()),
        }
    }

    async fn run(mut self) {
        // A kept connection ends without a word when the peer has had enough of idling, or with one when it closes after
        // an answer; what is asked and not answered is asked anew, as long as each connection brings something.
        let failure = loop {
            self.answered = 0;
            let failure = self.dial_and_serve().await;
            let is_over =
                failure.is_none() || (failure == Some(Failure::Lost) && (self.is_stale || self.pipeline.is_closing()));
            if !is_over || self.answered == 0 {
                break failure;
            }
            self.ask_anew();
            if self.waiting.is_empty() {
                break None;
            }
        };
        self.asks.close();
        if let Some(failure) = failure {
            tracing::debug!(peer = %self.peer, %failure, "connection ended");
            self.shared.lock().standings.handle_failure(self.peer, Instant::now());
        }
        while let Ok(waiting) = self.asks.try_recv() {
            self.waiting.push_back(waiting);
        }
        let failure = failure.unwrap_or(Failure::Lost);
        for reply in self.replies.into_values().chain(self.waiting.into_iter().map(|waiting| waiting.reply)) {
            let _gone = reply.send(Err(failure));
        }
    }

    async fn dial_and_serve(&mut self) -> Option<Failure> {
        match self.dial().await {
            Ok(stream) => self.serve(stream).await,
            Err(error) => {
                tracing::debug!(peer = %self.peer, %error, "no connection");
                Some(Failure::Unreachable)
            }
        }
    }

    /// Takes the asks of a connection that ended before it answered any back into the queue.
    fn ask_anew(&mut self) {
        let fresh = Pipeline::new(self.peer).sealed(self.shared.seal.clone());
        let pipeline = std::mem::replace(&mut self.pipeline, fresh);
        for (id, ask) in pipeline.into_unanswered().collect::<Vec<_>>().into_iter().rev() {
            if let Some(reply) = self.replies.remove(&id).filter(|reply| !reply.is_closed()) {
                self.waiting.push_front(Waiting { ask, reply });
            }
        }
        self.is_stale = false;
    }

    async fn dial(&self) -> std::io::Result<TcpStream> {
        let socket = if self.peer.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(own) = self.shared.bind.filter(|own| own.is_ipv4() == self.peer.is_ipv4()) {
            socket.bind(SocketAddr::new(own, 0))?;
        }
        socket.set_nodelay(true)?;
        timeout(CONNECT_TIMEOUT, socket.connect(self.peer)).await?
    }

    /// Moves asks and answers until the connection ends. `None` when it ended in good order.
    async fn serve(&mut self, mut stream: TcpStream) -> Option<Failure> {
        let mut buffer = vec![0; 128 * 1024];
        loop {
            self.fill();
            if let Some(bytes) = self.pipeline.poll_transmit()
                && timeout(SILENCE, stream.write_all(&bytes)).await.is_ok_and(|sent| sent.is_ok()).eq(&false)
            {
                return Some(Failure::Lost);
            }
            let busy = self.pipeline.outstanding() > 0;
            if self.is_last && !self.is_awaited() {
                return None;
            }
            let patience = if busy { self.owed.patience(Instant::now()) } else { IDLE };
            tokio::select! {
                () = self.convicted.notified() => return Some(Failure::Unwelcome),
                waiting = self.asks.recv(), if self.waiting.len() < MAX_WAITING && !self.is_last => match waiting {
                    Some(waiting) => self.waiting.push_back(waiting),
                    None if busy || !self.waiting.is_empty() => self.is_last = true,
                    None => return None,
                },
                read = timeout(patience, stream.read(&mut buffer)) => match read {
                    Ok(Ok(0) | Err(_)) | Err(_) if !busy && self.waiting.is_empty() => return None,
                    Ok(Ok(0) | Err(_)) | Err(_) => return Some(Failure::Lost),
                    Ok(Ok(len)) => {
                        let now = Instant::now();
                        match &mut self.metered {
                            Some((bytes, _)) => *bytes += len,
                            None => self.metered = Some((0, now)),
                        }
                        self.owed.handle_bytes(len, now);
                        self.is_stale = false;
                        self.pipeline.handle_bytes(&buffer[..len]);
                        if let Err(violation) = self.settle() {
                            return Some(violation.into());
                        }
                        let is_done = self.pipeline.outstanding() == 0;
                        if is_done && (self.pipeline.is_closing() || (self.is_last && self.waiting.is_empty())) {
                            return None;
                        }
                    }
                },
            }
        }
    }

    /// Whether anybody still waits for an answer.
    fn is_awaited(&self) -> bool {
        let waiting = self.waiting.iter().map(|waiting| &waiting.reply);
        self.replies.values().chain(waiting).any(|reply| !reply.is_closed())
    }

    /// Hands waiting asks to the pipeline, as many as the connection can use.
    fn fill(&mut self) {
        let most = if self.closes { 1 } else { MAX_OUTSTANDING };
        while !self.pipeline.is_closing()
            && self.pipeline.outstanding() < most
            && (self.pipeline.outstanding() == 0 || self.pipeline.bytes_due() < self.window)
            && let Some(Waiting { ask, reply }) = self.waiting.pop_front()
        {
            if reply.is_closed() {
                continue;
            }
            if self.pipeline.outstanding() == 0 {
                let now = Instant::now();
                self.metered = None;
                self.owed = Owed::new(now);
                self.asked_idle = Some(now);
                self.is_stale = self.answered > 0;
            }
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.pipeline.handle_clock(since.as_secs());
            self.pipeline.ask(self.next_id, ask);
            self.replies.insert(self.next_id, reply);
            self.next_id += 1;
        }
    }

    /// Passes on every answer that is whole and learns from its time.
    fn settle(&mut self) -> Result<(), Violation> {
        let now = Instant::now();
        if let Some(asked) = self.asked_idle.take() {
            self.shared.lock().standings.handle_round_trip(self.peer, now - asked, now);
        }
        let answered = self.answered;
        while let Some((id, answer)) = self.pipeline.poll_answer()? {
            self.learn(&answer, now);
            self.answered += 1;
            self.owed.handle_answer(now);
            self.closes |= self.pipeline.is_closing();
            if let Some(reply) = self.replies.remove(&id) {
                let _given_up = reply.send(Ok(answer));
            }
        }
        self.meter(self.answered > answered, now);
        Ok(())
    }

    fn learn(&mut self, answer: &Answer, now: Instant) {
        let standings = &mut self.shared.lock().standings;
        match answer {
            Answer::Body { .. } | Answer::Pieces { .. } | Answer::Holds(_) => standings.handle_good(self.peer, now),
            Answer::Missing | Answer::Lacking => {}
            Answer::Busy(pause) => standings.handle_pause(self.peer, *pause, now),
            Answer::TooMuch => standings.handle_pause(self.peer, TOO_MUCH, now),
        }
    }

    /// Measures over a while: what waits in the socket's buffer comes at once and says nothing of the peer. Nor do small
    /// answers: what was metered of them is forgotten, and with it the way to the next one and back.
    fn meter(&mut self, has_answered: bool, now: Instant) {
        let Some((bytes, since)) = self.metered else { return };
        if bytes < MIN_METERED {
            self.metered = self.metered.filter(|_| !has_answered);
            return;
        }
        if now - since < METER && self.pipeline.outstanding() > 0 {
            return;
        }
        self.metered = Some((0, now));
        let mut state = self.shared.lock();
        state.standings.handle_rate(self.peer, bytes, now - since, now);
        // The bandwidth-delay product, twice, so that the peer never waits for the next ask.
        if let Some(Standing { rate: Some(rate), round_trip: Some(round_trip), .. }) = state.standings.of(self.peer) {
            let product = (2.0 * rate * round_trip.as_secs_f64()) as usize;
            self.window = (product + FIRST_WINDOW).min(MAX_WINDOW);
        }
    }
}

#[cfg(test)]
mod tests;
