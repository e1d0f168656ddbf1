//! What strangers may send.

use super::*;
use crate::dht::{
    bencode::{Value, byte_string},
    contact::write_peer,
    message::{Answer, MAX_GROWTH, Refusal, write_error, write_reply},
};

fn stranger(n: u8) -> SocketAddr {
    SocketAddr::from(([99, n, 1, 1], 1234))
}

fn node(realm: Realm) -> Node {
    Node::new(Setup { realm, families: [true; 2], saved: None, has_entries: false }, 1, Duration::ZERO)
}

fn sent(node: &mut Node) -> Vec<Transmit> {
    let outputs = std::iter::from_fn(|| node.poll());
    outputs.filter_map(|output| if let Output::Transmit(transmit) = output { Some(transmit) } else { None }).collect()
}

/// What a node answers to a question, its own questions left out.
fn answer(node: &mut Node, from: SocketAddr, question: &[u8]) -> Option<Vec<u8>> {
    node.handle_datagram(from, 3, question, SECOND);
    let mut replies = sent(node).into_iter().filter(|transmit| transmit.via == Some(3));
    let reply = replies.next();
    assert!(replies.next().is_none(), "one question, one answer");
    reply.map(|transmit| {
        assert_eq!(transmit.to, from);
        assert!(transmit.datagram.len() <= MAX_GROWTH * question.len());
        transmit.datagram
    })
}

fn question(query: &Query<'_>, pad_to: usize) -> Vec<u8> {
    write_query(&Realm::public(), b"tid", &Id::new([5; 20]), query, [false; 2], pad_to)
}

fn token(node: &mut Node, from: SocketAddr, query: &Query<'_>) -> Vec<u8> {
    let reply = answer(node, from, &question(query, 0)).unwrap();
    let value = Value::parse(&reply).unwrap();
    value.key(b"r").unwrap().key(b"token").unwrap().bytes().unwrap().to_vec()
}

fn refusal(reply: &[u8]) -> i64 {
    Value::parse(reply).unwrap().key(b"e").expect("an error").list()[0].int().unwrap()
}

#[test]
fn junk_is_answered_nothing() {
    let corpus: &[&[u8]] = &[
        b"",
        b"d",
        b"de",
        b"i1e",
        b"le",
        b"d1:y1:qe",
        b"d1:t2:aa1:y1:qe",
        b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping1:t2:aa1:y1:qe",
        b"d1:n8:xxxxxxxx1:q4:ping1:t2:aa1:y1:qe",
        b"d1:rd2:id20:aaaaaaaaaaaaaaaaaaaae1:t2:aa1:y1:re",
        b"d1:eli201e4:fulle1:t2:aa1:y1:ee",
        b"d1:y4294967295:qe",
        &[b'd'; 1400],
        &[0; 1400],
        &[0xff; 2048],
        &[b'l'; 5000],
    ];
    for realm in [Realm::public(), Realm::private("secret").unwrap()] {
        let mut node = node(realm);
        for datagram in corpus {
            node.handle_datagram(stranger(1), 0, datagram, SECOND);
        }
        assert_eq!(sent(&mut node), []);
        assert_eq!(node.figures().dropped, corpus.len() as u64);
    }
}

#[test]
fn malformed_questions_of_the_own_network_are_refused() {
    let mut node = node(Realm::public());
    let network = Realm::public().id().escape_ascii().to_string();
    assert!(!network.is_empty());
    let mut cases: Vec<(Vec<u8>, i64)> = Vec::new();
    for (args, method, code) in [
        (&b"d2:id20:aaaaaaaaaaaaaaaaaaaae"[..], "dance", 204),
        (b"d2:id3:abce", "ping", 203),
        (b"le", "ping", 203),
        (b"i5e", "get", 203),
        (b"d2:id20:aaaaaaaaaaaaaaaaaaaae", "get_peers", 203),
        (b"d2:id20:aaaaaaaaaaaaaaaaaaaa1:k32:kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk5:token1:t1:v1:ve", "put", 203),
    ] {
        let mut datagram = b"d1:a".to_vec();
        datagram.extend_from_slice(args);
        datagram.extend_from_slice(b"1:n8:");
        datagram.extend_from_slice(Realm::public().id());
        datagram.extend_from_slice(format!("1:q{}:{method}1:t2:aa1:y1:qe", method.len()).as_bytes());
        cases.push((datagram, code));
    }
    for (datagram, code) in cases {
        let reply = answer(&mut node, stranger(1), &datagram).unwrap();
        assert_eq!(refusal(&reply), code, "{}", datagram.escape_ascii());
    }
}

#[test]
fn writes_need_the_token_of_their_address_and_key() {
    let mut node = node(Realm::public());
    let key = Id::new([1; 20]);
    let get = Query::GetPeers { key };
    let good = token(&mut node, stranger(1), &get);
    let announce = |token: &[u8]| question(&Query::AnnouncePeer { key, port: Some(80), token, claim: None }, 0);
    for (from, token) in [(stranger(2), &good[..]), (stranger(1), b"12345678"), (stranger(1), b"")] {
        assert_eq!(refusal(&answer(&mut node, from, &announce(token)).unwrap()), 203);
    }
    assert_eq!(node.figures().stored, 0);
    answer(&mut node, stranger(1), &announce(&good)).unwrap();
    assert_eq!(node.figures().stored, 1);
    let value = byte_string(b"item");
    assert_eq!(
        refusal(&answer(&mut node, stranger(1), &question(&Query::Put { token: &good, value: &value }, 0)).unwrap()),
        203
    );
    let good = token(&mut node, stranger(1), &Query::Get { target: Id::of_item(&value) });
    answer(&mut node, stranger(1), &question(&Query::Put { token: &good, value: &value }, 0)).unwrap();
    assert_eq!(node.figures().stored, 2);
}

#[test]
fn a_holder_is_stored_at_the_address_it_sent_from() {
    let mut node = node(Realm::public());
    let key = Id::new([1; 20]);
    let token = token(&mut node, stranger(1), &Query::GetPeers { key });
    let announce = Query::AnnouncePeer { key, port: Some(80), token: &token, claim: Some(b"\x01claim") };
    answer(&mut node, stranger(1), &question(&announce, 0)).unwrap();
    let reply = answer(&mut node, stranger(2), &question(&Query::GetPeers { key }, 300)).unwrap();
    let reply = Value::parse(&reply).unwrap();
    let values = reply.key(b"r").unwrap();
    let holder = SocketAddr::new(stranger(1).ip(), 80);
    assert_eq!(values.key(b"values").unwrap().list()[0].bytes(), Some(&write_peer(&holder)[..]));
    assert_eq!(values.key(b"pl").unwrap().list()[0].list()[0].bytes(), Some(&b"\x01claim"[..]));
    assert_eq!(reply.key(b"ip").unwrap().bytes(), Some(&write_peer(&stranger(2))[..]));
}

#[test]
fn addresses_are_told_only_in_their_scope() {
    let mut node = node(Realm::public());
    let key = Id::new([1; 20]);
    let local = |n: u8| SocketAddr::from(([127, 0, n, 1], 5000));
    for from in [local(1), "10.0.0.1:5000".parse().unwrap(), stranger(1)] {
        let token = token(&mut node, from, &Query::GetPeers { key });
        let announce = Query::AnnouncePeer { key, port: None, token: &token, claim: None };
        answer(&mut node, from, &question(&announce, 0)).unwrap();
    }
    for (from, told) in [(stranger(2), 1), (local(2), 2), ("10.0.0.2:1".parse().unwrap(), 2)] {
        let reply = answer(&mut node, from, &question(&Query::GetPeers { key }, 300)).unwrap();
        let reply = Value::parse(&reply).unwrap();
        assert_eq!(reply.key(b"r").unwrap().key(b"values").unwrap().list().len(), told, "{from}");
    }
}

#[test]
fn one_address_cannot_keep_the_node_busy() {
    let mut node = node(Realm::public());
    let ping = question(&Query::Ping, 0);
    let answered = (0..5000).filter(|_| answer(&mut node, stranger(1), &ping).is_some()).count();
    assert_eq!(answered, 1000);
    assert!(answer(&mut node, stranger(2), &ping).is_some());
}

#[test]
fn strangers_are_checked_a_few_at_a_time_and_enter_by_answering() {
    let mut node = node(Realm::public());
    for n in 0..=255 {
        let ping = write_query(&Realm::public(), b"t", &Id::new([n; 20]), &Query::Ping, [false; 2], 0);
        node.handle_datagram(stranger(n), 0, &ping, SECOND);
    }
    let checks: Vec<Transmit> = sent(&mut node).into_iter().filter(|transmit| transmit.via.is_none()).collect();
    assert_eq!(checks.len(), MAX_CHECKS);
    assert_eq!(node.figures().nodes, [0, 0]);
    for check in &checks[..5] {
        let n = check.to.ip().to_string().split('.').nth(1).unwrap().parse::<u8>().unwrap();
        let transaction = Value::parse(&check.datagram).unwrap().key(b"t").unwrap().bytes().unwrap().to_vec();
        let id = Id::new([n; 20]);
        let reply = write_reply(&Realm::public(), &transaction, &id, &check.to, Answer::default(), 500).unwrap();
        node.handle_datagram(stranger(254), 0, &reply, SECOND);
        node.handle_datagram(check.to, 0, &reply, SECOND);
        node.handle_datagram(check.to, 0, &reply, SECOND);
    }
    assert_eq!(node.figures().nodes, [5, 0]);
    node.handle_timeout(10 * SECOND);
    assert_eq!(node.checks, 0);
}

/// A liar answers every question of a search with nodes that are not there, holders that cannot be, and claims that fit nothing.
#[test]
fn a_liar_ends_a_search_no_later_and_gets_nothing_believed() {
    let mut node = node(Realm::public());
    node.handle_entries(&[stranger(0)], SECOND);
    let (expected, _) = file(40, 1);
    let key = Realm::public().key(&expected.hash);
    let mut job = None;
    let mut now = SECOND;
    let mut invented = 0u32;
    let mut questions = 0;
    let mut found = Vec::new();
    let mut ended = false;
    while !ended && now < 60 * SECOND {
        while let Some(output) = node.poll() {
            let transmit = match output {
                Output::Transmit(transmit) => transmit,
                Output::Event(Event::Found(_, item)) => {
                    found.push(item);
                    continue;
                }
                Output::Event(Event::Ended(of, _)) => {
                    ended |= Some(of) == job;
                    continue;
                }
                Output::Event(_) => continue,
            };
            questions += 1;
            let top = Value::parse(&transmit.datagram).unwrap();
            let transaction = top.key(b"t").unwrap().bytes().unwrap();
            let mut contacts = Vec::new();
            for _ in 0..8 {
                invented += 1;
                let mut id = *key.as_bytes();
                id[16..].copy_from_slice(&(u32::MAX - invented).to_be_bytes());
                contacts.push(Contact {
                    id: Id::new(id),
                    addr: SocketAddr::from(((0x6300_0000 + (invented << 8)).to_be_bytes(), 1)),
                });
            }
            contacts.push(Contact { id: Id::new([1; 20]), addr: "127.0.0.1:80".parse().unwrap() });
            contacts.push(Contact { id: Id::new([2; 20]), addr: "99.1.1.1:0".parse().unwrap() });
            let claims: Vec<Vec<u8>> = (0..3).map(|n| vec![n; 21 + 20 * usize::from(n)]).collect();
            let peers = ["127.0.0.1:80", "10.0.0.1:80", "0.0.0.0:1", "99.9.9.9:0", "255.255.255.255:1"];
            let answer = Answer {
                token: Some([0; 8]),
                contacts: [contacts, Vec::new()],
                peers: peers.iter().map(|peer| peer.parse().unwrap()).collect(),
                claims: claims.iter().map(|claim| (&claim[..], u32::MAX)).collect(),
                value: Some(b"4:lies"),
                ..Answer::default()
            };
            // An id that the asked node may have, so that the answer counts.
            let id = Id::new([7; 20]);
            let id = node_id_asked(&node, &transmit).unwrap_or(id);
            let reply = write_reply(&Realm::public(), transaction, &id, &transmit.to, answer, 466).unwrap();
            node.handle_datagram(transmit.to, 0, &reply, now);
            let error = write_error(&Realm::public(), b"none", &transmit.to, Refusal::Full, 400).unwrap();
            node.handle_datagram(transmit.to, 0, &error, now);
        }
        if job.is_none() {
            job = Some(node.find(expected, Terms::default(), now));
            questions = 0;
            continue;
        }
        now = node.next_timeout().max(now);
        node.handle_timeout(now);
    }
    assert!(ended);
    assert_eq!(found, []);
    assert!(questions < 600, "{questions} questions");
    assert!(now < 15 * SECOND, "{now:?}");
}

fn node_id_asked(node: &Node, transmit: &Transmit) -> Option<Id> {
    let transaction = Value::parse(&transmit.datagram).unwrap().key(b"t").unwrap().bytes().unwrap().to_vec();
    node.flights.expected(&transaction)
}

/// A datagram of the own network with these parts, given as bencode.
fn datagram(args: &str, method: &str, transaction: &[u8]) -> Vec<u8> {
    let mut out = format!("d1:a{args}1:n8:").into_bytes();
    out.extend_from_slice(Realm::public().id());
    out.extend_from_slice(format!("1:q{}:{method}1:t", method.len()).as_bytes());
    out.extend(byte_string(transaction));
    out.extend_from_slice(b"1:y1:qe");
    out
}

/// What strangers may think of, each a whole datagram.
fn corpus(own: &Id) -> Vec<Vec<u8>> {
    let id = "2:id20:aaaaaaaaaaaaaaaaaaaa";
    let good = datagram(&format!("d{id}e"), "ping", b"tt");
    let mut corpus: Vec<Vec<u8>> = (0..good.len()).map(|len| good[..len].to_vec()).collect();
    corpus.extend([vec![b'd'; 65_536], vec![b'l'; 1400], vec![0; 65_536], b"9223372036854775807:".to_vec()]);
    for len in 0..=64 {
        corpus.push(datagram(&format!("d{id}e"), "ping", &vec![b't'; len]));
    }
    let long = "v".repeat(1001);
    for (args, method) in [
        (format!("d{id}{id}e"), "ping"),
        (format!("d6:target20:bbbbbbbbbbbbbbbbbbbb{id}e"), "find_node"),
        (format!("d{id}6:target19:bbbbbbbbbbbbbbbbbbbe"), "find_node"),
        (format!("d{id}9:info_hashi-1ee"), "get_peers"),
        (format!("d{id}9:info_hash20:bbbbbbbbbbbbbbbbbbbb4:porti65536e5:token8:12345678e"), "announce_peer"),
        (format!("d{id}9:info_hash20:bbbbbbbbbbbbbbbbbbbb4:porti-80e5:token8:12345678e"), "announce_peer"),
        (format!("d{id}9:info_hash20:bbbbbbbbbbbbbbbbbbbb4:porti99999999999999999999e5:token0:e"), "announce_peer"),
        (format!("d{id}9:info_hash20:bbbbbbbbbbbbbbbbbbbb2:pllee4:porti80e5:token8:12345678e"), "announce_peer"),
        (format!("d{id}1:v1:ve"), "put"),
        (format!("d{id}5:token8:123456781:v1001:{long}e"), "put"),
        (format!("d{id}3:seqi-9223372036854775808e5:token8:123456781:v1:ve"), "put"),
        (format!("d1:k32:{}{id}3:seqi1e3:sig64:{}5:token8:123456781:v1:ve", "k".repeat(32), "s".repeat(64)), "put"),
        (format!("d{id}5:token8:123456781:vd1:bi1e1:ai1eee"), "put"),
        (format!("d{id}4:want2:n4e"), "find_node"),
    ] {
        corpus.push(datagram(&args, method, b"tt"));
    }
    let mine = write_query(&Realm::public(), b"tt", own, &Query::Ping, [false; 2], 0);
    let unasked = write_reply(&Realm::public(), b"\0\0\0\0", &Id::new([3; 20]), &stranger(1), Answer::default(), 500);
    corpus.extend([mine, unasked.unwrap()]);
    corpus
}

/// Ten thousand datagrams a second for a minute, nine of ten out of the corpus and the others good questions, from ever new addresses.
#[test]
fn a_flood_changes_neither_memory_nor_answers() {
    let mut node = node(Realm::public());
    let key = Id::new([1; 20]);
    let honest = SocketAddr::from(([60, 1, 1, 1], 5000));
    let token = token(&mut node, honest, &Query::GetPeers { key });
    answer(&mut node, honest, &question(&Query::AnnouncePeer { key, port: Some(80), token: &token, claim: None }, 0));
    let corpus = corpus(&node.own);
    let ask = question(&Query::GetPeers { key: Id::new([2; 20]) }, 300);
    let millis = Duration::from_millis(1);
    for n in 0..600_000_u32 {
        let now = SECOND + millis * (n / 10);
        let from = SocketAddr::from(((0x4600_0000 + n * 97).to_be_bytes(), 1 + (n % 60_000) as u16));
        if n % 10 == 0 {
            node.handle_datagram(from, 0, &ask, now);
        } else {
            node.handle_datagram(from, 0, &corpus[n as usize % corpus.len()], now);
        }
        if n % 100 == 0 {
            node.handle_timeout(now);
        }
        while node.poll().is_some() {}
        if n % 60_000 == 59_999 {
            node.handle_datagram(honest, 3, &question(&Query::GetPeers { key }, 300), now);
            let reply =
                sent(&mut node).into_iter().find(|sent| sent.via == Some(3)).expect("an honest node is answered");
            let reply = Value::parse(&reply.datagram).unwrap();
            assert_eq!(reply.key(b"r").unwrap().key(b"values").unwrap().list().len(), 1);
        }
    }
    assert_eq!((node.figures().stored, node.figures().nodes), (1, [0, 0]));
    assert!(node.checks <= MAX_CHECKS && node.walks.len() <= 1);
}
