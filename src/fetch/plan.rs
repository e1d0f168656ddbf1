//! Which piece is asked of whom: the policy of one download, as a machine without clock or sockets.
//!
//! 1. The mirror streams from the front, at once, unless peers are known to be quick enough ([`MirrorUse`]).
//! 2. Peers bring the last piece first, because it anchors the chain; then the piece at which claims part; then, when
//!    no mirror serves the front, a window ahead of apt; then the rest from the tail.
//! 3. What is late by its source's own measure is asked of a second source, never more than once at a time per source.
//!
//! The mirror and the peers meet in the middle. What one source has been asked for is not asked of another before it is
//! late, so nearly every byte crosses the wire once.

use std::time::{Duration, Instant};

use crate::hash::PIECE_SIZE;

use super::ledger::{Ledger, SourceId};

/// Peers used for one file at most.
pub const MAX_PEERS: usize = 32;
/// Pieces asked of peers and not yet come, at most.
const IN_FLIGHT: usize = 16;
/// Peers of unknown rate that are tried at a time.
const TRIALS: usize = 4;
/// Pieces ahead of the front that peers serve in order when no mirror does.
const WINDOW: usize = 8;
/// Pieces that the mirror is asked for at a time while peers help.
const RUN: usize = 8;
/// Failures after which a peer is not asked again for this file.
const STRIKES: u32 = 3;
/// Failures in a row after which the mirror is given up for this file.
const MIRROR_STRIKES: u32 = 4;
/// How long a lookup may hold back the mirror when quick peers are connected.
const GRACE: Duration = Duration::from_millis(60);
/// How long peers without measure may take for a piece before it is late.
const UNMEASURED: Duration = Duration::from_millis(1500);
/// How long a mirror without measure is expected to need for a piece.
const UNHURRIED: Duration = Duration::from_millis(150);
/// Bytes after which a mirror's earlier failures are forgotten.
const PROGRESS: u64 = 64 * 1024;
/// Bounds of the time after which a piece of a measured peer is late.
const LATE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(8));
/// How long peers may bring nothing before a mirror that is to be the last resort is taken for it.
const LAST_RESORT: Duration = Duration::from_secs(15);

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

/// What the driver has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Ask a peer for a piece.
    AskPiece {
        /// Which peer.
        source: SourceId,
        /// Which piece.
        piece: usize,
    },
    /// Ask a peer for its piece chain.
    AskChain {
        /// Which peer.
        source: SourceId,
    },
    /// Stream these pieces from the mirror.
    Stream {
        /// The first piece: where the front is.
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
}

/// Whether a peer was asked for its piece chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chain {
    Unasked,
    Asked(Instant),
    Answered,
}

#[derive(Debug)]
struct Peer {
    rate: Option<f64>,
    asked: Vec<(usize, Instant)>,
    unfit: Vec<usize>,
    strikes: u32,
    gone: bool,
    busy_until: Option<Instant>,
    chain: Chain,
    /// Its pieces fitted no claim once before; the next time it is out.
    second_chance: bool,
}

impl Peer {
    fn is_usable(&self, now: Instant) -> bool {
        !self.gone && self.busy_until.is_none_or(|until| until <= now)
    }

    /// When it is expected to have sent a piece that it was asked for.
    fn expected(&self, piece: usize) -> Option<Instant> {
        let at = self.asked.iter().position(|(asked, _)| *asked == piece)?;
        let queued = (at + 1) as f64 * PIECE_SIZE as f64;
        let needs = self.rate.map_or(UNMEASURED, |rate| Duration::from_secs_f64((queued / rate.max(1.0)).min(60.0)));
        Some(self.asked[at].1 + needs)
    }

    /// Time until it would have sent one piece more.
    fn finish(&self) -> Duration {
        let queued = (self.asked.len() + 1) as f64 * PIECE_SIZE as f64;
        self.rate.map_or(UNMEASURED, |rate| Duration::from_secs_f64((queued / rate.max(1.0)).min(60.0)))
    }

    fn depth(&self) -> usize {
        self.rate.map_or(1, |rate| (2.0 + rate * 0.2 / PIECE_SIZE as f64) as usize).min(IN_FLIGHT)
    }

    fn late_after(&self) -> Duration {
        if self.rate.is_none() { UNMEASURED } else { (3 * self.finish()).clamp(LATE.0, LATE.1) }
    }

    fn is_late(&self, piece: usize, now: Instant) -> bool {
        self.asked.iter().any(|(asked, since)| *asked == piece && now >= *since + self.late_after())
    }
}

#[derive(Debug)]
struct Mirror {
    usable: bool,
    run: Option<Run>,
    strikes: u32,
    retry_at: Option<Instant>,
    rate: Option<f64>,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    until: usize,
    started: Instant,
    heard: Instant,
    bytes: u64,
}

/// The plan of one download.
#[derive(Debug)]
pub struct Plan {
    mirror_use: MirrorUse,
    peers: Vec<Peer>,
    mirror: Mirror,
    /// Until when a quick peer may still turn out to be a holder.
    grace_until: Instant,
    holders_ended: bool,
    /// When a peer last brought something, or the download began.
    peers_heard: Instant,
}

impl Plan {
    /// A plan with a mirror and no peers yet. `quick_peers`: whether a connected peer of measured rate may turn out to
    /// be a holder; `mirror`: whether there is one.
    pub fn new(mirror_use: MirrorUse, mirror: bool, quick_peers: bool, now: Instant) -> Self {
        let grace = match mirror_use {
            MirrorUse::First => Duration::ZERO,
            MirrorUse::Sparing if quick_peers => GRACE,
            MirrorUse::Sparing => Duration::ZERO,
            MirrorUse::Last => Duration::from_secs(3),
        };
        Self {
            mirror_use,
            peers: Vec::new(),
            mirror: Mirror { usable: mirror, run: None, strikes: 0, retry_at: None, rate: None },
            grace_until: now + grace,
            holders_ended: false,
            peers_heard: now,
        }
    }

    /// A holder turned up. `None` when there are enough.
    pub fn handle_holder(&mut self, rate: Option<f64>, now: Instant) -> Option<SourceId> {
        if self.peers.len() >= MAX_PEERS {
            return None;
        }
        if self.peers.is_empty() {
            self.peers_heard = now;
        }
        self.peers.push(Peer {
            rate,
            asked: Vec::new(),
            unfit: Vec::new(),
            strikes: 0,
            gone: false,
            busy_until: None,
            chain: Chain::Unasked,
            second_chance: false,
        });
        Some(SourceId(self.peers.len() as u32))
    }

    /// No more holders will turn up.
    pub fn handle_holders_ended(&mut self) {
        self.holders_ended = true;
    }

    /// A peer's piece came and fitted.
    pub fn handle_kept(&mut self, source: SourceId, piece: usize, rate: Option<f64>, now: Instant) {
        self.peers_heard = now;
        let peer = self.peer(source);
        peer.asked.retain(|(asked, _)| *asked != piece);
        peer.rate = rate.or(peer.rate);
        peer.strikes = 0;
    }

    /// A peer's piece came and fitted nothing.
    pub fn handle_unfit(&mut self, source: SourceId, piece: usize) {
        let peer = self.peer(source);
        peer.asked.retain(|(asked, _)| *asked != piece);
        peer.unfit.push(piece);
    }

    /// A peer did not give what it was asked for; `pause` when it said how long to wait.
    pub fn handle_failed(&mut self, source: SourceId, piece: Option<usize>, pause: Option<Duration>, now: Instant) {
        let peer = self.peer(source);
        match piece {
            Some(piece) => peer.asked.retain(|(asked, _)| *asked != piece),
            None => peer.chain = Chain::Unasked,
        }
        peer.strikes += 1;
        if peer.strikes >= STRIKES {
            peer.gone = true;
            peer.asked.clear();
        }
        let pause = pause.unwrap_or(Duration::from_millis(50) * 4u32.pow(peer.strikes.min(4)));
        peer.busy_until = Some(now + pause);
    }

    /// A peer's chain came.
    pub fn handle_chain(&mut self, source: SourceId, now: Instant) {
        self.peers_heard = now;
        self.peer(source).chain = Chain::Answered;
    }

    /// A chain is claimed that nobody claimed before: what fitted nothing may be asked for again.
    pub fn handle_new_claim(&mut self) {
        self.peers.iter_mut().for_each(|peer| peer.unfit.clear());
    }

    /// A peer is asked for its chain although the plan did not wish it.
    pub fn handle_chain_asked(&mut self, source: SourceId, now: Instant) {
        self.peer(source).chain = Chain::Asked(now);
    }

    /// A peer has not the file, or lied: it is of no more use here.
    pub fn handle_gone(&mut self, source: SourceId) {
        let peer = self.peer(source);
        peer.gone = true;
        peer.asked.clear();
    }

    /// Bytes of the mirror's stream came.
    pub fn handle_mirror_bytes(&mut self, bytes: usize, now: Instant) {
        let Some(run) = &mut self.mirror.run else { return };
        run.bytes += bytes as u64;
        run.heard = now;
        if run.bytes >= PROGRESS {
            self.mirror.strikes = 0;
        }
        let elapsed = (now - run.started).as_secs_f64();
        if run.bytes >= PIECE_SIZE && elapsed > 0.005 {
            self.mirror.rate = Some(run.bytes as f64 / elapsed);
        }
    }

    /// The mirror's stream ended where it was to end.
    pub fn handle_mirror_done(&mut self) {
        self.mirror.run = None;
    }

    /// The mirror broke off; `fatal` when it has not what was promised.
    pub fn handle_mirror_failed(&mut self, fatal: bool, now: Instant) {
        self.mirror.run = None;
        self.mirror.strikes += 1;
        self.mirror.usable &= !fatal && self.mirror.strikes < MIRROR_STRIKES;
        self.mirror.retry_at = Some(now + Duration::from_millis(100) * 4u32.pow(self.mirror.strikes.min(4) - 1));
    }

    /// When [`Plan::poll`] may have a new wish without anything having happened.
    pub fn next_wake(&self, now: Instant) -> Instant {
        let soon = now + Duration::from_millis(500);
        let late = self.peers.iter().flat_map(|peer| peer.asked.iter().map(|(_, since)| *since + peer.late_after()));
        let busy = self.peers.iter().filter_map(|peer| peer.busy_until);
        let times =
            late.chain(busy).chain(self.mirror.retry_at).chain([self.grace_until, self.peers_heard + self.patience()]);
        times.filter(|time| *time > now).fold(soon, Instant::min)
    }

    /// The next thing to do, until there is none.
    #[must_use]
    pub fn poll(&mut self, ledger: &Ledger, now: Instant) -> Option<Wish> {
        if ledger.missing() == 0 && ledger.front().0 == ledger.expected().pieces() {
            return self.mirror.run.take().map(|_| Wish::Halt);
        }
        self.steer_mirror(ledger, now)
            .or_else(|| self.ask_chain(ledger, now))
            .or_else(|| self.ask_piece(ledger, now))
            .or_else(|| self.conclude(ledger, now))
    }

    fn peer(&mut self, source: SourceId) -> &mut Peer {
        &mut self.peers[source.0 as usize - 1]
    }

    fn sources(&self) -> impl Iterator<Item = (SourceId, &Peer)> {
        self.peers.iter().enumerate().map(|(index, peer)| (SourceId(index as u32 + 1), peer))
    }

    fn steer_mirror(&mut self, ledger: &Ledger, now: Instant) -> Option<Wish> {
        let front = ledger.front().0;
        let wanted = front < ledger.anchor() && self.mirror_wanted(ledger, now) && !self.is_underway(front, now);
        match self.mirror.run {
            Some(run) if !wanted || front >= run.until => {
                self.mirror.run = None;
                Some(Wish::Halt)
            }
            None if wanted && self.mirror.retry_at.is_none_or(|at| at <= now) => {
                let until = self.run_end(ledger, front, now);
                self.mirror.run = Some(Run { until, started: now, heard: now, bytes: 0 });
                Some(Wish::Stream { from: front, until })
            }
            _ => None,
        }
    }

    fn mirror_wanted(&self, ledger: &Ledger, now: Instant) -> bool {
        if !self.mirror.usable {
            return false;
        }
        let helpers = self.peers.iter().any(|peer| peer.is_usable(now));
        match self.mirror_use {
            MirrorUse::First => true,
            MirrorUse::Sparing if now < self.grace_until && !self.holders_ended && !helpers => false,
            MirrorUse::Sparing => {
                let late = now >= self.peers_heard + self.patience();
                let peers: f64 =
                    self.peers.iter().filter(|peer| peer.is_usable(now)).filter_map(|peer| peer.rate).sum();
                let quick = peers > 0.0 && self.mirror.rate.is_none_or(|mirror| peers >= mirror);
                late || !quick || !(ledger.has_claim() || self.mirror.run.is_none())
            }
            MirrorUse::Last => {
                let none = !helpers && (self.holders_ended || now >= self.grace_until);
                none || (helpers && now >= self.peers_heard + LAST_RESORT)
            }
        }
    }

    /// How long peers may bring nothing before the mirror steps in.
    fn patience(&self) -> Duration {
        let quickest = self.peers.iter().filter(|peer| !peer.gone).map(Peer::late_after).min();
        if self.mirror_use == MirrorUse::Last { LAST_RESORT } else { quickest.unwrap_or(LATE.0) }
    }

    /// The mirror's run ends before what is held or expected from peers, and is short while peers may take the rest.
    fn run_end(&self, ledger: &Ledger, front: usize, now: Instant) -> usize {
        let pieces = ledger.anchor();
        let alone =
            self.peers.iter().all(|peer| peer.gone) && (self.holders_ended || ledger.expected().pieces() <= RUN);
        let limit = if alone || self.mirror_use == MirrorUse::First { pieces } else { pieces.min(front + RUN) };
        (front + 1..limit).find(|&piece| !ledger.is_missing(piece) || self.is_underway(piece, now)).unwrap_or(limit)
    }

    /// Whether a peer was asked for the piece and is expected to bring it before the mirror could.
    fn is_underway(&self, piece: usize, now: Instant) -> bool {
        let mirror =
            self.mirror.rate.map_or(UNHURRIED, |rate| Duration::from_secs_f64(PIECE_SIZE as f64 / rate.max(1.0)));
        let sooner = |expected: Instant| now < expected + mirror && expected < now + 2 * mirror;
        self.peers.iter().filter_map(|peer| peer.expected(piece)).any(sooner)
    }

    fn ask_chain(&mut self, ledger: &Ledger, now: Instant) -> Option<Wish> {
        let pending = |peer: &Peer| matches!(peer.chain, Chain::Asked(at) if now < at + UNMEASURED);
        if ledger.has_claim() || self.peers.iter().any(pending) {
            return None;
        }
        let candidate = |(_, peer): &(SourceId, &Peer)| peer.is_usable(now) && peer.chain == Chain::Unasked;
        let (source, _) = self.sources().filter(candidate).min_by_key(|(_, peer)| peer.finish())?;
        self.peer(source).chain = Chain::Asked(now);
        Some(Wish::AskChain { source })
    }

    fn ask_piece(&mut self, ledger: &Ledger, now: Instant) -> Option<Wish> {
        // What is late does not count: peers that trickle must not use up the window of those that send.
        let late = |peer: &Peer, since: Instant| now >= since + peer.late_after();
        let waiting = |peer: &Peer| peer.asked.iter().filter(|(_, since)| !late(peer, *since)).count();
        let in_flight: usize = self.peers.iter().map(waiting).sum();
        if !ledger.has_claim() || in_flight >= IN_FLIGHT {
            return None;
        }
        let usable = || self.sources().filter(|(_, peer)| peer.is_usable(now));
        let fair = (IN_FLIGHT / usable().count().max(1)).max(2);
        // An idle peer of unknown rate is tried before a known one gets more, but only a few at a time.
        let tried = usable().filter(|(_, peer)| peer.rate.is_none() && !peer.asked.is_empty()).count();
        let is_tried_next = |peer: &Peer| peer.rate.is_none() && peer.asked.is_empty() && tried < TRIALS;
        let mut free: Vec<_> = usable()
            .filter(|(_, peer)| peer.asked.len() < peer.depth().min(fair))
            .map(|(source, peer)| (!is_tried_next(peer), peer.finish(), source))
            .collect();
        free.sort();
        let (source, piece) = free
            .into_iter()
            .find_map(|(_, _, source)| self.choose(ledger, source, now).map(|piece| (source, piece)))?;
        self.peer(source).asked.push((piece, now));
        Some(Wish::AskPiece { source, piece })
    }

    /// The piece that this peer should bring next.
    fn choose(&self, ledger: &Ledger, source: SourceId, now: Instant) -> Option<usize> {
        let peer = &self.peers[source.0 as usize - 1];
        let pieces = ledger.expected().pieces();
        let front = ledger.front().0;
        // The mirror is about to bring these; a byte fetched twice helps nobody.
        let streaming = self.mirror.run.filter(|run| now < run.heard + UNMEASURED);
        let reserved = streaming.map_or(front, |run| run.until.min(front + 2));
        let fresh = |&piece: &usize| {
            ledger.is_missing(piece)
                && piece >= reserved
                && !peer.unfit.contains(&piece)
                && !self.peers.iter().any(|peer| peer.asked.iter().any(|(asked, _)| *asked == piece))
        };
        let anchor = (ledger.anchor() == pieces).then_some(pieces - 1);
        let window = if streaming.is_some() { front..front } else { front..pieces.min(front + WINDOW) };
        anchor
            .into_iter()
            .chain(ledger.fork())
            .chain(window)
            .find(&fresh)
            .or_else(|| (reserved..ledger.anchor()).rev().find(&fresh))
            .or_else(|| self.hedge(ledger, source, now))
    }

    /// A late piece of another peer, for a peer that has nothing else to do.
    fn hedge(&self, ledger: &Ledger, source: SourceId, now: Instant) -> Option<usize> {
        let peer = &self.peers[source.0 as usize - 1];
        let late = |&piece: &usize| {
            let asked = self.peers.iter().filter(|other| other.asked.iter().any(|(asked, _)| *asked == piece));
            let mut asked = asked.peekable();
            ledger.is_missing(piece)
                && !peer.unfit.contains(&piece)
                && asked.peek().is_some()
                && asked.all(|other| other.is_late(piece, now))
        };
        if peer.asked.is_empty() { (0..ledger.anchor()).find(late) } else { None }
    }

    /// What to do when nothing can be asked: say that claims lead nowhere, or that no source is left.
    fn conclude(&mut self, ledger: &Ledger, now: Instant) -> Option<Wish> {
        let underway = self.mirror.run.is_some() || self.peers.iter().any(|peer| !peer.asked.is_empty());
        if underway {
            return None;
        }
        let live = || self.peers.iter().filter(|peer| !peer.gone);
        let failed = |piece: &usize| ledger.is_missing(*piece) && live().all(|peer| peer.unfit.contains(piece));
        if live().next().is_some()
            && let Some(piece) = (0..ledger.anchor()).rev().find(failed)
        {
            for peer in self.peers.iter_mut().filter(|peer| !peer.unfit.is_empty()) {
                peer.unfit.clear();
                peer.gone |= peer.second_chance;
                peer.second_chance = true;
            }
            return Some(Wish::Exhausted { piece });
        }
        let mute = live().all(|peer| !ledger.has_claim() && peer.chain == Chain::Answered);
        (self.holders_ended && !self.mirror.usable && mute).then_some(Wish::GiveUp)
    }
}
