//! Many sources against one; what crosses the wire; many small files against one large.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use apt_huddle::{fetch::MirrorUse, hash::PIECE_SIZE};
use futures_util::{StreamExt, stream};

use crate::{
    Seen, World,
    harness::{burst, depot::Depot, settled},
    host::{Holders, Host, known},
    link::{Line, Link},
};

use super::MB;

/// Lines to peers that have everything, of so many million bytes a second each.
pub fn peers(holders: &mut Holders, rates: impl IntoIterator<Item = u64>) -> Vec<Link> {
    rates.into_iter().map(|rate| Link::to(holders.port(), Line::of(rate))).collect()
}

fn addresses(links: &[Link]) -> Vec<SocketAddr> {
    links.iter().map(Link::addr).collect()
}

/// 4 peers of 10 MB/s each, 80 MB, no mirror.
pub fn four_peers(world: &World<'_>) -> Vec<Seen> {
    let depot = Depot::one(80 * MB);
    let mut holders = Holders::of(&depot.all());
    let links = peers(&mut holders, [10; 4]);
    let all = addresses(&links);
    let time = |peers: &[SocketAddr]| {
        let host = Host::new(MirrorUse::Sparing);
        let brought = world.wait(host.bring(depot.package(), None, known(peers.to_vec())));
        brought.took.as_secs_f64()
    };
    let mut best = 0.0;
    let ratio = world.median(|| {
        let four = time(&all);
        best = 80.0 / four;
        time(&all[..1]) / four
    });
    vec![Seen::at_least("4 peers of 10 MB/s, 80 MB", 3.8, "x one peer", ratio).with(&format!("{best:.1} MB/s"))]
}

/// 8 peers, rates 1..8 MB/s, 100 MB, no mirror. The yardstick takes from each as much as its rate is of all, as a plain
/// client, from all at once.
pub fn eight_peers(world: &World<'_>) -> Vec<Seen> {
    let depot = Depot::one(100 * MB);
    let mut holders = Holders::of(&depot.all());
    let links = peers(&mut holders, 1..=8);
    let all = addresses(&links);
    let path = format!("/~/{}", depot.package().sha256);
    let yardstick = || {
        let shares = (1..).zip(&all).map(|(rate, addr)| take(*addr, &path, rate * 100 * MB / 36));
        let begun = Instant::now();
        let shares: Vec<_> = shares.collect();
        world.wait(futures_util::future::join_all(shares));
        begun.elapsed().as_secs_f64()
    };
    let ratio = world.median(|| {
        let host = Host::new(MirrorUse::Sparing);
        let took = world.wait(host.bring(depot.package(), None, known(all.clone()))).took.as_secs_f64();
        yardstick() / took
    });
    vec![Seen::at_least("8 peers of 1..8 MB/s, 100 MB", 0.9, "x their sum", ratio)]
}

/// Takes the first bytes of a file by one plain request.
async fn take(from: SocketAddr, path: &str, bytes: u64) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(from).await.expect("somebody listens");
    let ask =
        format!("GET {path} HTTP/1.1\r\nHost: {from}\r\nRange: bytes=0-{}\r\nConnection: close\r\n\r\n", bytes - 1);
    stream.write_all(ask.as_bytes()).await.expect("an open connection");
    let mut buffer = vec![0; 128 * 1024];
    let mut read = 0;
    while let Ok(more @ 1..) = stream.read(&mut buffer).await {
        read += more as u64;
    }
    assert!(read > bytes, "{read} of {bytes} bytes");
}

/// One 20 KB/s peer beside a 10 MB/s mirror, 12 MB. The yardstick is a plain client of the mirror.
pub fn slow_peer(world: &World<'_>) -> Vec<Seen> {
    let depot = Depot::one(12 * MB);
    let mirror = depot.mirror();
    let line = Link::to(mirror.addr(), Line::of(10));
    let mut holders = Holders::of(&depot.all());
    let slow = Link::to(holders.port(), Line { rate: Some(20_000), ..Line::default() });
    let ratio = world.median(|| {
        let host = Host::new(MirrorUse::Sparing);
        let came = host.bring(depot.package(), Some(line.addr()), known([slow.addr()]));
        let took = world.wait(came).took.as_secs_f64();
        took / burst::fetch(line.addr(), line.addr(), &depot.all()).took.as_secs_f64()
    });
    vec![Seen::at_most("a 20 KB/s peer beside a 10 MB/s mirror, 12 MB", 1.1, "x the mirror", ratio)]
}

/// Bytes over the wire, any size, 10 willing peers and a mirror.
pub fn wire(world: &World<'_>) -> Vec<Seen> {
    let sizes = [64_000, 3 * PIECE_SIZE, 12 * MB, 100 * MB];
    let depot = Depot::of(sizes);
    let mirror = depot.mirror();
    let line = Link::to(mirror.addr(), Line::of(10));
    let mut holders = Holders::of(&depot.all());
    let links = peers(&mut holders, [5; 10]);
    let down = || links.iter().chain([&line]).map(Link::down).sum::<u64>();
    let case = |package| {
        let worst = (0..world.runs).map(|_| {
            let before = down();
            let host = Host::new(MirrorUse::Sparing);
            world.wait(host.bring(package, Some(line.addr()), known(addresses(&links))));
            // What is still under way was asked for, and counts.
            drop(host);
            settled(down);
            (down() - before) as f64 / package.size as f64
        });
        let worst = worst.fold(0.0, f64::max);
        Seen::at_most(&format!("{} bytes, 10 peers and a mirror", package.size), 1.05, "x the file", worst)
    };
    depot.packages.iter().map(case).collect()
}

/// 300 packages of one piece from one peer, 40 ms round trip, as many asked for at a time as apt does; the yardstick is
/// one file of 300 pieces from the same peer.
pub fn packages(world: &World<'_>) -> Vec<Seen> {
    let case = |size: u64, rate: u64| {
        let depot = Depot::of([300 * size].into_iter().chain([size; 300]));
        let (stream, packages) = depot.packages.split_first().expect("not empty");
        let mut holders = Holders::of(&depot.all());
        let line = Line { round_trip: Duration::from_millis(40), ..Line::of(rate) };
        let link = Link::to(holders.port(), line);
        let ratio = world.median(|| {
            let host = &Host::new(MirrorUse::Sparing);
            let begun = Instant::now();
            let peer = link.addr();
            let each = stream::iter(packages).map(|package| host.bring(package, None, known([peer])));
            world.wait(each.buffered(10).collect::<Vec<_>>());
            let many = begun.elapsed().as_secs_f64();
            let host = Host::new(MirrorUse::Sparing);
            many / world.wait(host.bring(stream, None, known([link.addr()]))).took.as_secs_f64()
        });
        let dialled = link.connections() / world.runs as u64 - 1;
        Seen::at_most(&format!("300 packages of {size} bytes, {rate} MB/s, 40 ms"), 1.5, "x one stream", ratio)
            .with(&format!("{dialled} connections"))
    };
    vec![case(PIECE_SIZE, 20), case(20_000, 5)]
}
