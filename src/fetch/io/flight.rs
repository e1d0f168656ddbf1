//! The driver of one download: carries out what the plan wishes and tells it, and the ledger, what came of it.
#![expect(clippy::disallowed_methods, reason = "the door of fetch: time, and the file that grows")]

mod trouble;

use std::{
    collections::HashSet,
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered},
};

use crate::{
    hash::{Expected, PieceChain, Stepper, Verified},
    mirror,
    peer::{self, Answer},
    store::{Mark, Partial},
};

use crate::fetch::{
    Holder, Lead, Origin, Shared,
    ledger::{Finding, Ledger, Ruling, SourceId},
    plan::{Plan, Wish},
};

use super::{
    growing::{Failure, SAFETY_CATCH},
    stream::{Came, Stream},
    tally::{Outcome, Report},
};

/// The mirror, as a source.
const MIRROR: SourceId = SourceId(0);
/// How long a download goes on without readers before half of it is there.
const DESERTED: Duration = Duration::from_secs(30);

/// One download as it goes: the two machines, and what they need of the world.
pub(super) struct Flight<'a> {
    lead: &'a Lead,
    shared: &'a Shared,
    partial: &'a Partial,
    expected: Expected,
    origin: Option<Origin>,
    ledger: Ledger,
    plan: Plan,
    addresses: Vec<SocketAddr>,
    asks: FuturesUnordered<BoxFuture<'static, Reached>>,
    stream: Option<Stream>,
    /// The piece that the mirror's last stream left unfinished.
    broken_off: Option<Stepper>,
    chains_asked: HashSet<SourceId>,
    cautious: bool,
    mark: Option<Mark>,
    tainted: Option<u64>,
    mismatched: bool,
    /// Why the mirror is of no use, if it is of none.
    trouble: Option<Failure>,
    began: Instant,
    first_byte: Option<Duration>,
    deserted_since: Option<Instant>,
    received: u64,
    peer_pieces: usize,
    givers: HashSet<SourceId>,
    mirror_pieces: usize,
}

/// A peer's answer has come, or will not.
struct Reached {
    source: SourceId,
    piece: Option<usize>,
    result: Result<Answer, peer::Failure>,
}

impl<'a> Flight<'a> {
    pub fn new(lead: &'a Lead, partial: &'a Partial, origin: Option<Origin>) -> Self {
        let shared = &*lead.shared;
        let expected = *lead.vouched.expected();
        let now = Instant::now();
        let plan = Plan::new(shared.config.mirror, origin.is_some(), shared.pool.has_measured(), now);
        Self {
            lead,
            shared,
            partial,
            expected,
            origin,
            ledger: Ledger::new(expected),
            plan,
            addresses: Vec::new(),
            asks: FuturesUnordered::new(),
            stream: None,
            broken_off: None,
            chains_asked: HashSet::new(),
            cautious: shared.was_cut(expected.hash),
            mark: None,
            tainted: None,
            mismatched: false,
            trouble: None,
            began: now,
            first_byte: None,
            deserted_since: None,
            received: 0,
            peer_pieces: 0,
            givers: HashSet::new(),
            mirror_pieces: 0,
        }
    }

    /// Brings the file and proves it.
    pub async fn run(&mut self, mut holders: BoxStream<'static, Holder>) -> Result<Verified, Failure> {
        // What is known at once decides better than what comes a moment later.
        let mut holders_open = true;
        while let Some(known) = holders.next().now_or_never() {
            match known {
                Some(holder) => self.handle_holder(holder),
                None => {
                    holders_open = false;
                    self.plan.handle_holders_ended();
                    break;
                }
            }
        }
        loop {
            self.attend()?;
            self.release();
            if let Some(verified) = self.ledger.verified() {
                self.release_all();
                return Ok(verified);
            }
            let now = Instant::now();
            while let Some(wish) = self.plan.poll(&self.ledger, now) {
                self.fulfil(wish)?;
            }
            let wake = tokio::time::sleep_until(self.plan.next_wake(now).into());
            tokio::select! {
                holder = holders.next(), if holders_open => match holder {
                    Some(holder) => self.handle_holder(holder),
                    None => {
                        holders_open = false;
                        self.plan.handle_holders_ended();
                    }
                },
                Some(reached) = self.asks.next(), if !self.asks.is_empty() => self.handle_reached(reached)?,
                came = Stream::next(&mut self.stream) => self.handle_stream(came)?,
                () = wake => self.check_deserted()?,
            }
        }
    }

    fn fulfil(&mut self, wish: Wish) -> Result<(), Failure> {
        tracing::trace!(?wish, file = self.lead.vouched.path());
        match wish {
            Wish::AskPiece { source, piece } => {
                self.ask(source, Some(piece), peer::Ask::Piece { file: self.expected, index: piece });
            }
            Wish::AskChain { source } => self.ask_chain(source),
            Wish::Stream { from, until } => self.open_stream(from, until),
            Wish::Halt => self.stream = None,
            Wish::Exhausted { piece } => self.ledger.handle_exhausted(piece),
            Wish::GiveUp if self.mismatched => return Err(Failure::Mismatch),
            Wish::GiveUp => {
                let nobody = || Failure::NoSource("nobody has it".to_owned());
                return Err(self.trouble.take().unwrap_or_else(nobody));
            }
        }
        Ok(())
    }

    fn ask(&mut self, source: SourceId, piece: Option<usize>, ask: peer::Ask) {
        let (pool, address) = (self.shared.pool.clone(), self.address(source));
        let asked = async move { Reached { source, piece, result: pool.ask(address, ask).await } };
        self.asks.push(asked.boxed());
    }

    fn ask_chain(&mut self, source: SourceId) {
        if self.chains_asked.insert(source) {
            self.plan.handle_chain_asked(source, Instant::now());
            self.ask(source, None, peer::Ask::Chain { file: self.expected });
        }
    }

    fn address(&self, source: SourceId) -> SocketAddr {
        self.addresses[source.0 as usize - 1]
    }

    fn open_stream(&mut self, from: usize, until: usize) {
        let Some(origin) = &self.origin else { return };
        self.ledger.handle_overwrite();
        let (_, state) = self.ledger.front();
        let begun = self.broken_off.take().filter(|stepper| stepper.index() == from && stepper.from() == state);
        let stepper = begun.unwrap_or_else(|| Stepper::new(&self.expected, from, state));
        let until = self.expected.span(until - 1).end;
        self.stream = Some(Stream::open(&self.shared.mirror, origin, &self.expected, stepper, until));
    }

    fn handle_holder(&mut self, holder: Holder) {
        match holder {
            Holder::Chain(chain) => self.claim(chain, None),
            Holder::Searched => self.plan.handle_holders_ended(),
            Holder::Peer(address) => {
                if !self.addresses.contains(&address) && self.shared.pool.is_welcome(address) {
                    let rate = self.shared.pool.rate(address);
                    if self.plan.handle_holder(rate, Instant::now()).is_some() {
                        self.addresses.push(address);
                    }
                }
            }
        }
    }

    fn handle_reached(&mut self, Reached { source, piece, result }: Reached) -> Result<(), Failure> {
        let now = Instant::now();
        match (result, piece) {
            (Ok(Answer::Body { bytes, chain, .. }), Some(piece)) => {
                self.received += bytes.len() as u64;
                if let Some(digest) = chain
                    && self.expected.pieces() > 1
                    && !self.ledger.vouch(digest, source)
                {
                    self.ask_chain(source);
                }
                self.handle_piece(source, piece, &bytes, now)?;
            }
            (Ok(Answer::Pieces { chain, .. }), _) => {
                self.plan.handle_chain(source, now);
                chain.into_iter().for_each(|chain| self.claim(chain, Some(source)));
            }
            (Ok(Answer::Missing) | Err(peer::Failure::Unwelcome), _) => self.plan.handle_gone(source),
            (Ok(Answer::Body { .. }), None) | (Ok(Answer::TooMuch), _) => self.plan.handle_gone(source),
            (Ok(Answer::Busy(pause)), piece) => self.fail(source, piece, Some(pause), now),
            (Ok(Answer::Lacking) | Err(_), piece) => self.fail(source, piece, None, now),
        }
        Ok(())
    }

    fn claim(&mut self, chain: PieceChain, supplier: Option<SourceId>) {
        if self.ledger.handle_claim(chain, supplier) {
            self.plan.handle_new_claim();
        }
    }

    fn fail(&mut self, source: SourceId, piece: Option<usize>, pause: Option<Duration>, now: Instant) {
        if piece.is_none() {
            self.chains_asked.remove(&source);
        }
        self.plan.handle_failed(source, piece, pause, now);
    }

    fn handle_piece(&mut self, source: SourceId, piece: usize, bytes: &[u8], now: Instant) -> Result<(), Failure> {
        let front_before = self.ledger.front().0;
        match self.ledger.handle_piece(piece, source, bytes) {
            Ruling::Kept => {
                if piece == front_before {
                    self.replace_streamed(piece, bytes)?;
                }
                self.write(self.expected.span(piece).start, bytes)?;
                self.plan.handle_kept(source, piece, self.shared.pool.rate(self.address(source)), now);
            }
            Ruling::Surplus => self.plan.handle_kept(source, piece, self.shared.pool.rate(self.address(source)), now),
            Ruling::Unfit => self.plan.handle_unfit(source, piece),
            Ruling::Unjudged => self.plan.handle_failed(source, Some(piece), None, now),
        }
        Ok(())
    }

    /// A peer was quicker with the piece that the mirror is streaming. What readers already had of it must be the same.
    fn replace_streamed(&mut self, piece: usize, bytes: &[u8]) -> Result<(), Failure> {
        let start = self.expected.span(piece).start;
        let Some(stream) = self.stream.take_if(|stream| stream.at > start) else { return Ok(()) };
        self.plan.handle_mirror_done();
        let streamed = (stream.at - start) as usize;
        if self.read(start, streamed)? != bytes[..streamed] {
            self.taint(start);
        }
        Ok(())
    }

    fn handle_stream(&mut self, came: Came) -> Result<(), Failure> {
        let now = Instant::now();
        match came {
            Came::Reply(reply) => {
                match self.stream.as_ref().expect("the reply is the stream's").judge(&reply, &self.expected) {
                    Ok(skip) => {
                        if let Some(modified) = reply.text(mirror::header::LAST_MODIFIED) {
                            let modified = modified.to_owned();
                            self.lead.progress.send_modify(|progress| progress.last_modified = Some(modified));
                        }
                        self.stream.as_mut().expect("the reply is the stream's").begin(reply, skip);
                    }
                    Err((fatal, why)) => self.lose_stream(fatal, why, now),
                }
            }
            Came::Bytes(bytes) => {
                self.received += bytes.len() as u64;
                self.shared.tally.add_mirror(bytes.len() as u64);
                self.plan.handle_mirror_bytes(bytes.len(), now);
                self.take_streamed(&bytes)?;
            }
            Came::End => {
                let short = Failure::NoSource("the mirror's answer was too short".to_owned());
                self.lose_stream(false, short, now);
            }
            Came::Trouble(trouble) => self.handle_trouble(&trouble, now),
        }
        Ok(())
    }

    fn lose_stream(&mut self, fatal: bool, why: Failure, now: Instant) {
        tracing::debug!(file = self.lead.vouched.path(), fatal, %why, "the mirror broke off");
        // What came of the piece is on disk and hashed; the next stream goes on behind it.
        self.broken_off = self.stream.take().filter(|stream| stream.skip == 0).map(|stream| stream.stepper);
        self.trouble = Some(why);
        self.plan.handle_mirror_failed(fatal, now);
    }

    /// Writes and hashes the mirror's bytes as they come.
    fn take_streamed(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Some(mut stream) = self.stream.take() else { return Ok(()) };
        let skipped = stream.skip.min(bytes.len() as u64);
        stream.skip -= skipped;
        let mut bytes = &bytes[skipped as usize..];
        while !bytes.is_empty() && stream.at < stream.until {
            let take = bytes.len().min(stream.stepper.missing());
            self.write(stream.at, &bytes[..take])?;
            stream.stepper.update(&bytes[..take]);
            stream.at += take as u64;
            bytes = &bytes[take..];
            if stream.stepper.missing() > 0 {
                break;
            }
            let step = stream.stepper.finish().expect("a piece with nothing missing is whole");
            self.mirror_pieces += 1;
            self.ledger.handle_front(step, MIRROR);
            let (front, state) = self.ledger.front();
            // The front jumped over pieces that peers brought, fell back, or the stream's part is done.
            if front != step.index() + 1 || stream.at >= stream.until {
                self.plan.handle_mirror_done();
                return Ok(());
            }
            stream.stepper = Stepper::new(&self.expected, front, state);
        }
        self.stream = Some(stream);
        Ok(())
    }

    /// Acts on what the ledger found out.
    fn attend(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        while let Some(finding) = self.ledger.poll_finding() {
            match finding {
                Finding::Convicted { source: MIRROR, piece } => {
                    tracing::warn!(file = self.lead.vouched.path(), piece, "the mirror sent false bytes");
                }
                Finding::Convicted { source, piece } => {
                    let what = format!("false piece {piece} of {}", self.lead.vouched.path());
                    self.shared.pool.convict(self.address(source), &what);
                    self.shared.tally.add_conviction();
                    self.plan.handle_gone(source);
                }
                Finding::Proven { source: MIRROR, .. } => {}
                Finding::Proven { source, piece } => {
                    let bytes = self.expected.piece_len(piece) as u64;
                    self.peer_pieces += 1;
                    self.givers.insert(source);
                    self.shared.tally.add_peers(bytes);
                    self.shared.pool.proven(self.address(source), bytes);
                }
                Finding::Reread { piece } => {
                    let bytes = self.read(self.expected.span(piece).start, self.expected.piece_len(piece))?;
                    self.stop_stream();
                    self.ledger.handle_reread(piece, &bytes);
                }
                Finding::Discarded { source, piece } => {
                    self.taint(self.expected.span(piece).start);
                    if source == MIRROR {
                        self.mismatched = true;
                        self.plan.handle_mirror_failed(true, now);
                    }
                }
            }
        }
        if self.ledger.is_hopeless() {
            self.stop_stream();
            self.mismatched = true;
            self.taint(0);
            // Without a claim nobody can say which piece is false. Peers that took part are left out; a mirror that was
            // alone is.
            let senders = self.ledger.reset();
            if senders.iter().all(|source| *source == MIRROR) {
                self.plan.handle_mirror_failed(true, now);
            }
            senders.into_iter().filter(|source| *source != MIRROR).for_each(|source| self.plan.handle_gone(source));
        }
        Ok(())
    }

    fn stop_stream(&mut self) {
        if self.stream.take().is_some() {
            self.plan.handle_mirror_done();
        }
    }

    /// Bytes from there on that readers may already have are wrong: they are cut, and the next get proven bytes only.
    fn taint(&mut self, from: u64) {
        let released = self.lead.progress.borrow().released;
        self.cautious = true;
        if released <= from {
            return;
        }
        tracing::warn!(file = self.lead.vouched.path(), from, "wrong bytes were passed on; readers are cut");
        self.tainted = Some(self.tainted.map_or(from, |tainted| tainted.min(from)));
        self.shared.remember_cut(self.expected.hash);
        self.lead.progress.send_modify(|progress| {
            progress.tainted = self.tainted;
            progress.released = progress.released.min(from);
        });
    }

    /// Lets readers have what is there from the front, but for the safety catch.
    fn release(&mut self) {
        if self.cautious {
            return;
        }
        let streamed = self.stream.as_ref().map_or(0, |stream| if stream.skip == 0 { stream.at } else { 0 });
        let front = self.ledger.front().0;
        let held = if front == 0 { 0 } else { self.expected.span(front - 1).end };
        let ready = streamed.max(held).min(self.expected.size.saturating_sub(SAFETY_CATCH));
        if ready <= self.lead.progress.borrow().released {
            return;
        }
        if self.mark.is_none() {
            match self.shared.store.mark_released(self.expected.hash) {
                Ok(mark) => self.mark = Some(mark),
                Err(error) => {
                    tracing::warn!(%error, "cannot mark what is passed on; it waits until it is proven");
                    self.cautious = true;
                    return;
                }
            }
        }
        self.first_byte.get_or_insert_with(|| self.began.elapsed());
        self.lead.progress.send_modify(|progress| progress.released = ready);
    }

    fn release_all(&mut self) {
        self.first_byte.get_or_insert_with(|| self.began.elapsed());
        self.lead.progress.send_modify(|progress| progress.released = self.expected.size);
    }

    /// A download that nobody reads any more ends, unless half of it is there.
    fn check_deserted(&mut self) -> Result<(), Failure> {
        // One receiver waits in the table of flights, one in the lead.
        if self.lead.progress.receiver_count() > 2 || 2 * self.ledger.missing() < self.expected.pieces() {
            self.deserted_since = None;
            return Ok(());
        }
        let since = *self.deserted_since.get_or_insert_with(Instant::now);
        if since.elapsed() > DESERTED { Err(Failure::Deserted) } else { Ok(()) }
    }

    /// Whether nothing wrong, now or earlier, can have been passed on.
    pub fn is_clean(&self) -> bool {
        self.mark == Some(Mark::Fresh) && self.tainted.is_none()
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), Failure> {
        self.partial.write_at(at, bytes).map_err(|error| Failure::Store(error.to_string()))
    }

    fn read(&self, at: u64, len: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes = vec![0; len];
        self.partial.read_at(at, &mut bytes).map_err(|error| Failure::Store(error.to_string()))?;
        Ok(bytes)
    }

    /// What is to be remembered of it.
    pub fn report(&self, outcome: Outcome) -> Report {
        let useful = if outcome.is_ok() { self.expected.size } else { 0 };
        Report {
            path: self.lead.vouched.path().to_owned(),
            repository: self.lead.vouched.repository().to_string(),
            expected: self.expected,
            from_peers: self.peer_pieces,
            from_mirror: self.expected.pieces().saturating_sub(self.peer_pieces).min(self.mirror_pieces),
            peers: self.givers.len(),
            wasted: self.received.saturating_sub(useful),
            took: self.began.elapsed(),
            first_byte: self.first_byte,
            ended: SystemTime::now(),
            outcome,
        }
    }
}
