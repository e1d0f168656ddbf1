use super::*;
use crate::hash::{PIECE_SIZE, PieceChain, Step};

const PIECES: usize = 100;
const MEASURED: Measure = Measure { rate: Some(2.0e5), round_trip: Some(Duration::from_millis(20)) };

/// A plan over a ledger, at a time of its own.
struct World {
    plan: Plan,
    ledger: Ledger,
    now: Instant,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "only as an origin for differences")]
    fn new(mirror_use: MirrorUse, seed: u64) -> Self {
        let expected = Expected { hash: ContentHash::of(b"a file"), size: PIECES as u64 * PIECE_SIZE };
        let now = Instant::now();
        let plan = Plan::new(mirror_use, &expected, true, None, seed, now);
        Self { plan, ledger: Ledger::new(expected), now }
    }

    fn with_chain(mut self) -> Self {
        let bytes = vec![7; PieceChain::encoded_len(self.ledger.expected())];
        let chain = PieceChain::decode(self.ledger.expected(), &bytes).expect("its length");
        assert!(self.ledger.handle_claim(chain, None));
        self
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    fn wishes(&mut self) -> Vec<Wish> {
        std::iter::from_fn(|| self.plan.poll(&self.ledger, self.now)).collect()
    }

    /// What the mirror is asked for, among all that is.
    fn streamed(&mut self) -> Option<(usize, usize)> {
        self.wishes().into_iter().find_map(|wish| match wish {
            Wish::Stream { from, until } => Some((from, until)),
            _ => None,
        })
    }

    /// The mirror brings the piece at the front, at a rate that many seem to draw on.
    fn bring_front(&mut self) {
        let (front, state) = self.ledger.front();
        self.pass(600);
        self.plan.handle_mirror_bytes(PIECE_SIZE as usize, self.now);
        let step = Step::take(self.ledger.expected(), front, state, &vec![0; PIECE_SIZE as usize]).expect("a piece");
        self.ledger.handle_front(step);
    }

    fn add_holder(&mut self, measure: Measure, have: Option<Pieces>) -> SourceId {
        let source = self.plan.handle_holder(measure, self.now).expect("room");
        self.plan.handle_have(source, have, self.now);
        source
    }
}

#[test]
fn who_failed_makes_room_for_who_comes_later() {
    let mut world = World::new(MirrorUse::Sparing, 0);
    let announcers: Vec<_> = (0..MAX_PEERS).map(|_| world.add_holder(Measure::default(), None)).collect();
    assert_eq!(world.plan.handle_holder(Measure::default(), world.now), None);
    world.plan.handle_gone(announcers[5]);
    assert!(world.plan.handle_holder(Measure::default(), world.now).is_some());
    for _met in 0..2 * MAX_MET {
        let all: Vec<_> = (1..=world.plan.peers.len() as u32).map(SourceId).collect();
        all.into_iter().for_each(|source| world.plan.handle_gone(source));
        world.plan.handle_holder(Measure::default(), world.now);
    }
    assert_eq!(world.plan.peers.len(), MAX_MET);
}

/// The mirror fails whenever it is asked, for so many seconds.
fn fail_for(world: &mut World, seconds: u64) -> usize {
    let mut failures = 0;
    for _step in 0..10 * seconds {
        world.pass(100);
        if world.streamed().is_some() {
            failures += 1;
            world.plan.handle_mirror_failed(false, world.now);
        }
    }
    failures
}

#[test]
fn a_mirror_that_failed_is_asked_again_by_and_by_as_long_as_somebody_helps() {
    let mut world = World::new(MirrorUse::First, 0).with_chain();
    world.add_holder(Measure::default(), None);
    world.plan.handle_holders_ended();
    let failures = fail_for(&mut world, 20);
    assert!((6..10).contains(&failures), "{failures} asks in 20 s");
}

#[test]
fn a_mirror_that_fails_again_and_again_is_given_up_when_nobody_else_helps() {
    let mut world = World::new(MirrorUse::First, 0);
    world.plan.handle_holders_ended();
    for _failure in 0..MIRROR_STRIKES {
        world.pass(5000);
        assert!(world.streamed().is_some());
        world.plan.handle_mirror_failed(false, world.now);
    }
    assert_eq!(world.plan.poll(&world.ledger, world.now), Some(Wish::GiveUp));
}

#[test]
fn a_mirror_without_ranges_streams_to_the_end_and_does_not_yield() {
    for serves in [true, false] {
        let mut world = World::new(MirrorUse::Sparing, 0).with_chain();
        world.add_holder(MEASURED, None);
        let (from, first_end) = world.streamed().expect("the mirror at once");
        assert_eq!(from, 0);
        world.plan.handle_mirror_ranges(serves);
        while world.ledger.front().0 < first_end {
            world.bring_front();
        }
        world.plan.handle_mirror_done();
        let (from, until) = world.streamed().expect("it goes on");
        assert_eq!(from, first_end);
        assert_eq!(until == PIECES, !serves, "until {until}");
        // Peers that are much quicker turn up, and give something.
        let quick = Measure { rate: Some(2e7), ..MEASURED };
        for _peer in 0..8 {
            let source = world.add_holder(quick, None);
            world.plan.handle_kept(source, 50, quick, world.now);
        }
        assert_eq!(world.wishes().contains(&Wish::Halt), serves);
    }
}

/// A client that has one piece of a slow mirror, and what the mirror is asked for next when so many peers say that they have
/// these pieces.
fn beside(seed: u64, peers: usize, have: impl Fn() -> Pieces) -> World {
    let mut world = World::new(MirrorUse::Sparing, seed);
    world.plan.handle_holders_ended();
    assert_eq!(world.streamed().map(|(from, _)| from), Some(0));
    world.bring_front();
    for _peer in 0..peers {
        world.add_holder(Measure::default(), Some(have()));
    }
    world
}

fn all_but_the_last() -> Pieces {
    let mut pieces = Pieces::full(PIECES);
    pieces.remove(PIECES - 1);
    pieces
}

#[test]
fn peers_that_have_nothing_do_not_keep_the_mirror_from_the_front() {
    for seed in 0..20 {
        let mut world = beside(seed, MAX_PEERS, || Pieces::new(PIECES));
        assert!(!world.wishes().contains(&Wish::Halt), "seed {seed}");
        world.plan.handle_mirror_done();
        let (from, until) = world.streamed().expect("the mirror goes on");
        assert!(from == 1 && until > 2, "{from}..{until}, seed {seed}");
    }
}

#[test]
fn peers_that_say_that_they_have_all_and_give_nothing_do_not_keep_the_mirror_from_the_front() {
    for seed in 0..20 {
        let mut world = beside(seed, MAX_PEERS, all_but_the_last);
        world.plan.handle_mirror_done();
        for _second in 0..20 {
            for wish in world.wishes() {
                match wish {
                    Wish::Call(Call::Piece { source, piece }) => {
                        let pause = Some(Duration::from_secs(1)).filter(|_| source.0 % 2 == 0);
                        world.plan.handle_failed(source, Some(piece), pause, world.now);
                    }
                    Wish::Call(Call::Have { source }) => {
                        world.plan.handle_have(source, Some(all_but_the_last()), world.now);
                    }
                    Wish::Stream { .. } => world.bring_front(),
                    _ => {}
                }
            }
            world.plan.handle_mirror_done();
            world.pass(1000);
        }
        let front = world.ledger.front().0;
        let (from, until) = world.streamed().expect("the mirror goes on");
        assert!(from == front && until > front + 1, "{from}..{until} at {front}, seed {seed}");
    }
}

#[test]
fn a_front_that_stands_still_is_brought_whoever_says_that_he_has_it() {
    for seed in 0..20 {
        let mut world = beside(seed, 3, all_but_the_last);
        world.wishes();
        world.plan.handle_mirror_done();
        let mut waited = 0;
        let from = loop {
            // They are asked for pieces, and give others than the one that apt waits for, just in time to be believed.
            for source in (1..=3).map(SourceId) {
                let asked: Vec<_> = world.plan.peer(source).asked.iter().map(|asked| asked.piece).collect();
                asked.into_iter().for_each(|piece| world.plan.handle_kept(source, piece, MEASURED, world.now));
            }
            match world.streamed() {
                Some((1, _)) => break 1,
                Some(_) => world.plan.handle_mirror_done(),
                None => {}
            }
            world.pass(100);
            waited += 100;
            assert!(waited < 6000, "nothing for 6 s, seed {seed}");
        };
        assert_eq!(from, world.ledger.front().0);
    }
}
