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

mod followed;
mod name;
mod passwords;

use std::{
    collections::HashMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use crate::{
    archive::{Compression, Location, MAX_RELEASE, Release, Trust, Verdict, Vouched, index_kind},
    store::{Recorded, Store},
};

use super::{
    Flow,
    file::{Stamp, open_unlinked},
    index::Underway,
    read::{Unread, read_unproven},
};

use followed::Followed;
use passwords::Passwords;

/// How often the directory is looked at: one listing of some ten names.
const EVERY: Duration = Duration::from_secs(5);

/// Files that are looked at; machines with many sources have some hundred.
const MAX_FILES: usize = 10_000;

/// A file among the lists.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    name: String,
    stamp: Stamp,
}

/// The lists of one suite.
struct Suite {
    release: Location,
    /// The file that holds the Release.
    file: String,
    /// That one, and the indexes.
    files: Vec<Listed>,
}

impl Flow {
    /// Learns apt's lists in a directory, and again what changes there, until it is dropped. Questions about what is there
    /// already wait for the first round, however early they come: each until its own suites were looked at.
    pub fn follow_lists(&self, dir: PathBuf) -> impl Future<Output = ()> + Send + 'static {
        let flow = self.clone();
        let mut found = flow.find_lists(&dir);
        let mut underway: HashMap<String, Underway> =
            found.iter().filter_map(|suite| Some((suite.file.clone(), flow.begin_with(suite)?))).collect();
        async move {
            let mut followed = Followed::default();
            loop {
                let due = followed.due(found, Instant::now());
                if !due.is_empty() {
                    flow.reload_apt().await;
                }
                for suite in due {
                    let is_judged = flow.learn_suite(&dir, &suite).await;
                    underway.remove(&suite.file);
                    followed.note(suite, is_judged, Instant::now());
                }
                tokio::time::sleep(EVERY).await;
                let (flow, dir) = (flow.clone(), dir.clone());
                let looked = tokio::task::spawn_blocking(move || flow.find_lists(&dir)).await;
                found = looked.expect("looking does not panic");
            }
        }
    }

    fn begin_with(&self, suite: &Suite) -> Option<Underway> {
        let (repository, _) = self.shared.rules.apt.trust().sources().place(&suite.release)?;
        Some(self.begin_learning(&repository))
    }

    /// The suites of which there are lists.
    fn find_lists(&self, dir: &Path) -> Vec<Suite> {
        let mut lists = lists(dir);
        lists.sort_by(|a, b| a.name.cmp(&b.name));
        let suite = |release: &Listed| {
            let prefix = name::of_release(&release.name)?;
            // A text with its signature beside it counts only where there is none with the signature inside.
            let is_second = release.name.ends_with("_Release")
                && lists.iter().any(|other| other.name == format!("{prefix}InRelease"));
            let at = self.located(&release.name).filter(|_| !is_second)?;
            let files = lists.iter().filter(|list| list.name.starts_with(prefix)).cloned().collect();
            Some(Suite { release: at, file: release.name.clone(), files })
        };
        lists.iter().filter_map(suite).collect()
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
        let indexes: Vec<_> = suite.files.iter().filter_map(|list| flow.index_in(&release, &list.name)).collect();
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
        match found.learn(store, &dir.join(&found.name)) {
            Ok(0) => {}
            Ok(files) => tracing::info!(path = found.name, files, "learned from apt's lists"),
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
    /// Learns the index, when its bytes or what they unpack to are what the Release says.
    fn learn(&self, store: &Store, path: &Path) -> Result<usize, Unread> {
        let size = fs::symlink_metadata(path)?.len();
        let packed = self.packed.as_ref().filter(|packed| packed.expected().size == size);
        let mut learned = Err(Unread::Unproven);
        for index in packed.into_iter().chain(&self.plain) {
            learned = read_unproven(store, index, self.compression, open_unlinked(path)?);
            if learned.is_ok() {
                break;
            }
        }
        learned
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
    let read = open_unlinked(path).and_then(|file| file.take(MAX_RELEASE as u64 + 1).read_to_end(&mut bytes));
    read.inspect_err(|error| tracing::debug!(path = %path.display(), %error, "apt's list not read")).ok()?;
    Some(bytes)
}

/// The plain files of a directory; none when it cannot be read.
fn lists(dir: &Path) -> Vec<Listed> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let listed = |entry: fs::DirEntry| {
        let (name, data) = (entry.file_name().into_string().ok()?, entry.metadata().ok()?);
        data.is_file().then(|| Listed { name, stamp: Stamp::of(&data) })
    };
    entries.filter_map(Result::ok).take(MAX_FILES).filter_map(listed).collect()
}
