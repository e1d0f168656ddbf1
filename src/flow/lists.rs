//! apt's own lists: what this machine's apt fetched without the proxy is known too, with the same proof.
//!
//! ```text
//!  /var/lib/apt/lists/
//!    mirror.example.org_debian_dists_bookworm_InRelease                            the signed Release: judged as if it came by
//!    mirror.example.org_debian_dists_bookworm_main_binary-amd64_Packages.lz4       one of its indexes: hashed, then read
//! ```
//!
//! An index that apt packed anew is not one of the files that its Release lists; what it unpacks to is. What lies here is
//! apt's, and it has shown what was wrong with it already: whatever cannot be learned from is left alone without a word.
//!
//! **Privacy.** A list does not say whether it was fetched with a password. So only those of sources are learned that show
//! none, on hosts that apt's files of passwords are known not to name.
#![expect(clippy::disallowed_methods, reason = "the door to apt's lists, and the task that follows them")]

mod name;
mod passwords;

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::fs::OFlags;

use crate::{
    archive::{
        Compression, Location, MAX_RELEASE, MAX_UNPACKED, Release, Trust, Verdict, Vouched, decompress, index_kind,
    },
    hash::{Expected, Hasher},
    store::Recorded,
};

use super::{Flow, index::Underway, read::read};

use passwords::Passwords;

/// How often the directory is looked at: one listing of some ten names.
const EVERY: Duration = Duration::from_secs(5);

/// Files that are looked at; machines with many sources have some hundred.
const MAX_FILES: usize = 10_000;

/// What tells one state of a file from the next.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    name: String,
    size: u64,
    inode: u64,
    modified: (i64, i64),
}

/// The lists of one suite.
struct Suite {
    release: Location,
    /// The file that holds the Release.
    file: String,
    /// That one, and the indexes.
    files: Vec<Stamp>,
}

impl Flow {
    /// Learns apt's lists in a directory, and again what changes there, until it is dropped. Questions about what is there
    /// already wait for the first round, however early they come.
    pub fn follow_lists(&self, dir: PathBuf) -> impl Future<Output = ()> + Send + 'static {
        let flow = self.clone();
        let mut first = flow.find_lists(&dir);
        let mut underway: Vec<_> = first.iter().filter_map(|suite| flow.begin_with(suite)).collect();
        async move {
            let mut learned: HashMap<String, Vec<Stamp>> = HashMap::new();
            loop {
                learned.retain(|file, files| first.iter().any(|suite| suite.file == *file && suite.files == *files));
                let due: Vec<_> = first.into_iter().filter(|suite| !learned.contains_key(&suite.file)).collect();
                if !due.is_empty() {
                    flow.reload_apt().await;
                }
                for suite in due {
                    if flow.learn_suite(&dir, &suite).await {
                        learned.insert(suite.file, suite.files);
                    }
                }
                underway.clear();
                tokio::time::sleep(EVERY).await;
                let (flow, dir) = (flow.clone(), dir.clone());
                let found = tokio::task::spawn_blocking(move || flow.find_lists(&dir)).await;
                first = found.expect("looking does not panic");
            }
        }
    }

    fn begin_with(&self, suite: &Suite) -> Option<Underway> {
        let (repository, _) = self.shared.rules.apt.trust().sources().place(&suite.release)?;
        Some(self.begin_learning(&repository))
    }

    /// The suites of which there are lists.
    fn find_lists(&self, dir: &Path) -> Vec<Suite> {
        let mut stamps = stamps(dir);
        stamps.sort_by(|a, b| a.name.cmp(&b.name));
        let suite = |release: &Stamp| {
            let prefix = name::of_release(&release.name)?;
            // A text with its signature beside it counts only where there is none with the signature inside.
            let is_second = release.name.ends_with("_Release")
                && stamps.iter().any(|other| other.name == format!("{prefix}InRelease"));
            let at = self.located(&release.name).filter(|_| !is_second)?;
            let files = stamps.iter().filter(|stamp| stamp.name.starts_with(prefix)).cloned().collect();
            Some(Suite { release: at, file: release.name.clone(), files })
        };
        stamps.iter().filter_map(suite).collect()
    }

    /// The origin of a list, also of one that was fetched through this proxy.
    fn located(&self, name: &str) -> Option<Location> {
        let at = name::location(name)?;
        self.shared.rules.apt.origin_of(at)
    }

    /// Learns a suite, and says whether it was judged: what cannot be judged now is tried again.
    async fn learn_suite(&self, dir: &Path, suite: &Suite) -> bool {
        let (flow, at) = (self.clone(), suite.release.clone());
        let left_alone = tokio::task::spawn_blocking(move || flow.left_alone(&at));
        if let Some(reason) = left_alone.await.expect("reading does not panic") {
            tracing::info!(at = %suite.release, reason, "apt's lists are left alone");
            return true;
        }
        let Some(shareable) = self.is_shareable(&suite.release).await else { return false };
        let (flow, path, at, file) = (self.clone(), dir.to_owned(), suite.release.clone(), suite.file.clone());
        let trust = self.shared.rules.apt.trust();
        let release = tokio::task::spawn_blocking(move || judged(&trust, &path.join(file), &at, shareable)).await;
        let Some(release) = release.expect("judging does not panic") else { return true };
        let indexes: Vec<_> = suite.files.iter().filter_map(|stamp| flow.index_in(&release, &stamp.name)).collect();
        let underway = self.begin_learning(release.repository());
        match flow.record(&suite.release, release).await {
            Ok(Recorded::New | Recorded::Same) => {}
            Ok(Recorded::Older) => {
                tracing::info!(at = %suite.release, "apt's lists are older than what is known");
                return true;
            }
            Ok(Recorded::Nested) => return true,
            Err(error) => {
                tracing::debug!(at = %suite.release, %error, "apt's list not recorded");
                return false;
            }
        }
        let dir = dir.to_owned();
        let learning = tokio::task::spawn_blocking(move || {
            for found in indexes {
                flow.learn_list(&dir, &found);
            }
            drop(underway);
            flow.tidy();
        });
        learning.await.expect("learning does not panic");
        true
    }

    /// apt's sources and keys may have come with the lists.
    async fn reload_apt(&self) {
        let apt = self.shared.rules.apt.clone();
        tokio::task::spawn_blocking(move || apt.reload()).await.expect("reading does not panic");
    }

    /// Why a suite is not even looked at.
    fn left_alone(&self, at: &Location) -> Option<&'static str> {
        let apt = &self.shared.rules.apt;
        let trust = apt.trust();
        let mut sources = trust.sources().iter().filter(|source| source.base.authority() == at.authority()).peekable();
        if sources.peek().is_none() {
            return Some("they are of none of apt's sources");
        }
        if sources.any(|source| source.base.credentials().is_some()) || Passwords::read(apt.dir()).may_be_for(at) {
            return Some("their source may need a password");
        }
        None
    }

    /// Whether what is learned from there may be named to strangers; `None` while its host does not resolve.
    async fn is_shareable(&self, at: &Location) -> Option<bool> {
        let shareable = |global| self.shared.rules.privacy.shareable(at, global);
        if shareable(true) == shareable(false) {
            return Some(shareable(false));
        }
        self.shared.stations.mirror.resolves_global(at).await.map(shareable)
    }

    /// What a file is expected to be, if it is an index that the Release lists and that is read here.
    fn index_in(&self, release: &Release, name: &str) -> Option<Found> {
        let path = release.repository().path_of(&self.located(name)?)?;
        let (plain, compression) = Compression::of(&path);
        index_kind(plain)?;
        let (packed, plain) = (release.vouch(&path), release.vouch(plain));
        Some(Found { name: name.to_owned(), compression, packed, plain })
    }

    fn learn_list(&self, dir: &Path, found: &Found) {
        let store = &self.shared.stations.store;
        let is_known =
            |index: &Option<Vouched>| index.as_ref().is_some_and(|index| store.learned(index).is_ok_and(|known| known));
        if is_known(&found.packed) || is_known(&found.plain) {
            return;
        }
        let path = dir.join(&found.name);
        let learned = open(&path).and_then(|mut file| {
            let Some(index) = found.proven(&mut file)? else { return Ok(None) };
            file.rewind()?;
            read(store, index, found.compression, file).map(Some).map_err(io::Error::other)
        });
        match learned {
            Ok(Some(0)) => {}
            Ok(Some(files)) => tracing::info!(path = found.name, files, "learned from apt's lists"),
            Ok(None) => tracing::debug!(path = found.name, "apt's list is not what its Release says"),
            Err(error) => tracing::debug!(path = found.name, %error, "apt's list not learned"),
        }
    }
}

/// An index among the lists, and what its Release says of its bytes as they are, and of what they unpack to.
struct Found {
    name: String,
    compression: Compression,
    packed: Option<Vouched>,
    plain: Option<Vouched>,
}

impl Found {
    /// Hashes the file, and says which of the two it is.
    fn proven(&self, file: &mut File) -> io::Result<Option<&Vouched>> {
        let size = file.metadata()?.len();
        if let Some(packed) = self.packed.as_ref().filter(|packed| packed.expected().size == size)
            && is_whole(BufReader::new(&mut *file), packed.expected())?
        {
            return Ok(Some(packed));
        }
        let Some(plain) = self.plain.as_ref().filter(|plain| plain.expected().size <= MAX_UNPACKED) else {
            return Ok(None);
        };
        file.rewind()?;
        let unpacked = decompress(self.compression, BufReader::new(file), plain.expected().size)?;
        Ok(is_whole(unpacked, plain.expected())?.then_some(plain))
    }
}

fn is_whole(mut bytes: impl BufRead, expected: &Expected) -> io::Result<bool> {
    let mut hasher = Hasher::new(expected);
    loop {
        let chunk = bytes.fill_buf()?;
        if chunk.is_empty() {
            return Ok(hasher.finish().is_ok());
        }
        hasher.update(chunk);
        let length = chunk.len();
        bytes.consume(length);
    }
}

/// Checks a Release as it lies in a file, with its signature inside or beside it.
fn judged(trust: &Trust, file: &Path, at: &Location, shareable: bool) -> Option<Release> {
    let (text, now) = (read_whole(file)?, SystemTime::now());
    let verdict = match at.file_name() {
        "InRelease" => trust.verify_inrelease(at, &text, shareable, now),
        _ => {
            let mut signature = file.as_os_str().to_owned();
            signature.push(".gpg");
            trust.verify_detached(at, &text, &read_whole(Path::new(&signature))?, shareable, now)
        }
    };
    if !matches!(verdict, Verdict::Verified(_)) {
        tracing::debug!(%at, ?verdict, "apt's list is not learned from");
    }
    verdict.verified()
}

fn read_whole(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = open(path).and_then(|file| file.take(MAX_RELEASE as u64 + 1).read_to_end(&mut bytes));
    read.inspect_err(|error| tracing::debug!(path = %path.display(), %error, "apt's list not read")).ok()?;
    Some(bytes)
}

/// Opens a plain file and nothing else: what is no file is not waited for.
fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// The plain files of a directory; none when it cannot be read.
fn stamps(dir: &Path) -> Vec<Stamp> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let stamp = |entry: fs::DirEntry| {
        let (name, data) = (entry.file_name().into_string().ok()?, entry.metadata().ok()?);
        let modified = (data.mtime(), data.mtime_nsec());
        data.is_file().then(|| Stamp { name, size: data.len(), inode: data.ino(), modified })
    };
    entries.filter_map(Result::ok).take(MAX_FILES).filter_map(stamp).collect()
}
