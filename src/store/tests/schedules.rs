//! Thousands of lives of a store on a disk that lies.
//!
//! SQLite stays on a real file: its own tests have torn that to pieces for decades. What it promises in WAL mode with
//! `synchronous = NORMAL` is that a power cut takes away the last transactions and nothing else, so that is what the cut
//! does here: the catalogue goes back to what it was some transactions ago, or, now and then, is lost altogether.

use std::fs;

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{
    super::{rebuild, record::Kept},
    lying::LyingDisk,
    *,
};
use crate::hash::{State, Step};

/// Bytes that may be taken, and that the disk has.
const QUOTA: u64 = 40_000;
const DISK: u64 = 60_000;
const MIN_FREE: u64 = 5_000;

/// Lives in all; `APT_HUDDLE_SCHEDULES` says otherwise.
const SCHEDULES: u64 = 1_000;

/// A store that goes through power cuts.
struct Life {
    house: House,
    disk: Arc<LyingDisk>,
    rng: SmallRng,
    files: Vec<Vec<u8>>,
    /// What the catalogue and its log were, from the last start on.
    past: Vec<[Vec<u8>; 2]>,
    seed: u64,
}

impl Life {
    fn new(seed: u64, disk: u64, files: Vec<Vec<u8>>) -> Self {
        let disk = Arc::new(LyingDisk::new(seed, disk));
        Self { house: House::in_memory(QUOTA), disk, rng: SmallRng::seed_from_u64(seed), files, past: Vec::new(), seed }
    }

    fn config(&self) -> Config {
        Config { min_free: MIN_FREE, ..self.house.config() }
    }

    fn start(&self) -> Store {
        let opened = Store::open_on(self.disk.clone(), &self.config(), Box::new(|_| true));
        opened.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed))
    }

    fn any(&mut self) -> Vec<u8> {
        let at = self.rng.random_range(0..self.files.len());
        self.files[at].clone()
    }

    /// Puts, reads and gives up files, and lets some downloads lie.
    fn live(&mut self, store: &Store, steps: u32) {
        let mut under_way = Vec::new();
        for _ in 0..steps {
            let file = self.any();
            match self.rng.random_range(0..10) {
                0..5 => drop(keep(store, &vouched("pool/x.deb", &file), &file)),
                5..7 => self.read(store, &file),
                7 => under_way.extend(store.begin(expected(&file)).ok()),
                8 => {
                    under_way.pop();
                }
                _ => self.remember(),
            }
            let snapshot = store.snapshot();
            let taken = snapshot.bytes + snapshot.in_flight + snapshot.left;
            assert!(taken <= QUOTA, "seed {}: {snapshot:?}", self.seed);
        }
    }

    fn read(&self, store: &Store, file: &[u8]) {
        if let Ok(Some(blob)) = store.open_object(expected(file).hash) {
            assert!(blob.read(0, file.len()).unwrap() == file, "seed {}: a wrong byte", self.seed);
        }
    }

    fn remember(&mut self) {
        let read = |name: &str| fs::read(self.house.file(name)).unwrap_or_default();
        self.past.push(["catalogue.sqlite", "catalogue.sqlite-wal"].map(read));
    }

    /// Cuts the power.
    fn cut(&mut self, store: Store) {
        drop(store);
        self.disk.restart();
        let names =
            ["catalogue.sqlite", "catalogue.sqlite-wal", "catalogue.sqlite-shm"].map(|name| self.house.file(name));
        let then = match self.rng.random_range(0..8) {
            0 => [Vec::new(), Vec::new()],
            1 => [b"SQLite format 3\0nonsense".repeat(200), Vec::new()],
            _ if self.past.is_empty() => return,
            _ => self.past.swap_remove(self.rng.random_range(0..self.past.len())),
        };
        self.past.clear();
        let _none = fs::remove_file(&names[2]);
        names.iter().zip(then).for_each(|(name, bytes)| fs::write(name, bytes).unwrap());
    }

    /// After a restart: every object is whole or gone, catalogue and disk agree, and the room is as it is counted.
    fn check(&self, store: &Store) {
        let seed = self.seed;
        for file in &self.files {
            self.read(store, file);
        }
        while store.prove_next().unwrap() {}
        let objects = self.disk.files_below(&store.0.config.path.join("objects"));
        let reader = store.0.database.reader();
        let mut bytes = 0;
        for (path, content) in &objects {
            let hash = ContentHash::of(content);
            assert!(path.ends_with(hash.to_string()), "seed {seed}: {} is {hash}", path.display());
            let row = reader.query_row("SELECT size FROM object WHERE hash = ?1", [hash.as_bytes()], |row| row.get(0));
            assert_eq!(row, Ok(content.len() as u32), "seed {seed}");
            bytes += content.len() as u64;
        }
        let rows: u32 = reader.query_row("SELECT count(*) FROM object", [], |row| row.get(0)).unwrap();
        drop(reader);
        let snapshot = store.snapshot();
        assert_eq!(
            (rows as usize, snapshot.objects, snapshot.bytes),
            (objects.len(), objects.len(), bytes),
            "seed {seed}"
        );
        assert!(snapshot.bytes + snapshot.left <= QUOTA, "seed {seed}: {snapshot:?}");
        assert_eq!((snapshot.partials, snapshot.in_flight), (0, 0), "seed {seed}");
    }
}

fn schedules() -> u64 {
    std::env::var("APT_HUDDLE_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(SCHEDULES)
}

#[test]
fn whatever_the_disk_does_every_object_is_whole_or_gone_after_a_restart() {
    let files: Vec<_> = (0..24).map(|seed| bytes(100 + 397 * usize::from(seed), seed)).collect();
    for seed in 0..schedules() {
        let mut life = Life::new(seed, DISK, files.clone());
        let mut store = life.start();
        for _start in 0..3 {
            let calls = life.rng.random_range(1..200);
            match seed % 4 {
                0 => life.disk.cut_after(calls),
                1 => life.disk.fail_every(calls / 10 + 4),
                2 => {
                    life.disk.fail_every(30);
                    life.disk.cut_after(calls);
                }
                _ => {}
            }
            life.live(&store, 25);
            life.cut(store);
            store = life.start();
            life.check(&store);
        }
    }
}

#[test]
fn a_file_costs_one_sync_however_many_pieces_it_has_and_one_that_fails_costs_the_file() {
    let file = bytes(3 * PIECE_SIZE as usize, 1);
    let disk = Arc::new(LyingDisk::new(1, 1 << 30));
    let house = House::in_memory(1 << 30);
    let open = || Store::open_on(disk.clone(), &house.config(), Box::new(|_| true)).unwrap();
    let store = open();
    begin_and_note(&store, &file, 3);
    assert_eq!(disk.syncs(), 0);
    let partial = store.begin(expected(&file)).unwrap();
    assert_eq!(partial.earlier().steps.len(), 3);
    store.commit(partial, verified(&file), &vouched("pool/x.deb", &file)).unwrap();
    assert_eq!(disk.syncs(), 1);

    let other = bytes(2 * PIECE_SIZE as usize, 2);
    let partial = store.begin(expected(&other)).unwrap();
    write_and_note(&partial, &other, 2);
    disk.cut_after(1);
    assert!(store.commit(partial, verified(&other), &vouched("pool/x.deb", &other)).is_err());
    drop(store);
    disk.restart();
    let store = open();
    assert_eq!(store.begin(expected(&other)).map(|partial| partial.earlier().steps.len() <= 2).ok(), Some(true));
}

/// Writes that many pieces of a file and notes them, and leaves it at that.
fn begin_and_note(store: &Store, file: &[u8], pieces: usize) {
    write_and_note(&store.begin(expected(file)).unwrap(), file, pieces);
}

fn write_and_note(partial: &Partial, file: &[u8], pieces: usize) {
    let expected = expected(file);
    let mut from = State::INITIAL;
    for piece in 0..pieces {
        let span = expected.span(piece);
        let content = &file[span.start as usize..span.end as usize];
        partial.write_at(span.start, content).unwrap();
        let to = Step::take(&expected, piece, from, content).unwrap().to();
        partial.note(piece, Kept::Hashed { from, to });
        from = to;
    }
}

#[test]
fn what_an_interrupted_download_left_is_gone_on_with_or_gone_and_never_wrong() {
    let file = bytes(4 * PIECE_SIZE as usize + 100, 7);
    let expected = expected(&file);
    let mut resumed = 0;
    for seed in 0..schedules() / 20 {
        let disk = Arc::new(LyingDisk::new(seed, 1 << 30));
        let house = House::in_memory(1 << 30);
        let open = || Store::open_on(disk.clone(), &house.config(), Box::new(|_| true)).unwrap();
        let store = open();
        let partial = store.begin(expected).unwrap();
        write_and_note(&partial, &file, 1 + seed as usize % 4);
        // As a kill: nothing is dropped in order. A power cut takes what was not synced besides.
        std::mem::forget(partial);
        drop(store);
        if seed % 2 == 0 {
            disk.restart();
        }
        let store = open();
        assert_eq!(store.snapshot().in_flight, 0);
        let partial = store.begin(expected).unwrap();
        let earlier = partial.earlier();
        resumed += earlier.steps.len();
        if seed % 2 == 1 {
            assert_eq!(earlier.steps.len(), 1 + seed as usize % 4, "seed {seed}: a kill loses nothing");
        }
        let mut at = State::INITIAL;
        for (step, piece) in earlier.steps.iter().zip(0..) {
            let span = expected.span(piece);
            let mut read = vec![0; (span.end - span.start) as usize];
            partial.read_at(span.start, &mut read).unwrap();
            assert_eq!((step.index(), step.from()), (piece, at), "seed {seed}");
            assert!(read == file[span.start as usize..span.end as usize], "seed {seed}: a wrong byte");
            at = step.to();
        }
        partial.write_at(0, &file).unwrap();
        store.commit(partial, verified(&file), &vouched("pool/x.deb", &file)).unwrap();
        assert_eq!(disk.files_below(&store.0.partials).len(), 0, "seed {seed}: nothing is left behind");
    }
    assert!(resumed > 0);
}

#[test]
fn room_is_made_of_what_interrupted_downloads_left_before_any_file_goes() {
    let (old, new, kept) = (bytes(3 << 19, 1), bytes(3 << 19, 2), bytes(1000, 3));
    let house = House::new(2_000_000);
    let store = house.open();
    keep(&store, &vouched("pool/x.deb", &kept), &kept).unwrap();
    begin_and_note(&store, &old, 2);
    assert_eq!((store.snapshot().leftovers, store.snapshot().left), (1, 1 << 20));
    begin_and_note(&store, &new, 1);
    assert_eq!((store.snapshot().leftovers, store.snapshot().left), (1, 1 << 19));
    assert!(store.open_object(expected(&kept).hash).unwrap().is_some());
    drop(store);
    let store = house.open();
    assert_eq!((store.snapshot().leftovers, store.snapshot().left), (1, 1 << 19));
    store.begin(expected(&new)).unwrap().discard();
    assert_eq!((store.snapshot().leftovers, store.snapshot().left), (0, 0));
    assert_eq!(fs::read_dir(house.file("partial")).unwrap().count(), 0);
}

#[test]
fn a_full_disk_refuses_files_and_leaves_what_is_there_alone() {
    let files: Vec<_> = (0..8).map(|seed| bytes(9_000, seed)).collect();
    let mut life = Life::new(1, 30_000, files.clone());
    let store = life.start();
    // Two fit above the free space that is to stay; a third one takes the place of the first.
    for file in &files {
        keep(&store, &vouched("pool/x.deb", file), file).unwrap();
        assert!(store.snapshot().free.unwrap() >= MIN_FREE);
    }
    let readers: Vec<_> = files.iter().filter_map(|file| store.open_object(expected(file).hash).unwrap()).collect();
    assert_eq!(readers.len(), 2);
    let more = life.any();
    for file in files.iter().filter(|file| readers.iter().all(|blob| blob.expected != expected(file))) {
        assert!(matches!(store.begin(expected(file)).err(), Some(StoreError::Full)), "all is being read");
    }
    drop(readers);
    keep(&store, &vouched("pool/x.deb", &more), &more).unwrap();
    assert!(rebuild::hash(&store.0.objects.file(expected(&more).hash).unwrap().unwrap().0, &expected(&more)).is_ok());
}

#[test]
fn a_disk_that_takes_no_bytes_although_it_has_room_is_gone_past_at_the_next_try() {
    let disk = Arc::new(LyingDisk::new(1, 1 << 30));
    let house = House::in_memory(1 << 30);
    let store = Store::open_on(disk.clone(), &house.config(), Box::new(|_| true)).unwrap();
    let file = bytes(1000, 1);
    let partial = store.begin(expected(&file)).unwrap();
    disk.fail_every(1);
    assert!(partial.write_at(0, &file).is_err());
    drop(partial);
    disk.fail_every(0);
    assert!(matches!(store.begin(expected(&file)).err(), Some(StoreError::Full)));
    assert_eq!(store.snapshot().refused, 1);
    keep(&store, &vouched("pool/x.deb", &file), &file).unwrap();
}
