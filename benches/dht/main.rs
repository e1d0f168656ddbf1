//! The numbers of the DHT: what a lookup takes beside other programs, in networks that are calculated and in one of real
//! nodes. `SEED`, `NODES` (real ones) and `HOURS` (of churn) may be set; the names of cases may be given as arguments.
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a bench owns a clock and a terminal")]

mod cases;
mod internet;
mod sockets;
mod strategy;
mod virtual_net;
mod world;

use std::{
    env, fs,
    str::FromStr,
    time::{Duration, Instant},
};

use cases::OUR_TABLES;
use internet::Internet;
use sockets::Crowd;
use strategy::{APT_P2P, NAIVE, Outcome, Strategy};
use virtual_net::Tables;
use world::World;

fn main() {
    let seed = variable("SEED", 20_261_120);
    println!("seed {seed}");
    let internet = Internet::new(seed);
    let wanted: Vec<String> = env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    type Case = (&'static str, fn(Internet));
    let cases: [Case; 8] = [
        ("holding", holding),
        ("calculated", calculated),
        ("memory", memory),
        ("real", real),
        ("sockets", sockets),
        ("hostile", hostile),
        ("churn", churn),
        ("shelved", shelved),
    ];
    for (name, case) in cases {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            let start = Instant::now();
            case(internet);
            println!("  ({name}: {:.0?})", start.elapsed());
        }
    }
}

fn variable<T: FromStr>(name: &str, otherwise: T) -> T {
    env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// Others and ours in the same model. What others take is known from facts; the model gives it within 15 %.
fn calculated(internet: Internet) {
    let rivals = [("apt-p2p", (APT_P2P, Tables::Plain)), ("naive BEP 5", (NAIVE, Tables::Plain))];
    for (nodes, dead, known) in [
        (3_000, 0.3, ["first 180/467, complete 18 s", "first 180/463, complete 4.2 s"]),
        (1_000_000, 0.3, ["first 425/9217, complete 18 s", "first 424/2280, complete 4.4 s"]),
        (1_000_000, 0.5, ["first 9160/18440, complete 36 s", "first 2180/4468, complete 8.5 s"]),
    ] {
        println!("{nodes} nodes calculated, {:.0} % of the entries dead", 100.0 * dead);
        for ((name, how), known) in rivals.into_iter().zip(known) {
            print(name, &cases::calculated(internet, nodes, dead, how, 1000), known);
        }
        let ours = (Strategy::Ours, OUR_TABLES);
        let bar = match (nodes, dead) {
            (3_000, _) => "first 50/100, complete 310/350",
            (_, 0.5) => "complete 450/700",
            _ => "first 145/195, messages 70",
        };
        print("ours", &cases::calculated(internet, nodes, dead, ours, 1000), bar);
    }
}

fn real(internet: Internet) {
    let nodes = variable("NODES", 3_000);
    let warm = Duration::from_secs(60 * variable("WARM", 15));
    println!("{nodes} real nodes, 30 % of them dead since a moment");
    let outcomes = cases::real(internet, nodes, 0.3, warm, 1000);
    print("ours", &outcomes, "first 50/100, complete 310/350, messages 70");
}

/// Nodes on sockets of this machine.
fn sockets(_: Internet) {
    let (nodes, seed) = (variable("SOCKETS", 500), variable("SEED", 20_261_120));
    println!("{nodes} nodes on sockets of this machine, in microseconds");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut crowd = Crowd::start(90, nodes, seed).await;
        tokio::time::sleep(Duration::from_secs(variable("SETTLE", 30))).await;
        for (dead, bar) in [(0.0, "first 1000/3000, complete 5000"), (0.3, "complete 400000")] {
            crowd.kill(dead).await;
            let took = crowd.look_up(if dead > 0.0 { 60 } else { 300 }).await;
            let first = sorted(took.iter().filter_map(|took| took.first));
            let complete = sorted(took.iter().map(|took| took.complete));
            let at = |times: &[Duration], percent: usize| {
                times
                    .get((times.len() * percent / 100).min(times.len().saturating_sub(1)))
                    .map_or(0, Duration::as_micros)
            };
            let answers = took.iter().map(|took| took.answers).sum::<usize>() / took.len();
            println!(
                "  {:2.0} % killed: found {}/{}, first {}/{}/{}, complete {}/{}/{}, {answers} answers ({bar})",
                100.0 * dead,
                first.len(),
                took.len(),
                at(&first, 50),
                at(&first, 90),
                at(&first, 99),
                at(&complete, 50),
                at(&complete, 90),
                at(&complete, 99),
            );
        }
    });
}

fn hostile(internet: Internet) {
    let nodes = variable("NODES", 3_000) / 3;
    let found = cases::hostile(internet, nodes, 200);
    println!("{nodes} real nodes, 20 % of them hostile: {:.1} % found (98)", 100.0 * found);
}

fn churn(internet: Internet) {
    let (nodes, hours) = (variable("NODES", 3_000) / 10, variable("HOURS", 24));
    let churned = cases::churn(internet, nodes, Duration::from_secs(3600 * hours), 4);
    let part = 100.0 * churned.found as f64 / churned.searches as f64;
    println!(
        "{nodes} real nodes, {} gone in {hours} h: {part:.2} % of {} found (99.5)",
        churned.gone, churned.searches
    );
}

fn shelved(internet: Internet) {
    let (nodes, hours) = (variable("NODES", 3_000) / 10, variable("HOURS", 24));
    let shelved = cases::shelved(internet, nodes, Duration::from_secs(3600 * hours), 4);
    let part = |count| 100.0 * count as f64 / shelved.searches as f64;
    println!(
        "{nodes} real nodes, {} gone in {hours} h: of {} files of one piece, a holder was among the peers of the shelf for \
         {:.1} %, among the eight who are asked for {:.1} %",
        shelved.gone,
        shelved.searches,
        part(shelved.named),
        part(shelved.found)
    );
}

fn holding(internet: Internet) {
    let (nodes, packages) = (variable("NODES", 10_000), variable("PACKAGES", 5_000));
    let minutes = variable("MINUTES", 60);
    let spent = cases::holding(internet, nodes, packages, Duration::from_secs(60 * minutes));
    println!("{nodes} real nodes, {packages} packages held and refreshed: bytes sent a second, by tier");
    for ((tier, _, share), spent) in cases::TIERS.into_iter().zip(spent) {
        println!("  {tier:8} {share:2} %: {spent:.0} B/s, alone");
    }
    println!("  all: {:.0} B/s (at most 1000, goal 200)", spent[cases::TIERS.len()]);
}

fn memory(internet: Internet) {
    let nodes = 2 * variable("NODES", 3_000) / 3;
    let before = resident();
    let mut world = World::new(internet, 9);
    world.grow(nodes, Duration::from_secs(60));
    world.run(Duration::from_secs(15 * 60));
    let each = resident().saturating_sub(before) / nodes;
    println!("{nodes} real nodes, idle for 15 min: {} kB each, all told (50)", each / 1000);
    let records = 20_000;
    let before = resident();
    let storage = cases::stored(records);
    let each = resident().saturating_sub(before) / records;
    println!("{} remote records: {each} B each (300)", storage.stored());
}

/// Memory of this process, in bytes.
fn resident() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.expect("the second number of statm is the resident set") * 4096
}

/// One line: times in milliseconds at one half, nine tenths and 99 of a hundred.
fn print(name: &str, outcomes: &[Outcome], known: &str) {
    let first = sorted(outcomes.iter().filter_map(|outcome| outcome.first));
    let complete = sorted(outcomes.iter().map(|outcome| outcome.complete));
    let messages = outcomes.iter().map(|outcome| outcome.messages).sum::<usize>() as f64 / outcomes.len() as f64;
    let reached = outcomes.iter().map(|outcome| outcome.reached).sum::<usize>() as f64 / outcomes.len() as f64;
    let found = 100.0 * first.len() as f64 / outcomes.len() as f64;
    let [first, complete] = [first, complete].map(|times| [50, 90, 99].map(|percent| at(&times, percent)));
    println!(
        "  {name:12} first {first:?} complete {complete:?} messages {messages:.1} reached {reached:.1} found {found:.1} %   ({known})"
    );
}

fn at(times: &[Duration], percent: usize) -> u128 {
    times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).map_or(0, Duration::as_millis)
}

fn sorted(times: impl Iterator<Item = Duration>) -> Vec<Duration> {
    let mut times: Vec<_> = times.collect();
    times.sort();
    times
}
