//! What must hold of one download, as ratios of simulated time and as counts of bytes and pieces.

use std::{collections::HashSet, time::Duration};

use crate::fetch::{
    course::Outcome,
    plan::{MirrorUse, STALEMATE},
};

use super::{
    client::Client,
    files::File,
    network::{Node, Setting},
    server::Manner,
};

fn alone(world: super::network::World<'_>) -> Client {
    let mut clients = world.clients;
    clients.pop().expect("one client")
}

fn go(file: &File, mirror_use: MirrorUse, mirror: Option<Node>, peers: Vec<Node>) -> Client {
    let client = alone(Setting::new(mirror_use, mirror, peers).go(file));
    assert!(client.is_proven());
    client
}

#[test]
fn four_equal_peers_are_nearly_four_times_as_fast_as_one() {
    let file = File::sized(1, 80_000_000);
    let time = |peers: usize| go(&file, MirrorUse::Sparing, None, vec![Node::new(10e6); peers]).took();
    let gain = time(1) / time(4);
    assert!(gain >= 3.8, "{gain:.2} times one peer");
}

#[test]
fn eight_peers_of_different_rates_add_up() {
    let file = File::sized(2, 100_000_000);
    let peers: Vec<_> = (1..=8).map(|rate| Node::new(f64::from(rate) * 1e6)).collect();
    let client = go(&file, MirrorUse::Sparing, None, peers);
    let share = 100e6 / 36e6 / client.took();
    assert!(share >= 0.9, "{share:.3} of the sum of the rates");
    assert!(client.received as f64 <= 1.05 * 100e6, "{} bytes", client.received);
}

#[test]
fn a_slow_peer_beside_a_fast_mirror_costs_next_to_nothing() {
    let file = File::sized(3, 12_000_000);
    let time = |peers| go(&file, MirrorUse::Sparing, Some(Node::new(10e6)), peers).took();
    let alone = time(Vec::new());
    for known in [false, true] {
        let slow = Node { known, ..Node::new(20e3) };
        let cost = time(vec![slow]) / alone;
        assert!(cost <= 1.1, "{cost:.2} times the mirror alone; known: {known}");
    }
}

#[test]
fn a_slow_peer_that_is_connected_does_not_keep_the_mirror_waiting() {
    for size in [20_000, 300_000, 3_000_000] {
        let file = File::sized(16, size);
        let first = |peers| {
            let mut setting = Setting::new(MirrorUse::Sparing, Some(Node::new(10e6)), peers);
            setting.search_ends = Some(Duration::from_secs(2));
            let client = alone(setting.go(&file));
            assert!(client.is_proven());
            client.first_byte.expect("all came")
        };
        let alone = first(Vec::new());
        // One that has not the file, and says so when it is found, later than the mirror begins; one that has it.
        for slow in [Node::of(Manner::Missing, 20e3), Node::new(20e3)] {
            let slow = Node { known: true, ..slow.found(Duration::from_millis(500)) };
            let later = first(vec![slow]).saturating_sub(alone);
            assert!(later <= Duration::from_millis(5), "first byte {later:?} later: {size} bytes, {slow:?}");
        }
    }
}

#[test]
fn dead_announcers_cost_nothing() {
    for size in [300_000, 3_000_000, 40_000_000] {
        let file = File::sized(4, size);
        let run = |peers| go(&file, MirrorUse::Sparing, Some(Node::new(10e6)), peers);
        let alone = run(Vec::new());
        for manner in [Manner::Dead, Manner::Refuses, Manner::Silent, Manner::Missing] {
            let dead = run(vec![Node::of(manner, 10e6); 20]);
            let cost = dead.took() / alone.took();
            assert!(cost <= 1.02, "{cost:.3} times the mirror alone: {manner:?}, {size} bytes");
            let later = dead.first_byte.expect("all came").saturating_sub(alone.first_byte.expect("all came"));
            assert!(later <= Duration::from_millis(5), "first byte {later:?} later: {manner:?}, {size} bytes");
        }
    }
}

#[test]
fn ten_willing_peers_send_each_byte_once() {
    for pieces in [1, 2, 3, 5, 9, 20, 70] {
        let file = File::new(5, pieces);
        for mirror in [None, Some(Node::new(10e6)), Some(Node::new(1e6))] {
            for known in [false, true] {
                for rate in [1e6, 5e6, 20e6] {
                    let peers = vec![Node { known, ..Node::new(rate) }; 10];
                    let client = go(&file, MirrorUse::Sparing, mirror, peers);
                    let times = client.received as f64 / file.expected.size as f64;
                    let chains = 20_000.0 / file.expected.size as f64;
                    assert!(
                        times <= 1.05 + chains,
                        "{times:.3} times the file: {pieces} pieces, mirror {:?}, peers of {rate}, known: {known}",
                        mirror.map(|mirror| mirror.rate)
                    );
                }
            }
        }
    }
}

#[test]
fn a_sparing_mirror_yields_to_peers_that_are_no_slower() {
    let file = File::sized(6, 52_000_000);
    let client = go(&file, MirrorUse::Sparing, Some(Node::new(10e6)), vec![Node::new(10e6); 3]);
    let share = client.from_mirror as f64 / client.received as f64;
    assert!(share < 0.3, "{share:.2} of the bytes from the mirror");
    let known = go(&file, MirrorUse::Sparing, Some(Node::new(10e6)), vec![Node::new(10e6).known(); 3]);
    assert_eq!(known.from_mirror, 0, "a measured holder was at hand");
}

#[test]
fn one_poisoned_piece_costs_one_piece_and_its_sender_is_banned() {
    let file = File::new(7, 160);
    for bad in [0, 1, 80, 158, 159] {
        for liar in [Manner::LiesConsistently(bad), Manner::Flips(bad)] {
            let mut peers = vec![Node::new(10e6); 4];
            peers[1].manner = liar;
            let client = go(&file, MirrorUse::Sparing, None, peers);
            assert!(client.wasted() <= 1.0, "{:.2} pieces wasted: {liar:?}", client.wasted());
            // A liar that was not asked for the piece, and whose chain is true, has done nothing.
            let lied = client.wasted() > 0.9 || matches!(liar, Manner::LiesConsistently(bad) if bad < 159);
            let caught = if lied { [1].into() } else { HashSet::new() };
            assert_eq!(client.convicted, caught, "{liar:?}");
        }
    }
}

fn liars(manner: impl Fn(usize) -> Manner) -> Vec<Node> {
    (0..7).map(|n| Node::of(manner(n), 10e6)).collect()
}

/// The manners of seven that lie together: false from the first state to the last, and false up to a fork.
fn conspiracies(file: &File) -> [Manner; 2] {
    let fork = file.pieces() / 2;
    [Manner::Forks { fork: file.pieces() - 1, salt: 3 }, Manner::Forks { fork, salt: 5 }]
}

#[test]
fn seven_of_eight_that_lie_together_cost_a_piece_or_two_and_are_all_banned() {
    let file = File::sized(8, 100_000_000);
    for manner in conspiracies(&file) {
        for hearsay in [false, true] {
            let mut peers = liars(|_| manner);
            peers.insert(4, Node::new(10e6));
            let mut setting = Setting::new(MirrorUse::Sparing, None, peers);
            setting.hearsay.extend(hearsay.then(|| file.chain.clone()));
            let client = alone(setting.go(&file));
            assert!(client.is_proven());
            let wasted = client.wasted();
            assert!(wasted <= 3.0, "{wasted:.2} pieces wasted: {manner:?}, hearsay {hearsay}");
            assert_eq!(client.convicted, [0, 1, 2, 3, 5, 6, 7].into(), "{manner:?}");
        }
    }
}

#[test]
fn liars_known_first_cost_no_more_than_what_is_in_flight() {
    let file = File::sized(9, 100_000_000);
    let later = Duration::from_secs(20);
    for manner in conspiracies(&file) {
        let mut peers = liars(|_| manner);
        peers.push(Node::new(10e6).found(later));
        let client = go(&file, MirrorUse::Sparing, None, peers);
        let waste = client.wasted();
        assert!(waste <= 16.0, "{waste:.2} pieces wasted: {manner:?}, an honest peer later");
        assert_eq!(client.convicted, (0..7).collect(), "{manner:?}");
        let client = go(&file, MirrorUse::Last, Some(Node::new(10e6)), liars(|_| manner));
        let waste = client.wasted();
        // One more than is taken on trust: the piece that the anchor waits for. With room for 15 four equal peers are no longer
        // 3.8 times as fast as one.
        assert!(waste <= 17.0, "{waste:.2} pieces wasted: {manner:?}, the mirror later");
        assert_eq!(client.convicted, (0..7).collect(), "{manner:?}");
    }
}

#[test]
fn liars_alone_beside_a_mirror_change_nothing() {
    let file = File::sized(10, 20_000_000);
    for manner in conspiracies(&file) {
        for mirror_use in [MirrorUse::First, MirrorUse::Sparing, MirrorUse::Last] {
            let client = go(&file, mirror_use, Some(Node::new(5e6)), liars(|_| manner));
            let waste = client.wasted();
            // As above: a mirror that comes last finds all that is taken on trust, and one more.
            let bar = if mirror_use == MirrorUse::Last { 17.0 } else { 16.0 };
            assert!(waste <= bar, "{waste:.2} pieces wasted: {manner:?}, {mirror_use:?}");
        }
    }
}

#[test]
fn whole_holders_that_answer_for_nothing_are_asked_once_and_left_alone() {
    let file = File::sized(12, 8_000_000);
    let peers = vec![Node::of(Manner::Evades, 10e6), Node::new(1e6), Node::of(Manner::Evades, 10e6)];
    let client = go(&file, MirrorUse::Sparing, None, peers);
    assert_eq!(client.paused, [0, 2].into());
    let wasted = client.wasted();
    assert!(wasted <= 8.0, "{wasted:.2} pieces wasted");
}

#[test]
fn a_peer_that_is_always_busy_keeps_nobody_from_the_mirror_nor_from_the_end() {
    for pieces in [1, 2, 12] {
        let file = File::new(13, pieces);
        for mirror_use in [MirrorUse::First, MirrorUse::Sparing, MirrorUse::Last] {
            for busy in [Node::of(Manner::Busy, 10e6).known(), Node::of(Manner::Busy, 10e6)] {
                let run = |mirror| {
                    let mut setting = Setting::new(mirror_use, mirror, vec![busy]);
                    setting.hearsay.push(file.chain.clone());
                    alone(setting.go(&file))
                };
                let what = format!("{pieces} pieces, {mirror_use:?}, {busy:?}");
                // A mirror that answers more slowly than the peer says that it is busy again.
                let late = run(Some(Node { delay: Duration::from_millis(900), ..Node::new(10e6) }));
                assert!(late.is_proven() && late.took() < 10.0, "{:?}: {what}", late.end);
                for hopeless in [None, Some(Node::of(Manner::Silent, 10e6)), Some(Node::of(Manner::Dead, 10e6))] {
                    let client = run(hopeless);
                    let given_up = matches!(client.end, Some((_, Outcome::NoSource { mismatch: false })));
                    assert!(given_up && client.took() < 250.0, "{:?}: {hopeless:?}, {what}", client.end);
                }
            }
        }
    }
}

#[test]
fn a_download_to_which_nobody_gives_anything_while_all_still_may_ends_in_silence() {
    for pieces in [1, 2, 12] {
        let file = File::new(17, pieces);
        for mirror_use in [MirrorUse::First, MirrorUse::Sparing, MirrorUse::Last] {
            for mirror in [None, Some(Node::of(Manner::Silent, 10e6)), Some(Node::of(Manner::Dead, 10e6))] {
                let mut setting = Setting::new(mirror_use, mirror, vec![Node::of(Manner::Busy, 10e6)]);
                // Others are looked for all the time.
                setting.search_ends = Some(2 * STALEMATE);
                let client = alone(setting.go(&file));
                let (end, least) = (client.end.as_ref().map(|(_, outcome)| outcome), STALEMATE.as_secs_f64());
                assert_eq!(end, Some(&Outcome::Silent), "{pieces} pieces, {mirror_use:?}, {mirror:?}");
                assert!((least..least + 5.0).contains(&client.took()), "after {}", client.took());
            }
        }
    }
}

#[test]
fn somebody_honest_who_turns_up_soon_after_liars_is_waited_for_and_nobody_for_ever() {
    for pieces in [1, 2, 6] {
        let file = File::new(15, pieces);
        let run = |later: u64| {
            let liars = [Manner::LiesConsistently(0), Manner::Flips(0)].map(|manner| Node::of(manner, 10e6));
            let honest = Node::new(10e6).found(Duration::from_secs(later));
            let mut setting = Setting::new(MirrorUse::Sparing, None, liars.into_iter().chain([honest]).collect());
            setting.search_ends = Some(Duration::from_millis(400));
            alone(setting.go(&file))
        };
        let soon = run(4);
        assert!(soon.is_proven(), "{pieces} pieces: {:?}", soon.end);
        let never = run(20);
        let given_up = matches!(never.end, Some((_, Outcome::NoSource { .. })));
        assert!(given_up && (4.0..6.0).contains(&never.took()), "{pieces} pieces: {:?}", never.end);
    }
}

#[test]
fn apt_gets_its_first_byte_at_once_and_never_idles() {
    let file = File::sized(11, 200_000_000);
    let honest = |rate| Node::new(rate);
    let cases = [
        (Some(Node::new(1e6)), vec![]),
        (Some(Node::new(1e6)), vec![honest(20e3); 3]),
        (Some(Node::new(1e6)), vec![Node::of(Manner::Silent, 1e6); 3]),
        (Some(Node { cuts: Some(3_000_000), ..Node::new(1e6) }), vec![honest(1e6); 2]),
        (None, vec![honest(500e3); 2]),
        (None, vec![honest(250e3), honest(1e6), Node::of(Manner::Silent, 1e6)]),
    ];
    for (mirror, peers) in cases {
        let what = format!("mirror {mirror:?}, peers {peers:?}");
        let client = go(&file, MirrorUse::Sparing, mirror, peers);
        assert!(client.longest_gap < Duration::from_secs(5), "idle for {:?}: {what}", client.longest_gap);
        if mirror.is_some() {
            let wait = client.first_byte.expect("all came") - client.first_source_byte.expect("all came");
            assert!(wait <= Duration::from_millis(300), "{wait:?} from the first source byte: {what}");
        }
    }
}
