//! Damage is found, set aside, and not served twice.

use std::fs;

use super::*;

fn flip(path: &Path) {
    let mut content = fs::read(path).unwrap();
    content[0] ^= 1;
    fs::write(path, content).unwrap();
}

#[test]
fn a_damaged_object_is_served_once_at_most() {
    let house = House::new(1 << 20);
    let content = bytes(5000, 1);
    let file = vouched("pool/x.deb", &content);
    drop(keep(&house.open(), &file, &content).unwrap());
    let store = house.open();
    flip(&house.object(expected(&content).hash));
    let mut changes = store.changes();
    assert!(store.open_object(expected(&content).hash).unwrap().is_some(), "nothing tells yet");
    assert!(store.open_object(expected(&content).hash).unwrap().is_none());
    assert_eq!(changes.try_recv().unwrap(), Change::Gone(expected(&content).hash));
    assert!(house.file("quarantine").join(expected(&content).hash.to_string()).exists());
    assert_eq!((store.snapshot().objects, store.snapshot().bytes), (0, 0));
    keep(&store, &file, &content).unwrap();
    let blob = store.open_object(expected(&content).hash).unwrap().unwrap();
    assert_eq!(blob.read(0, content.len()).unwrap(), content);
    drop((blob, store));
    assert_eq!(house.open().snapshot().objects, 1, "what is set aside is no object");
}

#[test]
fn verification_goes_through_all_in_parts_and_names_what_is_damaged() {
    let house = House::new(1 << 20);
    let store = house.open();
    let files: Vec<_> = (0..100).map(|seed| bytes(1000, seed)).collect();
    for file in &files {
        keep(&store, &vouched("pool/x.deb", file), file).unwrap();
    }
    let (bad, short, gone) = (expected(&files[7]), expected(&files[8]), expected(&files[9]));
    flip(&house.object(bad.hash));
    fs::write(house.object(short.hash), &files[8][..999]).unwrap();
    fs::remove_file(house.object(gone.hash)).unwrap();
    let (mut after, mut parts, mut count, mut damaged) = (None, 0, 0, Vec::new());
    loop {
        let checked = store.verify(after, 10_000).unwrap();
        assert!(checked.bytes <= 10_000);
        (parts, count) = (parts + 1, count + checked.files);
        damaged.extend(checked.damaged);
        after = checked.last;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((parts, count), (10, 99));
    damaged.sort_by_key(|damaged| damaged.file.hash);
    let from = Some((Repository::restore(HOUSE), "pool/x.deb".to_owned()));
    let mut wanted = [bad, short].map(|file| Damaged { file, from: from.clone() });
    wanted.sort_by_key(|damaged| damaged.file.hash);
    assert_eq!(damaged, wanted);
    assert_eq!(store.snapshot().objects, 97);
}

#[test]
fn the_scrubber_goes_round_and_leaves_the_disk_to_downloads() {
    let house = House::new(1 << 20);
    let store = house.open();
    let files: Vec<_> = (0..10).map(|seed| bytes(1000, seed)).collect();
    for file in &files {
        keep(&store, &vouched("pool/x.deb", file), file).unwrap();
    }
    for round in 0..4 {
        let hashed: u64 = (0..4).map(|_| store.scrub(3000).unwrap()).sum();
        assert_eq!(hashed, 10_000, "round {round}");
    }
    let partial = store.begin(expected(b"more")).unwrap();
    assert_eq!(store.scrub(3000).unwrap(), 0);
    drop(partial);
    flip(&house.object(expected(&files[3]).hash));
    let _hashed: u64 = (0..4).map(|_| store.scrub(3000).unwrap()).sum();
    assert_eq!(store.snapshot().objects, 9);
}

#[test]
fn of_much_damage_only_some_is_kept_to_be_looked_at() {
    let house = House::new(1 << 20);
    let store = house.open();
    for seed in 0..30 {
        let file = bytes(100, seed);
        keep(&store, &vouched("pool/x.deb", &file), &file).unwrap();
        flip(&house.object(expected(&file).hash));
    }
    assert_eq!(store.verify(None, u64::MAX).unwrap().damaged.len(), 30);
    assert_eq!(fs::read_dir(house.file("quarantine")).unwrap().count(), 16);
}
