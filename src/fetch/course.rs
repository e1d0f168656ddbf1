//! The course of one download: plan and ledger together, as a machine. What happens goes in, what is to be done comes out.
//!
//! ```text
//!   holders, answers of peers, bytes of the mirror --> Course --> Deed: ask, stream, write, read back, release, convict
//!                                                       |- plan: whom to ask for what
//!                                                       '- ledger: what the bytes prove
//! ```
//!
//! Order of use: after anything was handled, [`Course::poll`] until it has nothing more, carrying out each [`Deed`] before
//! the next (a piece is written before it is read back or lent); then [`Course::outcome`]; then wait until something
//! happens, or until [`Course::next_wake`].
//!
//! **Release.** Readers get the front as it grows, hashed or not, but for the last [`SAFETY_CATCH`] bytes, which wait for
//! the proof of the whole. What peers bring at the front is a few pieces only, because nothing proves it before the
//! tail meets it; so it is given out by and by, that no reader waits so long for a byte as to give up. Once bytes that were released turn out wrong, readers are cut, and from then on nothing is
//! released that is not proven.

mod earlier;
mod sent;
mod stream;

use std::{
    collections::VecDeque,
    ops::Range,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::hash::{Expected, PieceChain, Pieces, Verified};

use super::{
    ledger::{EARLIER, Finding, Grade, Ledger, MIRROR, Ruling, SourceId},
    plan::{Call, Measure, MirrorUse, Plan, Wish},
};

pub use sent::Sent;
use stream::Streaming;

/// Bytes held back until the whole file is proven, so that no reader ever completes a wrong one.
pub const SAFETY_CATCH: u64 = 16 * 1024;
/// What is left of a front that does not grow is given out in such parts, one each time.
const DRIP: (u64, Duration) = (16, Duration::from_secs(2));
/// How long peers are asked for a chain when the whole does not match, before what they sent is thrown away.
const DOUBT: Duration = Duration::from_millis(1500);

/// Something to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Tell a peer.
    Call(Call),
    /// Ask the mirror for these bytes. They take the place of what it was asked for before.
    Stream {
        /// The first byte, and the first that is not wanted.
        bytes: Range<u64>,
    },
    /// End the mirror's stream.
    Halt,
    /// Readers had bytes from there on. If these are not what is on disk now, tell [`Course::handle_differing`].
    Compare {
        /// Where the first one lies.
        at: u64,
        /// What is about to be written there.
        bytes: Bytes,
    },
    /// Write bytes to where they belong.
    Write {
        /// Where the first one belongs.
        at: u64,
        /// What to write.
        bytes: Bytes,
    },
    /// Read that piece back and give it to [`Course::handle_reread`].
    Reread {
        /// Which piece.
        piece: usize,
    },
    /// That piece may be given to others: proven, or as it came from the mirror.
    Lend {
        /// Which piece.
        piece: usize,
        /// [`Grade::Raw`]: nothing proves it yet.
        grade: Grade,
    },
    /// That piece is false, or is to be written over: nobody may have it.
    Unlend {
        /// Which piece.
        piece: usize,
    },
    /// A peer lied.
    Convict {
        /// Which peer.
        source: SourceId,
        /// The piece by which it was found out.
        piece: usize,
    },
    /// A peer passed on a false piece that it had not proven: leave it alone for a while.
    Pause {
        /// Which peer.
        source: SourceId,
    },
    /// A source's piece is proven.
    Credit {
        /// Which source.
        source: SourceId,
        /// Which piece.
        piece: usize,
    },
    /// Readers may have the bytes before this one.
    Release {
        /// One past the last byte.
        until: u64,
    },
    /// Bytes from there on that readers had are wrong: these readers are cut, and nobody gets any until all is proven.
    Cut {
        /// The first byte that may be wrong.
        from: u64,
    },
}

/// How a download ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every byte is proven.
    Proven(Verified),
    /// No source is left. `mismatch`: because what sources gave was not the promised file.
    NoSource {
        /// Whether sources gave other bytes than those promised.
        mismatch: bool,
    },
    /// There are sources, none gave anything of use for [`super::plan::STALEMATE`], and none gave wrong bytes.
    Silent,
}

/// What is to be downloaded, and how.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// What the file must be.
    pub expected: Expected,
    /// How much the mirror does.
    pub mirror_use: MirrorUse,
    /// Whether there is one.
    pub mirror: bool,
    /// The rate in bytes a second of the quickest connected peer, which may turn out to be a holder.
    pub quickest: Option<f64>,
    /// Whether readers get proven bytes only.
    pub cautious: bool,
    /// Makes this client's choices differ from others'.
    pub seed: u64,
}

/// One download.
pub struct Course {
    expected: Expected,
    plan: Plan,
    ledger: Ledger,
    stream: Streaming,
    deeds: VecDeque<Deed>,
    cautious: bool,
    released: u64,
    released_at: Instant,
    /// The end of what any reader was given before all was proven.
    given: u64,
    tainted: Option<u64>,
    mismatch: bool,
    given_up: Option<Outcome>,
    doubted_since: Option<Instant>,
}

impl Course {
    /// A download of which nothing is there yet.
    pub fn new(setup: Setup, now: Instant) -> Self {
        let Setup { expected, mirror_use, mirror, quickest, cautious, seed } = setup;
        Self {
            expected,
            plan: Plan::new(mirror_use, &expected, mirror, quickest, seed, now),
            ledger: Ledger::new(expected),
            stream: Streaming::default(),
            deeds: VecDeque::new(),
            cautious,
            released: 0,
            released_at: now,
            given: 0,
            tainted: None,
            mismatch: false,
            given_up: None,
            doubted_since: None,
        }
    }

    /// Pieces still to be fetched.
    pub fn missing(&self) -> usize {
        self.ledger.missing()
    }

    /// Who sent the bytes of that piece that are on disk, if any are.
    pub fn sender(&self, piece: usize) -> Option<SourceId> {
        self.ledger.sender(piece)
    }

    /// The first of the bytes that readers had and that were wrong, if any were.
    pub fn tainted(&self) -> Option<u64> {
        self.tainted
    }

    /// A holder turned up. `None` when there are enough.
    pub fn handle_holder(&mut self, measure: Measure, now: Instant) -> Option<SourceId> {
        self.plan.handle_holder(measure, now)
    }

    /// No more holders will turn up.
    pub fn handle_holders_ended(&mut self) {
        self.plan.handle_holders_ended();
    }

    /// Whether a holder is of no use any more.
    pub fn is_gone(&self, source: SourceId) -> bool {
        self.plan.is_gone(source)
    }

    /// The chain, once every state of it is proven.
    pub fn proven_chain(&self) -> Option<PieceChain> {
        self.ledger.proven_chain()
    }

    /// Hearsay of a chain.
    pub fn handle_hearsay(&mut self, chain: PieceChain) {
        self.claim(chain, None);
    }

    /// A peer sent a whole piece; `chain`: the digest of the chain that it stands for.
    pub fn handle_piece(&mut self, from: SourceId, piece: usize, sent: Sent, measure: Measure, now: Instant) {
        let Sent { bytes, chain, grade } = sent;
        if let Some(digest) = chain
            && self.expected.pieces() > 1
            && !self.ledger.vouch(digest, from)
        {
            self.plan.handle_unknown_chain(from);
        }
        if grade == Grade::Raw && self.plan.is_whole(from) {
            // Who has the whole file has proven it, and answers for every piece.
            self.plan.handle_unfit(from, piece, now);
            return self.leave_out(from);
        }
        let camp = self.ledger.camp(from);
        let front = self.ledger.front().0;
        match self.ledger.handle_piece(piece, from, grade, &bytes) {
            ruling @ (Ruling::Kept | Ruling::Raw) => {
                if ruling == Ruling::Kept && piece == front {
                    self.replace_streamed(piece);
                } else if self.stream.brings(piece) {
                    self.halt();
                }
                self.write_piece(piece, bytes);
                self.plan.handle_kept(from, piece, measure, now);
            }
            Ruling::Surplus => self.plan.handle_surplus(from, piece, measure, now),
            Ruling::Unfit => {
                camp.into_iter().for_each(|camp| self.plan.handle_discredited(camp));
                self.plan.handle_unfit(from, piece, now);
                if grade == Grade::Raw {
                    self.leave_out(from);
                }
            }
            Ruling::Unjudged => self.plan.handle_failed(from, Some(piece), None, now),
        }
        self.attend();
    }

    /// A peer said what it has, and which chain it stands for.
    pub fn handle_have(&mut self, from: SourceId, chain: Option<PieceChain>, have: Option<Pieces>, now: Instant) {
        self.plan.handle_have(from, have, now);
        chain.into_iter().for_each(|chain| self.claim(chain, Some(from)));
        self.attend();
    }

    /// A peer has the file in part, and this piece not.
    pub fn handle_lacking(&mut self, from: SourceId, piece: usize, now: Instant) {
        self.plan.handle_lacking(from, piece, now);
    }

    /// A peer has not the file, or wants to be left alone.
    pub fn handle_gone(&mut self, from: SourceId) {
        self.plan.handle_gone(from);
    }

    /// A peer did not answer an ask for a piece, or, with `None`, for what it has; `pause`: because it is busy for so long.
    pub fn handle_failed(&mut self, from: SourceId, piece: Option<usize>, pause: Option<Duration>, now: Instant) {
        self.plan.handle_failed(from, piece, pause, now);
    }

    /// Bytes of a piece that was to be read back.
    pub fn handle_reread(&mut self, piece: usize, bytes: &[u8]) {
        self.ledger.handle_reread(piece, bytes);
        self.attend();
    }

    /// What readers had from there on is not what is written there now.
    pub fn handle_differing(&mut self, at: u64) {
        self.taint(at);
    }

    /// The first bytes to be released could not be marked, and stayed here: from now on only proven bytes are released.
    pub fn handle_unmarked(&mut self) {
        self.cautious = true;
        (self.released, self.given) = (0, 0);
    }

    /// When [`Course::poll`] may have something without anything having happened.
    pub fn next_wake(&self, now: Instant) -> Instant {
        let mut wake = self.plan.next_wake(now);
        if !self.cautious && self.released < self.ready() {
            wake = wake.min(self.released_at + DRIP.1).max(now);
        }
        self.doubted_since.map_or(wake, |since| wake.min((since + DOUBT).max(now)))
    }

    /// The next thing to do, until there is none.
    #[must_use]
    pub fn poll(&mut self, now: Instant) -> Option<Deed> {
        loop {
            if let Some(deed) = self.deeds.pop_front() {
                return Some(deed);
            }
            if self.ledger.is_hopeless() {
                self.despair(now);
            } else {
                self.doubted_since = None;
            }
            self.release(now);
            if !self.deeds.is_empty() {
                continue;
            }
            if self.given_up.is_some() || self.ledger.verified().is_some() {
                return None;
            }
            let wish = self.plan.poll(&self.ledger, now)?;
            self.fulfil(wish);
        }
    }

    /// The end, once it has come. Ask when [`Course::poll`] has nothing more.
    pub fn outcome(&self) -> Option<Outcome> {
        if let Some(verified) = self.ledger.verified() {
            return Some(Outcome::Proven(verified));
        }
        self.given_up.clone()
    }

    fn fulfil(&mut self, wish: Wish) {
        match wish {
            Wish::Call(call) => self.deeds.push_back(Deed::Call(call)),
            Wish::Stream { from, until } => self.open_stream(from, until),
            Wish::Halt => self.halt(),
            Wish::Exhausted { piece } => {
                self.halt();
                self.ledger.handle_exhausted(piece);
                self.attend();
            }
            Wish::GiveUp => self.given_up = Some(Outcome::NoSource { mismatch: self.mismatch }),
            Wish::Despair if self.mismatch => self.given_up = Some(Outcome::NoSource { mismatch: true }),
            Wish::Despair => self.given_up = Some(Outcome::Silent),
        }
    }

    fn claim(&mut self, chain: PieceChain, supplier: Option<SourceId>) {
        if self.ledger.handle_claim(chain, supplier) {
            self.plan.handle_new_claim();
        }
    }

    /// Acts on what the ledger found out.
    fn attend(&mut self) {
        while let Some(finding) = self.ledger.poll_finding() {
            match finding {
                Finding::Convicted { source, piece } => {
                    self.deeds.push_back(Deed::Convict { source, piece });
                    self.plan.handle_conviction(source);
                }
                Finding::Proven { source, piece } => {
                    self.deeds.push_back(Deed::Credit { source, piece });
                    self.deeds.push_back(Deed::Lend { piece, grade: Grade::Proven });
                }
                Finding::Reread { piece } => {
                    if self.stream.at_front() {
                        self.halt();
                        self.plan.handle_mirror_done();
                    }
                    self.deeds.push_back(Deed::Reread { piece });
                }
                Finding::Discarded { source, grade, piece } => {
                    self.deeds.push_back(Deed::Unlend { piece });
                    self.taint(self.expected.span(piece).start);
                    match (source, grade) {
                        (MIRROR, _) => {
                            self.mismatch = true;
                            self.halt();
                            self.plan.handle_mirror_false(piece);
                        }
                        (peer, Grade::Raw) => self.leave_out(peer),
                        (_, Grade::Proven) => {}
                    }
                }
            }
        }
    }

    /// The front does not lead to what is proven behind it, and nobody can say why. Somebody may have finished meanwhile
    /// and know the chain; if not, peers that took part are left out, and a mirror that was alone is.
    fn despair(&mut self, now: Instant) {
        self.halt();
        self.plan.handle_mirror_done();
        self.mismatch = true;
        self.cautious = true;
        match self.doubted_since {
            None if self.ledger.unproven() > 0 => {
                self.plan.handle_doubt();
                self.doubted_since = Some(now);
                return;
            }
            Some(since) if now < since + DOUBT => return,
            _ => {}
        }
        self.doubted_since = None;
        self.plan.handle_doubt();
        self.taint(0);
        let distrusted = self.ledger.handle_distrust();
        for source in distrusted {
            match source {
                MIRROR => self.plan.handle_mirror_failed(true, now),
                peer => self.leave_out(peer),
            }
        }
        self.attend();
    }

    fn leave_out(&mut self, peer: SourceId) {
        if peer != EARLIER {
            self.plan.handle_gone(peer);
            self.deeds.push_back(Deed::Pause { source: peer });
        }
    }

    /// Bytes from there on that readers may already have are wrong: they are cut, and the next get proven bytes only.
    fn taint(&mut self, from: u64) {
        self.cautious = true;
        if self.given <= from || self.tainted.is_some_and(|tainted| tainted <= from) {
            return;
        }
        self.tainted = Some(from);
        // What was given before that is not proven either, and the next readers are not to be cut too.
        self.released = 0;
        self.deeds.push_back(Deed::Cut { from });
    }

    /// Where the bytes end that are there from the front and not held back.
    fn ready(&self) -> u64 {
        let front = self.ledger.front().0;
        let held = front.checked_sub(1).map_or(0, |last| self.expected.span(last).end);
        held.max(self.stream.front_end()).min(self.expected.size.saturating_sub(SAFETY_CATCH))
    }

    /// Lets readers have what is there from the front.
    fn release(&mut self, now: Instant) {
        let until = if self.ledger.verified().is_some() {
            self.expected.size
        } else if self.cautious {
            return;
        } else if self.stream.at_front() || self.released == 0 || self.ledger.front_of_peers() == 0 {
            self.ready()
        } else if now >= self.released_at + DRIP.1 {
            self.released + self.ready().saturating_sub(self.released).div_ceil(DRIP.0)
        } else {
            return;
        };
        if until > self.released {
            (self.released, self.released_at) = (until, now);
            self.given = self.given.max(until);
            self.deeds.push_back(Deed::Release { until });
        }
    }
}
