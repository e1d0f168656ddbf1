//! Ports tried by others, nodes that only ask, and ids that follow addresses.

use super::*;
use crate::dht::{
    bencode::Value,
    message::{Sender, write_query},
    reach::{Dial, Reachability},
};

fn at(n: u8) -> SocketAddr {
    SocketAddr::from(([30, n, 1, 1], 9978))
}

fn node(seed: u64, is_mute: bool) -> Node {
    let setup = Setup { realm: Realm::public(), families: [true, false], saved: None, has_entries: true };
    if is_mute { Node::mute(setup, seed, Duration::ZERO) } else { Node::new(setup, seed, Duration::ZERO) }
}

/// Carries everything between nodes until nothing moves; `dial` says how a connection to an address goes.
fn settle(nodes: &mut [Node], now: Duration, mut dial: impl FnMut(SocketAddr) -> Dial) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let mut moved = false;
        for n in 0..nodes.len() {
            let (own, mut dialled) = (at(n as u8), Vec::new());
            while let Some(output) = nodes[n].poll() {
                moved = true;
                match output {
                    Output::Transmit(transmit) => {
                        if let Some(to) = (0..nodes.len()).find(|to| at(*to as u8) == transmit.to) {
                            nodes[to].handle_datagram(own, 0, &transmit.datagram, now);
                        }
                    }
                    Output::Event(Event::Dial(ticket, to)) => dialled.push((ticket, dial(to))),
                    Output::Event(event) => events.push(event),
                }
            }
            for (ticket, outcome) in dialled {
                nodes[n].handle_dialled(ticket, outcome, now);
            }
        }
        if !moved {
            return events;
        }
    }
}

#[test]
fn a_network_of_two_finds_out_who_can_be_connected_to() {
    let mut nodes = [node(1, false), node(2, false)];
    nodes[0].serve(1000, Duration::ZERO);
    nodes[1].serve(1001, Duration::ZERO);
    nodes[1].handle_entries(&[at(0)], Duration::ZERO);
    let mut tried = Vec::new();
    let mut now = Duration::ZERO;
    while now < 10 * SECOND {
        settle(&mut nodes, now, |to| {
            tried.push(to);
            if to.port() == 1000 { Dial::Open } else { Dial::Silent }
        });
        now += SECOND / 10;
        nodes.iter_mut().for_each(|node| node.handle_timeout(now));
    }
    tried.sort();
    assert_eq!(tried, [SocketAddr::new(at(0).ip(), 1000), SocketAddr::new(at(1).ip(), 1001)], "once each");
    assert_eq!(nodes[0].figures().reachability, [Some(Reachability::Open), None]);
    assert_eq!(nodes[1].figures().reachability, [Some(Reachability::Closed(Dial::Silent)), None]);

    let (expected, chain) = file(1, 1);
    for (n, stored) in [(0, 1), (1, 0)] {
        let job = nodes[n].publish_many(&[Record::File(expected, chain.clone())], 1000, now);
        let events = settle(&mut nodes, now, |_| Dial::Open);
        assert_eq!(
            events,
            [Event::Told(job, vec![stored]), Event::Ended(job, stored)],
            "who cannot be reached is not announced"
        );
    }
    nodes[1].handle_entries(&[at(0)], now);
    let Some(Output::Transmit(question)) = nodes[1].poll() else { panic!("a question") };
    let question = Value::parse(&question.datagram).unwrap();
    assert_eq!(question.key(b"ro").and_then(Value::int), Some(1), "nor asks to be remembered");
}

#[test]
fn who_was_not_tried_yet_stays_out_of_tables_where_there_are_others() {
    let mut nodes: Vec<Node> = (0..12).map(|n| node(n, false)).collect();
    (1..12).for_each(|n| nodes[n].handle_entries(&[at(0)], Duration::ZERO));
    let mut now = Duration::ZERO;
    while now < 10 * SECOND {
        settle(&mut nodes, now, |_| Dial::Open);
        now += SECOND / 10;
        nodes.iter_mut().for_each(|node| node.handle_timeout(now));
    }
    let asks_to_be_remembered = |node: &mut Node| {
        node.handle_entries(&[at(0)], now);
        let Some(Output::Transmit(question)) = node.poll() else { panic!("a question") };
        Value::parse(&question.datagram).unwrap().key(b"ro").is_none()
    };
    assert!(asks_to_be_remembered(&mut nodes[3]), "who serves nobody is a node like others");
    nodes[3].serve(1003, now);
    while nodes[3].poll().is_some() {}
    assert_eq!(nodes[3].figures().reachability[0], Some(Reachability::Untested));
    assert!(!asks_to_be_remembered(&mut nodes[3]));
    nodes[3].handle_timeout(now + 3 * SECOND);
    settle(&mut nodes, now + 3 * SECOND, |_| Dial::Open);
    assert_eq!(nodes[3].figures().reachability[0], Some(Reachability::Open));
    assert!(asks_to_be_remembered(&mut nodes[3]));
}

#[test]
fn a_stranger_has_only_itself_dialled_and_not_often() {
    let mut asked = node(1, false);
    let id = Id::new([7; 20]);
    let mut ask = |from: SocketAddr, token: Option<&[u8]>, now: Duration| {
        let query = Query::DialBack { port: 22, token };
        let sender = Sender { id, read_only: true };
        asked.handle_datagram(from, 0, &write_query(&Realm::public(), b"t", sender, &query, [false; 2], 0), now);
        let outputs: Vec<Output> = std::iter::from_fn(|| asked.poll()).collect();
        let dialled = outputs.iter().find_map(|output| match output {
            Output::Event(Event::Dial(_, to)) => Some(*to),
            _ => None,
        });
        let reply = outputs.iter().find_map(|output| match output {
            Output::Transmit(Transmit { to, via: Some(_), datagram }) if *to == from => Some(datagram.clone()),
            _ => None,
        });
        let code = |reply: &Vec<u8>| Value::parse(reply).unwrap().key(b"e").and_then(|e| e.list()[0].int());
        (dialled, reply.as_ref().and_then(code), reply)
    };
    let (dialled, _, reply) = ask(at(5), None, SECOND);
    assert_eq!(dialled, None, "an address that may be forged is not dialled");
    let reply = reply.expect("a token");
    let token = Value::parse(&reply).unwrap().key(b"r").unwrap().key(b"token").unwrap().bytes().unwrap().to_vec();
    assert_eq!(ask(at(6), Some(&token), SECOND).1, Some(203), "a token of another address");
    assert_eq!(ask(at(5), Some(b"12345678"), SECOND).1, Some(203));
    assert_eq!(ask(at(5), Some(&token), SECOND).0, Some(SocketAddr::new(at(5).ip(), 22)));
    let again = ask(at(5), Some(&token), 2 * SECOND);
    assert_eq!((again.0, again.1), (None, Some(202)), "not so soon");
    assert!(ask(at(5), Some(&token), 12 * SECOND).0.is_some());
    let mut dialled = 0;
    for n in 10..60 {
        let reply = ask(at(n), None, 30 * SECOND).2.expect("a token");
        let token = Value::parse(&reply).unwrap().key(b"r").unwrap().key(b"token").unwrap().bytes().unwrap().to_vec();
        dialled += usize::from(ask(at(n), Some(&token), 30 * SECOND).0.is_some());
    }
    assert_eq!(dialled, 8, "a crowd does not have more than a few at once");
}

#[test]
fn a_node_that_only_asks_says_so_and_answers_nothing() {
    let mut nodes = [node(1, false), node(2, true)];
    nodes[1].handle_entries(&[at(0)], Duration::ZERO);
    settle(&mut nodes, Duration::ZERO, |_| Dial::Open);
    assert_eq!(nodes[1].figures().nodes[0], 1);
    assert_eq!(nodes[0].figures().nodes[0], 0, "nobody remembers it");
    let ping = write_query(&Realm::public(), b"t", &Id::new([7; 20]), &Query::Ping, [false; 2], 0);
    nodes[1].handle_datagram(at(9), 0, &ping, SECOND);
    assert_eq!(nodes[1].poll(), None);
}

#[test]
fn ids_follow_the_address_that_several_networks_see() {
    let mut world = World::new(11, Link { loss: 0.0, ..Link::default() });
    let nodes = world.grow(20, Realm::public());
    world.run(60 * SECOND);
    let (expected, chain) = file(3, 1);
    for host in &nodes {
        let ip = world.peer(*host, 1).ip();
        assert!(world.node(*host).own.is_rooted_in(ip), "{ip}");
        assert!(world.node(*host).figures().nodes[0] >= 10, "it still knows the others");
    }
    assert!(world.publish(nodes[3], &expected, &chain, 80) >= 7);
    assert_eq!(world.find(nodes[12], &expected).holders(), [world.peer(nodes[3], 80)]);
}
