//! Where a file lives: one spelling for every form of URL.

use std::fmt;

/// The address of a file at its origin, normalised: lower-case host, no default port, percent-encoding undone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Location {
    https: bool,
    host: String,
    port: Option<u16>,
    path: String,
    credentials: Option<String>,
}

/// A URL cannot be the address of a file in an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {url}")]
pub struct BadLocation {
    /// The URL as it was written, without credentials.
    pub url: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Location {
    /// The host, without port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `host` or `host:port`.
    pub fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }

    /// `user:password` of the URL, when it had any.
    pub fn credentials(&self) -> Option<&str> {
        self.credentials.as_deref()
    }
}

/// A repository by its base address, `host[:port]/path` without scheme and trailing slash: the same over http and https.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository(String);

impl Repository {
    /// Gives back what the store was given as `Repository` before.
    pub fn restore(base: String) -> Self {
        Self(base)
    }

    /// `host[:port]/path`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
