//! What is measured in a process that has done nothing else: memory, and how long a store hit waits.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use apt_huddle::{
    archive::Vouched,
    hash::{ContentHash, Expected, Hasher},
    store::Store,
};

use crate::{HOUSE, House, corpus::Corpus, repository, row};

/// Indexes learned while hits are measured, one after another.
const LEARNED: u64 = 8;

/// Files that are asked for, of a small piece each.
const FILES: u8 = 50;
const SIZE: usize = 64 * 1024;

/// MB above idle while an index is learned, and afterwards.
const PEAK: f64 = 24.0;
const AFTER: f64 = 4.0;

/// How much longer than an idle one the slowest store hit in a hundred may take meanwhile, in milliseconds.
const WAIT: f64 = 5.0;

/// Says whether all bars were met.
pub fn measure(corpus: &Corpus) -> bool {
    let house = House::new();
    let files: Vec<Vouched> = (0..FILES).map(|n| keep(&house.store, n)).collect();
    hits(&house.store, &files, &AtomicBool::new(true));

    let before = memory("VmRSS:");
    fs::write("/proc/self/clear_refs", "5").expect("the peak can be reset");
    house.learn(1, &corpus.xz);
    let peak = memory("VmHWM:");
    let mut is_met = row("memory while learning, xz, MB above idle", (peak - before) / 1e3, Some(PEAK));

    let mut idle = Vec::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        idle.extend(hits(&house.store, &files, &AtomicBool::new(true)));
    }
    is_met &= row("memory 3 s after, MB above idle", (memory("VmRSS:") - before) / 1e3, Some(AFTER));
    let done = AtomicBool::new(false);
    let busy = thread::scope(|scope| {
        let asking = scope.spawn(|| hits(&house.store, &files, &done));
        for version in 2..2 + LEARNED {
            house.publish(version);
            let other = if version % 2 == 0 { &corpus.changed } else { &corpus.plain };
            house.learn(version, if version % 4 < 2 { &corpus.xz } else { other });
        }
        done.store(true, Relaxed);
        asking.join().expect("hits are hits")
    });
    let idle = p99(idle);
    row("store hit, idle, p99, ms", idle, None);
    is_met &= row("store hit, while learning, p99, ms", p99(busy), Some(idle + WAIT));
    is_met & row("memory after all, MB above idle", (memory("VmRSS:") - before) / 1e3, None)
}

/// A line of the kernel's account of this process, in kB.
fn memory(line: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("this is Linux");
    let value = status.lines().find_map(|text| text.strip_prefix(line)?.trim().strip_suffix(" kB"));
    value.and_then(|value| value.parse().ok()).expect("the kernel's own form")
}

fn keep(store: &Store, n: u8) -> Vouched {
    let bytes = [n; SIZE];
    let expected = Expected { hash: ContentHash::of(&bytes), size: SIZE as u64 };
    let path = format!("pool/{n}.deb");
    let vouched = Vouched::restore(expected, repository(), path.clone(), true);
    let date = Duration::from_secs(u64::from(n) + 1);
    let suite = format!("dists/{n}");
    let date = std::time::UNIX_EPOCH + date;
    store.record_release(&repository(), &suite, date, "key", [vouched.clone()]).expect("a Release is recorded");
    let partial = store.begin(expected).expect("room");
    partial.write_at(0, &bytes).expect("room");
    let mut hasher = Hasher::new(&expected);
    hasher.update(&bytes);
    store.commit(partial, hasher.finish().expect("its own digest"), &vouched).expect("room");
    vouched
}

/// Answers requests from the store as the door does, one a millisecond: once through all files, and on until it is done.
fn hits(store: &Store, files: &[Vouched], done: &AtomicBool) -> Vec<Duration> {
    let mut took = Vec::new();
    loop {
        for file in files {
            thread::sleep(Duration::from_millis(1));
            let start = Instant::now();
            let promise = store.promise(&format!("{HOUSE}/{}", file.path())).expect("a catalogue").expect("a promise");
            let blob = store.open_object(promise.expected().hash).expect("a catalogue").expect("an object");
            assert_eq!(blob.read(0, SIZE).expect("a file").len(), SIZE);
            took.push(start.elapsed());
        }
        if done.load(Relaxed) {
            return took;
        }
    }
}

fn p99(mut took: Vec<Duration>) -> f64 {
    took.sort();
    crate::milliseconds(took[took.len() * 99 / 100])
}
