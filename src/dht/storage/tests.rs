use rand::{SeedableRng, rngs::StdRng};

use super::*;

const START: Duration = Duration::from_secs(1);

fn addr(n: u32) -> SocketAddr {
    SocketAddr::from(((0x0500_0000 + n).to_be_bytes(), 1000))
}

/// An address in a subnet of its own.
fn apart(n: u32) -> SocketAddr {
    addr(n << 8)
}

fn key(n: u32) -> Id {
    let mut id = [0; 20];
    id[..4].copy_from_slice(&n.to_be_bytes());
    id[19] = 1;
    Id::new(id)
}

fn storage() -> Storage {
    Storage::new(Id::new([0; 20]), TTL)
}

fn holders(storage: &Storage, n: u32, now: Duration) -> Vec<SocketAddr> {
    let mut found = storage.holders(&key(n), 1000, now, &mut StdRng::seed_from_u64(1), |_| true);
    found.sort();
    found
}

#[test]
fn a_holder_is_told_until_it_ends() {
    let mut storage = storage();
    storage.announce(&key(1), addr(1), None, START).unwrap();
    storage.announce(&key(1), addr(2), None, 2 * START).unwrap();
    assert_eq!(holders(&storage, 1, TTL), [addr(1), addr(2)]);
    assert_eq!(holders(&storage, 1, START + TTL), [addr(2)]);
    storage.announce(&key(1), addr(2), None, TTL).unwrap();
    storage.sweep(2 * START + TTL);
    assert_eq!(holders(&storage, 1, 2 * START + TTL), [addr(2)]);
    storage.sweep(2 * TTL);
    assert_eq!((storage.stored(), storage.holders, storage.holders_by_subnet.len()), (0, 0, 0));
}

#[test]
fn holders_are_drawn_from_those_that_may_be_told() {
    let mut storage = storage();
    for n in 0..20 {
        storage.announce(&key(1), apart(n), None, START).unwrap();
    }
    let found = storage.holders(&key(1), 50, START, &mut StdRng::seed_from_u64(1), |told| *told != apart(3));
    assert_eq!(found.len(), 19);
    assert_eq!(storage.holders(&key(1), 5, START, &mut StdRng::seed_from_u64(1), |_| true).len(), 5);
}

#[test]
fn one_subnet_holds_a_small_part_of_a_key() {
    let mut storage = storage();
    let taken = (0..200).filter(|n| storage.announce(&key(1), addr(*n), None, START).is_ok()).count();
    assert_eq!(taken, MAX_HOLDERS_PER_KEY_AND_SUBNET);
    for n in 1..300 {
        storage.announce(&key(1), apart(n), None, START).unwrap();
    }
    assert_eq!(holders(&storage, 1, START).len(), MAX_HOLDERS_PER_KEY);
    assert_eq!(storage.holders, MAX_HOLDERS_PER_KEY);
    assert_eq!(storage.holders_by_subnet.values().sum::<usize>(), MAX_HOLDERS_PER_KEY);
}

#[test]
fn far_keys_give_way_to_near_ones() {
    let mut storage = storage();
    for n in 0..MAX_KEYS as u32 {
        storage.announce(&key(2 * n), apart(n), None, START).unwrap();
    }
    let farthest = 2 * (MAX_KEYS as u32 - 1);
    assert_eq!(storage.announce(&key(farthest + 1), apart(1), None, START), Err(Full));
    assert_eq!(storage.announce(&key(1), apart(1), None, START), Ok(()));
    assert!(holders(&storage, farthest, START).is_empty());
    assert_eq!(storage.stored(), MAX_KEYS);
}

#[test]
fn one_subnet_cannot_fill_the_store() {
    let mut storage = storage();
    let taken = (0..30_000).filter(|n| storage.announce(&key(30_000 - n), addr(7), None, START).is_ok()).count();
    assert_eq!(taken, MAX_HOLDERS_PER_SUBNET);
    let item = |n: u32| crate::dht::bencode::byte_string(&n.to_be_bytes());
    let put = (0..5_000).filter(|n| storage.put(&item(*n), addr(7), START).is_ok()).count();
    assert_eq!(put, MAX_ITEMS_PER_SUBNET);
    for n in 5_000..20_000 {
        let _ = storage.put(&item(n), apart(n), START);
    }
    assert_eq!(storage.items.len(), MAX_ITEMS);
    assert_eq!(storage.items_by_subnet.values().sum::<usize>(), MAX_ITEMS);
    storage.sweep(START + TTL);
    assert_eq!((storage.stored(), storage.items_by_subnet.len()), (0, 0));
}

#[test]
fn items_come_back_until_they_end() {
    let mut storage = storage();
    let target = Id::of_item(b"1:x");
    storage.put(b"1:x", addr(1), START).unwrap();
    assert_eq!(storage.item(&target, START), Some(&b"1:x"[..]));
    assert_eq!(storage.item(&key(1), START), None);
    storage.put(b"1:x", addr(2), TTL).unwrap();
    assert_eq!(storage.item(&target, START + TTL), Some(&b"1:x"[..]));
    assert_eq!(storage.item(&target, 2 * TTL), None);
}

#[test]
fn claims_are_counted_by_networks_and_told_best_first() {
    let mut storage = storage();
    for n in 0..5 {
        storage.announce(&key(1), addr(n), Some(b"one"), START).unwrap();
    }
    for n in 1..4 {
        storage.announce(&key(1), apart(n), Some(b"two"), START).unwrap();
    }
    assert_eq!(storage.claims(&key(1), START), [(&b"two"[..], 3), (&b"one"[..], 1)]);
    storage.announce(&key(1), apart(1), Some(b"one"), START).unwrap();
    assert_eq!(storage.claims(&key(1), START), [(&b"one"[..], 2), (&b"two"[..], 2)]);
    assert!(storage.claims(&key(1), START + TTL).is_empty());
}

#[test]
fn a_flood_of_claims_does_not_displace_one_that_several_networks_make() {
    let mut storage = storage();
    for n in 1..3 {
        storage.announce(&key(1), apart(n), Some(b"good"), START).unwrap();
    }
    for n in 10..90_u32 {
        storage.announce(&key(1), apart(n), Some(&n.to_be_bytes()), START + Duration::from_millis(n.into())).unwrap();
    }
    let claims = storage.claims(&key(1), START);
    assert_eq!(claims.len(), MAX_CLAIMS);
    assert_eq!(claims[0], (&b"good"[..], 2));
}

#[test]
fn the_networks_behind_a_claim_are_bounded() {
    let mut storage = storage();
    for n in 1..90 {
        storage.announce(&key(1), apart(n), Some(b"good"), START).unwrap();
    }
    assert_eq!(storage.claims(&key(1), START), [(&b"good"[..], MAX_NETWORKS as u32)]);
}
