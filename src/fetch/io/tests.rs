//! Flights over real sockets: what the driver does beside the machines that the simulations run.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests are peers and mirrors with sockets")]

use std::{net::SocketAddr, time::Duration};

use futures_util::{StreamExt, stream};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::timeout,
};

use crate::{
    archive::{Location, Repository, Vouched},
    fetch::{
        Claim, Config, Fetcher, Growing, Holder, Lead, MirrorUse, Origin,
        tests::{
            files::File,
            server::{self, Manner},
        },
    },
    mirror::{Mirror, guard::Reach, upstream::Upstream},
    peer::Pool,
    store::{self, Store},
};

/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A fetcher with a store of its own.
struct Scene {
    dir: TempDir,
    store: Store,
    pool: Pool,
    fetcher: Fetcher,
}

impl Scene {
    fn set(mirror: MirrorUse) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = store::Config { path: dir.path().join("store"), quota: 1 << 30, min_free: 0 };
        let (store, pool) = (Store::open(&config, |_| true).unwrap(), Pool::new(None));
        let mirrors = Mirror::new(Upstream::default()).unwrap();
        let fetcher = Fetcher::new(Config { mirror }, pool.clone(), mirrors, store.clone());
        Self { dir, store, pool, fetcher }
    }

    fn start(&self, file: &File, origin: Option<SocketAddr>, holders: &[SocketAddr]) -> Growing {
        let Claim::Lead(lead) = self.fetcher.claim(&vouched(file)) else { panic!("nobody else asks") };
        self.lead(lead, origin, holders)
    }

    fn lead(&self, lead: Lead, origin: Option<SocketAddr>, holders: &[SocketAddr]) -> Growing {
        let origin = origin.map(|origin| {
            let location = Location::parse(&format!("http://{origin}/pool/a.deb")).unwrap();
            Origin::new(location, [], |_| Reach::Named)
        });
        let holders: Vec<_> = holders.iter().map(|holder| Holder::Peer(*holder)).collect();
        self.fetcher.start(lead, origin, stream::iter(holders).boxed())
    }
}

fn vouched(file: &File) -> Vouched {
    let repository = Repository::restore("mirror.example.org/debian");
    Vouched::restore(file.expected, repository, "pool/a.deb".to_owned(), true)
}

/// Reads a download to its end.
async fn take(mut growing: Growing) -> Result<Vec<u8>, String> {
    let (size, mut bytes) = (growing.expected().size, Vec::new());
    while (bytes.len() as u64) < size {
        let read = timeout(PATIENCE, growing.read(bytes.len() as u64, size)).await.expect("no end");
        bytes.extend_from_slice(&read.map_err(|cut| cut.to_string())?);
    }
    Ok(bytes)
}

/// A peer of that manner, for all who connect.
async fn peer(file: &File, manner: Manner) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let file = file.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(answer(socket, file.clone(), manner));
        }
    });
    address
}

async fn answer(mut socket: TcpStream, file: File, manner: Manner) {
    let mut asked = Vec::new();
    while socket.read_buf(&mut asked).await.is_ok_and(|read| read > 0) {
        let whole = asked.windows(4).rposition(|end| end == b"\r\n\r\n").map_or(0, |at| at + 4);
        let heads: Vec<u8> = asked.drain(..whole).collect();
        for ask in server::requests(&heads) {
            let Some((parts, after)) = server::answer(&file, manner, ask) else { continue };
            for part in parts {
                if socket.write_all(&part).await.is_err() {
                    return;
                }
            }
            if after == server::After::Closes {
                return;
            }
        }
    }
}

/// A mirror that sends the file's first bytes, and the others when it is told to.
async fn mirror(file: &File, first: usize) -> (SocketAddr, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (go_on, told) = oneshot::channel();
    let bytes = file.bytes.clone();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            assert!(socket.read_buf(&mut asked).await.unwrap() > 0);
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len());
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&bytes[..first]).await.unwrap();
        if told.await.is_ok() {
            socket.write_all(&bytes[first..]).await.unwrap();
        }
        // Until the other side has all and closes.
        let _ = socket.read_buf(&mut asked).await;
    });
    (address, go_on)
}

/// Ports at which nobody listens.
fn dead(count: usize) -> Vec<SocketAddr> {
    let held: Vec<_> = (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap()).collect()
}

#[tokio::test]
async fn who_waits_for_room_gets_it_when_others_have_failed() {
    let scene = Scene::set(MirrorUse::Sparing);
    let file = File::new(1, 3);
    let mut holders = dead(crate::fetch::plan::MAX_PEERS + 5);
    holders.push(peer(&file, Manner::Honest).await);
    let growing = scene.start(&file, None, &holders);
    assert!(take(growing).await.unwrap() == file.bytes);
}

#[tokio::test]
async fn a_liar_is_named_and_what_it_sent_is_told_from_what_the_others_sent() {
    let scene = Scene::set(MirrorUse::Sparing);
    let file = File::new(2, 4);
    let liar = peer(&file, Manner::LiesConsistently(1)).await;
    let holders = [liar, peer(&file, Manner::Honest).await];
    assert!(take(scene.start(&file, None, &holders)).await.unwrap() == file.bytes);
    assert!(!scene.pool.is_welcome(liar) && scene.pool.is_welcome(holders[1]));
    let snapshot = scene.fetcher.snapshot();
    assert_eq!((snapshot.convicted, snapshot.from_peers), (1, file.expected.size));
}

#[tokio::test]
async fn a_download_with_liars_alone_ends_in_an_error() {
    let scene = Scene::set(MirrorUse::Sparing);
    let file = File::new(3, 2);
    let liar = Manner::LiesConsistently(1);
    let holders = [peer(&file, liar).await, peer(&file, liar).await];
    assert!(take(scene.start(&file, None, &holders)).await.is_err());
    assert_eq!(scene.fetcher.snapshot().convicted, 2);
}

#[tokio::test]
async fn bytes_that_cannot_be_marked_stay_here_until_all_are_proven() {
    for can_mark in [true, false] {
        let scene = Scene::set(MirrorUse::Sparing);
        let file = File::sized(4, 400_000);
        if !can_mark {
            std::fs::remove_dir(scene.dir.path().join("store/released")).unwrap();
        }
        let (mirror, go_on) = mirror(&file, 300_000).await;
        let growing = scene.start(&file, Some(mirror), &[]);
        let here = async {
            while scene.fetcher.snapshot().from_mirror < 300_000 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, here).await.expect("the mirror sends");
        // What came is released in the same breath as it is counted, or not at all.
        let is_out = timeout(Duration::ZERO, growing.clone().begun()).await.is_ok();
        assert_eq!(is_out, can_mark);
        assert_eq!(scene.store.is_marked(file.expected.hash), can_mark);
        go_on.send(()).unwrap();
        assert!(take(growing).await.unwrap() == file.bytes);
    }
}

#[tokio::test]
async fn what_broke_off_stays_in_doubt_whoever_else_passed_the_file_on_rightly_meanwhile() {
    let scene = Scene::set(MirrorUse::Sparing);
    let file = File::sized(5, 400_000);
    let hash = file.expected.hash;
    let beside = scene.fetcher.out(hash);
    let (origin, go_on) = mirror(&file, 300_000).await;
    let growing = scene.start(&file, Some(origin), &[]);
    timeout(PATIENCE, growing.clone().begun()).await.expect("the mirror sends").expect("it is here");
    assert!(!scene.fetcher.may_resume(&growing), "others have bytes that nobody has proven");
    beside.settle(true);
    assert!(scene.fetcher.is_doubtful(hash) && scene.store.is_marked(hash), "this one's bytes are out");
    drop(go_on);
    assert!(take(growing).await.is_err());
    assert!(scene.fetcher.is_doubtful(hash) && scene.store.is_marked(hash));
    let (origin, go_on) = mirror(&file, 300_000).await;
    let growing = loop {
        // The first one is over when its place is free.
        match scene.fetcher.claim(&vouched(&file)) {
            Claim::Lead(lead) => break scene.lead(lead, Some(origin), &[]),
            _ => tokio::task::yield_now().await,
        }
    };
    timeout(PATIENCE, growing.clone().begun()).await.expect("the mirror sends").expect("it is here");
    assert!(!scene.fetcher.may_resume(&growing), "somebody may hold a wrong beginning");
    go_on.send(()).unwrap();
    assert!(take(growing).await.unwrap() == file.bytes);
}

#[tokio::test]
async fn who_has_the_beginning_of_a_download_that_nobody_else_gives_may_have_the_rest() {
    let scene = Scene::set(MirrorUse::Sparing);
    let file = File::sized(6, 400_000);
    let (origin, go_on) = mirror(&file, 300_000).await;
    let mut growing = scene.start(&file, Some(origin), &[]);
    timeout(PATIENCE, growing.begun()).await.expect("the mirror sends").expect("it is here");
    assert!(scene.fetcher.may_resume(&growing));
    drop(scene.fetcher.out(file.expected.hash));
    assert!(!scene.fetcher.may_resume(&growing), "another answer broke off");
    go_on.send(()).unwrap();
    timeout(PATIENCE, growing.kept()).await.expect("no end").unwrap();
    assert!(scene.fetcher.is_doubtful(file.expected.hash));
}
