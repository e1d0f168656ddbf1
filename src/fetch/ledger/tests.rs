use rand::{Rng, RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};

use super::*;
use crate::hash::{ContentHash, Hasher, PIECE_SIZE, PieceChain, Stepper};

const ALICE: SourceId = SourceId(1);
const BOB: SourceId = SourceId(2);
const MALLORY: SourceId = SourceId(3);

struct File {
    bytes: Vec<u8>,
    expected: Expected,
    chain: PieceChain,
}

fn file(seed: u64, pieces: usize) -> File {
    let mut bytes = vec![0; (pieces - 1) * PIECE_SIZE as usize + 1000];
    StdRng::seed_from_u64(seed).fill(&mut bytes[..]);
    let expected = Expected { hash: ContentHash::of(&bytes), size: bytes.len() as u64 };
    let mut hasher = Hasher::new(&expected);
    hasher.update(&bytes);
    let chain = hasher.finish().expect("its own hash").chain().clone();
    File { bytes, expected, chain }
}

impl File {
    fn piece(&self, index: usize) -> &[u8] {
        let span = self.expected.span(index);
        &self.bytes[span.start as usize..span.end as usize]
    }

    fn false_piece(&self, index: usize) -> Vec<u8> {
        let mut bytes = self.piece(index).to_vec();
        bytes[17] ^= 1;
        bytes
    }

    /// A chain that is false at the given boundaries.
    fn forged(&self, boundaries: &[usize]) -> PieceChain {
        let mut bytes = self.chain.encode();
        for boundary in boundaries {
            bytes[32 * (boundary - 1)] ^= 0x80;
        }
        PieceChain::decode(&self.expected, &bytes).expect("the same length")
    }

    /// The chain that belongs to a copy with that piece falsified, from the front up to that piece.
    fn chain_of_false(&self, piece: usize) -> PieceChain {
        let bytes = self.false_piece(piece);
        let mut states = self.chain.states().to_vec();
        let mut at = self.chain.at(&self.expected, piece);
        for (index, state) in states.iter_mut().enumerate().skip(piece) {
            let bytes = if index == piece { &bytes[..] } else { self.piece(index) };
            at = Step::take(&self.expected, index, at, bytes).expect("length").to();
            *state = at;
        }
        let bytes: Vec<u8> = states.iter().flat_map(|state| *state.as_bytes()).collect();
        PieceChain::decode(&self.expected, &bytes).expect("the same length")
    }

    fn stream(&self, ledger: &mut Ledger, index: usize, bytes: &[u8]) {
        let (front, state) = ledger.front();
        assert_eq!(front, index);
        let mut stepper = Stepper::new(&self.expected, index, state);
        stepper.update(bytes);
        ledger.handle_front(stepper.finish().expect("a whole piece"));
    }
}

fn findings(ledger: &mut Ledger) -> Vec<Finding> {
    std::iter::from_fn(|| ledger.poll_finding()).collect()
}

fn convicted(ledger: &mut Ledger) -> Vec<SourceId> {
    let mut convicted: Vec<_> = findings(ledger)
        .into_iter()
        .filter_map(|finding| match finding {
            Finding::Convicted { source, .. } => Some(source),
            _ => None,
        })
        .collect();
    convicted.sort();
    convicted.dedup();
    convicted
}

#[test]
fn a_small_file_needs_no_claim() {
    let file = file(1, 1);
    let mut ledger = Ledger::new(file.expected);
    assert!(ledger.has_claim());
    assert_eq!(ledger.handle_piece(0, MALLORY, Grade::Proven, &file.false_piece(0)), Ruling::Unfit);
    assert!(ledger.verified().is_none());
    assert_eq!(convicted(&mut ledger), [MALLORY], "nobody else can be to blame");
    assert_eq!(ledger.handle_piece(0, ALICE, Grade::Proven, file.piece(0)), Ruling::Kept);
    assert!(ledger.verified().is_some());
}

#[test]
fn pieces_in_any_order_from_hearsay_prove_the_file() {
    let file = file(2, 9);
    for seed in 0..20 {
        let mut order: Vec<_> = (0..9).collect();
        order.shuffle(&mut StdRng::seed_from_u64(seed));
        let mut ledger = Ledger::new(file.expected);
        ledger.handle_claim(file.chain.clone(), None);
        for index in order {
            assert_eq!(
                ledger.handle_piece(index, ALICE, Grade::Proven, file.piece(index)),
                Ruling::Kept,
                "seed {seed}"
            );
        }
        assert_eq!(ledger.verified().expect("all pieces").chain(), &file.chain);
        assert_eq!(findings(&mut ledger).iter().filter(|f| matches!(f, Finding::Proven { .. })).count(), 9);
    }
}

#[test]
fn the_mirror_in_front_and_peers_behind_meet() {
    let file = file(3, 6);
    let mut ledger = Ledger::new(file.expected);
    ledger.handle_claim(file.chain.clone(), Some(ALICE));
    for index in [5, 4, 3] {
        assert_eq!(ledger.handle_piece(index, ALICE, Grade::Proven, file.piece(index)), Ruling::Kept);
    }
    assert_eq!(ledger.anchor(), 3);
    for index in 0..3 {
        file.stream(&mut ledger, index, file.piece(index));
    }
    assert!(ledger.verified().is_some());
    assert!(convicted(&mut ledger).is_empty());
}

#[test]
fn without_a_claim_no_piece_of_several_can_be_judged_but_the_one_that_closes_the_gap() {
    let file = file(4, 3);
    let mut ledger = Ledger::new(file.expected);
    assert!(!ledger.has_claim());
    assert_eq!(ledger.handle_piece(0, ALICE, Grade::Proven, file.piece(0)), Ruling::Raw);
    file.stream(&mut ledger, 0, file.piece(0));
    file.stream(&mut ledger, 1, file.piece(1));
    assert_eq!(ledger.handle_piece(2, ALICE, Grade::Proven, file.piece(2)), Ruling::Kept);
    assert!(ledger.verified().is_some());
}

#[test]
fn a_false_piece_under_the_senders_own_chain_convicts_at_once() {
    let file = file(5, 5);
    let mut ledger = Ledger::new(file.expected);
    ledger.handle_claim(file.chain.clone(), Some(ALICE));
    assert!(ledger.vouch(file.chain.digest(), MALLORY));
    assert_eq!(ledger.handle_piece(2, MALLORY, Grade::Proven, &file.false_piece(2)), Ruling::Unfit);
    assert_eq!(convicted(&mut ledger), [MALLORY]);
    assert!(ledger.has_claim(), "the honest supplier's word stands");
}

#[test]
fn a_false_piece_under_hearsay_convicts_when_another_copy_is_proven() {
    let file = file(6, 4);
    let mut ledger = Ledger::new(file.expected);
    ledger.handle_claim(file.chain.clone(), None);
    assert_eq!(ledger.handle_piece(3, MALLORY, Grade::Proven, &file.false_piece(3)), Ruling::Unfit);
    assert!(convicted(&mut ledger).is_empty());
    assert_eq!(ledger.handle_piece(3, ALICE, Grade::Proven, file.piece(3)), Ruling::Kept);
    assert_eq!(convicted(&mut ledger), [MALLORY]);
}

#[test]
fn a_false_chain_is_refuted_where_proof_passes_it_and_its_server_convicted() {
    let file = file(7, 6);
    let mut ledger = Ledger::new(file.expected);
    ledger.handle_claim(file.forged(&[3]), Some(MALLORY));
    ledger.handle_claim(file.chain.clone(), Some(ALICE));
    assert_eq!(ledger.fork(), Some(3));
    for index in [5, 4, 3] {
        assert_eq!(ledger.handle_piece(index, ALICE, Grade::Proven, file.piece(index)), Ruling::Kept);
    }
    assert_eq!(convicted(&mut ledger), [MALLORY]);
    assert_eq!(ledger.fork(), None);
    ledger.handle_claim(file.forged(&[4]), Some(BOB));
    assert_eq!(convicted(&mut ledger), [BOB], "a state that contradicts a proven one convicts by itself");
}

#[test]
fn a_matching_false_piece_and_chain_costs_that_piece_alone() {
    let file = file(8, 6);
    let mut ledger = Ledger::new(file.expected);
    // Mallory's copy has piece 2 false, its chain matches it up to the end, where it cannot fit.
    ledger.handle_claim(file.chain_of_false(2), Some(MALLORY));
    assert_eq!(
        ledger.handle_piece(2, MALLORY, Grade::Proven, &file.false_piece(2)),
        Ruling::Kept,
        "consistent under its own chain"
    );
    assert_eq!(ledger.handle_piece(5, MALLORY, Grade::Proven, file.piece(5)), Ruling::Unfit, "the digest is signed");
    let found = findings(&mut ledger);
    assert_eq!(found, [Finding::Convicted { source: MALLORY, piece: 5 }, Finding::Reread { piece: 2 }]);
    ledger.handle_reread(2, &file.false_piece(2));
    assert!(ledger.is_missing(2), "what a liar sent counts no more without its word");
    ledger.handle_claim(file.chain.clone(), Some(ALICE));
    for index in [5, 4, 3] {
        assert_eq!(ledger.handle_piece(index, ALICE, Grade::Proven, file.piece(index)), Ruling::Kept);
    }
    for index in [2, 1, 0] {
        assert_eq!(ledger.handle_piece(index, ALICE, Grade::Proven, file.piece(index)), Ruling::Kept);
    }
    assert!(ledger.verified().is_some());
}

#[test]
fn a_lying_mirror_loses_its_false_piece_only() {
    let file = file(9, 6);
    let mut ledger = Ledger::new(file.expected);
    ledger.handle_claim(file.chain.clone(), Some(ALICE));
    for index in [5, 4, 3] {
        ledger.handle_piece(index, ALICE, Grade::Proven, file.piece(index));
    }
    file.stream(&mut ledger, 0, file.piece(0));
    file.stream(&mut ledger, 1, &file.false_piece(1));
    file.stream(&mut ledger, 2, file.piece(2));
    assert!(!ledger.is_hopeless());
    let mut discarded = Vec::new();
    while let Some(finding) = ledger.poll_finding() {
        match finding {
            Finding::Reread { piece: 1 } => ledger.handle_reread(1, &file.false_piece(1)),
            Finding::Reread { piece } => ledger.handle_reread(piece, file.piece(piece)),
            Finding::Discarded { source, piece, .. } => discarded.push((source, piece)),
            _ => {}
        }
    }
    assert_eq!(discarded, [(MIRROR, 1)]);
    assert!(ledger.is_missing(1) && ledger.missing() == 1);
    ledger.handle_piece(1, ALICE, Grade::Proven, file.piece(1));
    assert!(ledger.verified().is_some());
}

#[test]
fn a_mirror_that_lies_alone_is_hopeless_and_a_reset_begins_anew() {
    let file = file(10, 3);
    let mut ledger = Ledger::new(file.expected);
    file.stream(&mut ledger, 0, file.piece(0));
    file.stream(&mut ledger, 1, &file.false_piece(1));
    file.stream(&mut ledger, 2, file.piece(2));
    assert!(ledger.is_hopeless() && ledger.verified().is_none());
    assert_eq!(ledger.handle_distrust(), [MIRROR].into());
    assert_eq!((ledger.missing(), ledger.front().0), (3, 0));
}

#[test]
fn a_chain_that_nobody_can_fill_gives_way_to_the_front() {
    let file = file(11, 4);
    let mut ledger = Ledger::new(file.expected);
    ledger.handle_claim(file.forged(&[1, 2, 3]), None);
    assert_eq!(ledger.handle_piece(3, ALICE, Grade::Proven, file.piece(3)), Ruling::Unfit);
    ledger.handle_exhausted(3);
    assert!(!ledger.has_claim());
    for index in 0..4 {
        file.stream(&mut ledger, index, file.piece(index));
    }
    assert!(ledger.verified().is_some());
    assert!(convicted(&mut ledger).is_empty(), "nobody honest is blamed for hearsay");
}

/// Random schedules of honest and lying sources: the file is right in the end and no honest source is convicted.
#[test]
fn whatever_liars_do_the_file_is_proven_and_the_honest_stay_clean() {
    for seed in 0..150 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let file = file(seed, rng.random_range(1..12));
        let pieces = file.expected.pieces();
        let mut ledger = Ledger::new(file.expected);
        let lie_at = rng.random_range(0..pieces);
        let honest = [ALICE, BOB];
        for source in honest {
            ledger.handle_claim(file.chain.clone(), rng.random_bool(0.7).then_some(source));
        }
        if pieces > 1 {
            let false_chain =
                if rng.random() { file.chain_of_false(lie_at) } else { file.forged(&[rng.random_range(1..pieces)]) };
            ledger.handle_claim(false_chain, rng.random_bool(0.7).then_some(MALLORY));
        }
        let (mut asks, mut disk) = (0, vec![Vec::new(); pieces]);
        while ledger.verified().is_none() {
            asks += 1;
            assert!(asks < 40 * pieces, "seed {seed}: no end");
            let piece = rng.next_u32() as usize % pieces;
            if ledger.is_missing(piece) {
                let source = [ALICE, BOB, MALLORY][rng.random_range(0..3)];
                let lies = source == MALLORY && (piece == lie_at || rng.random_bool(0.3));
                let bytes = if lies { file.false_piece(piece) } else { file.piece(piece).to_vec() };
                if ledger.handle_piece(piece, source, Grade::Proven, &bytes) == Ruling::Kept {
                    disk[piece] = bytes;
                }
            }
            while let Some(finding) = ledger.poll_finding() {
                match finding {
                    Finding::Convicted { source, .. } => assert_eq!(source, MALLORY, "seed {seed}"),
                    Finding::Reread { piece } => ledger.handle_reread(piece, &disk[piece]),
                    Finding::Proven { .. } | Finding::Discarded { .. } => {}
                }
            }
        }
        assert_eq!(ContentHash::of(&disk.concat()), file.expected.hash, "seed {seed}");
    }
}

#[test]
fn a_proven_piece_that_no_chain_judges_yet_is_kept_and_answered_for() {
    let file = file(61, 6);
    for lies in [false, true] {
        let mut ledger = Ledger::new(file.expected);
        let sent = if lies { file.false_piece(2) } else { file.piece(2).to_vec() };
        assert_eq!(ledger.handle_piece(2, MALLORY, Grade::Proven, &sent), Ruling::Raw);
        assert!(!ledger.is_missing(2));
        ledger.handle_claim(file.chain.clone(), Some(ALICE));
        assert_eq!(ledger.poll_finding(), Some(Finding::Reread { piece: 2 }));
        ledger.handle_reread(2, &sent);
        assert_eq!(ledger.is_missing(2), lies);
        for piece in (2..6).rev() {
            ledger.handle_piece(piece, ALICE, Grade::Proven, file.piece(piece));
        }
        let findings: Vec<_> = std::iter::from_fn(|| ledger.poll_finding()).collect();
        let convicted = findings.contains(&Finding::Convicted { source: MALLORY, piece: 2 });
        let proven = findings.contains(&Finding::Proven { source: MALLORY, piece: 2 });
        assert_eq!((convicted, proven), (lies, !lies), "{findings:?}");
    }
}

#[test]
fn the_chain_is_known_when_all_but_the_first_piece_are_proven() {
    let file = file(62, 5);
    let mut ledger = Ledger::new(file.expected);
    ledger.handle_claim(file.chain.clone(), None);
    for piece in (1..5).rev() {
        assert_eq!(ledger.proven_chain(), None);
        ledger.handle_piece(piece, ALICE, Grade::Proven, file.piece(piece));
    }
    assert_eq!(ledger.proven_chain(), Some(file.chain));
}
