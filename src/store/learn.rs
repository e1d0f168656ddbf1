//! Learning: a Release, or an index that one lists, becomes promises.
//!
//! What a listing names is gathered first, while requests are answered and files are stored as ever. Then its promises
//! are brought up to date in one transaction: whoever asks meanwhile sees the listing as it was, and then as it is.
//! What becomes of a path that the listing does not name any more:
//!
//! ```text
//!                            named before, not now                       named two versions ago
//!  member of a Release       no promise any more                         -
//!  the same, by-hash         right, not current: older clients ask       no promise any more
//!  entry of an index         right, not current: superseded              no promise any more
//! ```

use std::{collections::HashSet, time::SystemTime};

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::{
    archive::{Repository, Vouched, by_hash},
    hash::ContentHash,
};

use super::{
    Change, Store, StoreError, forget,
    promises::{self, Found, Named, Update},
    seconds, unix_now,
};

/// Members of one Release that are learned; Debian's have some 3,000.
const MEMBERS_MAX: usize = 100_000;

/// What a Release was to the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// Newer than what was known; its members are promises now.
    New,
    /// Known already, to the last member.
    Same,
    /// Made before the one that is known: nothing was learned.
    Older,
    /// Its repository would share paths with another one, see [`Store::is_nested`]: nothing was learned.
    Nested,
}

impl Store {
    /// Learns the members of a verified Release.
    ///
    /// `suite_dir` is the directory that it lies in, below the repository and without slashes at its ends (`""` for a flat
    /// repository's root); `date` is its `Date` field. Each member is promised under its own path and, unless that is a by-hash
    /// one already, under `by-hash/SHA256/` beside it. The repository is shareable as its members are; a Release seen once more as private
    /// makes it private until the next one.
    pub fn record_release(
        &self,
        repository: &Repository,
        suite_dir: &str,
        date: SystemTime,
        signer: &str,
        members: impl IntoIterator<Item = Vouched>,
    ) -> Result<Recorded, StoreError> {
        let members: Vec<Vouched> =
            members.into_iter().filter(|member| member.repository() == repository).take(MEMBERS_MAX).collect();
        let shareable = members.first().is_some_and(|member| member.shareable().is_some());
        let digest = digest(&members);
        let mut writer = self.0.database.writer();
        let transaction = writer.transaction()?;
        let repository = self.repository_row(&transaction, repository, shareable)?;
        let known: Option<(i64, i64, [u8; 32])> = transaction
            .prepare_cached("SELECT id, date, members FROM suite WHERE repository = ?1 AND dir = ?2")?
            .query_row(params![repository, suite_dir], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let recorded = match known {
            Some((_, before, _)) if before > seconds(date) => return Ok(Recorded::Older),
            Some((_, before, same)) if before == seconds(date) && same == *digest.as_bytes() => Recorded::Same,
            _ => Recorded::New,
        };
        if known.is_none() {
            forget::for_a_suite(&transaction, repository, &self.is_named())?;
        }
        if recorded == Recorded::New {
            self.make_room_in_catalogue(&transaction, known.map(|(id, ..)| id))?;
            transaction
                .execute("UPDATE repository SET shareable = ?2 WHERE id = ?1", params![repository, shareable])?;
            let suite = suite_row(&transaction, repository, suite_dir, seconds(date), signer, digest)?;
            learn_members(&transaction, repository, suite, suite_dir, digest, &members)?;
        } else {
            // Signed anew, and by whom it was may matter to people.
            transaction.execute(
                "UPDATE suite SET signer = ?3 WHERE repository = ?1 AND dir = ?2",
                params![repository, suite_dir, signer],
            )?;
            if !shareable {
                transaction.execute("UPDATE repository SET shareable = 0 WHERE id = ?1", [repository])?;
            }
        }
        forget::note_seen(&transaction, repository, suite_dir)?;
        transaction.commit()?;
        self.0.repositories.reload(&writer)?;
        drop(writer);
        self.0.weigh_catalogue();
        self.0.tell(Change::Learned);
        Ok(recorded)
    }

    /// Begins to learn an index whose bytes were proven. An index that its Release does not list any more, or not yet,
    /// teaches nothing, and neither does one that is known already: `None`.
    ///
    /// `index` may be the plain path or one by hash, in any compression; all are versions of one listing.
    pub fn gather(&self, index: &Vouched) -> Result<Option<Gathering>, StoreError> {
        let Some(known) = self.0.repositories.named(index.repository()) else { return Ok(None) };
        let member = member(&self.0.database.reader(), known.id, index)?;
        let teaches = member.is_some_and(|member| !member.learned);
        let begin = || Gathering {
            store: self.clone(),
            repository: known.id,
            index: index.clone(),
            named: Named::default(),
            is_full: false,
        };
        Ok(teaches.then(begin))
    }

    /// Brings what was learned from the catalogue's log to its place, and evicts files where the catalogue took their room.
    /// When this is left out, whatever is written next does it, and takes that much longer.
    pub fn tidy(&self) -> Result<(), StoreError> {
        self.0.database.bring_log_home()?;
        self.0.weigh_catalogue();
        match self.make_room(0) {
            Ok(()) | Err(StoreError::Full) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Says which suites apt's own sources name, by their repositories and directories: these are never forgotten for the
    /// sake of others. Heard once.
    pub fn spare(&self, named: impl Fn(&Repository, &str) -> bool + Send + Sync + 'static) {
        let _heard_once = self.0.named.set(Box::new(named));
    }

    fn is_named(&self) -> impl Fn(&Repository, &str) -> bool {
        |repository, dir| self.0.named.get().is_some_and(|named| named(repository, dir))
    }

    /// Room for what a suite lists, which itself stays.
    fn make_room_in_catalogue(&self, transaction: &Transaction<'_>, suite: Option<i64>) -> Result<(), StoreError> {
        let most = forget::share_of(self.0.config.quota);
        forget::for_a_listing(transaction, suite, most, &self.is_named())
    }

    fn repository_row(
        &self,
        transaction: &Transaction<'_>,
        repository: &Repository,
        shareable: bool,
    ) -> Result<u32, StoreError> {
        let found = transaction
            .prepare_cached("SELECT id FROM repository WHERE name = ?1")?
            .query_row([repository.as_str()], |row| row.get(0))
            .optional()?;
        if let Some(id) = found {
            return Ok(id);
        }
        forget::for_a_repository(transaction, &self.is_named())?;
        let highest = transaction.query_row("SELECT coalesce(max(id), 0) FROM repository", [], |row| row.get(0))?;
        let id = self.0.repositories.new_id(highest).ok_or(StoreError::Full)?;
        transaction
            .prepare_cached("INSERT INTO repository (id, name, shareable) VALUES (?1, ?2, ?3)")?
            .execute(params![id, repository.as_str(), shareable])?;
        Ok(id)
    }

    /// Learns the entries of an index at once, and says how many it has: 0 when it teaches nothing. See [`Store::gather`].
    pub fn record_index(
        &self,
        index: &Vouched,
        entries: impl IntoIterator<Item = Vouched>,
    ) -> Result<usize, StoreError> {
        let Some(mut gathering) = self.gather(index)? else { return Ok(0) };
        entries.into_iter().for_each(|entry| gathering.add(&entry));
        gathering.record()
    }
}

/// The entries of an index, before they are known. Dropped, it has changed nothing.
pub struct Gathering {
    store: Store,
    repository: u32,
    index: Vouched,
    named: Named,
    is_full: bool,
}

impl Gathering {
    /// Adds an entry. One that speaks for another repository than its index does is not heard.
    pub fn add(&mut self, entry: &Vouched) {
        if entry.repository() == self.index.repository() && !self.is_full {
            self.is_full = !self.named.push(entry.path(), entry.expected());
        }
    }

    /// Makes what was added the index's promises, all at once, and says how many entries it has. 0 when another client
    /// brought it, or the next Release, in the meantime. [`Store::tidy`] is due when nobody waits any more.
    pub fn record(self) -> Result<usize, StoreError> {
        let Self { store, repository, index, named, is_full } = self;
        let files = named.len();
        if is_full {
            tracing::warn!(path = index.path(), files, "a very large index; the rest of it is left out");
        }
        let mut writer = store.0.database.bulk_writer()?;
        let transaction = writer.transaction()?;
        let Some(member) = member(&transaction, repository, &index)?.filter(|member| !member.learned) else {
            return Ok(0);
        };
        store.make_room_in_catalogue(&transaction, Some(member.suite))?;
        let name = listing_name(&member.path);
        let (listing, fresh) = listing_row(&transaction, repository, member.suite, name, index.expected().hash)?;
        let update = Update { repository, listing, fresh, at_once: |_| false, dropped: &HashSet::new() };
        update.apply(&transaction, named)?;
        transaction.execute("UPDATE listing SET files = ?2 WHERE id = ?1", params![listing, files as u32])?;
        transaction.commit()?;
        drop(writer);
        store.0.tell(Change::Learned);
        Ok(files)
    }
}

/// An index as the Release that is known now lists it.
pub(super) struct Member {
    /// Its plain path.
    path: String,
    suite: i64,
    /// Whether its entries are known, from these very bytes or from another compression that the Release lists.
    pub(super) learned: bool,
}

/// Finds an index, by its plain path or the one by hash, among the members of the Releases that are known.
pub(super) fn member(connection: &Connection, repository: u32, index: &Vouched) -> Result<Option<Member>, StoreError> {
    let hash = index.expected().hash;
    let found = match by_hash(index.path()) {
        None => promises::at_path(connection, repository, index.path())?
            .into_iter()
            .find(|found| found.current && found.expected.hash == hash),
        Some((folder, _)) => at_plain_path(connection, repository, folder, hash)?,
    };
    let Some(found) = found else { return Ok(None) };
    let suite = connection
        .prepare_cached("SELECT suite FROM listing WHERE id = ?1")?
        .query_row([found.listing], |row| row.get(0))?;
    let name = listing_name(&found.path);
    let learned: Option<[u8; 32]> = connection
        .prepare_cached("SELECT hash FROM listing WHERE repository = ?1 AND path = ?2")?
        .query_row(params![repository, name], |row| row.get(0))
        .optional()?;
    let learned = match learned.map(ContentHash::new) {
        None => false,
        Some(learned) if learned == hash => true,
        Some(other) => promises::of_hash(connection, other)?
            .iter()
            .any(|(of, found)| *of == repository && !is_by_hash(&found.path) && listing_name(&found.path) == name),
    };
    Ok(Some(Member { path: found.path, suite, learned }))
}

/// The current promise of a hash under a plain path of a folder: several when files of it are equal, then the first.
pub(super) fn at_plain_path(
    connection: &Connection,
    repository: u32,
    folder: &str,
    hash: ContentHash,
) -> Result<Option<Found>, StoreError> {
    let is_there = |path: &str| !is_by_hash(path) && path.rsplit_once('/').map_or("", |(dir, _)| dir) == folder;
    let found = promises::of_hash(connection, hash)?.into_iter();
    let there = found.filter(|(of, found)| *of == repository && is_there(&found.path)).map(|(_, found)| found);
    Ok(there.min_by(|one, other| one.path.cmp(&other.path)))
}

/// The name under which all versions and compressions of an index are one listing.
fn listing_name(path: &str) -> &str {
    let ends = [".xz", ".gz", ".bz2", ".zst", ".lz4", ".lzma"];
    ends.iter().find_map(|end| path.strip_suffix(end)).unwrap_or(path)
}

/// `main/binary-amd64/Packages.xz` and a hash become `main/binary-amd64/by-hash/SHA256/<hash>`.
fn by_hash_path(path: &str, hash: ContentHash) -> String {
    let dir = path.rfind('/').map_or("", |slash| &path[..=slash]);
    format!("{dir}by-hash/SHA256/{hash}")
}

fn is_by_hash(path: &str) -> bool {
    path.starts_with("by-hash/") || path.contains("/by-hash/")
}

/// Tells two lists of members apart.
fn digest(members: &[Vouched]) -> ContentHash {
    let mut text = Vec::with_capacity(members.len() * 96);
    for member in members {
        text.extend(member.path().as_bytes());
        text.push(0);
        text.extend(member.expected().hash.as_bytes());
        text.extend(member.expected().size.to_be_bytes());
    }
    ContentHash::of(&text)
}

fn suite_row(
    connection: &Connection,
    repository: u32,
    dir: &str,
    date: i64,
    signer: &str,
    members: ContentHash,
) -> Result<i64, StoreError> {
    let id = connection
        .prepare_cached(
            "INSERT INTO suite (repository, dir, date, signer, members, learned) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (repository, dir) DO UPDATE SET date = excluded.date, signer = excluded.signer,
                 members = excluded.members, learned = excluded.learned
             RETURNING id",
        )?
        .query_row(params![repository, dir, date, signer, members.as_bytes(), unix_now()], |row| row.get(0))?;
    Ok(id)
}

/// The listing's id, and whether it is new.
fn listing_row(
    connection: &Connection,
    repository: u32,
    suite: i64,
    path: &str,
    hash: ContentHash,
) -> Result<(u32, bool), StoreError> {
    let found: Option<u32> = connection
        .prepare_cached("SELECT id FROM listing WHERE repository = ?1 AND path = ?2")?
        .query_row(params![repository, path], |row| row.get(0))
        .optional()?;
    if let Some(id) = found {
        connection
            .prepare_cached("UPDATE listing SET suite = ?2, hash = ?3, learned = ?4 WHERE id = ?1")?
            .execute(params![id, suite, hash.as_bytes(), unix_now()])?;
        return Ok((id, false));
    }
    connection
        .prepare_cached(
            "INSERT INTO listing (repository, suite, path, hash, files, learned) VALUES (?1, ?2, ?3, ?4, 0, ?5)",
        )?
        .execute(params![repository, suite, path, hash.as_bytes(), unix_now()])?;
    let id = u32::try_from(connection.last_insert_rowid());
    Ok((id.expect("each is a member of one of 1024 repositories' suites"), true))
}

fn learn_members(
    transaction: &Transaction<'_>,
    repository: u32,
    suite: i64,
    dir: &str,
    digest: ContentHash,
    members: &[Vouched],
) -> Result<(), StoreError> {
    let release = if dir.is_empty() { "Release".to_owned() } else { format!("{dir}/Release") };
    let (listing, fresh) = listing_row(transaction, repository, suite, &release, digest)?;
    let mut gathered = Named::default();
    for member in members {
        gathered.push(member.path(), member.expected());
        if !is_by_hash(member.path()) {
            gathered.push(&by_hash_path(member.path(), member.expected().hash), member.expected());
        }
    }

    // Indexes that the suite has no more take their entries with them.
    let named: HashSet<&str> = members.iter().map(|member| listing_name(member.path())).collect();
    let mut statement = transaction.prepare_cached("SELECT id, path FROM listing WHERE suite = ?1 AND id <> ?2")?;
    let listings: Vec<(u32, String)> = statement
        .query_map(params![suite, listing], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let dropped: HashSet<u32> =
        listings.iter().filter(|(_, path)| !named.contains(path.as_str())).map(|(id, _)| *id).collect();
    let at_once = |path: &str| !is_by_hash(path);
    Update { repository, listing, fresh, at_once, dropped: &dropped }.apply(transaction, gathered)?;
    for id in &dropped {
        transaction.execute("DELETE FROM listing WHERE id = ?1", [id])?;
    }
    transaction.execute("UPDATE listing SET files = ?2 WHERE id = ?1", params![listing, members.len() as u32])?;
    Ok(())
}
