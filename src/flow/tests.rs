#![expect(clippy::disallowed_methods, reason = "tests of the conductor's tasks")]

use std::{
    fs,
    time::{Instant, SystemTime},
};

use tempfile::TempDir;

use crate::{
    archive::testing::{Key, clear_signed_at, date_text},
    hash::{ContentHash, Expected, Hasher},
    peer::Pool,
    store,
};

use super::*;

mod table;

/// A moment for machines that are told the time.
pub(super) fn now() -> Instant {
    Instant::now()
}

/// A flow that knows one key and has nobody around it.
struct Scene {
    dir: TempDir,
    key: Key,
    made: SystemTime,
    flow: Flow,
}

impl Scene {
    fn set() -> Self {
        let made = SystemTime::now() - Duration::from_secs(3600);
        let (dir, key) = (tempfile::tempdir().unwrap(), Key::new());
        fs::create_dir(dir.path().join("trusted.gpg.d")).unwrap();
        fs::write(dir.path().join("trusted.gpg.d/key.gpg"), key.binary()).unwrap();
        let list: String = ["a", "b"].map(|name| format!("deb http://127.0.0.1/{name} sid main\n")).concat();
        fs::write(dir.path().join("sources.list"), list).unwrap();
        let config = store::Config { path: dir.path().join("store"), quota: 1 << 30, min_free: 0 };
        let store = Store::open(&config, |_| true).unwrap();
        let mirror = Mirror::new(mirror::upstream::Upstream::default()).unwrap();
        let fetcher = Fetcher::new(crate::fetch::Config::default(), Pool::new(None), mirror.clone(), store.clone());
        let rules = Rules {
            origins: Origins(Vec::new()),
            privacy: Privacy::default(),
            apt: Apt::load(dir.path().to_owned(), Vec::new(), archive::Proxies::default()),
        };
        let flow = Flow::new(Stations { store, dht: None, fetcher, mirror }, rules);
        Self { dir, key, made, flow }
    }

    fn store(&self) -> &Store {
        &self.flow.shared.stations.store
    }

    /// An InRelease of sid that lists these files.
    fn release(&self, files: &[(&str, &[u8])]) -> String {
        let date = date_text(self.made);
        let lines = files.iter().map(|(path, bytes)| format!(" {} {} {path}\n", ContentHash::of(bytes), bytes.len()));
        let text = format!("Codename: sid\nDate: {date}\nSHA256:\n{}", lines.collect::<String>());
        clear_signed_at(&text, &[&self.key], self.made)
    }

    fn keep(&self, bytes: &[u8]) {
        let expected = Expected { hash: ContentHash::of(bytes), size: bytes.len() as u64 };
        let partial = self.store().begin(expected).unwrap();
        partial.write_at(0, bytes).unwrap();
        let mut hasher = Hasher::new(&expected);
        hasher.update(bytes);
        let vouched = Vouched::restore(expected, Repository::restore("elsewhere.example.org"), "x".into(), true);
        self.store().commit(partial, hasher.finish().unwrap(), &vouched).unwrap();
    }

    async fn is_promised(&self, url: &str) -> bool {
        self.flow.promise(&Location::parse(url).unwrap()).await.is_some()
    }

    async fn learned_all(&self) {
        self.flow.shared.busy.subscribe().wait_for(Vec::is_empty).await.unwrap();
    }
}

const INDEX: &str = "main/binary-amd64/Packages";

fn packages(name: &str) -> String {
    let hash = ContentHash::of(name.as_bytes());
    format!("Package: {name}\nFilename: pool/{name}.deb\nSize: {}\nSHA256: {hash}\n\n", name.len())
}

#[tokio::test]
async fn indexes_that_are_held_already_are_learned_with_their_release() {
    let (scene, text) = (Scene::set(), packages("hello"));
    scene.keep(text.as_bytes());
    let at = Location::parse("http://127.0.0.1/a/dists/sid/InRelease").unwrap();
    for _ in 0..2 {
        let release = scene.release(&[(INDEX, text.as_bytes()), ("main/binary-arm64/Packages", b"not held")]);
        scene.flow.learn_release(&at, release.into(), None).await;
        scene.learned_all().await;
        assert!(scene.is_promised("http://127.0.0.1/a/pool/hello.deb").await);
    }
    assert_eq!(scene.flow.learning().verified, 2);
}

#[tokio::test]
async fn a_release_is_never_waited_for_while_something_is_learned_and_everything_else_is() {
    let scene = Scene::set();
    let _underway = scene.flow.begin_learning(&Repository::restore("127.0.0.1/a"));
    for file in ["InRelease", "Release", "Release.gpg"] {
        let asked = Instant::now();
        assert!(!scene.is_promised(&format!("http://127.0.0.1/a/dists/sid/{file}")).await);
        assert!(asked.elapsed() < LEARNING, "{file}");
    }
    let asked = Instant::now();
    assert!(!scene.is_promised("http://127.0.0.1/b/pool/hello.deb").await);
    assert!(asked.elapsed() < LEARNING);
    assert!(!scene.is_promised("http://127.0.0.1/a/pool/hello.deb").await);
    assert!(asked.elapsed() >= LEARNING);
}

#[tokio::test]
async fn a_suite_among_apts_lists_is_waited_for_only_until_it_is_learned_itself() {
    let scene = Scene::set();
    let lists = scene.dir.path().join("lists");
    fs::create_dir(&lists).unwrap();
    for name in ["a", "b"] {
        let text = packages(name);
        let list = lists.join(format!("127.0.0.1_{name}_dists_sid_"));
        fs::write(format!("{}InRelease", list.display()), scene.release(&[(INDEX, text.as_bytes())])).unwrap();
        fs::write(format!("{}{}", list.display(), INDEX.replace('/', "_")), &text).unwrap();
    }
    let following = tokio::spawn(scene.flow.follow_lists(lists));
    let mut busy = scene.flow.shared.busy.subscribe();
    let b = Repository::restore("127.0.0.1/b");
    let only_b = |busy: &Vec<Repository>| !busy.is_empty() && busy.iter().all(|repository| *repository == b);
    assert_eq!(busy.borrow().len(), 2, "both from the first moment");
    timeout(Duration::from_secs(60), busy.wait_for(only_b)).await.unwrap().unwrap();
    assert!(scene.store().promise("127.0.0.1/a/pool/a.deb").unwrap().is_some());
    scene.learned_all().await;
    assert!(scene.store().promise("127.0.0.1/b/pool/b.deb").unwrap().is_some());
    following.abort();
}
