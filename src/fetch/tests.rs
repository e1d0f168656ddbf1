//! Random downloads under a virtual clock: plan and ledger against peers and mirrors that are slow, dead, silent or lying.
//!
//! The bytes are real and really hashed; the network is a heap of events.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::hash::{ContentHash, Expected, Hasher, PIECE_SIZE, PieceChain, Step, Stepper};

use super::{
    ledger::{Finding, Ledger, Ruling, SourceId},
    plan::{MirrorUse, Plan, Wish},
};

const MIRROR: SourceId = SourceId(0);
/// Bytes of the mirror that come at a time.
const CHUNK: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    Honest,
    /// A flipped byte in this piece; the chain, if it has one, is true.
    Flips(usize),
    /// A flipped byte in this piece and the chain that belongs to it.
    LiesConsistently(usize),
    /// True bytes, a false state before this piece.
    FalseChain(usize),
    /// Takes asks and never answers; the connection is given up after a while.
    Silent,
    /// Cannot be reached.
    Dead,
    /// Has not the file.
    Missing,
}

#[derive(Debug, Clone, Copy)]
struct Peer {
    manner: Manner,
    rate: f64,
    delay: Duration,
    found_after: Duration,
    /// Whether its rate was measured before.
    is_known: bool,
    busy_until: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Mirror {
    manner: Manner,
    rate: f64,
    delay: Duration,
    /// Ends each answer after so many bytes.
    cuts_after: Option<usize>,
}

#[derive(Debug, Clone)]
struct Setting {
    mirror_use: MirrorUse,
    mirror: Option<Mirror>,
    peers: Vec<Peer>,
    hearsay: bool,
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Found(usize),
    SearchEnds,
    Piece(SourceId, usize),
    Chain(SourceId),
    Fails(SourceId, Option<usize>),
    Missing(SourceId),
    /// So many bytes of the mirror's answer of this number.
    Bytes(u32, usize),
    Breaks(u32),
}

struct File {
    bytes: Vec<u8>,
    expected: Expected,
    chain: PieceChain,
}

fn file(rng: &mut StdRng, pieces: usize) -> File {
    let mut bytes = vec![0; (pieces - 1) * PIECE_SIZE as usize + rng.random_range(1..=PIECE_SIZE as usize)];
    rng.fill(&mut bytes[..]);
    let expected = Expected { hash: ContentHash::of(&bytes), size: bytes.len() as u64 };
    let mut hasher = Hasher::new(&expected);
    hasher.update(&bytes);
    let chain = hasher.finish().expect("its own hash").chain().clone();
    File { bytes, expected, chain }
}

impl File {
    fn piece_of(&self, manner: Manner, index: usize) -> Vec<u8> {
        let span = self.expected.span(index);
        let mut bytes = self.bytes[span.start as usize..span.end as usize].to_vec();
        if matches!(manner, Manner::Flips(bad) | Manner::LiesConsistently(bad) if bad == index) {
            bytes[0] ^= 1;
        }
        bytes
    }

    fn chain_of(&self, manner: Manner) -> PieceChain {
        let mut states = self.chain.states().to_vec();
        match manner {
            Manner::LiesConsistently(bad) => {
                let mut at = self.chain.at(&self.expected, bad);
                for (index, state) in states.iter_mut().enumerate().skip(bad) {
                    at = Step::take(&self.expected, index, at, &self.piece_of(manner, index)).expect("length").to();
                    *state = at;
                }
            }
            Manner::FalseChain(bad) if bad > 0 && bad <= states.len() => {
                let mut state = *states[bad - 1].as_bytes();
                state[5] ^= 1;
                states[bad - 1] = crate::hash::State::new(state);
            }
            _ => {}
        }
        let bytes: Vec<u8> = states.iter().flat_map(|state| *state.as_bytes()).collect();
        PieceChain::decode(&self.expected, &bytes).expect("the same length")
    }
}

#[derive(Debug, PartialEq)]
enum End {
    Proven,
    GivenUp,
}

struct Outcome {
    end: End,
    took: Duration,
    received: u64,
    from_mirror: u64,
    convicted: HashSet<SourceId>,
}

struct Run {
    answer: u32,
    stepper: Stepper,
    until: u64,
    left_before_cut: usize,
}

struct Simulation<'a> {
    file: &'a File,
    setting: Setting,
    plan: Plan,
    ledger: Ledger,
    /// Which peer each source is.
    sources: Vec<usize>,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    sequence: u64,
    now: Instant,
    run: Option<Run>,
    broken_off: Option<Stepper>,
    answers: u32,
    chains_asked: HashSet<SourceId>,
    disk: Vec<u8>,
    received: u64,
    from_mirror: u64,
    convicted: HashSet<SourceId>,
}

impl<'a> Simulation<'a> {
    fn new(file: &'a File, setting: Setting, start: Instant) -> Self {
        let quick = setting.peers.iter().any(|peer| peer.is_known);
        let mut simulation = Self {
            file,
            plan: Plan::new(setting.mirror_use, setting.mirror.is_some(), quick, start),
            ledger: Ledger::new(file.expected),
            sources: Vec::new(),
            events: BinaryHeap::new(),
            sequence: 0,
            now: start,
            run: None,
            broken_off: None,
            answers: 0,
            chains_asked: HashSet::new(),
            disk: vec![0; file.bytes.len()],
            received: 0,
            from_mirror: 0,
            convicted: HashSet::new(),
            setting,
        };
        if simulation.setting.hearsay {
            simulation.ledger.handle_claim(file.chain.clone(), None);
        }
        for index in 0..simulation.setting.peers.len() {
            simulation.at(simulation.setting.peers[index].found_after, Event::Found(index));
        }
        simulation.at(Duration::from_millis(400), Event::SearchEnds);
        simulation
    }

    fn at(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((self.now + after, self.sequence, event)));
    }

    fn go(mut self, limit: Duration) -> Outcome {
        let start = self.now;
        loop {
            self.attend();
            let took = self.now - start;
            let outcome = |end, this: Self| Outcome {
                end,
                took,
                received: this.received,
                from_mirror: this.from_mirror,
                convicted: this.convicted,
            };
            if self.ledger.verified().is_some() {
                assert_eq!(
                    ContentHash::of(&self.disk),
                    self.file.expected.hash,
                    "SEED={}: proven, and wrong on disk",
                    self.setting.seed
                );
                return outcome(End::Proven, self);
            }
            assert!(took < limit, "SEED={}: no end after {took:?}: {:?}", self.setting.seed, self.setting);
            while let Some(wish) = self.plan.poll(&self.ledger, self.now) {
                if wish == Wish::GiveUp {
                    return outcome(End::GivenUp, self);
                }
                self.fulfil(wish);
            }
            let wake = self.plan.next_wake(self.now);
            match self.events.peek() {
                Some(Reverse((at, _, _))) if *at <= wake => {
                    let Some(Reverse((at, _, event))) = self.events.pop() else { unreachable!("it was just seen") };
                    self.now = at;
                    self.happen(event);
                }
                _ => self.now = wake,
            }
        }
    }

    fn fulfil(&mut self, wish: Wish) {
        match wish {
            Wish::AskPiece { source, piece } => self.ask(source, Some(piece)),
            Wish::AskChain { source } if self.chains_asked.insert(source) => self.ask(source, None),
            Wish::AskChain { .. } => {}
            Wish::Stream { from, until } => self.open(from, until),
            Wish::Halt => self.run = None,
            Wish::Exhausted { piece } => self.ledger.handle_exhausted(piece),
            Wish::GiveUp => unreachable!("the caller ends"),
        }
    }

    fn ask(&mut self, source: SourceId, piece: Option<usize>) {
        let now = self.now;
        let peer = &mut self.setting.peers[self.sources[source.0 as usize - 1]];
        match peer.manner {
            Manner::Silent => self.at(Duration::from_secs(10), Event::Fails(source, piece)),
            Manner::Dead => self.at(Duration::from_secs(3), Event::Fails(source, piece)),
            Manner::Missing => {
                let after = peer.delay;
                self.at(after, Event::Missing(source));
            }
            _ => {
                let len =
                    piece.map_or(32 * self.file.chain.states().len(), |piece| self.file.expected.piece_len(piece));
                let begin = (now + peer.delay).max(peer.busy_until);
                peer.busy_until = begin + Duration::from_secs_f64(len as f64 / peer.rate);
                let after = peer.busy_until - now;
                self.at(after, piece.map_or(Event::Chain(source), |piece| Event::Piece(source, piece)));
            }
        }
    }

    fn open(&mut self, from: usize, until: usize) {
        let mirror = self.setting.mirror.expect("the plan was told whether there is one");
        self.ledger.handle_overwrite();
        self.answers += 1;
        let (_, state) = self.ledger.front();
        let begun = self.broken_off.take().filter(|stepper| stepper.index() == from && stepper.from() == state);
        let stepper = begun.unwrap_or_else(|| Stepper::new(&self.file.expected, from, state));
        let until = self.file.expected.span(until - 1).end;
        let left_before_cut = mirror.cuts_after.unwrap_or(usize::MAX);
        self.run = Some(Run { answer: self.answers, stepper, until, left_before_cut });
        match mirror.manner {
            Manner::Silent => {}
            Manner::Dead => self.at(Duration::from_millis(20), Event::Breaks(self.answers)),
            _ => self.next_chunk(mirror.delay),
        }
    }

    fn next_chunk(&mut self, delay: Duration) {
        let Some(run) = &self.run else { return };
        let rate = self.setting.mirror.expect("it is streaming").rate;
        let position = self.file.expected.span(run.stepper.index()).end - run.stepper.missing() as u64;
        let len = (CHUNK as u64).min(run.until - position).min(run.left_before_cut as u64) as usize;
        let event = if len == 0 { Event::Breaks(run.answer) } else { Event::Bytes(run.answer, len) };
        self.at(delay + Duration::from_secs_f64(len as f64 / rate), event);
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Found(index) => {
                let peer = self.setting.peers[index];
                if self.plan.handle_holder(peer.is_known.then_some(peer.rate), now).is_some() {
                    self.sources.push(index);
                }
            }
            Event::SearchEnds => self.plan.handle_holders_ended(),
            Event::Fails(source, piece) => {
                if piece.is_none() {
                    self.chains_asked.remove(&source);
                }
                self.plan.handle_failed(source, piece, None, now);
            }
            Event::Missing(source) => self.plan.handle_gone(source),
            Event::Chain(source) => {
                self.plan.handle_chain(source, now);
                let chain = self.file.chain_of(self.manner(source));
                if self.ledger.handle_claim(chain, Some(source)) {
                    self.plan.handle_new_claim();
                }
            }
            Event::Piece(source, piece) => self.piece(source, piece),
            Event::Bytes(answer, len) => self.bytes(answer, len),
            Event::Breaks(answer) => {
                if self.run.as_ref().is_some_and(|run| run.answer == answer) {
                    self.broken_off = self.run.take().map(|run| run.stepper);
                    self.plan.handle_mirror_failed(false, now);
                }
            }
        }
    }

    fn manner(&self, source: SourceId) -> Manner {
        self.setting.peers[self.sources[source.0 as usize - 1]].manner
    }

    fn piece(&mut self, source: SourceId, piece: usize) {
        let bytes = self.file.piece_of(self.manner(source), piece);
        self.received += bytes.len() as u64;
        let rate = Some(self.setting.peers[self.sources[source.0 as usize - 1]].rate);
        let digest = self.file.chain_of(self.manner(source)).digest();
        let several = self.file.expected.pieces() > 1;
        if several && !self.ledger.vouch(digest, source) && self.chains_asked.insert(source) {
            self.plan.handle_chain_asked(source, self.now);
            self.ask(source, None);
        }
        match self.ledger.handle_piece(piece, source, &bytes) {
            Ruling::Kept => {
                if self.run.as_ref().is_some_and(|run| run.stepper.index() == piece) {
                    self.run = None;
                    self.plan.handle_mirror_done();
                }
                let start = self.file.expected.span(piece).start as usize;
                self.disk[start..start + bytes.len()].copy_from_slice(&bytes);
                self.plan.handle_kept(source, piece, rate, self.now);
            }
            Ruling::Surplus => self.plan.handle_kept(source, piece, rate, self.now),
            Ruling::Unfit => self.plan.handle_unfit(source, piece),
            Ruling::Unjudged => self.plan.handle_failed(source, Some(piece), None, self.now),
        }
    }

    fn bytes(&mut self, answer: u32, len: usize) {
        let Some(mut run) = self.run.take_if(|run| run.answer == answer) else { return };
        self.received += len as u64;
        self.from_mirror += len as u64;
        self.plan.handle_mirror_bytes(len, self.now);
        run.left_before_cut -= len;
        let mut left = len;
        while left > 0 {
            let index = run.stepper.index();
            let bytes = self.file.piece_of(self.setting.mirror.expect("it is streaming").manner, index);
            let done = bytes.len() - run.stepper.missing();
            let take = left.min(run.stepper.missing());
            let start = self.file.expected.span(index).start as usize + done;
            self.disk[start..start + take].copy_from_slice(&bytes[done..done + take]);
            run.stepper.update(&bytes[done..done + take]);
            left -= take;
            if run.stepper.missing() == 0 {
                let step = run.stepper.finish().expect("whole");
                self.ledger.handle_front(step, MIRROR);
                let (front, state) = self.ledger.front();
                if front != index + 1 || self.file.expected.span(index).end >= run.until {
                    self.plan.handle_mirror_done();
                    return;
                }
                run.stepper = Stepper::new(&self.file.expected, front, state);
            }
        }
        self.run = Some(run);
        self.next_chunk(Duration::ZERO);
    }

    fn attend(&mut self) {
        while let Some(finding) = self.ledger.poll_finding() {
            match finding {
                Finding::Convicted { source, .. } => {
                    self.convicted.insert(source);
                    if source != MIRROR {
                        self.plan.handle_gone(source);
                    }
                }
                Finding::Proven { .. } => {}
                Finding::Reread { piece } => {
                    self.run = None;
                    self.plan.handle_mirror_done();
                    let span = self.file.expected.span(piece);
                    let bytes = self.disk[span.start as usize..span.end as usize].to_vec();
                    self.ledger.handle_reread(piece, &bytes);
                }
                Finding::Discarded { source: MIRROR, .. } => self.plan.handle_mirror_failed(true, self.now),
                Finding::Discarded { .. } => {}
            }
        }
        if self.ledger.is_hopeless() {
            self.run = None;
            self.plan.handle_mirror_done();
            let senders = self.ledger.reset();
            if senders.iter().all(|source| *source == MIRROR) {
                self.plan.handle_mirror_failed(true, self.now);
            }
            senders.into_iter().filter(|source| *source != MIRROR).for_each(|source| self.plan.handle_gone(source));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "only as an origin for differences")]
fn start() -> Instant {
    Instant::now()
}

fn peer(manner: Manner, rate: f64) -> Peer {
    let delay = Duration::from_millis(20);
    Peer { manner, rate, delay, found_after: Duration::from_millis(50), is_known: false, busy_until: start() }
}

fn mirror(rate: f64) -> Mirror {
    Mirror { manner: Manner::Honest, rate, delay: Duration::from_millis(20), cuts_after: None }
}

fn random_peer(rng: &mut StdRng, pieces: usize) -> Peer {
    let bad = rng.random_range(0..pieces);
    let manner = match rng.random_range(0..12) {
        0..6 => Manner::Honest,
        6 => Manner::Flips(bad),
        7 => Manner::LiesConsistently(bad),
        8 => Manner::FalseChain(bad),
        9 => Manner::Silent,
        10 => Manner::Dead,
        _ => Manner::Missing,
    };
    Peer {
        delay: Duration::from_millis(rng.random_range(1..200)),
        found_after: Duration::from_millis(rng.random_range(0..390)),
        is_known: rng.random_bool(0.3),
        ..peer(manner, 10f64.powf(rng.random_range(4.5..8.0)))
    }
}

fn random_setting(rng: &mut StdRng, pieces: usize, seed: u64) -> Setting {
    let mirror = rng.random_bool(0.8).then(|| {
        let manner = match rng.random_range(0..8) {
            0 => Manner::Flips(rng.random_range(0..pieces)),
            1 => Manner::Dead,
            _ => Manner::Honest,
        };
        let cuts_after = rng.random_bool(0.2).then(|| rng.random_range(100_000..2_000_000));
        let delay = Duration::from_millis(rng.random_range(1..200));
        Mirror { manner, delay, cuts_after, ..mirror(10f64.powf(rng.random_range(5.5..8.0))) }
    });
    let peers = (0..rng.random_range(0..7)).map(|_| random_peer(rng, pieces)).collect();
    let mirror_use = [MirrorUse::First, MirrorUse::Sparing, MirrorUse::Last][rng.random_range(0..3)];
    Setting { mirror_use, mirror, peers, hearsay: rng.random_bool(0.5), seed }
}

#[test]
fn any_download_with_one_honest_source_ends_in_the_right_file_and_convicts_no_honest_peer() {
    let first = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = first.map_or(0..400, |seed: u64| seed..seed + 1);
    for seed in seeds {
        let rng = &mut StdRng::seed_from_u64(seed);
        let pieces = rng.random_range(1..14);
        let file = file(rng, pieces);
        let setting = random_setting(rng, pieces, seed);
        let honest = |peer: &Peer| peer.manner == Manner::Honest;
        let hope =
            setting.peers.iter().any(honest) || setting.mirror.is_some_and(|mirror| mirror.manner == Manner::Honest);
        let simulation = Simulation::new(&file, setting.clone(), start());
        let outcome = simulation.go(Duration::from_secs(1200));
        if hope {
            assert_eq!(outcome.end, End::Proven, "SEED={seed}: {setting:?}");
        }
        assert!(outcome.received < 20 * file.expected.size + (100 << 20), "SEED={seed}: {} bytes", outcome.received);
        let sources = (1..=setting.peers.len()).zip({
            let mut order: Vec<_> = setting.peers.iter().enumerate().collect();
            order.sort_by_key(|(index, peer)| (peer.found_after, *index));
            order.into_iter().map(|(_, peer)| *peer).collect::<Vec<_>>()
        });
        for (source, peer) in sources.filter(|(_, peer)| honest(peer)) {
            assert!(!outcome.convicted.contains(&SourceId(source as u32)), "SEED={seed}: honest {peer:?} convicted");
        }
    }
}

#[test]
fn equal_peers_share_a_file_out_and_nothing_comes_twice() {
    let rng = &mut StdRng::seed_from_u64(1);
    let file = file(rng, 120);
    let run = |peers: usize| {
        let peers = vec![peer(Manner::Honest, 10e6); peers];
        let setting = Setting { mirror_use: MirrorUse::Last, mirror: None, peers, hearsay: true, seed: 0 };
        Simulation::new(&file, setting, start()).go(Duration::from_secs(600))
    };
    let (one, four) = (run(1), run(4));
    let gain = one.took.as_secs_f64() / four.took.as_secs_f64();
    assert!(gain > 3.3, "four peers are {gain:.2} times as fast as one");
    assert!(four.received as f64 <= 1.05 * file.expected.size as f64, "{} bytes", four.received);
}

#[test]
fn a_slow_peer_beside_a_fast_mirror_costs_next_to_nothing() {
    let rng = &mut StdRng::seed_from_u64(2);
    let file = file(rng, 24);
    let run = |peers: Vec<Peer>| {
        let setting =
            Setting { mirror_use: MirrorUse::Sparing, mirror: Some(mirror(10e6)), peers, hearsay: true, seed: 0 };
        Simulation::new(&file, setting, start()).go(Duration::from_secs(600))
    };
    let alone = run(Vec::new());
    let beside = run(vec![peer(Manner::Honest, 20e3)]);
    let cost = beside.took.as_secs_f64() / alone.took.as_secs_f64();
    assert!(cost < 1.15, "{cost:.2} times the mirror alone");
}

#[test]
fn a_sparing_mirror_yields_to_peers_that_are_no_slower() {
    let rng = &mut StdRng::seed_from_u64(3);
    let file = file(rng, 100);
    let peers = vec![peer(Manner::Honest, 10e6); 3];
    let setting = Setting { mirror_use: MirrorUse::Sparing, mirror: Some(mirror(10e6)), peers, hearsay: true, seed: 0 };
    let outcome = Simulation::new(&file, setting, start()).go(Duration::from_secs(600));
    let share = outcome.from_mirror as f64 / file.expected.size as f64;
    assert!(share < 0.3, "{share:.2} of the bytes from the mirror");
}
