//! Learning the index of bookworm's main, from what apt has of it on this machine, and a table of what it costs.
//!
//! Memory and the wait for a store hit are measured in a process of their own, which has done nothing else before. Beside
//! each figure that has a bar stands whether it was met; with `-- --check` a missed one is a failure.
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a bench owns files, clocks and a terminal")]

mod corpus;
mod quiet;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    env, fs,
    hint::black_box,
    path::Path,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use apt_huddle::{
    archive::{Compression, Entry, IndexKind, Repository, Vouched, entries},
    flow::read::read,
    hash::{ContentHash, Expected},
    store::{Config, Store},
};
use criterion::{BenchmarkGroup, Criterion, SamplingMode, measurement::WallTime};
use tempfile::TempDir;

use corpus::Corpus;

const HOUSE: &str = "mirror.example.org/debian";
const INDEX: &str = "dists/bookworm/main/binary-amd64/Packages";

/// How many times longer than unpacking it an index may take to learn.
const LEARN_PER_UNPACK: f64 = 1.25;
/// Microseconds of a lookup.
const LOOKUP: f64 = 20.0;

/// Set for the process that measures memory and waits.
const QUIET: &str = "APT_HUDDLE_BENCH_QUIET";

/// The exit code of a run in which a bar was missed; a panic has another.
const MISSED: u8 = 2;

fn main() -> ExitCode {
    let corpus = match Corpus::prepare(Path::new("/var/lib/apt/lists"), Path::new(env!("CARGO_TARGET_TMPDIR"))) {
        Ok(corpus) => corpus,
        Err(reason) => {
            println!("skipped: {reason}");
            return ExitCode::SUCCESS;
        }
    };
    if env::var_os(QUIET).is_some() {
        return if quiet::measure(&corpus) { ExitCode::SUCCESS } else { MISSED.into() };
    }
    let is_check = env::args().any(|argument| argument == "--check");
    let table = Table::default();
    // Criterion refuses options that it does not know.
    let mut criterion = if is_check { Criterion::default() } else { Criterion::default().configure_from_args() };
    let mut group = criterion.benchmark_group("learn");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.measurement_time(Duration::from_secs(10)).warm_up_time(Duration::from_millis(500));
    for (name, packed) in [("xz", &corpus.xz), ("gz", &corpus.gz)] {
        learning(&mut group, &table, name, packed);
    }
    changes(&mut group, &table, &corpus);
    lookups(&mut group, &table, &corpus);
    group.finish();
    let is_met = table.print();
    let quiet = Command::new(env::current_exe().expect("this program")).env(QUIET, "1").status().expect("it starts");
    let is_quiet_met = quiet.success();
    assert!(is_quiet_met || quiet.code() == Some(MISSED.into()), "memory and waits were measured: {quiet}");
    if is_check && !(is_met && is_quiet_met) { MISSED.into() } else { ExitCode::SUCCESS }
}

/// Prints a row, and whether it meets its bar, when it has one.
fn row(name: &str, value: f64, bar: Option<f64>) -> bool {
    let is_met = bar.is_none_or(|bar| value <= bar);
    let verdict = match bar {
        None => String::new(),
        Some(bar) => format!("   {} (at most {bar:.2})", if is_met { "ok" } else { "missed" }),
    };
    println!("{name:<44}{value:>10.2}{verdict}");
    is_met
}

/// What was measured, by the name of its row.
#[derive(Default)]
struct Table(RefCell<BTreeMap<String, Vec<f64>>>);

impl Table {
    fn note(&self, row: &str, value: f64) {
        self.0.borrow_mut().entry(row.to_owned()).or_default().push(value);
    }

    /// Prints the rows, and says whether all bars were met.
    fn print(&self) -> bool {
        println!("\n{:<44}{:>10}", "median of", "");
        let mut is_met = true;
        for (name, values) in self.0.borrow_mut().iter_mut() {
            values.sort_by(f64::total_cmp);
            is_met &= row(name, values[values.len() / 2], bar(name));
        }
        is_met
    }
}

/// The most that a row may be.
fn bar(name: &str) -> Option<f64> {
    match name.get(..1)? {
        "4" => Some(LEARN_PER_UNPACK),
        "8" => Some(LOOKUP),
        _ => None,
    }
}

/// A store that knows version 1 of the suite's Release, and nothing of its indexes.
struct House {
    store: Store,
    _dir: TempDir,
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = Config { path: dir.path().join("store"), quota: 1 << 30, min_free: 0 };
        let store = Store::open(&config, |_| true).expect("a new store");
        let house = Self { store, _dir: dir };
        house.publish(1);
        house
    }

    fn publish(&self, version: u64) {
        let date = Duration::from_secs(version * 86_400);
        let members = [Compression::None, Compression::Xz, Compression::Gz].map(|packed| index(version, packed));
        let date = std::time::UNIX_EPOCH + date;
        let recorded = self.store.record_release(&repository(), "dists/bookworm", date, "key", members);
        recorded.expect("a Release is recorded");
    }

    /// How long it takes to learn an index, until it is answered from; and then to tidy up.
    fn learn(&self, version: u64, packed: &Path) -> (Duration, Duration) {
        let (_, compression) = Compression::of(packed.to_str().expect("a name of ours"));
        let start = Instant::now();
        let files = read(&self.store, &index(version, compression), compression, open(packed)).expect("an index");
        let took = start.elapsed();
        assert!(files > 10_000, "{files}");
        let start = Instant::now();
        self.store.tidy().expect("room");
        (took, start.elapsed())
    }
}

fn repository() -> Repository {
    Repository::restore(HOUSE)
}

/// What the Release of that version would say of the index; nothing is hashed here, so any digest will do.
fn index(version: u64, compression: Compression) -> Vouched {
    let path = format!("{INDEX}{}", compression.suffix());
    let hash = ContentHash::of(format!("{version} {path}").as_bytes());
    Vouched::restore(Expected { hash, size: 1 << 29 }, repository(), path, true)
}

fn open(path: &Path) -> fs::File {
    fs::File::open(path).expect("a file of ours")
}

/// How long unpacking takes by itself.
fn unpack(packed: &Path) -> Duration {
    use std::io::BufRead;
    let (_, compression) = Compression::of(packed.to_str().expect("a name of ours"));
    let start = Instant::now();
    let reader = std::io::BufReader::with_capacity(128 * 1024, open(packed));
    let mut plain = apt_huddle::archive::decompress(compression, reader, 1 << 30).expect("an index");
    loop {
        let length = plain.fill_buf().expect("an index").len();
        if length == 0 {
            return start.elapsed();
        }
        plain.consume(length);
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Each time beside unpacking alone, so that both meet the same machine.
fn learning(group: &mut BenchmarkGroup<'_, WallTime>, table: &Table, name: &str, packed: &Path) {
    group.bench_function(format!("new, {name}"), |bencher| {
        bencher.iter_custom(|times| {
            let learn = || {
                let house = House::new();
                let (alone, (learned, tidied)) = (unpack(packed), house.learn(1, packed));
                table.note(&format!("1 unpack alone, {name}, ms"), milliseconds(alone));
                table.note(&format!("2 learn, {name}, ms"), milliseconds(learned));
                table.note(&format!("3 tidy up afterwards, {name}, ms"), milliseconds(tidied));
                table.note(&format!("4 learn / unpack, {name}"), learned.as_secs_f64() / alone.as_secs_f64());
                learned
            };
            (0..times).map(|_| learn()).sum()
        });
    });
}

/// From the plain file, so that what learning itself costs is seen without unpacking.
fn changes(group: &mut BenchmarkGroup<'_, WallTime>, table: &Table, corpus: &Corpus) {
    for (row, second) in [("same", &corpus.plain), ("1 % changed", &corpus.changed)] {
        group.bench_function(format!("again, {row}, plain"), |bencher| {
            bencher.iter_custom(|times| {
                let learn = || {
                    let house = House::new();
                    let (first, _) = house.learn(1, &corpus.plain);
                    house.publish(2);
                    let (again, _) = house.learn(2, second);
                    table.note("5 parse alone, plain, ms", milliseconds(parse(&corpus.plain)));
                    table.note("6 learn, plain, ms", milliseconds(first));
                    table.note(&format!("7 learn again, {row}, plain, ms"), milliseconds(again));
                    again
                };
                (0..times).map(|_| learn()).sum()
            });
        });
    }
}

fn parse(plain: &Path) -> Duration {
    let (start, index) = (Instant::now(), index(1, Compression::None));
    let reader = std::io::BufReader::with_capacity(128 * 1024, open(plain));
    black_box(entries(IndexKind::Packages, &index, reader).filter(Result::is_ok).count());
    start.elapsed()
}

fn lookups(group: &mut BenchmarkGroup<'_, WallTime>, table: &Table, corpus: &Corpus) {
    let house = House::new();
    house.learn(1, &corpus.plain);
    let index = index(1, Compression::None);
    let reader = std::io::BufReader::new(open(&corpus.plain));
    let all = entries(IndexKind::Packages, &index, reader).step_by(61).filter_map(Result::ok);
    let files: Vec<Vouched> = all.map(|Entry { file, .. }| file).collect();
    let mut next = files.iter().cycle();
    let mut timed = |row: &str, look: &dyn Fn(&Vouched) -> bool| {
        group.bench_function(row, |bencher| {
            bencher.iter_custom(|times| {
                let start = Instant::now();
                for file in next.by_ref().take(times as usize) {
                    assert!(look(file));
                }
                let took = start.elapsed();
                table.note(&format!("8 {row}, us"), took.as_secs_f64() * 1e6 / times as f64);
                took
            });
        });
    };
    timed("lookup by path", &|file| {
        let found = house.store.promise(&format!("{HOUSE}/{}", file.path()));
        found.expect("a catalogue").is_some_and(|found| found.expected() == file.expected())
    });
    timed("lookup by hash", &|file| !house.store.by_hash(file.expected().hash).expect("a catalogue").is_empty());
}
