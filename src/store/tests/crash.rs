use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
};

use super::*;

#[test]
fn one_store_serves_one_daemon() {
    let house = House::new(100);
    let store = house.open();
    let second = Store::open(&house.config(), |_| true);
    assert!(matches!(second.err(), Some(StoreError::InUse(_))));
    drop(store);
    house.open();
}

#[test]
fn everything_kept_and_learned_survives_a_restart_and_nothing_half_done_does() {
    let house = House::new(1 << 20);
    let content = bytes(1000, 1);
    let file = vouched("pool/a.deb", &content);
    let store = house.open();
    publish(&store, 1, b"one", std::slice::from_ref(&file));
    keep(&store, &file, &content).unwrap();
    assert_eq!(store.mark_released(ContentHash::of(b"marked")).unwrap(), Mark::Fresh);
    // As after kill -9: the partial is not dropped.
    let partial = store.begin(expected(b"half")).unwrap();
    partial.write_at(0, b"ha").unwrap();
    fs::copy(house.file("partial").join(format!("{}-1", ContentHash::of(b"half"))), house.file("partial/stray"))
        .unwrap();
    drop((partial, store));

    let store = house.open();
    assert_eq!(fs::read_dir(house.file("partial")).unwrap().count(), 0);
    assert_eq!(store.open_object(expected(&content).hash).unwrap().unwrap().read(0, 1000).unwrap(), content);
    assert_eq!(offered(&store), [expected(&content).hash]);
    assert_eq!(promised(&store, "pool/a.deb"), Some(expected(&content).hash));
    assert!(store.is_marked(ContentHash::of(b"marked")));
    assert!(!store.was_cut(ContentHash::of(b"marked")));
    store.mark_cut(ContentHash::of(b"marked")).unwrap();
    assert!(store.was_cut(ContentHash::of(b"marked")));
    assert_eq!(store.mark_released(ContentHash::of(b"marked")).unwrap(), Mark::Already);
    store.clear_mark(ContentHash::of(b"marked")).unwrap();
    store.clear_mark(ContentHash::of(b"marked")).unwrap();
    assert!(!store.is_marked(ContentHash::of(b"marked")));
}

#[test]
fn nobody_else_may_read_the_store() {
    let house = House::new(1 << 20);
    let store = house.open();
    let content = bytes(10, 1);
    keep(&store, &vouched("pool/a.deb", &content), &content).unwrap();
    store.mark_released(expected(&content).hash).unwrap();
    let mut dirs = vec![house.config().path];
    let mut seen = 0;
    while let Some(dir) = dirs.pop() {
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700, "{}", dir.display());
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                dirs.push(entry.path());
            } else {
                seen += 1;
                assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600, "{}", entry.path().display());
            }
        }
    }
    assert!(seen >= 4);
}

#[test]
fn a_damaged_catalogue_is_set_aside_and_objects_are_believed_only_after_hashing() {
    let house = House::new(1 << 20);
    let (good, bad, idle) = (bytes(700_000, 1), bytes(1000, 2), bytes(0, 3));
    let store = house.open();
    for content in [&good, &bad, &idle] {
        keep(&store, &vouched("pool/x.deb", content), content).unwrap();
    }
    drop(store);
    fs::write(house.file("catalogue.sqlite"), b"SQLite format 3\0 and then nonsense".repeat(1000)).unwrap();
    fs::write(house.object(expected(&bad).hash), bytes(1000, 9)).unwrap();

    let store = house.open();
    assert!(house.file("catalogue.sqlite.damaged").exists());
    assert_eq!(store.snapshot().objects, 3);
    publish(&store, 1, b"one", &[&good, &bad, &idle].map(|content| vouched("pool/x.deb", content))[..1]);
    assert!(offered(&store).is_empty());
    assert!(store.offer(expected(&good).hash).unwrap().is_none());

    let blob = store.open_object(expected(&good).hash).unwrap().unwrap();
    assert_eq!((&blob.chain, blob.expected), (verified(&good).chain(), expected(&good)));
    assert_eq!(offered(&store), [expected(&good).hash]);
    assert!(store.open_object(expected(&bad).hash).unwrap().is_none());
    assert!(!house.object(expected(&bad).hash).exists());
    assert!(store.prove_next().unwrap());
    assert!(!store.prove_next().unwrap());
    assert_eq!((store.snapshot().objects, store.snapshot().bytes), (2, 700_000));
}

#[test]
fn disk_and_catalogue_are_made_to_agree() {
    let house = House::new(1 << 20);
    let files: Vec<_> = (0..4).map(|seed| bytes(1000, seed)).collect();
    let store = house.open();
    for content in &files {
        keep(&store, &vouched("pool/x.deb", content), content).unwrap();
    }
    let path = |seed: usize| house.object(expected(&files[seed]).hash);
    // While it runs.
    fs::remove_file(path(0)).unwrap();
    fs::write(path(1), b"short").unwrap();
    let mut changes = store.changes();
    for seed in [0, 1] {
        assert!(store.open_object(expected(&files[seed]).hash).unwrap().is_none());
        assert_eq!(changes.try_recv().unwrap(), Change::Gone(expected(&files[seed]).hash));
    }
    assert!(!path(1).exists());
    assert_eq!(store.snapshot().bytes, 2000);
    drop(store);
    // While it does not.
    fs::remove_file(path(2)).unwrap();
    fs::write(house.file("objects/readme"), b"not ours").unwrap();
    let store = house.open();
    assert_eq!((store.snapshot().objects, store.snapshot().bytes), (1, 1000));
    assert!(store.open_object(expected(&files[2]).hash).unwrap().is_none());
    assert!(store.open_object(expected(&files[3]).hash).unwrap().is_some());
}

#[test]
fn links_are_not_followed() {
    let house = House::new(1 << 20);
    let content = bytes(1000, 1);
    let store = house.open();
    keep(&store, &vouched("pool/x.deb", &content), &content).unwrap();
    let elsewhere = house.dir.path().join("elsewhere");
    fs::rename(house.object(expected(&content).hash), &elsewhere).unwrap();
    symlink(&elsewhere, house.object(expected(&content).hash)).unwrap();
    assert!(store.open_object(expected(&content).hash).unwrap().is_none());
    assert!(elsewhere.exists());
    drop(store);
    fs::remove_dir_all(house.file("partial")).unwrap();
    symlink(house.dir.path(), house.file("partial")).unwrap();
    assert!(Store::open(&house.config(), |_| true).is_err());
    assert!(elsewhere.exists());
}

#[test]
fn a_catalogue_of_a_later_version_is_left_alone() {
    let house = House::new(100);
    drop(house.open());
    let later = rusqlite::Connection::open(house.file("catalogue.sqlite")).unwrap();
    later.pragma_update(None, "user_version", 99).unwrap();
    drop(later);
    assert!(matches!(Store::open(&house.config(), |_| true).err(), Some(StoreError::Later { found: 99, .. })));
}
