#![expect(clippy::disallowed_methods, reason = "tests run the task, and wait for what it does")]

use std::{
    io::{Read, Write},
    net::SocketAddr,
    path::Path,
    time::UNIX_EPOCH,
};

use crate::{
    archive::{Repository, Shareable, SuiteName, Vouched},
    dht::{self, Found, Shelf, Terms},
    hash::{Expected, Hasher, PIECE_SIZE, Verified},
    store::{self, Lent, Partial},
};

use super::*;

async fn node(host: u8, bootstrap: &[SocketAddr], dir: &Path) -> Dht {
    let bootstrap = bootstrap.iter().map(SocketAddr::to_string).collect();
    let config = dht::Config { bootstrap, ..dht::Config::default() };
    let listen = [SocketAddr::from(([127, 0, 81, host], 0))];
    Dht::start(&config, &listen, dir.join(format!("state/{host}")), u64::from(host)).await.unwrap()
}

/// A node that others find able to be connected to, and where: something answers there as a peer's port does.
async fn open_node(host: u8, bootstrap: &[SocketAddr], dir: &Path) -> (Dht, SocketAddr) {
    let listener = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 81, host], 0))).unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n");
        }
    });
    let dht = node(host, bootstrap, dir).await;
    dht.serve(addr.port()).await;
    (dht, addr)
}

fn verified(bytes: &[u8]) -> Verified {
    let expected = Expected { hash: ContentHash::of(bytes), size: bytes.len() as u64 };
    let mut hasher = Hasher::new(&expected);
    hasher.update(bytes);
    hasher.finish().unwrap()
}

fn vouched(bytes: &[u8]) -> Vouched {
    let path = format!("pool/{}.deb", ContentHash::of(bytes));
    let repository = Repository::restore("mirror.example.org/debian");
    Vouched::restore(*verified(bytes).expected(), repository, path, true)
}

/// Begins a file and lends its first piece.
fn lend(store: &Store, bytes: &[u8]) -> Partial {
    let partial = store.begin(*verified(bytes).expected()).unwrap();
    partial.write_at(0, bytes).unwrap();
    partial.lend(0, Lent::FromMirror);
    partial
}

/// What one search finds: of a file of one piece, who has something of its shelf.
async fn search(dht: &Dht, file: Shareable) -> Vec<Found> {
    let mut search = match dht::is_shelved(file.expected()) {
        true => dht.look_at(Shelf::of(SuiteName::default(), &file.hash())),
        false => dht.lookup(file, Terms::default()),
    };
    let mut found = Vec::new();
    while let Some(one) = search.recv().await {
        found.push(one);
    }
    found
}

/// Searches until all of this is found.
async fn until(dht: &Dht, file: Shareable, wanted: &[Found]) {
    let all = async {
        let mut found = search(dht, file).await;
        while !wanted.iter().all(|one| found.contains(one)) {
            sleep(Duration::from_millis(20)).await;
            found = search(dht, file).await;
        }
        assert_eq!(found.len(), wanted.len(), "{found:?}");
    };
    // What was found is remembered for half of that.
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("in time");
}

#[tokio::test]
async fn a_big_file_is_told_of_with_its_first_piece_and_again_with_its_chain_a_small_one_when_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let config = store::Config { path: dir.path().join("store"), quota: 1 << 30, min_free: 0 };
    let store = Store::open(&config, |_| true).unwrap();
    let big = vec![7; UNFINISHED_FROM * PIECE_SIZE as usize];
    let small = &big[PIECE_SIZE as usize..];
    let date = UNIX_EPOCH + Duration::from_secs(86400);
    let files = [&big, small].map(vouched);
    store.record_release(files[0].repository(), "", date, "key", files.clone()).unwrap();
    let [file, small_file] = files.each_ref().map(|file| file.shareable().unwrap());

    let other = node(1, &[], dir.path()).await;
    let (own, addr) = open_node(2, other.local_addrs(), dir.path()).await;
    let announcer = tokio::spawn(Announcer::new(own, store.clone(), addr.port()).run());
    let holder = Found::Holder(addr);
    let (small_partial, partial) = (lend(&store, small), lend(&store, &big));
    until(&other, file, std::slice::from_ref(&holder)).await;
    assert_eq!(search(&other, small_file).await, []);

    store.commit(partial, verified(&big), &files[0]).unwrap();
    until(&other, file, &[holder.clone(), Found::Chain(verified(&big).chain().clone())]).await;
    store.commit(small_partial, verified(small), &files[1]).unwrap();
    until(&other, small_file, &[holder, Found::Chain(verified(small).chain().clone())]).await;
    announcer.abort();
}

#[tokio::test]
async fn superseded_versions_are_neither_announced_nor_answered_for() {
    let dir = tempfile::tempdir().unwrap();
    let config = store::Config { path: dir.path().join("store"), quota: 1 << 30, min_free: 0 };
    let store = Store::open(&config, |_| true).unwrap();
    let [old, new] = [b"version 1", b"version 2"].map(|bytes| (bytes, vouched(bytes)));
    let record = |days: u64, file: &Vouched| {
        let date = UNIX_EPOCH + Duration::from_secs(86400 * days);
        store.record_release(file.repository(), "", date, "key", [file.clone()]).unwrap();
    };
    let keep = |(bytes, file): &(&[u8; 9], Vouched)| {
        let partial = store.begin(*file.expected()).unwrap();
        partial.write_at(0, *bytes).unwrap();
        store.commit(partial, verified(*bytes), file).unwrap();
    };
    record(1, &old.1);
    keep(&old);
    let other = node(3, &[], dir.path()).await;
    let (own, addr) = open_node(4, other.local_addrs(), dir.path()).await;
    let holder = Found::Holder(addr);
    let [old_file, new_file] = [&old, &new].map(|(_, file)| file.shareable().unwrap());
    {
        // While it is current it is told of.
        let announcer = tokio::spawn(Announcer::new(own.clone(), store.clone(), addr.port()).run());
        until(&other, old_file, std::slice::from_ref(&holder)).await;
        announcer.abort();
    }
    let third = node(5, &[], dir.path()).await;
    let (fresh, fresh_addr) = open_node(7, third.local_addrs(), dir.path()).await;
    record(2, &new.1);
    keep(&new);
    let old_hash = old_file.expected().hash;
    let shelf = |file: Shareable| Shelf::of(SuiteName::default(), &file.hash());
    assert_ne!(shelf(old_file), shelf(new_file), "they are told of apart");
    assert!(store.open_object(old_hash).unwrap().is_some(), "it is still held");
    assert!(store.offer(old_hash).unwrap().is_none(), "strangers get none of it");
    let due = Topic::File(old_hash);
    let told = tell(fresh.clone(), store.clone(), fresh_addr.port(), vec![due]).await;
    assert_eq!(told, [(due, Told::Nothing)], "not even when it was due already");
    let announcer = tokio::spawn(Announcer::new(fresh, store.clone(), fresh_addr.port()).run());
    until(&third, new_file, &[Found::Holder(fresh_addr)]).await;
    assert_eq!(search(&third, old_file).await, []);
    announcer.abort();
}
