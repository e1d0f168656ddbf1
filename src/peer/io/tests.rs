use tokio::{net::TcpListener, time::sleep};

use super::*;
use crate::{
    hash::{ContentHash, Expected},
    peer::Ask,
};

fn file(size: u64) -> Expected {
    Expected { hash: ContentHash::of(&size.to_be_bytes()), size }
}

/// Reads heads until that many were seen.
async fn heads(stream: &mut TcpStream, count: usize) -> String {
    let mut all = Vec::new();
    while String::from_utf8_lossy(&all).matches("\r\n\r\n").count() < count {
        assert!(stream.read_buf(&mut all).await.expect("a request") > 0);
    }
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn asks_of_several_files_share_one_connection_and_one_round_trip() {
    let listener = TcpListener::bind("127.9.1.1:0").await.expect("loopback");
    let peer = listener.local_addr().expect("bound");
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a peer");
        let first = heads(&mut stream, 1).await;
        let all = if first.matches("\r\n\r\n").count() < 3 { first + &heads(&mut stream, 2).await } else { first };
        assert_eq!(all.matches("GET /~/").count(), 3);
        stream
            .write_all(
                &[
                    &b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n"[..],
                    &[b'b'; 20_000],
                    b"HTTP/1.1 404 no\r\nContent-Length: 0\r\n\r\n",
                ]
                .concat(),
            )
            .await
            .expect("sent");
        stream
    });
    let pool = Pool::new(Some("127.9.1.2".parse().expect("an address")));
    let ask = |size| pool.ask(peer, Ask::Piece { file: file(size), index: 0 });
    let (a, b, c) = tokio::join!(ask(1), ask(20_000), ask(3));
    assert!(matches!(a, Ok(Answer::Body { bytes, .. }) if &bytes[..] == b"a"));
    assert!(matches!(b, Ok(Answer::Body { bytes, .. }) if bytes.len() == 20_000));
    assert_eq!(c, Ok(Answer::Missing));
    let stream = server.await.expect("the server's asserts hold");
    assert_eq!(stream.peer_addr().expect("connected").ip().to_string(), "127.9.1.2");
    assert_eq!((pool.rate(peer), pool.quickest()), (None, None), "so little says nothing");
}

#[tokio::test]
async fn a_peer_that_closes_early_fails_its_asks_and_is_left_alone_for_a_while() {
    let listener = TcpListener::bind("127.9.2.1:0").await.expect("loopback");
    let peer = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a peer");
        heads(&mut stream, 1).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").await.expect("sent");
    });
    let pool = Pool::new(None);
    assert_eq!(pool.ask(peer, Ask::Piece { file: file(9), index: 0 }).await, Err(Failure::Lost));
    assert_eq!(pool.ask(peer, Ask::Piece { file: file(9), index: 0 }).await, Err(Failure::Unwelcome));
}

#[tokio::test]
async fn a_kept_connection_that_the_peer_closed_is_opened_anew() {
    let listener = TcpListener::bind("127.9.4.1:0").await.expect("loopback");
    let peer = listener.local_addr().expect("bound");
    let server = tokio::spawn(async move {
        for _connection in 0..2 {
            let (mut stream, _) = listener.accept().await.expect("a peer");
            heads(&mut stream, 1).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na").await.expect("sent");
            // The second ask arrives here, and is never read.
            stream.readable().await.expect("one more ask, or the end");
        }
    });
    let pool = Pool::new(None);
    for _ask in 0..2 {
        let answer = pool.ask(peer, Ask::Piece { file: file(1), index: 0 }).await;
        assert!(matches!(answer, Ok(Answer::Body { .. })), "{answer:?}");
    }
    drop(pool);
    server.abort();
}

#[tokio::test]
async fn a_peer_that_closes_after_each_answer_is_asked_on_a_connection_each_and_not_shunned() {
    let listener = TcpListener::bind("127.9.5.1:0").await.expect("loopback");
    let peer = listener.local_addr().expect("bound");
    let server = tokio::spawn(async move {
        for connection in 0..5 {
            let (mut stream, _) = listener.accept().await.expect("a peer");
            let asked = heads(&mut stream, 1).await;
            // Once it is known that it closes, nothing is asked ahead.
            assert!(connection == 0 || asked.matches("GET /~/").count() == 1, "{asked}");
            let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na";
            stream.write_all(answer).await.expect("sent");
            // What was asked ahead is read, so that the end of the connection is an end in good order.
            stream.shutdown().await.expect("closed");
            while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
        }
    });
    let pool = Pool::new(None);
    let ask = || pool.ask(peer, Ask::Piece { file: file(1), index: 0 });
    let (a, b, c, d, e) = tokio::join!(ask(), ask(), ask(), ask(), ask());
    for answer in [a, b, c, d, e] {
        assert!(matches!(answer, Ok(Answer::Body { .. })), "{answer:?}");
    }
    assert!(pool.is_welcome(peer));
    server.await.expect("the server's asserts hold");
}

#[tokio::test]
async fn a_peer_that_accepts_and_closes_is_dialled_once() {
    let listener = TcpListener::bind("127.9.6.1:0").await.expect("loopback");
    let peer = listener.local_addr().expect("bound");
    let pool = Pool::new(None);
    let server = async {
        let (mut stream, _) = listener.accept().await.expect("a peer");
        heads(&mut stream, 1).await;
        drop(stream);
        listener.accept().await.expect("one more")
    };
    tokio::select! {
        answer = pool.ask(peer, Ask::Piece { file: file(1), index: 0 }) => assert_eq!(answer, Err(Failure::Lost)),
        _ = server => panic!("dialled again"),
    }
}

#[tokio::test]
async fn a_convicted_peer_is_not_asked_again() {
    let pool = Pool::new(None);
    let peer = "127.9.3.1:9".parse().expect("an address");
    pool.convict(peer, "a test");
    assert_eq!(pool.ask(peer, Ask::Chain { file: file(9) }).await, Err(Failure::Unwelcome));
    assert!(pool.snapshot().peers.iter().any(|met| met.address == peer && met.is_banned));
}

#[tokio::test]
async fn the_connection_of_a_convicted_peer_ends_and_what_it_owes_is_asked_elsewhere_at_once() {
    let listener = TcpListener::bind("127.9.7.1:0").await.expect("loopback");
    let peer = listener.local_addr().expect("bound");
    let pool = Pool::new(None);
    let server = async {
        let (mut stream, _) = listener.accept().await.expect("a peer");
        heads(&mut stream, 2).await;
        // One answer half sent, the other not begun.
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").await.expect("sent");
        pool.convict(peer, "a test");
        let mut rest = Vec::new();
        assert_eq!(stream.read_to_end(&mut rest).await.unwrap_or_default(), 0, "nothing more is asked");
    };
    let ask = || pool.ask(peer, Ask::Piece { file: file(9), index: 0 });
    let (first, second, ()) = tokio::join!(ask(), ask(), server);
    assert_eq!((first, second), (Err(Failure::Unwelcome), Err(Failure::Unwelcome)));
    assert_eq!(pool.snapshot().connections, 0);
}

#[tokio::test]
async fn the_connection_of_a_peer_that_trickles_ends_with_the_last_who_waits() {
    let listener = TcpListener::bind("127.9.8.1:0").await.expect("loopback");
    let peer = listener.local_addr().expect("bound");
    let pool = Pool::new(None);
    let (mut stream, _) = tokio::select! {
        _answer = pool.ask(peer, Ask::Piece { file: file(9), index: 0 }) => panic!("nothing was sent"),
        stream = async {
            let (mut stream, from) = listener.accept().await.expect("a peer");
            heads(&mut stream, 1).await;
            (stream, from)
        } => stream,
    };
    // Nobody waits for the answer now, and nobody can ask again.
    pool.shared.lock().connections.clear();
    stream.write_all(b"HTTP").await.expect("sent");
    let ended = timeout(Duration::from_secs(5), stream.read(&mut [0; 16])).await.expect("it ends");
    assert!(!ended.is_ok_and(|read| read > 0));
}

#[tokio::test]
async fn a_rate_leaves_out_the_way_there_and_back_and_small_answers_have_none() {
    const WAY: Duration = Duration::from_millis(80);
    const SENDING: Duration = Duration::from_millis(60);
    let listener = TcpListener::bind("127.9.9.1:0").await.expect("loopback");
    let peer = listener.local_addr().expect("bound");
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a peer");
        heads(&mut stream, 1).await;
        sleep(WAY).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\x01").await.expect("sent");
        heads(&mut stream, 1).await;
        sleep(WAY).await;
        let begun = Instant::now();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {PIECE_SIZE}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("sent");
        for part in vec![b'b'; PIECE_SIZE as usize].chunks(PIECE_SIZE as usize / 4) {
            sleep(SENDING / 4).await;
            stream.write_all(part).await.expect("sent");
        }
        (stream, begun)
    });
    let pool = Pool::new(None);
    let held = pool.holds(peer, [ContentHash::of(b"a file")].into()).await;
    assert_eq!(held, Ok(vec![true]));
    assert_eq!((pool.rate(peer), pool.quickest()), (None, None), "one byte in a long time");
    assert!(pool.round_trip(peer).is_some_and(|took| took >= WAY));
    let piece = pool.ask(peer, Ask::Piece { file: file(PIECE_SIZE), index: 0 }).await;
    let (_stream, begun) = server.await.expect("the server's asserts hold");
    let least = PIECE_SIZE as f64 / 2.0 / begun.elapsed().as_secs_f64();
    assert!(piece.is_ok());
    let rate = pool.rate(peer).expect("a whole piece came");
    assert!(rate >= least, "{rate} bytes a second of at least {least}");
    assert_eq!(pool.quickest(), Some(rate));
}
