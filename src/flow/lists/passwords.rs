//! Passwords: which hosts apt asks with one that its sources do not show (apt_auth.conf(5)).

use std::{fs, io, path::Path};

use crate::archive::{Location, password_hosts};

use super::super::file;

/// Files read at most, and bytes of each; with more, the hosts are not to be known.
const MAX_FILES: usize = 1000;
const MAX_BYTES: u64 = 1 << 20;

/// The hosts, or that they are not to be known: these files are often for root alone.
pub(super) enum Passwords {
    For(Vec<String>),
    Unreadable,
}

impl Passwords {
    /// Reads `auth.conf` and `auth.conf.d` below apt's configuration.
    pub(super) fn read(apt_dir: &Path) -> Self {
        let mut texts = Vec::new();
        let mut files = vec![apt_dir.join("auth.conf")];
        match fs::read_dir(apt_dir.join("auth.conf.d")) {
            Ok(entries) => files.extend(entries.filter_map(Result::ok).map(|entry| entry.path()).take(MAX_FILES + 1)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => return Self::Unreadable,
        }
        if files.len() > MAX_FILES {
            return Self::Unreadable;
        }
        for path in files {
            match file::read(&path, MAX_BYTES).map(String::from_utf8) {
                Ok(Ok(text)) => texts.push(text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Ok(Err(_)) | Err(_) => return Self::Unreadable,
            }
        }
        Self::For(texts.iter().flat_map(|text| password_hosts(text)).collect())
    }

    /// Whether a place may be one that apt asks with a password.
    pub(super) fn may_be_for(&self, at: &Location) -> bool {
        match self {
            Self::For(hosts) => hosts.iter().any(|host| host.eq_ignore_ascii_case(at.host())),
            Self::Unreadable => true,
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write the files that are read")]
mod tests {
    use super::*;

    fn may_be_for(passwords: &Passwords, url: &str) -> bool {
        passwords.may_be_for(&Location::parse(url).unwrap())
    }

    #[test]
    fn hosts_are_found_in_both_places_in_every_form() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Passwords::read(dir.path()), Passwords::For(hosts) if hosts.is_empty()));
        fs::write(dir.path().join("auth.conf"), "machine A.example.org login a password machine\n").unwrap();
        fs::create_dir(dir.path().join("auth.conf.d")).unwrap();
        let more =
            "machine https://b.example.org:8443/debian/\n login b\n password c\nmachine [2001:db8::1]:80 login d\n";
        fs::write(dir.path().join("auth.conf.d/b.conf"), more).unwrap();
        let passwords = Passwords::read(dir.path());
        for url in ["http://a.example.org/x", "http://b.example.org/y", "http://[2001:db8::1]/"] {
            assert!(may_be_for(&passwords, url), "{url}");
        }
        assert!(!may_be_for(&passwords, "http://c.example.org/"));
    }

    #[test]
    fn where_they_cannot_be_read_any_host_may_have_one() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("auth.conf.d/not-a-file")).unwrap();
        assert!(may_be_for(&Passwords::read(dir.path()), "http://a.example.org/"));
    }

    #[test]
    fn more_than_is_read_may_name_any_host() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("auth.conf")).unwrap();
        assert!(matches!(Passwords::read(dir.path()), Passwords::Unreadable));
        fs::remove_file(dir.path().join("auth.conf")).unwrap();
        fs::write(dir.path().join("auth.conf"), " ".repeat(MAX_BYTES as usize + 1)).unwrap();
        assert!(matches!(Passwords::read(dir.path()), Passwords::Unreadable));
        fs::remove_file(dir.path().join("auth.conf")).unwrap();
        fs::create_dir(dir.path().join("auth.conf.d")).unwrap();
        for number in 0..MAX_FILES {
            fs::write(dir.path().join(format!("auth.conf.d/{number}")), "").unwrap();
        }
        assert!(matches!(Passwords::read(dir.path()), Passwords::Unreadable));
    }
}
