//! Our node on a Mainline of libtorrent's nodes: each asks and answers the other.

use std::{net::SocketAddr, time::Duration};

use apt_huddle::dht::{Explorer, Heard, Id, Probe};

use crate::harness::{libtorrent::Mainline, own_network};

/// The key pair of the first test of RFC 8032, section 7.1.
const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const KEY: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

async fn explorer(entries: &[SocketAddr], is_mute: bool) -> Explorer {
    let listen = [SocketAddr::from((own_network(), 0))];
    let entries = entries.iter().map(ToString::to_string).collect();
    Explorer::mainline(entries, &listen, None, is_mute, 7).await.expect("a loopback address")
}

async fn known(explorer: &Explorer, nodes: usize) {
    let known = explorer.until(|figures| figures.nodes() >= nodes);
    assert!(tokio::time::timeout(Duration::from_secs(60), known).await.expect("in time"));
}

async fn all(explorer: &Explorer, probe: Probe) -> Vec<Heard> {
    let mut hearing = explorer.probe(probe).await;
    let mut heard = Vec::new();
    while let Some(next) = hearing.next().await {
        heard.push(next);
    }
    heard
}

fn items(heard: &[Heard]) -> Vec<(&[u8], Option<i64>)> {
    let items = heard.iter().filter_map(|heard| match heard {
        Heard::Item { value, seq } => Some((value.as_slice(), *seq)),
        _ => None,
    });
    items.collect()
}

fn id(digit: char) -> Id {
    digit.to_string().repeat(40).parse().expect("40 digits")
}

#[tokio::test(flavor = "multi_thread")]
async fn our_node_asks_libtorrents_nodes_all_that_there_is_to_ask() {
    let mut mainline = Mainline::start(4, &[]);
    mainline.until_known(2);
    let theirs = mainline.nodes().to_vec();
    for is_mute in [false, true] {
        let ours = explorer(&theirs[..1], is_mute).await;
        known(&ours, 4).await;
        let heard = all(&ours, Probe::Ping(theirs[2])).await;
        let [Heard::Node(node)] = heard.as_slice() else { panic!("{heard:?}") };
        assert!(node.contact.addr == theirs[2] && node.version.as_ref().is_some_and(|v| v.starts_with(b"LT")));
        assert_eq!(node.seen_from, Some(ours.local_addrs()[0]));

        let near = all(&ours, Probe::FindNode(id('5'))).await;
        let near = near.iter().filter(|heard| matches!(heard, Heard::Node(_))).count();
        assert_eq!(near, 4, "all of them answer");

        let key = if is_mute { 'a' } else { 'b' };
        let (announced, mut found) = (theirs[1], Vec::new());
        for round in 0..100 {
            // Asked again before it has come to it, libtorrent begins its wait anew.
            if round % 30 == 0 {
                mainline.ask(&format!("announce 1 {}", id(key)));
            }
            found = ours.peers(id(key)).await;
            if !found.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert_eq!(found, [announced], "libtorrent's announcement is found");

        let key = if is_mute { 'c' } else { 'd' };
        let stored = ours.probe(Probe::Announce { key: id(key), port: 4321 }).await.count().await;
        assert_eq!(stored, 4, "all of them take ours");
        let holder = SocketAddr::new(ours.local_addrs()[0].ip(), 4321);
        assert_eq!(mainline.peers(3, &id(key).to_string()), [holder]);

        let value = format!("8:written{}", u8::from(is_mute)).into_bytes();
        let target = Id::of_item(&value);
        assert_eq!(ours.probe(Probe::Put { value: value.clone() }).await.count().await, 4);
        assert_eq!(mainline.ask(&format!("get 2 {target}")), format!("written{}", u8::from(is_mute)));
        let heard = all(&ours, Probe::Get { target, salt: Vec::new() }).await;
        assert_eq!(items(&heard), [(&value[..], None)]);
        ours.shutdown().await;
    }
    let ours = explorer(&theirs[..1], true).await;
    known(&ours, 4).await;
    let target = mainline.ask("put 0 penguins")["target"].as_str().and_then(|text| text.parse().ok()).expect("an id");
    let heard = all(&ours, Probe::Get { target, salt: Vec::new() }).await;
    assert_eq!(items(&heard), [(&b"8:penguins"[..], None)]);
    for (salt, text) in [("-", "plain"), ("iceberg", "salted")] {
        assert!(mainline.ask(&format!("putm 0 {SEED} {KEY} {salt} {text}"))["stored"].as_u64() > Some(0));
        let salt = if salt == "-" { "" } else { salt };
        let key: Vec<u8> = (0..64).step_by(2).map(|at| u8::from_str_radix(&KEY[at..at + 2], 16).unwrap()).collect();
        let target = Id::of_signed(&key, salt.as_bytes());
        let heard = all(&ours, Probe::Get { target, salt: salt.as_bytes().to_vec() }).await;
        let items = items(&heard);
        assert!(items.iter().any(|(value, seq)| value.ends_with(text.as_bytes()) && seq.is_some()), "{items:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn libtorrents_nodes_ask_ours_and_find_there_what_they_left() {
    let ours = explorer(&[], false).await;
    let entry = ours.local_addrs().to_vec();
    let mut writer = Mainline::start(1, &entry);
    writer.until_known(1);
    known(&ours, 1).await;
    let key = id('e').to_string();
    let target = writer.ask("put 0 left-behind");
    assert_eq!(target["stored"], 1, "only ours is there to keep it: {target}");
    let target = target["target"].as_str().expect("an id").to_owned();
    assert_eq!(writer.ask(&format!("putm 0 {SEED} {KEY} - mutable"))["stored"], 1);
    assert_eq!(writer.ask(&format!("putm 0 {SEED} {KEY} salt salted"))["stored"], 1);
    writer.ask(&format!("announce 0 {key}"));
    let kept = ours.until(|figures| figures.stored >= 4);
    assert!(tokio::time::timeout(Duration::from_secs(20), kept).await.expect("in time"), "{:?}", ours.snapshot());

    let mut reader = Mainline::start(1, &entry);
    reader.until_known(1);
    assert_eq!(reader.peers(0, &key), writer.nodes());
    assert_eq!(reader.ask(&format!("get 0 {target}")), "left-behind");
    assert_eq!(reader.ask(&format!("getm 0 {KEY} -")), "mutable");
    assert_eq!(reader.ask(&format!("getm 0 {KEY} salt")), "salted");
}
