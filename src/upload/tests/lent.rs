//! What peers may have of a file that is on its way.

use crate::{
    hash::Pieces,
    store::{Lent, Partial},
};

use super::*;

/// Begins a file that a public repository promises, or another.
fn begin(port: &Port, repository: &str, shareable: bool, bytes: &[u8]) -> Partial {
    port.publish(1, repository, shareable, &[bytes]);
    port.store.begin(*verified(bytes).expected()).unwrap()
}

/// Writes a piece and lends it.
fn lend(partial: &Partial, bytes: &[u8], piece: usize, how: Lent) {
    let span = partial.expected().span(piece);
    partial.write_at(span.start, &bytes[span.start as usize..span.end as usize]).unwrap();
    partial.lend(piece, how);
}

fn range(expected: &Expected, pieces: Range<usize>) -> String {
    format!("Range: bytes={}-{}\r\n", expected.span(pieces.start).start, expected.span(pieces.end - 1).end - 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pieces_that_are_there_are_given_and_the_others_are_not_yet() {
    let port = port(&Config::default());
    let big = content(9 * PIECE_SIZE as usize + 4321);
    let partial = begin(&port, PUBLIC, true, &big);
    let expected = *partial.expected();
    assert_eq!(port.ask("GET", &path(&big), &range(&expected, 0..1)).status, 404, "nothing is there yet");
    lend(&partial, &big, 0, Lent::FromMirror);
    lend(&partial, &big, 1, Lent::Proven);
    lend(&partial, &big, 9, Lent::Proven);

    let part = port.ask("GET", &path(&big), &range(&expected, 9..10));
    assert_eq!((part.status, part.field("x-huddle-unproven"), part.field("x-huddle-chain")), (206, None, None));
    let span = expected.span(9);
    let place = format!("bytes {}-{}/{}", span.start, span.end - 1, expected.size);
    assert_eq!(part.field("content-range"), Some(place.as_str()));
    assert_eq!(part.body, big[span.start as usize..]);
    let run = port.ask("GET", &path(&big), &range(&expected, 0..2));
    assert_eq!((run.status, run.field("x-huddle-unproven")), (206, Some("1")));
    assert_eq!(run.body, big[..2 * PIECE_SIZE as usize]);
    let head = port.ask("HEAD", &path(&big), &range(&expected, 0..2));
    assert_eq!((head.status, head.fields), (206, run.fields));

    for pieces in [2..3, 1..3, 8..10] {
        let answer = port.ask("GET", &path(&big), &range(&expected, pieces.clone()));
        assert_eq!((answer.status, answer.body.len()), (416, 0), "{pieces:?}");
        assert_eq!(answer.field("content-range"), Some(format!("bytes */{}", expected.size).as_str()));
    }
    assert_eq!(port.ask("GET", &path(&big), "").status, 404, "it is not there as a whole");
    lend(&partial, &big, 2, Lent::Proven);
    assert_eq!(port.ask("GET", &path(&big), &range(&expected, 1..3)).status, 206);
    partial.unlend(0);
    assert_eq!(port.ask("GET", &path(&big), &range(&expected, 0..1)).status, 416);
    drop(partial);
    assert_eq!(port.ask("GET", &path(&big), &range(&expected, 1..2)).status, 404, "the download was given up");
    port.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_holder_tells_its_pieces_and_its_chain_only_when_that_is_proven() {
    let port = port(&Config::default());
    let big = content(9 * PIECE_SIZE as usize + 4321);
    let partial = begin(&port, PUBLIC, true, &big);
    assert_eq!(port.ask("GET", &(path(&big) + "/pieces"), "").status, 404);
    lend(&partial, &big, 0, Lent::FromMirror);
    lend(&partial, &big, 9, Lent::Proven);
    let told = port.ask("GET", &(path(&big) + "/pieces"), "");
    assert_eq!((told.status, told.field("x-huddle-have"), told.field("x-huddle-chain")), (200, Some("0102"), None));
    assert_eq!(told.body, b"");

    let chain = verified(&big).chain().clone();
    partial.lend_chain(chain.clone());
    let told = port.ask("GET", &(path(&big) + "/pieces"), "");
    assert_eq!(told.field("x-huddle-have"), Some("0102"));
    assert_eq!(told.field("x-huddle-chain"), Some(chain.digest().to_string().as_str()));
    assert_eq!(told.body, chain.encode());
    // For a piece without proof it does not answer with its chain either.
    let field = |piece| {
        let answer = port.ask("GET", &path(&big), &range(verified(&big).expected(), piece..piece + 1));
        (answer.field("x-huddle-chain").is_some(), answer.field("x-huddle-unproven").is_some())
    };
    assert_eq!((field(0), field(9)), ((false, true), (true, false)));

    (0..10).for_each(|piece| lend(&partial, &big, piece, Lent::Proven));
    let told = port.ask("GET", &(path(&big) + "/pieces"), "");
    let all: String = Pieces::full(10).encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(told.field("x-huddle-have"), Some(all.as_str()));
    port.keep(partial, &big, PUBLIC, true);
    let told = port.ask("GET", &(path(&big) + "/pieces"), "");
    assert_eq!((told.field("x-huddle-have"), &told.body), (None, &chain.encode()));
    assert_eq!(port.ask("GET", &path(&big), "").body, big);
    port.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_private_file_nothing_is_given_whatever_is_lent() {
    let port = port(&Config::default());
    let big = content(2 * PIECE_SIZE as usize);
    let partial = begin(&port, "private.example.org/debian", false, &big);
    lend(&partial, &big, 0, Lent::Proven);
    assert_eq!(port.ask("GET", &path(&big), &range(partial.expected(), 0..1)).status, 404);
    assert_eq!(port.ask("GET", &(path(&big) + "/pieces"), "").status, 404);
    port.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_pieces_that_are_not_there_yet_is_not_told_to_wait() {
    let port = port(&Config::default());
    let big = content(2 * PIECE_SIZE as usize);
    let partial = begin(&port, PUBLIC, true, &big);
    lend(&partial, &big, 0, Lent::Proven);
    let mut peer = port.connect(2);
    let question = format!("GET {} HTTP/1.1\r\nHost: x\r\n{}\r\n", path(&big), range(partial.expected(), 1..2));
    // Three times the misses that one address is allowed.
    for _ in 0..200 {
        peer.write_all(question.as_bytes()).unwrap();
        let mut bytes = vec![0; 1024];
        let read = peer.read(&mut bytes).unwrap();
        assert_eq!(Answer::parse(&bytes[..read]).0.status, 416);
    }
    port.stop().await;
}
