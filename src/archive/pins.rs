//! Pins: the keys that a Release says the next one of its suite must be signed with.
//!
//! ```text
//!  Signed-By: 4D64FEC119C2029067D6E791F8D2585B8783D481, 05C7...2D!     in a Release; fingerprints alone
//!  Valid-Until: Sat, 18 Jul 2026 09:12:31 UTC                          until when that holds; without it, it does not
//! ```
//!
//! As in apt, a pin narrows the default keyrings, gives way to `Signed-By` in the sources, and a field in which anything
//! else stands says nothing (apt-secure(8), <https://wiki.debian.org/DebianRepository/Format>).

use std::{collections::HashMap, time::SystemTime};

use super::{
    Repository,
    deb822::{BadText, Paragraph},
    keyring::Pick,
};

/// Most suites that are remembered. Machines with many sources have some hundred.
pub const MAX_PINS: usize = 10_000;

/// Most fingerprints of one Release; those that have the field name one or two.
pub const MAX_PICKS: usize = 64;

/// What a verified Release says of the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The repository that it speaks for.
    pub(super) repository: Repository,
    /// The folder of its suite.
    pub(super) suite_dir: String,
    /// The keys; none when it says nothing.
    pub(super) picks: Vec<Pick>,
    /// Until when that holds.
    pub(super) until: Option<SystemTime>,
}

impl Pin {
    /// Gives back what was kept of a pin: its suite, [`Self::keys`] and [`Self::until`]. `None` when these are no keys.
    pub fn restore(repository: Repository, suite_dir: String, keys: &str, until: SystemTime) -> Option<Self> {
        let picks: Vec<Pick> = keys.split(' ').map(|key| key.parse().ok()).collect::<Option<_>>()?;
        Some(Self { repository, suite_dir, picks, until: Some(until) })
    }

    /// One that says nothing.
    pub fn silent(repository: Repository, suite_dir: String) -> Self {
        Self { repository, suite_dir, picks: Vec::new(), until: None }
    }

    /// The repository that it speaks for.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The folder of its suite.
    pub fn suite_dir(&self) -> &str {
        &self.suite_dir
    }

    /// The keys as text, with a space between two; none when it says nothing.
    pub fn keys(&self) -> String {
        let key = |pick: &Pick| format!("{}{}", pick.fingerprint, if pick.exact { "!" } else { "" });
        self.picks.iter().map(key).collect::<Vec<_>>().join(" ")
    }

    /// Until when that holds; without an end, it does not.
    pub fn until(&self) -> Option<SystemTime> {
        self.until
    }
}

/// What the latest Releases said, suite by suite.
#[derive(Debug, Clone, Default)]
pub struct Pins {
    by_suite: HashMap<(Repository, String), (Vec<Pick>, SystemTime)>,
}

impl Pins {
    /// Takes the place of what an earlier Release of the suite said.
    pub fn set(&mut self, pin: Pin) {
        let suite = (pin.repository, pin.suite_dir);
        let said = pin.until.filter(|_| !pin.picks.is_empty()).map(|until| (pin.picks, until));
        match said {
            Some(said) if self.by_suite.len() < MAX_PINS || self.by_suite.contains_key(&suite) => {
                self.by_suite.insert(suite, said);
            }
            _ => drop(self.by_suite.remove(&suite)),
        }
    }

    /// The keys that a Release must be signed with; none when any will do.
    pub fn picks(&self, repository: &Repository, suite_dir: &str, now: SystemTime) -> &[Pick] {
        let said = self.by_suite.get(&(repository.clone(), suite_dir.to_owned()));
        said.filter(|(_, until)| now <= *until).map_or(&[], |(picks, _)| picks)
    }
}

/// Reads the field of a Release.
pub fn read(paragraph: Paragraph<'_>) -> Result<Vec<Pick>, BadText> {
    const FIELD: &str = "Signed-By";
    let list = paragraph.text(FIELD)?.unwrap_or_default();
    let fingerprints = list.split([',', ' ', '\t', '\n']).filter(|entry| !entry.is_empty());
    let picks = fingerprints.take(MAX_PICKS + 1).map(|entry| entry.parse().ok());
    let picks: Vec<Pick> = picks.collect::<Option<_>>().unwrap_or_default();
    if picks.len() > MAX_PICKS { Err(paragraph.fault(FIELD, "more than 64 keys")) } else { Ok(picks) }
}
