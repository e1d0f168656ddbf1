//! Thousands of random downloads: each ends in the right bytes if anybody honest can give them, within its bounds.
//!
//! `SEED=n cargo test --lib any_download` runs one again.

use std::{sync::LazyLock, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{fetch::plan::MirrorUse, hash::PIECE_SIZE};

use super::{
    files::File,
    network::{Node, Setting},
    server::Manner,
};

/// Schedules in an ordinary run.
const SCHEDULES: u64 = 2000;

static FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
    let small = (0..6).map(|seed| File::new(100 + seed, 1));
    small.chain((2..12).map(|pieces| File::new(200 + pieces as u64, pieces))).collect()
});

fn random_manner(rng: &mut StdRng, pieces: usize) -> Manner {
    use Manner::*;
    let bad = rng.random_range(0..pieces);
    if rng.random_bool(0.45) {
        return Honest;
    }
    let manners = [
        Flips(bad),
        LiesConsistently(bad),
        FalseChain(bad),
        Forks { fork: bad, salt: rng.random() },
        Silent,
        Dead,
        Refuses,
        Missing,
        Busy,
        TooMuch,
        Closes,
        Cuts,
        TooLong,
        TooShort,
        OtherRange,
        WholeForRange,
        Chunked,
        EndlessHead,
        TwoLengths,
        Trickles,
        Evades,
    ];
    manners[rng.random_range(0..manners.len())]
}

fn random_setting(rng: &mut StdRng, pieces: usize, file: &File, seed: u64) -> Setting {
    let mirror = rng.random_bool(0.7).then(|| {
        let manner = match rng.random_range(0..8) {
            0 => Manner::Flips(rng.random_range(0..pieces)),
            1 => Manner::Dead,
            2 => Manner::Silent,
            _ => Manner::Honest,
        };
        Node {
            manner,
            cuts: rng.random_bool(0.2).then(|| rng.random_range(100_000..2_000_000)),
            delay: Duration::from_millis(rng.random_range(1..100)),
            ..Node::new(10f64.powf(rng.random_range(5.0..8.0)))
        }
    });
    let peers = (0..rng.random_range(0..8)).map(|_| Node {
        delay: Duration::from_millis(rng.random_range(1..100)),
        found: Duration::from_millis(rng.random_range(0..3) * rng.random_range(0..2000)),
        known: rng.random_bool(0.3),
        ..Node::of(random_manner(rng, pieces), 10f64.powf(rng.random_range(4.5..8.0)))
    });
    let mut setting = Setting::new(MirrorUse::Sparing, mirror, peers.collect());
    setting.mirror_use = [MirrorUse::First, MirrorUse::Sparing, MirrorUse::Last][rng.random_range(0..3)];
    if rng.random_bool(0.3) {
        setting.hearsay.push(file.chain.clone());
    }
    if rng.random_bool(0.2) {
        setting.hearsay.push(file.chain_false_at(rng.random_range(0..pieces)));
    }
    setting.seed = seed;
    setting
}

#[test]
fn any_download_with_one_honest_source_ends_in_the_right_file_and_convicts_no_honest_peer() {
    let first = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = first.map_or(0..SCHEDULES, |seed: u64| seed..seed + 1);
    for seed in seeds {
        let rng = &mut StdRng::seed_from_u64(seed);
        let file = &FILES[rng.random_range(0..FILES.len())];
        let pieces = file.pieces();
        let setting = random_setting(rng, pieces, file, seed);
        let honest = |node: &Node| node.manner == Manner::Honest;
        let hope = setting.peers.iter().any(honest) || setting.mirror.is_some_and(|mirror| honest(&mirror));
        let harmless = |manner: Manner| {
            !matches!(
                manner,
                Manner::Flips(_) | Manner::LiesConsistently(_) | Manner::FalseChain(_) | Manner::Forks { .. }
            )
        };
        let world = setting.clone().go(file);
        let client = &world.clients[0];
        if hope {
            assert!(client.is_proven(), "SEED={seed}: {:?}: {setting:?}", client.end);
        }
        for (index, peer) in setting.peers.iter().enumerate().filter(|(_, peer)| harmless(peer.manner)) {
            assert!(!client.convicted.contains(&index), "SEED={seed}: honest {peer:?} convicted");
        }
        let sources = setting.peers.len() as u64 + 1;
        let bound = 2 * file.expected.size + (4 + 3 * sources) * PIECE_SIZE;
        assert!(client.received <= bound, "SEED={seed}: {} bytes, not {bound}: {setting:?}", client.received);
        let slowest = setting.peers.iter().chain(&setting.mirror).filter(|node| honest(node)).map(|node| node.rate);
        let bound = 90.0 + 3.0 * file.expected.size as f64 / slowest.fold(f64::MAX, f64::min);
        assert!(!hope || client.took() <= bound, "SEED={seed}: {:.1} s, not {bound:.1}: {setting:?}", client.took());
    }
}

#[test]
fn any_download_without_an_honest_source_ends() {
    let first = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = first.map_or(0..600, |seed: u64| seed..seed + 1);
    for seed in seeds {
        let rng = &mut StdRng::seed_from_u64(seed);
        let file = &FILES[rng.random_range(0..FILES.len())];
        let mut setting = random_setting(rng, file.pieces(), file, seed);
        for peer in setting.peers.iter_mut().filter(|peer| peer.manner == Manner::Honest) {
            peer.manner = [Manner::Busy, Manner::Silent, Manner::Trickles, Manner::Cuts][rng.random_range(0..4)];
        }
        if let Some(mirror) = setting.mirror.as_mut().filter(|mirror| mirror.manner == Manner::Honest) {
            mirror.manner = [Manner::Silent, Manner::Dead][rng.random_range(0..2)];
        }
        let world = setting.clone().go(file);
        let took = world.clients[0].took();
        // The mirror's bytes count as something that comes, until the whole of it is known to be false.
        let slowest = setting.peers.iter().chain(&setting.mirror).map(|node| node.rate).fold(f64::MAX, f64::min);
        let bound = 400.0 + 3.0 * file.expected.size as f64 / slowest;
        assert!(took <= bound, "SEED={seed}: {took:.0} s, not {bound:.0}: {:?}: {setting:?}", world.clients[0].end);
    }
}

#[test]
fn whatever_a_mirror_gave_before_it_broke_off_or_changed_no_reader_completes_wrong_bytes() {
    let first = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = first.map_or(0..400, |seed: u64| seed..seed + 1);
    let mut cuts = 0;
    for seed in seeds {
        let rng = &mut StdRng::seed_from_u64(seed);
        let file = &FILES[rng.random_range(0..FILES.len())];
        let pieces = file.pieces();
        let mirror = Node {
            cuts: Some(rng.random_range(50_000..1_000_000)),
            changes: rng.random_bool(0.5),
            ..Node::of(Manner::Flips(rng.random_range(0..pieces.min(3))), 10f64.powf(rng.random_range(5.5..7.5)))
        };
        let peers = (0..rng.random_range(1..4)).map(|_| Node {
            found: Duration::from_millis(rng.random_range(1..3000)),
            ..Node::new(10f64.powf(rng.random_range(5.0..7.0)))
        });
        let mut setting = Setting::new(MirrorUse::First, Some(mirror), peers.collect());
        setting.hearsay.extend(rng.random_bool(0.5).then(|| file.chain.clone()));
        setting.seed = seed;
        let world = setting.clone().go(file);
        let client = &world.clients[0];
        assert!(client.is_proven(), "SEED={seed}: {:?}: {setting:?}", client.end);
        cuts += client.cuts;
    }
    assert!(first.is_some() || cuts > 0, "no reader ever had a wrong byte");
}
