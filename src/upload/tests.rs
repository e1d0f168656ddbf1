#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests are peers with sockets of their own")]

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    ops::Range,
    time::UNIX_EPOCH,
};

use tempfile::TempDir;

use crate::{
    archive::{Repository, Vouched},
    hash::{ContentHash, Expected, Hasher, PIECE_SIZE, PieceChain, Verified},
    store,
};

use super::*;

mod have;
mod lent;
mod limits;

/// A public port with a store behind it.
struct Port {
    store: Store,
    address: SocketAddr,
    meter: Meter,
    handle: ServerHandle,
    run: tokio::task::JoinHandle<io::Result<()>>,
    _dir: TempDir,
}

fn port(config: &Config) -> Port {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = Store::open(&store::Config { path, quota: 1 << 30, min_free: 0 }, |_| true).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (handle, run, meter) = start(vec![listener], config, store.clone()).unwrap();
    Port { store, address, meter, handle, run: tokio::spawn(run), _dir: dir }
}

fn verified(bytes: &[u8]) -> Verified {
    let mut hasher = Hasher::new(&Expected { hash: ContentHash::of(bytes), size: bytes.len() as u64 });
    hasher.update(bytes);
    hasher.finish().unwrap()
}

fn vouch(bytes: &[u8], repository: &str, shareable: bool) -> Vouched {
    let path = format!("pool/{}.deb", ContentHash::of(bytes));
    Vouched::restore(*verified(bytes).expected(), Repository::restore(repository), path, shareable)
}

impl Port {
    /// Publishes a Release with these files and keeps them.
    fn hold(&self, day: u64, repository: &str, shareable: bool, files: &[&[u8]]) {
        self.publish(day, repository, shareable, files);
        for bytes in files {
            let partial = self.store.begin(*verified(bytes).expected()).unwrap();
            partial.write_at(0, bytes).unwrap();
            self.keep(partial, bytes, repository, shareable);
        }
    }

    /// Publishes a Release with these files.
    fn publish(&self, day: u64, repository: &str, shareable: bool, files: &[&[u8]]) {
        let date = UNIX_EPOCH + Duration::from_secs(day * 86400);
        let files = files.iter().map(|bytes| vouch(bytes, repository, shareable));
        self.store.record_release(&Repository::restore(repository), "", date, "key", files).unwrap();
    }

    /// Keeps a file that is written.
    fn keep(&self, partial: store::Partial, bytes: &[u8], repository: &str, shareable: bool) {
        self.store.commit(partial, verified(bytes), &vouch(bytes, repository, shareable)).unwrap();
    }

    fn connect(&self, from: u8) -> TcpStream {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, from), 0)).into()).unwrap();
        socket.connect(&self.address.into()).unwrap();
        socket.into()
    }

    fn ask(&self, method: &str, path: &str, fields: &str) -> Answer {
        self.ask_from(1, method, path, fields)
    }

    fn ask_from(&self, from: u8, method: &str, path: &str, fields: &str) -> Answer {
        let mut peer = self.connect(from);
        write!(peer, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n").unwrap();
        let mut bytes = Vec::new();
        peer.read_to_end(&mut bytes).unwrap();
        Answer::parse(&bytes).0
    }

    async fn stop(self) {
        self.handle.stop(true).await;
        self.run.await.unwrap().unwrap();
    }
}

#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    /// The first answer among these bytes, with all that follows its head as its body, and where that begins.
    fn parse(bytes: &[u8]) -> (Self, usize) {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut fields);
        let length = head.parse(bytes).unwrap().unwrap();
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        let mut fields: Vec<_> =
            head.headers.iter().map(|field| (field.name.to_lowercase(), text(field.value))).collect();
        fields.retain(|(name, _)| name != "date");
        fields.sort();
        (Self { status: head.code.unwrap(), fields, body: bytes[length..].to_vec() }, length)
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

fn path(bytes: &[u8]) -> String {
    format!("/~/{}", ContentHash::of(bytes))
}

fn content(length: usize) -> Vec<u8> {
    (0..length as u64).map(|at| (at * at / 7 + at / 512) as u8).collect()
}

const PUBLIC: &str = "mirror.example.org/debian";

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_given_whole_in_part_and_by_its_pieces() {
    let port = port(&Config::default());
    let big = content(2 * PIECE_SIZE as usize + 4321);
    port.hold(1, PUBLIC, true, &[&big, b""]);
    let chain = verified(&big).chain().clone();
    let digest = chain.digest().to_string();

    let whole = port.ask("GET", &path(&big), "");
    assert_eq!((whole.status, whole.field("x-huddle-chain")), (200, Some(digest.as_str())));
    assert_eq!(whole.field("content-length"), Some(big.len().to_string().as_str()));
    assert_eq!(whole.field("server"), None);
    assert_eq!(whole.body, big);

    let range = format!("Range: bytes={}-{}\r\n", PIECE_SIZE - 1, 2 * PIECE_SIZE);
    let part = port.ask("GET", &path(&big), &range);
    assert_eq!((part.status, part.field("x-huddle-chain")), (206, Some(digest.as_str())));
    let place = format!("bytes {}-{}/{}", PIECE_SIZE - 1, 2 * PIECE_SIZE, big.len());
    assert_eq!(part.field("content-range"), Some(place.as_str()));
    assert_eq!(part.body, big[PIECE_SIZE as usize - 1..=2 * PIECE_SIZE as usize]);

    let beyond = port.ask("GET", &path(&big), "Range: bytes=99999999-\r\n");
    assert_eq!((beyond.status, beyond.body.len()), (416, 0));
    assert_eq!(beyond.field("content-range"), Some(format!("bytes */{}", big.len()).as_str()));

    let pieces = port.ask("GET", &(path(&big) + "/pieces"), "");
    assert_eq!((pieces.status, pieces.field("x-huddle-chain")), (200, Some(digest.as_str())));
    assert_eq!(PieceChain::decode(verified(&big).expected(), &pieces.body).unwrap(), chain);

    let head = port.ask("HEAD", &path(&big), "");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.fields, whole.fields);
    let nothing = port.ask("GET", &path(b""), "");
    assert_eq!((nothing.status, nothing.body.len(), nothing.field("content-length")), (200, 0, Some("0")));
    assert_eq!(port.ask("GET", &(path(b"") + "/pieces"), "").body, b"");
    port.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_questions_are_answered_in_order_and_every_byte_is_counted() {
    let port = port(&Config { upload_limit: Some(4_000_000), ..Config::default() });
    let files: Vec<Vec<u8>> = (0..20).map(|number| content(10_000 + number)).collect();
    port.hold(1, PUBLIC, true, &files.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let mut peer = port.connect(1);
    let requests: String = files.iter().map(|file| format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", path(file))).collect();
    peer.write_all(requests.as_bytes()).unwrap();
    peer.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).unwrap();
    let mut rest = bytes.as_slice();
    for file in &files {
        let (answer, head) = Answer::parse(rest);
        assert_eq!(answer.status, 200);
        assert_eq!(&answer.body[..file.len()], file);
        rest = &rest[head + file.len()..];
    }
    assert_eq!(Answer::parse(rest).0.status, 404);
    let snapshot = port.meter.snapshot();
    assert_eq!(snapshot, Snapshot { bytes_up: bytes.len() as u64, requests: 21, active: 0, refused: 0 });
    port.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_given_looks_like_what_is_not_there() {
    let port = port(&Config::default());
    let (current, old, secret) = (content(100), content(101), content(102));
    port.hold(1, PUBLIC, true, &[&old]);
    port.hold(2, PUBLIC, true, &[&current]);
    port.hold(1, "private.example.org/debian", false, &[&secret]);
    assert_eq!(port.ask("GET", &path(&current), "").status, 200);
    assert!(port.store.open_object(ContentHash::of(&old)).unwrap().is_some());
    assert!(port.store.open_object(ContentHash::of(&secret)).unwrap().is_some());
    let missing = port.ask("GET", &path(b"never seen"), "");
    assert_eq!((missing.status, missing.body.len()), (404, 0));
    for (method, path) in [
        ("GET", path(&old)),
        ("GET", path(&secret)),
        ("GET", path(&secret) + "/pieces"),
        ("GET", "/".to_owned()),
        ("GET", "/~/".to_owned()),
        ("POST", path(&current)),
        ("GET", path(&current) + "/list"),
    ] {
        assert_eq!(port.ask(method, &path, ""), missing, "{method} {path}");
    }
    assert_eq!(port.ask("HEAD", &path(&old), "").status, 404);
    port.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_misses_too_much_waits_and_nobody_else_does() {
    let port = port(&Config::default());
    let file = content(100);
    port.hold(1, PUBLIC, true, &[&file]);
    let ask = |from: u8, path: &str| {
        let mut peer = port.connect(from);
        write!(peer, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut bytes = Vec::new();
        peer.read_to_end(&mut bytes).unwrap();
        Answer::parse(&bytes).0
    };
    // Misses are paid off at two a second; a machine on which 200 of them take over a minute would not notice.
    let refused = (0..200).map(|_| ask(2, &path(b"?"))).find(|answer| answer.status == 429).unwrap();
    assert!(refused.field("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(port.meter.snapshot().refused, 1);
    assert_eq!(ask(3, &path(&file)).body, file);
    port.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_places_are_taken_the_next_peer_is_told_so() {
    let port = port(&Config { upload_limit: Some(4096), uploads: 2, uploads_per_address: 1, ..Config::default() });
    let file = content(1 << 20);
    port.hold(1, PUBLIC, true, &[&file]);
    let begin = |from: u8| {
        let mut peer = port.connect(from);
        write!(peer, "GET {} HTTP/1.1\r\nHost: x\r\n\r\n", path(&file)).unwrap();
        let mut bytes = [0; 12];
        peer.read_exact(&mut bytes).unwrap();
        (peer, String::from_utf8(bytes.to_vec()).unwrap())
    };
    let (first, status) = begin(1);
    assert_eq!(status, "HTTP/1.1 200");
    // The same address has its share, another has not, for a third there is none.
    let busy = port.ask("GET", &path(&file), "");
    assert_eq!((busy.status, busy.field("retry-after")), (503, Some("2")));
    let (_second, status) = begin(2);
    assert_eq!(status, "HTTP/1.1 200");
    assert_eq!(port.meter.snapshot().active, 2);
    assert_eq!(begin(3).1, "HTTP/1.1 503");
    drop(first);
    // The place is free as soon as the server has noticed.
    while port.ask("HEAD", &path(&file), "").status != 200 {}
    assert_eq!(port.meter.snapshot().active, 1);
    port.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_cannot_take_every_connection() {
    let port = port(&Config { connections_per_address: 2, ..Config::default() });
    let file = content(100);
    port.hold(1, PUBLIC, true, &[&file]);
    let status = |peer: &mut TcpStream| {
        let _ = write!(peer, "HEAD {} HTTP/1.1\r\nHost: x\r\n\r\n", path(&file));
        let mut bytes = [0; 4096];
        match peer.read(&mut bytes) {
            Ok(0) | Err(_) => None,
            Ok(read) => Some(Answer::parse(&bytes[..read]).0.status),
        }
    };
    let mut held: Vec<TcpStream> = (0..2).map(|_| port.connect(2)).collect();
    assert!(held.iter_mut().all(|peer| status(peer) == Some(200)));
    assert_eq!(status(&mut port.connect(2)), None);
    assert_eq!(status(&mut port.connect(3)), Some(200));
    assert!(held.iter_mut().all(|peer| status(peer) == Some(200)));
    assert_eq!(port.meter.snapshot().refused, 1);
    port.stop().await;
}
