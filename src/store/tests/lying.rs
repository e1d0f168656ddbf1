//! A disk that lies: in memory, and as bad as a disk may be.
//!
//! What was written and not synced is there after a power cut in part, sector by sector; names that were made, moved or
//! taken away lately are so or are not, each by itself and in no order. Any call may fail, and a write may fail half-way.
//! From the moment of the cut on every call fails, until the disk is started again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    os::unix::fs::{FileExt, MetadataExt},
    sync::Mutex,
};

use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::SliceRandom};

use super::{
    super::disk::{Disk, Entry, Kind},
    *,
};

/// What is written at once or not at all.
const SECTOR: usize = 512;

pub struct LyingDisk(Mutex<State>);

struct State {
    rng: SmallRng,
    files: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, u64>,
    dirs: BTreeSet<PathBuf>,
    /// The names that a power cut leaves in any case, and what may have reached the disk since or not.
    durable: BTreeMap<PathBuf, u64>,
    pending: Vec<Move>,
    capacity: u64,
    /// One call in so many fails; 0: none.
    fault_every: u32,
    /// Calls until the power is cut.
    until_cut: Option<u32>,
    is_cut: bool,
    syncs: u64,
}

struct Inode {
    file: File,
    synced: Vec<u8>,
}

enum Move {
    Made(PathBuf, u64),
    Moved(PathBuf, PathBuf, u64),
    Gone(PathBuf),
}

impl LyingDisk {
    pub fn new(seed: u64, capacity: u64) -> Self {
        Self(Mutex::new(State {
            rng: SmallRng::seed_from_u64(seed),
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            dirs: BTreeSet::new(),
            durable: BTreeMap::new(),
            pending: Vec::new(),
            capacity,
            fault_every: 0,
            until_cut: None,
            is_cut: false,
            syncs: 0,
        }))
    }

    /// From now on one call in so many fails.
    pub fn fail_every(&self, calls: u32) {
        locked(&self.0).fault_every = calls;
    }

    /// The power is cut after so many calls.
    pub fn cut_after(&self, calls: u32) {
        locked(&self.0).until_cut = Some(calls);
    }

    /// Cuts the power now, if it is not yet, and starts again with what is left.
    pub fn restart(&self) {
        locked(&self.0).restart();
    }

    /// Every plain file below a directory, with its bytes.
    pub fn files_below(&self, dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let state = locked(&self.0);
        let below = state.names.iter().filter(|(path, _)| path.starts_with(dir));
        below.map(|(path, id)| (path.clone(), content(&state.files[id].file))).collect()
    }

    /// How often a file was synced.
    pub fn syncs(&self) -> u64 {
        locked(&self.0).syncs
    }

    fn call<T>(&self, call: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = locked(&self.0);
        state.fault()?;
        call(&mut state)
    }
}

impl State {
    /// Whether this call fails.
    fn fault(&mut self) -> io::Result<()> {
        if let Some(calls) = &mut self.until_cut {
            *calls = calls.saturating_sub(1);
            self.is_cut |= *calls == 0;
        }
        if self.is_cut {
            return Err(io::Error::other("no power"));
        }
        if self.fault_every > 0 && self.rng.random_ratio(1, self.fault_every) {
            let full = self.rng.random_bool(0.5);
            return Err(if full { io::ErrorKind::StorageFull.into() } else { io::Error::from_raw_os_error(5) });
        }
        Ok(())
    }

    fn restart(&mut self) {
        let mut pending = std::mem::take(&mut self.pending);
        pending.shuffle(&mut self.rng);
        for change in pending {
            if self.rng.random_bool(0.5) {
                continue;
            }
            match change {
                Move::Made(path, id) => drop(self.durable.insert(path, id)),
                Move::Moved(from, to, id) => {
                    if self.durable.get(&from) == Some(&id) {
                        self.durable.remove(&from);
                    }
                    self.durable.insert(to, id);
                }
                Move::Gone(path) => drop(self.durable.remove(&path)),
            }
        }
        let (mut files, mut names) = (BTreeMap::new(), BTreeMap::new());
        for (path, id) in &self.durable {
            let inode = &self.files[id];
            let torn = torn(&inode.synced, &content(&inode.file), &mut self.rng);
            let (file, id) = memory();
            file.write_all_at(&torn, 0).unwrap();
            files.insert(id, Inode { file, synced: torn });
            names.insert(path.clone(), id);
        }
        (self.files, self.names) = (files, names);
        self.durable = self.names.clone();
        (self.until_cut, self.is_cut, self.fault_every) = (None, false, 0);
    }

    fn used(&self) -> u64 {
        self.names.values().map(|id| self.files[id].file.metadata().unwrap().len()).sum()
    }

    fn id(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Now and then the disk catches up by itself.
    fn moved(&mut self, change: Move) {
        self.pending.push(change);
        if self.rng.random_ratio(1, 10) {
            self.pending.clear();
            self.durable = self.names.clone();
        }
    }
}

impl Disk for LyingDisk {
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.call(|state| {
            state.dirs.extend(path.ancestors().map(Path::to_owned));
            Ok(())
        })
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        self.call(|state| {
            if state.names.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let (file, id) = memory();
            let copy = file.try_clone()?;
            state.files.insert(id, Inode { file, synced: Vec::new() });
            state.names.insert(path.to_owned(), id);
            state.moved(Move::Made(path.to_owned(), id));
            Ok(copy)
        })
    }

    fn open(&self, path: &Path, _writable: bool) -> io::Result<(File, u64)> {
        self.call(|state| {
            let file = state.files[&state.id(path)?].file.try_clone()?;
            let length = file.metadata()?.len();
            Ok((file, length))
        })
    }

    fn kind(&self, path: &Path) -> io::Result<Kind> {
        self.call(|state| match state.dirs.contains(path) {
            true => Ok(Kind::Dir),
            false => Ok(Kind::File(state.files[&state.id(path)?].file.metadata()?.len())),
        })
    }

    fn write(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let result = self.call(|state| {
            let grows = (offset + bytes.len() as u64).saturating_sub(file.metadata()?.len());
            if state.used() + grows > state.capacity { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        });
        // What fails has written some.
        let written = if result.is_ok() { bytes.len() } else { bytes.len() / 2 };
        if !locked(&self.0).is_cut {
            file.write_all_at(&bytes[..written], offset)?;
        }
        result
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.call(|state| {
            state.syncs += 1;
            let inode = state.files.get_mut(&file.metadata()?.ino()).expect("a file of this disk");
            inode.synced = content(file);
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(|state| {
            let id = state.id(from)?;
            if !state.dirs.contains(to.parent().unwrap()) {
                return Err(io::ErrorKind::NotFound.into());
            }
            state.names.remove(from);
            state.names.insert(to.to_owned(), id);
            state.moved(Move::Moved(from.to_owned(), to.to_owned(), id));
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(|state| {
            state.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
            state.moved(Move::Gone(path.to_owned()));
            Ok(())
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.call(|state| {
            let here = |other: &Path| other.parent() == Some(path);
            let entry = |path: &Path, kind| Entry { name: path.file_name().unwrap().to_owned(), kind };
            let dirs = state.dirs.iter().filter(|dir| here(dir)).map(|dir| entry(dir, Kind::Dir));
            let length = |id: &u64| state.files[id].file.metadata().unwrap().len();
            let files = state.names.iter().filter(|(name, _)| here(name));
            Ok(dirs.chain(files.map(|(name, id)| entry(name, Kind::File(length(id))))).collect())
        })
    }

    fn free(&self, _path: &Path) -> io::Result<u64> {
        self.call(|state| Ok(state.capacity - state.used().min(state.capacity)))
    }
}

/// A file that lies nowhere, and its number.
fn memory() -> (File, u64) {
    let file = File::from(rustix::fs::memfd_create("lying", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    let id = file.metadata().unwrap().ino();
    (file, id)
}

fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// What a power cut leaves of a file: of each sector that was written since it was synced, the old or the new.
fn torn(synced: &[u8], written: &[u8], rng: &mut SmallRng) -> Vec<u8> {
    if synced == written {
        return written.to_vec();
    }
    let longer = synced.len().max(written.len());
    let length = if rng.random_bool(0.5) { written.len() } else { rng.random_range(synced.len().min(longer)..=longer) };
    let mut left = vec![0; length];
    for (at, sector) in left.chunks_mut(SECTOR).enumerate() {
        let from = if rng.random_bool(0.5) { written } else { synced };
        let from = &from[(at * SECTOR).min(from.len())..];
        let some = sector.len().min(from.len());
        sector[..some].copy_from_slice(&from[..some]);
    }
    left
}
