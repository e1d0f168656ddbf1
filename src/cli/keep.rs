//! `apt-huddle gc`, `pin`, `unpin`, `list`, `verify`, `import`: what the daemon holds, seen and decided from a terminal.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    config::Config,
    status::{
        keeping::{self, Checked, Damage, Object, Objects, PATHS_MAX, Rubbish, Taken},
        words,
    },
};

use super::{Failure, Outcome, client, text::Text, understood};

/// How a bar looks; 80 columns hold it.
const BAR: &str = "{msg} [{bar:30}] {percent:>3} %  {eta_precise} left";
/// Bytes of a request line at most, unless a single path is longer.
const REQUEST: usize = 6 * 1024;
/// Lines that take a bar's place where nobody looks at a terminal.
const LINES: u64 = 10;

/// What is to be done with the files that the running daemon holds.
#[derive(Debug, Subcommand)]
pub enum Tool {
    /// List the files that the daemon holds, those that would go first before others.
    List {
        /// Print the daemon's answer as it is.
        #[arg(long)]
        json: bool,
    },
    /// Keep files whatever room is needed.
    Pin {
        /// A SHA-256, a path or the end of one, or the name of a package: every version of it that is held.
        #[arg(value_name = "SHA256|PATH|PACKAGE")]
        which: String,
    },
    /// Keep files no longer than others.
    Unpin {
        /// As for `pin`.
        #[arg(value_name = "SHA256|PATH|PACKAGE")]
        which: String,
    },
    /// Give up superseded files and what interrupted downloads left.
    Gc {
        /// Only say what would go.
        #[arg(long)]
        dry_run: bool,
    },
    /// Hash all files that the daemon holds; what is damaged is set aside.
    Verify {
        /// Fetch again what is damaged.
        #[arg(long)]
        repair: bool,
    },
    /// Take in files of this host: packages, folders of them, apt's archive, a mirror's tree.
    Import {
        /// Files and folders; the daemon must be able to read them.
        #[arg(value_name = "PATH", required = true)]
        paths: Vec<PathBuf>,
        /// Keep those for which no signed index vouches as well; they are given to nobody.
        #[arg(long)]
        private: bool,
    },
}

/// Does it.
pub fn run(config: &Config, tool: &Tool) -> Result<Outcome, Failure> {
    match tool {
        Tool::List { json } => list(config, *json),
        Tool::Pin { which } => pin(config, "pin", which),
        Tool::Unpin { which } => pin(config, "unpin", which),
        Tool::Gc { dry_run } => collect(config, *dry_run),
        Tool::Verify { repair } => verify(config, *repair),
        Tool::Import { paths, private } => import(config, paths, *private),
    }
}

fn list(config: &Config, json: bool) -> Result<Outcome, Failure> {
    let reply = client::get(&config.proxy.listen, "/api/v1/objects")?;
    let answer: Objects = understood(&reply)?;
    let text = if json { reply.as_is() } else { table(&answer.objects) };
    Ok(Outcome { text, good: true })
}

fn pin(config: &Config, what: &str, which: &str) -> Result<Outcome, Failure> {
    let which = percent_encoding::utf8_percent_encode(which, percent_encoding::NON_ALPHANUMERIC);
    let reply = client::post(&config.proxy.listen, &format!("/api/v1/{what}?q={which}"))?;
    let Objects { objects } = understood(&reply)?;
    let text = if objects.is_empty() { "Nothing that is held is called that.\n".to_owned() } else { table(&objects) };
    Ok(Outcome { text, good: !objects.is_empty() })
}

fn collect(config: &Config, dry_run: bool) -> Result<Outcome, Failure> {
    let target = if dry_run { "/api/v1/gc?dry_run" } else { "/api/v1/gc" };
    let Rubbish { files, bytes, leftovers, left } = understood(&client::post(&config.proxy.listen, target)?)?;
    let mut text = Text::default();
    text.line(if dry_run { "Would go:" } else { "Gone:" });
    text.item("superseded", [format!("{}, {}", words::files(files as u64), words::size(bytes)).as_str()]);
    text.item("interrupted", [format!("{}, {}", words::files(leftovers as u64), words::size(left)).as_str()]);
    Ok(Outcome { text: text.into_string(), good: true })
}

/// Goes through all, part by part.
fn verify(config: &Config, repair: bool) -> Result<Outcome, Failure> {
    let (mut after, mut files, mut bytes, mut damaged) = (None::<String>, 0, 0, Vec::new());
    let mut progress = Progress::new("verifying");
    loop {
        let mut target = "/api/v1/verify?".to_owned();
        after.iter().for_each(|after| target += &format!("after={after}&"));
        target += if repair { "repair" } else { "" };
        let part: Checked = understood(&client::post(&config.proxy.listen, &target)?)?;
        files += part.files;
        bytes += part.bytes;
        damaged.extend(part.damaged);
        progress.at(bytes, part.of_bytes.max(bytes));
        if part.last.is_none() || part.last <= after {
            break;
        }
        after = part.last;
    }
    progress.end();
    Ok(verified(files, bytes, &damaged))
}

fn verified(files: usize, bytes: u64, damaged: &[Damage]) -> Outcome {
    let mut text = Text::default();
    text.line(&format!("Verified {}, {}.", words::files(files as u64), words::size(bytes)));
    for damage in damaged {
        let what = if damage.repaired { "repaired" } else { "damaged" };
        text.item(what, [damage.sha256.as_str(), damage.from.as_deref().unwrap_or_default()]);
    }
    Outcome { text: text.into_string(), good: damaged.iter().all(|damage| damage.repaired) }
}

fn import(config: &Config, paths: &[PathBuf], private: bool) -> Result<Outcome, Failure> {
    let mut files = Vec::new();
    for path in paths {
        let named = |error| Failure::Question(format!("{}: {error}", path.display()));
        gather(path.canonicalize().map_err(named)?, &mut files).map_err(named)?;
    }
    let mut progress = Progress::new("importing");
    let mut counts: Vec<(String, usize)> = Vec::new();
    let (mut done, all) = (0, files.len() as u64);
    let mut left = files.as_slice();
    while !left.is_empty() {
        let (batch, target) = batch(left, private);
        left = &left[batch..];
        let taken: Taken = understood(&client::post(&config.proxy.listen, &target)?)?;
        for file in &taken.files {
            let what = keeping::became(*file);
            match counts.iter_mut().find(|(known, _)| *known == what) {
                Some((_, count)) => *count += 1,
                None => counts.push((what, 1)),
            }
        }
        done += batch as u64;
        progress.at(done, all);
    }
    progress.end();
    counts.sort();
    let mut text = Text::default();
    text.line(&format!("Looked at {}.", words::files(all)));
    for (what, count) in counts {
        text.item(&words::count(count as u64), [what.as_str()]);
    }
    Ok(Outcome { text: text.into_string(), good: true })
}

/// As many of these files as go into one request, at least one, and that request.
fn batch(files: &[PathBuf], private: bool) -> (usize, String) {
    let mut target = "/api/v1/import?".to_owned() + if private { "private" } else { "" };
    let mut count = 0;
    for path in files.iter().take(PATHS_MAX) {
        let path = percent_encoding::percent_encode(path.as_os_str().as_bytes(), percent_encoding::NON_ALPHANUMERIC);
        let pair = format!("&path={path}");
        if count > 0 && target.len() + pair.len() > REQUEST {
            break;
        }
        target += &pair;
        count += 1;
    }
    (count, target)
}

/// Every plain file below a path; links are not followed.
fn gather(path: PathBuf, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let kind = fs::symlink_metadata(&path)?.file_type();
    if kind.is_dir() {
        let mut below = fs::read_dir(&path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        below.sort();
        below.into_iter().try_for_each(|path| gather(path, files))?;
    } else if kind.is_file() {
        files.push(path);
    }
    Ok(())
}

fn table(objects: &[Object]) -> String {
    let mut text = Text::default();
    for object in objects {
        let role = serde_json::to_value(object.role).unwrap_or_default();
        let mut words = vec![words::size(object.size), role.as_str().unwrap_or_default().to_owned()];
        words.extend(object.pinned.then(|| "pinned".to_owned()));
        words.extend((!object.proven).then(|| "to be proven".to_owned()));
        text.line(object.path.as_deref().unwrap_or("(a file that was found)"));
        text.item("", [object.sha256.as_str(), words.join(", ").as_str()]);
    }
    let bytes = objects.iter().map(|object| object.size).sum();
    text.line(&format!("{}, {}", words::files(objects.len() as u64), words::size(bytes)));
    text.into_string()
}

/// How far something is: a bar where somebody looks at it, some lines where not.
struct Progress {
    what: &'static str,
    bar: Option<ProgressBar>,
    told: u64,
}

impl Progress {
    fn new(what: &'static str) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(BAR).expect("the template is one");
            ProgressBar::new(0).with_style(style).with_message(what)
        });
        Self { what, bar, told: 0 }
    }

    fn at(&mut self, done: u64, all: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(all);
            bar.set_position(done);
            return;
        }
        let tenths = (done * LINES).checked_div(all).unwrap_or(LINES);
        if tenths > self.told {
            self.told = tenths;
            // Nobody need listen.
            let _closed = writeln!(io::stderr(), "{} {} %", self.what, tenths * 100 / LINES);
        }
    }

    fn end(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Role;

    #[test]
    fn files_are_listed_in_80_columns_and_a_hostile_name_is_only_text() {
        let object = |path: Option<&str>| Object {
            sha256: "0123456789abcdef".repeat(4),
            size: 123_456,
            role: Role::Superseded,
            pinned: true,
            proven: false,
            unused_for: 7,
            repository: None,
            path: path.map(str::to_owned),
        };
        let long = format!("pool/{}/\u{1b}[31mred\n_1_all.deb", "a".repeat(90));
        let text = table(&[object(Some(&long)), object(None)]);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(!text.contains('\u{1b}') && text.contains("superseded, pinned, to be proven"), "{text}");
        assert!(text.ends_with("2 files, 247 kB\n"), "{text}");
    }

    #[test]
    fn a_verification_is_good_when_nothing_is_left_damaged() {
        let damage = |repaired| Damage { sha256: "00".repeat(32), from: Some("pool/a.deb".into()), repaired };
        assert!(verified(3, 1000, &[]).good);
        assert!(verified(3, 1000, &[damage(true)]).good);
        let bad = verified(3, 1000, &[damage(true), damage(false)]);
        assert!(!bad.good && bad.text.contains("repaired") && bad.text.contains("damaged"), "{}", bad.text);
    }

    #[test]
    fn requests_are_filled_with_paths_and_a_long_one_goes_alone() {
        let paths: Vec<_> =
            [10, 3000, 2000, 5000, 10].map(|length| PathBuf::from(format!("/{}", "a".repeat(length)))).into();
        let mut left = paths.as_slice();
        let mut counts = Vec::new();
        while !left.is_empty() {
            let (count, target) = batch(left, true);
            assert!(count == 1 || target.len() <= REQUEST, "{}", target.len());
            assert!(target.starts_with("/api/v1/import?private&path=%2Faaaaa"));
            counts.push(count);
            left = &left[count..];
        }
        assert_eq!(counts, [3, 2]);
        assert_eq!(batch(&vec![PathBuf::from("/a"); 200], false).0, PATHS_MAX);
    }

    #[test]
    fn folders_are_gone_through_and_links_are_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        for name in ["a/b/two", "a/one"] {
            fs::OpenOptions::new().write(true).create_new(true).open(dir.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink("/", dir.path().join("a/root")).unwrap();
        let mut files = Vec::new();
        gather(dir.path().to_owned(), &mut files).unwrap();
        assert_eq!(files, ["a/b/two", "a/one"].map(|name| dir.path().join(name)));
        assert!(gather(dir.path().join("none"), &mut files).is_err());
    }
}
