//! Many daemons at a time: what the mirror still has to send.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};

use crate::{
    Seen, World,
    harness::{archive::Package, burst, depot::Depot, huddle::Host, machine::Config},
    link::{Line, Link},
    median,
};

use super::{MB, daemons::leave_log};
use apt_huddle::hash::PIECE_SIZE;

/// Daemons of the replay.
const DAEMONS: usize = 10;
/// Time from one's start to the next one's, as a part of what the mirror alone takes.
const STAGGER: f64 = 0.3;
/// How long hosts may take to find each other.
const FINDING: Duration = Duration::from_secs(60);
/// The seed of the sizes.
const SEED: u64 = 123;

/// Starts so many hosts that know each other, all with a mirror line of their own.
fn members(count: usize, depot: &Depot, mirrors: &[SocketAddr], config: &Config) -> Vec<Host> {
    let mut members: Vec<Host> = Vec::new();
    for number in 0..count {
        let bootstrap = members.iter().map(|member| member.daemon.peers()).take(1).collect();
        let config = Config { bootstrap, ..config.clone() };
        let mirror = mirrors[number % mirrors.len()];
        members.push(Host::of(&format!("member-{number}-"), mirror, &depot.signer, &config));
    }
    let enough = (count as u64 - 1).min(8);
    for member in &members {
        member.daemon.until("it knows the others", FINDING, |status| status.nodes() >= enough);
    }
    members
}

/// An upgrade of 123 files in the tiers of a real one, 206 MB in all, by 10 daemons one after another begun.
pub fn replay(_: &World<'_>) -> Vec<Seen> {
    let depot = Depot::of(upgrade());
    let mirror = depot.mirror();
    // Each has a line of its own to the mirror, so that alone it would be as quick as the only one.
    let lines: Vec<_> = (0..DAEMONS).map(|_| Link::to(mirror.addr(), Line::of(10))).collect();
    let mirrors: Vec<_> = lines.iter().map(Link::addr).collect();
    let alone = burst::fetch(mirrors[0], mirrors[0], &depot.all()).took;
    let config = Config { upload_limit: "10MB/s", ..Config::default() };
    let members = members(DAEMONS, &depot, &mirrors, &config);
    let begun = Instant::now();
    let packages = depot.all();
    let took: Vec<f64> = thread::scope(|scope| {
        let runs = (0..).zip(members.iter().zip(&lines)).map(|(number, (member, line))| {
            let (packages, mirror, proxy) = (&packages, line.addr(), member.daemon.proxy());
            scope.spawn(move || {
                let due = alone.mul_f64(STAGGER * f64::from(number));
                thread::sleep(due.saturating_sub(begun.elapsed()));
                burst::fetch(proxy, mirror, packages).took.as_secs_f64()
            })
        });
        let runs: Vec<_> = runs.collect();
        runs.into_iter().map(|run| run.join().expect("every file comes")).collect()
    });
    (1..).zip(&members).for_each(|(number, member)| leave_log(member, &format!("replay-{number}")));
    let last = &lines[DAEMONS / 2..];
    let all: u64 = packages.iter().map(|package| package.size).sum();
    let of_mirror: u64 = last.iter().map(|line| pool_bytes(line, &packages)).sum();
    let share = 1.0 - of_mirror as f64 / (last.len() as u64 * all) as f64;
    let ratios: Vec<_> = took.iter().map(|took| took / alone.as_secs_f64()).collect();
    let worst = ratios.iter().copied().fold(0.0, f64::max);
    vec![
        Seen::at_least("123 files by 10 daemons, last 5", 0.7, "of bytes from peers", share),
        Seen::at_most("123 files by 10 daemons, time", 1.05, "x the mirror", median(ratios))
            .with(&format!("worst {worst:.2}")),
    ]
}

/// Bytes of these packages' files that a mirror's line carried.
fn pool_bytes(line: &Link, packages: &[&Package]) -> u64 {
    packages.iter().flat_map(|package| line.carried(&package.url_path()).into_values()).sum()
}

/// Sizes of 85 files of one piece, 28 of 2 to 4, 8 of 5 to 69 and 2 of more, in no order.
fn upgrade() -> Vec<u64> {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut sizes = Vec::new();
    for (files, from, until) in
        [(85, 8_000, PIECE_SIZE / 2), (28, PIECE_SIZE + 1, 3 * PIECE_SIZE), (8, 4 * PIECE_SIZE + 1, 20 * PIECE_SIZE)]
    {
        sizes.extend((0..files).map(|_| random.random_range(from..until)));
    }
    let left = 206 * MB - sizes.iter().sum::<u64>();
    sizes.extend([left * 2 / 5, left - left * 2 / 5]);
    assert!(sizes.iter().rev().take(2).all(|size| *size > 69 * PIECE_SIZE), "two files of 70 pieces and more");
    sizes.shuffle(&mut random);
    sizes
}

/// 20 empty clients start at once, a mirror of 10 MB/s for all, uploads of 10 MB/s each, 100 MB.
pub fn twenty(_: &World<'_>) -> Vec<Seen> {
    let depot = Depot::one(100 * MB);
    let mirror = depot.mirror();
    let line = Link::to(mirror.addr(), Line::of(10));
    let config = Config { upload_limit: "10MB/s", ..Config::default() };
    let members = members(20, &depot, &[line.addr()], &config);
    let before = line.down();
    let package: &Package = depot.package();
    let begun = Instant::now();
    thread::scope(|scope| {
        for member in &members {
            let (mirror, proxy) = (line.addr(), member.daemon.proxy());
            scope.spawn(move || burst::fetch(proxy, mirror, &[package]));
        }
    });
    let took = begun.elapsed().as_secs();
    (1..).zip(&members).for_each(|(number, member)| leave_log(member, &format!("twenty-{number}")));
    let files = (line.down() - before) as f64 / package.size as f64;
    vec![
        Seen::at_most("20 empty clients at once, 100 MB", 1.5, "files of the mirror", files).with(&format!("{took} s")),
    ]
}
