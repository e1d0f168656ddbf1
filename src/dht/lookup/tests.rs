use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::*;

const MS: Duration = Duration::from_millis(1);

fn target() -> Id {
    Id::new([0; 20])
}

/// A node at that distance from the target, alone in its subnet.
fn node(distance: u16) -> Contact {
    let [high, low] = distance.to_be_bytes();
    let mut id = [0; 20];
    id[18..].copy_from_slice(&[high, low]);
    Contact { id: Id::new(id), addr: ([5, high, low, 1], 1).into() }
}

fn lookup(distances: impl IntoIterator<Item = u16>) -> Lookup {
    Lookup::new(target(), distances.into_iter().map(|distance| (node(distance), None)))
}

/// The nearest that gave a token: where to store.
fn closest(lookup: &Lookup) -> impl Iterator<Item = Contact> {
    lookup.nearest().filter(|(_, token)| token.is_some()).map(|(contact, _)| contact)
}

/// All that are asked until it waits or ends.
fn asked(lookup: &mut Lookup, now: Duration) -> (Vec<Contact>, Next) {
    let mut asked = Vec::new();
    loop {
        match lookup.next(now) {
            Next::Ask(contact) => asked.push(contact),
            end => return (asked, end),
        }
    }
}

fn answer(lookup: &mut Lookup, distance: u16, named: &[u16]) {
    lookup.on_success(&node(distance).id, 10 * MS, Some(b"t"), named.iter().map(|distance| node(*distance)));
}

#[test]
fn the_nearest_are_asked_first_and_only_so_many() {
    let (contacts, end) = asked(&mut lookup((1..40).rev()), MS);
    assert_eq!(contacts, (1..=ALPHA as u16).map(node).collect::<Vec<_>>());
    assert_eq!(end, Next::Wait(MS + FIRST_SLOT));
}

#[test]
fn the_walk_is_over_when_the_nearest_have_answered() {
    let mut lookup = lookup(1..40);
    asked(&mut lookup, MS);
    for distance in 1..8 {
        answer(&mut lookup, distance, &[]);
        assert_ne!(lookup.next(MS), Next::Done);
        while let Next::Ask(_) = lookup.next(MS) {}
    }
    answer(&mut lookup, 8, &[]);
    assert_eq!(lookup.next(MS), Next::Done);
    assert_eq!(closest(&lookup).collect::<Vec<_>>(), (1..9).map(node).collect::<Vec<_>>());
}

#[test]
fn nearer_nodes_that_are_named_are_asked_at_once() {
    let mut lookup = lookup([1000, 1001]);
    assert_eq!(asked(&mut lookup, MS).0.len(), 2);
    answer(&mut lookup, 1000, &[5, 3, 2000]);
    assert_eq!(asked(&mut lookup, MS).0, [node(3), node(5), node(2000)]);
}

#[test]
fn the_slow_free_their_slots_and_still_count() {
    let mut lookup = lookup(1..40);
    asked(&mut lookup, MS);
    let (more, _) = asked(&mut lookup, MS + FIRST_SLOT);
    assert_eq!(more.len(), ALPHA);
    answer(&mut lookup, 3, &[]);
    assert_eq!(closest(&lookup).next(), Some(node(3)));
}

#[test]
fn the_slow_do_not_hold_up_the_end() {
    let mut lookup = lookup(1..12);
    asked(&mut lookup, MS);
    for distance in 3..=10 {
        answer(&mut lookup, distance, &[]);
    }
    let (_, end) = asked(&mut lookup, 20 * MS);
    assert!(matches!(end, Next::Wait(_)));
    assert_eq!(asked(&mut lookup, MS + FIRST_SLOT).1, Next::Done);
}

#[test]
fn slots_follow_what_is_seen() {
    assert_eq!(slot(None, None), FIRST_SLOT);
    assert_eq!(slot(None, Some(200 * MS)), 300 * MS);
    let quick = Pace::with(None, MS);
    assert_eq!(slot(Some(quick), None), SLOT[0]);
    assert_eq!(slot(Some(quick), Some(300 * MS)), 450 * MS);
    assert_eq!(slot(Some(Pace::with(None, 5000 * MS)), None), SLOT[1]);
}

#[test]
fn a_few_silent_nodes_are_waited_for_less_when_somebody_answers() {
    let mut one = lookup(1..4);
    asked(&mut one, MS);
    assert_eq!(asked(&mut one, MS + FIRST_SLOT).1, Next::Wait(MS + DEADLINE));
    let mut other = lookup(1..4);
    asked(&mut other, MS);
    answer(&mut other, 2, &[]);
    assert_eq!(asked(&mut other, MS + FIRST_SLOT).1, Next::Wait(MS + SLOT[1]));
    assert_eq!(asked(&mut other, MS + SLOT[1]).1, Next::Done);
}

#[test]
fn invented_nodes_end_the_walk() {
    let mut lookup = lookup([60_000]);
    let mut questions = 0;
    let mut invented = 60_000_u16;
    while let Next::Ask(contact) = lookup.next(MS) {
        questions += 1;
        let named: Vec<u16> = (1..=8).map(|n| invented - n).collect();
        invented -= 8;
        lookup.on_success(&contact.id, MS, Some(b"t"), named.into_iter().map(node));
    }
    assert_eq!(questions, MAX_QUESTIONS);
    assert_eq!(lookup.next(MS), Next::Done);
    assert!(lookup.candidates.len() <= MAX_CANDIDATES);
}

#[test]
fn a_crowd_around_the_target_pushes_nobody_away() {
    let mut sparse = lookup(1..200).reaching(Some(node(18).id.distance(&target())));
    while let Next::Ask(contact) = sparse.next(MS) {
        sparse.on_success(&contact.id, MS, Some(b"t"), []);
    }
    assert_eq!(closest(&sparse).count(), 18);
    let mut dense = lookup(1..200).reaching(Some(node(150).id.distance(&target())));
    while let Next::Ask(contact) = dense.next(MS) {
        dense.on_success(&contact.id, MS, Some(b"t"), []);
    }
    assert_eq!((closest(&dense).count(), dense.questions), (MAX_CROWD, MAX_CROWD));
}

#[test]
fn nodes_of_one_subnet_are_not_all_asked() {
    let near = (1..=50).map(|n| Contact { id: node(n).id, addr: ([5, 5, 5, n as u8], 1).into() });
    let mut lookup = Lookup::new(target(), near.map(|contact| (contact, None)));
    assert_eq!(asked(&mut lookup, MS).0.len(), MAX_PER_SUBNET);
}

#[test]
fn an_answer_counts_once_and_only_from_who_was_asked() {
    let mut lookup = lookup([1]);
    answer(&mut lookup, 1, &[2]);
    assert!(lookup.candidates.len() == 1);
    asked(&mut lookup, MS);
    answer(&mut lookup, 1, &[]);
    answer(&mut lookup, 1, &[2]);
    lookup.on_failure(&node(1).id);
    assert_eq!(closest(&lookup).count(), 1);
    assert_eq!(lookup.next(MS), Next::Done);
}

proptest! {
    /// Whatever answers, fails or stays silent, a walk ends and asks nobody behind too many who are being asked.
    #[test]
    fn every_walk_ends(seed in any::<u64>(), nodes in 1u16..300) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut lookup = lookup((1..=nodes).step_by(7));
        let mut open: Vec<Contact> = Vec::new();
        let mut now = MS;
        let mut rounds = 0;
        loop {
            rounds += 1;
            prop_assert!(rounds < 5_000);
            match lookup.next(now) {
                Next::Ask(contact) => {
                    open.push(contact);
                    let nearer = lookup.candidates.values().take_while(|other| other.contact != contact);
                    let in_slots = nearer.filter(|other| matches!(other.state, State::Asked { .. })).count();
                    prop_assert!(in_slots < ALPHA);
                }
                Next::Wait(until) => {
                    prop_assert!(until > now);
                    match open.choose(&mut rng).copied() {
                        Some(contact) if rng.next_u32() % 3 == 0 => lookup.on_failure(&contact.id),
                        Some(contact) if rng.next_u32() % 2 == 0 => {
                            let named: Vec<u16> = (0..8).map(|_| 1 + (rng.next_u32() % u32::from(nodes)) as u16).collect();
                            lookup.on_success(&contact.id, 30 * MS, None, named.into_iter().map(node));
                        }
                        _ => now = until,
                    }
                }
                Next::Done => break,
            }
        }
    }
}
