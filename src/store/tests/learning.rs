use super::*;

#[test]
fn a_path_is_looked_up_in_the_longest_repository_that_it_lies_in() {
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
    assert_eq!(hash("mirror.example.org/debian/pool/y"), of("outer y", "mirror.example.org"));
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
    assert!(store.learned(&by_hash("one.xz")).unwrap());
    assert!(!store.learned(&by_hash("one.gz")).unwrap());

    store.record_release(&super::house(), "dists/stable", day(2), "key", members("two")).unwrap();
    assert_eq!(store.record_index(&by_hash("one.xz"), [old.clone()]).unwrap(), 0);
    assert_eq!(store.record_index(&by_hash("two.gz"), [new.clone()]).unwrap(), 1);
    assert!(store.by_hash(old.expected().hash).unwrap().is_empty());
    assert_eq!(store.record_index(&members("two")[0], [new.clone()]).unwrap(), 1);
    assert_eq!(store.by_hash(new.expected().hash).unwrap(), [new]);
    assert_eq!(store.suites().unwrap()[0].files, 4);
}

#[test]
#[expect(clippy::print_stdout, reason = "its figures are read by hand")]
fn learning_an_index_of_bookworm_size() {
    let house = House::new(1 << 30);
    let store = house.open();
    let entries: Vec<Vouched> = (0..63_440_u32)
        .map(|number| {
            let path = format!(
                "pool/main/p/package-of-some-length-{number}/package-of-some-length-{number}_1.2.3-4_amd64.deb"
            );
            vouched(&path, &number.to_be_bytes())
        })
        .collect();
    let figure = |what, number, index: &[u8], entries: &[Vouched]| {
        let start = std::time::Instant::now();
        publish(&store, number, index, entries);
        println!("{what}: {:?}", start.elapsed());
    };
    figure("63,440 new entries", 1, b"one", &entries);
    figure("the same once more", 2, b"two", &entries);
    figure("half of them gone", 3, b"three", &entries[..31_720]);
    let start = std::time::Instant::now();
    for entry in entries.iter().step_by(64) {
        assert!(promised(&store, entry.path()).is_some());
    }
    println!("a lookup: {:?}", start.elapsed() / (entries.len() / 64) as u32);
    assert_eq!(store.by_hash(entries[0].expected().hash).unwrap().len(), 1);
    assert!(store.by_hash(entries[40_000].expected().hash).unwrap().is_empty());
}

#[test]
fn a_request_is_answered_while_an_index_is_learned() {
    let house = House::new(1 << 30);
    let store = house.open();
    publish(&store, 1, b"one", &[vouched("pool/a_1.deb", b"a1")]);
    let member = vouched("dists/stable/main/binary-amd64/Packages", b"one");
    let entries = (0..3_u8).map(|number| {
        // In the middle of the transaction.
        assert_eq!(promised(&store, "pool/a_1.deb"), Some(ContentHash::of(b"a1")));
        assert_eq!(promised(&store, "pool/0.deb"), None);
        assert!(store.open_object(ContentHash::of(b"a1")).unwrap().is_none());
        vouched(&format!("pool/{number}.deb"), &[number])
    });
    assert_eq!(store.record_index(&member, entries).unwrap(), 3);
    assert_eq!(promised(&store, "pool/0.deb"), Some(ContentHash::of(&[0])));
}
