//! apt's own sources and keys, as they are on this machine.
#![expect(clippy::disallowed_methods, reason = "the door to apt's configuration")]

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use crate::archive::{Keyring, Location, Repository, Signers, Signing, Sources};

/// Files read of one directory at most.
const MAX_FILES: usize = 1000;

/// apt's configuration, read again whenever a Release is judged. Cheap to clone.
#[derive(Clone)]
pub struct Trust {
    shared: Arc<Shared>,
}

struct Shared {
    apt_dir: PathBuf,
    keyrings: Vec<PathBuf>,
    /// Addresses that this proxy is reached at, to recognise sources that lead through it.
    proxies: Vec<String>,
    current: RwLock<Arc<Loaded>>,
}

#[derive(Default)]
struct Loaded {
    sources: Sources,
    default: Keyring,
    named: HashMap<String, Keyring>,
}

/// Who may sign a Release, and what it speaks for.
pub struct Judgement {
    /// The repository, and the suite's folder in it.
    pub place: (Repository, String),
    /// The keys that may sign; `None` when apt's sources contradict each other.
    pub signers: Option<Signers>,
    /// Whether an expired one is refused.
    pub check_valid_until: bool,
}

impl Trust {
    /// Reads apt's configuration below `apt_dir`, and further keyrings.
    pub fn load(apt_dir: PathBuf, keyrings: Vec<PathBuf>, proxies: Vec<String>) -> Self {
        let shared = Shared { apt_dir, keyrings, proxies, current: RwLock::default() };
        let trust = Self { shared: Arc::new(shared) };
        trust.reload();
        trust
    }

    /// Reads everything again; files that cannot be read are named in the log and left out, as apt does.
    pub fn reload(&self) {
        let Shared { apt_dir, keyrings, proxies, current } = &*self.shared;
        let mut files = read_dir(&apt_dir.join("sources.list.d"));
        files.extend(read_file(&apt_dir.join("sources.list")));
        let texts: Vec<(String, String)> =
            files.into_iter().map(|(name, bytes)| (name, String::from_utf8_lossy(&bytes).into_owned())).collect();
        let (sources, bad) = Sources::parse(texts.iter().map(|(name, text)| (name.as_str(), text.as_str())), proxies);
        for error in bad {
            tracing::debug!(%error, "source not understood");
        }
        let mut rings = read_dir(&apt_dir.join("trusted.gpg.d"));
        rings.retain(|(name, _)| name.ends_with(".gpg") || name.ends_with(".asc"));
        rings.extend(read_file(&apt_dir.join("trusted.gpg")));
        rings.extend(keyrings.iter().filter_map(|path| read_file(path)));
        let mut default = Keyring::default();
        rings.iter().filter_map(|(name, bytes)| parse(name, bytes)).for_each(|keyring| default.extend(&keyring));
        let ring = |name: &str| {
            let (name, bytes) = read_file(Path::new(name))?;
            let keyring = parse(&name, &bytes)?;
            Some((name, keyring))
        };
        let named = sources.keyring_files().into_iter().filter_map(ring).collect();
        let loaded = Loaded { sources, default, named };
        *current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
    }

    /// Whether apt's own sources lead to that host and port.
    pub fn names(&self, location: &Location) -> bool {
        self.current().sources.names(location)
    }

    /// Who may sign the Release at a location. `None` when none can be there.
    pub fn judge(&self, release: &Location) -> Option<Judgement> {
        let loaded = self.current();
        let place = loaded.sources.place(release)?;
        let signers = match loaded.sources.signing(release) {
            Signing::Default => Some(loaded.default.clone().into()),
            Signing::By(signed_by) => {
                let mut keyring = Keyring::default();
                for ring in signed_by.files.iter().filter_map(|file| loaded.named.get(file)) {
                    keyring.extend(ring);
                }
                if let Some(ring) = signed_by.embedded.as_ref().and_then(|armor| parse("Signed-By", armor.as_bytes())) {
                    keyring.extend(&ring);
                }
                if signed_by.files.is_empty() && signed_by.embedded.is_none() {
                    keyring = loaded.default.clone();
                }
                Some(Signers { keyring, picks: signed_by.picks.clone() })
            }
            Signing::Conflict => None,
        };
        Some(Judgement { place, signers, check_valid_until: loaded.sources.checks_valid_until(release) })
    }

    fn current(&self) -> Arc<Loaded> {
        self.shared.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn parse(name: &str, bytes: &[u8]) -> Option<Keyring> {
    Keyring::parse(bytes, name).inspect_err(|error| tracing::warn!(%error, "keyring left out")).ok()
}

fn read_file(path: &Path) -> Option<(String, Vec<u8>)> {
    match fs::read(path) {
        Ok(bytes) => Some((path.display().to_string(), bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "left out");
            None
        }
    }
}

/// The files of a directory, in the order of their names.
fn read_dir(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<_> =
        entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    paths.sort();
    paths.truncate(MAX_FILES);
    paths.iter().filter_map(|path| read_file(path)).collect()
}
