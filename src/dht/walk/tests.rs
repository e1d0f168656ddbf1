use std::collections::HashSet;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;
use crate::dht::message::Reply;

const MS: Duration = Duration::from_millis(1);

/// Honest nodes.
const HONEST: usize = 600;

/// Nodes that the honest know of each bucket.
const KNOWN: usize = 8;

/// Nodes that answer with each other alone, more than are ever asked around a key.
const LIARS: usize = 100;

/// A network in which everybody answers at once.
struct Net {
    target: Id,
    honest: Vec<Contact>,
    liars: Vec<Contact>,
}

impl Net {
    /// Liars have as many addresses as they like, and all those from among them whose ids may be nearer than any honest one.
    fn drawn(rng: &mut StdRng) -> Self {
        let target = Id::random(rng);
        let addr = |n: usize, of: u8| SocketAddr::from(([of + (n >> 8) as u8, n as u8, 7, 1], 9978));
        let honest = (0..HONEST).map(|n| {
            let addr = addr(n, 20);
            Contact { id: Id::rooted_in(addr.ip(), rng), addr }
        });
        let honest = honest.collect();
        let mut liars = Vec::new();
        while liars.len() < LIARS {
            let addr = SocketAddr::from(([60 + liars.len() as u8, rng.random(), rng.random(), 1], 9978));
            let id = Id::rooted_in(addr.ip(), rng);
            if id.distance(&target).shared_bits() >= 9 {
                liars.push(Contact { id, addr });
            }
        }
        Self { target, honest, liars }
    }

    /// Whom a node names: the liars each other, the honest those of theirs that are nearest.
    fn named(&self, by: &Contact) -> Vec<Contact> {
        let is_liar = self.liars.contains(by);
        let mut known: Vec<Contact> = if is_liar { self.liars.clone() } else { self.known_to(&by.id) };
        known.sort_by_key(|contact| self.target.distance(&contact.id));
        known.truncate(K);
        known
    }

    /// The table of an honest node.
    fn known_to(&self, id: &Id) -> Vec<Contact> {
        let mut buckets = vec![Vec::new(); 160];
        for contact in self.honest.iter().filter(|contact| contact.id != *id) {
            let bucket: &mut Vec<Contact> = &mut buckets[id.distance(&contact.id).shared_bits()];
            if bucket.len() < KNOWN {
                bucket.push(*contact);
            }
        }
        buckets.concat()
    }

    /// Walks from these to put a record; gives those who are told.
    fn told(&self, seeds: &[Contact], paths: usize) -> Vec<Contact> {
        let goal = Goal::Announce { port: 80, claim: None };
        let mut walk = Walk::new(self.target, goal, paths, seeds.iter().map(|contact| (*contact, Some(20 * MS))));
        let (mut told, mut asked, mut now) = (Vec::new(), HashSet::new(), MS);
        loop {
            match walk.next(now) {
                Step::Ask(to) => {
                    assert!(asked.insert(to), "nobody is asked twice");
                    let reply = reply(to.id);
                    walk.handle_reply(to.addr, 20 * MS, &reply, self.named(&to));
                }
                Step::Store(to, _) => {
                    told.push(to);
                    walk.handle_store_end();
                }
                Step::Wait(until) => now = until.expect("all stores have ended"),
                Step::Done => return told,
            }
        }
    }
}

fn reply(id: Id) -> Reply<'static> {
    Reply {
        id,
        token: Some(b"token"),
        contacts: Vec::new(),
        peers: Vec::new(),
        claims: Vec::new(),
        value: None,
        signed: None,
        has_item: false,
        kept: &[],
        dial: None,
        about: Default::default(),
        version: None,
        seen_from: None,
    }
}

fn seed() -> u64 {
    std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_120)
}

#[test]
fn one_liar_among_those_who_are_known_has_one_path_and_not_the_other() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut eclipsed, mut kept) = (0, 0);
    const WALKS: usize = 20;
    for _ in 0..WALKS {
        let net = Net::drawn(&mut rng);
        let own = Id::random(&mut rng);
        let mut seeds = net.known_to(&own);
        seeds.sort_by_key(|contact| net.target.distance(&contact.id));
        seeds.truncate(15);
        seeds.push(net.liars[0]);
        let honest = |paths: usize| net.told(&seeds, paths).iter().filter(|to| !net.liars.contains(to)).count();
        eclipsed += usize::from(honest(1) == 0);
        kept += usize::from(honest(OWN_PATHS) >= OF_EACH_PATH);
    }
    assert!(eclipsed * 10 >= WALKS * 9, "seed {seed}: one path alone found honest nodes, {eclipsed} of {WALKS}");
    assert!(kept == WALKS, "seed {seed}: {kept} of {WALKS}");
}

#[test]
fn two_paths_of_the_honest_end_at_the_nearest() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let net = Net::drawn(&mut rng);
    let mut nearest = net.honest.clone();
    nearest.sort_by_key(|contact| net.target.distance(&contact.id));
    let told = net.told(&net.known_to(&Id::random(&mut rng))[..16], OWN_PATHS);
    let reached = nearest[..K].iter().filter(|contact| told.contains(contact)).count();
    assert!(reached >= K - 1 && told.len() <= K + OF_EACH_PATH, "seed {seed}: {reached} of {}", told.len());
}
