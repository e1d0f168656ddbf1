use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};

use super::*;

const PIECE: usize = PIECE_SIZE as usize;

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    StdRng::seed_from_u64(seed).fill(&mut bytes[..]);
    bytes
}

fn expected(file: &[u8]) -> Expected {
    Expected { hash: ContentHash::of(file), size: file.len() as u64 }
}

fn verify(file: &[u8]) -> Verified {
    let mut hasher = Hasher::new(&expected(file));
    hasher.update(file);
    hasher.finish().expect("the file is what was promised")
}

fn piece<'a>(expected: &Expected, file: &'a [u8], index: usize) -> &'a [u8] {
    let span = expected.span(index);
    &file[span.start as usize..span.end as usize]
}

/// The sizes at which padding, blocks and pieces meet.
const SIZES: [usize; 14] =
    [0, 1, 55, 56, 63, 64, 65, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 57, 3 * PIECE + 64, 5 * PIECE - 9];

#[test]
fn every_size_class_hashes_as_sha256_does_and_each_piece_stands_alone_in_any_order() {
    for (seed, size) in SIZES.into_iter().enumerate() {
        let file = bytes(seed as u64, size);
        let expected = expected(&file);
        let verified = verify(&file);
        assert_eq!(verified.chain().states().len(), expected.pieces() - 1);

        let mut order: Vec<_> = (0..expected.pieces()).collect();
        order.shuffle(&mut StdRng::seed_from_u64(seed as u64));
        for index in order {
            let from = verified.chain().at(&expected, index);
            let step = Step::take(&expected, index, from, piece(&expected, &file, index)).expect("right length");
            assert_eq!(step.to(), verified.chain().at(&expected, index + 1), "size {size}, piece {index}");
        }
    }
}

#[test]
fn the_digest_agrees_with_sha256sum() {
    use std::{io::Write, process};
    for size in [0, 63, 64, 65, PIECE + 1] {
        let file = bytes(7, size);
        let mut sum = process::Command::new("sha256sum")
            .stdin(process::Stdio::piped())
            .stdout(process::Stdio::piped())
            .spawn()
            .expect("coreutils are everywhere");
        sum.stdin.take().expect("piped").write_all(&file).expect("sha256sum reads");
        let output = sum.wait_with_output().expect("sha256sum ends");
        let hash: ContentHash = String::from_utf8_lossy(&output.stdout)[..64].parse().expect("a digest");
        let mut hasher = Hasher::new(&Expected { hash, size: size as u64 });
        hasher.update(&file);
        hasher.finish().expect("both hash alike");
    }
}

#[test]
fn a_forged_chain_is_caught_by_its_last_piece() {
    let file = bytes(1, 3 * PIECE + 100);
    let expected = expected(&file);
    let mut forged = verify(&file).chain().encode();
    *forged.last_mut().expect("three states") ^= 1;
    let forged = PieceChain::decode(&expected, &forged).expect("the length fits");
    let last = expected.pieces() - 1;
    let step = Step::take(&expected, last, forged.at(&expected, last), piece(&expected, &file, last)).expect("length");
    assert_ne!(step.to(), expected.end());
}

#[test]
fn a_file_with_one_flipped_bit_one_byte_more_or_one_less_is_a_mismatch() {
    let file = bytes(2, PIECE + 3);
    let expected = expected(&file);
    let mut flipped = file.clone();
    flipped[PIECE / 2] ^= 4;
    for wrong in [&flipped[..], &file[..file.len() - 1], &[&file[..], &[0]].concat()[..], &[]] {
        let mut hasher = Hasher::new(&expected);
        hasher.update(wrong);
        assert_eq!(hasher.finish(), Err(Mismatch { expected }));
    }
}

#[test]
fn steps_of_another_file_of_another_order_or_too_few_do_not_join() {
    let file = bytes(3, 3 * PIECE);
    let expected = expected(&file);
    let chain = verify(&file).chain().clone();
    let steps: Vec<_> = (0..3)
        .map(|i| Step::take(&expected, i, chain.at(&expected, i), piece(&expected, &file, i)).expect("length"))
        .collect();
    assert!(Verified::join(&expected, steps.clone()).is_ok());
    assert!(Verified::join(&expected, steps[..2].to_vec()).is_err());
    assert!(Verified::join(&expected, [steps[1], steps[0], steps[2]]).is_err());
    let other = Expected { size: expected.size - 1, ..expected };
    assert!(Verified::join(&other, steps).is_err());
}

#[test]
fn a_chain_of_another_length_is_dropped_at_the_door() {
    let expected = Expected { hash: ContentHash::new([0; 32]), size: 2 * PIECE_SIZE + 1 };
    assert_eq!(PieceChain::decode(&expected, &[0; 63]), Err(BadChain { want: 64, got: 63 }));
    assert!(PieceChain::decode(&expected, &[0; 64]).is_ok());
}

#[test]
fn hashes_read_back_what_they_print_and_nothing_else() {
    let hash = ContentHash::of(b"penguin");
    assert_eq!(hash.to_string().parse(), Ok(hash));
    assert_eq!(hash.to_string().to_uppercase().parse(), Ok(hash));
    for bad in ["", "00", &"g".repeat(64), &"0".repeat(63), &"0".repeat(65), &"é".repeat(32)] {
        assert_eq!(bad.parse::<ContentHash>(), Err(BadHash));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn chunks_of_any_size_give_the_same_proof(seed: u64, size in 0..2 * PIECE + 200, cuts in prop::collection::vec(1..200_000usize, 1..40)) {
        let file = bytes(seed, size);
        let mut hasher = Hasher::new(&expected(&file));
        let (mut rest, mut cuts) = (&file[..], cuts.into_iter().cycle());
        while !rest.is_empty() {
            let (chunk, tail) = rest.split_at(rest.len().min(cuts.next().expect("a cycle")));
            hasher.update(chunk);
            rest = tail;
        }
        prop_assert_eq!(hasher.finish(), Ok(verify(&file)));
    }
}
