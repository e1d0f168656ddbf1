use proptest::prelude::*;

use super::*;
use crate::hash::PIECE_SIZE;

fn pipeline() -> Pipeline {
    Pipeline::new("127.1.2.3:9978".parse().expect("an address"))
}

fn small(size: u64) -> Expected {
    Expected { hash: ContentHash::of(&size.to_be_bytes()), size }
}

fn piece(file: Expected, index: usize) -> Ask {
    Ask::Piece { file, index }
}

fn answers(pipeline: &mut Pipeline) -> Result<Vec<(u64, Answer)>, Violation> {
    let mut all = Vec::new();
    while let Some(answer) = pipeline.poll_answer()? {
        all.push(answer);
    }
    Ok(all)
}

fn body(bytes: &'static [u8]) -> Answer {
    Answer::Body { bytes: Bytes::from_static(bytes), chain: None, unproven: false }
}

#[test]
fn asks_across_files_go_out_at_once_and_are_answered_in_order() {
    let mut pipeline = pipeline();
    pipeline.ask(7, piece(small(3), 0));
    pipeline.ask(8, piece(small(4), 0));
    pipeline.ask(9, piece(small(5), 0));
    let sent = pipeline.poll_transmit().expect("three heads");
    assert_eq!(String::from_utf8_lossy(&sent).matches("GET /~/").count(), 3);
    assert!(pipeline.poll_transmit().is_none());

    pipeline.handle_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nnoHTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n");
    let expected = vec![(7, body(b"abc")), (8, Answer::Missing), (9, Answer::Busy(Duration::from_secs(7)))];
    assert_eq!(answers(&mut pipeline), Ok(expected));
    assert_eq!(pipeline.outstanding(), 0);
}

#[test]
fn a_piece_of_many_is_asked_by_range_and_must_come_as_that_range() {
    let file = small(2 * PIECE_SIZE + 10);
    let mut good = pipeline();
    good.ask(1, piece(file, 2));
    let sent = good.poll_transmit().expect("a head");
    assert!(String::from_utf8_lossy(&sent).contains("Range: bytes=1048576-1048585\r\n"));
    good.handle_bytes(
        b"HTTP/1.1 206 x\r\nContent-Range: bytes 1048576-1048585/1048586\r\nContent-Length: 10\r\n\r\n0123456789",
    );
    assert_eq!(answers(&mut good), Ok(vec![(1, body(b"0123456789"))]));

    for head in [
        "206 x\r\nContent-Range: bytes 1048575-1048584/1048586\r\nContent-Length: 10",
        "206 x\r\nContent-Range: bytes 1048576-1048585/*\r\nContent-Length: 10",
        "206 x\r\nContent-Length: 10",
        "200 OK\r\nContent-Length: 1048586",
        "200 OK\r\nContent-Length: 10",
    ] {
        let mut bad = pipeline();
        bad.ask(1, piece(file, 2));
        bad.handle_bytes(format!("HTTP/1.1 {head}\r\n\r\n").as_bytes());
        assert_eq!(answers(&mut bad), Err(Violation::Range), "{head}");
    }
}

/// What a holder of that file answers when it is asked for its pieces.
fn told(file: Expected, head: &str, body: &[u8]) -> Result<Vec<(u64, Answer)>, Violation> {
    let mut pipeline = pipeline();
    pipeline.ask(1, Ask::Chain { file });
    let sent = pipeline.poll_transmit().expect("a head");
    assert!(sent.starts_with(format!("GET /~/{}/pieces HTTP/1.1\r\n", file.hash).as_bytes()));
    pipeline.handle_bytes(format!("HTTP/1.1 200 OK\r\n{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    pipeline.handle_bytes(body);
    answers(&mut pipeline)
}

#[test]
fn a_holder_tells_its_chain_its_pieces_or_both() {
    let file = small(10 * PIECE_SIZE + 1);
    let states = [9; 32 * 10];
    let chain = PieceChain::decode(&file, &states).expect("of that length");
    let mut some = Pieces::new(11);
    [0, 2, 10].into_iter().for_each(|piece| some.insert(piece));
    let pieces = |chain: Option<&PieceChain>, have: Option<&Pieces>| {
        Ok(vec![(1, Answer::Pieces { chain: chain.cloned(), have: have.cloned() })])
    };
    assert_eq!(told(file, "", &states), pieces(Some(&chain), None));
    assert_eq!(told(file, "X-Huddle-Have: 0504\r\n", &states), pieces(Some(&chain), Some(&some)));
    assert_eq!(told(file, "X-Huddle-Have: 0504\r\n", b""), pieces(None, Some(&some)));
    assert_eq!(told(small(5), "", b""), pieces(Some(&PieceChain::default()), None));
}

#[test]
fn a_piece_set_that_is_not_one_of_the_file_and_a_chain_of_another_length_are_violations() {
    let file = small(10 * PIECE_SIZE + 1);
    for digits in [
        "",
        "05",
        "050",
        "050400",
        "0508",
        "05zz",
        "+504",
        "0504, 0504",
        "0504\r\nX-Huddle-Have: 0504",
        "é504",
        "0504\u{a0}",
    ] {
        let head = format!("X-Huddle-Have: {digits}\r\n");
        assert_eq!(told(file, &head, b""), Err(Violation::Have), "{digits}");
    }
    assert_eq!(told(small(5), "X-Huddle-Have: 01\r\n", b""), Err(Violation::Have), "one piece is whole or not there");
    for (head, length) in [("", 0), ("", 319), ("", 321), ("X-Huddle-Have: 0504\r\n", 1)] {
        assert_eq!(told(file, head, &vec![0; length]), Err(Violation::Length), "{head} {length}");
    }
    // The set of the largest file that is lent from fits an answer's head.
    assert!(2 * Pieces::encoded_len(8192) + 1024 < MAX_HEAD);
}

#[test]
fn a_piece_that_is_not_there_yet_and_one_without_proof_are_told_from_others() {
    let file = small(2 * PIECE_SIZE + 3);
    let mut pipeline = pipeline();
    for id in 1..=3 {
        pipeline.ask(id, piece(file, 2));
    }
    let head = "HTTP/1.1 206 x\r\nContent-Range: bytes 1048576-1048578/1048579\r\nContent-Length: 3\r\n";
    let digest = ContentHash::of(b"a chain");
    pipeline.handle_bytes(b"HTTP/1.1 416 x\r\nContent-Range: bytes */1048579\r\nContent-Length: 0\r\n\r\n");
    pipeline.handle_bytes(format!("{head}X-Huddle-Chain: {digest}\r\n\r\nabc").as_bytes());
    // Who does not answer for the bytes cannot answer for a chain that they belong to.
    pipeline.handle_bytes(format!("{head}X-Huddle-Chain: {digest}\r\nX-Huddle-Unproven: 1\r\n\r\nabc").as_bytes());
    let body = |chain, unproven| Answer::Body { bytes: Bytes::from_static(b"abc"), chain, unproven };
    let expected = vec![(1, Answer::Lacking), (2, body(Some(digest), false)), (3, body(None, true))];
    assert_eq!(answers(&mut pipeline), Ok(expected));
}

#[test]
fn who_has_the_only_piece_of_a_file_answers_for_it() {
    let mut pipeline = pipeline();
    pipeline.ask(1, piece(small(3), 0));
    pipeline.handle_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Huddle-Unproven: 1\r\n\r\nabc");
    assert_eq!(answers(&mut pipeline), Err(Violation::Unproven));
}

#[test]
fn an_answer_without_one_exact_length_is_a_violation() {
    for fields in [
        "Content-Length: 4",
        "Content-Length: 2",
        "Content-Length: +3",
        "Content-Length: 3, 3",
        "Content-Length: 99999999999999999999999",
        "Content-Length: 3\r\nContent-Length: 3",
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked",
        "X: y",
    ] {
        let mut pipeline = pipeline();
        pipeline.ask(1, piece(small(3), 0));
        pipeline.handle_bytes(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n").as_bytes());
        assert_eq!(answers(&mut pipeline), Err(Violation::Length), "{fields}");
    }
}

#[test]
fn heads_without_end_or_of_another_protocol_are_violations() {
    let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(MAX_HEAD));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(MAX_FIELDS + 1));
    for head in [endless.as_str(), many.as_str(), "SSH-2.0-OpenSSH\r\n", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n"]
    {
        let mut pipeline = pipeline();
        pipeline.ask(1, piece(small(3), 0));
        pipeline.handle_bytes(head.as_bytes());
        assert_eq!(answers(&mut pipeline), Err(Violation::Head), "{}", &head[..20.min(head.len())]);
    }
}

#[test]
fn statuses_that_answer_nothing_interim_ones_and_unasked_bytes_are_violations() {
    for status in [100, 102, 301, 304, 416, 500] {
        let mut pipeline = pipeline();
        pipeline.ask(1, piece(small(3), 0));
        pipeline.handle_bytes(format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n").as_bytes());
        assert_eq!(answers(&mut pipeline), Err(Violation::Status(status)));
    }
    let mut idle = pipeline();
    idle.handle_bytes(b"HTTP/1.1 200 OK\r\n");
    assert_eq!(answers(&mut idle), Err(Violation::Unasked));
    let mut long = pipeline();
    long.ask(1, piece(small(3), 0));
    long.handle_bytes(b"HTTP/1.1 404 x\r\nContent-Length: 5000000000\r\n\r\n");
    assert_eq!(answers(&mut long), Err(Violation::Length));
}

#[test]
fn what_was_not_answered_when_the_connection_went_is_known() {
    let mut pipeline = pipeline();
    for id in 1..=3 {
        pipeline.ask(id, piece(small(3), 0));
    }
    pipeline.handle_bytes(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 O");
    assert_eq!(answers(&mut pipeline).map(|answers| answers.len()), Ok(1));
    assert!(pipeline.is_closing());
    assert_eq!(pipeline.into_unanswered().map(|(id, _)| id).collect::<Vec<_>>(), [2, 3]);
}

fn holds(count: usize) -> Question {
    Question::Holds((0..count as u64).map(|n| ContentHash::of(&n.to_be_bytes())).collect())
}

#[test]
fn which_files_it_holds_is_asked_in_one_request_and_answered_by_bits() {
    let mut pipeline = pipeline();
    pipeline.ask(1, holds(10));
    pipeline.ask(2, piece(small(3), 0));
    let sent = pipeline.poll_transmit().expect("two requests");
    let head = b"POST /~/have HTTP/1.1\r\nHost: 127.1.2.3:9978\r\nContent-Length: 320\r\n\r\n";
    assert!(sent.starts_with(head));
    assert_eq!(sent[head.len()..][32..64], *ContentHash::of(&1_u64.to_be_bytes()).as_bytes());
    assert!(sent[head.len() + 320..].starts_with(b"GET /~/"));
    pipeline.handle_bytes(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\x05\x02HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n",
    );
    let mut bits = vec![false; 10];
    [0, 2, 9].into_iter().for_each(|n: usize| bits[n] = true);
    assert_eq!(answers(&mut pipeline), Ok(vec![(1, Answer::Holds(bits)), (2, Answer::Missing)]));
    for (answer, violation) in [
        ("200 OK\r\nContent-Length: 1\r\n\r\n\x05", Violation::Length),
        ("200 OK\r\nContent-Length: 3\r\n\r\nabc", Violation::Length),
        ("206 OK\r\nContent-Length: 2\r\n\r\nab", Violation::Range),
        ("416 x\r\nContent-Length: 0\r\n\r\n", Violation::Status(416)),
    ] {
        let mut bad = self::pipeline();
        bad.ask(1, holds(10));
        bad.handle_bytes(format!("HTTP/1.1 {answer}").as_bytes());
        assert_eq!(answers(&mut bad), Err(violation), "{answer}");
    }
}

#[test]
fn in_a_private_network_each_question_carries_a_seal_of_its_time() {
    let seal = Seal::new("one").expect("a secret");
    let mut pipeline = pipeline().sealed(Some(seal.clone()));
    let mut sent = |question: Question| {
        pipeline.handle_clock(10_000);
        pipeline.ask(1, question);
        String::from_utf8_lossy(&pipeline.poll_transmit().expect("a request")).into_owned()
    };
    let field = |request: &str| {
        let line = request.lines().find_map(|line| line.strip_prefix("x-huddle-seal: "));
        line.expect("the field").to_owned()
    };
    let file = small(3);
    let get = field(&sent(piece(file, 0).into()));
    assert!(seal.accepts(&get, "GET", &format!("/~/{}", file.hash), b"", 10_000));
    let post = field(&sent(holds(2)));
    let body: Vec<u8> = (0..2_u64).flat_map(|n| *ContentHash::of(&n.to_be_bytes()).as_bytes()).collect();
    assert!(seal.accepts(&post, "POST", "/~/have", &body, 10_000));
}

proptest! {
    #[test]
    fn any_cutting_of_the_bytes_gives_the_same_answers(cuts in prop::collection::vec(1..9usize, 1..30)) {
        let stream = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 429 x\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nvwxyz";
        let mut pipeline = pipeline();
        for (id, size) in [(1, 3), (2, 4), (3, 5)] {
            pipeline.ask(id, piece(small(size), 0));
        }
        let (mut rest, mut cuts, mut got) = (&stream[..], cuts.into_iter().cycle(), Vec::new());
        while !rest.is_empty() {
            let (chunk, tail) = rest.split_at(rest.len().min(cuts.next().expect("a cycle")));
            pipeline.handle_bytes(chunk);
            got.extend(answers(&mut pipeline).expect("a well-formed stream"));
            rest = tail;
        }
        prop_assert_eq!(got, vec![(1, body(b"abc")), (2, Answer::TooMuch), (3, body(b"vwxyz"))]);
    }

    #[test]
    fn no_piece_set_makes_it_panic_and_a_true_one_is_read(set in prop::collection::vec(any::<bool>(), 2..200), digits in "[0-9a-fg]{0,60}") {
        let file = small(set.len() as u64 * PIECE_SIZE);
        let mut have = Pieces::new(set.len());
        set.iter().enumerate().filter(|(_, has)| **has).for_each(|(piece, _)| have.insert(piece));
        let true_digits: String = have.encode().iter().map(|byte| format!("{byte:02x}")).collect();
        let answer = told(file, &format!("X-Huddle-Have: {true_digits}\r\n"), b"");
        prop_assert_eq!(answer, Ok(vec![(1, Answer::Pieces { chain: None, have: Some(have) })]));
        let _ = told(file, &format!("X-Huddle-Have: {digits}\r\n"), b"");
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), prefix in 0..3usize) {
        let mut pipeline = pipeline();
        pipeline.ask(1, piece(small(3), 0));
        pipeline.handle_bytes([&b""[..], b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 206 OK\r\nContent-Length: 3\r\n"][prefix]);
        pipeline.handle_bytes(&bytes);
        let _ = answers(&mut pipeline);
    }
}
