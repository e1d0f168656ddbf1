use super::*;
use crate::store::forget::{REPOSITORIES_MAX, SUITES_MAX, for_a_listing, share_of, used};

/// A Release of that repository and suite, which lists one index.
fn learn(store: &Store, name: &str, dir: &str) -> Result<Vouched, StoreError> {
    let repository = Repository::restore(name);
    let path = format!("{dir}/main/binary-amd64/Packages");
    let index = Vouched::restore(expected(b"index"), repository.clone(), path, true);
    store.record_release(&repository, dir, day(1), "key", [index.clone()]).map(|_| index)
}

fn count(store: &Store) -> i64 {
    i64::try_from(store.suites().unwrap().len()).unwrap()
}

fn entry(index: &Vouched, path: &str) -> Vouched {
    Vouched::restore(expected(path.as_bytes()), index.repository().clone(), path.to_owned(), true)
}

#[test]
fn of_too_many_suites_the_one_goes_that_was_not_seen_for_longest_and_that_apt_does_not_name() {
    let house = House::new(1 << 30);
    let store = house.open();
    store.spare(|repository, dir| repository.as_str() == HOUSE && dir == "dists/0");
    let dir = |number: i64| format!("dists/{number}");
    let file = |number: i64| format!("pool/{number}.deb");
    for number in 0..SUITES_MAX {
        let index = learn(&store, HOUSE, &dir(number)).unwrap();
        assert_eq!(
            store.record_index(&index, [entry(&index, &file(number)), entry(&index, "pool/all.deb")]).unwrap(),
            2
        );
    }
    learn(&store, "other.example.org", &dir(1)).unwrap();
    learn(&store, HOUSE, &dir(1)).unwrap();
    for number in SUITES_MAX..SUITES_MAX + 3 {
        learn(&store, HOUSE, &dir(number)).unwrap();
    }
    let gone: Vec<_> = (0..SUITES_MAX).filter(|number| promised(&store, &file(*number)).is_none()).collect();
    assert_eq!(gone, [2, 3, 4]);
    let hash = ContentHash::of(file(2).as_bytes());
    assert!(store.by_hash(hash).unwrap().is_empty());
    assert_eq!(count(&store), SUITES_MAX + 1, "that of the other repository too");
    assert!(promised(&store, "pool/all.deb").is_some(), "others list it");
    assert!(promised(&store, &format!("{}/main/binary-amd64/Packages", dir(2))).is_none());

    // It can be learned again.
    let index = learn(&store, HOUSE, &dir(2)).unwrap();
    store.record_index(&index, [entry(&index, &file(2))]).unwrap();
    assert_eq!(promised(&store, &file(2)), Some(hash));
}

#[test]
fn of_too_many_repositories_one_goes_and_whoever_was_learning_it_writes_nowhere() {
    let house = House::new(1 << 30);
    let store = house.open();
    store.spare(|repository, _| repository.as_str() != "victim.example.org");
    let name = |number: i64| format!("m{number}.example.org");
    for number in 1..REPOSITORIES_MAX {
        learn(&store, &name(number), "dists/sid").unwrap();
    }
    let victim = learn(&store, "victim.example.org", "dists/sid").unwrap();
    let mut gathering = store.gather(&victim).unwrap().unwrap();
    gathering.add(&entry(&victim, "pool/evil.deb"));

    let newcomer = learn(&store, &name(0), "dists/sid").unwrap();
    assert_eq!(gathering.record().unwrap(), 0);
    for host in ["victim.example.org", &name(0)] {
        assert!(store.promise(&format!("{host}/pool/evil.deb")).unwrap().is_none(), "{host}");
    }
    assert!(store.promise(&format!("victim.example.org/{}", victim.path())).unwrap().is_none());
    assert!(store.promise(&format!("{}/{}", name(0), newcomer.path())).unwrap().is_some());
    assert_eq!(store.record_index(&newcomer, [entry(&newcomer, "pool/a.deb")]).unwrap(), 1);
    assert_eq!(count(&store), REPOSITORIES_MAX);
    // All that are left are apt's own.
    assert!(matches!(learn(&store, "victim.example.org", "dists/sid"), Err(StoreError::Full)));
    drop(store);
    // Without a word of apt's sources none is spared, and the one that was seen first goes.
    let store = house.open();
    learn(&store, "victim.example.org", "dists/sid").unwrap();
    assert!(store.promise(&format!("{}/{}", name(1), newcomer.path())).unwrap().is_none());
    assert!(store.promise(&format!("{}/{}", name(2), newcomer.path())).unwrap().is_some());
}

#[test]
fn a_catalogue_that_outgrows_its_part_of_the_quota_gives_up_suites() {
    let house = House::new(1 << 30);
    let store = house.open();
    for name in ["a.example.org", "b.example.org", "c.example.org"] {
        let index = learn(&store, name, "dists/sid").unwrap();
        let files: Vec<_> = (0..3000).map(|number| entry(&index, &format!("pool/{name}/{number}.deb"))).collect();
        store.record_index(&index, files).unwrap();
    }
    let left = |store: &Store| -> Vec<String> {
        store.suites().unwrap().iter().map(|suite| suite.repository.to_string()).collect()
    };
    let make_room = |most: u64, spared: &'static str| {
        let mut writer = store.0.database.writer();
        let transaction = writer.transaction().unwrap();
        let c = "SELECT id FROM suite ORDER BY seen DESC LIMIT 1";
        let c = transaction.query_row(c, [], |row| row.get(0)).unwrap();
        let made = for_a_listing(&transaction, Some(c), most, &|repository, _| repository.as_str() == spared);
        transaction.commit().unwrap();
        made
    };
    make_room(share_of(1 << 30), "").unwrap();
    assert_eq!(left(&store).len(), 3);
    // Somewhat less than it takes.
    let most = used(&store.0.database.writer()).unwrap() * 5 / 6;
    make_room(most, "a.example.org").unwrap();
    assert_eq!(left(&store), ["a.example.org", "c.example.org"]);
    assert!(matches!(make_room(0, "a.example.org"), Err(StoreError::Full)));
    assert_eq!(left(&store), ["a.example.org", "c.example.org"]);
}

#[test]
fn the_catalogue_counts_as_files_do() {
    let house = House::new(30);
    let store = house.open();
    let content = bytes(10, 1);
    keep(&store, &vouched("pool/a.deb", &content), &content).unwrap();
    assert!(store.0.database.size() > 0);
    store.0.shelf().catalogue = 15;
    let other = Expected { size: 10, ..expected(b"other") };
    drop(store.begin(other).unwrap());
    assert!(store.open_object(expected(&content).hash).unwrap().is_none(), "it went for the sake of the other");
    assert!(matches!(store.begin(Expected { size: 16, ..other }).err(), Some(StoreError::Full)));
    store.tidy().unwrap();
    assert_eq!(store.0.shelf().catalogue, 0, "a small one is free");
}
