//! The driver of one download: carries out what the course wants done and tells it what came of it.
#![expect(clippy::disallowed_methods, reason = "the door of fetch: time, and the file that grows")]

mod account;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    ops::Range,
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt, StreamExt,
    future::{AbortHandle, Abortable, Aborted, BoxFuture},
    stream::{BoxStream, FuturesUnordered},
};

use crate::{
    hash::{Expected, PIECE_SIZE, Verified},
    mirror::{self, Trouble},
    peer::{self, Answer},
    store::{Earlier, Lent, Partial},
};

use crate::fetch::{
    Holder, Lead, Origin, Shared,
    audience::Audience,
    course::{self, Course, Deed, Sent, Setup},
    crowd,
    ledger::{EARLIER, Grade, MIRROR, SourceId},
    plan::{Call, Measure},
};

use super::{
    doubts::Unproven,
    growing::Failure,
    live::Source,
    stream::{Came, Stream},
};

/// How long a peer is left alone that passed on a false piece.
const PAUSE: Duration = Duration::from_secs(300);
/// Holders that wait for room among those that are asked, at most.
const MAX_PARKED: usize = 64;

/// One download as it goes: its course, and what that needs of the world.
pub(super) struct Flight<'a> {
    lead: &'a Lead,
    shared: &'a Shared,
    partial: &'a Partial,
    expected: Expected,
    origin: Option<Origin>,
    course: Course,
    addresses: Vec<SocketAddr>,
    /// Holders for whom there was no room yet.
    parked: VecDeque<SocketAddr>,
    /// Whether all were named who could be found at once.
    searched: bool,
    chain_lent: bool,
    asks: FuturesUnordered<BoxFuture<'static, Result<Reached, Aborted>>>,
    /// Pieces asked for, each with what ends the waiting.
    waiting: HashMap<(SourceId, usize), AbortHandle>,
    stream: Option<Stream>,
    /// Bytes of its that are out, or were.
    unproven: Option<Unproven>,
    /// Why the mirror is of no use, if it is of none.
    trouble: Option<Failure>,
    began: Instant,
    first_byte: Option<Duration>,
    audience: Audience,
    received: u64,
    peer_pieces: usize,
    givers: HashSet<SourceId>,
    from_mirror: u64,
    lan_pieces: usize,
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
        let setup = Setup {
            expected,
            mirror_use: shared.config.mirror,
            mirror: origin.is_some(),
            quickest: shared.pool.quickest(),
            cautious: shared.was_cut(expected.hash),
            seed: RandomState::new().hash_one(expected),
        };
        Self {
            lead,
            shared,
            partial,
            expected,
            origin,
            course: Course::new(setup, now),
            addresses: Vec::new(),
            parked: VecDeque::new(),
            searched: false,
            chain_lent: false,
            asks: FuturesUnordered::new(),
            waiting: HashMap::new(),
            stream: None,
            unproven: None,
            trouble: None,
            began: now,
            first_byte: None,
            audience: Audience::default(),
            received: 0,
            peer_pieces: 0,
            givers: HashSet::new(),
            from_mirror: 0,
            lan_pieces: 0,
        }
    }

    /// Goes on where an earlier download stood.
    pub fn go_on(&mut self, earlier: Earlier) {
        let (proven, written) = (earlier.steps.len(), earlier.written.len());
        if proven + written > 0 {
            tracing::info!(path = self.lead.vouched.path(), proven, written, "goes on where it was interrupted");
        }
        self.course.handle_earlier(earlier);
    }

    /// Brings the file and proves it.
    pub async fn run(&mut self, mut holders: BoxStream<'static, Holder>) -> Result<Verified, Failure> {
        // What is known at once decides better than what comes a moment later.
        let mut holders_open = true;
        while holders_open && let Some(known) = holders.next().now_or_never() {
            holders_open = self.handle_holder(known);
        }
        loop {
            self.check_deserted()?;
            self.admit_parked();
            while let Some(deed) = self.course.poll(Instant::now()) {
                self.carry_out(deed)?;
            }
            while let Some((piece, kept)) = self.course.poll_changed() {
                self.partial.note(piece, kept);
            }
            self.lend_chain();
            match self.course.outcome() {
                Some(course::Outcome::Proven(verified)) => {
                    self.first_byte.get_or_insert_with(|| self.began.elapsed());
                    return Ok(verified);
                }
                Some(course::Outcome::NoSource { mismatch: true }) => return Err(Failure::Mismatch),
                Some(course::Outcome::NoSource { mismatch: false }) => {
                    let nobody = || Failure::NoSource("nobody has it".to_owned());
                    return Err(self.trouble.take().unwrap_or_else(nobody));
                }
                Some(course::Outcome::Silent) => return Err(Failure::Silent),
                None => {}
            }
            let wake = tokio::time::sleep_until(self.course.next_wake(Instant::now()).into());
            tokio::select! {
                holder = holders.next(), if holders_open => holders_open = self.handle_holder(holder),
                Some(reached) = self.asks.next(), if !self.asks.is_empty() => {
                    reached.into_iter().for_each(|reached| self.handle_reached(reached));
                }
                came = Stream::next(&mut self.stream) => self.handle_stream(came),
                () = wake => {}
            }
        }
    }

    fn carry_out(&mut self, deed: Deed) -> Result<(), Failure> {
        match deed {
            Deed::Call(Call::Piece { source, piece }) => self.ask(source, Some(piece)),
            Deed::Call(Call::Have { source }) => self.ask(source, None),
            Deed::Call(Call::Cancel { source, piece }) => {
                self.waiting.remove(&(source, piece)).into_iter().for_each(|waiting| waiting.abort());
            }
            Deed::Stream { bytes } => self.open_stream(bytes),
            Deed::Halt => self.stream = None,
            Deed::Compare { at, bytes } => {
                let mut given = vec![0; bytes.len()];
                let read = self.partial.read_at(at, &mut given);
                read.map_err(|error| Failure::Store(error.to_string()))?;
                if given != bytes {
                    self.course.handle_differing(at);
                }
            }
            Deed::Write { at, bytes } => {
                self.partial.write_at(at, &bytes).map_err(|error| Failure::Store(error.to_string()))?;
            }
            Deed::Reread { piece } => {
                let bytes = self.read(piece)?;
                self.course.handle_reread(piece, &bytes);
                self.note(piece);
            }
            Deed::Lend { piece, grade } if self.may_lend() => {
                self.note(piece);
                self.partial.lend(piece, if grade == Grade::Proven { Lent::Proven } else { Lent::FromMirror });
            }
            Deed::Lend { piece, .. } => self.note(piece),
            Deed::Unlend { piece } => {
                self.note(piece);
                self.partial.unlend(piece);
            }
            Deed::Convict { source, piece } => {
                let what = format!("false piece {piece} of {}", self.lead.vouched.path());
                self.shared.pool.convict(self.address(source), &what);
                self.shared.tally.add_conviction();
            }
            Deed::Pause { source } => self.shared.pool.pause(self.address(source), PAUSE),
            Deed::Credit { source: MIRROR | EARLIER, .. } => {}
            Deed::Credit { source, piece } => {
                let bytes = self.expected.piece_len(piece) as u64;
                self.peer_pieces += 1;
                self.givers.insert(source);
                let in_lan = Source::of_peer(self.address(source).ip()) == Source::Lan;
                self.lan_pieces += usize::from(in_lan);
                self.shared.tally.add_peers(bytes, in_lan);
                self.shared.pool.proven(self.address(source), bytes);
            }
            Deed::Release { until } => self.release(until),
            Deed::Cut { from } => self.cut(from),
        }
        Ok(())
    }

    fn ask(&mut self, source: SourceId, piece: Option<usize>) {
        let file = self.expected;
        let ask = piece.map_or(peer::Ask::Chain { file }, |index| peer::Ask::Piece { file, index });
        let (pool, address) = (self.shared.pool.clone(), self.address(source));
        let asked = async move { Reached { source, piece, result: pool.ask(address, ask).await } };
        let (handle, registration) = AbortHandle::new_pair();
        if let Some(piece) = piece {
            self.waiting.insert((source, piece), handle);
        }
        self.asks.push(Abortable::new(asked, registration).boxed());
    }

    fn address(&self, source: SourceId) -> SocketAddr {
        self.addresses[source.0 as usize - 1]
    }

    /// Whether others may have pieces of the file before it is whole.
    fn may_lend(&self) -> bool {
        self.expected.pieces() > 1 && self.lead.vouched.shareable().is_some()
    }

    fn open_stream(&mut self, bytes: Range<u64>) {
        let Some(origin) = &self.origin else { return };
        self.stream = Some(Stream::open(&self.shared.mirror, origin, &self.expected, bytes));
    }

    /// A holder was found; `None`: no more will be. Says whether there may be more.
    fn handle_holder(&mut self, holder: Option<Holder>) -> bool {
        match holder {
            None => {
                self.searched = true;
                self.course.handle_holders_ended();
                return false;
            }
            Some(Holder::Searched) => {
                self.searched = true;
                self.course.handle_holders_ended();
            }
            Some(Holder::Chain(chain)) => self.course.handle_hearsay(chain),
            Some(Holder::Peer(address)) => {
                let is_known = self.addresses.contains(&address) || self.parked.contains(&address);
                if !is_known
                    && crowd::is_dialled(address)
                    && self.shared.pool.is_welcome(address)
                    && !self.admit(address)
                    && self.parked.len() < MAX_PARKED
                    && crowd::has_room(self.parked.iter().map(SocketAddr::ip), address.ip())
                {
                    self.parked.push_back(address);
                }
            }
        }
        true
    }

    /// Takes a holder among those that are asked, if there is room for one more, and for one more of its neighbourhood.
    fn admit(&mut self, address: SocketAddr) -> bool {
        let sources = self.addresses.iter().zip(1..);
        let live = sources.filter(|(_, id)| !self.course.is_gone(SourceId(*id))).map(|(address, _)| address.ip());
        if !crowd::has_room(live, address.ip()) {
            return false;
        }
        let measure = self.measure(address);
        let admitted = self.course.handle_holder(measure, Instant::now()).is_some();
        if admitted {
            self.addresses.push(address);
        }
        admitted
    }

    /// Who failed makes room for who waits.
    fn admit_parked(&mut self) {
        for _each in 0..self.parked.len() {
            let Some(address) = self.parked.pop_front() else { return };
            if self.shared.pool.is_welcome(address) && !self.admit(address) {
                self.parked.push_back(address);
            }
        }
    }

    /// Once every state is proven, an unfinished holder can give the chain too.
    fn lend_chain(&mut self) {
        if !self.chain_lent
            && self.may_lend()
            && let Some(chain) = self.course.proven_chain()
        {
            self.partial.lend_chain(chain);
            self.chain_lent = true;
        }
    }

    fn measure(&self, address: SocketAddr) -> Measure {
        Measure { rate: self.shared.pool.rate(address), round_trip: self.shared.pool.round_trip(address) }
    }

    fn handle_reached(&mut self, Reached { source, piece, result }: Reached) {
        let now = Instant::now();
        piece.into_iter().for_each(|piece| {
            self.waiting.remove(&(source, piece));
        });
        match (result, piece) {
            (Ok(Answer::Body { bytes, chain, unproven }), Some(piece)) => {
                self.received += bytes.len() as u64;
                let grade = if unproven { Grade::Raw } else { Grade::Proven };
                let measure = self.measure(self.address(source));
                self.lead.live.add(bytes.len() as u64, now);
                self.course.handle_piece(source, piece, Sent { bytes, chain, grade }, measure, now);
                self.note(piece);
            }
            (Ok(Answer::Pieces { chain, have }), _) => self.course.handle_have(source, chain, have, now),
            (Ok(Answer::Lacking), Some(piece)) => self.course.handle_lacking(source, piece, now),
            (Ok(Answer::Body { .. } | Answer::Holds(_) | Answer::Lacking | Answer::Missing | Answer::TooMuch), _)
            | (Err(peer::Failure::Unwelcome), _) => self.course.handle_gone(source),
            (Ok(Answer::Busy(pause)), piece) => self.course.handle_failed(source, piece, Some(pause), now),
            (Err(_), piece) => self.course.handle_failed(source, piece, None, now),
        }
    }

    fn handle_stream(&mut self, came: Came) {
        let now = Instant::now();
        match came {
            Came::Reply(reply) => {
                match self.stream.as_ref().expect("the reply is the stream's").judge(&reply, &self.expected) {
                    Ok(skip) => {
                        let stream = self.stream.as_ref().expect("the reply is the stream's");
                        if stream.is_part() {
                            self.course.handle_mirror_ranges(reply.status.as_u16() == 206);
                        }
                        if let Some(modified) = reply.text(mirror::header::LAST_MODIFIED) {
                            let modified = modified.to_owned();
                            self.lead.progress.send_modify(|progress| progress.last_modified = Some(modified));
                        }
                        self.stream.as_mut().expect("the reply is the stream's").begin(reply, skip);
                    }
                    Err((fatal, why)) => self.lose_stream(fatal, why, now),
                }
            }
            Came::Bytes(mut bytes) => {
                self.received += bytes.len() as u64;
                self.from_mirror += bytes.len() as u64;
                self.shared.tally.add_mirror(bytes.len() as u64);
                let stream = self.stream.as_mut().expect("the bytes are the stream's");
                // Of a mirror that does not serve ranges, what comes before the range; of any, what comes behind it.
                let skipped = stream.skip.min(bytes.len() as u64);
                stream.skip -= skipped;
                let _skipped = bytes.split_to(skipped as usize);
                bytes.truncate(bytes.len().min((stream.until - stream.at) as usize));
                stream.at += bytes.len() as u64;
                let pieces = (stream.at - bytes.len() as u64) / PIECE_SIZE..stream.at.div_ceil(PIECE_SIZE);
                self.lead.live.add(bytes.len() as u64, now);
                self.course.handle_mirror_bytes(&bytes, now);
                pieces.for_each(|piece| self.note(piece as usize));
            }
            Came::End => {
                let short = Failure::NoSource("the mirror's answer was too short".to_owned());
                self.lose_stream(false, short, now);
            }
            Came::Trouble(Trouble::Changed) => {
                self.lose_stream(false, Failure::NoSource(Trouble::Changed.to_string()), now);
                self.course.handle_mirror_changed();
            }
            Came::Trouble(trouble) => {
                let fatal = matches!(trouble, Trouble::Forbidden(_) | Trouble::Redirects);
                self.lose_stream(fatal, Failure::NoSource(trouble.to_string()), now);
            }
        }
    }

    /// Shows others how a piece stands now.
    fn note(&self, piece: usize) {
        let source = self.course.sender(piece).map(|source| match source {
            MIRROR => Source::Mirror,
            EARLIER => Source::Store,
            peer => Source::of_peer(self.address(peer).ip()),
        });
        self.lead.live.set(piece, source);
    }

    fn lose_stream(&mut self, fatal: bool, why: Failure, now: Instant) {
        tracing::debug!(file = self.lead.vouched.path(), fatal, %why, "the mirror broke off");
        self.stream = None;
        self.trouble = Some(why);
        self.course.handle_mirror_failed(fatal, now);
    }

    /// Bytes from there on that readers already have are wrong: they are cut.
    fn cut(&mut self, from: u64) {
        tracing::warn!(file = self.lead.vouched.path(), from, "wrong bytes were passed on; readers are cut");
        self.shared.remember_cut(self.expected.hash);
        let tainted = self.course.tainted();
        self.lead.progress.send_modify(|progress| {
            progress.tainted = tainted;
            progress.released = 0;
        });
    }

    fn release(&mut self, until: u64) {
        // Whoever gets a byte that is not proven can only be told so if that is remembered, over restarts too.
        let mut is_doubtful = None;
        if self.unproven.is_none() {
            let hash = self.expected.hash;
            is_doubtful = Some(if until < self.expected.size {
                let unproven = self.shared.doubts.out(hash);
                if !unproven.is_marked() {
                    tracing::warn!("it waits until it is proven");
                    unproven.settle(true);
                    return self.course.handle_unmarked();
                }
                self.unproven.insert(unproven).was_doubtful()
            } else {
                self.shared.doubts.is_doubtful(hash)
            });
        }
        self.first_byte.get_or_insert_with(|| self.began.elapsed());
        self.lead.progress.send_modify(|progress| {
            progress.is_doubtful = is_doubtful.unwrap_or(progress.is_doubtful);
            progress.released = until;
        });
    }

    /// A download that nobody reads any more ends, unless half of it is there.
    fn check_deserted(&mut self) -> Result<(), Failure> {
        // One receiver waits in the table of flights, one in the lead.
        let has_readers = self.lead.progress.receiver_count() > 2;
        let (missing, pieces) = (self.course.missing(), self.expected.pieces());
        if self.audience.is_gone(has_readers, missing, pieces, Instant::now()) {
            return Err(Failure::Deserted);
        }
        Ok(())
    }

    /// How many peers were found that have the file, once all who can be found were named.
    pub fn holders(&self) -> Option<u32> {
        self.searched.then_some((self.addresses.len() + self.parked.len()) as u32)
    }

    /// What it passed on before it was proven. What was wrong of that stays in doubt.
    pub fn into_unproven(self) -> Option<Unproven> {
        self.unproven.filter(|_| self.course.tainted().is_none())
    }

    fn read(&self, piece: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes = vec![0; self.expected.piece_len(piece)];
        let read = self.partial.read_at(self.expected.span(piece).start, &mut bytes);
        read.map_err(|error| Failure::Store(error.to_string()))?;
        Ok(bytes)
    }
}
