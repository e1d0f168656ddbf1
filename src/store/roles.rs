//! Roles: what each file held is to its archive, and so when it may go.

use std::collections::HashMap;

use rusqlite::Connection;

use crate::{
    archive::{Repository, path},
    hash::ContentHash,
};

use super::{
    Store, StoreError,
    evict::{Candidate, Role},
    pages, promises,
};

/// Rows read in one question; other readers get their turn between two.
const PAGE: i64 = 512;

/// Others that had a file when it was fetched, up to which it is rare.
const FEW: i64 = 2;

/// A file held, as the catalogue has it.
pub(super) struct Row {
    pub(super) candidate: Candidate,
    pub(super) pinned: bool,
    /// Whether it was hashed since it was found.
    pub(super) proven: bool,
    pub(super) repository: Option<String>,
    pub(super) path: Option<String>,
    id: i64,
    /// Names the package, where it is one.
    package: Option<u64>,
}

impl Store {
    /// Every file held, with its role. Paths take memory: they are left out unless they are asked for.
    pub(super) fn rows(&self, with_paths: bool) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        let mut after = 0_i64;
        loop {
            let reader = self.0.database.reader();
            let before = rows.len();
            self.page(&reader, &mut after, with_paths, &mut rows)?;
            if rows.len() == before {
                break;
            }
        }
        find_last(&mut rows);
        let shelf = self.0.shelf();
        let arriving = shelf.arriving();
        rows.retain(|row| !shelf.is_gone(row.candidate.hash));
        for Row { candidate, pinned, .. } in &mut rows {
            candidate.kept = *pinned || shelf.is_busy(candidate.hash) || arriving.contains(&candidate.hash);
            candidate.used = shelf.last_use(candidate.hash).unwrap_or(candidate.used);
        }
        Ok(rows)
    }

    fn page(
        &self,
        reader: &Connection,
        after: &mut i64,
        with_paths: bool,
        rows: &mut Vec<Row>,
    ) -> Result<(), StoreError> {
        let mut statement = reader.prepare_cached(
            "SELECT id, hash, size, used, repository, path, pinned, holders, chain IS NOT NULL FROM object
             WHERE id > ?1 ORDER BY id LIMIT ?2",
        )?;
        let mut found = statement.query([*after, PAGE])?;
        while let Some(row) = found.next()? {
            let (id, hash) = (row.get(0)?, ContentHash::new(row.get(1)?));
            let (repository, path): (Option<String>, Option<String>) = (row.get(4)?, row.get(5)?);
            let role = self.role(reader, hash, repository.as_deref(), path.as_deref())?;
            let is_shareable = || {
                let known =
                    repository.as_deref().and_then(|name| self.0.repositories.named(&Repository::restore(name)));
                known.is_some_and(|known| known.shareable)
            };
            let candidate = Candidate {
                hash,
                size: row.get::<_, i64>(2)?.cast_unsigned(),
                used: row.get::<_, i64>(3)?.cast_unsigned(),
                role,
                rare: row.get::<_, Option<i64>>(7)?.is_some_and(|holders| holders <= FEW) && is_shareable(),
                kept: false,
            };
            let package = path
                .as_deref()
                .and_then(package)
                .map(|(name, architecture)| pages::key(&format!("{name}_{architecture}")));
            let (repository, path) = if with_paths { (repository, path) } else { (None, None) };
            let (pinned, proven) = (row.get(6)?, row.get(8)?);
            rows.push(Row { candidate, pinned, proven, repository, path, id, package });
            *after = id;
        }
        Ok(())
    }

    fn role(
        &self,
        reader: &Connection,
        hash: ContentHash,
        repository: Option<&str>,
        path: Option<&str>,
    ) -> Result<Role, StoreError> {
        let current = promises::is_current(reader, hash)?;
        let Some(path) = path.filter(|path| is_metadata(path)) else {
            return Ok(if current { Role::Current } else { Role::Superseded });
        };
        if current {
            return Ok(Role::Metadata);
        }
        let known = repository.and_then(|name| self.0.repositories.named(&Repository::restore(name)));
        // A publication is gone on being promised by its digests for one publication more.
        let by_hash = format!("{}by-hash/SHA256/{hash}", &path[..path.len() - path::split(path).1.len()]);
        let of_before = |path: &str| match &known {
            None => Ok::<_, StoreError>(false),
            Some(known) => {
                Ok(promises::at_path(reader, known.id, path)?.iter().any(|found| found.expected.hash == hash))
            }
        };
        Ok(if of_before(&by_hash)? || of_before(path)? { Role::Metadata } else { Role::Superseded })
    }
}

/// Of each package that is held in no current version, what was kept last is the best there is.
fn find_last(rows: &mut [Row]) {
    let mut best: HashMap<u64, (bool, i64)> = HashMap::new();
    for row in rows.iter() {
        if let Some(package) = row.package {
            let best = best.entry(package).or_default();
            *best = (best.0 || row.candidate.role == Role::Current, best.1.max(row.id));
        }
    }
    for row in rows.iter_mut().filter(|row| row.candidate.role == Role::Superseded) {
        if row.package.is_some_and(|package| best.get(&package) == Some(&(false, row.id))) {
            row.candidate.role = Role::Last;
        }
    }
}

fn is_metadata(path: &str) -> bool {
    path.starts_with("dists/") || path.contains("/dists/")
}

/// A package's folder and name, and its architecture, without its version (Debian policy 5.6): `pool/h/hello_2.10-3_amd64.deb`
/// is `pool/h/hello` and `amd64.deb`.
fn package(path: &str) -> Option<(&str, &str)> {
    let is_package = [".deb", ".udeb", ".ddeb"].iter().any(|end| path.ends_with(end));
    let (named, architecture) = path.rsplit_once('_').filter(|_| is_package)?;
    named.rsplit_once('_').map(|(package, _version)| (package, architecture))
}

/// The name of a package's file up to its version.
pub(super) fn package_name(path: &str) -> Option<&str> {
    package(path).map(|(named, _)| named.rsplit('/').next().unwrap_or(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_told_by_their_files_names() {
        let path = "pool/main/h/hello/hello_2.10-3_amd64.deb";
        assert_eq!(package(path), Some(("pool/main/h/hello/hello", "amd64.deb")));
        assert_eq!(package_name(path), Some("hello"));
        assert_eq!(package_name("a_1_all.udeb"), Some("a"));
        for other in ["hello_2.10.orig.tar.gz", "hello.deb", "dists/sid/InRelease", "a_b.deb"] {
            assert_eq!(package(other), None, "{other}");
        }
        assert!(is_metadata("dists/sid/Release") && is_metadata("debian/dists/x/InRelease") && !is_metadata(path));
    }
}
