//! apt's own configuration on this machine: where it fetches from, and whom it believes.
#![expect(clippy::disallowed_methods, reason = "the door to apt's configuration")]

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant, SystemTime},
};

use crate::archive::{
    BadSource, Keyring, Location, MAX_KEYRING, Pin, Proxies, Repository, Sources, Surroundings, Trust, mirror_lists,
    path,
};

use super::{
    file::{self, Stamp},
    learn::Refusal,
};

/// How often requests may have the configuration looked at for the sake of an origin.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// Files read of one directory at most.
const MAX_FILES: usize = 1000;
/// Bytes of all files together; Debian's keyrings have some 100 kB.
const MAX_BYTES: u64 = 64 << 20;
/// A file as young as this may be written to again without a change of its times.
const SETTLED: Duration = Duration::from_secs(2);

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
    /// What the configuration was when it was last read; held while it is being read.
    seen: Mutex<Seen>,
    reloaded: Mutex<Option<Instant>>,
    /// Entries that cannot be used, and since when that is known.
    bad: Mutex<Vec<(BadSource, SystemTime)>>,
}

/// The files and directories that the configuration was read from, and how each was before.
#[derive(Default)]
struct Seen {
    stamps: Vec<(PathBuf, Option<Stamp>)>,
    /// Whether each of them would show a change by its times.
    is_settled: bool,
}

impl Seen {
    fn is_as_it_was(&self) -> bool {
        self.is_settled && self.stamps.iter().all(|(path, stamp)| Look::stamp(path).map(|(stamp, _)| stamp) == *stamp)
    }
}

impl Apt {
    /// Reads apt's configuration below `dir`, and further keyrings for the sources that name none.
    pub fn load(dir: PathBuf, keyrings: Vec<PathBuf>, proxies: Proxies) -> Self {
        let (trust, seen, reloaded, bad) = (RwLock::default(), Mutex::default(), Mutex::default(), Mutex::default());
        let apt = Self { shared: Arc::new(Shared { dir, keyrings, proxies, trust, seen, reloaded, bad }) };
        apt.reload();
        apt
    }

    /// Whom to believe about which repository.
    pub fn trust(&self) -> Arc<Trust> {
        self.shared.trust.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a suite is in apt's own sources, by its repository and the directory of its Release.
    pub fn names_suite(&self, repository: &Repository, suite_dir: &str) -> bool {
        let is_it = |suite: &String| match suite.strip_suffix('/') {
            Some(folder) => path::normalise(folder).is_ok_and(|folder| folder.trim_matches('/') == suite_dir),
            None => suite_dir.strip_prefix("dists/") == Some(suite),
        };
        let trust = self.trust();
        let mut sources = trust.sources().iter();
        sources.any(|source| Repository::at(&source.base) == *repository && source.suites.iter().any(is_it))
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

    /// Reads everything again if anything changed, and says whether it did. What cannot be read is named in the log and left
    /// out, as apt does.
    pub fn reload(&self) -> bool {
        let mut seen = self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.is_as_it_was() {
            return false;
        }
        let mut look = Look::new();
        let (sources, default) = (self.read_sources(&mut look), self.read_default_keyring(&mut look));
        let named: Vec<_> = sources
            .keyring_files()
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), parse(&look.read_file(Path::new(name))?)?)))
            .collect();
        let (trust, bad) = Trust::new(sources, default, named);
        for error in bad {
            tracing::warn!(%error, "keyring left out");
        }
        let mut known = self.shared.trust.write().unwrap_or_else(PoisonError::into_inner);
        *known = Arc::new(trust.with_pins_of(&known));
        *seen = look.seen;
        true
    }

    /// Takes what the latest Release of a suite says of the next one.
    pub fn pin(&self, pin: Pin) {
        let mut known = self.shared.trust.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut known).pin(pin);
    }

    /// Looks for changes unless that was done a moment ago, and says whether it was done now.
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

    fn read_sources(&self, look: &mut Look) -> Sources {
        let mut around = Surroundings { proxies: self.shared.proxies.clone(), ..Surroundings::default() };
        let mut paths = look.paths_of(&self.shared.dir.join("sources.list.d"));
        paths.retain(|path| path.extension().is_some_and(|end| end == "list" || end == "sources"));
        paths.push(self.shared.dir.join("sources.list"));
        let mut texts = Vec::new();
        for path in paths {
            let name = path.display().to_string();
            match look.read(&path) {
                Ok(bytes) => texts.push((name, String::from_utf8_lossy(&bytes).into_owned())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => around.unreadable.push(name),
            }
        }
        let lists = texts.iter().flat_map(|(_, text)| mirror_lists(text)).take(MAX_FILES);
        let lists = lists.filter_map(|path| look.read_file(Path::new(&path)));
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

    fn read_default_keyring(&self, look: &mut Look) -> Keyring {
        let Shared { dir, keyrings, .. } = &*self.shared;
        let mut files = look.read_dir(&dir.join("trusted.gpg.d"));
        files.retain(|(name, _)| name.ends_with(".gpg") || name.ends_with(".asc"));
        files.extend(look.read_file(&dir.join("trusted.gpg")).filter(|(_, bytes)| !bytes.is_empty()));
        files.extend(keyrings.iter().filter_map(|path| look.read_file(path)));
        let mut default = Keyring::default();
        files.iter().filter_map(parse).for_each(|keyring| default.extend(&keyring));
        default
    }
}

fn parse((name, bytes): &(String, Vec<u8>)) -> Option<Keyring> {
    Keyring::parse(bytes, name).inspect_err(|error| tracing::warn!(%error, "keyring left out")).ok()
}

/// One look at the configuration.
struct Look {
    seen: Seen,
    /// Bytes that may still be read.
    left: u64,
    now: SystemTime,
}

impl Look {
    fn new() -> Self {
        let seen = Seen { stamps: Vec::new(), is_settled: true };
        Self { seen, left: MAX_BYTES, now: SystemTime::now() }
    }

    fn stamp(path: &Path) -> Option<(Stamp, SystemTime)> {
        let data = fs::metadata(path).ok()?;
        Some((Stamp::of(&data), data.modified().ok()?))
    }

    /// Notes how a file is before it is read: what changes meanwhile is then seen to differ at the next look.
    fn note(&mut self, path: &Path) {
        let stamp = Self::stamp(path);
        let is_young = |modified| self.now.duration_since(modified).is_ok_and(|age| age < SETTLED);
        self.seen.is_settled &= !stamp.is_some_and(|(_, modified)| is_young(modified));
        self.seen.stamps.push((path.to_owned(), stamp.map(|(stamp, _)| stamp)));
    }

    fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        self.note(path);
        let bytes = file::read(path, self.left.min(MAX_KEYRING as u64))?;
        self.left -= bytes.len() as u64;
        Ok(bytes)
    }

    fn read_file(&mut self, path: &Path) -> Option<(String, Vec<u8>)> {
        match self.read(path) {
            Ok(bytes) => Some((path.display().to_string(), bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "left out");
                None
            }
        }
    }

    /// The files of a directory, in the order of their names.
    fn read_dir(&mut self, dir: &Path) -> Vec<(String, Vec<u8>)> {
        self.paths_of(dir).iter().filter_map(|path| self.read_file(path)).collect()
    }

    fn paths_of(&mut self, dir: &Path) -> Vec<PathBuf> {
        self.note(dir);
        let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
        let mut paths: Vec<_> =
            entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        paths.sort();
        paths.truncate(MAX_FILES);
        paths
    }
}

#[cfg(test)]
mod tests {
    use crate::archive::{
        NoKey, Verdict,
        testing::{Key, clear_signed, now},
    };

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
    fn what_is_no_plain_file_is_neither_waited_for_nor_read() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["sources.list.d", "trusted.gpg.d"] {
            fs::create_dir(at(folder)).unwrap();
        }
        for name in ["pipe.gpg", "trusted.gpg", "trusted.gpg.d/a.gpg"] {
            mknodat(CWD, at(name), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        }
        std::os::unix::fs::symlink("/dev/zero", at("trusted.gpg.d/b.gpg")).unwrap();
        let pipe = at("pipe.gpg");
        let list = format!(
            "deb [signed-by=/dev/zero] http://a.example.org sid main\n\
             deb [signed-by={}] http://b.example.org sid main\n",
            pipe.display()
        );
        fs::write(at("sources.list.d/a.list"), list).unwrap();
        let apt = Apt::load(dir.path().to_owned(), vec!["/dev/zero".into(), pipe], Proxies::default());
        assert_eq!(apt.trust().sources().iter().count(), 2);
        for host in ["a", "b"] {
            let at = Location::parse(&format!("http://{host}.example.org/dists/sid/InRelease")).unwrap();
            let verdict = apt.trust().verify_inrelease(&at, b"", true, now());
            assert!(matches!(verdict, Verdict::Unverifiable(NoKey::NoKeyring)), "{verdict:?}");
        }
        mknodat(CWD, at("sources.list"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert!(apt.reload());
    }

    #[test]
    fn only_what_changed_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let (list, keys, key) =
            (dir.path().join("sources.list"), dir.path().join("trusted.gpg.d"), dir.path().join("key.gpg"));
        let long_ago = |path: &Path| {
            let then = SystemTime::now() - Duration::from_secs(3600);
            fs::File::open(path).unwrap().set_modified(then).unwrap();
        };
        fs::create_dir(&keys).unwrap();
        fs::write(&list, format!("deb [signed-by={}] http://a.example.org sid main\n", key.display())).unwrap();
        let apt = Apt::load(dir.path().to_owned(), Vec::new(), Proxies::default());
        assert!(apt.reload(), "what was written a moment ago may have changed since");
        for path in [&list, &keys] {
            long_ago(path);
        }
        assert!(apt.reload());
        assert!(!apt.reload());
        // A file that was missing; one in a directory; one that is written to; one that goes.
        let changes: [&dyn Fn(); 4] = [
            &|| fs::write(&key, Key::new().binary()).unwrap(),
            &|| {
                fs::write(keys.join("a.gpg"), Key::new().binary()).unwrap();
                long_ago(&keys.join("a.gpg"));
                long_ago(&keys);
            },
            &|| fs::write(&list, "deb http://b.example.org sid main\n").unwrap(),
            &|| fs::remove_file(&list).unwrap(),
        ];
        for (number, change) in changes.iter().enumerate() {
            change();
            [&key, &list].into_iter().filter(|path| path.exists()).for_each(|path| long_ago(path));
            assert!(apt.reload(), "{number}");
            assert!(!apt.reload(), "{number}");
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
