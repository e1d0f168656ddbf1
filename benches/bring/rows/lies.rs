//! Peers that lie: what it costs, and whether they are kept out.

use std::{net::SocketAddr, time::Duration};

use apt_huddle::{
    fetch::{Holder, MirrorUse},
    hash::{ContentHash, Expected, PIECE_SIZE, PieceChain, State, Stepper},
};
use futures_util::{StreamExt, stream, stream::BoxStream};

use crate::{
    Seen, World,
    harness::{
        archive::Package,
        depot::Depot,
        liar::{Liar, Tale},
        settled,
    },
    host::{Brought, Holders, Host, known, known_after},
    link::{Line, Link},
    meter::Toll,
};

use super::MB;

/// How late the honest peer or the mirror is found.
const LATER: Duration = Duration::from_secs(1);

/// 1 poisoned piece in 160, 4 peers of which 1 sends it: its line flips a byte of the fifth piece that it carries.
pub fn poison(world: &World<'_>) -> Vec<Seen> {
    let depot = Depot::one(160 * PIECE_SIZE);
    let mut holders = Holders::of(&depot.all());
    let mut worst = Toll::default();
    let mut banned = true;
    for _ in 0..world.runs {
        let flipped = Some(5 * PIECE_SIZE - PIECE_SIZE / 2);
        let liar = Link::to(holders.port(), Line { flipped, ..Line::of(10) });
        let honest = [(); 3].map(|()| Link::to(holders.port(), Line::of(10)));
        let all = honest.iter().chain([&liar]).map(Link::addr);
        let host = Host::new(MirrorUse::Sparing);
        let brought = world.wait(host.bring(depot.package(), None, known(all)));
        banned &= host.has_banned(liar.addr()) && !honest.iter().any(|link| host.has_banned(link.addr()));
        worst = worse(worst, toll(depot.package(), &honest.iter().chain([&liar]).collect::<Vec<_>>(), host, &brought));
    }
    vec![
        Seen::at_most("1 poisoned piece in 160, 1 liar of 4", 1.0, "pieces again", worst.again).with(&worst.told()),
        verdict("1 poisoned piece in 160, 1 liar of 4", banned),
    ]
}

/// What a download cost its lines, once nothing moves any more: what is still under way was asked for, and counts.
fn toll(package: &Package, lines: &[&Link], host: Host, brought: &Brought) -> Toll {
    drop(host);
    settled(|| lines.iter().map(|line| line.down()).sum());
    Toll::of(package, lines.iter().copied(), brought.wasted)
}

/// Of two downloads' costs the higher one.
fn worse(one: Toll, other: Toll) -> Toll {
    if other.again >= one.again { other } else { one }
}

fn verdict(case: &str, right: bool) -> Seen {
    let seen = if right { "all, and nobody else" } else { "not so" };
    Seen { case: case.into(), must: "liars banned".into(), seen: seen.into(), ok: right }
}

/// 7 of 8 peers lie together, 100 MB: every state and every piece is false.
pub fn everywhere(world: &World<'_>) -> Vec<Seen> {
    let depot = Depot::one(100 * MB);
    let every: Vec<_> = (0..depot.package().pieces()).collect();
    let tale = Tale::consistent_lie(depot.package(), &every);
    together(world, &depot, &tale, "7 of 8 lie, false everywhere")
}

/// 7 of 8 peers lie together, 100 MB: states and pieces are false up to the middle, and the piece at which the chains part
/// is never sent whole.
pub fn fork(world: &World<'_>) -> Vec<Seen> {
    let depot = Depot::one(100 * MB);
    together(world, &depot, &forked(depot.package()), "7 of 8 lie, fork withheld")
}

fn forked(package: &Package) -> Tale {
    let fork = package.pieces() / 2;
    Tale::false_before(package, fork).stalling_on(fork * PIECE_SIZE..(fork + 1) * PIECE_SIZE)
}

/// The true chain is known from the beginning, as when the DHT names it.
fn together(world: &World<'_>, depot: &Depot, tale: &Tale, case: &str) -> Vec<Seen> {
    let truth = chain_of(depot.package());
    let swarm = |crowd: &Crowd| stream::iter([Holder::Chain(truth.clone())]).chain(known(crowd.all())).boxed();
    let outcome = repeat(world, depot, tale, None, swarm);
    outcome.rows(case, 3.0)
}

/// The same, liars known first and the honest peer, or the mirror, later.
pub fn first(world: &World<'_>) -> Vec<Seen> {
    let depot = Depot::one(100 * MB);
    let every: Vec<_> = (0..depot.package().pieces()).collect();
    let tale = Tale::consistent_lie(depot.package(), &every);
    let late = repeat(world, &depot, &tale, None, |crowd| {
        known(crowd.liars()).chain(known_after(LATER, vec![crowd.honest.addr()])).boxed()
    });
    let mirror = depot.mirror();
    let alone = repeat(world, &depot, &tale, Some(mirror.addr()), |crowd| {
        known(crowd.liars()).chain(known_after(LATER, Vec::new())).boxed()
    });
    let forked = repeat(world, &depot, &forked(depot.package()), None, |crowd| {
        known(crowd.liars()).chain(known_after(LATER, vec![crowd.honest.addr()])).boxed()
    });
    [
        late.rows("liars first, an honest peer later", 16.0),
        alone.rows("liars first, the mirror later", 16.0),
        forked.rows("liars first, fork withheld, an honest peer later", 16.0),
    ]
    .concat()
}

/// Eight peers of which seven tell the same tale.
struct Crowd {
    liars: Vec<(Liar, Link)>,
    honest: Link,
}

impl Crowd {
    fn gather(holders: &mut Holders, tale: &Tale) -> Self {
        let liar = || {
            let liar = Liar::start(vec![tale.clone()]);
            let link = Link::to(liar.addr(), Line::of(10));
            (liar, link)
        };
        Self { liars: (0..7).map(|_| liar()).collect(), honest: Link::to(holders.port(), Line::of(10)) }
    }

    fn liars(&self) -> Vec<SocketAddr> {
        self.liars.iter().map(|(_, link)| link.addr()).collect()
    }

    /// The honest one is known in the middle of the others.
    fn all(&self) -> Vec<SocketAddr> {
        let mut all = self.liars();
        all.insert(3, self.honest.addr());
        all
    }

    /// The lines to all of them, the honest one's last.
    fn lines(&self) -> impl Iterator<Item = &Link> {
        self.liars.iter().map(|(_, link)| link).chain([&self.honest])
    }

    /// Whether everybody is kept out who has sent a false chain, or anything beside its name, and nobody else.
    fn is_judged_by(&self, host: &Host, package: &Package) -> bool {
        let path = Liar::path(&package.sha256);
        let spoke = |liar: &Liar| liar.server().sent(&path) > 0;
        let liars = self.liars.iter().all(|(liar, link)| !spoke(liar) || host.has_banned(link.addr()));
        liars && !host.has_banned(self.honest.addr())
    }
}

struct Outcome {
    worst: Toll,
    cuts: u32,
    banned: bool,
}

impl Outcome {
    fn rows(&self, case: &str, bar: f64) -> Vec<Seen> {
        let cuts = Seen::at_most(case, 1.0, "answers cut", f64::from(self.cuts));
        let wasted = Seen::at_most(case, bar, "pieces wasted", self.worst.again).with(&self.worst.told());
        vec![wasted, cuts, verdict(case, self.banned)]
    }
}

fn repeat(
    world: &World<'_>,
    depot: &Depot,
    tale: &Tale,
    mirror: Option<SocketAddr>,
    swarm: impl Fn(&Crowd) -> BoxStream<'static, Holder>,
) -> Outcome {
    let mut holders = Holders::of(&depot.all());
    let mut outcome = Outcome { worst: Toll::default(), cuts: 0, banned: true };
    for _ in 0..world.runs {
        let crowd = Crowd::gather(&mut holders, tale);
        // With `last` the mirror comes when peers cannot, which is later.
        let host = Host::new(if mirror.is_some() { MirrorUse::Last } else { MirrorUse::Sparing });
        // A line of each run's own, since it counts what it carries.
        let own = mirror.map(|mirror| Link::to(mirror, Line::of(10)));
        let coming = host.bring(depot.package(), own.as_ref().map(Link::addr), swarm(&crowd));
        let brought = world.wait(coming);
        outcome.cuts = outcome.cuts.max(brought.cuts);
        outcome.banned &= crowd.is_judged_by(&host, depot.package());
        let toll = toll(depot.package(), &crowd.lines().chain(own.as_ref()).collect::<Vec<_>>(), host, &brought);
        outcome.worst = worse(outcome.worst, toll);
    }
    outcome
}

/// The true piece chain of a package.
fn chain_of(package: &Package) -> PieceChain {
    let bytes = package.bytes();
    let expected = Expected { hash: ContentHash::of(&bytes), size: package.size };
    let mut states = Vec::new();
    let mut at = State::INITIAL;
    for (index, piece) in bytes.chunks(PIECE_SIZE as usize).take(expected.pieces() - 1).enumerate() {
        let mut stepper = Stepper::new(&expected, index, at);
        stepper.update(piece);
        at = stepper.finish().expect("a whole piece").to();
        states.extend_from_slice(at.as_bytes());
    }
    PieceChain::decode(&expected, &states).expect("a state a boundary")
}
