//! The world of a simulation: a heap of events, links with a rate and a delay, and who is at their ends.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    ops::Range,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    fetch::{
        course::Setup,
        plan::{Measure, MirrorUse},
    },
    hash::PieceChain,
};

use super::{
    client::{Client, Errand},
    files::File,
    server::{self, After, Asked, Manner, Stock},
};

/// Bytes that travel at a time.
const CHUNK: usize = 64 * 1024;
/// Time without a byte after which a connection that owes answers is given up, as the pool has it.
pub const SILENCE: Duration = Duration::from_secs(10);
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
    /// When no more peers are looked for; without it, when the last is found.
    pub search_ends: Option<Duration>,
    /// Clients that start at once and find each other after that time, over uplinks of that rate.
    pub swarm: Option<(usize, Duration, f64)>,
    pub seed: u64,
}

impl Setting {
    pub fn new(mirror_use: MirrorUse, mirror: Option<Node>, peers: Vec<Node>) -> Self {
        Self { mirror_use, mirror, peers, hearsay: Vec::new(), search_ends: None, swarm: None, seed: 0 }
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
            quickest: setting.peers.iter().filter(|peer| peer.known).map(|peer| peer.rate).reduce(f64::max),
            cautious: false,
            seed: setting.seed.wrapping_mul(1000) + client as u64,
        };
        let mut it = Client::new(setup, setting.seed, self.now);
        setting.hearsay.iter().for_each(|chain| it.course.handle_hearsay(chain.clone()));
        self.clients.push(it);
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
        self.after(self.setting.search_ends.unwrap_or(last), Event::SearchEnds { client });
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
            Event::Lost { client, server, epoch } => {
                self.clients[client].lose(server, epoch, self.now);
                self.pump(client);
            }
            Event::Silence { client, server, epoch } => {
                self.clients[client].handle_silence(server, epoch, self.now);
                self.pump(client);
            }
            Event::Wake { client, number } => {
                if self.clients[client].is_asleep(number) {
                    self.pump(client);
                }
            }
        }
    }

    fn find(&mut self, client: usize, server: usize) {
        let node = self.servers[server].node;
        let measure =
            Measure { rate: node.known.then_some(node.rate), round_trip: node.known.then_some(2 * node.delay) };
        self.clients[client].find(server, measure, self.now);
    }

    /// Carries out all that a client's course wants done.
    fn pump(&mut self, client: usize) {
        for errand in self.clients[client].pump(self.file, self.now) {
            self.carry_out(client, errand);
        }
        if let Some((wake, number)) = self.clients[client].next_wake(self.now) {
            self.after(wake - self.now, Event::Wake { client, number });
        }
    }

    fn carry_out(&mut self, client: usize, errand: Errand) {
        match errand {
            Errand::Stream { answer, bytes } => {
                let delay = self.setting.mirror.expect("the course was told whether there is one").delay;
                self.after(delay, Event::MirrorRequest { client, answer, bytes });
            }
            Errand::Send { server, epoch, wire } => {
                let Node { delay, manner, .. } = self.servers[server].node;
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
        let Lane { client, epoch } = lane;
        let it = &mut self.clients[client];
        let is_mirror = self.servers[server].kind == Kind::Mirror;
        if it.end.is_some() || is_mirror && it.mirror_answer != epoch {
            return;
        }
        if is_mirror {
            it.handle_mirror(bytes, self.now);
            let mirror = &mut self.servers[server].node;
            if bytes.is_empty() && std::mem::take(&mut mirror.changes) {
                mirror.manner = Manner::Honest;
                it.course.handle_mirror_changed();
            }
        } else if bytes.is_empty() {
            it.lose(server, epoch, self.now);
        } else if it.handle_bytes(server, epoch, bytes, self.now) {
            self.after(SILENCE, Event::Silence { client, server, epoch });
        }
        self.pump(client);
    }
}
