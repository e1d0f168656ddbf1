//! Whose turn it is, and until when.

use super::*;
use crate::dht::terms::Priority;

/// A network in which the node that is given back knows nobody who still lives.
fn left_alone(seed: u64) -> (World, usize) {
    let mut world = World::new(seed, Link { loss: 0.0, ..Link::default() });
    let nodes = world.grow(30, Realm::public());
    world.run(60 * SECOND);
    nodes[1..].iter().for_each(|node| world.kill(*node));
    (world, nodes[0])
}

fn on(priority: Priority, deadline: Duration) -> Terms {
    Terms { priority, deadline, ..Terms::default() }
}

#[test]
fn the_urgent_have_their_turn_at_once_whatever_else_waits() {
    let (mut world, node) = left_alone(31);
    let now = world.now();
    let mut begin = |priority, from: u64, count: u64| -> Vec<JobId> {
        let find = |n| world.node_mut(node).find(file(1, n).0, on(priority, 10 * SECOND), now);
        (from..from + count).map(find).collect()
    };
    let later = begin(Priority::Ahead, 0, 100);
    let urgent = begin(Priority::Urgent, 1000, 100);
    let files = (0..40).map(|n| file(1, 2000 + n));
    let files: Vec<_> = files.map(|(file, chain)| Record::File(file, chain)).collect();
    let background = world.node_mut(node).publish_many(&files, 80, now);
    let jobs = &world.node(node).jobs;
    let under_way = |of: &[JobId]| of.iter().filter(|job| jobs.contains_key(job)).count();
    let free = Priority::Urgent.share() - Priority::Ahead.share();
    assert_eq!((under_way(&later), under_way(&urgent)), (Priority::Ahead.share(), free));
    assert_eq!((jobs.len(), under_way(&[background])), (Priority::Urgent.share(), 0));
    let first = urgent[..free].to_vec();
    assert_eq!(under_way(&first), free, "the oldest of them");
    for job in later.iter().chain(&first) {
        world.node_mut(node).cancel(*job);
    }
    world.node_mut(node).handle_timeout(now);
    let jobs = &world.node(node).jobs;
    assert!(urgent[free..free + 40].iter().all(|job| jobs.contains_key(job)), "now theirs");
}

#[test]
fn a_search_that_somebody_waits_for_is_as_urgent_as_that() {
    let (mut world, node) = left_alone(32);
    let now = world.now();
    let mut find = |n, priority| world.node_mut(node).find(file(1, n).0, on(priority, 10 * SECOND), now);
    let jobs: Vec<JobId> = (0..60).map(|n| find(n, Priority::Ahead)).collect();
    find(59, Priority::Urgent);
    world.node_mut(node).handle_timeout(now);
    assert!(world.node(node).jobs.contains_key(&jobs[59]));
    assert!(!world.node(node).jobs.contains_key(&jobs[58]));
}

#[test]
fn a_deadline_ends_the_wait_of_who_set_it_and_the_search_with_the_last() {
    let (mut world, node) = left_alone(33);
    let (began, files) = (world.now(), [file(1, 1).0, file(1, 2).0]);
    let mut find = |file, deadline| world.node_mut(node).find(file, on(Priority::Urgent, deadline), began);
    let [short, long] = [SECOND / 10, SECOND / 2].map(|deadline| find(files[0], deadline));
    let other = find(files[1], SECOND / 5);
    world.touch(node);
    world.run(3 * SECOND);
    let ended = |job| world.end_of(node, job).expect("it ended") - began;
    assert_eq!([short, long, other].map(ended), [SECOND / 10, SECOND / 2, SECOND / 5]);
    assert!(world.node(node).jobs.is_empty());
}

#[test]
fn a_deadline_counts_before_the_turn_as_well() {
    let (mut world, node) = left_alone(34);
    let began = world.now();
    let mut find = |n, deadline| world.node_mut(node).find(file(1, n).0, on(Priority::Urgent, deadline), began);
    let jobs: Vec<JobId> = (0..100).map(|n| find(n, SECOND / (1 + n as u32 / 64))).collect();
    world.touch(node);
    world.run(3 * SECOND);
    assert_eq!(world.end_of(node, jobs[99]).expect("it ended") - began, SECOND / 2);
}

#[test]
fn who_looks_again_finds_who_has_come_since() {
    let mut world = World::new(33, Link { loss: 0.0, ..Link::default() });
    let nodes = world.grow(30, Realm::public());
    world.run(60 * SECOND);
    let (expected, chain) = file(9, 33);
    let again = Terms { anew: true, ..Terms::default() };
    assert_eq!(world.find(nodes[3], &expected).holders().len(), 0);
    assert!(world.publish(nodes[7], &expected, &chain, 80) > 0);
    assert_eq!(world.find(nodes[3], &expected).holders().len(), 0, "that nobody has it is remembered for a moment");
    assert_eq!(world.find_on(again, nodes[3], &expected).holders().len(), 1);
    assert!(world.publish(nodes[8], &expected, &chain, 80) > 0);
    assert_eq!(world.find(nodes[3], &expected).holders().len(), 1, "and so is who has it");
    assert_eq!(world.find_on(again, nodes[3], &expected).holders().len(), 2);
}
