//! apt's own configuration on this machine: where it fetches from, and whom it believes.
#![expect(clippy::disallowed_methods, reason = "the door to apt's configuration")]

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use crate::archive::{Keyring, Location, Pin, Sources, Trust};

/// How often requests may have everything read again.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// Files read of one directory at most.
const MAX_FILES: usize = 1000;

/// apt's sources and keyrings, as they were when last read. Cheap to clone.
#[derive(Clone)]
pub struct Apt {
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    keyrings: Vec<PathBuf>,
    /// Addresses that this proxy is reached at, to recognise sources that lead through it.
    proxies: Vec<String>,
    trust: RwLock<Arc<Trust>>,
    reloaded: Mutex<Option<Instant>>,
}

impl Apt {
    /// Reads apt's configuration below `dir`, and further keyrings for the sources that name none.
    pub fn load(dir: PathBuf, keyrings: Vec<PathBuf>, proxies: Vec<String>) -> Self {
        let shared = Shared { dir, keyrings, proxies, trust: RwLock::default(), reloaded: Mutex::default() };
        let apt = Self { shared: Arc::new(shared) };
        apt.reload();
        apt
    }

    /// Whom to believe about which repository.
    pub fn trust(&self) -> Arc<Trust> {
        self.shared.trust.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where apt's configuration is.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// The origin that an address stands for, when it leads through this proxy; any other stands for itself.
    pub fn origin_of(&self, at: Location) -> Option<Location> {
        let authority = format!("{}:{}", at.host(), at.port_or_default());
        if !self.shared.proxies.contains(&authority) {
            return Some(at);
        }
        Location::from_rewritten(&at.key()[at.authority().len()..]).ok()
    }

    /// Reads everything again. What cannot be read is named in the log and left out, as apt does.
    pub fn reload(&self) {
        let (sources, default) = (self.read_sources(), self.read_default_keyring());
        let named: Vec<_> = sources
            .keyring_files()
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), parse(&read_file(Path::new(name))?)?)))
            .collect();
        let (trust, bad) = Trust::new(sources, default, named);
        for error in bad {
            tracing::warn!(%error, "keyring left out");
        }
        let mut known = self.shared.trust.write().unwrap_or_else(PoisonError::into_inner);
        *known = Arc::new(trust.with_pins_of(&known));
    }

    /// Takes what the latest Release of a suite says of the next one.
    pub fn pin(&self, pin: Pin) {
        let mut known = self.shared.trust.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut known).pin(pin);
    }

    /// Reads everything again unless that was done a moment ago, and says whether it was.
    pub async fn reload_again(&self) -> bool {
        {
            let mut reloaded = self.shared.reloaded.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            if reloaded.is_some_and(|at| now < at + AT_MOST_EVERY) {
                return false;
            }
            *reloaded = Some(now);
        }
        let apt = self.clone();
        tokio::task::spawn_blocking(move || apt.reload()).await.expect("reading does not panic");
        true
    }

    fn read_sources(&self) -> Sources {
        let mut files = read_dir(&self.shared.dir.join("sources.list.d"));
        files.extend(read_file(&self.shared.dir.join("sources.list")));
        let text = |(name, bytes): (String, Vec<u8>)| (name, String::from_utf8_lossy(&bytes).into_owned());
        let texts: Vec<_> = files.into_iter().map(text).collect();
        let texts = texts.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        let (sources, bad) = Sources::parse(texts, &self.shared.proxies);
        for error in bad {
            tracing::debug!(%error, "source left out");
        }
        sources
    }

    fn read_default_keyring(&self) -> Keyring {
        let Shared { dir, keyrings, .. } = &*self.shared;
        let mut files = read_dir(&dir.join("trusted.gpg.d"));
        files.retain(|(name, _)| name.ends_with(".gpg") || name.ends_with(".asc"));
        files.extend(read_file(&dir.join("trusted.gpg")).filter(|(_, bytes)| !bytes.is_empty()));
        files.extend(keyrings.iter().filter_map(|path| read_file(path)));
        let mut default = Keyring::default();
        files.iter().filter_map(parse).for_each(|keyring| default.extend(&keyring));
        default
    }
}

fn parse((name, bytes): &(String, Vec<u8>)) -> Option<Keyring> {
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

#[cfg(test)]
mod tests {
    use crate::archive::testing::{Key, clear_signed, now};

    use super::*;

    #[test]
    fn a_pinned_key_outlives_a_look_at_the_configuration() {
        let (old, new) = (Key::new(), Key::new());
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("trusted.gpg.d")).unwrap();
        for (name, key) in [("old.gpg", &old), ("new.gpg", &new)] {
            fs::write(dir.path().join("trusted.gpg.d").join(name), key.binary()).unwrap();
        }
        fs::write(dir.path().join("sources.list"), "deb http://m.example.org sid main\n").unwrap();
        let apt = Apt::load(dir.path().to_owned(), Vec::new(), Vec::new());
        let at = Location::parse("http://m.example.org/dists/sid/InRelease").unwrap();
        let verified = |key| {
            let text = format!(
                "Codename: sid\nDate: Fri, 10 Jul 2026 09:12:31 UTC\nValid-Until: Mon, 13 Jul 2026 09:12:31 UTC\n\
                 Signed-By: {}\nSHA256:\n {} 0 main/a\n",
                new.fingerprint(),
                "00".repeat(32),
            );
            let message = clear_signed(&text, &[key]);
            apt.trust().verify_inrelease(&at, message.as_bytes(), true, now()).verified()
        };
        let first = verified(&old).unwrap();
        assert!(verified(&new).is_some());
        apt.pin(first.pin());
        for _ in 0..2 {
            assert!(verified(&old).is_none());
            assert!(verified(&new).is_some());
            apt.reload();
        }
    }
}
