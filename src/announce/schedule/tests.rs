use crate::hash::ContentHash;

use super::*;

#[expect(clippy::disallowed_methods, reason = "only as an origin for differences")]
fn start() -> Instant {
    Instant::now()
}

fn file(name: &str) -> Topic {
    Topic::File(ContentHash::of(name.as_bytes()))
}

/// A place on the dial, in 256 parts of it.
fn place(part: u8) -> Id {
    let mut place = [0; 20];
    place[0] = part;
    Id::new(place)
}

#[test]
fn a_file_is_due_at_once_and_then_about_hourly() {
    for seed in 0..50 {
        let (mut schedule, mut now) = (Schedule::new(seed, start()), start());
        schedule.handle_held(file("a"), place(77), now);
        schedule.handle_held(file("a"), place(77), now);
        assert_eq!(schedule.poll(now), [file("a")]);
        assert_eq!((schedule.poll(now), schedule.next_wake()), (vec![], None), "being announced");
        schedule.handle_announced(file("a"), 8, now);
        let next = schedule.next_wake().expect("again");
        assert!(next - now >= FRESH && next - now <= PERIOD + FRESH, "seed {seed}: {:?}", next - now);
        for _ in 0..3 {
            now = schedule.next_wake().expect("again");
            assert_eq!(schedule.poll(now), [file("a")]);
            schedule.handle_announced(file("a"), 8, now);
            let pause = schedule.next_wake().expect("again") - now;
            assert!(pause.abs_diff(PERIOD) < Duration::from_secs(1), "seed {seed}: {pause:?}");
        }
    }
}

#[test]
fn what_came_together_is_spread_over_the_hour_and_neighbours_stay_together() {
    let (mut schedule, now) = (Schedule::new(7, start()), start());
    let names: Vec<String> = (0..=255).map(|n| format!("{n}")).collect();
    names.iter().zip(0..=255).for_each(|(name, part)| schedule.handle_held(file(name), place(part), now));
    let mut told = Vec::new();
    loop {
        let together = schedule.poll(now);
        if together.is_empty() {
            break;
        }
        assert!(together.len() <= MAX_TOGETHER);
        told.extend(together);
    }
    assert_eq!(told, names.iter().map(|name| file(name)).collect::<Vec<_>>(), "in the order of their places");
    told.into_iter().for_each(|hash| schedule.handle_announced(hash, 8, now));
    let (mut rounds, mut files) = (0, 0);
    let end = now + PERIOD + FRESH;
    while let Some(due) = schedule.next_wake().filter(|due| *due <= end) {
        let together = schedule.poll(due);
        assert!(together.len() <= 14, "three minutes are an eighteenth of the dial: {}", together.len());
        (rounds, files) = (rounds + 1, files + together.len());
        together.into_iter().for_each(|hash| schedule.handle_announced(hash, 8, due));
    }
    assert!((256..300).contains(&files) && rounds <= 30, "{files} files in {rounds} rounds");
}

#[test]
fn what_nobody_took_is_tried_again_soon_then_later() {
    let (mut schedule, mut now) = (Schedule::new(2, start()), start());
    schedule.handle_held(file("a"), place(1), now);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        assert_eq!(schedule.poll(now), [file("a")]);
        schedule.handle_announced(file("a"), 0, now);
        let next = schedule.next_wake().expect("again");
        pauses.push(next - now);
        now = next;
    }
    assert!(pauses[0] <= FIRST_PAUSE && pauses[3] > 4 * FIRST_PAUSE && pauses.iter().all(|pause| *pause <= PERIOD));
}

#[test]
fn what_is_gone_is_not_due_even_when_it_was_being_announced() {
    let (mut schedule, now) = (Schedule::new(3, start()), start());
    schedule.handle_held(file("a"), place(1), now);
    schedule.handle_held(file("b"), place(2), now);
    assert_eq!(schedule.poll(now), [file("a"), file("b")]);
    schedule.handle_gone(file("a"));
    schedule.handle_announced(file("a"), 8, now);
    schedule.handle_stopped(file("b"), now);
    assert_eq!(schedule.next_wake(), Some(now), "it was stopped for another's sake");
    schedule.handle_gone(file("b"));
    assert_eq!((schedule.poll(now + 2 * PERIOD), schedule.next_wake()), (vec![], None));
}

#[test]
fn what_changes_is_due_at_once_and_when_it_was_being_announced_right_after() {
    let (mut schedule, now) = (Schedule::new(5, start()), start());
    schedule.handle_changed(file("a"), now);
    assert_eq!(schedule.next_wake(), None, "not held");
    schedule.handle_held(file("a"), place(1), now);
    assert_eq!(schedule.poll(now), [file("a")]);
    schedule.handle_changed(file("a"), now);
    schedule.handle_announced(file("a"), 8, now);
    assert_eq!(schedule.poll(now), [file("a")]);
    schedule.handle_announced(file("a"), 8, now);
    assert!(schedule.next_wake() > Some(now));
    schedule.handle_changed(file("a"), now);
    assert_eq!(schedule.next_wake(), Some(now));
}

#[test]
fn after_a_move_everything_is_due_again() {
    let (mut schedule, now) = (Schedule::new(3, start()), start());
    for (name, part) in [("a", 1), ("b", 100), ("c", 200)] {
        schedule.handle_held(file(name), place(part), now);
    }
    let mut told = Vec::new();
    while let topics @ [_, ..] = &schedule.poll(now)[..] {
        told.extend_from_slice(topics);
    }
    // One of them is still under way: it is told once more after that.
    told[1..].iter().for_each(|topic| schedule.handle_announced(*topic, 8, now));
    schedule.handle_moved(now);
    let mut again = Vec::new();
    while let topics @ [_, ..] = &schedule.poll(now)[..] {
        again.extend_from_slice(topics);
    }
    assert_eq!(again.len(), 2);
    schedule.handle_announced(told[0], 8, now);
    assert_eq!(schedule.poll(now), [told[0]]);
}
