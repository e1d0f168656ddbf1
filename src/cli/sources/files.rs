//! The files of apt's sources: read as apt reads them, replaced whole or not at all, and brought back.
//!
//! ```text
//!  sources.list.d/debian.sources                          what apt reads
//!  sources.list.d/debian.sources.apt-huddle.save          what it was before: apt passes by what ends with `.save`
//!  sources.list.d/.debian.sources.apt-huddle.new          what it is to be, for a moment
//! ```
//!
//! A new file has the owner, group and permissions of the old one, and takes its place by a rename. What it was before is
//! the old file itself, with its times, where the file system can have it under a second name.
#![expect(clippy::disallowed_methods, reason = "the command line's door to apt's sources")]

use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use super::spots::Style;

/// What the name of a file ends with that was rewritten, and keeps what it was before.
const SAVED: &str = ".apt-huddle.save";
/// Files read of one directory at most, and bytes of each.
const MAX_FILES: usize = 1000;
const MAX_BYTES: u64 = 4 << 20;

/// A file of sources.
#[derive(Debug)]
pub struct Listed {
    /// Where it is.
    pub path: PathBuf,
    /// How it is written.
    pub style: Style,
    /// What stands in it, or why that is not known.
    pub text: Result<String, String>,
}

/// All files that apt reads sources from, in its order.
pub fn listed(apt_dir: &Path) -> io::Result<Vec<Listed>> {
    let mut paths = parts(&apt_dir.join("sources.list.d"))?;
    paths.insert(0, apt_dir.join("sources.list"));
    let listed = paths.into_iter().filter_map(|path| {
        let style = Style::of(&path.file_name()?.to_string_lossy())?;
        match read_plain(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            text => Some(Listed { text: text.map_err(|error| told(&error)), path, style }),
        }
    });
    Ok(listed.collect())
}

/// The texts of a file and of the directory beside it whose name ends with `.d`, as far as they can be read; the second
/// is false when some of it cannot be.
pub fn texts(file: &Path) -> (Vec<String>, bool) {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".d");
    let (mut paths, mut is_all) = match parts(Path::new(&beside)) {
        Ok(paths) => (paths, true),
        Err(_) => (Vec::new(), false),
    };
    paths.insert(0, file.to_owned());
    let mut texts = Vec::new();
    for path in paths {
        match read(&path) {
            Ok(text) => texts.push(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => is_all = false,
        }
    }
    (texts, is_all)
}

/// The files of a directory whose names apt does not pass by, in the order of the names; none where there is no directory.
fn parts(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let is_read = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        !name.starts_with('.') && name.bytes().all(is_plain) && path.is_file()
    };
    let mut paths: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).filter(is_read).collect();
    paths.sort();
    if paths.len() > MAX_FILES { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(paths) }
}

/// Reads a file that is to be replaced: a rename would put an end to a link.
fn read_plain(path: &Path) -> io::Result<String> {
    if fs::symlink_metadata(path)?.is_symlink() {
        return Err(io::Error::other("it is a link; name what it leads to in its place"));
    }
    read(path)
}

fn read(path: &Path) -> io::Result<String> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
}

/// Where what a file was before is kept.
pub fn saved(path: &Path) -> PathBuf {
    beside(path, "", SAVED)
}

/// What a file was before, if that is kept.
pub fn before(path: &Path) -> Option<String> {
    read_plain(&saved(path)).ok()
}

/// The files that were rewritten and are gone since, with what they were before still kept.
pub fn orphans(apt_dir: &Path) -> Vec<PathBuf> {
    let mut paths = parts(&apt_dir.join("sources.list.d")).unwrap_or_default();
    paths.push(saved(&apt_dir.join("sources.list")));
    let gone = |path: PathBuf| {
        let of = path.with_file_name(path.file_name()?.to_str()?.strip_suffix(SAVED)?);
        (path.exists() && !of.exists()).then_some(path)
    };
    paths.into_iter().filter_map(gone).collect()
}

/// Replaces a file, and keeps `before` of it.
pub fn replace(path: &Path, text: &str, before: &str) -> Result<(), String> {
    replace_or_fail(path, text, Some(before)).map_err(|error| told(&error))
}

/// Replaces a file, and leaves alone what is kept of an earlier time.
pub fn correct(path: &Path, text: &str) -> Result<(), String> {
    replace_or_fail(path, text, None).map_err(|error| told(&error))
}

fn replace_or_fail(path: &Path, text: &str, before: Option<&str>) -> io::Result<()> {
    let old = fs::symlink_metadata(path)?;
    let new = beside(path, ".", ".apt-huddle.new");
    write_like(&new, text, &old)?;
    if let Some(before) = before {
        keep(path, before, &old).inspect_err(|_| discard(&new))?;
    }
    fs::rename(&new, path).inspect_err(|_| discard(&new))?;
    sync_dir(path)
}

/// Puts what a file was before beside it.
fn keep(path: &Path, before: &str, old: &Metadata) -> io::Result<()> {
    let (saved, new) = (saved(path), beside(path, ".", ".apt-huddle.old"));
    discard(&new);
    let is_itself = read(path)? == before;
    if !is_itself || fs::hard_link(path, &new).is_err() {
        write_like(&new, before, old)?;
        if is_itself {
            File::open(&new)?.set_modified(old.modified()?)?;
        }
    }
    let renamed = fs::rename(&new, &saved);
    // It is still there when both were names of one file before.
    discard(&new);
    renamed
}

/// Brings back the file itself that is kept.
pub fn bring_back(path: &Path) -> Result<(), String> {
    let saved = saved(path);
    let renamed = fs::rename(&saved, path).and_then(|()| {
        discard(&saved);
        sync_dir(path)
    });
    renamed.map_err(|error| told(&error))
}

/// Makes a file with the owner and permissions of another one.
fn write_like(path: &Path, text: &str, like: &Metadata) -> io::Result<()> {
    discard(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = (|| {
        file.write_all(text.as_bytes())?;
        let made = file.metadata()?;
        if (made.uid(), made.gid()) != (like.uid(), like.gid()) {
            fchown(&file, Some(like.uid()), Some(like.gid()))?;
        }
        file.set_permissions(Permissions::from_mode(like.mode() & 0o7777))?;
        file.sync_all()
    })();
    written.inspect_err(|_| discard(path))
}

fn discard(path: &Path) {
    let _none = fs::remove_file(path);
}

fn beside(path: &Path, start: &str, end: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{start}{name}{end}"))
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

fn told(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "permission denied: it takes root".to_owned(),
        io::ErrorKind::ReadOnlyFilesystem => "its file system is mounted read-only".to_owned(),
        io::ErrorKind::InvalidData => "it is no text in UTF-8".to_owned(),
        io::ErrorKind::FileTooLarge => "it is larger than any list of sources".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sources.list.d")).unwrap();
        let path = dir.path().join("sources.list.d/a.sources");
        (dir, path)
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_with_its_permissions_and_comes_back_itself() {
        let (_dir, path) = place();
        fs::write(&path, "before").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let was = fs::metadata(&path).unwrap();
        replace(&path, "after", "before").unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), before(&path).as_deref()), ("after", Some("before")));
        let is = fs::metadata(&path).unwrap();
        assert_eq!((is.mode(), is.uid(), is.gid()), (was.mode(), was.uid(), was.gid()));
        // A second time, on top of what is kept.
        replace(&path, "later", "before").unwrap();
        assert_eq!(before(&path).as_deref(), Some("before"));
        assert_eq!(names(path.parent().unwrap()), ["a.sources", "a.sources.apt-huddle.save"]);
        bring_back(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        assert_eq!(names(path.parent().unwrap()), ["a.sources"]);
    }

    #[test]
    fn the_kept_file_is_the_old_one_with_its_times() {
        let (_dir, path) = place();
        fs::write(&path, "before").unwrap();
        let was = fs::metadata(&path).unwrap();
        replace(&path, "after", "before").unwrap();
        bring_back(&path).unwrap();
        let is = fs::metadata(&path).unwrap();
        assert_eq!((is.ino(), is.mtime(), is.mtime_nsec()), (was.ino(), was.mtime(), was.mtime_nsec()));
    }

    #[test]
    fn a_stop_before_the_last_step_leaves_two_names_of_one_file_and_does_no_harm() {
        let (_dir, path) = place();
        fs::write(&path, "before").unwrap();
        keep(&path, "before", &fs::metadata(&path).unwrap()).unwrap();
        fs::write(path.with_file_name(".a.sources.apt-huddle.new"), "half").unwrap();
        replace(&path, "after", "before").unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), before(&path).as_deref()), ("after", Some("before")));
        bring_back(&path).unwrap();
        keep(&path, "before", &fs::metadata(&path).unwrap()).unwrap();
        bring_back(&path).unwrap();
        assert_eq!(names(path.parent().unwrap()), ["a.sources"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
    }

    #[test]
    fn only_what_apt_reads_is_listed_and_in_its_order() {
        let (dir, path) = place();
        for name in ["b.list", "a.sources", "a.sources.apt-huddle.save", ".hidden.list", "no space.list", "c.list.bak"]
        {
            fs::write(path.with_file_name(name), name).unwrap();
        }
        fs::create_dir(path.with_file_name("folder.list")).unwrap();
        fs::write(dir.path().join("sources.list"), b"\xff").unwrap();
        std::os::unix::fs::symlink(&path, path.with_file_name("link.list")).unwrap();
        let listed = listed(dir.path()).unwrap();
        let told: Vec<_> =
            listed.iter().map(|file| (file.path.file_name().unwrap().to_str().unwrap(), file.text.is_ok())).collect();
        assert_eq!(told, [("sources.list", false), ("a.sources", true), ("b.list", true), ("link.list", false)]);
        assert!(orphans(dir.path()).is_empty());
        fs::remove_file(&path).unwrap();
        assert_eq!(orphans(dir.path()), [saved(&path)]);
    }

    #[test]
    fn texts_beside_a_file_are_read_and_what_cannot_be_is_noticed() {
        let (dir, _) = place();
        let file = dir.path().join("auth.conf");
        assert_eq!(texts(&file), (Vec::new(), true));
        fs::write(&file, "a").unwrap();
        fs::create_dir(dir.path().join("auth.conf.d")).unwrap();
        fs::write(dir.path().join("auth.conf.d/b.conf"), "b").unwrap();
        assert_eq!(texts(&file), (vec!["a".to_owned(), "b".to_owned()], true));
        fs::write(dir.path().join("auth.conf.d/c.conf"), b"\xff").unwrap();
        assert!(!texts(&file).1);
    }
}
