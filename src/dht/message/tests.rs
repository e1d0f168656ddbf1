use proptest::prelude::*;

use super::*;

const OWN: Id = Id::new([0xaa; 20]);
const OTHER: Id = Id::new([0xbb; 20]);

fn signed<'a>(salt: &'a [u8], value: &'a [u8]) -> Signed<'a> {
    Signed { key: &[8; 32], salt, seq: 7, signature: &[9; 64], value }
}

fn realms() -> [Realm; 2] {
    [Realm::public(), Realm::private("the secret").unwrap()]
}

fn from() -> SocketAddr {
    "5.6.7.8:9978".parse().unwrap()
}

fn peer(n: u8) -> SocketAddr {
    SocketAddr::from(([5, 6, 7, n], 1000))
}

#[test]
fn every_question_comes_back() {
    let value = crate::dht::bencode::byte_string(&[7; 960]);
    let claim = [1; MAX_CLAIM];
    let mut held = Vec::new();
    (0..9).for_each(|nth| write_held(&mut held, &OTHER, (nth < 5).then_some(&claim)));
    let queries = [
        Query::Ping,
        Query::FindNode { target: OTHER },
        Query::GetPeers { key: OTHER },
        Query::AnnouncePeer { key: OTHER, port: Some(80), token: b"token", claim: Some(&claim) },
        Query::AnnouncePeer { key: OTHER, port: None, token: b"token", claim: None },
        Query::Get { target: OTHER },
        Query::Put { token: b"token", value: &value },
        Query::PutSigned { token: b"token", item: signed(b"", &value), cas: None },
        Query::PutSigned { token: b"token", item: signed(b"salt", &value), cas: Some(6) },
        Query::AnnounceMany { port: 80, held: None },
        Query::AnnounceMany { port: 80, held: Some((&held, b"token")) },
        Query::DialBack { port: 80, token: None },
        Query::DialBack { port: 80, token: Some(b"token") },
    ];
    for realm in realms().into_iter().chain([Realm::mainline()]) {
        for query in queries {
            for want in [[false, false], [true, false], [true, true]] {
                let datagram = write_query(&realm, b"tid", &OWN, &query, want, 0);
                assert!(datagram.len() <= MAX_SENT);
                assert!(Value::parse(&datagram).unwrap().is_canonical());
                let packet = Packet::read(&realm, &datagram).unwrap();
                assert_eq!(packet.transaction, b"tid");
                let asked = Asked { sender: OWN, read_only: false, want, has: None, query };
                assert_eq!(packet.body, Body::Query(asked));
                let shy = write_query(&realm, b"tid", Sender { id: OWN, read_only: true }, &query, want, 0);
                let Body::Query(read) = Packet::read(&realm, &shy).unwrap().body else { panic!("a question") };
                assert_eq!(read, Asked { read_only: true, ..read.clone() });
                assert!(Value::parse(&shy).unwrap().is_canonical());
            }
        }
    }
}

#[test]
fn padding_fills_a_question_and_changes_nothing_else() {
    for realm in realms() {
        for pad_to in [0, 100, 130, 131, 132, 133, 140, 300, 450] {
            let query = Query::Get { target: OTHER };
            let datagram = write_query(&realm, b"tid", &OWN, &query, [true, true], pad_to);
            assert!(datagram.len() <= pad_to.max(160), "{} of {pad_to}", datagram.len());
            assert!(datagram.len() + 8 >= pad_to);
            let packet = Packet::read(&realm, &datagram).unwrap();
            assert!(matches!(packet.body, Body::Query(Asked { query: Query::Get { target: OTHER }, .. })));
        }
    }
}

#[test]
fn other_networks_are_not_read() {
    let [public, private] = realms();
    let other = Realm::private("another").unwrap();
    for (one, two) in [(&public, &private), (&private, &public), (&private, &other)] {
        let datagram = write_query(one, b"t", &OWN, &Query::Ping, [false; 2], 0);
        assert!(Packet::read(one, &datagram).is_some());
        assert!(Packet::read(two, &datagram).is_none());
    }
    assert!(Packet::read(&public, b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping1:t2:aa1:y1:qe").is_none());
}

#[test]
fn a_changed_bit_in_a_private_network_is_noticed() {
    let realm = Realm::private("the secret").unwrap();
    let datagram = write_query(&realm, b"tid", &OWN, &Query::GetPeers { key: OTHER }, [true; 2], 0);
    for byte in 0..datagram.len() {
        for bit in 0..8 {
            let mut forged = datagram.clone();
            forged[byte] ^= 1 << bit;
            assert_eq!(Packet::read(&realm, &forged), None, "bit {bit} of byte {byte}");
        }
    }
}

#[test]
fn a_full_answer_comes_back_when_the_question_was_long_enough() {
    let claims = [[1; 97], [2; 97], [3; 97]];
    let answer = Answer {
        token: Some(*b"12345678"),
        contacts: [vec![Contact { id: OTHER, addr: peer(1) }; 8], Vec::new()],
        peers: (0..20).map(peer).collect(),
        claims: claims.iter().map(|claim| (&claim[..], 7)).collect(),
        ..Answer::default()
    };
    for realm in realms() {
        let reply = write_reply(&realm, b"t", &OWN, &from(), answer.clone(), 400).unwrap();
        let Body::Reply(read) = Packet::read(&realm, &reply).unwrap().body else { panic!("not a reply") };
        assert_eq!(read.id, OWN);
        assert_eq!(read.token, Some(&b"12345678"[..]));
        assert_eq!(read.contacts, answer.contacts[0]);
        assert_eq!(read.peers, answer.peers);
        assert_eq!(read.claims, answer.claims);
        assert_eq!(read.seen_from, Some(from()));
    }
}

#[test]
fn a_reply_is_never_three_times_longer_than_its_question() {
    let value = crate::dht::bencode::byte_string(&[7; 960]);
    let claims = [[1; 97], [2; 97], [3; 97]];
    for realm in realms() {
        for query_len in 20..600 {
            let answer = Answer {
                token: Some(*b"12345678"),
                contacts: [
                    vec![Contact { id: OTHER, addr: peer(1) }; 8],
                    vec![Contact { id: OTHER, addr: "[2600::1]:5".parse().unwrap() }; 8],
                ],
                peers: (0..100).map(peer).chain(["[2600::1]:5".parse().unwrap()]).collect(),
                claims: claims.iter().map(|claim| (&claim[..], u32::MAX)).collect(),
                value: (query_len % 2 == 0).then_some(&value[..]),
                stamp: (query_len % 4 == 0).then_some(Stamp { seq: i64::MIN, proof: Some((&[8; 32], &[9; 64])) }),
                ..Answer::default()
            };
            let reply = write_reply(&realm, b"tidtidtid", &OWN, &from(), answer, query_len);
            let error = write_error(&realm, b"tid", &from(), Refusal::Old, query_len);
            for sent in [reply, error].into_iter().flatten() {
                assert!(sent.len() <= MAX_SENT.min(MAX_GROWTH * query_len));
                assert!(Packet::read(&realm, &sent).is_some());
            }
        }
    }
    let long = [0; 1390];
    assert!(write_reply(&Realm::public(), &long, &OWN, &from(), Answer::default(), 1500).is_none());
    assert!(write_error(&Realm::public(), &long, &from(), Refusal::Method, 1500).is_none());
}

/// A query of the public network with these arguments beside the id.
fn raw_query(method: &str, args: &[u8]) -> Vec<u8> {
    let mut out = b"d1:ad2:id20:".to_vec();
    out.extend_from_slice(&[b'x'; 20]);
    out.extend_from_slice(args);
    out.extend_from_slice(b"e1:n8:");
    out.extend_from_slice(Realm::public().id());
    out.extend_from_slice(format!("1:q{}:{method}1:t2:aa1:y1:qe", method.len()).as_bytes());
    out
}

#[test]
fn wrong_questions_are_refused_by_their_number() {
    let token = "5:token2:tt";
    let hash = format!("9:info_hash20:{}", "h".repeat(20));
    let key = format!("1:k32:{}", "k".repeat(32));
    let sig = |len: usize| format!("3:sig{len}:{}", "s".repeat(len));
    let cases: Vec<(&str, String, i64)> = vec![
        ("sample_infohashes", String::new(), 204),
        ("find_node", String::new(), 203),
        ("find_node", "6:target3:abc".into(), 203),
        ("get_peers", "9:info_hashi3e".into(), 203),
        ("announce_peer", format!("{hash}4:porti0e{token}"), 203),
        ("announce_peer", format!("{hash}4:porti65536e{token}"), 203),
        ("announce_peer", format!("{hash}4:porti80e"), 203),
        ("announce_peer", format!("{hash}2:pl1:x4:porti80e{token}"), 203),
        ("announce_peer", format!("{hash}2:plll98:{}i1eee4:porti80e{token}", "c".repeat(98)), 203),
        ("put", token.into(), 203),
        ("put", "1:v1:x".into(), 203),
        ("put", format!("{token}1:vd1:bi1e1:ai1ee"), 203),
        ("put", format!("{token}1:v998:{}", "v".repeat(998)), 205),
        ("put", format!("{key}{token}1:v1:x"), 203),
        ("put", format!("{key}3:seqi1e{}{token}1:v1:x", sig(63)), 206),
        ("put", format!("{key}3:seqi-1e{}{token}1:v1:x", sig(64)), 203),
        ("put", format!("{key}3:seqi1e{token}1:v1:x"), 203),
        ("put", format!("{key}{}{token}1:v1:x", sig(64)), 203),
        ("put", format!("1:k31:{}3:seqi1e{}{token}1:v1:x", "k".repeat(31), sig(64)), 203),
        ("put", format!("3:cas1:x{key}3:seqi1e{}{token}1:v1:x", sig(64)), 203),
        ("dial_back", String::new(), 203),
        ("dial_back", "4:porti0e".into(), 203),
        ("put", format!("4:salt65:{}{token}1:v1:x", "s".repeat(65)), 207),
    ];
    for (method, args, code) in cases {
        let datagram = raw_query(method, args.as_bytes());
        let packet = Packet::read(&Realm::public(), &datagram).unwrap_or_else(|| panic!("{method} {args}"));
        match packet.body {
            Body::Refused(refusal) => assert_eq!(refusal.code(), code, "{method} {args}"),
            other => panic!("{method} {args}: {other:?}"),
        }
    }
}

#[test]
fn unknown_keys_and_any_order_are_read() {
    let mut datagram = b"d1:y1:q1:zi1e1:t0:1:q4:ping1:n8:".to_vec();
    datagram.extend_from_slice(Realm::public().id());
    datagram.extend_from_slice(b"1:ad3:foole2:id20:xxxxxxxxxxxxxxxxxxxxee");
    let packet = Packet::read(&Realm::public(), &datagram).unwrap();
    assert_eq!(packet.transaction, b"");
    assert!(matches!(packet.body, Body::Query(Asked { query: Query::Ping, .. })));
}

#[test]
fn mainline_is_spoken_without_what_is_our_own() {
    let realm = Realm::mainline();
    // The example of BEP 5.
    let ping = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";
    assert!(matches!(Packet::read(&realm, ping).unwrap().body, Body::Query(Asked { query: Query::Ping, .. })));
    for datagram in [
        write_query(&realm, b"aa", &OWN, &Query::Get { target: OTHER }, [false; 2], 450),
        write_reply(&realm, b"aa", &OWN, &from(), Answer::default(), 10).unwrap(),
        write_error(&realm, b"aa", &from(), Refusal::Method, 10).unwrap(),
    ] {
        let top = Value::parse(&datagram).unwrap();
        assert!(top.is_canonical() && datagram.len() < 150, "{}", datagram.escape_ascii());
        assert_eq!((top.key(b"n"), top.key(b"m")), (None, None));
        assert!(top.key(b"a").is_none_or(|args| args.key(b"z").is_none()));
    }
}

#[test]
fn a_mutable_item_comes_back_with_all_that_proves_it() {
    let value = crate::dht::bencode::byte_string(&[7; 960]);
    let item = signed(b"", &value);
    let stamp = Stamp { seq: item.seq, proof: Some((item.key, item.signature)) };
    let answer = Answer { value: Some(&value), stamp: Some(stamp), ..Answer::default() };
    let read = |reply: Vec<u8>, realm: &Realm| {
        let Body::Reply(read) = Packet::read(realm, &reply).unwrap().body else { panic!("not a reply") };
        (read.value.map(<[u8]>::to_vec), read.signed == Some(item))
    };
    let reply = write_reply(&Realm::mainline(), b"t", &OWN, &from(), answer.clone(), 100).unwrap();
    assert_eq!(read(reply, &Realm::mainline()), (Some(value.clone()), true));
    let reply = write_reply(&Realm::public(), b"t", &OWN, &from(), answer, 100).unwrap();
    assert_eq!(read(reply, &Realm::public()), (None, false), "the question was too short for it");
    let seen = Answer { stamp: Some(Stamp { seq: 7, proof: None }), ..Answer::default() };
    let reply = write_reply(&Realm::public(), b"t", &OWN, &from(), seen, 100).unwrap();
    assert_eq!(Value::parse(&reply).unwrap().key(b"r").unwrap().key(b"seq").and_then(Value::int), Some(7));
}

#[test]
fn what_a_node_says_of_itself_and_of_a_dial_comes_back() {
    for realm in realms() {
        for is_open in [None, Some(true), Some(false)] {
            let about = About { up_minutes: Some(90), is_open };
            let answer = Answer { about, dial: Some(Dial::Silent), ..Answer::default() };
            let reply = write_reply(&realm, b"t", &OWN, &from(), answer, 100).unwrap();
            assert!(Value::parse(&reply).unwrap().is_canonical());
            let Body::Reply(read) = Packet::read(&realm, &reply).unwrap().body else { panic!("not a reply") };
            assert_eq!((read.about, read.dial, read.version), (about, Some(Dial::Silent), Some(&b"AH\x00\x01"[..])));
        }
    }
}

proptest! {
    #[test]
    fn no_datagram_panics(tail in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..400, flip in any::<(usize, u8)>()) {
        for realm in realms() {
            let claim = [1; MAX_CLAIM];
            let query = Query::AnnouncePeer { key: OTHER, port: Some(80), token: b"token", claim: Some(&claim) };
            let mut datagram = write_query(&realm, b"tid", &OWN, &query, [true; 2], 0);
            let at = flip.0 % datagram.len();
            datagram[at] ^= flip.1;
            datagram.truncate(cut.max(1));
            datagram.extend_from_slice(&tail);
            let _ = Packet::read(&realm, &datagram);
            let _ = Packet::read(&realm, &tail);
        }
    }
}
