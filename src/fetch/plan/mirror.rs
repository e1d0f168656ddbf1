//! What the mirror does: stream from the front, yield, come back, bring the one piece that nobody else can.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use rand::RngExt;

use crate::{
    fetch::ledger::{Ledger, SourceId},
    hash::PIECE_SIZE,
};

use super::{
    FRONT_PATIENCE, LAST_RESORT, LATE, MIRROR_STRIKES, MirrorUse, PROGRESS, Plan, QUICK, RUN, SHARED, STRETCH,
    UNHURRIED, UNMEASURED, Wish, peer::Peer,
};

/// Seconds that peers may need for the rest before a mirror that is not measured is tried.
const LONG: f64 = 2.5;
/// A mirror that has yielded comes back when peers are slower than this part of its rate.
const COMES_BACK: f64 = 0.7;
/// How long a mirror that failed is left alone at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Time and bytes over which the mirror's rate is measured.
const METER: (Duration, u64) = (Duration::from_millis(250), 64 * 1024);
/// How often what the mirror sent may fit no claim.
const FALSE_TIMES: u32 = 4;
/// The time that a mirror which has just been asked is presumed to need for a piece.
const FIRST_TIME: Duration = Duration::from_millis(50);
/// Pieces that nobody has, for each client, below which not all clients ask for one at a time.
const CROWD: u32 = 6;
/// How long the mirror pauses, when the last pieces that nobody has are few and many may be asking for them.
const PAUSE: Range<u64> = 300..900;

#[derive(Debug)]
pub(super) struct Mirror {
    /// Whether it may have what was promised.
    pub usable: bool,
    /// Whether it gives parts of a file; one that does not sends all that comes before them too.
    ranges: bool,
    pub run: Option<Run>,
    strikes: u32,
    retry_at: Option<Instant>,
    rate: Option<f64>,
    metered: (u64, Instant),
    /// How often it was asked.
    asked: u32,
    /// How often what it had sent fitted no claim, and in which of its answers last.
    false_times: (u32, u32),
    /// A piece that it gave and that fits no claim.
    pub unfit: Option<usize>,
    /// Until when it pauses in a swarm.
    pause_until: Option<Instant>,
}

/// What it was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    from: usize,
    until: usize,
    /// Whether it streams from the front, or brings pieces from elsewhere.
    at_front: bool,
    started: Instant,
    heard: Instant,
    bytes: u64,
}

impl Mirror {
    pub fn new(usable: bool, now: Instant) -> Self {
        Self {
            usable,
            ranges: true,
            run: None,
            strikes: 0,
            retry_at: None,
            rate: None,
            metered: (0, now),
            asked: 0,
            false_times: (0, 0),
            unfit: None,
            pause_until: None,
        }
    }

    /// Whether nothing more is to be expected of it: it has not the file, or has failed again and again.
    pub fn is_spent(&self) -> bool {
        !self.usable || self.strikes >= MIRROR_STRIKES
    }

    pub fn halt(&mut self) -> Option<Wish> {
        self.run.take().map(|_| Wish::Halt)
    }

    pub fn wakes(&self) -> impl Iterator<Item = Instant> {
        self.retry_at.into_iter().chain(self.pause_until).chain(self.run.map(|run| run.heard + UNMEASURED))
    }

    fn piece_time(&self) -> Duration {
        let time = |rate: f64| Duration::from_secs_f64((PIECE_SIZE as f64 / rate.max(1.0)).min(60.0));
        self.rate.map_or(UNHURRIED, time)
    }
}

impl Plan {
    /// Bytes of the mirror's stream came.
    pub fn handle_mirror_bytes(&mut self, bytes: usize, now: Instant) {
        let Some(run) = &mut self.mirror.run else { return };
        self.moved = now;
        run.bytes += bytes as u64;
        run.heard = now;
        if run.bytes >= PROGRESS {
            self.mirror.strikes = 0;
        }
        let (metered, since) = &mut self.mirror.metered;
        *metered += bytes as u64;
        let took = now - *since;
        if took >= METER.0 && *metered >= METER.1 || *metered >= PIECE_SIZE && !took.is_zero() {
            let sample = *metered as f64 / took.as_secs_f64();
            self.mirror.rate = Some(self.mirror.rate.map_or(sample, |rate| (rate + sample) / 2.0));
            self.mirror.metered = (0, now);
        }
    }

    /// The mirror's stream ended where it was to end, or is of no more use.
    pub fn handle_mirror_done(&mut self) {
        self.mirror.run = None;
    }

    /// A piece that the mirror was asked for by itself fits no claim.
    pub fn handle_mirror_unfit(&mut self, piece: usize) {
        self.mirror.unfit = Some(piece);
    }

    /// What the mirror had sent of a piece fits no claim. Either may be false: the second time the claims are set aside,
    /// and the mirror is given up when that happens again and again and nobody is convicted meanwhile.
    pub fn handle_mirror_false(&mut self, piece: usize) {
        self.mirror.run = None;
        let (times, last) = &mut self.mirror.false_times;
        if *last == self.mirror.asked {
            return;
        }
        (*times, *last) = (*times + 1, self.mirror.asked);
        if *times >= FALSE_TIMES {
            self.mirror.usable = false;
            self.handle_doubt();
        } else if *times > 1 {
            self.mirror.unfit = Some(piece);
        }
    }

    /// A liar was found: what fitted no claim may have been its fault.
    pub fn handle_conviction(&mut self, source: SourceId) {
        let times = &mut self.mirror.false_times.0;
        *times = times.saturating_sub(1);
        self.lied_to = true;
        self.handle_gone(source);
    }

    /// The mirror broke off; `fatal` when it has not what was promised.
    pub fn handle_mirror_failed(&mut self, fatal: bool, now: Instant) {
        self.mirror.run = None;
        self.mirror.strikes += 1;
        self.mirror.usable &= !fatal;
        let pause = Duration::from_millis(100) * 4u32.pow(self.mirror.strikes.min(4) - 1);
        self.mirror.retry_at = Some(now + pause.min(LONGEST_PAUSE));
    }

    /// An ask for a part was answered with the part, or, when the mirror does not serve ranges, with the whole file.
    pub fn handle_mirror_ranges(&mut self, serves: bool) {
        self.mirror.ranges = serves;
    }

    pub(super) fn steer_mirror(&mut self, ledger: &Ledger, now: Instant) -> Option<Wish> {
        let front = ledger.front().0;
        let wanted = front < ledger.anchor() && self.mirror_wanted(ledger, now);
        let ranges = self.mirror.ranges;
        let shares = ranges && self.is_swarming(ledger) && self.sharing(now).next().is_some() && self.is_shared(now);
        if let Some(run) = self.mirror.run {
            let is_over = if !run.at_front {
                !ranges || !ledger.is_missing(run.from)
            } else if shares && run.until > run.from + 1 {
                // Where it stands in a piece decides: what was begun is worth its end.
                let begun = run.bytes.saturating_sub((front - run.from.min(front)) as u64 * PIECE_SIZE);
                front > run.from && begun < PIECE_SIZE / 4
            } else {
                // What a mirror without ranges has begun is not asked for again: that would cost all that comes before.
                let may_end = || self.is_underway(front, now) || !wanted && self.may_yield(ledger, run, now);
                front >= run.until || ranges && may_end()
            };
            return if is_over { self.mirror.halt() } else { None };
        }
        if !self.mirror.usable || self.mirror.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        if shares {
            return self.scatter(ledger, now);
        }
        if !wanted {
            return None;
        }
        if let Some(piece) = self.stuck(ledger, now).filter(|_| !self.has_room(ledger, now))
            && piece > front
            && self.mirror.unfit.is_none()
            && ranges
        {
            return Some(self.stream(piece, piece + 1, false, now));
        }
        if self.is_underway(front, now) {
            return None;
        }
        if ledger.is_contradicted() && ledger.has_claim() {
            // Peers prove from the tail which of the two is false; when they do not, their claims lead nowhere.
            let late = now >= self.peers_heard + self.patience();
            return late.then_some(Wish::Exhausted { piece: front });
        }
        let until = self.run_end(ledger, front, now);
        Some(self.stream(front, until, true, now))
    }

    fn stream(&mut self, from: usize, until: usize, at_front: bool, now: Instant) -> Wish {
        self.mirror.run = Some(Run { from, until, at_front, started: now, heard: now, bytes: 0 });
        self.mirror.metered = (0, now);
        self.mirror.asked += 1;
        self.mirror.pause_until = None;
        Wish::Stream { from, until }
    }

    /// Whether a stream is worth breaking off: what was begun of a piece is, unless that takes longer than peers need.
    fn may_yield(&self, ledger: &Ledger, run: Run, now: Instant) -> bool {
        let front = ledger.front().0;
        let begun = run.bytes.saturating_sub((front - run.from.min(front)) as u64 * PIECE_SIZE).min(PIECE_SIZE);
        let peers: f64 = self.peers.iter().filter(|peer| peer.is_usable(now)).filter_map(|peer| peer.rate).sum();
        let rest = (PIECE_SIZE - begun) as f64 / self.mirror.rate.unwrap_or(1.0).max(1.0);
        let is_slow = rest > (ledger.missing() + 1) as f64 * PIECE_SIZE as f64 / peers.max(1.0);
        begun < PIECE_SIZE / 8 || now >= run.heard + UNMEASURED || is_slow && self.pieces > 20
    }

    fn mirror_wanted(&self, ledger: &Ledger, now: Instant) -> bool {
        if !self.mirror.usable {
            return false;
        }
        let useful = || self.peers.iter().filter(|peer| peer.is_usable(now));
        let helpers = useful().any(|peer| !peer.put_off);
        match self.mirror_use {
            MirrorUse::First => true,
            MirrorUse::Sparing if now < self.grace_until && !self.holders_ended && !helpers => false,
            MirrorUse::Sparing => {
                let late = now >= self.peers_heard + self.patience();
                let streams = self.mirror.run.is_some();
                let peers: f64 = useful().filter_map(|peer| peer.rate).sum();
                let quick = match self.mirror.rate {
                    Some(rate) => peers >= if streams { rate } else { COMES_BACK * rate },
                    // A mirror that nobody has measured may be quicker than peers that need long.
                    None => !streams && peers >= QUICK && ledger.missing() as f64 * PIECE_SIZE as f64 <= LONG * peers,
                };
                late || !quick || (streams && !ledger.has_claim())
            }
            MirrorUse::Last => {
                let none = !helpers && (self.holders_ended || now >= self.grace_until);
                none || (helpers && now >= self.peers_heard + LAST_RESORT)
            }
        }
    }

    /// How long peers may bring nothing before the mirror steps in.
    pub(super) fn patience(&self) -> Duration {
        let quickest = self.peers.iter().filter(|peer| !peer.gone).map(Peer::late_after).min();
        if self.mirror_use == MirrorUse::Last { LAST_RESORT } else { quickest.unwrap_or(LATE.0) }
    }

    /// The mirror's run ends before what is held or expected from peers, and is short while peers may take the rest.
    fn run_end(&self, ledger: &Ledger, front: usize, now: Instant) -> usize {
        let end = ledger.anchor();
        if !self.mirror.ranges {
            return (front + 1..end).find(|&piece| !ledger.is_missing(piece)).unwrap_or(end);
        }
        let alone = !self.peers.iter().any(|peer| peer.is_usable(now) && peer.rate.is_some());
        let stretch = self.mirror.rate.map_or(0, |rate| (rate * STRETCH.as_secs_f64() / PIECE_SIZE as f64) as usize);
        let limit = if alone || self.mirror_use == MirrorUse::First { end } else { end.min(front + RUN.max(stretch)) };
        (front + 1..limit).find(|&piece| !ledger.is_missing(piece) || self.is_underway(piece, now)).unwrap_or(limit)
    }

    /// Whether a measured peer, one that gives what it is asked for, was asked for the piece and is expected to bring it before the mirror could.
    fn is_underway(&self, piece: usize, now: Instant) -> bool {
        let mirror = self.mirror.piece_time();
        let sooner = |expected: Instant| now < expected + mirror && expected < now + 2 * mirror;
        let counts = |peer: &&Peer| peer.rate.is_some() && !peer.put_off;
        self.peers.iter().filter(counts).filter_map(|peer| peer.expected(piece)).any(sooner)
    }

    /// The pieces that the mirror is about to bring; a byte fetched twice helps nobody.
    pub(super) fn reserved(&self, ledger: &Ledger, now: Instant) -> Range<usize> {
        let front = ledger.front().0;
        match self.mirror.run {
            Some(run) if !run.at_front => run.from..run.until,
            Some(run) if now < run.heard + UNMEASURED => front..run.until.min(front + 2),
            _ => front..front,
        }
    }

    /// Whether the mirror streams at the front and is heard of.
    pub(super) fn serves_front(&self, now: Instant) -> bool {
        self.mirror.run.is_some_and(|run| run.at_front && now < run.heard + UNMEASURED)
    }

    /// When the mirror, as it streams, will have brought that piece.
    pub(super) fn mirror_expected(&self, ledger: &Ledger, piece: usize, now: Instant) -> Option<Duration> {
        let run = self.mirror.run.filter(|run| run.at_front && piece < run.until && now < run.heard + UNMEASURED)?;
        let front = ledger.front().0.max(run.from);
        // A mirror that has hardly begun is presumed to be quick.
        let is_new = self.mirror.rate.is_none() && now < run.started + 2 * METER.0;
        let time = if is_new { FIRST_TIME } else { self.mirror.piece_time() };
        Some(time * (piece + 1).saturating_sub(front) as u32)
    }

    /// Whether the mirror gives so little that others are likely to draw on it too.
    fn is_shared(&self, now: Instant) -> bool {
        let Some(rate) = self.mirror.rate else { return false };
        let peers: f64 = self.sharing(now).filter_map(|peer| peer.rate).sum();
        rate < SHARED || peers >= rate
    }

    /// Peers that have part of the file and give it.
    fn sharing(&self, now: Instant) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(move |peer| peer.is_sharing(now))
    }

    /// One piece for all: what no known holder has, at random, and the front now and then.
    fn scatter(&mut self, ledger: &Ledger, now: Instant) -> Option<Wish> {
        if self.mirror.pause_until.is_some_and(|until| until > now) {
            return None;
        }
        let (front, since) = self.front_since;
        if now >= since + FRONT_PATIENCE && ledger.is_missing(front) && !self.is_underway(front, now) {
            return Some(self.stream(front, front + 1, true, now));
        }
        let sharing: Vec<_> = self.sharing(now).collect();
        let holders = sharing.len() as u32;
        let is_asked = |piece: usize| self.peers.iter().any(|peer| peer.expected(piece).is_some());
        let free = |piece: &usize| ledger.is_missing(*piece) && !is_asked(*piece);
        let is_held = |piece: usize| sharing.iter().any(|peer| peer.have.has(piece));
        let rare: Vec<usize> = (front..ledger.anchor()).filter(|piece| free(piece) && !is_held(*piece)).collect();
        let lacks_front = free(&front) && (front == 0 || rare.first() == Some(&front));
        if lacks_front && (front == 0 || self.rng.random_ratio(1, holders + 3)) {
            return Some(self.stream(front, front + 1, true, now));
        }
        let candidates = if rare.is_empty() && now >= self.peers_heard + FRONT_PATIENCE {
            (front..ledger.anchor()).filter(|piece| free(piece)).collect()
        } else {
            rare
        };
        if candidates.is_empty() {
            return None;
        }
        // What others have begun is not known; the fewer pieces are left, the likelier two want the same one.
        let (left, crowd) = (candidates.len() as u32, CROWD * (holders + 1));
        if left < crowd && !self.rng.random_ratio(left.max(CROWD), crowd) {
            self.mirror.pause_until = Some(now + Duration::from_millis(self.rng.random_range(PAUSE)));
            return None;
        }
        let piece = candidates[self.rng.random_range(0..candidates.len())];
        Some(self.stream(piece, piece + 1, piece == front, now))
    }
}
