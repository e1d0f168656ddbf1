//! Many hosts at a time: what the mirror still has to send, counted there.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};

use crate::harness::{
    PIECE,
    burst::{self, Came},
    depot::Depot,
    huddle::Host,
    machine::Config,
    mirror::Mirror,
    settled,
};

/// How long hosts may take to find each other.
const FINDING: Duration = Duration::from_secs(60);

/// Starts a host for each of these mirrors, and waits until they know each other.
fn hosts(depot: &Depot, mirrors: &[SocketAddr], upload_limit: &'static str) -> Vec<Host> {
    let start = |number: usize, bootstrap: Vec<SocketAddr>| {
        let config = Config { bootstrap, upload_limit, ..Config::default() };
        Host::of(&format!("swarm-{number}-"), mirrors[number], &depot.signer, &config)
    };
    let mut hosts = vec![start(0, Vec::new())];
    let first = hosts[0].daemon.peers();
    (1..mirrors.len()).for_each(|number| hosts.push(start(number, vec![first])));
    let enough = (mirrors.len() as u64 - 1).min(8);
    for host in &hosts {
        host.daemon.until("it knows the others", FINDING, |status| status.nodes() >= enough);
    }
    hosts
}

/// Hosts that start at once. Fewer than the twenty of the bench, which runs with optimisation and alone: that many share two
/// processors with other tests here, and what is measured then is who gets a turn.
const CROWD: usize = 8;

/// How often the mirror may send the file, where each alone would ask for all of it. The bench holds the product to 1.5; here
/// processors are shared, and hosts that wait for their turn hear of each other late.
const FILES: f64 = 2.5;

#[test]
fn empty_hosts_that_start_at_once_share_out_what_the_mirror_sends() {
    let depot = Depot::one(40_000_000);
    let mirror = depot.mirror();
    let hosts = hosts(&depot, &[mirror.addr(); CROWD], "3MB/s");
    mirror.server().limit(3_000_000);
    let begun = Instant::now();
    let packages = depot.all();
    let came: Vec<Came> = thread::scope(|scope| {
        let run = |host: &Host| {
            let (packages, proxy, mirror) = (&packages, host.daemon.proxy(), mirror.addr());
            scope.spawn(move || burst::fetch(proxy, mirror, packages))
        };
        let runs: Vec<_> = hosts.iter().map(run).collect();
        runs.into_iter().map(|run| run.join().expect("it comes")).collect()
    });
    let files = settled(|| mirror.pool_bytes()) as f64 / depot.package().size as f64;
    let slowest = came.iter().map(|came| came.first_byte).max();
    println!("{files:.2} files of the mirror, {:?}, slowest first byte {slowest:?}", begun.elapsed());
    assert!(files <= FILES, "{files:.2} files of the mirror");
}

/// Hosts of the replay, and how much later each starts, as a part of what the mirror alone takes.
const DAEMONS: usize = 10;
const STAGGER: f64 = 0.3;

/// Bytes a second of each host's line to the mirror.
const LINE: u64 = 16_000_000;

#[test]
fn the_last_five_of_ten_that_upgrade_one_after_another_have_seven_tenths_from_peers() {
    let depot = Depot::of(upgrade(123));
    // A line for each, so that alone it would be as quick as the only one.
    let mirrors: Vec<Mirror> = (0..DAEMONS).map(|_| depot.mirror()).collect();
    let hosts = hosts(&depot, &mirrors.iter().map(Mirror::addr).collect::<Vec<_>>(), "16MB/s");
    mirrors.iter().for_each(|mirror| mirror.server().limit(LINE));
    let packages = depot.all();
    let size: u64 = packages.iter().map(|package| package.size).sum();
    let alone = Duration::from_secs_f64(size as f64 / LINE as f64);
    let begun = Instant::now();
    let took: Vec<f64> = thread::scope(|scope| {
        let mut runs = Vec::new();
        for (number, (host, mirror)) in (0..).zip(hosts.iter().zip(&mirrors)) {
            let (packages, proxy) = (&packages, host.daemon.proxy());
            runs.push(scope.spawn(move || {
                thread::sleep(alone.mul_f64(STAGGER * f64::from(number)).saturating_sub(begun.elapsed()));
                burst::fetch(proxy, mirror.addr(), packages).took.as_secs_f64()
            }));
        }
        runs.into_iter().map(|run| run.join().expect("every file comes")).collect()
    });
    let shares: Vec<_> = mirrors.iter().map(|mirror| 1.0 - mirror.pool_bytes() as f64 / size as f64).collect();
    println!("{size} bytes, {:?}; {took:.1?} s for {alone:.1?}; shares from peers {shares:.2?}", begun.elapsed());
    let last = shares[DAEMONS / 2..].iter().sum::<f64>() / (DAEMONS - DAEMONS / 2) as f64;
    assert!(last >= 0.7, "{last:.3} of the bytes from peers: {shares:.2?}");
}

/// Sizes of a sixth of a real upgrade of 123 files: 14 of one piece, 4 of 2 to 4, 2 of 5 to 69 and 1 of more, in no order.
fn upgrade(seed: u64) -> Vec<u64> {
    let mut random = StdRng::seed_from_u64(seed);
    let tiers = [(14, 8_000, PIECE / 2), (4, PIECE + 1, 3 * PIECE), (2, 4 * PIECE + 1, 12 * PIECE)];
    let mut sizes = vec![69 * PIECE + 4711];
    for (files, from, until) in tiers {
        sizes.extend((0..files).map(|_| random.random_range(from..until)));
    }
    sizes.shuffle(&mut random);
    sizes
}
