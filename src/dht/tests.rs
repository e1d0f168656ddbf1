use std::time::Duration;

use crate::{
    archive::SuiteName,
    hash::{ContentHash, PIECE_SIZE, PieceChain},
};

use super::*;

fn config(bootstrap: &[SocketAddr]) -> Config {
    Config { bootstrap: bootstrap.iter().map(SocketAddr::to_string).collect(), ..Config::default() }
}

fn file(pieces: usize) -> (Expected, PieceChain) {
    let hash = ContentHash::of(&pieces.to_be_bytes());
    let expected = Expected { hash, size: PIECE_SIZE * pieces as u64 };
    let states: Vec<u8> = (0..PieceChain::encoded_len(&expected)).map(|n| (n * 7 + pieces) as u8).collect();
    (expected, PieceChain::decode(&expected, &states).unwrap())
}

fn shelf() -> Shelf {
    Shelf::of(SuiteName::of(Some("Debian"), Some("sid")), &ContentHash::of(b"small"))
}

async fn start(host: u8, bootstrap: &[SocketAddr], dir: &std::path::Path) -> Dht {
    let listen = [SocketAddr::from(([127, 0, 80, host], 0))];
    let state = dir.join(format!("state/{host}"));
    Dht::start(&config(bootstrap), &listen, state, 1000 + u64::from(host)).await.unwrap()
}

/// Waits until a node knows so many others.
async fn known(dht: &Dht, nodes: usize) {
    let mut snapshot = dht.snapshot.clone();
    let known = snapshot.wait_for(|snapshot| snapshot.nodes_v4 >= nodes);
    tokio::time::timeout(Duration::from_secs(20), known).await.expect("in time").unwrap();
}

async fn all(mut found: mpsc::Receiver<Found>) -> (Vec<SocketAddr>, Vec<PieceChain>) {
    let (mut holders, mut chains) = (Vec::new(), Vec::new());
    while let Some(found) = found.recv().await {
        match found {
            Found::Holder(holder) => holders.push(holder),
            Found::Chain(chain) => chains.push(chain),
        }
    }
    (holders, chains)
}

#[tokio::test]
async fn daemons_on_addresses_of_their_own_find_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(1, &[], dir.path()).await;
    let entry = first.local_addrs().to_vec();
    let mut nodes = vec![first];
    for host in 2..=12 {
        nodes.push(start(host, &entry, dir.path()).await);
    }
    for node in &nodes {
        known(node, 8).await;
    }
    for pieces in [1, 4, 69, 70] {
        let (expected, chain) = file(pieces);
        assert!(nodes[3].tell(vec![Record::File(expected, chain.clone())], 4000).await[0] >= 7, "{pieces} pieces");
        let (holders, chains) = all(nodes[8].find(expected, Terms::default())).await;
        assert_eq!(holders, [SocketAddr::from(([127, 0, 80, 4], 4000))], "{pieces} pieces");
        assert_eq!(chains, if (2..=69).contains(&pieces) { vec![chain] } else { Vec::new() }, "{pieces} pieces");
    }
    assert!(nodes[3].tell(vec![Record::Shelf(shelf())], 4000).await[0] >= 7);
    assert_eq!(all(nodes[8].look_at(shelf())).await, (vec![SocketAddr::from(([127, 0, 80, 4], 4000))], vec![]));
    let mut snapshot = nodes[8].snapshot.clone();
    snapshot.wait_for(|snapshot| snapshot.lookup_p95_ms.is_some()).await.unwrap();
    assert_eq!(nodes[8].snapshot().external, [nodes[8].local_addrs()[0]]);
    assert_eq!(all(nodes[8].find(file(7).0, Terms::default())).await, (vec![], vec![]));
}

#[tokio::test]
async fn a_node_comes_back_as_itself() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(21, &[], dir.path()).await;
    let second = start(22, first.local_addrs(), dir.path()).await;
    known(&second, 1).await;
    let saved = || async { io::load(&dir.path().join("state/22")).await.unwrap() };
    second.shutdown().await;
    let before = saved().await;
    assert_eq!(before.contacts.len(), 1);
    assert_eq!(all(second.find(file(1).0, Terms::default())).await, (vec![], vec![]));
    assert_eq!(second.tell(vec![Record::Shelf(shelf())], 1).await, [0]);
    let again = start(22, &[], dir.path()).await;
    known(&again, 1).await;
    again.shutdown().await;
    assert_eq!(saved().await.id, before.id);
}

#[tokio::test]
async fn a_restarted_node_is_back_within_a_second_and_tells_whom_it_told_before() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(101, &[], dir.path()).await;
    let entry = first.local_addrs().to_vec();
    let mut nodes = vec![first];
    for host in 102..=124 {
        nodes.push(start(host, &entry, dir.path()).await);
    }
    for node in &nodes {
        known(node, 8).await;
    }
    let files: Vec<_> = (1..=3).map(file).collect();
    let records = || files.iter().map(|(file, chain)| Record::File(*file, chain.clone())).collect();
    nodes[5].tell(records(), 4000).await;
    nodes[5].shutdown().await;
    let reborn = start(106, &[], dir.path()).await;
    let mut figures = reborn.snapshot.clone();
    let back = figures.wait_for(|figures| figures.nodes_v4 >= 8);
    tokio::time::timeout(Duration::from_secs(1), back).await.expect("within a second").unwrap();
    figures.wait_for(|figures| figures.nodes_v4 >= 20).await.unwrap();
    assert!(reborn.tell(records(), 4000).await.iter().all(|stored| *stored >= 7));
    let (holders, _) = all(nodes[9].find(files[0].0, Terms::default())).await;
    assert!(holders.iter().any(|holder| holder.ip() == reborn.local_addrs()[0].ip()));
}

#[tokio::test]
async fn a_search_that_nobody_listens_to_ends() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(25, &[], dir.path()).await;
    let second = start(26, first.local_addrs(), dir.path()).await;
    known(&second, 1).await;
    first.shutdown().await;
    let mut figures = second.snapshot.clone();
    let found = second.find(file(1).0, Terms::default());
    let found_alike = second.find(file(1).0, Terms::default());
    figures.wait_for(|figures| figures.searching == 1).await.unwrap();
    drop(found);
    drop(found_alike);
    figures.wait_for(|figures| figures.searching == 0).await.unwrap();
    assert_eq!(figures.borrow().lookup_p50_ms, None, "one that comes to its end is timed");
}

#[tokio::test]
async fn both_families_are_taken_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let any = ["[::]:0".parse().unwrap()];
    let dht = Dht::start(&config(&[]), &any, dir.path().join("a"), 1).await.unwrap();
    let port = dht.local_addrs()[0].port();
    let entry = SocketAddr::from(([127, 0, 0, 1], port));
    let other = start(31, &[entry], dir.path()).await;
    known(&other, 1).await;
    known(&dht, 1).await;
}

#[tokio::test]
async fn an_address_in_use_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let dht = start(41, &[], dir.path()).await;
    let taken = Dht::start(&config(&[]), dht.local_addrs(), dir.path().join("b"), 1).await;
    assert_eq!(taken.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_torn_state_is_no_reason_not_to_start() {
    let dir = tempfile::tempdir().unwrap();
    tokio::fs::create_dir(dir.path().join("state")).await.unwrap();
    tokio::fs::write(dir.path().join("state/51"), b"d2:id20:torn").await.unwrap();
    let dht = start(51, &[], dir.path()).await;
    dht.shutdown().await;
    assert!(io::load(&dir.path().join("state/51")).await.is_some());
}

#[test]
fn what_is_written_is_what_is_meant() {
    let config: Config =
        toml::from_str("network = \"private\"\nsecret = \"s\"\nbootstrap = [\"mirror.example.org:9978\"]").unwrap();
    assert_eq!(config.network, Network::Private);
    assert_eq!(config.check(), Ok(()));
    assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
    assert!(toml::from_str::<Config>("secrets = \"\"").is_err());
    assert!(toml::from_str::<Config>("network = \"Public\"").is_err());
    let with = |entry: &str| Config { bootstrap: vec![entry.into()], ..Config::default() }.check();
    for entry in ["mirror.example.org:9978", "127.0.0.1:1", "[::1]:1"] {
        assert_eq!(with(entry), Ok(()));
    }
    for entry in ["mirror.example.org", ":1", "a:0", "a:b", "::1:1", "[::1]:0", "a:65536"] {
        assert_eq!(with(entry), Err(BadConfig::Entry(entry.into())));
    }
    let private = Config { network: Network::Private, ..Config::default() };
    assert_eq!(private.check(), Err(BadConfig::NoSecret));
    assert_eq!(Config { network: Network::Off, ..Config::default() }.realm().err(), Some(BadConfig::Off));
}
