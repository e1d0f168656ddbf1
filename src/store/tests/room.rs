use super::*;

#[test]
fn what_was_kept_is_read_back_with_its_chain() {
    let house = House::new(1 << 30);
    let store = house.open();
    let mut changes = store.changes();
    for (seed, length) in [0, 1, 64, PIECE_SIZE as usize, PIECE_SIZE as usize + 1].into_iter().enumerate() {
        let content = bytes(length, seed as u8);
        let file = vouched(&format!("pool/{length}.deb"), &content);
        let blob = keep(&store, &file, &content).unwrap();
        assert_eq!(blob.chain, *verified(&content).chain());
        assert_eq!(blob.read(0, length).unwrap(), content);
        assert_eq!(changes.try_recv().unwrap(), Change::Stored(blob.expected.hash));
    }
    let snapshot = store.snapshot();
    assert_eq!((snapshot.objects, snapshot.bytes), (5, 65 + 2 * PIECE_SIZE + 1));
    assert_eq!((snapshot.partials, snapshot.in_flight), (0, 0));
    assert!(store.open_object(ContentHash::of(b"never seen")).unwrap().is_none());
}

#[test]
fn a_partial_that_is_dropped_leaves_nothing_and_its_readers_go_on() {
    let house = House::new(100);
    let store = house.open();
    let partial = store.begin(expected(b"content")).unwrap();
    partial.write_at(3, b"tent").unwrap();
    partial.write_at(0, b"con").unwrap();
    assert!(partial.write_at(4, b"tent").is_err());
    assert!(partial.write_at(u64::MAX, b"x").is_err());
    let mut read = [0; 7];
    partial.read_at(0, &mut read).unwrap();
    assert_eq!(&read, b"content");
    let file = partial.file();
    assert_eq!(store.snapshot().in_flight, 7);
    drop(partial);
    assert_eq!(store.snapshot().in_flight, 0);
    assert_eq!(std::fs::read_dir(house.file("partial")).unwrap().count(), 0);
    std::os::unix::fs::FileExt::read_exact_at(&*file, &mut read, 0).unwrap();
}

#[test]
fn a_partial_that_was_not_written_whole_is_not_kept() {
    let house = House::new(100);
    let store = house.open();
    let partial = store.begin(expected(b"content")).unwrap();
    partial.write_at(0, b"conten").unwrap();
    let kept = store.commit(partial, verified(b"content"), &vouched("pool/a.deb", b"content"));
    assert!(matches!(kept.err(), Some(StoreError::Io { .. })));
    assert!(store.open_object(ContentHash::of(b"content")).unwrap().is_none());
    assert_eq!(store.snapshot().in_flight, 0);
}

#[test]
#[should_panic(expected = "the proof is for the bytes of this partial")]
fn a_proof_of_other_bytes_is_no_proof() {
    let house = House::new(100);
    let store = house.open();
    let partial = store.begin(expected(b"content")).unwrap();
    let _ = store.commit(partial, verified(b"another"), &vouched("pool/a.deb", b"content"));
}

#[test]
fn room_is_made_of_superseded_files_then_of_those_not_used_for_long() {
    let house = House::new(35);
    let store = house.open();
    let files: Vec<_> = (0..5).map(|seed| bytes(10, seed)).collect();
    let entry = |seed: usize| vouched(&format!("pool/{seed}.deb"), &files[seed]);
    publish(&store, 1, b"one", &[entry(0), entry(1), entry(2), entry(3), entry(4)]);
    for (seed, file) in files.iter().enumerate().take(3) {
        keep(&store, &entry(seed), file).unwrap();
    }
    publish(&store, 2, b"two", &[entry(0), entry(1), entry(3), entry(4)]);
    store.open_object(expected(&files[0]).hash).unwrap().unwrap();
    let mut changes = store.changes();
    let held = |seed: usize| store.open_object(expected(&files[seed]).hash).unwrap().is_some();

    keep(&store, &entry(3), &files[3]).unwrap();
    assert_eq!(changes.try_recv().unwrap(), Change::Gone(expected(&files[2]).hash));
    assert!(!held(2));
    keep(&store, &entry(4), &files[4]).unwrap();
    assert_eq!([0, 1, 2, 3, 4].map(held), [true, false, false, true, true]);
    assert_eq!(store.snapshot().bytes, 30);
    // Evicted and fetched again.
    keep(&store, &entry(1), &files[1]).unwrap();
    assert!(held(1));
    assert_eq!((store.snapshot().bytes, store.snapshot().objects), (30, 3));
    drop(store);
    let snapshot = house.open().snapshot();
    assert_eq!((snapshot.bytes, snapshot.objects), (30, 3));
}

#[test]
fn what_is_being_read_or_on_its_way_keeps_its_room() {
    let house = House::new(25);
    let store = house.open();
    let files: Vec<_> = (0..4).map(|seed| bytes(10, seed)).collect();
    let file = |seed: usize| vouched("pool/x.deb", &files[seed]);
    let reading = keep(&store, &file(0), &files[0]).unwrap();
    let coming = store.begin(expected(&files[1])).unwrap();
    assert!(matches!(store.begin(expected(&files[2])).err(), Some(StoreError::Full)));
    assert_eq!(reading.read(0, 10).unwrap(), files[0]);
    drop(reading);
    let second = store.begin(expected(&files[2])).unwrap();
    assert!(store.open_object(expected(&files[0]).hash).unwrap().is_none());
    assert!(matches!(store.begin(expected(&files[3])).err(), Some(StoreError::Full)));
    drop((coming, second));
    store.begin(expected(&files[3])).unwrap();
}

#[test]
fn a_file_that_can_never_fit_evicts_nothing() {
    let house = House::new(25);
    let store = house.open();
    let content = bytes(10, 1);
    keep(&store, &vouched("pool/x.deb", &content), &content).unwrap();
    let huge = Expected { hash: ContentHash::of(b"huge"), size: 26 };
    assert!(matches!(store.begin(huge).err(), Some(StoreError::Full)));
    assert!(matches!(store.begin(Expected { size: u64::MAX, ..huge }).err(), Some(StoreError::Full)));
    drop(store);
    let greedy = Config { min_free: u64::MAX, ..house.config() };
    let store = Store::open(&greedy, |_| true).unwrap();
    assert!(matches!(store.begin(expected(b"x")).err(), Some(StoreError::Full)));
    assert!(store.open_object(expected(&content).hash).unwrap().is_some());
}

#[test]
fn only_what_is_held_public_allowed_and_current_is_offered() {
    let house = House::new(1 << 30);
    let store = house.open();
    let (public, old, secret) = (bytes(10, 1), bytes(10, 2), bytes(10, 3));
    publish(&store, 1, b"one", &[vouched("pool/a.deb", &public), vouched("pool/b.deb", &old)]);
    publish(&store, 2, b"two", &[vouched("pool/a.deb", &public)]);
    let hidden = private("pool/c.deb", &secret);
    store.record_release(hidden.repository(), "", day(1), "key", [hidden.clone()]).unwrap();
    let offers =
        |store: &Store| [&public, &old, &secret].map(|content| store.offer(expected(content).hash).unwrap().is_some());
    assert_eq!(offers(&store), [false; 3]);
    keep(&store, &vouched("pool/a.deb", &public), &public).unwrap();
    keep(&store, &vouched("pool/b.deb", &old), &old).unwrap();
    keep(&store, &hidden, &secret).unwrap();
    assert_eq!(offers(&store), [true, false, false]);
    assert_eq!(offered(&store), [expected(&public).hash]);
    let offer = store.offer(expected(&public).hash).unwrap().unwrap();
    assert_eq!(*offer.file.expected(), expected(&public));
    assert!(matches!(&offer.of, Offered::Whole(blob) if blob.read(0, 10).unwrap() == public));

    // A private source has the public file, too: that takes nothing away. A public one has the private: that gives it.
    store
        .record_release(hidden.repository(), "", day(2), "key", [private("pool/a.deb", &public), hidden.clone()])
        .unwrap();
    assert_eq!(offers(&store), [true, false, false]);
    drop((offer, store));
    let store = Store::open(&house.config(), |repository| repository.as_str() != HOUSE).unwrap();
    assert_eq!(offers(&store), [false; 3]);
    assert!(offered(&store).is_empty());
    assert!(store.promise(&format!("{HOUSE}/pool/a.deb")).unwrap().unwrap().shareable().is_none());
}

#[test]
fn all_that_is_offered_is_listed_once_however_much_it_is() {
    let house = House::new(1 << 30);
    let store = house.open();
    let files: Vec<_> = (0..600_u32).map(u32::to_be_bytes).collect();
    let entries: Vec<_> = files.iter().map(|file| vouched(&format!("pool/{}", ContentHash::of(file)), file)).collect();
    publish(&store, 1, b"one", &entries);
    for (file, entry) in files.iter().zip(&entries).filter(|(file, _)| file[3] % 3 > 0) {
        keep(&store, entry, file).unwrap();
    }
    let mut wanted: Vec<_> = files.iter().filter(|file| file[3] % 3 > 0).map(|file| ContentHash::of(file)).collect();
    wanted.sort();
    assert_eq!(offered(&store), wanted);
}

#[test]
fn many_who_keep_read_and_evict_at_once_leave_the_sums_right() {
    use rand::{RngExt, SeedableRng};
    let house = House::new(20_000);
    let store = house.open();
    let files: Vec<_> = (0..30).map(|seed| bytes(500 + 97 * usize::from(seed), seed)).collect();
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (store, files) = (store.clone(), &files);
            scope.spawn(move || {
                let mut rng = rand::rngs::SmallRng::seed_from_u64(seed);
                for _ in 0..300 {
                    let file = &files[rng.random_range(0..files.len())];
                    match store.open_object(expected(file).hash).unwrap() {
                        Some(blob) => assert_eq!(&blob.read(0, file.len()).unwrap(), file, "seed {seed}"),
                        None => match keep(&store, &vouched("pool/x.deb", file), file) {
                            Ok(blob) => assert_eq!(&blob.read(0, file.len()).unwrap(), file, "seed {seed}"),
                            Err(error) => assert!(matches!(error, StoreError::Full), "seed {seed}: {error}"),
                        },
                    }
                }
            });
        }
    });
    let after = store.snapshot();
    assert!(after.bytes <= 20_000 && after.objects > 0, "{after:?}");
    assert_eq!((after.partials, after.in_flight), (0, 0));
    drop(store);
    // Counted anew from the disk.
    let store = house.open();
    assert_eq!((store.snapshot().bytes, store.snapshot().objects), (after.bytes, after.objects));
    assert!(!store.prove_next().unwrap());
}
