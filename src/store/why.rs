//! Why: on what the catalogue's word for a file hangs.
//!
//! A person asks seldom and may ask for anything, so that a question can lead through every promise there is. It has a
//! connection of its own for that: requests go on meanwhile.

use std::time::SystemTime;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::{
    archive::{Repository, Vouched, path},
    hash::{ContentHash, Expected},
};

use super::{
    Store, StoreError,
    catalogue::time,
    promises::{self, Found},
};

/// Answers that are looked at, of which the caller shows the best.
const VOUCHINGS_MAX: usize = 4096;

/// Page cache in KiB: one pass through a table gains nothing by a large one.
const CACHE: i64 = 512;

/// What stands behind a listing.
const LISTING: &str = "
    SELECT l.path, l.hash, s.dir, s.date, s.signer, s.learned, r.shareable
    FROM listing l JOIN suite s ON s.id = l.suite JOIN repository r ON r.id = l.repository WHERE l.id = ?1";

/// By what a file is sought.
pub enum Sought<'a> {
    /// By `host[:port]/path`, normalised.
    At(&'a str),
    /// By a repository and its path below that, normalised.
    In(&'a Repository, &'a str),
    /// By its path below whichever repository, normalised.
    Path(&'a str),
    /// By its digest.
    Hash(ContentHash),
    /// By its name without folders.
    Named {
        /// The name begins so.
        begins: &'a str,
        /// Whether it is one that is sought.
        fits: &'a dyn Fn(&str) -> bool,
    },
}

/// One listing that vouches for a file, or did until lately, and what stands behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouching {
    /// The file; shareable when its repository may be named to strangers today.
    pub file: Vouched,
    /// Whether the listing names it in its latest version too.
    pub is_current: bool,
    /// Whether its repository was public when its Release was learned.
    pub was_public: bool,
    /// The index that names it; none when the Release does.
    pub index: Option<Index>,
    /// Folder of the Release below the repository.
    pub suite: String,
    /// When the Release was made.
    pub date: SystemTime,
    /// Who signed it: fingerprint, a space, and where the key comes from.
    pub signer: String,
    /// When the Release was learned.
    pub learned: SystemTime,
}

/// An index that was learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its path below the repository; without the ending of its compression when the Release lists it no more.
    pub path: String,
    /// Digest of the file that was learned.
    pub hash: ContentHash,
    /// Whether the Release that is known lists this very version.
    pub is_listed: bool,
}

/// Whether a file is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// Whole and proven.
    Held,
    /// Found on the disk, and not hashed yet.
    Unproven,
    /// On its way.
    Arriving,
    /// Not at all.
    Absent,
}

impl Store {
    /// Everything that vouches for what is sought, in no order.
    pub fn why(&self, sought: &Sought<'_>) -> Result<Vec<Vouching>, StoreError> {
        let catalogue = Connection::open_with_flags(
            self.0.config.path.join("catalogue.sqlite"),
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW,
        )?;
        catalogue.pragma_update(None, "cache_size", -CACHE)?;
        let found = match *sought {
            Sought::At(key) => match self.0.repositories.split(key) {
                Some((known, path)) => in_repository(&catalogue, known.id, path)?,
                None => Vec::new(),
            },
            Sought::In(repository, path) => match self.0.repositories.named(repository) {
                Some(known) => in_repository(&catalogue, known.id, path)?,
                None => Vec::new(),
            },
            Sought::Path(path) => promises::scan(&catalogue, VOUCHINGS_MAX, |promise| promise.path == path)?,
            Sought::Hash(hash) => match promises::of_hash(&catalogue, hash)? {
                current if !current.is_empty() => without_twins(current),
                _ => promises::scan(&catalogue, VOUCHINGS_MAX, |promise| promise.expected.hash == hash)?,
            },
            Sought::Named { begins, fits } => promises::scan(&catalogue, VOUCHINGS_MAX, |promise| {
                let name = path::split(promise.path).1;
                name.starts_with(begins) && fits(name)
            })?,
        };
        let vouchings = found.into_iter().map(|(repository, found)| self.vouching(&catalogue, repository, found));
        vouchings.filter_map(Result::transpose).collect()
    }

    /// Whether a file is held, without opening it for anybody.
    pub fn holding(&self, file: &Expected) -> Result<Holding, StoreError> {
        let row: Option<(i64, bool)> = self
            .0
            .database
            .reader()
            .prepare_cached("SELECT size, chain IS NOT NULL FROM object WHERE hash = ?1")?
            .query_row([file.hash.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let (is_gone, is_arriving) = {
            let shelf = self.0.shelf();
            (shelf.is_gone(file.hash), shelf.arriving().contains(&file.hash))
        };
        let lies_there =
            || Ok::<_, StoreError>(self.0.objects.file(file.hash)?.is_some_and(|(_, len)| len == file.size));
        Ok(match row.filter(|&(size, _)| !is_gone && size.cast_unsigned() == file.size) {
            Some((_, proven)) if lies_there()? => {
                if proven {
                    Holding::Held
                } else {
                    Holding::Unproven
                }
            }
            _ if is_arriving => Holding::Arriving,
            _ => Holding::Absent,
        })
    }

    /// `None` for a repository that is only just being learned.
    fn vouching(&self, catalogue: &Connection, repository: u32, found: Found) -> Result<Option<Vouching>, StoreError> {
        let Some(known) = self.0.repositories.by_id(repository) else { return Ok(None) };
        let mut statement = catalogue.prepare_cached(LISTING)?;
        let mut rows = statement.query([found.listing])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let (listing, hash, suite): (String, _, String) = (row.get(0)?, ContentHash::new(row.get(1)?), row.get(2)?);
        let release = if suite.is_empty() { "Release".to_owned() } else { format!("{suite}/Release") };
        let index = match listing == release {
            true => None,
            false => {
                let is_plain = |(of, listed): &(u32, Found)| *of == repository && !is_by_hash(&listed.path);
                let listed = promises::of_hash(catalogue, hash)?.into_iter().find(is_plain);
                let is_listed = listed.is_some();
                Some(Index { hash, is_listed, path: listed.map_or(listing, |(_, listed)| listed.path) })
            }
        };
        Ok(Some(Vouching {
            file: known.vouch(found.expected, found.path),
            is_current: found.current,
            was_public: row.get(6)?,
            index,
            suite,
            date: time(row.get(3)?),
            signer: row.get(4)?,
            learned: time(row.get(5)?),
        }))
    }
}

fn in_repository(catalogue: &Connection, repository: u32, path: &str) -> Result<Vec<(u32, Found)>, StoreError> {
    Ok(promises::at_path(catalogue, repository, path)?.into_iter().map(|found| (repository, found)).collect())
}

/// A member of a Release is promised under its own path and by its hash: the latter says nothing more.
fn without_twins(found: Vec<(u32, Found)>) -> Vec<(u32, Found)> {
    let (by_hash, mut plain): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_, found)| is_by_hash(&found.path));
    let alone = |(repository, _): &(u32, Found)| plain.iter().all(|(other, _)| other != repository);
    let alone: Vec<_> = by_hash.into_iter().filter(alone).collect();
    plain.extend(alone);
    plain
}

fn is_by_hash(path: &str) -> bool {
    path.starts_with("by-hash/") || path.contains("/by-hash/")
}
