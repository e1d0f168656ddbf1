//! A network in memory, under a clock of its own.

use std::{cmp::Reverse, collections::BinaryHeap, net::SocketAddr, time::Duration};

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

use crate::dht::probe::{Heard, Probe};

use super::{Event, Expected, Found, JobId, Node, Output, PieceChain, Realm, Record, Saved, Setup, Terms};

/// A seed from the environment, or one that is the same every day.
pub fn seed() -> u64 {
    std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_120)
}

/// How datagrams travel.
#[derive(Clone, Copy)]
pub struct Link {
    /// Part of the datagrams that are lost.
    pub loss: f64,
    /// Each node's way to the middle of the net is drawn from this, in milliseconds.
    pub millis: (u64, u64),
}

impl Default for Link {
    fn default() -> Self {
        Self { loss: 0.02, millis: (5, 60) }
    }
}

struct Host {
    node: Node,
    addrs: [SocketAddr; 2],
    delay: Duration,
    is_alive: bool,
    timer: Duration,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Timer(usize),
    Arrival { host: usize, from: SocketAddr, datagram: Vec<u8> },
}

/// All hosts, and what is under way.
pub struct World {
    rng: StdRng,
    link: Link,
    now: Duration,
    hosts: Vec<Host>,
    coming: BinaryHeap<Reverse<(Duration, u64, Happening)>>,
    sequence: u64,
    events: Vec<(usize, Duration, Event)>,
    entries: Vec<SocketAddr>,
}

/// What a search found, and when.
pub struct Search {
    began: Duration,
    ended: Duration,
    found: Vec<(Duration, Found)>,
}

impl Search {
    pub fn holders(&self) -> Vec<SocketAddr> {
        let holders = self.found.iter().filter_map(|(_, found)| match found {
            Found::Holder(holder) => Some(*holder),
            Found::Chain(_) => None,
        });
        let mut holders: Vec<_> = holders.collect();
        holders.sort();
        holders
    }

    pub fn chains(&self) -> Vec<PieceChain> {
        let chains = self.found.iter().filter_map(|(_, found)| match found {
            Found::Chain(chain) => Some(chain.clone()),
            Found::Holder(_) => None,
        });
        chains.collect()
    }

    pub fn first_holder(&self) -> Duration {
        let holders = self.found.iter().filter(|(_, found)| matches!(found, Found::Holder(_)));
        holders.map(|(at, _)| *at - self.began).min().expect("somebody was found")
    }

    pub fn took(&self) -> Duration {
        self.ended - self.began
    }
}

impl World {
    pub fn new(seed: u64, link: Link) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            link,
            now: Duration::ZERO,
            hosts: Vec::new(),
            coming: BinaryHeap::new(),
            sequence: 0,
            events: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// Adds IPv4 nodes that enter through the first of each such group, whatever its network.
    pub fn grow(&mut self, count: usize, realm: Realm) -> Vec<usize> {
        let hosts: Vec<usize> = (0..count).map(|_| self.add(realm.clone(), None, true, [true, false])).collect();
        self.entries.push(self.hosts[hosts[0]].addrs[0]);
        hosts
    }

    /// Adds nodes of both families.
    pub fn grow_dual(&mut self, count: usize, realm: Realm) -> Vec<usize> {
        let hosts: Vec<usize> = (0..count).map(|_| self.add(realm.clone(), None, true, [true; 2])).collect();
        self.entries.extend(self.hosts[hosts[0]].addrs);
        hosts
    }

    pub fn add(&mut self, realm: Realm, saved: Option<Saved>, has_entries: bool, families: [bool; 2]) -> usize {
        let n = self.hosts.len();
        let (high, low) = ((n / 250) as u8, (n % 250) as u8);
        let v4 = SocketAddr::from(([20 + high, low, 7, 1], 9978));
        let v6 = SocketAddr::from(([0x2600, n as u16, 0, 0, 0, 0, 0, 1], 9978));
        self.place(realm, saved, has_entries, families, [v4, v6])
    }

    fn place(
        &mut self,
        realm: Realm,
        saved: Option<Saved>,
        has_entries: bool,
        families: [bool; 2],
        addrs: [SocketAddr; 2],
    ) -> usize {
        let setup = Setup { realm, families, saved, has_entries };
        let node = Node::new(setup, self.rng.next_u64(), self.now);
        let delay = Duration::from_millis(self.rng.random_range(self.link.millis.0..self.link.millis.1));
        self.hosts.push(Host { node, addrs, delay, is_alive: true, timer: Duration::MAX });
        self.touch(self.hosts.len() - 1);
        self.hosts.len() - 1
    }

    /// Ends a host and begins another at its addresses.
    pub fn restart(&mut self, host: usize, saved: Option<Saved>, has_entries: bool) -> usize {
        self.kill(host);
        let (realm, families, addrs) =
            (self.hosts[host].node.realm.clone(), self.hosts[host].node.families, self.hosts[host].addrs);
        self.place(realm, saved, has_entries, families, addrs)
    }

    /// A host has another IPv4 address from now on.
    pub fn relocate(&mut self, host: usize, to: SocketAddr) {
        self.hosts[host].addrs[0] = to;
    }

    pub fn kill(&mut self, host: usize) {
        self.hosts[host].is_alive = false;
    }

    pub fn now(&self) -> Duration {
        self.now
    }

    pub fn node(&self, host: usize) -> &Node {
        &self.hosts[host].node
    }

    pub fn node_mut(&mut self, host: usize) -> &mut Node {
        &mut self.hosts[host].node
    }

    pub fn peer(&self, host: usize, port: u16) -> SocketAddr {
        SocketAddr::new(self.hosts[host].addrs[0].ip(), port)
    }

    pub fn peer6(&self, host: usize, port: u16) -> SocketAddr {
        SocketAddr::new(self.hosts[host].addrs[1].ip(), port)
    }

    pub fn ended(&self, host: usize) -> usize {
        self.events.iter().filter(|(by, _, event)| *by == host && matches!(event, Event::Ended(..))).count()
    }

    /// When a job of a host was over.
    pub fn end_of(&self, host: usize, job: JobId) -> Option<Duration> {
        let ends = self
            .events
            .iter()
            .filter(|(by, _, event)| *by == host && matches!(event, Event::Ended(ended, _) if *ended == job));
        ends.map(|(_, at, _)| *at).next()
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.coming.peek().is_some_and(|Reverse((at, ..))| *at <= until) {
            self.happen();
        }
        self.now = until;
    }

    /// Announces and gives the number of nodes that stored it.
    pub fn publish(&mut self, host: usize, expected: &Expected, chain: &PieceChain, port: u16) -> usize {
        self.publish_many(host, &[(*expected, chain.clone())], port).0[0]
    }

    /// Announces files together, and gives how many nodes keep each, and how many questions that took.
    pub fn publish_many(&mut self, host: usize, files: &[(Expected, PieceChain)], port: u16) -> (Vec<usize>, u64) {
        let (now, before) = (self.now, self.hosts[host].node.queries_out);
        let records: Vec<_> = files.iter().map(|(file, chain)| Record::File(*file, chain.clone())).collect();
        let job = self.hosts[host].node.publish_many(&records, port, now);
        self.run_to_end(host, job);
        let told = self.events.iter().rev().find_map(|(by, _, event)| match event {
            Event::Told(told, stored) if *by == host && *told == job => Some(stored.clone()),
            _ => None,
        });
        (told.expect("a round that ends tells of it"), self.hosts[host].node.queries_out - before)
    }

    /// Probes to the end: what was heard, and how many stored.
    pub fn probe(&mut self, host: usize, probe: Probe) -> (Vec<Heard>, usize) {
        let job = self.hosts[host].node.probe(probe, self.now);
        let (_, stored) = self.run_to_end(host, job);
        let heard = self.events.iter().filter_map(|(by, _, event)| match event {
            Event::Heard(of, heard) if *by == host && *of == job => Some(heard.clone()),
            _ => None,
        });
        (heard.collect(), stored)
    }

    /// Searches to the end.
    pub fn find(&mut self, host: usize, expected: &Expected) -> Search {
        self.find_on(Terms::default(), host, expected)
    }

    /// The same on these terms.
    pub fn find_on(&mut self, terms: Terms, host: usize, expected: &Expected) -> Search {
        let began = self.now;
        let job = self.hosts[host].node.find(*expected, terms, began);
        let (ended, _) = self.run_to_end(host, job);
        let found = self.events.iter().filter_map(|(by, at, event)| match event {
            Event::Found(of, found) if *by == host && *of == job => Some((*at, found.clone())),
            _ => None,
        });
        Search { began, ended, found: found.collect() }
    }

    fn run_to_end(&mut self, host: usize, job: JobId) -> (Duration, usize) {
        self.touch(host);
        loop {
            let end = self.events.iter().rev().find_map(|(by, at, event)| match event {
                Event::Ended(ended, stored) if *by == host && *ended == job => Some((*at, *stored)),
                _ => None,
            });
            if let Some(end) = end {
                return end;
            }
            self.happen();
        }
    }

    fn happen(&mut self) {
        let Reverse((at, _, happening)) = self.coming.pop().expect("a living node has a timer");
        self.now = at;
        let host = match happening {
            Happening::Timer(host) => {
                if !self.hosts[host].is_alive || self.hosts[host].timer != at {
                    return;
                }
                self.hosts[host].timer = Duration::MAX;
                self.hosts[host].node.handle_timeout(at);
                host
            }
            Happening::Arrival { host, from, datagram } => {
                if !self.hosts[host].is_alive {
                    return;
                }
                self.hosts[host].node.handle_datagram(from, 0, &datagram, at);
                host
            }
        };
        self.touch(host);
    }

    /// Carries out what a node wants.
    pub fn touch(&mut self, host: usize) {
        while let Some(output) = self.hosts[host].node.poll() {
            match output {
                Output::Transmit(transmit) => {
                    assert!(transmit.datagram.len() <= super::MAX_SENT);
                    self.carry(host, transmit.to, transmit.datagram);
                }
                Output::Event(Event::Lonely) => {
                    let own = self.hosts[host].addrs;
                    let entries: Vec<_> = self.entries.iter().copied().filter(|entry| !own.contains(entry)).collect();
                    let now = self.now;
                    self.hosts[host].node.handle_entries(&entries, now);
                }
                Output::Event(event) => self.events.push((host, self.now, event)),
            }
        }
        let timer = self.hosts[host].node.next_timeout().max(self.now);
        if timer < self.hosts[host].timer {
            self.hosts[host].timer = timer;
            self.come(timer, Happening::Timer(host));
        }
    }

    fn carry(&mut self, by: usize, to: SocketAddr, datagram: Vec<u8>) {
        let living = |host: &Host| host.is_alive && host.addrs.contains(&to);
        let Some(host) = self.hosts.iter().position(living) else { return };
        if self.rng.random_bool(self.link.loss) {
            return;
        }
        let jitter = Duration::from_micros(self.rng.random_range(0..5000));
        let at = self.now + self.hosts[by].delay + self.hosts[host].delay + jitter;
        let from = self.hosts[by].addrs[usize::from(to.is_ipv6())];
        self.come(at, Happening::Arrival { host, from, datagram });
    }

    fn come(&mut self, at: Duration, happening: Happening) {
        self.sequence += 1;
        self.coming.push(Reverse((at, self.sequence, happening)));
    }
}
