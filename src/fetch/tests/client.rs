//! A client of the simulation: a real course with a disk, a reader and connections in memory.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    ops::Range,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    fetch::{
        course::{Course, Deed, Outcome, Sent, Setup},
        ledger::{Grade, MIRROR, SourceId},
        plan::{Call, Measure},
    },
    hash::{Expected, PIECE_SIZE},
    peer::{Answer, Ask, pipeline::Pipeline},
};

use super::{files::File, network::SILENCE};

/// What a client wants of the network.
pub enum Errand {
    /// These bytes to that server, on its connection of that number.
    Send { server: usize, epoch: u32, wire: Vec<u8> },
    /// That part of the file from the mirror.
    Stream { answer: u32, bytes: Range<u64> },
}

struct Connection {
    pipeline: Pipeline,
    epoch: u32,
    heard: Instant,
    asks: HashMap<u64, Option<usize>>,
    next: u64,
    is_open: bool,
}

pub struct Client {
    pub course: Course,
    expected: Expected,
    seed: u64,
    start: Instant,
    pub disk: Vec<u8>,
    servers: Vec<usize>,
    connections: HashMap<usize, Connection>,
    cancelled: HashSet<(SourceId, usize)>,
    pub mirror_answer: u32,
    wakes: u64,
    pub lent: Vec<Option<Grade>>,
    pub received: u64,
    /// What of that were heads of answers, and chains.
    talk: u64,
    pub from_mirror: u64,
    /// By their number among the peers.
    pub convicted: HashSet<usize>,
    pub paused: HashSet<usize>,
    pub released: u64,
    /// What a reader has that reads at once, and asks again when it is cut.
    reader: Vec<u8>,
    /// Whether it ever had a wrong byte.
    was_wrong: bool,
    /// How often it was cut.
    pub cuts: usize,
    pub first_source_byte: Option<Duration>,
    pub first_byte: Option<Duration>,
    released_at: Duration,
    pub longest_gap: Duration,
    pub end: Option<(Duration, Outcome)>,
}

impl Client {
    pub fn new(setup: Setup, seed: u64, now: Instant) -> Self {
        let expected = setup.expected;
        Self {
            course: Course::new(setup, now),
            expected,
            seed,
            start: now,
            disk: vec![0; expected.size as usize],
            servers: Vec::new(),
            connections: HashMap::new(),
            cancelled: HashSet::new(),
            mirror_answer: 0,
            wakes: 0,
            lent: vec![None; expected.pieces()],
            received: 0,
            talk: 0,
            from_mirror: 0,
            convicted: HashSet::new(),
            paused: HashSet::new(),
            released: 0,
            reader: Vec::new(),
            was_wrong: false,
            cuts: 0,
            first_source_byte: None,
            first_byte: None,
            released_at: Duration::ZERO,
            longest_gap: Duration::ZERO,
            end: None,
        }
    }

    pub fn is_proven(&self) -> bool {
        matches!(self.end, Some((_, Outcome::Proven(_))))
    }

    pub fn took(&self) -> f64 {
        self.end.as_ref().expect("it has ended").0.as_secs_f64()
    }

    /// Pieces' worth of the file's bytes that came beside the file.
    pub fn wasted(&self) -> f64 {
        ((self.received - self.talk) as f64 - self.expected.size as f64) / PIECE_SIZE as f64
    }

    pub fn find(&mut self, server: usize, measure: Measure, now: Instant) {
        if self.course.handle_holder(measure, now).is_some() {
            self.servers.push(server);
        }
    }

    /// Carries out all that the course wants done here, and says what it wants of the network.
    pub fn pump(&mut self, file: &File, now: Instant) -> Vec<Errand> {
        let mut errands = Vec::new();
        while self.end.is_none()
            && let Some(deed) = self.course.poll(now)
        {
            errands.extend(self.carry_out(deed, file, now));
        }
        if self.end.is_none()
            && let Some(outcome) = self.course.outcome()
        {
            self.check(&outcome, file);
            self.end = Some((now - self.start, outcome));
        }
        errands
    }

    /// When it is to be looked after again, and the number of that.
    pub fn next_wake(&mut self, now: Instant) -> Option<(Instant, u64)> {
        self.wakes += 1;
        self.end.is_none().then(|| (self.course.next_wake(now).max(now), self.wakes))
    }

    /// Whether it has not been looked after since.
    pub fn is_asleep(&self, number: u64) -> bool {
        self.wakes == number
    }

    /// The mirror sent these bytes, or, when there are none, broke off.
    pub fn handle_mirror(&mut self, bytes: &Bytes, now: Instant) {
        if bytes.is_empty() {
            self.mirror_answer += 1;
            return self.course.handle_mirror_failed(false, now);
        }
        self.received += bytes.len() as u64;
        self.from_mirror += bytes.len() as u64;
        self.first_source_byte.get_or_insert(now - self.start);
        self.course.handle_mirror_bytes(bytes, now);
    }

    /// A peer sent these bytes. Whether it owes more.
    pub fn handle_bytes(&mut self, server: usize, epoch: u32, bytes: &Bytes, now: Instant) -> bool {
        let known = self.connections.get_mut(&server);
        let Some(connection) = known.filter(|connection| connection.is_open && connection.epoch == epoch) else {
            return false;
        };
        self.received += bytes.len() as u64;
        self.talk += if bytes.starts_with(b"HTTP/1.1 ") { bytes.len() as u64 } else { 0 };
        self.first_source_byte.get_or_insert(now - self.start);
        connection.heard = now;
        connection.pipeline.handle_bytes(bytes);
        loop {
            let Some(connection) = self.connections.get_mut(&server).filter(|connection| connection.is_open) else {
                return false;
            };
            match connection.pipeline.poll_answer() {
                Ok(Some((id, answer))) => {
                    let piece = connection.asks.remove(&id).expect("asked once, answered once");
                    self.take(server, piece, answer, now);
                }
                Ok(None) => return !connection.asks.is_empty(),
                Err(_) => {
                    self.lose(server, epoch, now);
                    return false;
                }
            }
        }
    }

    /// A peer owes answers and may have been silent for too long.
    pub fn handle_silence(&mut self, server: usize, epoch: u32, now: Instant) {
        if self.connections.get(&server).is_some_and(|connection| now >= connection.heard + SILENCE) {
            self.lose(server, epoch, now);
        }
    }

    /// A connection ended.
    pub fn lose(&mut self, server: usize, epoch: u32, now: Instant) {
        let source = self.source(server);
        let known = self.connections.get_mut(&server);
        let Some(connection) = known.filter(|connection| connection.is_open && connection.epoch == epoch) else {
            return;
        };
        connection.is_open = false;
        for (_, piece) in connection.asks.drain() {
            self.course.handle_failed(source, piece, None, now);
        }
    }

    fn carry_out(&mut self, deed: Deed, file: &File, now: Instant) -> Option<Errand> {
        match deed {
            Deed::Call(Call::Piece { source, piece }) => return Some(self.ask(source, Some(piece), now)),
            Deed::Call(Call::Have { source }) => return Some(self.ask(source, None, now)),
            Deed::Call(Call::Cancel { source, piece }) => {
                self.cancelled.insert((source, piece));
            }
            Deed::Stream { bytes } => {
                self.mirror_answer += 1;
                return Some(Errand::Stream { answer: self.mirror_answer, bytes });
            }
            Deed::Halt => self.mirror_answer += 1,
            Deed::Compare { at, bytes } => {
                if self.disk[at as usize..at as usize + bytes.len()] != bytes[..] {
                    self.course.handle_differing(at);
                }
            }
            Deed::Write { at, bytes } => {
                self.disk[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
            }
            Deed::Reread { piece } => {
                let span = self.expected.span(piece);
                self.course.handle_reread(piece, &self.disk[span.start as usize..span.end as usize]);
            }
            Deed::Lend { piece, grade } => self.lent[piece] = Some(grade),
            Deed::Unlend { piece } => self.lent[piece] = None,
            Deed::Convict { source, .. } => {
                assert_ne!(source, MIRROR);
                let server = self.servers[source.0 as usize - 1];
                self.convicted.insert(server);
                self.connections.entry(server).and_modify(|connection| connection.is_open = false);
            }
            Deed::Pause { source } => {
                self.paused.insert(self.servers[source.0 as usize - 1]);
            }
            Deed::Credit { .. } => {}
            Deed::Release { until } => self.release(until, file, now),
            Deed::Cut { from } => {
                self.released = 0;
                if self.reader.len() as u64 > from {
                    self.reader.clear();
                    self.cuts += 1;
                }
            }
        }
        None
    }

    fn ask(&mut self, source: SourceId, piece: Option<usize>, now: Instant) -> Errand {
        let server = self.servers[source.0 as usize - 1];
        let address = SocketAddr::from(([127, 0, 0, 1], server as u16 + 1));
        let fresh = |epoch| Connection {
            pipeline: Pipeline::new(address),
            epoch,
            heard: now,
            asks: HashMap::new(),
            next: 0,
            is_open: true,
        };
        let connection = self.connections.entry(server).or_insert_with(|| fresh(0));
        if !connection.is_open {
            *connection = fresh(connection.epoch + 1);
        }
        if connection.asks.is_empty() {
            connection.heard = now;
        }
        if let Some(piece) = piece {
            self.cancelled.remove(&(source, piece));
        }
        let file = self.expected;
        let ask = piece.map_or(Ask::Chain { file }, |index| Ask::Piece { file, index });
        connection.pipeline.ask(connection.next, ask);
        connection.asks.insert(connection.next, piece);
        connection.next += 1;
        let wire = connection.pipeline.poll_transmit().expect("an ask was just made").to_vec();
        Errand::Send { server, epoch: connection.epoch, wire }
    }

    fn take(&mut self, server: usize, piece: Option<usize>, answer: Answer, now: Instant) {
        let source = self.source(server);
        match (answer, piece) {
            (Answer::Body { bytes, chain, unproven }, Some(piece)) => {
                if self.cancelled.remove(&(source, piece)) {
                    return;
                }
                let grade = if unproven { Grade::Raw } else { Grade::Proven };
                self.course.handle_piece(source, piece, Sent { bytes, chain, grade }, Measure::default(), now);
            }
            (Answer::Pieces { chain, have }, _) => {
                self.talk += chain.as_ref().map_or(0, |chain| chain.encode().len() as u64);
                self.course.handle_have(source, chain, have, now);
            }
            (Answer::Lacking, Some(piece)) => self.course.handle_lacking(source, piece, now),
            (Answer::Busy(pause), piece) => self.course.handle_failed(source, piece, Some(pause), now),
            (Answer::Missing | Answer::TooMuch | Answer::Lacking | Answer::Holds(_) | Answer::Body { .. }, _) => {
                self.course.handle_gone(source);
            }
        }
    }

    fn release(&mut self, until: u64, file: &File, now: Instant) {
        assert!(until > self.released);
        let took = now - self.start;
        self.longest_gap = self.longest_gap.max(took - self.released_at);
        (self.released, self.released_at) = (until, took);
        self.first_byte.get_or_insert(took);
        if let Some(new) = self.disk.get(self.reader.len()..until as usize) {
            self.was_wrong |= *new != file.bytes[self.reader.len()..until as usize];
            self.reader.extend_from_slice(new);
        }
    }

    /// What must hold at every end.
    fn check(&self, outcome: &Outcome, file: &File) {
        let seed = self.seed;
        let is_proven = matches!(outcome, Outcome::Proven(_));
        if is_proven {
            assert!(self.disk == file.bytes, "SEED={seed}: proven, and wrong on disk");
            assert_eq!(self.released, self.expected.size, "SEED={seed}: not all released");
            assert!(self.reader == file.bytes, "SEED={seed}: a reader completed wrong bytes");
        }
        assert!(self.cuts <= 1, "SEED={seed}: a reader was cut {} times", self.cuts);
        let is_clean = is_proven && self.course.tainted().is_none();
        assert!(!(is_clean && self.was_wrong), "SEED={seed}: wrong bytes left and are forgotten");
    }

    fn source(&self, server: usize) -> SourceId {
        let index = self.servers.iter().position(|known| *known == server).expect("it was found before it was asked");
        SourceId(index as u32 + 1)
    }
}
