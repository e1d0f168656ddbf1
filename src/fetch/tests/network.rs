//! The world of a simulation: a heap of events, links with a rate and a delay, and clients that drive real courses.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
    net::SocketAddr,
    ops::Range,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    fetch::{
        course::{Course, Deed, Outcome, Sent, Setup},
        ledger::{Grade, MIRROR, SourceId},
        plan::{Measure, MirrorUse},
    },
    hash::PieceChain,
    peer::{Answer, Ask, pipeline::Pipeline},
};

use super::{
    files::File,
    server::{self, After, Asked, Manner, Stock},
};

/// Bytes that travel at a time.
const CHUNK: usize = 64 * 1024;
/// Time without a byte after which a connection that owes answers is given up, as the pool has it.
const SILENCE: Duration = Duration::from_secs(10);
/// Time after which a peer that cannot be reached is given up, as the pool has it.
const UNREACHABLE: Duration = Duration::from_secs(3);

/// A peer, or the mirror, as others see it.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    pub manner: Manner,
    /// Bytes a second that leave it.
    pub rate: f64,
    /// One way.
    pub delay: Duration,
    /// When it is found.
    pub found: Duration,
    /// Whether its rate was measured before.
    pub known: bool,
    /// The mirror only: ends each answer after so many bytes.
    pub cuts: Option<u64>,
    /// The mirror only: when it first breaks off, it gets another version of the file, the honest one.
    pub changes: bool,
}

impl Node {
    pub fn new(rate: f64) -> Self {
        let (delay, found) = (Duration::from_millis(10), Duration::from_millis(30));
        Self { manner: Manner::Honest, rate, delay, found, known: false, cuts: None, changes: false }
    }

    pub fn of(manner: Manner, rate: f64) -> Self {
        Self { manner, ..Self::new(rate) }
    }

    pub fn known(self) -> Self {
        Self { known: true, found: Duration::ZERO, ..self }
    }

    pub fn found(self, found: Duration) -> Self {
        Self { found, ..self }
    }
}

/// One simulation.
#[derive(Debug, Clone)]
pub struct Setting {
    pub mirror_use: MirrorUse,
    pub mirror: Option<Node>,
    pub peers: Vec<Node>,
    pub hearsay: Vec<PieceChain>,
    /// Clients that start at once and find each other after that time, over uplinks of that rate.
    pub swarm: Option<(usize, Duration, f64)>,
    pub seed: u64,
}

impl Setting {
    pub fn new(mirror_use: MirrorUse, mirror: Option<Node>, peers: Vec<Node>) -> Self {
        Self { mirror_use, mirror, peers, hearsay: Vec::new(), swarm: None, seed: 0 }
    }

    pub fn go(self, file: &File) -> World<'_> {
        let limit = Duration::from_secs(3600);
        let mut world = World::new(file, self);
        world.run(limit);
        world
    }
}

#[derive(Debug)]
enum Event {
    Found { client: usize, server: usize },
    SearchEnds { client: usize },
    Request { server: usize, lane: Lane, asked: Asked },
    MirrorRequest { client: usize, answer: u32, bytes: Range<u64> },
    Serve { server: usize },
    Arrives { lane: Lane, server: usize, bytes: Bytes },
    Lost { client: usize, server: usize, epoch: u32 },
    Silence { client: usize, server: usize, epoch: u32 },
    Wake { client: usize, number: u64 },
}

/// Where a server's bytes go: to one connection of a client, or to one answer of the mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lane {
    client: usize,
    epoch: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Scripted,
    Mirror,
    Client(usize),
}

struct Server {
    kind: Kind,
    node: Node,
    /// Bytes to be sent, connection by connection, in turns; an empty chunk closes.
    lanes: VecDeque<(Lane, VecDeque<Bytes>)>,
    is_serving: bool,
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
    course: Course,
    pub disk: Vec<u8>,
    servers: Vec<usize>,
    connections: HashMap<usize, Connection>,
    cancelled: HashSet<(SourceId, usize)>,
    mirror_answer: u32,
    wakes: u64,
    lent: Vec<Option<Grade>>,
    pub received: u64,
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
    pub fn is_proven(&self) -> bool {
        matches!(self.end, Some((_, Outcome::Proven(_))))
    }

    pub fn took(&self) -> f64 {
        self.end.as_ref().expect("it has ended").0.as_secs_f64()
    }
}

pub struct World<'a> {
    file: &'a File,
    setting: Setting,
    start: Instant,
    now: Instant,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    events: HashMap<u64, Event>,
    sequence: u64,
    servers: Vec<Server>,
    pub clients: Vec<Client>,
    pub mirror_sent: u64,
}

#[expect(clippy::disallowed_methods, reason = "only as an origin for differences")]
fn start() -> Instant {
    Instant::now()
}

impl<'a> World<'a> {
    fn new(file: &'a File, setting: Setting) -> Self {
        let start = start();
        let server = |kind, node| Server { kind, node, lanes: VecDeque::new(), is_serving: false };
        let mut servers: Vec<_> = setting.peers.iter().map(|peer| server(Kind::Scripted, *peer)).collect();
        let (count, found, uplink) = setting.swarm.unwrap_or((1, Duration::ZERO, 0.0));
        if setting.swarm.is_some() {
            servers.extend((0..count).map(|client| server(Kind::Client(client), Node::new(uplink).found(found))));
        }
        servers.extend(setting.mirror.map(|mirror| server(Kind::Mirror, mirror)));
        let mut world = Self {
            file,
            start,
            now: start,
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            sequence: 0,
            servers,
            clients: Vec::new(),
            mirror_sent: 0,
            setting,
        };
        for client in 0..count {
            world.add_client(client);
        }
        world
    }

    fn add_client(&mut self, client: usize) {
        let (file, setting) = (self.file, &self.setting);
        let setup = Setup {
            expected: file.expected,
            mirror_use: setting.mirror_use,
            mirror: setting.mirror.is_some(),
            quick_peers: setting.peers.iter().any(|peer| peer.known),
            cautious: false,
            seed: setting.seed.wrapping_mul(1000) + client as u64,
        };
        let mut course = Course::new(setup, self.now);
        setting.hearsay.iter().for_each(|chain| course.handle_hearsay(chain.clone()));
        self.clients.push(Client {
            course,
            disk: vec![0; file.bytes.len()],
            servers: Vec::new(),
            connections: HashMap::new(),
            cancelled: HashSet::new(),
            mirror_answer: 0,
            wakes: 0,
            lent: vec![None; file.pieces()],
            received: 0,
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
        });
        let mut last = Duration::from_millis(400);
        for server in 0..self.servers.len() {
            let Server { kind, node, .. } = &self.servers[server];
            if *kind == Kind::Mirror || *kind == Kind::Client(client) {
                continue;
            }
            let found = node.found;
            last = last.max(found + Duration::from_millis(1));
            if found.is_zero() {
                self.find(client, server);
            } else {
                self.after(found, Event::Found { client, server });
            }
        }
        self.after(last, Event::SearchEnds { client });
        self.after(Duration::ZERO, Event::Wake { client, number: 0 });
    }

    fn after(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((self.now + after, self.sequence)));
        self.events.insert(self.sequence, event);
    }

    fn run(&mut self, limit: Duration) {
        while let Some(Reverse((at, number))) = self.queue.pop() {
            if self.clients.iter().all(|client| client.end.is_some()) {
                return;
            }
            self.now = at;
            assert!(at - self.start < limit, "SEED={}: no end: {:?}", self.setting.seed, self.setting);
            let event = self.events.remove(&number).expect("every number has its event");
            self.happen(event);
        }
        panic!("SEED={}: nothing happens any more", self.setting.seed);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Found { client, server } => {
                self.find(client, server);
                self.pump(client);
            }
            Event::SearchEnds { client } => {
                self.clients[client].course.handle_holders_ended();
                self.pump(client);
            }
            Event::Request { server, lane, asked } => self.answer(server, lane, asked),
            Event::MirrorRequest { client, answer, bytes } => self.answer_of_mirror(client, answer, bytes),
            Event::Serve { server } => self.serve(server),
            Event::Arrives { lane, server, bytes } => self.arrive(lane, server, &bytes),
            Event::Lost { client, server, epoch } => self.lose(client, server, epoch),
            Event::Silence { client, server, epoch } => {
                let heard = self.clients[client].connections.get(&server).map(|connection| connection.heard);
                if heard.is_some_and(|heard| self.now >= heard + SILENCE) {
                    self.lose(client, server, epoch);
                }
            }
            Event::Wake { client, number } => {
                if self.clients[client].wakes == number {
                    self.pump(client);
                }
            }
        }
    }

    fn find(&mut self, client: usize, server: usize) {
        let node = self.servers[server].node;
        let measure =
            Measure { rate: node.known.then_some(node.rate), round_trip: node.known.then_some(2 * node.delay) };
        let it = &mut self.clients[client];
        if it.course.handle_holder(measure, self.now).is_some() {
            it.servers.push(server);
        }
    }

    /// Carries out all that a client's course wants done.
    fn pump(&mut self, client: usize) {
        let now = self.now;
        while self.clients[client].end.is_none()
            && let Some(deed) = self.clients[client].course.poll(now)
        {
            self.carry_out(client, deed);
        }
        let took = now - self.start;
        let it = &mut self.clients[client];
        if it.end.is_none()
            && let Some(outcome) = it.course.outcome()
        {
            if matches!(outcome, Outcome::Proven(_)) {
                assert!(it.disk == self.file.bytes, "SEED={}: proven, and wrong on disk", self.setting.seed);
                assert_eq!(it.released, self.file.expected.size, "SEED={}: not all released", self.setting.seed);
                assert!(it.reader == self.file.bytes, "SEED={}: a reader completed wrong bytes", self.setting.seed);
            }
            assert!(it.cuts <= 1, "SEED={}: a reader was cut {} times", self.setting.seed, it.cuts);
            let is_clean = matches!(outcome, Outcome::Proven(_)) && it.course.tainted().is_none();
            assert!(!(is_clean && it.was_wrong), "SEED={}: wrong bytes left and are forgotten", self.setting.seed);
            it.end = Some((took, outcome));
        }
        it.wakes += 1;
        let (wake, number) = (it.course.next_wake(now), it.wakes);
        if it.end.is_none() {
            self.after(wake.max(now) - now, Event::Wake { client, number });
        }
    }

    fn carry_out(&mut self, client: usize, deed: Deed) {
        let now = self.now;
        let file = self.file;
        match deed {
            Deed::Ask { source, piece } => self.ask(client, source, Some(piece)),
            Deed::AskHave { source } => self.ask(client, source, None),
            Deed::Stream { bytes } => {
                let it = &mut self.clients[client];
                it.mirror_answer += 1;
                let answer = it.mirror_answer;
                let delay = self.setting.mirror.expect("the course was told whether there is one").delay;
                self.after(delay, Event::MirrorRequest { client, answer, bytes });
            }
            deed => {
                let it = &mut self.clients[client];
                match deed {
                    Deed::Cancel { source, piece } => {
                        it.cancelled.insert((source, piece));
                    }
                    Deed::Halt => it.mirror_answer += 1,
                    Deed::Compare { at, bytes } => {
                        if it.disk[at as usize..at as usize + bytes.len()] != bytes[..] {
                            it.course.handle_differing(at);
                        }
                    }
                    Deed::Write { at, bytes } => {
                        it.disk[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
                    }
                    Deed::Reread { piece } => {
                        let span = file.expected.span(piece);
                        let bytes = it.disk[span.start as usize..span.end as usize].to_vec();
                        it.course.handle_reread(piece, &bytes);
                    }
                    Deed::Lend { piece, grade } => it.lent[piece] = Some(grade),
                    Deed::Unlend { piece } => it.lent[piece] = None,
                    Deed::Convict { source, .. } => {
                        assert_ne!(source, MIRROR);
                        let server = it.servers[source.0 as usize - 1];
                        it.convicted.insert(server);
                        it.connections.entry(server).and_modify(|connection| connection.is_open = false);
                    }
                    Deed::Pause { source } => {
                        it.paused.insert(it.servers[source.0 as usize - 1]);
                    }
                    Deed::Credit { .. } => {}
                    Deed::Release { until } => {
                        assert!(until > it.released);
                        let took = now - self.start;
                        it.longest_gap = it.longest_gap.max(took - it.released_at);
                        (it.released, it.released_at) = (until, took);
                        it.first_byte.get_or_insert(took);
                        if let Some(new) = it.disk.get(it.reader.len()..until as usize) {
                            it.was_wrong |= *new != file.bytes[it.reader.len()..until as usize];
                            it.reader.extend_from_slice(new);
                        }
                    }
                    Deed::Cut { from } => {
                        it.released = 0;
                        if it.reader.len() as u64 > from {
                            it.reader.clear();
                            it.cuts += 1;
                        }
                    }
                    Deed::Ask { .. } | Deed::AskHave { .. } | Deed::Stream { .. } => unreachable!("done above"),
                }
            }
        }
    }

    fn ask(&mut self, client: usize, source: SourceId, piece: Option<usize>) {
        let (now, expected) = (self.now, self.file.expected);
        let it = &mut self.clients[client];
        let server = it.servers[source.0 as usize - 1];
        let address = SocketAddr::from(([127, 0, 0, 1], server as u16 + 1));
        let fresh = |epoch| Connection {
            pipeline: Pipeline::new(address),
            epoch,
            heard: now,
            asks: HashMap::new(),
            next: 0,
            is_open: true,
        };
        let connection = it.connections.entry(server).or_insert_with(|| fresh(0));
        if !connection.is_open {
            *connection = fresh(connection.epoch + 1);
        }
        if connection.asks.is_empty() {
            connection.heard = now;
        }
        piece.into_iter().for_each(|piece| {
            it.cancelled.remove(&(source, piece));
        });
        let ask = piece.map_or(Ask::Chain { file: expected }, |index| Ask::Piece { file: expected, index });
        connection.pipeline.ask(connection.next, ask);
        connection.asks.insert(connection.next, piece);
        connection.next += 1;
        let epoch = connection.epoch;
        let wire = connection.pipeline.poll_transmit().expect("an ask was just made");
        let (delay, manner) = (self.servers[server].node.delay, self.servers[server].node.manner);
        match manner {
            Manner::Dead => self.after(UNREACHABLE, Event::Lost { client, server, epoch }),
            Manner::Refuses => self.after(2 * delay, Event::Lost { client, server, epoch }),
            _ => {
                for asked in server::requests(&wire) {
                    self.after(delay, Event::Request { server, lane: Lane { client, epoch }, asked });
                }
                self.after(SILENCE, Event::Silence { client, server, epoch });
            }
        }
    }

    fn answer(&mut self, server: usize, lane: Lane, asked: Asked) {
        let file = self.file;
        let answered = match self.servers[server].kind {
            Kind::Client(other) => {
                let other = &self.clients[other];
                let lent = (!other.is_proven()).then_some((&other.lent[..], &other.disk[..]));
                Some((Stock { file, lent }.answer(asked), After::Stays))
            }
            _ => server::answer(file, self.servers[server].node.manner, asked),
        };
        let Some((mut parts, after)) = answered else { return };
        if after == After::Closes {
            parts.push(Bytes::new());
        }
        self.send(server, lane, parts, after == After::Closes);
    }

    fn answer_of_mirror(&mut self, client: usize, answer: u32, bytes: Range<u64>) {
        let server = self.servers.iter().position(|server| server.kind == Kind::Mirror).expect("there is one");
        let Node { manner, cuts, .. } = self.servers[server].node;
        let until = cuts.map_or(bytes.end, |cuts| bytes.end.min(bytes.start + cuts));
        let mut parts = Vec::new();
        if !matches!(manner, Manner::Silent | Manner::Dead) {
            let mut at = bytes.start;
            while at < until {
                let piece = (at / crate::hash::PIECE_SIZE) as usize;
                let span = self.file.expected.span(piece);
                let end = until.min(span.end);
                let whole = match manner {
                    Manner::Flips(bad) if bad == piece => self.file.flipped(piece, 1),
                    _ => self.file.piece(piece),
                };
                parts.push(whole.slice((at - span.start) as usize..(end - span.start) as usize));
                at = end;
            }
        }
        if manner == Manner::Silent {
            let lane = Lane { client, epoch: answer };
            return self.after(3 * SILENCE, Event::Arrives { lane, server, bytes: Bytes::new() });
        }
        let closes = until < bytes.end || manner == Manner::Dead;
        if closes {
            parts.push(Bytes::new());
        }
        self.send(server, Lane { client, epoch: answer }, parts, closes);
    }

    fn send(&mut self, server: usize, lane: Lane, parts: Vec<Bytes>, closes: bool) {
        let it = &mut self.servers[server];
        let step = if it.node.manner == Manner::Trickles { 1 } else { CHUNK };
        let mut chunks = VecDeque::new();
        for mut part in parts.into_iter().filter(|part| !part.is_empty()) {
            while !part.is_empty() {
                if step == 1 && chunks.len() > 5000 {
                    break;
                }
                chunks.push_back(part.split_to(step.min(part.len())));
            }
        }
        if closes {
            chunks.push_back(Bytes::new());
        }
        match it.lanes.iter_mut().find(|(other, _)| *other == lane) {
            Some((_, queue)) => queue.extend(chunks),
            None => it.lanes.push_back((lane, chunks)),
        }
        if !it.is_serving {
            it.is_serving = true;
            self.after(Duration::ZERO, Event::Serve { server });
        }
    }

    /// Sends one chunk, of the connection whose turn it is.
    fn serve(&mut self, server: usize) {
        let is_mirror = self.servers[server].kind == Kind::Mirror;
        let it = &mut self.servers[server];
        let Some((lane, mut chunks)) = it.lanes.pop_front() else {
            it.is_serving = false;
            return;
        };
        // What nobody listens to any more is not sent.
        let client = &self.clients[lane.client];
        let listens = client.end.is_none() && (!is_mirror || client.mirror_answer == lane.epoch);
        let mut takes = Duration::ZERO;
        if listens && let Some(chunk) = chunks.pop_front() {
            let rate = if it.node.manner == Manner::Trickles { 1.0 } else { it.node.rate };
            takes = Duration::from_secs_f64(chunk.len() as f64 / rate);
            let delay = it.node.delay;
            if is_mirror {
                self.mirror_sent += chunk.len() as u64;
            }
            if !chunks.is_empty() {
                it.lanes.push_back((lane, chunks));
            }
            self.after(takes + delay, Event::Arrives { lane, server, bytes: chunk });
        }
        self.after(takes, Event::Serve { server });
    }

    fn arrive(&mut self, lane: Lane, server: usize, bytes: &Bytes) {
        let now = self.now;
        let took = now - self.start;
        let it = &mut self.clients[lane.client];
        if it.end.is_some() {
            return;
        }
        if self.servers[server].kind == Kind::Mirror {
            if it.mirror_answer != lane.epoch {
                return;
            }
            if bytes.is_empty() {
                it.mirror_answer += 1;
                it.course.handle_mirror_failed(false, now);
                let mirror = &mut self.servers[server].node;
                if std::mem::take(&mut mirror.changes) {
                    mirror.manner = Manner::Honest;
                    it.course.handle_mirror_changed();
                }
            } else {
                it.received += bytes.len() as u64;
                it.from_mirror += bytes.len() as u64;
                it.first_source_byte.get_or_insert(took);
                it.course.handle_mirror_bytes(bytes, now);
            }
            return self.pump(lane.client);
        }
        if bytes.is_empty() {
            return self.lose(lane.client, server, lane.epoch);
        }
        let known = it.connections.get_mut(&server);
        let Some(connection) = known.filter(|connection| connection.is_open && connection.epoch == lane.epoch) else {
            return;
        };
        it.received += bytes.len() as u64;
        it.first_source_byte.get_or_insert(took);
        connection.heard = now;
        connection.pipeline.handle_bytes(bytes);
        loop {
            let it = &mut self.clients[lane.client];
            let Some(connection) = it.connections.get_mut(&server).filter(|connection| connection.is_open) else {
                break;
            };
            match connection.pipeline.poll_answer() {
                Ok(Some((id, answer))) => {
                    let piece = connection.asks.remove(&id).expect("asked once, answered once");
                    self.take(lane.client, server, piece, answer);
                }
                Ok(None) => {
                    if !self.clients[lane.client].connections[&server].asks.is_empty() {
                        let Lane { client, epoch } = lane;
                        self.after(SILENCE, Event::Silence { client, server, epoch });
                    }
                    break;
                }
                Err(_) => {
                    self.lose(lane.client, server, lane.epoch);
                    break;
                }
            }
        }
        self.pump(lane.client);
    }

    fn take(&mut self, client: usize, server: usize, piece: Option<usize>, answer: Answer) {
        let now = self.now;
        let it = &mut self.clients[client];
        let source = it.source(server);
        match (answer, piece) {
            (Answer::Body { bytes, chain, unproven }, Some(piece)) => {
                if it.cancelled.remove(&(source, piece)) {
                    return;
                }
                let grade = if unproven { Grade::Raw } else { Grade::Proven };
                it.course.handle_piece(source, piece, Sent { bytes, chain, grade }, Measure::default(), now);
            }
            (Answer::Pieces { chain, have }, _) => it.course.handle_have(source, chain, have, now),
            (Answer::Lacking, Some(piece)) => it.course.handle_lacking(source, piece, now),
            (Answer::Busy(pause), piece) => it.course.handle_failed(source, piece, Some(pause), now),
            (Answer::Missing | Answer::TooMuch | Answer::Lacking | Answer::Holds(_) | Answer::Body { .. }, _) => {
                it.course.handle_gone(source);
            }
        }
    }

    fn lose(&mut self, client: usize, server: usize, epoch: u32) {
        let now = self.now;
        let it = &mut self.clients[client];
        let source = it.source(server);
        let Some(connection) = it.connections.get_mut(&server) else { return };
        if !connection.is_open || connection.epoch != epoch {
            return;
        }
        connection.is_open = false;
        let asks: Vec<_> = connection.asks.drain().map(|(_, piece)| piece).collect();
        for piece in asks {
            it.course.handle_failed(source, piece, None, now);
        }
        self.pump(client);
    }
}

impl Client {
    fn source(&self, server: usize) -> SourceId {
        let index = self.servers.iter().position(|known| *known == server).expect("it was found before it was asked");
        SourceId(index as u32 + 1)
    }
}
