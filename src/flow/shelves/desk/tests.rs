use crate::archive::SuiteName;

use super::*;

#[expect(clippy::disallowed_methods, reason = "only as an origin for differences")]
fn start() -> Instant {
    Instant::now()
}

const MS: Duration = Duration::from_millis(1);

fn file(n: u32) -> ContentHash {
    ContentHash::of(&n.to_be_bytes())
}

fn peer(n: u8) -> SocketAddr {
    SocketAddr::from(([20 + n, 1, 2, 3], 9978))
}

fn shelf(name: &str) -> Shelf {
    Shelf::of(SuiteName::of(None, Some(name)), &ContentHash::of(b""))
}

fn says(holds: &[bool]) -> Answer {
    Answer { holds: holds.to_vec(), took: 50 * MS, given: 0 }
}

/// A desk, and a clock.
struct Scene {
    desk: Desk,
    now: Instant,
}

impl Scene {
    fn set() -> Self {
        Self { desk: Desk::new(7), now: start() }
    }

    /// One whose shelf has these peers.
    fn with_peers(peers: impl IntoIterator<Item = SocketAddr>) -> Self {
        let mut scene = Self::set();
        let id = scene.want(0);
        scene.desk.handle_dropped(id);
        peers.into_iter().for_each(|peer| scene.desk.handle_found(shelf("sid"), peer, scene.now));
        scene.desk.handle_searched(shelf("sid"), scene.now);
        scene.outputs();
        scene
    }

    fn want(&mut self, n: u32) -> WantId {
        self.desk.handle_wanted(file(n), vec![shelf("sid")], self.now)
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.desk.poll(self.now)).collect()
    }

    fn later(&mut self, time: Duration) -> Vec<Output> {
        self.now += time;
        self.outputs()
    }

    /// The peers that are asked when what is wanted was collected.
    fn asked(&mut self) -> Vec<SocketAddr> {
        let asks = self.later(COLLECT).into_iter();
        asks.filter_map(|output| if let Output::Ask(peer, _) = output { Some(peer) } else { None }).collect()
    }

    fn answer(&mut self, peer: SocketAddr, holds: &[bool]) -> Vec<Output> {
        self.desk.handle_answer(peer, &says(holds), self.now);
        self.outputs()
    }
}

#[test]
fn files_wanted_at_the_same_time_are_one_search_and_one_question_to_each_peer() {
    let mut scene = Scene::set();
    let ids: Vec<_> = (0..300).map(|n| scene.want(n)).collect();
    assert_eq!(scene.outputs(), [Output::Search(shelf("sid"))]);
    scene.desk.handle_found(shelf("sid"), peer(1), scene.now);
    assert_eq!(scene.outputs(), [], "what else comes is waited for");
    let [Output::Ask(to, first)] = &scene.later(COLLECT)[..] else { panic!("one question") };
    assert_eq!((*to, first.len()), (peer(1), MAX_TOGETHER));
    let mut holds = vec![false; MAX_TOGETHER];
    holds[7] = true;
    let outputs = scene.answer(peer(1), &holds);
    assert_eq!(outputs[0], Output::Holder(ids[7], peer(1)));
    let Output::Ask(_, rest) = &outputs[1] else { panic!("what waited meanwhile is asked: {outputs:?}") };
    assert_eq!(*rest, (MAX_TOGETHER as u32..300).map(file).collect::<Vec<_>>());
    scene.desk.handle_searched(shelf("sid"), scene.now);
    let ended = scene.outputs().iter().filter(|output| matches!(output, Output::End(_))).count();
    assert_eq!(ended, MAX_TOGETHER, "those that were answered for");
}

#[test]
fn a_shelf_is_known_for_minutes_and_one_with_few_peers_for_less() {
    let mut scene = Scene::with_peers((0..50).map(peer));
    scene.now += KNOWN - MS;
    scene.want(1);
    assert_eq!(scene.outputs(), []);
    scene.now += MS;
    scene.want(2);
    assert_eq!(scene.outputs()[0], Output::Search(shelf("sid")));
    let mut empty = Scene::with_peers([]);
    let id = empty.want(1);
    assert_eq!(empty.outputs(), [Output::End(id)], "at once");
    empty.now += KNOWN_FEW;
    empty.want(2);
    assert_eq!(empty.outputs(), [Output::Search(shelf("sid"))]);
}

#[test]
fn peers_are_asked_until_enough_say_yes_and_not_more_than_eight() {
    let mut scene = Scene::with_peers((0..50).map(peer));
    let id = scene.want(1);
    let mut asked = scene.asked();
    assert_eq!(asked.len(), AT_ONCE);
    let mut at = 0;
    while at < asked.len() {
        let outputs = scene.answer(asked[at], &[false]);
        at += 1;
        if at == MAX_ASKED {
            assert_eq!(outputs, [Output::End(id)]);
        }
        asked.extend(scene.asked());
    }
    assert_eq!(at, MAX_ASKED);
    let id = scene.want(2);
    let asked = scene.asked();
    for (n, peer) in asked[..ENOUGH].iter().enumerate() {
        assert_eq!(scene.answer(*peer, &[true]), [Output::Holder(id, *peer)], "{n}");
    }
    assert_eq!(scene.asked(), []);
    assert_eq!(scene.answer(asked[ENOUGH], &[false]), [Output::End(id)]);
}

#[test]
fn who_said_yes_before_is_asked_first_and_who_said_it_and_gave_nothing_last() {
    let mut scene = Scene::with_peers((0..40).map(peer));
    let mut given = 0;
    for n in 0..60 {
        scene.want(n);
        for to in scene.asked() {
            given += 1000;
            // One of them has all and gives it, another says so.
            let gives = u64::from(to == peer(3)) * given;
            let answer = Answer { given: gives, ..says(&[to == peer(3) || to == peer(4)]) };
            scene.desk.handle_answer(to, &answer, scene.now);
        }
        scene.later(PATIENCE);
        scene.now += Duration::from_secs(1);
    }
    scene.want(1000);
    let asked = scene.asked();
    assert!(asked.contains(&peer(3)) && !asked.contains(&peer(4)), "{asked:?}");
}

#[test]
fn who_says_yes_to_a_whole_burst_is_asked_for_the_next_one_too() {
    let mut scene = Scene::with_peers([peer(3)]);
    let _burst: Vec<_> = (0..20).map(|n| scene.want(n)).collect();
    assert_eq!(scene.asked(), [peer(3)]);
    scene.answer(peer(3), &[true; 20]);
    (40..80).for_each(|n| scene.desk.handle_found(shelf("sid"), peer(n), scene.now));
    scene.want(1000);
    let asked = scene.asked();
    assert!(asked.contains(&peer(3)), "it has had no time to give anything: {asked:?}");
}

#[test]
fn an_answer_is_taken_although_its_peer_is_forgotten_meanwhile() {
    let mut scene = Scene::with_peers([peer(1)]);
    let ids = [scene.want(1), scene.want(2)];
    assert_eq!(scene.asked(), [peer(1)]);
    // Nobody else is idle when a place is needed for the next peer that is asked.
    let others = (0..MAX_PEERS as u32).map(|n| SocketAddr::from(((0x3000_0000 + n * 256).to_be_bytes(), 9978)));
    for other in others {
        scene.desk.peers.insert(other, Regular { under_way: Some(Vec::new()), ..Regular::new(scene.now) });
    }
    scene.desk.handle_found(shelf("sid"), peer(2), scene.now);
    let outputs = scene.answer(peer(1), &[false, true]);
    assert!(outputs.contains(&Output::Holder(ids[1], peer(1))), "{outputs:?}");
}

#[test]
fn a_neighbourhood_does_not_fill_all_places_unless_it_is_a_lan() {
    let near = |third: u8| (1..30).map(move |n| SocketAddr::from(([20, 1, third, n], 9978)));
    let all_asked = |scene: &mut Scene| {
        scene.want(1);
        let mut all = Vec::new();
        loop {
            let asked = scene.asked();
            if asked.is_empty() {
                return all;
            }
            asked.iter().for_each(|peer| drop(scene.answer(*peer, &[false])));
            all.extend(asked);
        }
    };
    assert_eq!(all_asked(&mut Scene::with_peers(near(1))).len(), PER_SUBNET);
    assert_eq!(all_asked(&mut Scene::with_peers(near(1).chain(near(2)))).len(), 2 * PER_SUBNET);
    let lan = (1..30).map(|n| SocketAddr::from(([192, 168, 1, n], 9978)));
    assert_eq!(all_asked(&mut Scene::with_peers(lan)).len(), MAX_ASKED);
}

#[test]
fn who_is_silent_or_has_nothing_is_not_asked_without_end() {
    let mut scene = Scene::with_peers([peer(1)]);
    let id = scene.want(1);
    assert_eq!(scene.asked(), [peer(1)]);
    assert_eq!(scene.later(PATIENCE), [Output::End(id)], "nobody waits longer");
    assert_eq!(scene.answer(peer(1), &[]), []);
    let mut hashes = 0;
    for n in 0..1000 {
        scene.want(n);
        hashes += scene.asked().iter().map(|peer| scene.answer(*peer, &[false])).count();
    }
    let paid = 1000 * COLLECT.as_millis() as usize * IN_VAIN_PAID as usize / 1000;
    assert!(hashes <= MAX_IN_VAIN as usize + paid, "{hashes}");
    scene.now += Duration::from_secs(60);
    scene.want(5000);
    assert_eq!(scene.asked(), [peer(1)], "later again");
}

#[test]
fn what_is_not_wanted_any_more_is_not_asked_for() {
    let mut scene = Scene::with_peers([peer(1)]);
    let ids = [scene.want(1), scene.want(2)];
    scene.desk.handle_dropped(ids[0]);
    assert_eq!(scene.later(COLLECT), [Output::Ask(peer(1), vec![file(2)])]);
    scene.desk.handle_dropped(ids[1]);
    assert_eq!(scene.answer(peer(1), &[true]), []);
    assert_eq!(scene.desk.next_timeout(), None);
    let id = scene.want(3);
    scene.desk.handle_dropped(id);
    assert_eq!(scene.later(COLLECT), [], "nothing is left to ask");
    scene.want(4);
    assert_eq!(scene.later(COLLECT), [Output::Ask(peer(1), vec![file(4)])]);
}

#[test]
fn a_file_of_several_suites_is_asked_of_the_peers_of_all() {
    let mut scene = Scene::set();
    scene.desk.handle_wanted(file(1), vec![shelf("sid"), shelf("trixie")], scene.now);
    assert_eq!(scene.outputs(), [Output::Search(shelf("sid")), Output::Search(shelf("trixie"))]);
    scene.desk.handle_searched(shelf("sid"), scene.now);
    scene.desk.handle_found(shelf("trixie"), peer(1), scene.now);
    assert_eq!(scene.asked(), [peer(1)]);
}

#[test]
fn all_that_is_remembered_is_bounded() {
    let mut scene = Scene::set();
    for n in 0..2 * MAX_SHELVES as u32 {
        scene.desk.handle_wanted(file(n), vec![shelf(&n.to_string())], scene.now);
    }
    let outputs = scene.outputs();
    let searches = outputs.iter().filter(|output| matches!(output, Output::Search(_))).count();
    assert_eq!((searches, scene.desk.wanted.len()), (MAX_SHELVES, MAX_SHELVES));
    for n in 0..2 * MAX_WANTED as u32 {
        scene.want(n);
    }
    assert!(scene.desk.wanted.len() <= MAX_WANTED);
    scene.later(PATIENCE);
    assert_eq!((scene.desk.wanted.len(), scene.desk.ends.len()), (0, 0));
    let id = scene.want(1);
    scene.desk.handle_dropped(id);
    for n in 0..200_u8 {
        scene.desk.handle_found(shelf("0"), peer(n % 100), scene.now);
        scene.desk.handle_found(shelf("0"), SocketAddr::from(([200, n, 1, 1], 9978)), scene.now);
    }
    let stock = &scene.desk.shelves[&shelf("0")];
    assert_eq!((stock.peers.len(), stock.fresh.len()), (MAX_PEERS_OF_SHELF, MAX_PEERS_OF_SHELF));
}
