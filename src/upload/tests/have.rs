use crate::{
    hash::PIECE_SIZE,
    seal::{HEADER, Seal},
};

use super::*;

impl Port {
    /// Asks which of these are here.
    fn ask_have(&self, body: &[u8], fields: &str) -> Answer {
        let mut peer = self.connect(1);
        let head = format!("POST /~/have HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}");
        let _refused_early = peer
            .write_all(format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes())
            .and_then(|()| peer.write_all(body));
        let mut bytes = Vec::new();
        peer.read_to_end(&mut bytes).ok();
        Answer::parse(&bytes).0
    }
}

fn hashes(files: &[&[u8]]) -> Vec<u8> {
    files.iter().flat_map(|file| *ContentHash::of(file).as_bytes()).collect()
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_question_tells_which_of_many_files_are_given() {
    let port = port(&Config::default());
    let large = vec![1; PIECE_SIZE as usize + 1];
    port.hold(1, "mirror.example.org/debian", true, &[b"one", b"two", &large]);
    port.hold(1, "private.example.org/debian", false, &[b"secret"]);
    let asked = hashes(&[b"zero", b"one", b"secret", b"3", b"4", b"5", b"6", &large, b"two", b"9"]);
    let answer = port.ask_have(&asked, "");
    assert_eq!((answer.status, &answer.body[..]), (200, &[0b10, 0b1][..]), "the large one has a key of its own");
    assert_eq!(answer.field("content-length"), Some("2"));
    port.hold(2, "mirror.example.org/debian", true, &[b"two"]);
    assert_eq!(port.ask_have(&asked, "").body, [0, 1], "what was replaced is not given");
    let many = [&[b'x'; 255 * 32][..], &hashes(&[b"two"])].concat();
    let answer = port.ask_have(&many, "");
    assert_eq!((answer.status, answer.body.len(), answer.body[31]), (200, 32, 0x80));
    port.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_are_none_are_refused() {
    let port = port(&Config::default());
    assert_eq!(port.ask_have(&[], "").status, 400);
    assert_eq!(port.ask_have(&[0; 33], "").status, 400);
    assert_eq!(port.ask_have(&[0; 257 * 32], "").status, 413);
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        let answer = port.ask(method, "/~/have", "");
        assert_eq!((answer.status, answer.field("allow")), (405, Some("POST")), "{method}");
    }
    assert_eq!(port.ask("POST", &path(b"one"), "Content-Length: 0\r\n").status, 404);
    port.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_much_that_is_not_here_is_told_to_wait() {
    let port = port(&Config::default());
    let asked = [7; 256 * 32];
    let refused = (1..10).map(|nth| (nth, port.ask_have(&asked, ""))).find(|(_, answer)| answer.status != 200);
    let (nth, answer) = refused.expect("not without end");
    assert!(nth > 1 && answer.status == 429 && answer.field("retry-after").is_some(), "{nth}: {answer:?}");
    port.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_private_network_nothing_is_there_for_whoever_does_not_know_the_secret() {
    let seal = Seal::new("one").unwrap();
    let port = port(&Config { seal: Some(seal.clone()), ..Config::default() });
    port.hold(1, "mirror.example.org/debian", true, &[b"one"]);
    let body = hashes(&[b"one"]);
    let sealed = |seal: &Seal, method: &str, path: &str, body: &[u8]| {
        format!("{HEADER}: {}\r\n", seal.write(method, path, body, now()))
    };
    let file = path(b"one");
    let answer = port.ask("GET", &file, &sealed(&seal, "GET", &file, b""));
    assert_eq!((answer.status, &answer.body[..]), (200, &b"one"[..]));
    let answer = port.ask_have(&body, &sealed(&seal, "POST", "/~/have", &body));
    assert_eq!((answer.status, &answer.body[..]), (200, &[1][..]));
    let other = Seal::new("two").unwrap();
    let none = port.ask("GET", &path(b"none"), &sealed(&seal, "GET", &path(b"none"), b""));
    assert_eq!(none.status, 404);
    let strangers = [
        port.ask("GET", &file, ""),
        port.ask("GET", &file, &format!("{HEADER}: 5\r\n")),
        port.ask("GET", &file, &sealed(&other, "GET", &file, b"")),
        port.ask("GET", &file, &sealed(&seal, "GET", &path(b"none"), b"")),
        port.ask("GET", &file, &sealed(&seal, "HEAD", &file, b"")),
        port.ask("GET", &format!("{file}/pieces"), ""),
        port.ask("GET", "/~/have", ""),
        port.ask_have(&body, ""),
        port.ask_have(&body, &sealed(&seal, "POST", "/~/have", b"")),
        port.ask_have(&[0; 257 * 32], ""),
    ];
    strangers.iter().for_each(|answer| assert_eq!(*answer, none));
    port.stop().await;
}
