//! The mirror's bytes: hashed as they come at the front, gathered piece by piece elsewhere.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::{
    fetch::ledger::{Grade, MIRROR, Ruling},
    hash::Stepper,
};

use super::{Course, Deed};

/// Where the mirror's stream is.
#[derive(Default)]
pub(super) struct Streaming {
    run: Option<Run>,
    /// The piece that the last stream at the front left unfinished; its bytes are written.
    broken_off: Option<Stepper>,
}

struct Run {
    /// Hashes the piece that is coming, at the front; elsewhere the piece is judged when it is whole.
    stepper: Option<Stepper>,
    /// What came of the piece.
    parts: Vec<Bytes>,
    piece: usize,
    /// Where the next byte belongs.
    at: u64,
    until: u64,
}

impl Streaming {
    /// Whether it streams at the front.
    pub fn at_front(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.stepper.is_some())
    }

    /// Where the bytes end that it has brought at the front.
    pub fn front_end(&self) -> u64 {
        self.run.as_ref().filter(|run| run.stepper.is_some()).map_or(0, |run| run.at)
    }

    /// That piece is written anew: what was hashed of it is not on disk any more.
    pub fn forget(&mut self, piece: usize) {
        self.broken_off.take_if(|stepper| stepper.index() == piece);
    }

    /// Whether it is bringing that piece.
    pub fn brings(&self, piece: usize) -> bool {
        self.run.as_ref().is_some_and(|run| run.piece == piece)
    }
}

impl Course {
    /// Bytes of the mirror came, in order, from the first that it was asked for.
    pub fn handle_mirror_bytes(&mut self, bytes: &Bytes, now: Instant) {
        self.plan.handle_mirror_bytes(bytes.len(), now);
        let mut left = bytes.clone();
        while !left.is_empty()
            && let Some(run) = &mut self.stream.run
        {
            let missing = self.expected.span(run.piece).end - run.at;
            let part = left.split_to((left.len() as u64).min(missing) as usize);
            let at = run.at;
            run.at += part.len() as u64;
            run.parts.push(part.clone());
            let (is_whole, at_front) = (part.len() as u64 == missing, run.stepper.is_some());
            if let Some(stepper) = &mut run.stepper {
                stepper.update(&part);
            }
            if at_front {
                self.write(at, part);
            }
            if is_whole {
                self.finish_piece();
            }
        }
        self.attend();
    }

    /// The mirror answered an ask for a part with the part, or with the whole file.
    pub fn handle_mirror_ranges(&mut self, serves: bool) {
        self.plan.handle_mirror_ranges(serves);
    }

    /// The mirror broke off, or its answer ended too soon; `fatal` when it has not what was promised.
    pub fn handle_mirror_failed(&mut self, fatal: bool, now: Instant) {
        let run = self.stream.run.take();
        self.stream.broken_off = run.and_then(|run| run.stepper);
        self.plan.handle_mirror_failed(fatal, now);
    }

    /// What the mirror sent before is of another version than what it has now. Claimed piece hashes tell which is right;
    /// without any, all that is not proven comes anew.
    pub fn handle_mirror_changed(&mut self) {
        self.stream.broken_off = None;
        if !self.ledger.has_claim() {
            self.taint(0);
            for piece in self.ledger.handle_mirror_changed() {
                self.deeds.push_back(Deed::Unlend { piece });
            }
        }
    }

    pub(super) fn open_stream(&mut self, from: usize, until: usize) {
        let (front, state) = self.ledger.front();
        let until = self.expected.span(until - 1).end;
        let span = self.expected.span(from);
        let run = if from == front {
            self.begin_front();
            let begun = self.stream.broken_off.take();
            let begun = begun.filter(|stepper| stepper.index() == from && stepper.from() == state);
            let stepper = begun.unwrap_or_else(|| Stepper::new(&self.expected, from, state));
            let at = span.end - stepper.missing() as u64;
            Run { stepper: Some(stepper), parts: Vec::new(), piece: from, at, until }
        } else {
            Run { stepper: None, parts: Vec::new(), piece: from, at: span.start, until }
        };
        self.deeds.push_back(Deed::Stream { bytes: run.at..until });
        self.stream.run = Some(run);
    }

    pub(super) fn halt(&mut self) {
        if let Some(run) = self.stream.run.take() {
            self.stream.broken_off = run.stepper;
            self.deeds.push_back(Deed::Halt);
        }
    }

    /// A peer was quicker with the piece that the mirror is streaming.
    pub(super) fn replace_streamed(&mut self, piece: usize) {
        if self.stream.run.take_if(|run| run.piece == piece).is_some() {
            self.deeds.push_back(Deed::Halt);
            self.plan.handle_mirror_done();
        }
    }

    /// Writes a whole piece, whatever was streamed of it before.
    pub(super) fn write_piece(&mut self, piece: usize, bytes: Bytes) {
        self.stream.forget(piece);
        self.write(self.expected.span(piece).start, bytes);
    }

    /// Every write goes through here: what readers had stays what is on disk, or they are cut. So bytes that were given
    /// and are not tainted are proven with the file.
    fn write(&mut self, at: u64, bytes: Bytes) {
        let known = self.given.min(self.tainted.unwrap_or(u64::MAX)).saturating_sub(at).min(bytes.len() as u64);
        if known > 0 {
            self.deeds.push_back(Deed::Compare { at, bytes: bytes.slice(..known as usize) });
        }
        self.deeds.push_back(Deed::Write { at, bytes });
    }

    /// The piece at the front is about to be written by the mirror.
    fn begin_front(&mut self) {
        let front = self.ledger.front().0;
        if !self.ledger.is_missing(front) {
            self.deeds.push_back(Deed::Unlend { piece: front });
            self.ledger.handle_overwrite();
        }
    }

    /// A piece of the mirror's is whole.
    fn finish_piece(&mut self) {
        let Some(mut run) = self.stream.run.take() else { return };
        let piece = run.piece;
        let parts = std::mem::take(&mut run.parts);
        let is_last = run.at >= run.until;
        let goes_on = match run.stepper.take() {
            Some(stepper) => {
                let step = stepper.finish().expect("a piece with nothing missing is whole");
                if self.ledger.is_disputed(piece) {
                    self.ledger.handle_copy(piece, &parts.concat());
                }
                self.ledger.handle_front(step);
                self.deeds.push_back(Deed::Lend { piece, grade: Grade::Raw });
                let (front, state) = self.ledger.front();
                // The front jumped over pieces that peers brought, fell back, or stands before one to be read.
                let goes_on =
                    !is_last && front == piece + 1 && front < self.ledger.anchor() && self.ledger.is_missing(front);
                if goes_on {
                    self.begin_front();
                    run.stepper = Some(Stepper::new(&self.expected, front, state));
                }
                goes_on
            }
            None => {
                self.keep_gathered(piece, &parts);
                !is_last && piece + 1 < self.expected.pieces() && self.ledger.is_missing(piece + 1)
            }
        };
        if goes_on {
            run.piece += 1;
            self.stream.run = Some(run);
        } else {
            self.deeds.push_back(Deed::Halt);
            self.plan.handle_mirror_done();
        }
        self.attend();
    }

    fn keep_gathered(&mut self, piece: usize, parts: &[Bytes]) {
        let mut whole = BytesMut::with_capacity(self.expected.piece_len(piece));
        parts.iter().for_each(|part| whole.extend_from_slice(part));
        let bytes = whole.freeze();
        match self.ledger.handle_piece(piece, MIRROR, Grade::Raw, &bytes) {
            Ruling::Kept | Ruling::Raw => {
                self.write_piece(piece, bytes);
                self.deeds.push_back(Deed::Lend { piece, grade: Grade::Raw });
            }
            Ruling::Unfit => self.plan.handle_mirror_unfit(piece),
            Ruling::Surplus | Ruling::Unjudged => {}
        }
    }
}
