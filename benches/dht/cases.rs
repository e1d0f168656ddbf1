//! The cases of the table, each a function from a net and a size to figures.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use apt_huddle::{
    archive::SuiteName,
    dht::{
        contact::Contact,
        id::Id,
        realm::Realm,
        shelf::{Record, Shelf, is_shelved},
        storage::{Storage, TTL},
    },
    hash::{Expected, PieceChain},
};
use rand::{RngExt, rngs::StdRng};

use super::{
    internet::{Internet, unit},
    strategy::{Outcome, Strategy, look_up},
    virtual_net::{Tables, VirtualNet},
    world::{World, file},
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Tables as our nodes keep them, when of each three nodes that they met one is kept.
pub const OUR_TABLES: Tables = Tables::WideAndQuick { met: 3, sizes: &[256, 128, 64, 32] };

/// Lookups in a network that is calculated.
pub fn calculated(
    internet: Internet,
    nodes: usize,
    dead: f64,
    (strategy, tables): (Strategy, Tables),
    lookups: usize,
) -> Vec<Outcome> {
    let net = VirtualNet::new(internet, nodes, dead, tables);
    let mut rng = internet.rng(7);
    (0..lookups).map(|_| look_up(&net, strategy, &mut rng)).collect()
}

/// Lookups in a network of real nodes, of which part died a moment ago. What they look for was announced since.
pub fn real(internet: Internet, nodes: usize, dead: f64, warm: Duration, lookups: usize) -> Vec<Outcome> {
    let mut world = World::new(internet, 3);
    world.grow(nodes, 2 * MINUTE);
    world.run(warm);
    for host in 0..nodes {
        if world.rng.random_bool(dead) {
            world.kill(host);
        }
    }
    let files: Vec<(usize, Expected)> = (0..200).map(|name| (world.anybody(), file(name))).collect();
    for (host, file) in &files {
        world.publish(*host, file);
        world.run(SECOND / 10);
    }
    world.run(10 * SECOND);
    let mut searches = Vec::new();
    for n in 0..lookups {
        let (holder, file) = &files[n % files.len()];
        // A holder does not find itself.
        let host = loop {
            let drawn = world.anybody();
            if drawn != *holder {
                break drawn;
            }
        };
        searches.push(world.find(host, file));
        world.run(SECOND / 20);
    }
    world.run(15 * SECOND);
    let outcome = |search| {
        let followed = world.followed(search);
        let ended = followed.ended.expect("a search lasts ten seconds at most");
        Outcome {
            first: followed.first.map(|at| at - followed.began),
            complete: ended - followed.began,
            messages: followed.messages as usize,
            reached: followed.holders.len(),
        }
    };
    searches.iter().map(outcome).collect()
}

/// The part of searches that find their file though a fifth of all nodes lie: they sit in a twentieth of the
/// neighbourhoods, each as near to the file's key as BEP 42 lets its address be. Several networks, each with its file.
pub fn hostile(internet: Internet, nodes: usize, searches: usize) -> f64 {
    const NETWORKS: usize = 10;
    let mut found = 0;
    for network in 0..NETWORKS {
        let mut world = World::new(internet, 100 + network as u64);
        let file = file(network as u64);
        let key = Realm::public().key(&file.hash);
        let (honest, liars) = (nodes * 4 / 5, nodes / 5);
        world.grow(honest, MINUTE);
        let subnets = honest / 19;
        for n in 0..liars {
            let addr = Ipv4Addr::new(90, (n % subnets) as u8, 7, world.rng.random());
            world.add_liar(
                Contact { id: nearest_allowed(addr, &key), addr: (addr, 1024 + n as u16).into() },
                honest / 2,
            );
        }
        world.run(5 * MINUTE);
        let holder = world.anybody();
        world.publish(holder, &file);
        world.run(20 * SECOND);
        let begun: Vec<_> = (0..searches / NETWORKS)
            .map(|_| {
                let host = (world.anybody(), world.anybody());
                let search = world.find(if host.0 == holder { host.1 } else { host.0 }, &file);
                world.run(SECOND);
                search
            })
            .collect();
        world.run(15 * SECOND);
        let holder = world.addr(holder).ip();
        let is_found = |search: &&_| world.followed(search).holders.iter().any(|found| found.ip() == holder);
        found += begun.iter().filter(is_found).count();
    }
    found as f64 / searches as f64
}

/// Of the ids that BEP 42 lets an address have, the one nearest to a key.
fn nearest_allowed(addr: Ipv4Addr, key: &Id) -> Id {
    let allowed = (0..8_u8).map(|r| {
        let masked = (addr.to_bits() & 0x030f_3fff) | u32::from(r) << 29;
        let prefix = crc32c(&masked.to_be_bytes());
        let mut id = *key.as_bytes();
        id[0] = (prefix >> 24) as u8;
        id[1] = (prefix >> 16) as u8;
        id[2] = (prefix >> 8) as u8 & 0xf8 | id[2] & 0x07;
        id[19] = r;
        Id::new(id)
    });
    allowed.min_by_key(|id| id.distance(key)).expect("eight")
}

/// CRC-32C (RFC 3720), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

/// A store of so many records of others, each under a key of its own.
pub fn stored(records: usize) -> Storage {
    let mut storage = Storage::new(Id::new([0; 20]), TTL);
    for n in 0..records as u32 {
        let key = Realm::public().key(&file(u64::from(n)).hash);
        let holder = SocketAddr::from((Ipv4Addr::from_bits(0x1400_0000 + (n << 8)), 80));
        storage.announce(&key, holder, None, SECOND).expect("there is room");
    }
    storage
}

/// What is found while nodes come and go.
#[derive(Debug, Clone, Copy, Default)]
pub struct Churned {
    /// Searches for files whose holder had announced and was there.
    pub searches: usize,
    /// Those that found it.
    pub found: usize,
    /// Nodes that went.
    pub gone: usize,
}

/// Nodes come and go for so long; one in four holds a file of its own and announces it hourly.
pub fn churn(internet: Internet, nodes: usize, lasting: Duration, searches_a_minute: usize) -> Churned {
    let mut world = World::new(internet, 5);
    world.grow(nodes, 2 * MINUTE);
    let mut ends: HashMap<usize, Duration> =
        world.living().into_iter().map(|host| (host, world.now() + session(&mut world.rng))).collect();
    let mut holders: HashMap<usize, (Expected, Duration)> = HashMap::new();
    let mut announced: HashMap<usize, Expected> = HashMap::new();
    let (mut churned, mut searches) = (Churned::default(), Vec::new());
    let until = world.now() + lasting;
    while world.now() < until {
        let now = world.now();
        let gone: Vec<usize> = ends.iter().filter(|(_, end)| **end <= now).map(|(host, _)| *host).collect();
        for host in gone {
            world.kill(host);
            churned.gone += 1;
            ends.remove(&host);
            holders.remove(&host);
            announced.remove(&host);
            let fresh = world.add(None);
            let end = now + session(&mut world.rng);
            ends.insert(fresh, end);
        }
        for host in world.living().into_iter().filter(|host| host % 4 == 0) {
            let holder = holders.entry(host).or_insert((file(host as u64), now + MINUTE));
            if holder.1 <= now {
                holder.1 = now + world.rng.random_range(48..60) * MINUTE;
                let file = holder.0;
                world.publish(host, &file);
                announced.insert(host, file);
            }
        }
        world.run(MINUTE / 2);
        let mut held: Vec<_> = announced.iter().map(|(host, file)| (*host, *file)).collect();
        held.sort_by_key(|(host, _)| *host);
        for _ in 0..searches_a_minute.min(held.len()) {
            let (holder, file) = held[world.rng.random_range(0..held.len())];
            let host = world.anybody();
            if host != holder {
                let addr = world.addr(holder).ip();
                searches.push((world.find(host, &file), addr));
            }
        }
        world.run(MINUTE / 2);
    }
    churned.searches = searches.len();
    let found = |(search, holder): &&(_, _)| world.followed(search).holders.iter().any(|found| found.ip() == *holder);
    churned.found = searches.iter().filter(found).count();
    churned
}

/// How long a node stays: half of all longer than five hours, and four in five longer than one (a Weibull distribution).
fn session(rng: &mut StdRng) -> Duration {
    const SHAPE: f64 = 0.704;
    const SCALE_HOURS: f64 = 8.42;
    let hours = SCALE_HOURS * (-(1.0 - unit(rng.random())).ln()).powf(1.0 / SHAPE);
    Duration::from_secs_f64(3600.0 * hours.min(1000.0))
}

/// Pieces of files of each tier, and how many in a hundred packages are of it.
pub const TIERS: [(&str, usize, usize); 4] = [("1 piece", 1, 81), ("2-4", 3, 11), ("5-69", 20, 7), ("70+", 100, 1)];

/// What holding so many packages costs: bytes of questions a second, beyond those of a node that holds nothing. First those
/// of a holder of each tier alone, then of one of all. They have announced all of it before, and refresh it as the hour goes.
pub fn holding(internet: Internet, nodes: usize, packages: usize, measured: Duration) -> [f64; TIERS.len() + 1] {
    let mut world = World::new(internet, 11);
    world.grow(nodes, 5 * MINUTE);
    world.run(5 * MINUTE);
    let mut held: [Vec<Record>; TIERS.len() + 1] = Default::default();
    for n in 0..packages as u64 {
        let mut part = n as usize % 100;
        let is_of = |(_, _, share): &(&str, usize, usize)| {
            let is_within = part < *share;
            part = part.saturating_sub(*share);
            is_within
        };
        let tier = TIERS.iter().position(is_of).expect("shares make a hundred");
        let mut file = file(1_000_000 + n);
        file.size = TIERS[tier].1 as u64 * 512 * 1024 - 1;
        let record = record(n, &file);
        held[tier].push(record.clone());
        held[TIERS.len()].push(record);
    }
    for records in &mut held {
        records.sort_by_cached_key(|record| record.key(&Realm::public()));
        // Files of one shelf are one record.
        records.dedup();
    }
    // The last one holds nothing.
    let hosts: Vec<usize> = (0..=held.len()).map(|nth| nodes / 8 * (nth + 1)).collect();
    let turn = |world: &mut World, minutes: u64| {
        for minute in 0..minutes {
            for (records, host) in held.iter().zip(&hosts) {
                let at = |minute: u64| (records.len() as u64 * minute / 60) as usize;
                for together in records[at(minute % 60)..at(minute % 60 + 1)].chunks(40) {
                    world.publish_records(*host, together.to_vec());
                }
            }
            world.run(MINUTE);
        }
    };
    turn(&mut world, 60);
    let before: Vec<u64> = hosts.iter().map(|host| world.sent(*host)).collect();
    turn(&mut world, measured.as_secs() / 60);
    let spent = |nth: usize| (world.sent(hosts[nth]) - before[nth]) as f64 / measured.as_secs_f64();
    std::array::from_fn(|nth| (spent(nth) - spent(TIERS.len() + 1)).max(0.0))
}

/// The suites that the packages are of: most of the release itself, some of its updates and its security updates.
fn suite(n: u64) -> SuiteName {
    let codename =
        ["bookworm", "bookworm-security", "bookworm-updates"][[0, 0, 0, 0, 0, 0, 0, 0, 1, 2][n as usize % 10]];
    SuiteName::of(Some("Debian"), Some(codename))
}

/// What is announced of a file of that number.
fn record(n: u64, file: &Expected) -> Record {
    if is_shelved(file) {
        return Record::Shelf(Shelf::of(suite(n / 100), &file.hash));
    }
    let chain = PieceChain::decode(file, &vec![7; PieceChain::encoded_len(file)]).expect("of the right length");
    Record::File(*file, chain)
}

/// What is found by shelf while nodes come and go.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shelved {
    /// Searches for files of which a living host had announced the shelf.
    pub searches: usize,
    /// Those in which somebody who is there and has the file was named among the peers of its shelf.
    pub named: usize,
    /// Those in which such a one was among the eight who are asked.
    pub found: usize,
    /// Nodes that went.
    pub gone: usize,
}

/// Files of one piece that the hosts of [`shelved`] know of.
const UNIVERSE: u64 = 400;
/// How many of them each holds: a popular one is held by most, a rare one by few.
const HOLDS: usize = 60;

/// Nodes come and go for so long; one in four holds files of one piece and announces their shelves hourly. Who searches
/// wants a file as the holders did, and asks eight of the peers of its shelf.
pub fn shelved(internet: Internet, nodes: usize, lasting: Duration, searches_a_minute: usize) -> Shelved {
    let mut world = World::new(internet, 6);
    world.grow(nodes, 2 * MINUTE);
    let mut ends: HashMap<usize, Duration> =
        world.living().into_iter().map(|host| (host, world.now() + session(&mut world.rng))).collect();
    let mut holders: HashMap<usize, (Vec<u64>, Duration)> = HashMap::new();
    let mut announced: HashMap<usize, Vec<u64>> = HashMap::new();
    let (mut shelved, mut searches) = (Shelved::default(), Vec::new());
    let until = world.now() + lasting;
    while world.now() < until {
        let now = world.now();
        let gone: Vec<usize> = ends.iter().filter(|(_, end)| **end <= now).map(|(host, _)| *host).collect();
        for host in gone {
            world.kill(host);
            shelved.gone += 1;
            ends.remove(&host);
            holders.remove(&host);
            announced.remove(&host);
            let fresh = world.add(None);
            let end = now + session(&mut world.rng);
            ends.insert(fresh, end);
        }
        for host in world.living().into_iter().filter(|host| host % 4 == 0) {
            let holder = holders.entry(host).or_insert_with(|| (drawn(&mut world.rng, HOLDS), now + MINUTE));
            if holder.1 <= now {
                holder.1 = now + world.rng.random_range(48..60) * MINUTE;
                let mut records: Vec<_> = holder.0.iter().map(|n| record(*n, &file(*n))).collect();
                records.sort_by_cached_key(|record| record.key(&Realm::public()));
                records.dedup();
                for together in records.chunks(40) {
                    world.publish_records(host, together.to_vec());
                }
                announced.insert(host, holder.0.clone());
            }
        }
        world.run(MINUTE / 2);
        for _ in 0..searches_a_minute {
            let (n, host) = (drawn(&mut world.rng, 1)[0], world.anybody());
            let mut having: Vec<_> = announced.iter().filter(|(_, files)| files.contains(&n)).collect();
            having.retain(|(holder, _)| **holder != host);
            let having: Vec<_> = having.into_iter().map(|(holder, _)| world.addr(*holder).ip()).collect();
            if let (false, Record::Shelf(shelf)) = (having.is_empty(), record(n, &file(n))) {
                searches.push((world.find_shelf(host, &shelf), having));
            }
        }
        world.run(MINUTE / 2);
    }
    shelved.searches = searches.len();
    for (search, having) in &searches {
        let peers = &world.followed(search).holders;
        shelved.named += usize::from(peers.iter().any(|peer| having.contains(&peer.ip())));
        shelved.found += usize::from(peers.iter().take(8).any(|peer| having.contains(&peer.ip())));
    }
    shelved
}

/// Different files, drawn as they are wanted: the n-th of them n times less often than the first.
fn drawn(rng: &mut StdRng, count: usize) -> Vec<u64> {
    let mut files = Vec::new();
    while files.len() < count {
        let file = (UNIVERSE as f64).powf(rng.random::<f64>()) as u64;
        if !files.contains(&file) {
            files.push(file);
        }
    }
    files
}
