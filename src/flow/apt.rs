//! apt's own configuration on this machine: where it fetches from, and whom it believes.
#![expect(clippy::disallowed_methods, reason = "the door to apt's configuration")]

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant, SystemTime},
};

use crate::archive::{BadSource, Keyring, Location, Pin, Proxies, Sources, Surroundings, Trust, mirror_lists};

use super::learn::Refusal;

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
    /// Where this proxy is reached, to recognise sources that lead through it.
    proxies: Proxies,
    trust: RwLock<Arc<Trust>>,
    reloaded: Mutex<Option<Instant>>,
    /// Entries that cannot be used, and since when that is known.
    bad: Mutex<Vec<(BadSource, SystemTime)>>,
}

impl Apt {
    /// Reads apt's configuration below `dir`, and further keyrings for the sources that name none.
    pub fn load(dir: PathBuf, keyrings: Vec<PathBuf>, proxies: Proxies) -> Self {
        let (trust, reloaded, bad) = (RwLock::default(), Mutex::default(), Mutex::default());
        let apt = Self { shared: Arc::new(Shared { dir, keyrings, proxies, trust, reloaded, bad }) };
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
        self.shared.proxies.origin_of(at)
    }

    /// The entries of apt's sources that cannot be used, as what they are: nobody is believed who might be meant by them.
    pub fn refusals(&self) -> VecDeque<Refusal> {
        let bad = self.shared.bad.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = |(bad, at): &(BadSource, SystemTime)| Refusal {
            location: format!("{}:{}", bad.file, bad.line),
            reason: bad.reason.clone(),
            is_bad: bad.is_malformed,
            at: *at,
        };
        bad.iter().map(refusal).collect()
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
        let mut around = Surroundings { proxies: self.shared.proxies.clone(), ..Surroundings::default() };
        let mut paths = paths_of(&self.shared.dir.join("sources.list.d"));
        paths.push(self.shared.dir.join("sources.list"));
        let mut texts = Vec::new();
        for path in paths {
            let name = path.display().to_string();
            let is_source = path.extension().is_some_and(|end| end == "list" || end == "sources");
            match fs::read(&path) {
                Ok(bytes) if is_source => texts.push((name, String::from_utf8_lossy(&bytes).into_owned())),
                Err(error) if is_source && error.kind() != io::ErrorKind::NotFound => around.unreadable.push(name),
                _ => {}
            }
        }
        let lists = texts.iter().flat_map(|(_, text)| mirror_lists(text)).take(MAX_FILES);
        let lists = lists.filter_map(|path| read_file(Path::new(&path)));
        around.lists = lists.map(|(path, bytes)| (path, String::from_utf8_lossy(&bytes).into_owned())).collect();
        let texts = texts.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        let (sources, bad) = Sources::parse(texts, &around);
        self.tell(bad);
        sources
    }

    /// Remembers the entries that cannot be used, and logs those that are new.
    fn tell(&self, found: Vec<BadSource>) {
        let mut known = self.shared.bad.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now();
        let since = |bad: BadSource| {
            let since = known.iter().find(|(known, _)| *known == bad).map(|(_, since)| *since);
            if since.is_none() {
                tracing::warn!(error = %bad, "an entry of apt's sources is not used, and nobody is believed in its place");
            }
            (bad, since.unwrap_or(now))
        };
        *known = found.into_iter().map(since).collect();
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
    paths_of(dir).iter().filter_map(|path| read_file(path)).collect()
}

fn paths_of(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<_> =
        entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    paths.sort();
    paths.truncate(MAX_FILES);
    paths
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
        let apt = Apt::load(dir.path().to_owned(), Vec::new(), Proxies::default());
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

    #[test]
    fn what_cannot_be_read_of_the_sources_is_shown_once_and_believes_nobody() {
        let key = Key::new();
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &[u8]| {
            fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            fs::write(dir.path().join(name), text).unwrap();
        };
        put("trusted.gpg.d/a.gpg", &key.binary());
        put("vendor.gpg", &Key::new().binary());
        let (keyring, list) = (dir.path().join("vendor.gpg"), dir.path().join("mirrors"));
        put("mirrors", b"http://l.example.org\n");
        let mirrors = format!("deb [signed-by={}] mirror+file:{} sid main\n", keyring.display(), list.display());
        put("sources.list", mirrors.as_bytes());
        put("sources.list.d/bad.list", b"\n\ndeb [signed-by=AB12] http://b.example.org sid main\n");
        let apt = Apt::load(dir.path().to_owned(), Vec::new(), Proxies::default());
        let text =
            format!("Codename: sid\nDate: Fri, 10 Jul 2026 09:12:31 UTC\nSHA256:\n {} 0 main/a\n", "00".repeat(32));
        let message = clear_signed(&text, &[&key]);
        let believed = || {
            ["l", "b", "other"].map(|host| {
                let at = Location::parse(&format!("http://{host}.example.org/dists/sid/InRelease")).unwrap();
                apt.trust().verify_inrelease(&at, message.as_bytes(), true, now()).verified().is_some()
            })
        };
        let shown = || apt.refusals().into_iter().map(|refusal| (refusal.location, refusal.is_bad)).collect::<Vec<_>>();
        let place = format!("{}:3", dir.path().join("sources.list.d/bad.list").display());
        for _ in 0..2 {
            assert_eq!((believed(), shown()), ([false, false, true], vec![(place.clone(), true)]));
            apt.reload();
        }
        fs::remove_file(&list).unwrap();
        fs::remove_file(dir.path().join("sources.list.d/bad.list")).unwrap();
        apt.reload();
        let place = format!("{}:1", dir.path().join("sources.list").display());
        assert_eq!((believed(), shown()), ([false; 3], vec![(place, false)]), "its mirrors may be any host");
        put("sources.list", b"");
        apt.reload();
        assert_eq!((believed(), shown()), ([true; 3], Vec::new()));
        fs::create_dir(dir.path().join("no.list")).unwrap();
        fs::remove_file(dir.path().join("sources.list")).unwrap();
        fs::create_dir(dir.path().join("sources.list")).unwrap();
        apt.reload();
        assert_eq!(believed(), [false; 3], "a file that cannot be read may name any host");
    }
}
