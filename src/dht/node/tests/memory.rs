//! What outlives a restart, and another address.

use super::*;
use crate::dht::probe::Probe;

const MINUTE: Duration = Duration::from_secs(60);

fn files(count: u64) -> Vec<(Expected, PieceChain)> {
    (0..count).map(|n| file(1, 500 + n)).collect()
}

fn calm() -> Link {
    Link { loss: 0.0, ..Link::default() }
}

/// A node ends and begins again with what it saved.
fn reborn(world: &mut World, node: usize) -> usize {
    let saved = world.node(node).saved(world.now()).encode();
    world.restart(node, Saved::decode(&saved), false)
}

#[test]
fn after_a_restart_files_are_told_straight_to_those_who_knew_of_them() {
    let seed = network::seed();
    let mut world = World::new(seed, calm());
    let nodes = world.grow(60, Realm::public());
    world.run(2 * MINUTE);
    let files = files(40);
    let (_, first) = world.publish_many(nodes[7], &files, 80);
    let (_, second) = world.publish_many(nodes[7], &files, 80);
    let reborn = reborn(&mut world, nodes[7]);
    world.run(SECOND);
    assert!(world.node(reborn).figures().nodes[0] >= 8, "seed {seed}: back within a second");
    world.run(2 * SECOND);
    let (stored, again) = world.publish_many(reborn, &files, 80);
    assert!(stored.iter().all(|stored| *stored >= 5), "seed {seed}: {stored:?}");
    assert!(again <= second + 10 && again * 3 < first, "seed {seed}: {first} questions, {second}, {again} when reborn");
}

#[test]
fn tokens_are_good_after_a_restart_of_who_gave_them_out() {
    let seed = network::seed();
    let mut world = World::new(seed, calm());
    let nodes = world.grow(60, Realm::public());
    world.run(2 * MINUTE);
    let files = files(40);
    world.publish_many(nodes[7], &files, 80);
    let (_, second) = world.publish_many(nodes[7], &files, 80);
    let others: Vec<usize> = nodes.iter().copied().filter(|node| *node != nodes[7]).collect();
    for node in others {
        reborn(&mut world, node);
    }
    world.run(5 * SECOND);
    let (stored, third) = world.publish_many(nodes[7], &files, 80);
    assert!(stored.iter().all(|stored| *stored >= 5), "seed {seed}: {stored:?}");
    assert!(third <= second + 10, "seed {seed}: {second} questions, then {third}");
}

#[test]
fn who_has_another_address_takes_another_id_and_is_found_there_when_it_announces_anew() {
    let seed = network::seed();
    let mut world = World::new(seed, calm());
    let nodes = world.grow(60, Realm::public());
    world.run(2 * MINUTE);
    let files = files(10);
    world.publish_many(nodes[7], &files, 80);
    let before = (world.node(nodes[7]).own, world.peer(nodes[7], 80));
    assert!(before.0.is_rooted_in(before.1.ip()), "seed {seed}");
    assert_eq!(world.node(nodes[7]).figures().moves, 0);
    world.relocate(nodes[7], "77.1.2.3:9978".parse().unwrap());
    world.run(15 * MINUTE);
    let figures = world.node(nodes[7]).figures();
    let now_at = world.peer(nodes[7], 80);
    assert_eq!((figures.external[0].map(|addr| addr.ip()), figures.moves), (Some(now_at.ip()), 1), "seed {seed}");
    assert!(world.node(nodes[7]).own.is_rooted_in(now_at.ip()), "seed {seed}");
    let (stored, _) = world.publish_many(nodes[7], &files, 80);
    assert!(stored.iter().all(|stored| *stored >= 5), "seed {seed}: {stored:?}");
    for (expected, _) in &files {
        assert!(world.find(nodes[20], expected).holders().contains(&now_at), "seed {seed}");
    }
}

#[test]
fn what_is_announced_on_mainline_is_kept_for_three_quarters_of_an_hour() {
    let mut world = World::new(12, calm());
    let nodes = world.grow(30, Realm::mainline());
    world.run(2 * MINUTE);
    let key = Id::new([7; 20]);
    assert!(world.probe(nodes[7], Probe::Announce { key, port: 80 }).1 >= 8);
    let peers = |world: &mut World| {
        let heard = world.probe(nodes[20], Probe::GetPeers(key)).0;
        heard.iter().filter(|heard| matches!(heard, Heard::Peer(_))).count()
    };
    world.run(44 * MINUTE);
    assert_eq!(peers(&mut world), 1);
    world.run(2 * MINUTE);
    assert_eq!(peers(&mut world), 0);
}

#[test]
fn one_neighbourhood_that_lies_about_the_address_changes_nothing() {
    let mut world = World::new(9, calm());
    let nodes = world.grow(30, Realm::public());
    world.run(2 * MINUTE);
    let own = world.node(nodes[7]).own;
    let node = world.node_mut(nodes[7]);
    for n in 0..200 {
        let (liar, claimed) = ([66, 6, 6, n].into(), ([77, 1, 2, 3], 9978).into());
        node.votes[0].handle_vote(liar, claimed, &mut node.rng);
        node.follow_address(121 * SECOND);
    }
    assert_eq!((node.own, node.moves), (own, 0));
}
