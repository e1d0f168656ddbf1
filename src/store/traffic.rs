//! Traffic: what came from where on which day.
//!
//! A day is that of UTC, counted from 1970-01-01. Days older than [`DAYS`] are added up in the row of day 0, so that the
//! table stays small and nothing is lost of the sum.

use std::ops::{Add, Sub};

use rusqlite::params;

use super::{Store, StoreError};

/// Days that are kept one by one.
const DAYS: i64 = 400;

/// Bytes, by where they came from; none is counted twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// From peers beyond the LAN.
    pub peers: u64,
    /// From peers in the LAN.
    pub lan: u64,
    /// To apt from the store.
    pub store: u64,
    /// From mirrors.
    pub mirror: u64,
    /// To peers.
    pub up: u64,
}

impl Traffic {
    fn with(self, other: Self, of: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            peers: of(self.peers, other.peers),
            lan: of(self.lan, other.lan),
            store: of(self.store, other.store),
            mirror: of(self.mirror, other.mirror),
            up: of(self.up, other.up),
        }
    }
}

impl Add for Traffic {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.with(other, u64::saturating_add)
    }
}

impl Sub for Traffic {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.with(other, u64::saturating_sub)
    }
}

/// The traffic of one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    /// Days since 1970-01-01; 0 stands for all that are too long ago.
    pub day: u32,
    /// What came, and what went.
    pub traffic: Traffic,
}

impl Store {
    /// Adds to the traffic of a day.
    pub fn add_traffic(&self, day: u32, traffic: Traffic) -> Result<(), StoreError> {
        let mut writer = self.0.database.writer();
        let transaction = writer.transaction()?;
        let Traffic { peers, lan, store, mirror, up } = traffic;
        let bytes = [peers, lan, store, mirror, up].map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        let add = "ON CONFLICT (day) DO UPDATE SET peers = peers + excluded.peers, lan = lan + excluded.lan,
                       store = store + excluded.store, mirror = mirror + excluded.mirror, up = up + excluded.up";
        let insert = format!("INSERT INTO traffic VALUES (?1, ?2, ?3, ?4, ?5, ?6) {add}");
        transaction.prepare_cached(&insert)?.execute(params![day, bytes[0], bytes[1], bytes[2], bytes[3], bytes[4]])?;
        let old = i64::from(day) - DAYS;
        let fold = format!(
            "INSERT INTO traffic SELECT 0, sum(peers), sum(lan), sum(store), sum(mirror), sum(up) FROM traffic
             WHERE day BETWEEN 1 AND ?1 HAVING count(*) > 0 {add}"
        );
        transaction.prepare_cached(&fold)?.execute([old])?;
        transaction.prepare_cached("DELETE FROM traffic WHERE day BETWEEN 1 AND ?1")?.execute([old])?;
        Ok(transaction.commit()?)
    }

    /// The traffic of every day that had some, the earliest first.
    pub fn traffic(&self) -> Result<Vec<Day>, StoreError> {
        let reader = self.0.database.reader();
        let mut statement =
            reader.prepare_cached("SELECT day, peers, lan, store, mirror, up FROM traffic ORDER BY day")?;
        let days = statement.query_map([], |row| {
            let bytes = |column| row.get::<_, i64>(column).map(|bytes| bytes.max(0).cast_unsigned());
            let (peers, lan, store, mirror, up) = (bytes(1)?, bytes(2)?, bytes(3)?, bytes(4)?, bytes(5)?);
            Ok(Day { day: row.get(0)?, traffic: Traffic { peers, lan, store, mirror, up } })
        })?;
        Ok(days.collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use crate::store::Config;

    use super::*;

    fn traffic(peers: u64, up: u64) -> Traffic {
        Traffic { peers, up, ..Traffic::default() }
    }

    #[test]
    fn days_are_added_up_over_restarts_and_old_ones_become_one() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { path: dir.path().join("store"), quota: 1 << 30, min_free: 0 };
        let open = || Store::open(&config, |_| true).unwrap();
        let store = open();
        for (day, peers) in [(20_000, 1), (20_001, 2), (20_000, 4)] {
            store.add_traffic(day, traffic(peers, 10)).unwrap();
        }
        drop(store);
        let store = open();
        let day = |day, traffic| Day { day, traffic };
        assert_eq!(store.traffic().unwrap(), [day(20_000, traffic(5, 20)), day(20_001, traffic(2, 10))]);
        store.add_traffic(20_400, traffic(8, 0)).unwrap();
        store.add_traffic(20_401, traffic(16, 0)).unwrap();
        let sum = [day(0, traffic(7, 30)), day(20_400, traffic(8, 0)), day(20_401, traffic(16, 0))];
        assert_eq!(store.traffic().unwrap(), sum);
        store.add_traffic(20_401, traffic(u64::MAX, 0)).unwrap_err();
        assert_eq!(store.traffic().unwrap(), sum, "a sum beyond every disk is refused, and nothing is lost");
    }
}
