//! Seven of eight peers tell one and the same false story: the file is right, little crosses the wire twice, and whoever
//! told a false state is kept out.

use std::{thread, time::Duration};

use crate::harness::{
    PIECE,
    archive::{Archive, Package},
    client::fetch,
    eventually,
    huddle::Huddle,
    liar::{Liar, Tale},
    machine::Config,
    mirror::Fault,
    settled,
};

/// How many lie.
const LIARS: usize = 7;

/// Bytes a second of one peer.
const RATE: u64 = 20_000_000;

/// Pieces that may cross in vain for the one false chain, when the true one is known as well.
const KNOWN: u64 = 3;

/// The same when no chain is known before the first pieces are asked for, as of a file of 70 pieces and more: the front that
/// apt waits for, one for the chain, and a late piece that is asked of a second peer.
const HEARD_LATE: u64 = 5;

/// The same when liars alone are known at first: what may be held unproven or be under way.
const UNKNOWN: u64 = 16;

/// A package of 100 MB, whose chain only its holders tell.
fn large() -> &'static Package {
    Archive::shared().package("huddle-200")
}

/// A package of 36 MB, whose chain is known as soon as its holders are.
fn small() -> &'static Package {
    Archive::shared().package("huddle-69")
}

/// Every piece and every state is false.
fn false_everywhere(package: &Package) -> Tale {
    let every: Vec<_> = (0..package.pieces()).collect();
    Tale::consistent_lie(package, &every).slowly(RATE)
}

/// False up to the middle; the piece at which the chains part is never sent whole.
fn false_to_the_middle(package: &Package) -> Tale {
    let fork = package.pieces() / 2;
    Tale::false_before(package, fork).stalling_on(fork * PIECE..(fork + 1) * PIECE).slowly(RATE)
}

/// A host that has nothing, and those whom it may ask.
struct Scene {
    package: &'static Package,
    huddle: Huddle,
    liars: Vec<Liar>,
    honest: Liar,
}

impl Scene {
    fn of(package: &'static Package, tale: &Tale) -> Self {
        let huddle = Huddle::of(&[Config::default(), Config { mirror: "last", ..Config::default() }]);
        huddle[1].learn(huddle.mirror.addr());
        let liars = (0..LIARS).map(|_| Liar::start(vec![tale.clone()])).collect();
        let honest = Liar::start(vec![Tale::honest(package).slowly(RATE)]);
        Self { package, huddle, liars, honest }
    }

    fn announce<'a>(&self, peers: impl IntoIterator<Item = &'a Liar>) {
        peers.into_iter().for_each(|peer| peer.announce(&self.huddle.nodes()));
    }

    /// Brings it as apt does, whose answer may be cut once; the next one is whole.
    fn bring(&self) {
        let url = format!("http://{}{}", self.huddle.mirror.authority(), self.package.url_path());
        let first = fetch(self.huddle[1].daemon.proxy(), &url, &[]);
        assert_eq!(first.status, 200, "{}", first.head);
        if first.whole {
            assert!(first.body == self.package.bytes(), "it came wrong");
        } else {
            self.huddle[1].bring(self.huddle.mirror.addr(), self.package);
        }
    }

    fn is_any_banned(&self) -> bool {
        !self.huddle[1].daemon.status().banned().is_empty()
    }

    /// Judges what it cost, and who is kept out.
    #[track_caller]
    fn assert_cost(&self, case: &str, pieces: u64) {
        let path = Liar::path(&self.package.sha256);
        let by_peers = || {
            self.liars
                .iter()
                .chain([&self.honest])
                .map(|peer| peer.server().spans(&path).iter().map(|span| span.end - span.start).sum::<u64>())
        };
        let all = settled(|| self.huddle.mirror.pool_bytes() + by_peers().sum::<u64>());
        let again = all.saturating_sub(self.package.size) as f64 / PIECE as f64;
        let in_pieces: Vec<_> = by_peers().map(|bytes| format!("{:.1}", bytes as f64 / PIECE as f64)).collect();
        let mirror = self.huddle.mirror.pool_bytes();
        println!("{case}: {again:.2} pieces in vain; by peer {}; {mirror} bytes of the mirror", in_pieces.join(" "));
        let senders = |piece: u64| {
            let peers = self.liars.iter().chain([&self.honest]).enumerate();
            let has_sent = |peer: &Liar| peer.server().spans(&path).iter().any(|span| span.contains(&(piece * PIECE)));
            peers.filter(|(_, peer)| has_sent(peer)).map(|(number, _)| number).collect::<Vec<_>>()
        };
        for (piece, senders) in (0..self.package.pieces()).map(|piece| (piece, senders(piece))) {
            if senders.len() > 1 {
                println!("{case}: piece {piece} was sent by peers {senders:?}, of which {LIARS} is honest");
            }
        }

        let chain = format!("{path}/pieces");
        let told = self.liars.iter().filter(|liar| liar.server().sent(&chain) > 0);
        let told: std::collections::BTreeSet<_> = told.map(Liar::addr).collect();
        let banned = self.huddle[1].daemon.status().banned();
        assert!(!told.is_empty(), "{case}: somebody lied");
        assert_eq!(banned, told, "{case}: who told a false state, and nobody else");
        assert!(again <= pieces as f64, "{case}: {again:.2} pieces in vain, by peer {in_pieces:?}");
        self.huddle[1].machine.assert_store_is_whole();
    }
}

#[test]
fn beside_an_honest_peer_a_false_chain_costs_little_and_all_who_told_it_are_banned() {
    let cases = [
        ("everywhere", large(), false_everywhere(large()), KNOWN),
        ("to the middle, heard late", large(), false_to_the_middle(large()), HEARD_LATE),
        ("to the middle", small(), false_to_the_middle(small()), KNOWN),
    ];
    for (case, package, tale, pieces) in cases {
        let scene = Scene::of(package, &tale);
        // The honest one is known in the middle of the others.
        scene.announce(scene.liars[..3].iter().chain([&scene.honest]).chain(&scene.liars[3..]));
        scene.bring();
        assert_eq!(scene.huddle.mirror.pool_bytes(), 0, "{case}: the honest peer is enough");
        scene.assert_cost(case, pieces);
    }
}

#[test]
fn when_an_honest_peer_is_found_later_liars_cost_no_more_than_a_window() {
    let scene = Scene::of(large(), &false_everywhere(large()));
    scene.huddle.mirror.fault("/debian/pool", Fault::Hang);
    scene.announce(&scene.liars);
    thread::scope(|scope| {
        scope.spawn(|| scene.bring());
        eventually("the first liar is found out", Duration::from_secs(30), || scene.is_any_banned().then_some(()));
        scene.announce([&scene.honest]);
    });
    scene.assert_cost("an honest peer later", UNKNOWN);
}

#[test]
fn when_the_mirror_comes_later_liars_cost_no_more_than_a_window() {
    let scene = Scene::of(large(), &false_everywhere(large()));
    scene.announce(&scene.liars);
    scene.bring();
    assert!(scene.huddle.mirror.pool_bytes() > 0, "nobody else could");
    scene.assert_cost("the mirror later", UNKNOWN);
}
