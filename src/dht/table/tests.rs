use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

use super::*;

const MS: Duration = Duration::from_millis(1);

fn own() -> Id {
    Id::new([0; 20])
}

/// A node of the farthest bucket.
fn far(n: u16) -> Contact {
    let [high, low] = n.to_be_bytes();
    let mut id = [0x80; 20];
    id[18..].copy_from_slice(&[high, low]);
    Contact { id: Id::new(id), addr: SocketAddr::from(([5, low, high, 1], 1)) }
}

/// A node that shares four bits.
fn near(n: u16) -> Contact {
    let [high, low] = n.to_be_bytes();
    let mut id = [0; 20];
    id[0] = 0x08;
    id[18..].copy_from_slice(&[high, low]);
    Contact { id: Id::new(id), addr: SocketAddr::from(([6, low, high, 1], 1)) }
}

#[test]
fn wide_buckets_keep_the_quick_and_small_ones_the_old() {
    let mut table = Table::new(own());
    for n in 0..300 {
        table.handle_answer(far(n), 100 * MS, MS);
        table.handle_answer(near(n), 100 * MS, MS);
    }
    assert_eq!(table.contacts().len(), 256 + 32);
    assert!(table.is_curious(&far(300)) && !table.wants(&far(300)) && !table.is_curious(&near(300)));
    table.handle_answer(far(300), 10 * MS, MS);
    table.handle_answer(near(300), 10 * MS, MS);
    let contacts = table.contacts();
    assert!(contacts.contains(&far(300)));
    assert!(!contacts.contains(&near(300)));
    assert_eq!(table.contacts().len(), 256 + 32);
}

#[test]
fn who_may_sit_there_displaces_who_may_not_and_is_not_displaced_by_it() {
    let mut rng = StdRng::seed_from_u64(1);
    let mut rooted = |n: u8, like: &Contact| loop {
        // An address has eight beginnings to choose from, so that a place takes some addresses.
        let addr = SocketAddr::from(([7, n, rng.random(), 1], 1));
        let id = Id::rooted_in(addr.ip(), &mut rng);
        if own().distance(&id).shared_bits() == own().distance(&like.id).shared_bits() {
            return Contact { id, addr };
        }
    };
    for like in [far(0), near(0)] {
        let mut table = Table::new(own());
        let same = |n: u16| if like == far(0) { far(n) } else { near(n) };
        for n in 0..300 {
            table.handle_answer(same(n), MS, MS);
        }
        let full = table.contacts().len();
        let slow: Vec<Contact> = (0..8).map(|n| rooted(n, &like)).collect();
        for contact in &slow {
            assert!(table.wants(contact));
            table.handle_answer(*contact, 500 * MS, MS);
        }
        for n in 300..700 {
            table.handle_answer(same(n), MS / 2, MS);
        }
        let contacts = table.contacts();
        assert_eq!(contacts.len(), full);
        assert!(slow.iter().all(|contact| contacts.contains(contact)));
    }
}

#[test]
fn the_silent_give_way_and_are_dropped() {
    let mut table = Table::new(own());
    for n in 0..32 {
        table.handle_answer(near(n), MS, MS);
    }
    assert!(!table.wants(&near(99)));
    table.handle_silence(&near(3).addr);
    assert!(table.wants(&near(99)));
    table.handle_answer(near(99), MS, MS);
    assert!(!table.contacts().contains(&near(3)));
    for _ in 0..DEAD {
        assert!(table.contacts().contains(&near(4)));
        table.handle_silence(&near(4).addr);
    }
    assert!(!table.contacts().contains(&near(4)));
}

#[test]
fn doubtful_nodes_are_told_to_nobody() {
    let mut table = Table::new(own());
    table.handle_answer(near(1), MS, MS);
    table.handle_answer(far(1), MS, MS);
    table.handle_silence(&near(1).addr);
    table.handle_silence(&near(1).addr);
    assert_eq!(table.nearest_lively(&near(1).id, |_| true), [far(1)]);
    assert_eq!(table.lively(), 1);
    assert_eq!(table.closest(&near(1).id, 9).len(), 2);
    table.handle_answer(near(1), MS, MS);
    assert_eq!(table.nearest_lively(&near(1).id, |_| true), [near(1), far(1)]);
}

#[test]
fn an_address_stands_for_one_id_and_the_own_id_for_none() {
    let mut table = Table::new(own());
    table.handle_answer(far(1), MS, MS);
    table.handle_answer(Contact { id: near(2).id, addr: far(1).addr }, MS, MS);
    assert_eq!(table.contacts(), [Contact { id: near(2).id, addr: far(1).addr }]);
    table.handle_answer(Contact { id: own(), addr: far(9).addr }, MS, MS);
    assert_eq!(table.contacts().len(), 1);
}

#[test]
fn one_subnet_fills_no_bucket_unless_its_addresses_are_free() {
    let mut table = Table::new(own());
    let at = |n: u8, ip: [u8; 4]| Contact { id: far(n.into()).id, addr: SocketAddr::from((ip, 1)) };
    for n in 0..50 {
        table.handle_answer(at(n, [5, 5, 5, n]), MS, MS);
    }
    assert_eq!(table.contacts().len(), PER_SUBNET);
    for n in 50..100 {
        table.handle_answer(at(n, [127, 0, 0, n]), MS, MS);
    }
    assert_eq!(table.contacts().len(), PER_SUBNET + 50);
}

#[test]
fn nodes_are_asked_again_once_those_near_the_own_id_sooner() {
    let mut table = Table::new(own());
    let second = Duration::from_secs(1);
    table.handle_answer(far(1), MS, second);
    table.handle_answer(near(2), MS, second);
    table.handle_answer(near(3), MS, 2 * second);
    assert_eq!(table.next_stale(STALE_NEAR), None);
    assert_eq!(table.next_stale(STALE_NEAR + 5 * second), Some((near(2), 4)));
    assert_eq!(table.next_stale(STALE_NEAR + 5 * second), Some((near(3), 4)));
    assert_eq!(table.next_stale(STALE_NEAR + 5 * second), None);
    table.handle_silence(&near(2).addr);
    assert_eq!(table.next_stale(STALE_NEAR + 5 * second + RETRY), Some((near(2), 4)));
    assert_eq!(table.next_stale(STALE_WIDE), Some((near(2), 4)));
    assert_eq!(table.next_stale(STALE_WIDE), Some((near(3), 4)));
    assert_eq!(table.next_stale(STALE_WIDE + second), Some((far(1), 0)));
}

#[test]
fn the_closest_come_in_order() {
    let mut rng = StdRng::seed_from_u64(7);
    let mut table = Table::new(own());
    for _ in 0..500 {
        let addr = SocketAddr::from((rng.next_u32().to_be_bytes(), 1));
        table.handle_answer(Contact { id: Id::random(&mut rng), addr }, MS, MS);
    }
    for shared in [0, 1, 3, 6, 8, 160] {
        let target = if shared == 160 { own() } else { own().random_sharing(shared, &mut rng) };
        let closest = table.closest(&target, 20);
        assert_eq!(closest.len(), 20);
        let mut all = table.contacts();
        all.sort_by_key(|contact| contact.id.distance(&target));
        assert_eq!(closest.into_iter().map(|(contact, _)| contact).collect::<Vec<_>>(), all[..20], "{shared} bits");
    }
}
