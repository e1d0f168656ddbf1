use super::*;

const POOL: &str = "pool/main/h/hello/hello_2.10_amd64.deb";

fn paths(store: &Store, sought: &Sought<'_>) -> Vec<String> {
    let mut paths: Vec<_> = store.why(sought).unwrap().iter().map(|one| one.file.path().to_owned()).collect();
    paths.sort();
    paths
}

fn named(store: &Store, name: &str) -> Vec<String> {
    paths(store, &Sought::Named { begins: name, fits: &|found| found.starts_with(name) })
}

#[test]
fn a_file_is_found_in_every_way_with_all_that_stands_behind_it() {
    let house = House::new(1 << 30);
    let store = house.open();
    publish(&store, 1, b"index one", &[vouched(POOL, b"hello")]);
    let hash = ContentHash::of(b"hello");
    let key = format!("{HOUSE}/{POOL}");
    let fits = |name: &str| name.ends_with("_amd64.deb");
    for sought in
        [Sought::At(&key), Sought::Path(POOL), Sought::Hash(hash), Sought::Named { begins: "hello_2.10", fits: &fits }]
    {
        let found = store.why(&sought).unwrap();
        let [one] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((one.file.path(), one.file.expected().hash), (POOL, hash));
        assert!(one.is_current && one.was_public && one.file.shareable().is_some());
        assert_eq!((one.suite.as_str(), one.date, one.signer.as_str()), ("dists/stable", day(1), "key"));
        let path = "dists/stable/main/binary-amd64/Packages".to_owned();
        assert_eq!(one.index, Some(Index { path, hash: ContentHash::of(b"index one"), is_listed: true }));
    }
    let none = |_: &str| false;
    assert_eq!(paths(&store, &Sought::Named { begins: "hello", fits: &none }), [""; 0]);
    assert_eq!(paths(&store, &Sought::Path("hello_2.10_amd64.deb")), [""; 0]);
    assert_eq!(paths(&store, &Sought::At("other.example.org/debian/a")), [""; 0]);
    assert_eq!(paths(&store, &Sought::Hash(ContentHash::of(b"?"))), [""; 0]);
}

#[test]
fn a_member_of_a_release_has_no_index_and_is_shown_once() {
    let house = House::new(1 << 30);
    let store = house.open();
    publish(&store, 1, b"index one", &[]);
    let found = store.why(&Sought::Hash(ContentHash::of(b"index one"))).unwrap();
    let [one] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((one.file.path(), &one.index), ("dists/stable/main/binary-amd64/Packages", &None));
}

#[test]
fn what_was_superseded_and_an_index_that_was_replaced_are_told() {
    let house = House::new(1 << 30);
    let store = house.open();
    publish(&store, 1, b"index one", &[vouched(POOL, b"hello"), vouched("pool/stays.deb", b"stays")]);
    publish(&store, 2, b"index two", &[vouched("pool/stays.deb", b"stays")]);
    let found = store.why(&Sought::Hash(ContentHash::of(b"hello"))).unwrap();
    assert!(matches!(found.as_slice(), [one] if !one.is_current), "{found:?}");

    let member = vouched("dists/stable/main/binary-amd64/Packages", b"index three");
    store.record_release(&super::house(), "dists/stable", day(3), "key", [member]).unwrap();
    let found = store.why(&Sought::Path("pool/stays.deb")).unwrap();
    let [one] = found.as_slice() else { panic!("{found:?}") };
    let index = one.index.as_ref().unwrap();
    assert_eq!((one.is_current, index.is_listed, index.hash), (true, false, ContentHash::of(b"index two")));
}

#[test]
fn wildcards_and_quotes_in_a_name_are_only_themselves() {
    let house = House::new(1 << 30);
    let store = house.open();
    let files =
        ["pool/a_b.deb", "pool/axb.deb", "pool/a%b.deb", "it's.deb", "pool/\"q\".deb", "A_B.deb", "pool/a/x.deb"];
    publish(&store, 1, b"index", &files.map(|path| vouched(path, path.as_bytes())));
    for (name, found) in [
        ("a_b", &["pool/a_b.deb"][..]),
        ("a%b", &["pool/a%b.deb"]),
        ("%", &[]),
        ("_", &[]),
        ("it's", &["it's.deb"]),
        ("' OR 1=1 --", &[]),
        ("\"q", &["pool/\"q\".deb"]),
        ("A", &["A_B.deb"]),
        ("a", &["pool/a%b.deb", "pool/a_b.deb", "pool/axb.deb"]),
        ("Pack", &["dists/stable/main/binary-amd64/Packages"]),
    ] {
        assert_eq!(named(&store, name), found, "{name}");
    }
}

#[test]
fn a_private_repository_and_one_forbidden_since_are_told_apart() {
    let house = House::new(1 << 30);
    let public = vouched("pool/a.deb", b"a");
    {
        let store = house.open();
        for file in [public.clone(), private("pool/b.deb", b"b")] {
            store.record_release(file.repository(), "dists/stable", day(1), "key", [file.clone()]).unwrap();
        }
        let found = store.why(&Sought::Path("pool/b.deb")).unwrap();
        assert!(!found[0].was_public && found[0].file.shareable().is_none());
    }
    let store = Store::open(&house.config(), |repository| repository.as_str() != HOUSE).unwrap();
    let found = store.why(&Sought::Path("pool/a.deb")).unwrap();
    assert!(found[0].was_public && found[0].file.shareable().is_none());
}

#[test]
fn what_is_held_is_told_without_touching_it() {
    let house = House::new(1 << 30);
    let store = house.open();
    let file = vouched("pool/a.deb", b"bytes");
    let holding = || store.holding(file.expected()).unwrap();
    assert_eq!(holding(), Holding::Absent);
    let partial = store.begin(*file.expected()).unwrap();
    assert_eq!(holding(), Holding::Arriving);
    drop(partial);
    assert_eq!(holding(), Holding::Absent);
    drop(keep(&store, &file, b"bytes").unwrap());
    assert_eq!(holding(), Holding::Held);
    let longer = Expected { size: 6, ..*file.expected() };
    assert_eq!(store.holding(&longer).unwrap(), Holding::Absent);
    std::fs::remove_file(house.object(file.expected().hash)).unwrap();
    assert_eq!(holding(), Holding::Absent);
}
