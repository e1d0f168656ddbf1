//! What a doctor looks at: facts about this machine, without judgement.

use std::{net::SocketAddr, path::PathBuf};

use crate::{cli::sources::Seen, status::report::Report};

/// The machine at one moment.
#[derive(Debug)]
pub struct Facts {
    /// This moment, in seconds since 1970, by this machine's clock.
    pub now: u64,
    /// The configuration file that is read, if there is one.
    pub file: Option<PathBuf>,
    /// What is wrong with the configuration; the other facts are then by the defaults.
    pub bad_configuration: Option<String>,
    /// Where the daemon is to listen.
    pub listen: Vec<SocketAddr>,
    /// What the daemon says, or why it says nothing.
    pub daemon: Result<Report, String>,
    /// apt and its sources.
    pub apt: Apt,
    /// The keyrings that apt's sources and the configuration name.
    pub keyrings: Vec<Keyring>,
    /// The disk with the store.
    pub disk: Disk,
    /// The latest moment at which some file of this system was written, in seconds since 1970.
    pub latest_write: Option<u64>,
    /// When apt's lists last changed, in seconds since 1970.
    pub lists_changed: Option<u64>,
    /// The Releases among apt's lists.
    pub releases: Vec<Release>,
    /// What is shared by the configuration.
    pub sharing: Sharing,
}

/// apt's side.
#[derive(Debug, Default)]
pub struct Apt {
    /// Why apt's configuration is not known.
    pub unknown: Option<String>,
    /// The program that apt asks for a proxy.
    pub auto_detect: Option<String>,
    /// The files of apt's configuration that name it.
    pub auto_detect_files: Vec<PathBuf>,
    /// What the program fails with, when it was asked for some host.
    pub auto_detect_failure: Option<String>,
    /// Every source.
    pub sources: Vec<Seen>,
    /// Files of sources that are not understood, with the reason.
    pub unclear: Vec<String>,
    /// Where the package's file for apt was set aside.
    pub set_aside: Option<PathBuf>,
}

/// A keyring.
#[derive(Debug)]
pub struct Keyring {
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: Option<Fault>,
}

/// What is wrong with a keyring.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not there.
    Missing,
    /// It cannot be read by this user.
    Unreadable(String),
    /// It holds no key.
    NoKeyring(String),
    /// Only its owner may read it, and the daemon has a user of its own.
    ForFew,
}

/// A disk.
#[derive(Debug, Default)]
pub struct Disk {
    /// The store's directory.
    pub path: PathBuf,
    /// Why nothing can be written there, if this user can tell.
    pub fault: Option<String>,
    /// Bytes free, when known.
    pub free: Option<u64>,
    /// Bytes that are to stay free.
    pub min_free: u64,
}

/// A Release among apt's lists, as it says of itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Release {
    /// The name of the list.
    pub name: String,
    /// When it was made, in seconds since 1970.
    pub date: Option<u64>,
    /// Until when it may be believed, in seconds since 1970.
    pub valid_until: Option<u64>,
}

/// What is shared by the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Peers are asked, and given to.
    All,
    /// Peers are asked.
    Take,
    /// Nothing.
    Off,
}
