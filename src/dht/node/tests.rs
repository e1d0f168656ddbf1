mod dial;
mod hostile;
mod memory;
mod network;
mod terms;

use crate::{
    dht::{find::Found, shelf::Record},
    hash::{ContentHash, Expected, PIECE_SIZE, PieceChain},
};

use super::*;
use crate::dht::terms::Terms;

use network::{Link, World};

const SECOND: Duration = Duration::from_secs(1);

/// A file of so many pieces and its chain, which nobody here can check.
fn file(pieces: usize, name: u64) -> (Expected, PieceChain) {
    let hash = ContentHash::of(format!("{pieces} {name}").as_bytes());
    let expected = Expected { hash, size: PIECE_SIZE * pieces as u64 - 1 };
    let states: Vec<u8> = (0..PieceChain::encoded_len(&expected)).map(|n| (n * 31 + pieces) as u8).collect();
    (expected, PieceChain::decode(&expected, &states).unwrap())
}

#[test]
fn one_node_finds_what_another_announced() {
    let mut world = World::new(1, Link { loss: 0.0, ..Link::default() });
    let [a, b, c] = world.grow(3, Realm::public())[..] else { panic!("three nodes") };
    world.run(10 * SECOND);
    let (expected, chain) = file(3, 1);
    assert_eq!(world.publish(a, &expected, &chain, 80), 2);
    for finder in [b, c] {
        let search = world.find(finder, &expected);
        assert_eq!(search.holders(), [world.peer(a, 80)]);
        assert_eq!(search.chains(), std::slice::from_ref(&chain));
    }
    assert_eq!(world.find(a, &expected).holders(), []);
}

#[test]
fn two_hundred_nodes_find_every_tier_over_a_bad_net() {
    let seed = network::seed();
    let mut world = World::new(seed, Link { loss: 0.02, ..Link::default() });
    let nodes = world.grow(200, Realm::public());
    world.run(120 * SECOND);
    let mut first = Vec::new();
    let mut ends = Vec::new();
    for (round, pieces) in [1, 2, 4, 5, 31, 32, 69, 70, 71].into_iter().enumerate() {
        let (expected, chain) = file(pieces, seed);
        let holders = [nodes[17 * round % 200], nodes[(31 * round + 7) % 200]];
        for holder in holders {
            let stored = world.publish(holder, &expected, &chain, 80);
            assert!(stored >= 5, "seed {seed}: {pieces} pieces stored by {stored}");
        }
        for finder in (3..200).step_by(20).map(|n| nodes[n]).filter(|finder| !holders.contains(finder)) {
            let search = world.find(finder, &expected);
            let mut expect = holders.map(|holder| world.peer(holder, 80));
            expect.sort();
            assert_eq!(search.holders(), expect, "seed {seed}: {pieces} pieces");
            let chains = if (2..=69).contains(&pieces) { vec![chain.clone()] } else { Vec::new() };
            assert_eq!(search.chains(), chains, "seed {seed}: {pieces} pieces");
            first.push(search.first_holder());
            ends.push(search.took());
        }
    }
    first.sort();
    ends.sort();
    let at = |times: &[Duration], percent: usize| times[times.len() * percent / 100];
    assert!(at(&first, 50) < SECOND / 4, "seed {seed}: first holder after {:?}", at(&first, 50));
    assert!(at(&ends, 90) < 3 * SECOND, "seed {seed}: ended after {:?}", at(&ends, 90));
}

#[test]
fn files_announced_together_are_found_and_refreshed_with_a_datagram_to_each_keeper() {
    let seed = network::seed();
    let mut world = World::new(seed, Link { loss: 0.0, ..Link::default() });
    let nodes = world.grow(60, Realm::public());
    world.run(120 * SECOND);
    let files: Vec<_> = (0..60).map(|n| file([1, 1, 1, 3, 40][n % 5], n as u64)).collect();
    let (stored, first) = world.publish_many(nodes[7], &files, 80);
    assert!(stored.iter().all(|stored| *stored >= 5), "seed {seed}: {stored:?}");
    for (finder, (expected, chain)) in files.iter().enumerate().map(|(n, file)| (nodes[8 + n % 50], file)) {
        let search = world.find(finder, expected);
        assert_eq!(search.holders(), [world.peer(nodes[7], 80)], "seed {seed}");
        let chains = if expected.pieces() > 1 { vec![chain.clone()] } else { Vec::new() };
        assert_eq!(search.chains(), chains, "seed {seed}");
    }
    let small: Vec<_> = files.iter().filter(|(expected, _)| expected.pieces() < 5).cloned().collect();
    world.run(Duration::from_secs(3600));
    let (stored, again) = world.publish_many(nodes[7], &small, 80);
    assert!(stored.iter().all(|stored| *stored >= 5), "seed {seed}: {stored:?}");
    assert!(again * 3 < first && again < 3 * small.len() as u64, "seed {seed}: {first} questions, then {again}");
    world.run(Duration::from_secs(80 * 60));
    let finder = nodes[20];
    assert_eq!(world.find(finder, &small[0].0).holders(), [world.peer(nodes[7], 80)], "refreshed, seed {seed}");
    assert_eq!(world.find(finder, &files[4].0).holders(), [], "not refreshed, seed {seed}");
}

#[test]
fn a_round_that_is_cancelled_says_no_more() {
    let mut world = World::new(4, Link { loss: 0.0, ..Link::default() });
    let nodes = world.grow(20, Realm::public());
    world.run(60 * SECOND);
    let (expected, chain) = file(1, 1);
    let now = world.now();
    let job = world.node_mut(nodes[3]).publish_many(&[Record::File(expected, chain)], 80, now);
    world.touch(nodes[3]);
    world.run(SECOND / 100);
    world.node_mut(nodes[3]).cancel(job);
    world.run(30 * SECOND);
    assert_eq!(world.node(nodes[3]).figures().searching, 0);
    assert_eq!(world.find(nodes[9], &expected).holders(), []);
}

#[test]
fn a_third_of_the_network_dies_and_what_it_knew_is_still_found() {
    let seed = network::seed();
    let mut world = World::new(seed, Link { loss: 0.01, ..Link::default() });
    let nodes = world.grow(150, Realm::public());
    world.run(120 * SECOND);
    let (expected, chain) = file(40, seed);
    world.publish(nodes[149], &expected, &chain, 80);
    for node in &nodes[..50] {
        world.kill(*node);
    }
    let mut found = 0;
    for finder in &nodes[60..80] {
        let search = world.find(*finder, &expected);
        assert!(search.took() < 5 * SECOND, "seed {seed}: {:?}", search.took());
        found += usize::from(
            search.holders() == [world.peer(nodes[149], 80)] && search.chains() == std::slice::from_ref(&chain),
        );
    }
    assert!(found >= 19, "seed {seed}: {found} of 20");
}

#[test]
fn a_private_network_finds_its_own_and_shows_nothing() {
    let mut world = World::new(1, Link { loss: 0.0, ..Link::default() });
    let secret = || Realm::private("a secret").unwrap();
    let private = world.grow(5, secret());
    let public = world.grow(5, Realm::public());
    let other = world.grow(5, Realm::private("another secret").unwrap());
    world.run(60 * SECOND);
    let (expected, chain) = file(40, 1);
    assert_eq!(world.publish(private[1], &expected, &chain, 80), 4);
    assert_eq!(world.find(private[3], &expected).chains(), [chain]);
    for stranger in [public[2], other[2]] {
        assert_eq!(world.find(stranger, &expected).holders(), []);
        assert!(world.node(stranger).figures().nodes[0] == 4);
    }
    for host in [private[0], public[0], other[0]] {
        assert_eq!(world.node(host).figures().nodes[0], 4);
        assert!(world.node(host).figures().dropped > 0);
    }
}

#[test]
fn ipv6_nodes_find_each_other_and_tell_ipv4_of_themselves() {
    let mut world = World::new(3, Link { loss: 0.0, ..Link::default() });
    let dual = world.grow_dual(30, Realm::public());
    world.run(60 * SECOND);
    let (expected, chain) = file(5, 1);
    let stored = world.publish(dual[4], &expected, &chain, 80);
    assert!((16..=22).contains(&stored), "eight of each family, and some for their path: {stored}");
    let search = world.find(dual[20], &expected);
    let mut both = [world.peer(dual[4], 80), world.peer6(dual[4], 80)];
    both.sort();
    assert_eq!(search.holders(), both);
    assert_eq!(search.chains(), [chain]);
    assert!(world.node(dual[9]).figures().nodes[1] > 8);
}

#[test]
fn a_restarted_node_needs_no_entry() {
    let mut world = World::new(5, Link { loss: 0.0, ..Link::default() });
    let nodes = world.grow(20, Realm::public());
    world.run(60 * SECOND);
    let saved = world.node(nodes[7]).saved(world.now());
    let bytes = saved.encode();
    let reborn = world.restart(nodes[7], Saved::decode(&bytes), false);
    assert_eq!(world.node(reborn).own, saved.id);
    world.run(2 * SECOND);
    assert!(world.node(reborn).figures().nodes[0] >= 8);
    assert!(world.node(reborn).figures().external[0].is_some());
}

#[test]
fn a_search_begun_at_the_start_waits_for_the_first_contact() {
    let mut world = World::new(6, Link { loss: 0.0, ..Link::default() });
    let nodes = world.grow(10, Realm::public());
    world.run(60 * SECOND);
    let (expected, chain) = file(2, 1);
    world.publish(nodes[3], &expected, &chain, 80);
    let late = world.grow(1, Realm::public())[0];
    let search = world.find(late, &expected);
    assert_eq!(search.holders(), [world.peer(nodes[3], 80)]);
}

#[test]
fn a_node_alone_ends_its_searches_at_once() {
    let mut world = World::new(7, Link::default());
    let lonely = world.add(Realm::public(), None, false, [true, false]);
    let (expected, chain) = file(2, 1);
    assert_eq!(world.find(lonely, &expected).took(), Duration::ZERO);
    assert_eq!(world.publish(lonely, &expected, &chain, 80), 0);
}

#[test]
fn an_idle_network_says_little() {
    let mut world = World::new(8, Link { loss: 0.0, ..Link::default() });
    let nodes = world.grow(50, Realm::public());
    world.run(3600 * SECOND);
    let before = world.node(nodes[9]).figures().queries_out;
    world.run(3600 * SECOND);
    let asked = world.node(nodes[9]).figures().queries_out - before;
    assert!((20..1000).contains(&asked), "{asked} questions in an hour");
    assert!(world.node(nodes[9]).figures().nodes[0] > 30);
}

#[test]
fn what_was_announced_ends_unless_announced_again() {
    let mut world = World::new(9, Link { loss: 0.0, ..Link::default() });
    let nodes = world.grow(10, Realm::public());
    world.run(60 * SECOND);
    let (expected, chain) = file(40, 1);
    world.publish(nodes[1], &expected, &chain, 80);
    world.run(100 * 60 * SECOND);
    assert_eq!(world.find(nodes[2], &expected).holders().len(), 1);
    world.run(31 * 60 * SECOND);
    assert_eq!(world.find(nodes[2], &expected).holders().len(), 0);
    assert_eq!(world.node(nodes[5]).figures().stored, 0);
}

#[test]
fn equal_searches_are_one_and_what_they_found_is_remembered() {
    let mut world = World::new(11, Link { loss: 0.0, ..Link::default() });
    let nodes = world.grow(30, Realm::public());
    world.run(60 * SECOND);
    let (expected, chain) = file(2, 1);
    world.publish(nodes[4], &expected, &chain, 80);
    let now = world.now();
    let before = world.node(nodes[3]).figures().queries_out;
    let jobs: Vec<JobId> = (0..5).map(|_| world.node_mut(nodes[3]).find(expected, Terms::default(), now)).collect();
    world.node_mut(nodes[3]).cancel(jobs[0]);
    let alone = world.node(nodes[3]).figures().queries_out - before;
    assert_eq!(world.node(nodes[3]).walks.len(), 1);
    assert_eq!(world.find(nodes[3], &expected).holders(), [world.peer(nodes[4], 80)], "an asker who came late");
    assert_eq!(world.ended(nodes[3]), 5, "all but the one who went");
    assert!(world.node(nodes[3]).joined.is_empty());
    let again = world.find(nodes[3], &expected);
    assert_eq!((again.took(), again.holders().len()), (Duration::ZERO, 1));
    assert!(alone > 0);
    let last = world.node_mut(nodes[5]).find(expected, Terms::default(), now);
    world.node_mut(nodes[5]).cancel(last);
    assert!(world.node(nodes[5]).walks.is_empty());
}

#[test]
fn many_searches_at_once_all_end() {
    let mut world = World::new(10, Link::default());
    let nodes = world.grow(30, Realm::public());
    world.run(60 * SECOND);
    let now = world.now();
    for n in 0..5000 {
        world.node_mut(nodes[3]).find(file(1, n).0, Terms::default(), now);
    }
    world.touch(nodes[3]);
    world.run(120 * SECOND);
    assert_eq!(world.node(nodes[3]).figures().searching, 0);
    assert_eq!(world.ended(nodes[3]), 5000);
    // A walk to the own id may be under way at any moment.
    let left = (0..10).find(|_| {
        let is_still = world.node(nodes[3]).walks.is_empty();
        world.run(SECOND);
        is_still
    });
    assert!(left.is_some(), "walks go on without end");
}
