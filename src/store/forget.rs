//! Forget: the catalogue stays bounded, whatever clients ask for through this proxy.
//!
//! Every suite was signed by a key that apt accepts, but one archive can be asked for by many names, and each of them is
//! a repository of its own here. What goes first was seen to be current longest ago; what apt's own sources name stays.
//!
//! ```text
//!  too many                          goes
//!  suites of a repository            a suite of it
//!  repositories                      a repository with all its suites
//!  bytes of catalogue                a suite, of whatever repository
//! ```

use std::collections::HashSet;

use rusqlite::{Connection, Params, Transaction, params};

use crate::archive::Repository;

use super::{
    StoreError,
    promises::{Named, Update},
};

/// Repositories kept.
pub(super) const REPOSITORIES_MAX: i64 = 1024;

/// Suites kept of one repository; Debian's mirrors have some 20.
pub(super) const SUITES_MAX: i64 = 64;

/// The catalogue may take this part of the quota, or so many bytes where that is more. One listing may go beyond.
const SHARE: u64 = 4;
const LEAST: u64 = 64 << 20;

/// Whether apt's own sources name a suite, by its repository and directory.
pub(super) type IsNamed<'a> = &'a dyn Fn(&Repository, &str) -> bool;

/// A suite's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Suite {
    id: i64,
    repository: u32,
}

/// Makes room for one repository more.
pub(super) fn for_a_repository(transaction: &Transaction<'_>, is_named: IsNamed<'_>) -> Result<(), StoreError> {
    while count(transaction, "SELECT count(*) FROM repository", [])? >= REPOSITORIES_MAX {
        let mut oldest = transaction.prepare_cached(
            "SELECT r.id, r.name FROM repository r LEFT JOIN suite s ON s.repository = r.id
             GROUP BY r.id ORDER BY coalesce(max(s.seen), 0), r.id",
        )?;
        let mut dirs = transaction.prepare_cached("SELECT dir FROM suite WHERE repository = ?1")?;
        let mut rows = oldest.query([])?;
        let gone = loop {
            let row = rows.next()?.ok_or(StoreError::Full)?;
            let (id, repository) = (row.get(0)?, Repository::restore(&row.get::<_, String>(1)?));
            let dirs = dirs.query_map([id], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
            if !dirs.iter().any(|dir| is_named(&repository, dir)) {
                tracing::info!(%repository, "forgotten: there are too many, and it was not seen for longest");
                break id;
            }
        };
        drop(rows);
        forget_repository(transaction, gone)?;
    }
    Ok(())
}

/// Makes room for one suite more of a repository.
pub(super) fn for_a_suite(
    transaction: &Transaction<'_>,
    repository: u32,
    is_named: IsNamed<'_>,
) -> Result<(), StoreError> {
    while count(transaction, "SELECT count(*) FROM suite WHERE repository = ?1", [repository])? >= SUITES_MAX {
        let gone = oldest_suite(transaction, is_named, |suite| suite.repository == repository)?;
        forget_suite(transaction, gone.ok_or(StoreError::Full)?)?;
    }
    Ok(())
}

/// Bytes that the catalogue may take of a quota.
pub(super) fn share_of(quota: u64) -> u64 {
    (quota / SHARE).max(LEAST)
}

/// Makes room for a listing of a suite, where the catalogue has outgrown the bytes that it may take.
pub(super) fn for_a_listing(
    transaction: &Transaction<'_>,
    of: Option<i64>,
    most: u64,
    is_named: IsNamed<'_>,
) -> Result<(), StoreError> {
    while used(transaction)? > most {
        let gone = oldest_suite(transaction, is_named, |suite| Some(suite.id) != of)?;
        forget_suite(transaction, gone.ok_or(StoreError::Full)?)?;
    }
    Ok(())
}

/// Bytes of the catalogue that hold something.
pub(super) fn used(connection: &Connection) -> Result<u64, StoreError> {
    let ask = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = ask("page_count")?.saturating_sub(ask("freelist_count")?);
    Ok(pages.saturating_mul(ask("page_size")?).cast_unsigned())
}

fn oldest_suite(
    connection: &Connection,
    is_named: IsNamed<'_>,
    may_go: impl Fn(Suite) -> bool,
) -> Result<Option<Suite>, StoreError> {
    let mut oldest = connection.prepare_cached(
        "SELECT s.id, s.repository, s.dir, r.name FROM suite s JOIN repository r ON r.id = s.repository
         ORDER BY s.seen, s.id",
    )?;
    let mut rows = oldest.query([])?;
    while let Some(row) = rows.next()? {
        let suite = Suite { id: row.get(0)?, repository: row.get(1)? };
        let (dir, repository) = (row.get::<_, String>(2)?, Repository::restore(&row.get::<_, String>(3)?));
        if may_go(suite) && !is_named(&repository, &dir) {
            tracing::info!(%repository, dir, "forgotten: there are too many, and it was not seen for longest");
            return Ok(Some(suite));
        }
    }
    Ok(None)
}

fn forget_suite(transaction: &Transaction<'_>, suite: Suite) -> Result<(), StoreError> {
    let mut listings = transaction.prepare_cached("SELECT id FROM listing WHERE suite = ?1")?;
    let dropped = listings.query_map([suite.id], |row| row.get(0))?.collect::<Result<HashSet<u32>, _>>()?;
    drop_promises(transaction, suite.repository, &dropped)?;
    transaction.execute("DELETE FROM listing WHERE suite = ?1", [suite.id])?;
    transaction.execute("DELETE FROM suite WHERE id = ?1", [suite.id])?;
    Ok(())
}

fn forget_repository(transaction: &Transaction<'_>, repository: u32) -> Result<(), StoreError> {
    let mut listings = transaction.prepare_cached("SELECT id FROM listing WHERE repository = ?1")?;
    let dropped = listings.query_map([repository], |row| row.get(0))?.collect::<Result<HashSet<u32>, _>>()?;
    drop_promises(transaction, repository, &dropped)?;
    for table in ["listing", "suite"] {
        transaction.execute(&format!("DELETE FROM {table} WHERE repository = ?1"), [repository])?;
    }
    transaction.execute("DELETE FROM repository WHERE id = ?1", [repository])?;
    Ok(())
}

fn drop_promises(transaction: &Transaction<'_>, repository: u32, dropped: &HashSet<u32>) -> Result<(), StoreError> {
    // No listing has this number: nothing is named, and only what goes is looked for.
    Update { repository, listing: 0, fresh: false, at_once: |_| true, dropped }.apply(transaction, Named::default())
}

fn count(connection: &Connection, sql: &str, of: impl Params) -> Result<i64, StoreError> {
    Ok(connection.prepare_cached(sql)?.query_row(of, |row| row.get(0))?)
}

/// Notes that a suite is current now, in an order that no clock can upset.
pub(super) fn note_seen(connection: &Connection, repository: u32, dir: &str) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE suite SET seen = (SELECT max(seen) + 1 FROM suite) WHERE repository = ?1 AND dir = ?2")?
        .execute(params![repository, dir])?;
    Ok(())
}
