//! Entry points for fuzzing: each takes any bytes and breaks off when a reader breaks what it promises.

use crate::hash::{ContentHash, Expected, PIECE_SIZE, PieceChain, Pieces};

use super::pipeline::{Answer, Ask, HAVE_HEADER, Pipeline, Question};

/// Files of the question which of some a peer holds: of two bytes, and not all of the second.
const HOLDS: usize = 9;

/// A connection on which a peer answers five questions: the first byte says in what portions the others arrive.
pub fn answers(bytes: &[u8]) {
    let Some((portion, bytes)) = bytes.split_first() else { return };
    let file = |size: u64| Expected { hash: ContentHash::of(&size.to_be_bytes()), size };
    let held = (0..HOLDS as u64).map(|size| file(size).hash).collect();
    let asks = [
        Ask::Piece { file: file(3), index: 0 }.into(),
        Ask::Piece { file: file(PIECE_SIZE + 5), index: 1 }.into(),
        Ask::Chain { file: file(2 * PIECE_SIZE + 5) }.into(),
        Ask::Piece { file: file(4), index: 0 }.into(),
        Question::Holds(held),
    ];
    let mut pipeline = Pipeline::new(([127, 0, 0, 1], 9978).into());
    asks.iter().zip(0..).for_each(|(ask, id)| pipeline.ask(id, ask.clone()));
    let mut answered = 0;
    for portion in bytes.chunks(usize::from(*portion).max(1)) {
        pipeline.handle_bytes(portion);
        loop {
            match pipeline.poll_answer() {
                Ok(Some((id, answer))) => {
                    assert_eq!(id, answered, "answers come in the order of the asks");
                    match (answer, &asks[id as usize]) {
                        (Answer::Body { bytes, .. }, ask @ Question::Of(Ask::Piece { .. })) => {
                            assert_eq!(bytes.len(), ask.body_len());
                        }
                        (Answer::Holds(holds), ask) => {
                            assert!(matches!(ask, Question::Holds(_)), "nobody asked for that");
                            assert_eq!(holds.len(), HOLDS);
                        }
                        _ => {}
                    }
                    answered += 1;
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
    assert_eq!(pipeline.outstanding() as u64, asks.len() as u64 - answered);
    assert!(pipeline.bytes_due() <= asks.iter().map(Question::body_len).sum::<usize>());
    let unanswered: Vec<_> = pipeline.into_unanswered().map(|(id, _)| id).collect();
    assert_eq!(unanswered, (answered..asks.len() as u64).collect::<Vec<_>>());
}

/// A file's piece chain: the first byte says of how many pieces the file is.
pub fn piece_list(bytes: &[u8]) {
    let Some((pieces, bytes)) = bytes.split_first() else { return };
    let size = u64::from(*pieces) * PIECE_SIZE + 1;
    let expected = Expected { hash: ContentHash::of(&size.to_be_bytes()), size };
    if let Ok(chain) = PieceChain::decode(&expected, bytes) {
        assert_eq!(bytes.len(), PieceChain::encoded_len(&expected));
        assert_eq!(chain.encode(), bytes, "what was read is written as it was");
        (1..expected.pieces()).for_each(|boundary| drop(format!("{:?}", chain.at(&expected, boundary))));
    }
}

/// What an unfinished holder says it has, of a file with so many pieces as the first byte says, and one more.
pub fn have(bytes: &[u8]) {
    let Some((pieces, digits)) = bytes.split_first() else { return };
    let size = u64::from(*pieces) * PIECE_SIZE + 1;
    let file = Expected { hash: ContentHash::of(&size.to_be_bytes()), size };
    let mut pipeline = Pipeline::new(([127, 0, 0, 1], 9978).into());
    pipeline.ask(0, Ask::Chain { file });
    let head = [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", HAVE_HEADER.as_bytes(), b": ", digits, b"\r\n\r\n"];
    pipeline.handle_bytes(&head.concat());
    let Ok(Some((0, Answer::Pieces { chain: None, have: Some(set) }))) = pipeline.poll_answer() else { return };
    assert!(file.pieces() > 1, "one piece is whole or not there");
    assert_eq!(set.of(), file.pieces());
    assert!(set.iter().all(|piece| piece < file.pieces()) && set.iter().count() == set.count());
    assert_eq!(Pieces::decode(set.of(), &set.encode()).as_ref(), Ok(&set), "what was read is written as it was");
    // Behind a line's end the bytes are other fields.
    let line = digits.split(|byte| *byte == b'\r' || *byte == b'\n').next().unwrap_or_default();
    let hex: String = set.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    let is_told = line.trim_ascii().eq_ignore_ascii_case(hex.as_bytes());
    assert!(is_told || line.len() < digits.len(), "nothing but these digits is such a set");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::archive::testing::with_changes;

    /// A reader, and bytes that it likes.
    type Target = (fn(&[u8]), &'static [u8]);

    const TARGETS: [Target; 7] = [
        (answers, include_bytes!("../../tests/fuzz/seeds/answers/all")),
        (answers, include_bytes!("../../tests/fuzz/seeds/answers/refused")),
        (piece_list, include_bytes!("../../tests/fuzz/seeds/piece_list/none")),
        (piece_list, include_bytes!("../../tests/fuzz/seeds/piece_list/two")),
        (have, include_bytes!("../../tests/fuzz/seeds/have/some")),
        (have, include_bytes!("../../tests/fuzz/seeds/have/all")),
        (have, include_bytes!("../../tests/fuzz/seeds/have/behind")),
    ];

    #[test]
    fn the_seeds_are_taken() {
        for (target, seed) in TARGETS {
            target(seed);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            TARGETS.iter().for_each(|(target, _)| target(&bytes));
        }

        #[test]
        fn a_seed_with_any_changes_is_read_or_refused(
            (target, bytes) in proptest::sample::select(&TARGETS[..]).prop_flat_map(|(target, seed)| {
                (Just(target), with_changes(seed, b"\n \r:-/0189bytes"))
            }),
        ) {
            target(&bytes);
        }
    }
}
