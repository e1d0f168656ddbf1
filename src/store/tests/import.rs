//! Files of this host taken in.

use std::{fs, os::unix::fs::symlink};

use super::*;

#[test]
fn what_an_index_vouches_for_is_shared_and_the_rest_is_refused_or_private() {
    let house = House::new(1 << 20);
    let store = house.open();
    let (good, other) = (bytes(5000, 1), bytes(600, 2));
    publish(&store, 1, b"one", &[vouched("pool/good_1_all.deb", &good)]);
    let path = |name: &str| house.dir.path().join(name);
    fs::write(path("good_1_all.deb"), &good).unwrap();
    fs::write(path("other_1_all.deb"), &other).unwrap();
    symlink(path("good_1_all.deb"), path("link")).unwrap();

    let import = |name: &str, unvouched| store.import(&path(name), unvouched).unwrap();
    assert!(matches!(import("good_1_all.deb", Unvouched::Refused), Imported::Kept(_)));
    assert_eq!(import("good_1_all.deb", Unvouched::Refused), Imported::Held);
    assert_eq!(import("other_1_all.deb", Unvouched::Refused), Imported::Unvouched);
    assert!(matches!(import("other_1_all.deb", Unvouched::Private), Imported::Private(_)));
    for none in ["link", "nothing", "."] {
        assert_eq!(import(none, Unvouched::Private), Imported::NoFile, "{none}");
    }
    assert_eq!(store.offered().unwrap().iter().map(|listed| listed.expected).collect::<Vec<_>>(), [expected(&good)]);
    assert!(store.offer(expected(&other).hash).unwrap().is_none());
    for content in [&good, &other] {
        let blob = store.open_object(expected(content).hash).unwrap().unwrap();
        assert_eq!(blob.read(0, content.len()).unwrap(), *content);
    }
    assert_eq!((store.snapshot().objects, store.snapshot().bytes), (2, 5600));
    assert_eq!(store.collect(true).unwrap().files, 0, "the newest version of a package stays, whoever vouches for it");

    // The next index vouches for it.
    publish(&store, 2, b"two", &[vouched("pool/other_1_all.deb", &other), vouched("pool/good_1_all.deb", &good)]);
    assert!(store.offer(expected(&other).hash).unwrap().is_some());
}

#[test]
fn a_file_that_others_may_write_is_copied_and_an_import_outlives_its_original() {
    let house = House::new(1 << 20);
    let store = house.open();
    for (mode, seed) in [(0o644, 1), (0o666, 2), (0o664, 3)] {
        let content = bytes(5000, seed);
        let path = house.dir.path().join("x.deb");
        fs::write(&path, &content).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        let Imported::Private(how) = store.import(&path, Unvouched::Private).unwrap() else { panic!() };
        assert!(mode == 0o644 || how != How::Linked, "{mode:o}: {how:?}");
        if how != How::Linked {
            fs::write(&path, b"written over").unwrap();
        }
        fs::remove_file(&path).unwrap();
        let blob = store.open_object(expected(&content).hash).unwrap().unwrap();
        assert_eq!(blob.read(0, content.len()).unwrap(), content);
    }
    assert_eq!(fs::read_dir(house.file("partial")).unwrap().count(), 0);
}

#[test]
fn an_import_makes_room_like_a_download_and_is_refused_where_there_is_none() {
    let house = House::new(12_000);
    let store = house.open();
    let import = |content: &[u8]| {
        let path = house.dir.path().join("x.deb");
        let _none = fs::remove_file(&path);
        fs::write(&path, content).unwrap();
        store.import(&path, Unvouched::Private).unwrap()
    };
    for seed in 0..4 {
        assert!(matches!(import(&bytes(5000, seed)), Imported::Private(_)));
        assert!(store.snapshot().bytes <= 12_000);
    }
    assert_eq!(import(&bytes(13_000, 9)), Imported::Full);
    assert_eq!((store.snapshot().partials, store.snapshot().in_flight), (0, 0));
}
