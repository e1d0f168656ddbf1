//! The simulation of `benches/dht` on fewer nodes: its model is what the published figures of others say, and our lookups
//! keep their numbers in it.

use std::time::Duration;

#[allow(dead_code, reason = "the bench runs more cases")]
#[path = "../benches/dht/cases.rs"]
mod cases;
#[path = "../benches/dht/internet.rs"]
mod internet;
#[allow(dead_code, reason = "the bench measures more")]
#[path = "../benches/dht/sockets.rs"]
mod sockets;
#[allow(dead_code, reason = "the bench runs more cases")]
#[path = "../benches/dht/strategy.rs"]
mod strategy;
#[path = "../benches/dht/virtual_net.rs"]
mod virtual_net;
#[allow(dead_code, reason = "the bench runs more cases")]
#[path = "../benches/dht/world.rs"]
mod world;

use internet::Internet;
use strategy::{APT_P2P, NAIVE, Outcome, Strategy};
use virtual_net::Tables;

fn seed() -> u64 {
    std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_120)
}

/// Milliseconds of the first value and of the end, at a percentage.
fn at(outcomes: &[Outcome], percent: usize) -> [u128; 2] {
    let mut first: Vec<Duration> = outcomes.iter().filter_map(|outcome| outcome.first).collect();
    let mut complete: Vec<Duration> = outcomes.iter().map(|outcome| outcome.complete).collect();
    [&mut first, &mut complete].map(|times| {
        times.sort();
        times[times.len() * percent / 100].as_millis()
    })
}

#[test]
fn the_model_gives_what_is_known_of_other_programs() {
    let seed = seed();
    for (strategy, known) in [(APT_P2P, [180, 18_000]), (NAIVE, [180, 4_200])] {
        let outcomes = cases::calculated(Internet::new(seed), 3_000, 0.3, (strategy, Tables::Plain), 1000);
        for (found, known) in at(&outcomes, 50).into_iter().zip(known) {
            assert!(found.abs_diff(known) * 100 <= known * 15, "seed {seed}: {found} ms for {known} ms");
        }
    }
}

#[test]
fn a_lookup_of_ours_keeps_its_numbers_in_the_same_model() {
    let seed = seed();
    let ours = (Strategy::Ours, cases::OUR_TABLES);
    for (nodes, dead, p50, p90) in [(3_000, 0.3, [60, 310], [105, 350]), (100_000, 0.5, [145, 450], [195, 700])] {
        let outcomes = cases::calculated(Internet::new(seed), nodes, dead, ours, 500);
        let found = [at(&outcomes, 50), at(&outcomes, 90)];
        let is_good = |found: [u128; 2], bar: [u128; 2]| found[0] <= bar[0] && found[1] <= bar[1];
        assert!(is_good(found[0], p50) && is_good(found[1], p90), "seed {seed}, {nodes} nodes: {found:?} ms");
        let messages = outcomes.iter().map(|outcome| outcome.messages).sum::<usize>() / outcomes.len();
        assert!(messages <= 70, "seed {seed}, {nodes} nodes: {messages} messages");
    }
}

#[test]
fn real_nodes_find_what_was_announced_though_a_third_of_whom_they_know_is_dead() {
    let seed = seed();
    let outcomes = cases::real(Internet::new(seed), 150, 0.3, Duration::from_secs(60), 100);
    let found = outcomes.iter().filter(|outcome| outcome.first.is_some()).count();
    let [p50, p90] = [50, 90].map(|percent| at(&outcomes, percent));
    assert!(found >= 99, "seed {seed}: {found} of 100");
    assert!(p50[0] <= 90 && p50[1] <= 450 && p90[1] <= 850, "seed {seed}: {p50:?} {p90:?} ms");
}

#[test]
fn holders_of_small_files_are_found_by_their_shelves_while_nodes_come_and_go() {
    let seed = seed();
    let shelved = cases::shelved(Internet::new(seed), 80, Duration::from_secs(4 * 3600), 2);
    println!("seed {seed}: {shelved:?}");
    assert!(shelved.searches > 200 && shelved.gone > 10, "seed {seed}: {shelved:?}");
    assert!(shelved.named * 100 >= shelved.searches * 97, "seed {seed}: {shelved:?}");
    assert!(shelved.found * 100 >= shelved.searches * 85, "seed {seed}: {shelved:?}");
}

#[test]
fn holding_costs_by_keepers_and_not_by_files() {
    let seed = seed();
    let spent = cases::holding(Internet::new(seed), 150, 500, Duration::from_secs(30 * 60));
    println!("seed {seed}: {spent:.0?} B/s by tier and for all");
    let alone: f64 = spent[..4].iter().sum();
    assert!(spent[4] > 0.0 && spent[4] < 200.0, "seed {seed}: {spent:.0?} B/s");
    assert!(spent[4] < alone * 1.1, "seed {seed}: {spent:.0?} B/s");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_on_sockets_find_what_was_announced_with_few_questions_though_a_third_is_dead() {
    let seed = seed();
    let mut crowd = sockets::Crowd::start(91, 100, seed).await;
    for dead in [0.0, 0.3] {
        crowd.kill(dead).await;
        let took = crowd.look_up(40).await;
        let found = took.iter().filter(|took| took.first.is_some()).count();
        let answers = took.iter().map(|took| took.answers).sum::<usize>() / took.len();
        assert!(found >= 38, "seed {seed}: {found} of 40 with {dead} dead");
        assert!((1..=70).contains(&answers), "seed {seed}: {answers} answers");
    }
}
