//! One peer as the plan sees it: what it was asked for, how long its pieces take, when one is late.
//!
//! Answers come in the order of the asks, so the service of a piece begins when it was asked for or when the one before
//! it came, whichever is later. Rates and lateness are measured from there: a queue makes no source look slow.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::hash::{PIECE_SIZE, Pieces};

use super::{ASK_AGAIN, IN_FLIGHT, LATE, LOST, Measure, UNMEASURED, choose::COMPARING};

/// Service times remembered.
const SAMPLES: usize = 20;
/// Service times from which on their ninth decile says something.
const ENOUGH: usize = 4;
/// Weight of a new sample in the moving average.
const GAIN: f64 = 0.25;
/// The round trip presumed of a peer that was never measured.
const PRESUMED_ROUND_TRIP: Duration = Duration::from_millis(100);
/// The longest time that is reckoned with for one piece.
const LONGEST: f64 = 60.0;

/// Whether a peer was asked which pieces it has, and for its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chain {
    Unasked,
    Asked(Instant),
    Answered(Instant),
}

/// What a peer has of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Have {
    /// All of it, or it has not been asked.
    All,
    Some(Pieces),
}

impl Have {
    pub fn has(&self, piece: usize) -> bool {
        match self {
            Self::All => true,
            Self::Some(pieces) => pieces.contains(piece),
        }
    }

    pub fn some(&self) -> Option<&Pieces> {
        match self {
            Self::All => None,
            Self::Some(pieces) => Some(pieces),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub piece: usize,
    pub since: Instant,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub rate: Option<f64>,
    round_trip: Option<Duration>,
    /// In the order in which they will be answered.
    pub asked: VecDeque<Asked>,
    /// When it last answered.
    served: Instant,
    /// Service times of its latest whole pieces.
    times: VecDeque<Duration>,
    /// Pieces that it gave.
    pub given: usize,
    /// Pieces of its that fitted nothing.
    pub unfit: Vec<usize>,
    pub strikes: u32,
    pub gone: bool,
    pub busy_until: Option<Instant>,
    pub chain: Chain,
    pub have: Have,
    /// Whether it said that it has the whole file.
    pub is_whole: bool,
    /// It did not give a piece that it was asked for, and none since.
    pub refused: bool,
    /// It failed at what it was asked last, or put it off, and has given no piece since: nobody waits for it.
    pub put_off: bool,
    /// Its pieces fitted no claim once before; the next time it is out.
    pub second_chance: bool,
}

impl Peer {
    pub fn new(measure: Measure, now: Instant) -> Self {
        Self {
            rate: measure.rate,
            round_trip: measure.round_trip,
            asked: VecDeque::new(),
            served: now,
            times: VecDeque::new(),
            given: 0,
            unfit: Vec::new(),
            strikes: 0,
            gone: false,
            busy_until: None,
            chain: Chain::Unasked,
            have: Have::All,
            is_whole: false,
            refused: false,
            put_off: false,
            second_chance: false,
        }
    }

    /// A piece came; `short`: it is the last one, and its time says nothing of others.
    pub fn handle_served(&mut self, piece: usize, short: bool, measure: Measure, now: Instant) {
        let began = self.asked.iter().find(|asked| asked.piece == piece).map(|asked| asked.since.max(self.served));
        if let (Some(began), false) = (began, short) {
            let took = now - began;
            self.times.push_back(took);
            if self.times.len() > SAMPLES {
                self.times.pop_front();
            }
            let sample = PIECE_SIZE as f64 / took.as_secs_f64().max(1e-4);
            self.rate = Some(self.rate.map_or(sample, |rate| rate + GAIN * (sample - rate)));
        }
        // The connection knows better: it sees bytes, and what it sends for other files.
        self.rate = measure.rate.or(self.rate);
        self.round_trip = measure.round_trip.or(self.round_trip);
        self.handle_answered(piece, now);
        self.given += 1;
        self.refused = false;
        self.put_off = false;
        self.strikes = 0;
    }

    /// An ask for a piece has its answer, whatever it is.
    pub fn handle_answered(&mut self, piece: usize, now: Instant) {
        self.asked.retain(|asked| asked.piece != piece);
        self.served = now;
    }

    pub fn lacks(&mut self, piece: usize, of: usize) {
        if self.have == Have::All {
            self.have = Have::Some(Pieces::full(of));
            self.chain = Chain::Unasked;
        }
        if let Have::Some(pieces) = &mut self.have {
            pieces.remove(piece);
        }
    }

    pub fn leave(&mut self) {
        self.gone = true;
        self.asked.clear();
    }

    /// Whether it has owed an answer for so long that none is to be expected any more.
    pub fn is_lost(&self, now: Instant) -> bool {
        let owes = |since: Instant| now >= since.max(self.served) + LOST;
        let question = matches!(self.chain, Chain::Asked(at) if owes(at));
        !self.gone && (question || self.asked.front().is_some_and(|asked| owes(asked.since)))
    }

    pub fn is_usable(&self, now: Instant) -> bool {
        !self.gone && self.busy_until.is_none_or(|until| until <= now)
    }

    /// Whether it is one more that has part of the file: it says that it has something, and gives it when it is asked.
    pub fn is_sharing(&self, now: Instant) -> bool {
        let says = self.have.some().is_some_and(|pieces| !pieces.is_empty());
        says && !self.gone && !self.refused && (0..self.asked.len()).all(|at| now < self.late_at(at))
    }

    pub fn is_being_questioned(&self, now: Instant) -> bool {
        matches!(self.chain, Chain::Asked(at) if now < at + UNMEASURED)
    }

    /// When an unfinished holder is to be asked again what it has.
    pub fn asks_again_at(&self) -> Option<Instant> {
        match (self.chain, &self.have) {
            (Chain::Answered(at), Have::Some(_)) => Some(at + ASK_AGAIN),
            (Chain::Asked(at), _) => Some(at + COMPARING),
            _ => None,
        }
    }

    /// The time that a piece takes of it, as far as is known.
    fn piece_time(&self) -> Duration {
        self.rate.map_or(UNMEASURED, |rate| Duration::from_secs_f64((PIECE_SIZE as f64 / rate.max(1.0)).min(LONGEST)))
    }

    /// When the service of the ask at that place in the queue began, or is expected to begin.
    fn begins(&self, at: usize) -> Instant {
        let first = self.asked.front().map_or(self.served, |asked| asked.since.max(self.served));
        (first + self.piece_time() * at as u32).max(self.asked[at].since)
    }

    /// When the ask at that place in the queue is expected to be answered.
    pub fn expected_at(&self, at: usize) -> Instant {
        self.begins(at) + self.piece_time()
    }

    /// When it is expected to have sent a piece that it was asked for.
    pub fn expected(&self, piece: usize) -> Option<Instant> {
        let at = self.asked.iter().position(|asked| asked.piece == piece)?;
        Some(self.expected_at(at))
    }

    /// Time until it would have sent one piece more.
    pub fn finish(&self, now: Instant) -> Duration {
        let Some(last) = self.asked.len().checked_sub(1) else { return self.piece_time() };
        self.expected_at(last).max(now) + self.piece_time() - now
    }

    /// The time within which nine of ten of its pieces come.
    fn ninth_decile(&self) -> Option<Duration> {
        let mut times: Vec<_> = self.times.iter().copied().collect();
        times.sort();
        (times.len() >= ENOUGH).then(|| times[(times.len() * 9).div_ceil(10) - 1])
    }

    /// How long the service of one piece may take before it is late.
    pub fn late_after(&self) -> Duration {
        let usual = self.ninth_decile().map(|decile| decile + decile / 4);
        let usual = usual.or_else(|| self.rate.map(|_| 3 * self.piece_time()));
        usual.map_or(UNMEASURED, |usual| usual.clamp(LATE.0, LATE.1))
    }

    /// When the ask at that place in the queue is late.
    pub fn late_at(&self, at: usize) -> Instant {
        self.begins(at) + self.late_after()
    }

    pub fn is_late(&self, piece: usize, now: Instant) -> bool {
        (0..self.asked.len()).any(|at| self.asked[at].piece == piece && now >= self.late_at(at))
    }

    /// Pieces that keep it busy while an ask and an answer are on their way.
    pub fn depth(&self) -> usize {
        let Some(rate) = self.rate else { return 1 };
        let round_trip = self.round_trip.unwrap_or(PRESUMED_ROUND_TRIP).as_secs_f64();
        (2 + (rate * round_trip / PIECE_SIZE as f64).ceil() as usize).min(IN_FLIGHT)
    }
}
