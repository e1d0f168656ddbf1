//! What an administrator sees and decides, and what stays of a package.

use super::*;

fn hello(version: u8) -> (Vec<u8>, Vouched) {
    let content = bytes(1000, version);
    let file = vouched(&format!("pool/h/hello_{version}_amd64.deb"), &content);
    (content, file)
}

fn roles(store: &Store) -> Vec<(String, Role)> {
    let name = |item: &Item| item.from.as_ref().unwrap().1.rsplit('/').next().unwrap().to_owned();
    let mut roles: Vec<_> = store.list().unwrap().iter().map(|item| (name(item), item.role)).collect();
    roles.sort();
    roles
}

#[test]
fn of_every_package_the_newest_version_held_stays_when_rubbish_is_collected() {
    let house = House::new(1 << 20);
    let store = house.open();
    let ((one, first), (two, second), (three, third)) = (hello(1), hello(2), hello(3));
    keep(&store, &first, &one).unwrap();
    keep(&store, &second, &two).unwrap();
    let role = |name: &str, role| (format!("hello_{name}_amd64.deb"), role);
    assert_eq!(roles(&store), [role("1", Role::Superseded), role("2", Role::Last)]);
    publish(&store, 1, b"one", std::slice::from_ref(&third));
    assert_eq!(store.collect(true).unwrap(), Collected { files: 1, bytes: 1000, ..Collected::default() });
    assert_eq!(roles(&store).len(), 2, "that was a question");

    keep(&store, &third, &three).unwrap();
    assert_eq!(
        roles(&store),
        [role("1", Role::Superseded), role("2", Role::Superseded), role("3", Role::Current)],
        "the newest version is held"
    );
    store.set_pinned(Chosen::Hash(first.expected().hash), true).unwrap();
    let mut changes = store.changes();
    assert_eq!(store.collect(false).unwrap().files, 1);
    assert_eq!(changes.try_recv().unwrap(), Change::Gone(second.expected().hash));
    assert_eq!(roles(&store), [role("1", Role::Superseded), role("3", Role::Current)], "one is pinned, one is current");
    store.set_pinned(Chosen::Name("hello"), false).unwrap();
    assert_eq!(store.collect(false).unwrap().files, 1);
    assert_eq!(roles(&store), [role("3", Role::Current)]);
}

#[test]
fn metadata_of_the_last_two_publications_stays() {
    let house = House::new(1 << 20);
    let store = house.open();
    let indexes = [b"one", b"two", b"six"];
    for (index, number) in indexes.iter().zip(1..) {
        let plain = vouched("dists/stable/main/binary-amd64/Packages", *index);
        let folder = "dists/stable/main/binary-amd64/by-hash/SHA256";
        let members = [plain.clone(), vouched(&format!("{folder}/{}", ContentHash::of(*index)), *index)];
        store.record_release(plain.repository(), "dists/stable", day(number), "key", members).unwrap();
        keep(&store, &plain, *index).unwrap();
    }
    let held = |store: &Store| indexes.map(|index| store.open_object(ContentHash::of(index)).unwrap().is_some());
    assert_eq!(store.collect(false).unwrap().files, 1);
    assert_eq!(held(&store), [false, true, true]);
}

#[test]
fn what_is_pinned_stays_over_a_restart_whatever_room_is_needed() {
    let house = House::new(25);
    let files: Vec<_> = (0..4).map(|seed| bytes(10, seed)).collect();
    let file = |seed: usize| vouched(&format!("pool/p{seed}_1_all.deb"), &files[seed]);
    let store = house.open();
    keep(&store, &file(0), &files[0]).unwrap();
    for (text, meant) in
        [("p0", true), ("pool/p0_1_all.deb", true), ("p0_1_all.deb", true), ("p", false), ("0_1_all.deb", false)]
    {
        let chosen = Chosen::parse(text).unwrap();
        assert_eq!(store.set_pinned(chosen, true).unwrap().len(), usize::from(meant), "{text}");
    }
    assert_eq!(Chosen::parse(" "), None);
    drop(store);
    let store = house.open();
    for (seed, content) in files.iter().enumerate().skip(1) {
        keep(&store, &file(seed), content).unwrap();
    }
    let held = |seed: usize| store.open_object(expected(&files[seed]).hash).unwrap().is_some();
    assert_eq!([0, 1, 2, 3].map(held), [true, false, false, true]);
    assert!(store.list().unwrap().iter().any(|item| item.pinned && item.file == expected(&files[0])));
}
