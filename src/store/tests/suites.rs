use crate::archive::SuiteName;

use super::*;

fn name(codename: &str) -> SuiteName {
    SuiteName::of(Some("Debian"), Some(codename))
}

/// A Release of a suite of the house that lists these files itself.
fn release(store: &Store, dir: &str, number: u64, files: &[Vouched]) {
    store.record_release(&house(), dir, day(number), "key", files.iter().cloned()).unwrap();
}

#[test]
fn a_file_is_listed_by_every_public_suite_that_has_it_now() {
    let house_dir = House::new(1 << 30);
    let store = house_dir.open();
    let content = bytes(10, 1);
    let file = vouched("pool/a.deb", &content);
    let suites = || store.suites_of(&expected(&content)).unwrap();
    assert_eq!(suites(), []);
    release(&store, "dists/sid", 1, std::slice::from_ref(&file));
    assert_eq!(suites(), [SuiteName::default()], "named by nothing yet");
    let mut changes = store.changes();
    store.name_suite(&house(), "dists/sid", name("sid")).unwrap();
    assert_eq!(changes.try_recv(), Ok(Change::Learned));
    store.name_suite(&house(), "dists/sid", name("sid")).unwrap();
    assert!(changes.try_recv().is_err(), "nothing new");
    assert_eq!(suites(), [name("sid")]);
    release(&store, "dists/trixie", 1, std::slice::from_ref(&file));
    store.name_suite(&house(), "dists/trixie", name("trixie")).unwrap();
    let mut both = [name("sid"), name("trixie")];
    both.sort();
    assert_eq!(suites(), both);
    let hidden = private("pool/a.deb", &content);
    store.record_release(hidden.repository(), "dists/own", day(1), "key", [hidden.clone()]).unwrap();
    store.name_suite(hidden.repository(), "dists/own", name("own")).unwrap();
    assert_eq!(suites(), both, "a private suite is not named");
    release(&store, "dists/sid", 2, &[vouched("pool/b.deb", b"another")]);
    assert_eq!(suites(), [name("trixie")]);
    assert_eq!(store.suites_of(&Expected { size: 11, ..expected(&content) }).unwrap(), []);
}

#[test]
fn only_what_would_be_given_is_said_to_be_held() {
    let house_dir = House::new(1 << 30);
    let store = house_dir.open();
    let (here, old, wanted, secret) = (bytes(10, 1), bytes(10, 2), bytes(10, 3), bytes(10, 4));
    let all = [&here, &old, &wanted].map(|content| vouched(&format!("pool/{}", content[0]), content));
    release(&store, "dists/sid", 1, &all);
    store.name_suite(&house(), "dists/sid", name("sid")).unwrap();
    let hidden = private("pool/c.deb", &secret);
    store.record_release(hidden.repository(), "", day(1), "key", [hidden.clone()]).unwrap();
    keep(&store, &all[0], &here).unwrap();
    keep(&store, &all[1], &old).unwrap();
    keep(&store, &hidden, &secret).unwrap();
    let holds = || store.holds(&[&here, &old, &wanted, &secret].map(|content| expected(content).hash)).unwrap();
    assert_eq!(holds(), [true, true, false, false]);
    release(&store, "dists/sid", 2, &[all[0].clone(), all[2].clone()]);
    assert_eq!(holds(), [true, false, false, false], "what was replaced is not said to be here");
    let listed = store.listed(expected(&here).hash).unwrap();
    assert_eq!(listed, Some(Listed { expected: expected(&here), suites: vec![name("sid")] }));
    assert_eq!(store.offered().unwrap(), [listed.unwrap()]);
}
