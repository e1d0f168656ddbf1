//! Daemons as processes, and what they cost when nobody helps.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};

use crate::{
    Seen, World,
    harness::{
        burst, depot::Depot, eventually, huddle::Host, machine::Config, own_network, probe::Probe, suite::Signer,
    },
    link::{Line, Link},
    median,
};

use super::MB;

/// How long hosts may take to find each other.
const FINDING: Duration = Duration::from_secs(60);
/// Runs of each case, since what is measured is small.
const TIMES: usize = 7;

/// Leaves a host's log where `cargo` keeps a bench's files, to look at when a bar is missed.
pub fn leave_log(host: &Host, name: &str) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bring-{name}.log"));
    fs::write(path, host.daemon.log()).ok();
}

/// No peers at all; 20 dead announcers; a DHT that never answers; each beside a plain client of the mirror.
pub fn alone(_: &World<'_>) -> Vec<Seen> {
    let cases: [(&str, Prepare); 3] = [
        ("no peers", |_, _, _| ()),
        ("20 dead announcers", Silent::announce),
        ("a DHT that is mute", |silent, _, _| silent.other.daemon.signal("STOP")),
    ];
    cases.into_iter().flat_map(|(case, prepare)| beside_the_mirror(case, prepare)).collect()
}

/// What is done to a host, and to those who do not answer it, before it is asked for files of these hashes.
type Prepare = fn(&Silent, &Host, &[&str]);

fn beside_the_mirror(case: &str, prepare: Prepare) -> Vec<Seen> {
    let depot = Depot::of([12 * MB; TIMES]);
    let mirror = depot.mirror();
    let line = Link::to(mirror.addr(), Line::of(10));
    let silent = Silent::new(line.addr(), &depot.signer);
    let config = Config { bootstrap: vec![silent.other.daemon.peers()], ..Config::default() };
    let config = if case == "no peers" { Config::default() } else { config };
    let member = Host::of("alone", line.addr(), &depot.signer, &config);
    if case != "no peers" {
        member.daemon.until("it knows the other", FINDING, |status| status.nodes() >= 1);
    }
    let hashes: Vec<_> = depot.packages.iter().map(|package| package.sha256.as_str()).collect();
    prepare(&silent, &member, &hashes);
    let (mut ratios, mut later) = (Vec::new(), Vec::new());
    for package in depot.all() {
        let through = burst::fetch(member.daemon.proxy(), line.addr(), &[package]);
        let plain = burst::fetch(line.addr(), line.addr(), &[package]);
        ratios.push(through.took.as_secs_f64() / plain.took.as_secs_f64());
        later.push((through.first_byte.as_secs_f64() - plain.first_byte.as_secs_f64()) * 1e3);
    }
    vec![
        Seen::at_most(case, 1.02, "x the mirror", median(ratios)),
        Seen::at_most(&format!("{case}, first byte"), 5.0, "ms later", median(later)),
    ]
}

/// Everybody who does not answer.
struct Silent {
    /// Another node, through which the network is entered.
    other: Host,
    /// Ports at which connections come up and nothing is ever said.
    mute: Vec<TcpListener>,
    /// Ports at which nobody listens any more.
    dead: Vec<SocketAddr>,
}

impl Silent {
    fn new(mirror: SocketAddr, signer: &Signer) -> Self {
        let other = Host::of("other", mirror, signer, &Config::default());
        let port = || TcpListener::bind((own_network(), 0)).expect("a loopback address");
        let dead = (0..10).map(|_| port().local_addr().expect("a bound socket"));
        Self { other, dead: dead.collect(), mute: (0..10).map(|_| port()).collect() }
    }

    /// Ten announcers at which nobody listens, and ten that never answer, for every file.
    fn announce(&self, member: &Host, hashes: &[&str]) {
        let nodes = [self.other.daemon.peers(), member.daemon.peers()];
        let mute = self.mute.iter().map(|port| port.local_addr().expect("a bound socket"));
        for announcer in mute.chain(self.dead.iter().copied()) {
            let SocketAddr::V4(addr) = announcer else { unreachable!("an IPv4 address was bound") };
            let probe = Probe::bind(*addr.ip());
            for hash in hashes {
                nodes.iter().for_each(|node| probe.announce(*node, hash, addr.port(), None));
            }
        }
        let known = Probe::bind(Ipv4Addr::LOCALHOST);
        eventually("the dead are known", FINDING, || {
            (known.holders(nodes[0], hashes[0], u64::MAX).len() >= 10).then_some(())
        });
    }
}
