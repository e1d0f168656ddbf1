use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::archive::Pin;

use super::*;

#[test]
fn a_path_is_looked_up_in_the_longest_repository_that_it_lies_in_and_in_no_other() {
    let house = House::new(1 << 30);
    let store = house.open();
    let repository = |name: &str| Repository::restore(name);
    for (name, path, content) in [
        ("mirror.example.org", "debian/pool/x", "outer"),
        ("mirror.example.org", "debian/pool/y", "outer y"),
        ("mirror.example.org/debian", "pool/x", "inner"),
    ] {
        let member = Vouched::restore(expected(content.as_bytes()), repository(name), path.to_owned(), true);
        store.record_release(&repository(name), path, day(1), "key", [member]).unwrap();
    }
    let hash = |key: &str| {
        store.promise(key).unwrap().map(|vouched| (vouched.expected().hash, vouched.repository().to_string()))
    };
    let of = |content: &str, name: &str| Some((ContentHash::of(content.as_bytes()), name.to_owned()));
    assert_eq!(hash("mirror.example.org/debian/pool/x"), of("inner", "mirror.example.org/debian"));
    assert_eq!(hash("mirror.example.org/debian/pool/y"), None, "what the longest does not promise, no other does");
    let within = |name: &str, path: &str| {
        let promise = store.promise_in(&repository(name), path).unwrap();
        promise.map(|vouched| vouched.expected().hash)
    };
    assert_eq!(within("mirror.example.org", "debian/pool/y"), Some(ContentHash::of(b"outer y")));
    assert_eq!(within("mirror.example.org/debian", "pool/x"), Some(ContentHash::of(b"inner")));
    assert_eq!(within("mirror.example.org/debian", "pool/y"), None);
    assert_eq!(within("other.example.org", "pool/x"), None);
    for (name, is_nested) in [
        ("mirror.example.org", true),
        ("mirror.example.org/debian/pool", true),
        ("mirror.example.org/other", true),
        ("mirror.example.org:81/debian", false),
        ("other.example.org", false),
    ] {
        assert_eq!(store.is_nested(&repository(name)), is_nested, "{name}");
    }
    assert_eq!(hash("mirror.example.org/debian-x/pool/x"), None);
    assert_eq!(hash("other.example.org/debian/pool/x"), None);
    assert_eq!(hash(""), None);
    assert_eq!(hash(&"mirror.example.org/".repeat(1000)), None);
}

#[test]
fn of_releases_only_the_newest_is_learned() {
    let house = House::new(1 << 30);
    let store = house.open();
    let record = |number, content: &str| {
        let member = vouched("dists/stable/main/Contents-all.gz", content.as_bytes());
        store.record_release(&super::house(), "dists/stable", day(number), "key", [member]).unwrap()
    };
    assert_eq!(record(2, "two"), Recorded::New);
    assert_eq!(record(2, "two"), Recorded::Same);
    assert_eq!(record(1, "one"), Recorded::Older);
    assert_eq!(promised(&store, "dists/stable/main/Contents-all.gz"), Some(ContentHash::of(b"two")));
    assert_eq!(record(2, "the same second"), Recorded::New);
    assert_eq!(record(3, "three"), Recorded::New);
    let suites = store.suites().unwrap();
    assert_eq!(suites.len(), 1);
    let suite = &suites[0];
    assert_eq!(
        (suite.suite.as_str(), suite.date, suite.signer.as_str(), suite.files),
        ("dists/stable", day(3), "key", 1)
    );
    assert_eq!(suite.repository, super::house());
}

#[test]
fn who_signed_the_same_release_last_is_known() {
    let house = House::new(1 << 30);
    let store = house.open();
    let record = |signer: &str| {
        let member = vouched("dists/stable/main/Contents-all.gz", b"one");
        store.record_release(&super::house(), "dists/stable", day(2), signer, [member]).unwrap()
    };
    assert_eq!([record("old"), record("new")], [Recorded::New, Recorded::Same]);
    assert_eq!(store.suites().unwrap()[0].signer, "new");
}

#[test]
fn what_a_release_says_of_the_next_one_s_keys_outlives_a_restart() {
    let house = House::new(1 << 30);
    let key = "0123456789ABCDEF0123456789ABCDEF01234567";
    let (keys, until) = (format!("{key} {key}!"), day(30));
    let pin = |keys: &str| Pin::restore(super::house(), "dists/stable".to_owned(), keys, until).unwrap();
    let record = |store: &Store, number| {
        let member = vouched("dists/stable/main/Contents-all.gz", &[number as u8]);
        store.record_release(&super::house(), "dists/stable", day(number), "key", [member]).unwrap()
    };
    let store = house.open();
    assert!(!store.pin(&pin(&keys), day(2)).unwrap(), "of no suite that is known");
    record(&store, 2);
    assert!(store.pin(&pin(&keys), day(2)).unwrap());
    assert!(!store.pin(&pin(key), day(1)).unwrap(), "of an older one");
    drop(store);
    let store = house.open();
    assert_eq!(store.pins().unwrap(), [pin(&keys)]);
    record(&store, 3);
    assert_eq!(store.pins().unwrap(), [pin(&keys)], "until the next one is heard");
    let silent = Pin::silent(super::house(), "dists/stable".to_owned());
    assert!(store.pin(&silent, day(3)).unwrap());
    assert_eq!(store.pins().unwrap(), []);
}

#[test]
fn members_are_promised_by_hash_too_and_stay_so_for_one_release_more() {
    let house = House::new(1 << 30);
    let store = house.open();
    let by_hash =
        |content: &[u8]| format!("dists/stable/main/binary-amd64/by-hash/SHA256/{}", ContentHash::of(content));
    publish(&store, 1, b"one", &[]);
    assert_eq!(promised(&store, &by_hash(b"one")), Some(ContentHash::of(b"one")));
    publish(&store, 2, b"two", &[]);
    assert_eq!(promised(&store, &by_hash(b"one")), Some(ContentHash::of(b"one")));
    assert_eq!(promised(&store, &by_hash(b"two")), Some(ContentHash::of(b"two")));
    assert_eq!(promised(&store, "dists/stable/main/binary-amd64/Packages"), Some(ContentHash::of(b"two")));
    assert!(store.by_hash(ContentHash::of(b"one")).unwrap().is_empty());
    assert_eq!(store.by_hash(ContentHash::of(b"two")).unwrap().len(), 2);
    publish(&store, 3, b"three", &[]);
    assert_eq!(promised(&store, &by_hash(b"one")), None);
    assert_eq!(promised(&store, &by_hash(b"two")), Some(ContentHash::of(b"two")));
}

#[test]
fn an_entry_that_the_next_version_of_its_index_lacks_is_superseded_then_forgotten() {
    let house = House::new(1 << 30);
    let store = house.open();
    let (old, new, stays) =
        (vouched("pool/a_1.deb", b"a1"), vouched("pool/a_2.deb", b"a2"), vouched("pool/b_1.deb", b"b1"));
    publish(&store, 1, b"one", &[old.clone(), stays.clone()]);
    assert_eq!(store.by_hash(old.expected().hash).unwrap(), std::slice::from_ref(&old));
    publish(&store, 2, b"two", &[new.clone(), stays.clone()]);
    assert!(store.by_hash(old.expected().hash).unwrap().is_empty());
    assert_eq!(promised(&store, "pool/a_1.deb"), Some(old.expected().hash));
    assert_eq!(store.by_hash(new.expected().hash).unwrap(), std::slice::from_ref(&new));
    assert_eq!(store.by_hash(stays.expected().hash).unwrap(), std::slice::from_ref(&stays));
    publish(&store, 3, b"three", std::slice::from_ref(&new));
    assert_eq!(promised(&store, "pool/a_1.deb"), None);
    assert_eq!(promised(&store, "pool/b_1.deb"), Some(stays.expected().hash));
    assert!(store.by_hash(stays.expected().hash).unwrap().is_empty());
    publish(&store, 4, b"four", &[new, stays.clone()]);
    assert_eq!(store.by_hash(stays.expected().hash).unwrap(), [stays]);
}

#[test]
fn a_file_that_two_indexes_list_stays_current_while_one_does() {
    let house = House::new(1 << 30);
    let store = house.open();
    let shared = vouched("pool/a_all.deb", b"all");
    let amd = vouched("dists/stable/main/binary-amd64/Packages", b"amd64");
    let arm = vouched("dists/stable/main/binary-arm64/Packages", b"arm64");
    store.record_release(&super::house(), "dists/stable", day(1), "key", [amd.clone(), arm.clone()]).unwrap();
    store.record_index(&amd, [shared.clone()]).unwrap();
    store.record_index(&arm, [shared.clone()]).unwrap();
    let amd2 = vouched("dists/stable/main/binary-amd64/Packages", b"amd64, later");
    store.record_release(&super::house(), "dists/stable", day(2), "key", [amd2.clone(), arm]).unwrap();
    store.record_index(&amd2, []).unwrap();
    assert_eq!(store.by_hash(shared.expected().hash).unwrap(), std::slice::from_ref(&shared));

    // The last index that listed it leaves the suite.
    store.record_release(&super::house(), "dists/stable", day(3), "key", [amd2]).unwrap();
    assert!(store.by_hash(shared.expected().hash).unwrap().is_empty());
    assert_eq!(promised(&store, "dists/stable/main/binary-arm64/Packages"), None);
}

#[test]
fn an_index_is_one_listing_by_hash_and_in_every_compression_and_an_old_one_teaches_nothing() {
    let house = House::new(1 << 30);
    let store = house.open();
    let dir = "dists/stable/main/binary-amd64";
    let members = |content: &str| {
        ["", ".xz", ".gz"].map(|end| vouched(&format!("{dir}/Packages{end}"), format!("{content}{end}").as_bytes()))
    };
    let by_hash = |content: &str| {
        vouched(&format!("{dir}/by-hash/SHA256/{}", ContentHash::of(content.as_bytes())), content.as_bytes())
    };
    let (old, new) = (vouched("pool/a_1.deb", b"a1"), vouched("pool/a_2.deb", b"a2"));
    store.record_release(&super::house(), "dists/stable", day(1), "key", members("one")).unwrap();
    assert!(!store.learned(&by_hash("one.xz")).unwrap());
    assert_eq!(store.record_index(&by_hash("one.xz"), [old.clone()]).unwrap(), 1);
    for known in ["one", "one.xz", "one.gz"] {
        assert!(store.learned(&by_hash(known)).unwrap(), "{known}");
        let undrawn = std::iter::from_fn(|| panic!("it is known already"));
        assert_eq!(store.record_index(&by_hash(known), undrawn).unwrap(), 0);
    }

    store.record_release(&super::house(), "dists/stable", day(2), "key", members("two")).unwrap();
    assert_eq!(store.record_index(&by_hash("one.xz"), [old.clone()]).unwrap(), 0);
    assert_eq!(store.record_index(&by_hash("two.gz"), [new.clone()]).unwrap(), 1);
    assert!(store.by_hash(old.expected().hash).unwrap().is_empty());
    assert!(store.learned(&members("two")[0]).unwrap() && !store.learned(&by_hash("one.xz")).unwrap());
    assert_eq!(store.by_hash(new.expected().hash).unwrap(), [new]);
    assert_eq!(store.suites().unwrap()[0].files, 4);
}

#[test]
fn learning_an_index_again_writes_what_differs_and_no_more() {
    const FILES: u32 = 20_000;
    let house = House::new(1 << 30);
    let store = house.open();
    let entries = |first: u32, version: u32| {
        let file = move |n: u32| {
            let version = if n < first { version } else { 0 };
            vouched(
                &format!("pool/main/p/package-{n}/package-{n}_{version}_amd64.deb"),
                &[n, version].map(u32::to_be_bytes).concat(),
            )
        };
        (0..FILES).map(file).collect::<Vec<_>>()
    };
    // Rows that SQLite wrote or removed.
    let written = |number: u64, entries: &[Vouched]| {
        let before = store.0.database.writer().total_changes();
        publish(&store, number, &number.to_be_bytes(), entries);
        store.0.database.writer().total_changes() - before
    };
    let new = written(1, &entries(0, 0));
    assert!(new > 2 * 4000, "all pages, and all rows of places: {new}");
    let same = written(2, &entries(0, 0));
    assert!(same < 20, "{same}");
    // Each of them is in a page with its path of old and in one with its new path, and in as many rows of places.
    let changed = written(3, &entries(FILES / 100, 1));
    assert!((200..4 * 200 + 20).contains(&changed), "{changed}");
    let later = entries(FILES / 100, 1);
    assert_eq!(promised(&store, later[7].path()), Some(later[7].expected().hash));
    assert_eq!(store.by_hash(later[7].expected().hash).unwrap().len(), 1);
    assert!(store.by_hash(entries(0, 0)[7].expected().hash).unwrap().is_empty());
}

#[test]
fn of_equal_indexes_each_is_found_in_its_own_folder() {
    let house = House::new(1 << 30);
    let store = house.open();
    let dirs = ["binary-arm64", "binary-amd64", "binary-i386"].map(|dir| format!("dists/stable/main/{dir}"));
    let members = dirs.each_ref().map(|dir| vouched(&format!("{dir}/Packages.xz"), b"equal"));
    store.record_release(&super::house(), "dists/stable", day(1), "key", members.clone()).unwrap();
    for (dir, member) in dirs.iter().zip(&members) {
        let asked = vouched(&format!("{dir}/by-hash/SHA256/{}", member.expected().hash), b"equal");
        assert_eq!(store.under_plain_path(&asked).unwrap().as_ref(), Some(member));
    }
    let elsewhere = vouched(&format!("dists/by-hash/SHA256/{}", members[0].expected().hash), b"equal");
    assert_eq!(store.under_plain_path(&elsewhere).unwrap(), None);
    assert_eq!(store.under_plain_path(&members[0]).unwrap(), None);
}

#[test]
fn requests_are_answered_and_files_stored_while_an_index_is_learned() {
    let house = House::new(1 << 30);
    let store = house.open();
    publish(&store, 1, b"one", &[vouched("pool/a_1.deb", b"a1")]);
    let member = vouched("dists/stable/main/binary-amd64/Packages", b"two");
    store.record_release(&super::house(), "dists/stable", day(2), "key", [member.clone()]).unwrap();
    let entries = (0..3_u8).map(|number| {
        // In the middle of it.
        assert_eq!(promised(&store, "pool/a_1.deb"), Some(ContentHash::of(b"a1")));
        assert_eq!(promised(&store, "pool/0.deb"), None);
        keep(&store, &vouched("pool/a_1.deb", b"a1"), b"a1").unwrap();
        vouched(&format!("pool/{number}.deb"), &[number])
    });
    assert_eq!(store.record_index(&member, entries).unwrap(), 3);
    assert_eq!(promised(&store, "pool/0.deb"), Some(ContentHash::of(&[0])));
    assert!(store.open_object(ContentHash::of(b"a1")).unwrap().is_some());
}

#[test]
fn whoever_reads_sees_an_index_whole_or_not_at_all() {
    let house = House::new(1 << 30);
    let store = house.open();
    let version = |number: u8| {
        (0..500_u32).map(move |n| vouched(&format!("pool/{n}.deb"), &[&[number][..], &n.to_be_bytes()].concat()))
    };
    publish(&store, 1, &[1], &version(1).collect::<Vec<_>>());
    let done = std::sync::atomic::AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            // Once one path is seen in a version, no path is seen in the one before it.
            let (mut latest, mut looks) = (1, 0);
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                for n in 0..500_u32 {
                    let hash = promised(&store, &format!("pool/{n}.deb")).unwrap();
                    let of =
                        (1..=9_u8).find(|number| hash == ContentHash::of(&[&[*number][..], &n.to_be_bytes()].concat()));
                    assert!(of.unwrap() >= latest, "{n}: {of:?} after {latest}");
                    latest = of.unwrap();
                    looks += 1;
                }
            }
            (latest, looks)
        });
        for number in 2..=9 {
            publish(&store, number.into(), &[number], &version(number).collect::<Vec<_>>());
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(seen.1 > 0, "{seen:?}");
}

#[test]
fn two_clients_that_update_the_same_suite_at_once_leave_what_one_would_have() {
    let (alone, both) = (House::new(1 << 30), House::new(1 << 30));
    let (alone, both) = (alone.open(), both.open());
    let entries = |number: u64| {
        (0..300_u64).map(move |n| vouched(&format!("pool/{}_{number}.deb", n + number), &n.to_be_bytes()))
    };
    let learn = |store: &Store, number: u64| {
        let member = vouched("dists/stable/main/binary-amd64/Packages", &number.to_be_bytes());
        store.record_release(&house(), "dists/stable", day(number), "key", [member.clone()]).unwrap();
        store.record_index(&member, entries(number)).unwrap()
    };
    for number in [1, 2] {
        assert_eq!(learn(&alone, number), 300);
        let start = std::sync::Barrier::new(2);
        let clients = || {
            start.wait();
            learn(&both, number)
        };
        let files = std::thread::scope(|scope| {
            [scope.spawn(clients), scope.spawn(clients)].map(|client| client.join().unwrap())
        });
        assert!(files == [300, 0] || files == [0, 300], "learned once: {files:?}");
    }
    for number in [1, 2] {
        for entry in entries(number) {
            assert_eq!(promised(&both, entry.path()), promised(&alone, entry.path()));
            assert!(promised(&both, entry.path()).is_some());
            assert_eq!(both.by_hash(entry.expected().hash).unwrap(), alone.by_hash(entry.expected().hash).unwrap());
        }
    }
    assert_eq!(both.suites().unwrap()[0].files, alone.suites().unwrap()[0].files);
}

#[test]
fn a_replayed_release_and_its_indexes_change_nothing() {
    let house = House::new(1 << 30);
    let store = house.open();
    let (old, new) = (vouched("pool/a_1.deb", b"a1"), vouched("pool/a_2.deb", b"a2"));
    publish(&store, 1, b"one", std::slice::from_ref(&old));
    publish(&store, 2, b"two", std::slice::from_ref(&new));
    let packages = |content| vouched("dists/stable/main/binary-amd64/Packages", content);
    let replayed = store.record_release(&super::house(), "dists/stable", day(1), "key", [packages(b"one")]).unwrap();
    assert_eq!(replayed, Recorded::Older);
    assert_eq!(store.record_index(&packages(b"one"), [old.clone()]).unwrap(), 0);
    assert_eq!(promised(&store, packages(b"two").path()), Some(ContentHash::of(b"two")));
    assert_eq!(store.by_hash(new.expected().hash).unwrap(), [new]);
    assert!(store.by_hash(old.expected().hash).unwrap().is_empty());
    // A client one publication behind is served all the same.
    assert_eq!(promised(&store, old.path()), Some(old.expected().hash));
}

#[test]
fn a_mirror_half_way_to_the_next_publication_yields_no_wrong_promise() {
    let house = House::new(1 << 30);
    let store = house.open();
    let (old, new) = (vouched("pool/a_1.deb", b"a1"), vouched("pool/a_2.deb", b"a2"));
    publish(&store, 1, b"one", std::slice::from_ref(&old));
    let packages = |content| vouched("dists/stable/main/binary-amd64/Packages", content);
    store.record_release(&super::house(), "dists/stable", day(2), "key", [packages(b"two")]).unwrap();
    // The new Release is there, of the indexes only the old one.
    assert_eq!(promised(&store, packages(b"").path()), Some(ContentHash::of(b"two")));
    assert_eq!(store.record_index(&packages(b"one"), [new.clone()]).unwrap(), 0);
    assert_eq!(promised(&store, new.path()), None);
    assert_eq!(store.by_hash(old.expected().hash).unwrap(), std::slice::from_ref(&old));
    assert_eq!(store.record_index(&packages(b"two"), [new.clone()]).unwrap(), 1);
    assert_eq!(store.by_hash(new.expected().hash).unwrap(), [new]);
}

#[test]
fn equal_paths_of_two_vendors_never_meet_and_equal_files_are_one_object() {
    let house = House::new(1 << 30);
    let store = house.open();
    let vendors = ["a.example.org/debian", "b.example.org/debian"].map(Repository::restore);
    let path = "pool/main/t/tool/tool_1_amd64.deb";
    let file = |vendor: usize, path: &str, bytes: &[u8]| {
        Vouched::restore(expected(bytes), vendors[vendor].clone(), path.into(), true)
    };
    for (vendor, bytes) in [b"of a", b"of b"].into_iter().enumerate() {
        let member = file(vendor, "dists/stable/main/binary-amd64/Packages", bytes);
        store.record_release(&vendors[vendor], "dists/stable", day(1), "key", [member.clone()]).unwrap();
        let both = file(vendor, "pool/all.deb", b"the same");
        // An entry that speaks for somebody else's repository is not heard.
        let foreign = file(1 - vendor, "pool/foreign.deb", b"foreign");
        assert_eq!(store.record_index(&member, [file(vendor, path, bytes), both, foreign]).unwrap(), 2);
    }
    let hash = |path: String| store.promise(&path).unwrap().map(|vouched| vouched.expected().hash);
    for (vendor, bytes) in vendors.iter().zip([b"of a", b"of b"]) {
        assert_eq!(hash(format!("{vendor}/{path}")), Some(ContentHash::of(bytes)));
        assert_eq!(hash(format!("{vendor}/tool_1_amd64.deb")), None);
        assert_eq!(hash(format!("{vendor}/pool/foreign.deb")), None);
        assert_eq!(store.by_hash(ContentHash::of(bytes)).unwrap().len(), 1 + 2, "the file, and its index by two names");
    }
    let same = store.by_hash(ContentHash::of(b"the same")).unwrap();
    assert_eq!(same.iter().map(|vouched| vouched.repository().clone()).collect::<Vec<_>>(), vendors);
    for vouched in &same {
        keep(&store, vouched, b"the same").unwrap();
    }
    assert_eq!((store.snapshot().objects, store.snapshot().bytes), (1, 8));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Two listings, versions of them in any order, paths of both: as a table of rows would have it.
    #[test]
    fn any_history_of_two_indexes_is_promised_as_their_last_versions_say(
        history in prop::collection::vec((0..2_usize, prop::collection::btree_map(0_u8..12, 0_u8..4, 0..10)), 1..7),
    ) {
        let place = House::new(1 << 30);
        let store = place.open();
        let path = |n: u8| format!("pool/{n}.deb");
        let mut latest = [0_usize; 2];
        let mut model: [BTreeMap<u8, (u8, bool)>; 2] = Default::default();
        for (version, (listing, entries)) in history.iter().enumerate() {
            latest[*listing] = version + 1;
            let members = [0, 1].map(|listing| {
                let dir = ["amd64", "arm64"][listing];
                vouched(&format!("dists/stable/main/binary-{dir}/Packages"), format!("{dir} {}", latest[listing]).as_bytes())
            });
            store.record_release(&house(), "dists/stable", day(version as u64), "key", members.clone()).unwrap();
            let files: Vec<_> = entries.iter().map(|(n, content)| vouched(&path(*n), &[*content])).collect();
            prop_assert_eq!(store.record_index(&members[*listing], files).unwrap(), entries.len());
            let known = &mut model[*listing];
            known.retain(|n, (_, current)| entries.contains_key(n) || std::mem::take(current));
            known.extend(entries.iter().map(|(n, content)| (*n, (*content, true))));
        }
        for n in 0..12 {
            let said: Vec<_> = model.iter().filter_map(|known| known.get(&n)).collect();
            let best: Vec<_> = match said.iter().any(|(_, current)| *current) {
                true => said.iter().filter(|(_, current)| *current).collect(),
                false => said.iter().collect(),
            };
            let promised = promised(&store, &path(n));
            prop_assert_eq!(promised.is_some(), !best.is_empty());
            prop_assert!(promised.is_none_or(|hash| best.iter().any(|(content, _)| hash == ContentHash::of(&[*content]))));
        }
        for content in 0..4 {
            let current = |n: &u8| model.iter().any(|known| known.get(n) == Some(&(content, true)));
            let mut wanted: Vec<_> = (0..12).filter(current).map(path).collect();
            wanted.sort();
            let found = store.by_hash(ContentHash::of(&[content])).unwrap();
            prop_assert_eq!(found.iter().map(|vouched| vouched.path().to_owned()).collect::<Vec<_>>(), wanted);
        }
    }
}
