//! Pins: the keys that the next Release of a suite must be signed with, over a restart; and until when this one is valid.

use std::time::SystemTime;

use rusqlite::params;

use crate::archive::{Pin, Repository};

use super::{Store, StoreError, catalogue::time, seconds};

impl Store {
    /// Keeps what the Release of that date says of the next one, and says whether it is the latest of its suite: what an
    /// older one says is not kept.
    pub fn pin(&self, pin: &Pin, date: SystemTime) -> Result<bool, StoreError> {
        let said = pin.until().map(|until| (pin.keys(), seconds(until))).filter(|(keys, _)| !keys.is_empty());
        let (keys, until) = said.unzip();
        let changed = self.0.database.writer().execute(
            "UPDATE suite SET keys = ?4, keys_until = ?5 WHERE dir = ?2 AND date = ?3
                 AND repository = (SELECT id FROM repository WHERE name = ?1)",
            params![pin.repository().as_str(), pin.suite_dir(), seconds(date), keys, until],
        )?;
        Ok(changed > 0)
    }

    /// Keeps until when the Release of that date says that it may be believed.
    pub fn keep_valid_until(
        &self,
        repository: &Repository,
        suite_dir: &str,
        date: SystemTime,
        valid_until: Option<SystemTime>,
    ) -> Result<(), StoreError> {
        self.0.database.writer().execute(
            "UPDATE suite SET valid_until = ?4 WHERE dir = ?2 AND date = ?3
                 AND repository = (SELECT id FROM repository WHERE name = ?1)",
            params![repository.as_str(), suite_dir, seconds(date), valid_until.map(seconds)],
        )?;
        Ok(())
    }

    /// What was kept, for the next run.
    pub fn pins(&self) -> Result<Vec<Pin>, StoreError> {
        let reader = self.0.database.reader();
        let mut statement = reader.prepare(
            "SELECT r.name, s.dir, s.keys, s.keys_until FROM suite s JOIN repository r ON r.id = s.repository
             WHERE s.keys IS NOT NULL AND s.keys_until IS NOT NULL",
        )?;
        let pins = statement.query_map([], |row| {
            let (name, dir, keys): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(Pin::restore(Repository::restore(&name), dir, &keys, time(row.get(3)?)))
        })?;
        Ok(pins.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }
}
