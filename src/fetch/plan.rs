//! Which piece is asked of whom: the policy of one download, as a machine without clock or sockets.
//!
//! 1. The mirror streams from the front, at once, unless peers are known to be quick enough ([`MirrorUse`]).
//! 2. Peers bring the last piece first, because it anchors the chain; then the piece at which claims part; then, when
//!    no mirror serves the front, a window ahead of apt; then the rarest of the rest, from the tail on ties. Each piece goes
//!    to the source that is expected to be done soonest, ties to the one that has given least.
//! 3. What is late by its source's own measure is asked of a second source: one piece at a time per source, when there is
//!    nothing new to ask for or everything waits for it, and never more than a few a file ([`choose`]).
//!
//! The mirror and the peers meet in the middle. What one source has been asked for is not asked of another before it is
//! late, so nearly every byte crosses the wire once.
//!
//! # What is not proven is kept short
//!
//! Under a chain that is false in its middle every piece before the fork is consistent and worthless. So no more than
//! [`SPECULATION`] pieces of peers may be held unproven or under way, before the first proof no more than
//! [`FIRST_SPECULATION`]. Only while the piece behind which all else waits is with a peer that is slower than the others,
//! and not late, they may go on meanwhile.
//!
//! # An end
//!
//! Who puts off what it is asked for, or fails at it, is asked again, and until it has given something nobody else is kept
//! waiting for it: a peer that is always busy does not hold back the mirror. And when nothing of use has come from anybody
//! for [`STALEMATE`], the download ends, whatever they all promise.
//!
//! # A swarm that has nothing yet
//!
//! Clients that start at once beside one slow mirror know of no chain: nobody has the whole file. Peers that have some
//! pieces from the mirror give these on as raw, and as long as nobody claims a chain, they are taken. The mirror is asked
//! for single pieces that no known holder has, at random, so that clients differ, and only now and then for the front.
//! This is done only while the mirror is measured to give less than [`SHARED`], or less than the holders do: a mirror
//! that is fast alone streams on. Who says that it has something and does not give it when asked does not count, and a
//! front that stands still is brought by the mirror, whoever says that it has it. A liar costs the raw pieces of peers,
//! once: when the end does not match and nobody claims a chain, they are thrown away and the mirror alone brings them; who
//! sent them is left out for this file and paused, never banned, for it may have had them from a false mirror.

mod choose;
mod mirror;
mod peer;

use std::time::{Duration, Instant};

use rand::{SeedableRng, rngs::StdRng};

use crate::hash::{ContentHash, Expected, Pieces};

use super::ledger::{Ledger, SourceId};

use mirror::Mirror;
use peer::{Chain, Have, Peer};

/// Peers used for one file at a time, at most.
pub const MAX_PEERS: usize = 32;
/// Peers met in one download at most, those that are of no use any more among them.
const MAX_MET: usize = 256;
/// Pieces asked of peers and not yet come, at most.
const IN_FLIGHT: usize = 16;
/// Pieces of peers that are held unproven or under way, at most, beside the one that all the others wait for.
const SPECULATION: usize = 16;
/// The same before anything is proven.
const FIRST_SPECULATION: usize = 10;
/// Peers of unknown rate that are tried at a time.
const TRIALS: usize = 8;
/// Pieces at the front and ahead of it that peers serve in order when no mirror does.
const WINDOW: usize = 3;
/// Pieces that the mirror is asked for at a time while peers help, or as many as it gives in [`STRETCH`].
const RUN: usize = 8;
/// The time that one answer of the mirror should last at least, so that the way to it weighs little.
const STRETCH: Duration = Duration::from_secs(2);
/// Failures after which a peer is not asked again for this file.
const STRIKES: u32 = 3;
/// Failures in a row after which the mirror is waited for no longer, when nobody else helps.
const MIRROR_STRIKES: u32 = 4;
/// Bytes a second from which on a holder is quick enough to be waited for, as long as the mirror is not measured.
const QUICK: f64 = 1.0e6;
/// How long a lookup may hold back the mirror when quick peers are connected.
const GRACE: Duration = Duration::from_millis(60);
/// How long peers without measure may take for a piece before it is late.
const UNMEASURED: Duration = Duration::from_millis(1500);
/// How long a mirror without measure is expected to need for a piece.
const UNHURRIED: Duration = Duration::from_millis(150);
/// Bytes after which a mirror's earlier failures are forgotten.
const PROGRESS: u64 = 64 * 1024;
/// Bounds of the time after which a piece of a measured peer is late.
const LATE: (Duration, Duration) = (Duration::from_millis(150), Duration::from_secs(8));
/// How long peers may bring nothing before a mirror that is to be the last resort is taken for it.
const LAST_RESORT: Duration = Duration::from_secs(15);
/// Questions for chains and pieces under way at a time.
const QUESTIONS: usize = 8;
/// How long a peer may take for one answer before it is taken for lost.
const LOST: Duration = Duration::from_secs(60);
/// How long nothing at all may come of use before a download ends, whatever its sources all promise: a peer that is always
/// busy beside a mirror that is always silent would keep it for ever.
pub const STALEMATE: Duration = Duration::from_secs(240);
/// How long somebody honest is waited for when the others lied.
const HOPE: Duration = Duration::from_secs(5);
/// How often an unfinished holder is asked what it has by now.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Bytes a second below which a mirror is taken for one that is shared with others like us.
const SHARED: f64 = 2.0e6;
/// How long the front may stand still in a swarm before the mirror brings it.
const FRONT_PATIENCE: Duration = Duration::from_secs(3);

/// How much the mirror does beside peers: `[fetch] mirror`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MirrorUse {
    /// At once, and to the end.
    First,
    /// At once unless a quick holder is at hand; it yields when measured peers are no slower, and returns when they are late.
    #[default]
    Sparing,
    /// Only when peers cannot.
    Last,
}

/// What is known of a peer before it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Measure {
    /// Bytes a second while it was sending.
    pub rate: Option<f64>,
    /// Time from an ask to the first byte of its answer.
    pub round_trip: Option<Duration>,
}

/// What a peer is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Ask it for a piece.
    Piece {
        /// Which peer.
        source: SourceId,
        /// Which piece.
        piece: usize,
    },
    /// Ask it which pieces it has, and for its piece chain.
    Have {
        /// Which peer.
        source: SourceId,
    },
    /// Wait no longer for a piece of its: another was quicker.
    Cancel {
        /// Which peer.
        source: SourceId,
        /// Which piece.
        piece: usize,
    },
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Tell a peer.
    Call(Call),
    /// Stream these pieces from the mirror: from the front when `from` is where that is, else to be judged one by one.
    Stream {
        /// The first piece.
        from: usize,
        /// One past the last piece.
        until: usize,
    },
    /// End the mirror's stream.
    Halt,
    /// Every source failed at that piece: the ledger's claims lead nowhere.
    Exhausted {
        /// Which piece.
        piece: usize,
    },
    /// No source is left.
    GiveUp,
    /// There are sources, and nobody gives anything of use: [`STALEMATE`].
    Despair,
}

/// The plan of one download.
#[derive(Debug)]
pub struct Plan {
    mirror_use: MirrorUse,
    pieces: usize,
    rng: StdRng,
    peers: Vec<Peer>,
    mirror: Mirror,
    /// Until when a quick peer may still turn out to be a holder.
    grace_until: Instant,
    holders_ended: bool,
    /// When a peer last brought something, or the download began.
    peers_heard: Instant,
    /// When anything of use came last, from whomever.
    moved: Instant,
    /// How many unfinished holders have each piece, when there are any.
    holders_of: Vec<u16>,
    /// Pieces that came twice because a late one was asked of two.
    hedged: usize,
    /// Where the front was, and since when.
    front_since: (usize, Instant),
    /// Whether a liar was found: somebody honest may turn up in the next search.
    lied_to: bool,
    /// The anchor at which a piece was late before: until it moves, nothing is taken on trust.
    stuck_at: Option<usize>,
    /// Chains of which a supporter's piece fitted nothing.
    discredited: Vec<ContentHash>,
}

impl Plan {
    /// A plan with no peers yet. `mirror`: whether there is one; `quickest`: the rate in bytes a second of the quickest
    /// connected peer, which may turn out to be a holder. A slow one is not waited for.
    pub fn new(
        mirror_use: MirrorUse,
        expected: &Expected,
        mirror: bool,
        quickest: Option<f64>,
        seed: u64,
        now: Instant,
    ) -> Self {
        let grace = match mirror_use {
            MirrorUse::First => Duration::ZERO,
            MirrorUse::Sparing if quickest.is_some_and(|rate| rate >= QUICK) => GRACE,
            MirrorUse::Sparing => Duration::ZERO,
            MirrorUse::Last => Duration::from_secs(3),
        };
        Self {
            mirror_use,
            pieces: expected.pieces(),
            rng: StdRng::seed_from_u64(seed),
            peers: Vec::new(),
            mirror: Mirror::new(mirror, now),
            grace_until: now + grace,
            holders_ended: false,
            peers_heard: now,
            moved: now,
            holders_of: Vec::new(),
            hedged: 0,
            front_since: (0, now),
            lied_to: false,
            stuck_at: None,
            discredited: Vec::new(),
        }
    }

    /// A holder turned up. `None` when there are enough.
    pub fn handle_holder(&mut self, measure: Measure, now: Instant) -> Option<SourceId> {
        let live = self.peers.iter().filter(|peer| !peer.gone).count();
        if live >= MAX_PEERS || self.peers.len() >= MAX_MET {
            return None;
        }
        if self.peers.is_empty() {
            self.peers_heard = now;
        }
        self.peers.push(Peer::new(measure, now));
        Some(SourceId(self.peers.len() as u32))
    }

    /// Whether a peer is of no use any more.
    pub fn is_gone(&self, source: SourceId) -> bool {
        self.peers[source.0 as usize - 1].gone
    }

    /// Whether a peer said that it has the whole file.
    pub fn is_whole(&self, source: SourceId) -> bool {
        self.peers[source.0 as usize - 1].is_whole
    }

    /// No more holders will turn up.
    pub fn handle_holders_ended(&mut self) {
        self.holders_ended = true;
    }

    /// A peer's piece came and is kept.
    pub fn handle_kept(&mut self, source: SourceId, piece: usize, measure: Measure, now: Instant) {
        (self.peers_heard, self.moved) = (now, now);
        let of = self.pieces;
        self.peer(source).handle_served(piece, piece + 1 == of, measure, now);
    }

    /// A peer's piece came after another's copy of it.
    pub fn handle_surplus(&mut self, source: SourceId, piece: usize, measure: Measure, now: Instant) {
        self.hedged += 1;
        self.handle_kept(source, piece, measure, now);
    }

    /// A peer's piece came and fitted nothing.
    pub fn handle_unfit(&mut self, source: SourceId, piece: usize, now: Instant) {
        let peer = self.peer(source);
        peer.handle_answered(piece, now);
        peer.unfit.push(piece);
    }

    /// A peer has only part of the file, and this piece not.
    pub fn handle_lacking(&mut self, source: SourceId, piece: usize, now: Instant) {
        let of = self.pieces;
        let peer = self.peer(source);
        peer.handle_answered(piece, now);
        peer.lacks(piece, of);
        peer.refused = true;
        self.count_holders();
    }

    /// A peer did not give what it was asked for; `pause` when it said how long to wait.
    pub fn handle_failed(&mut self, source: SourceId, piece: Option<usize>, pause: Option<Duration>, now: Instant) {
        let peer = self.peer(source);
        peer.put_off = true;
        match piece {
            Some(piece) => {
                peer.handle_answered(piece, now);
                peer.refused |= pause.is_none() || peer.given == 0;
            }
            None => peer.chain = Chain::Unasked,
        }
        // Many asks that break off together are one failure.
        if peer.is_usable(now) {
            peer.strikes += u32::from(pause.is_none());
        }
        if peer.strikes >= STRIKES {
            peer.leave();
        }
        let pause = pause.unwrap_or(Duration::from_millis(50) * 4u32.pow(peer.strikes.min(4)));
        peer.busy_until = Some(now + pause);
    }

    /// A peer said which pieces it has: `None` when it has them all.
    pub fn handle_have(&mut self, source: SourceId, have: Option<Pieces>, now: Instant) {
        let of = self.pieces;
        let peer = self.peer(source);
        peer.chain = Chain::Answered(now);
        if !peer.refused {
            peer.strikes = 0;
        }
        peer.is_whole = have.is_none();
        peer.have = match have {
            Some(have) if have.of() == of && !have.is_full() => Have::Some(have),
            _ => Have::All,
        };
        self.count_holders();
    }

    /// A peer stands for a chain that is not known here: it is asked for it again.
    pub fn handle_unknown_chain(&mut self, source: SourceId) {
        let peer = self.peer(source);
        if !matches!(peer.chain, Chain::Asked(_)) {
            peer.chain = Chain::Unasked;
        }
    }

    /// A chain is claimed that nobody claimed before: what fitted nothing may be asked for again.
    pub fn handle_new_claim(&mut self) {
        self.peers.iter_mut().for_each(|peer| peer.unfit.clear());
        self.mirror.unfit = None;
    }

    /// The pieces do not make the file, and no chain says which is false: everybody is asked for one.
    pub fn handle_doubt(&mut self) {
        let live = self.peers.iter_mut().filter(|peer| !peer.gone);
        live.for_each(|peer| peer.chain = Chain::Unasked);
    }

    /// A peer has not the file, lied, or is not to be believed: it is of no more use here.
    pub fn handle_gone(&mut self, source: SourceId) {
        self.peer(source).leave();
        self.count_holders();
    }

    /// When [`Plan::poll`] may have a new wish without anything having happened.
    pub fn next_wake(&self, now: Instant) -> Instant {
        let soon = now + Duration::from_millis(500);
        let late = self.peers.iter().flat_map(|peer| (0..peer.asked.len()).map(|at| peer.late_at(at)));
        let busy = self.peers.iter().filter_map(|peer| peer.busy_until);
        let again = self.peers.iter().filter_map(Peer::asks_again_at);
        let times = late.chain(busy).chain(again).chain(self.mirror.wakes());
        let times = times.chain([self.grace_until, self.peers_heard + self.patience()]);
        times.filter(|time| *time > now).fold(soon, Instant::min)
    }

    /// The next thing to do, until there is none.
    #[must_use]
    pub fn poll(&mut self, ledger: &Ledger, now: Instant) -> Option<Wish> {
        if ledger.missing() == 0 && ledger.front().0 == self.pieces {
            return self.mirror.halt().or_else(|| self.ask_have(ledger, now));
        }
        if now >= self.moved + STALEMATE {
            return Some(Wish::Despair);
        }
        if self.front_since.0 != ledger.front().0 {
            self.front_since = (ledger.front().0, now);
        }
        self.peers.iter_mut().filter(|peer| peer.is_lost(now)).for_each(Peer::leave);
        if self.is_overdue(ledger, now) {
            self.stuck_at = Some(ledger.anchor());
        }
        if self.mirror.run.is_none()
            && let Some(piece) = self.mirror.unfit.take().filter(|_| ledger.has_claim())
        {
            return Some(Wish::Exhausted { piece });
        }
        self.steer_mirror(ledger, now)
            .or_else(|| self.cancel(ledger, now))
            .or_else(|| self.ask_have(ledger, now))
            .or_else(|| self.ask_piece(ledger, now))
            .or_else(|| self.conclude(ledger, now))
    }

    fn peer(&mut self, source: SourceId) -> &mut Peer {
        &mut self.peers[source.0 as usize - 1]
    }

    fn sources(&self) -> impl Iterator<Item = (SourceId, &Peer)> {
        self.peers.iter().enumerate().map(|(index, peer)| (SourceId(index as u32 + 1), peer))
    }

    fn count_holders(&mut self) {
        let sets = || self.peers.iter().filter(|peer| !peer.gone).filter_map(|peer| peer.have.some());
        self.holders_of = if sets().next().is_some() { vec![0; self.pieces] } else { Vec::new() };
        for set in self.peers.iter().filter(|peer| !peer.gone).filter_map(|peer| peer.have.some()) {
            set.iter().for_each(|piece| self.holders_of[piece] += 1);
        }
    }

    /// Whether pieces are taken that nobody can judge yet: some peers have part of the file, and none a chain.
    fn is_swarming(&self, ledger: &Ledger) -> bool {
        !ledger.has_claim() && !self.holders_of.is_empty()
    }

    fn ask_have(&mut self, ledger: &Ledger, now: Instant) -> Option<Wish> {
        if self.pieces == 1 {
            return None;
        }
        let pending = self.peers.iter().filter(|peer| !peer.gone && peer.is_being_questioned(now)).count();
        if pending >= QUESTIONS {
            return None;
        }
        let complete = ledger.missing() == 0;
        let due = |(_, peer): &(SourceId, &Peer)| {
            peer.is_usable(now)
                && match peer.chain {
                    Chain::Unasked => true,
                    Chain::Asked(_) => false,
                    Chain::Answered(at) => !complete && peer.have.some().is_some() && now >= at + ASK_AGAIN,
                }
        };
        let (source, _) = self.sources().filter(due).min_by_key(|(source, peer)| (peer.finish(now), *source))?;
        self.peer(source).chain = Chain::Asked(now);
        Some(Wish::Call(Call::Have { source }))
    }

    /// A piece that is there by now and that its other source has not begun to send.
    fn cancel(&mut self, ledger: &Ledger, now: Instant) -> Option<Wish> {
        let idle = |peer: &Peer, at: usize| at > 0 || now >= peer.late_at(at) + UNMEASURED;
        let (source, at) = self.sources().find_map(|(source, peer)| {
            let at = (0..peer.asked.len()).find(|&at| idle(peer, at) && !ledger.is_missing(peer.asked[at].piece))?;
            Some((source, at))
        })?;
        let asked = self.peer(source).asked.remove(at).expect("it was just found");
        Some(Wish::Call(Call::Cancel { source, piece: asked.piece }))
    }

    /// What to do when nothing can be asked: say that claims lead nowhere, or that no source is left.
    fn conclude(&mut self, ledger: &Ledger, now: Instant) -> Option<Wish> {
        if self.mirror.run.is_some() {
            return None;
        }
        if self.holders_ended && self.mirror.is_spent() && now >= self.peers_heard + LOST {
            return Some(Wish::GiveUp);
        }
        let busy = |peer: &Peer| !peer.gone && (!peer.asked.is_empty() || peer.is_being_questioned(now));
        if self.peers.iter().any(busy) {
            return None;
        }
        let live = || self.sources().filter(|(source, peer)| !peer.gone && !ledger.is_suspect(*source));
        let failed = |piece: &usize| {
            ledger.is_missing(*piece) && live().all(|(_, peer)| peer.unfit.contains(piece) && peer.have.has(*piece))
        };
        if ledger.has_claim()
            && live().next().is_some()
            && let Some(piece) = (0..ledger.anchor()).rev().find(failed)
        {
            for peer in self.peers.iter_mut().filter(|peer| !peer.unfit.is_empty()) {
                peer.unfit.clear();
                peer.gone |= peer.second_chance;
                peer.second_chance = true;
            }
            return Some(Wish::Exhausted { piece });
        }
        let mute = live().all(|(_, peer)| !ledger.has_claim() && matches!(peer.chain, Chain::Answered(_)));
        let waits = self.is_swarming(ledger) || (self.lied_to && now < self.peers_heard + HOPE);
        (self.holders_ended && self.mirror.is_spent() && mute && !waits).then_some(Wish::GiveUp)
    }
}

#[cfg(test)]
mod tests;
