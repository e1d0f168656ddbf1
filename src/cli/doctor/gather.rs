//! The facts as they are found on this machine.
#![expect(clippy::disallowed_methods, reason = "the doctor's door to clock, files and disks")]

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::fs::{Access, access, statvfs};

use crate::{
    archive::{self, Surroundings, date},
    cli::{
        apt::{Route, Settings},
        sources,
    },
    config::{Config, ConfigError, Share},
    dht,
};

use super::facts::{Apt, Disk, Facts, Fault, Keyring, Release, Sharing};

/// Where the package's file for apt is set aside when the package is removed.
const SET_ASIDE: &str = "apt.conf.d/30apt-huddle.disabled";
/// Files looked at of one directory at most.
const MAX_FILES: usize = 10_000;
/// Bytes looked at for the date of a Release: its first fields.
const HEAD: usize = 16 << 10;

/// Looks at everything.
pub fn gather(config: Result<&Config, &ConfigError>, file: Option<&Path>) -> Facts {
    let defaults = Config::default();
    let (config, error) = match config {
        Ok(config) => (config, None),
        Err(error) => (&defaults, Some(error.to_string())),
    };
    let lists = &config.archive.lists;
    let releases = releases(lists);
    // What to do about it is the judge's to say.
    let daemon = super::super::report(config).map_err(|failure| failure.to_string());
    let daemon = daemon.map_err(|why| why.split("; ").next().unwrap_or_default().to_owned());
    Facts {
        now: seconds(Some(SystemTime::now())).unwrap_or_default(),
        file: file.map(Path::to_owned),
        bad_configuration: error,
        listen: config.proxy.listen.clone(),
        apt: apt(config),
        keyrings: keyrings(config),
        disk: disk(config, daemon.is_ok()),
        daemon,
        latest_write: latest_write(lists),
        lists_changed: lists_changed(lists),
        releases,
        sharing: match (config.dht.network, config.peer.share) {
            (dht::Network::Off, _) | (_, Share::Off) => Sharing::Off,
            (_, Share::Take) => Sharing::Take,
            (_, Share::All) => Sharing::All,
        },
    }
}

fn apt(config: &Config) -> Apt {
    let apt_dir = &config.archive.apt_dir;
    let set_aside = apt_dir.join(SET_ASIDE);
    let set_aside = (set_aside.exists() && !set_aside.with_extension("").exists()).then_some(set_aside);
    let settings = match Settings::load() {
        Ok(settings) => settings,
        Err(error) => return Apt { unknown: Some(format!("apt-config: {error}")), set_aside, ..Apt::default() },
    };
    let (sources, unclear) = sources::seen(config, &settings);
    let failure = sources.iter().find_map(|seen| match &seen.way {
        Some((Route::Fails { why, .. }, _)) => Some(why.clone()),
        _ => None,
    });
    let auto_detect = settings.auto_detect().map(str::to_owned);
    // A program that nobody was asked about may be missing all the same.
    let missing = auto_detect.as_deref().filter(|program| access(*program, Access::EXEC_OK).is_err());
    let auto_detect_failure = failure.or_else(|| missing.map(|_| "it is not there, or cannot be executed".to_owned()));
    Apt {
        unknown: None,
        auto_detect_files: auto_detect.as_deref().map(|program| naming(program, apt_dir)).unwrap_or_default(),
        auto_detect,
        auto_detect_failure,
        sources,
        unclear,
        set_aside,
    }
}

/// The files of apt's configuration that name a program.
fn naming(program: &str, apt_dir: &Path) -> Vec<PathBuf> {
    let mut paths = entries(&apt_dir.join("apt.conf.d"));
    paths.push(apt_dir.join("apt.conf"));
    paths.retain(|path| fs::read_to_string(path).is_ok_and(|text| text.contains(program)));
    paths.sort();
    paths
}

fn keyrings(config: &Config) -> Vec<Keyring> {
    let apt_dir = &config.archive.apt_dir;
    let mut paths = entries(&apt_dir.join("trusted.gpg.d"));
    paths.retain(|path| path.extension().is_some_and(|end| end == "gpg" || end == "asc"));
    // Often there, empty, and of no meaning.
    paths.push(apt_dir.join("trusted.gpg"));
    paths.retain(|path| fs::metadata(path).is_ok_and(|data| data.len() > 0));
    paths.extend(config.archive.keyrings.iter().cloned());
    let mut files = entries(&apt_dir.join("sources.list.d"));
    files.push(apt_dir.join("sources.list"));
    let texts =
        files.into_iter().filter_map(|path| Some((path.display().to_string(), fs::read_to_string(&path).ok()?)));
    let texts: Vec<_> = texts.collect();
    let texts = texts.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    let (sources, _bad) = archive::Sources::parse(texts, &Surroundings::default());
    paths.extend(sources.keyring_files().into_iter().map(PathBuf::from));
    paths.sort();
    paths.dedup();
    paths.into_iter().map(|path| Keyring { fault: fault(&path), path }).collect()
}

fn fault(path: &Path) -> Option<Fault> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(Fault::Missing),
        Err(error) => return Some(Fault::Unreadable(error.to_string())),
    };
    if let Err(bad) = archive::Keyring::parse(&bytes, &path.display().to_string()) {
        return Some(Fault::NoKeyring(bad.reason));
    }
    let is_for_all = fs::metadata(path).is_ok_and(|data| data.mode() & 0o004 != 0);
    (!is_for_all).then_some(Fault::ForFew)
}

/// The disk of the store, or of the directory that it would be made in.
fn disk(config: &Config, is_up: bool) -> Disk {
    let path = config.store.path.clone();
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let (free, is_read_only) = match statvfs(there) {
        Ok(disk) => (
            Some(disk.f_bavail.saturating_mul(disk.f_frsize)),
            disk.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        ),
        Err(_) => (None, false),
    };
    let fault = if is_read_only {
        Some("its file system is mounted read-only".to_owned())
    } else if there.is_dir() {
        None
    } else {
        Some(format!("{} is no directory", there.display()))
    };
    // A running daemon has shown that it can write there, as a user that this one may not be.
    let is_denied = !is_up && fault.is_none() && access(there, Access::WRITE_OK).is_err();
    let fault = fault.or(is_denied.then(|| "this user may not write there".to_owned()));
    Disk { path, fault, free, min_free: config.store.min_free.0 }
}

/// Times of files that every system writes to, in the past.
fn latest_write(lists: &Path) -> Option<u64> {
    let places = [Path::new("/var/log"), lists];
    places.into_iter().filter_map(|path| seconds(fs::metadata(path).and_then(|data| data.modified()).ok())).max()
}

/// A list has the time that its mirror said; that of its coming is in its directory, and in what else the system notes.
fn lists_changed(lists: &Path) -> Option<u64> {
    let noted = entries(lists).into_iter().chain([lists.to_owned(), lists.join("partial")]);
    let changed = |path: PathBuf| fs::metadata(path).ok().and_then(|data| u64::try_from(data.ctime()).ok());
    noted.filter_map(changed).max()
}

fn releases(lists: &Path) -> Vec<Release> {
    let mut paths = entries(lists);
    paths.sort();
    let release = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.to_owned();
        let is_release = name.ends_with("_InRelease") || name.ends_with("_Release");
        let head = is_release.then(|| head(&path))??;
        let field = |field: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
            seconds(date::parse(line.trim()))
        };
        Some(Release { date: field("Date"), valid_until: field("Valid-Until"), name })
    };
    paths.into_iter().filter_map(release).collect()
}

fn head(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes[..bytes.len().min(HEAD)]).into_owned())
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok).take(MAX_FILES);
    entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect()
}

fn seconds(time: Option<SystemTime>) -> Option<u64> {
    Some(time?.duration_since(UNIX_EPOCH).ok()?.as_secs())
}
