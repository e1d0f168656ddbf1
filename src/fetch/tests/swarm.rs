//! Clients that start at once and have nothing, beside one mirror.

use std::time::Duration;

use crate::fetch::plan::MirrorUse;

use super::{
    files::File,
    network::{Node, Setting, World},
    server::Manner,
};

fn swarm(file: &File, clients: usize, mirror: Node, found: Duration, seed: u64) -> World<'_> {
    let mut setting = Setting::new(MirrorUse::Sparing, Some(mirror), Vec::new());
    setting.swarm = Some((clients, found, 10e6));
    setting.seed = seed;
    setting.go(file)
}

#[test]
fn twenty_empty_clients_draw_little_more_than_one_file_from_a_mirror() {
    let file = File::sized(20, 100_000_000);
    let first = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    for seed in first..first + 1 {
        let world = swarm(&file, 20, Node::new(10e6), Duration::from_millis(1500), seed);
        assert!(world.clients.iter().all(|client| client.is_proven() && client.convicted.is_empty()), "seed {seed}");
        let files = world.mirror_sent as f64 / file.expected.size as f64;
        assert!(files <= 1.5, "the mirror sent {files:.2} files; seed {seed}");
        let slowest = world.clients.iter().map(|client| client.took()).fold(0.0, f64::max);
        assert!(slowest < 3.0 * 100e6 / 10e6, "the slowest took {slowest:.1} s; seed {seed}");
    }
}

#[test]
fn a_mirror_that_is_fast_for_all_is_not_slowed_by_a_swarm() {
    let file = File::sized(21, 100_000_000);
    let one = swarm(&file, 1, Node::new(100e6), Duration::from_millis(100), 0).clients[0].took();
    let world = swarm(&file, 3, Node::new(300e6), Duration::from_millis(100), 0);
    let slowest = world.clients.iter().map(|client| client.took()).fold(0.0, f64::max);
    assert!(slowest <= 1.1 * one, "{slowest:.2} s beside {one:.2} s alone");
}

#[test]
fn honest_clients_behind_a_false_mirror_convict_nobody() {
    let file = File::sized(22, 8_000_000);
    for seed in 0..8 {
        let mirror = Node::of(Manner::Flips(seed as usize), 1e6);
        let world = swarm(&file, 4, mirror, Duration::from_millis(700), seed);
        for client in &world.clients {
            assert!(!client.is_proven(), "seed {seed}: nobody has the right bytes");
            assert!(client.convicted.is_empty(), "seed {seed}: an honest client was convicted");
        }
    }
}
