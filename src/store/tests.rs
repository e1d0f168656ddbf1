#![expect(clippy::disallowed_methods, reason = "tests look at the disk from outside, and at the clock for a figure")]

use std::time::{Duration, UNIX_EPOCH};

use tempfile::TempDir;

use crate::{archive::Vouched, hash::Hasher};

use super::*;
use crate::hash::{Expected, PIECE_SIZE, Verified};

mod crash;
mod forget;
mod import;
mod learning;
mod lend;
mod lying;
mod manage;
mod room;
mod schedules;
mod suites;
mod verify;
mod why;

const HOUSE: &str = "mirror.example.org/debian";

/// A store in a directory of its own, with room for `quota` bytes.
struct House {
    dir: TempDir,
    quota: u64,
}

impl House {
    fn new(quota: u64) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), quota }
    }

    /// In memory, where there is room for that: SQLite is quick there.
    fn in_memory(quota: u64) -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Self { dir: dir.unwrap(), quota }
    }

    fn config(&self) -> Config {
        Config { path: self.dir.path().join("store"), quota: self.quota, min_free: 0 }
    }

    fn open(&self) -> Store {
        Store::open(&self.config(), |_| true).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.config().path.join(name)
    }

    fn object(&self, hash: ContentHash) -> PathBuf {
        let name = hash.to_string();
        self.file("objects").join(&name[..2]).join(&name[2..4]).join(name)
    }
}

fn house() -> Repository {
    Repository::restore(HOUSE)
}

fn expected(bytes: &[u8]) -> Expected {
    Expected { hash: ContentHash::of(bytes), size: bytes.len() as u64 }
}

fn vouched(path: &str, bytes: &[u8]) -> Vouched {
    Vouched::restore(expected(bytes), house(), path.to_owned(), true)
}

fn private(path: &str, bytes: &[u8]) -> Vouched {
    let repository = Repository::restore("private.example.org/debian");
    Vouched::restore(expected(bytes), repository, path.to_owned(), false)
}

fn day(number: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(number * 86400)
}

fn verified(bytes: &[u8]) -> Verified {
    let mut hasher = Hasher::new(&expected(bytes));
    hasher.update(bytes);
    hasher.finish().unwrap()
}

fn keep(store: &Store, vouched: &Vouched, bytes: &[u8]) -> Result<Blob, StoreError> {
    let partial = store.begin(expected(bytes))?;
    partial.write_at(0, bytes)?;
    store.commit(partial, verified(bytes), vouched)
}

/// Bytes of that length, told apart by a seed.
fn bytes(length: usize, seed: u8) -> Vec<u8> {
    let mut block = *ContentHash::of(&[seed]).as_bytes();
    let mut bytes = Vec::with_capacity(length + 32);
    while bytes.len() < length {
        bytes.extend(block);
        block = *ContentHash::of(&block).as_bytes();
    }
    bytes.truncate(length);
    bytes
}

/// A Release of the given day that lists one index, learned with the entries given.
fn publish(store: &Store, number: u64, index: &[u8], entries: &[Vouched]) {
    let member = vouched("dists/stable/main/binary-amd64/Packages", index);
    let recorded = store.record_release(&house(), "dists/stable", day(number), "key", [member.clone()]).unwrap();
    assert_eq!(recorded, Recorded::New);
    assert_eq!(store.record_index(&member, entries.iter().cloned()).unwrap(), entries.len());
}

/// The hashes of all that is offered.
fn offered(store: &Store) -> Vec<ContentHash> {
    store.offered().unwrap().into_iter().map(|listed| listed.expected.hash).collect()
}

fn promised(store: &Store, path: &str) -> Option<ContentHash> {
    store.promise(&format!("{HOUSE}/{path}")).unwrap().map(|vouched| vouched.expected().hash)
}
