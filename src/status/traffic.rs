//! What was saved, over restarts: the bytes of each day by where they came from.
//!
//! The stations count since the start; once a minute, and at the stop, what came since the last time is added to the
//! store's table. What is not there yet is counted in whenever somebody looks. A power cut costs a minute of figures.
#![expect(clippy::disallowed_methods, reason = "the clock that says which day it is and when a minute is over")]

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use crate::store::{Day, StoreError, Traffic};

use super::{
    Window,
    report::{DayVolume, Saved, Volume, seconds},
    words::moment,
};

/// How often it is written down.
const PERIOD: Duration = Duration::from_secs(60);
/// Days that are shown.
const DAYS: u32 = 30;

/// What was written down of this run.
#[derive(Debug, Default)]
pub struct Account(Mutex<Traffic>);

impl Window {
    /// Writes the traffic down from time to time, until it is dropped. Follow it with [`Window::write_down`].
    pub async fn keep_account(self: Arc<Self>) {
        loop {
            tokio::time::sleep(PERIOD).await;
            self.clone().write_down().await;
        }
    }

    /// Writes down what came since the last time. What cannot be is kept for the next.
    pub async fn write_down(self: Arc<Self>) {
        let write = move || {
            let mut written = self.account.0.lock().unwrap_or_else(PoisonError::into_inner);
            let counted = self.counted();
            let new = counted - *written;
            if new != Traffic::default() {
                self.store.add_traffic(day_of(SystemTime::now()), new)?;
                *written = counted;
            }
            Ok::<_, StoreError>(())
        };
        let written = tokio::task::spawn_blocking(write).await.expect("the store does not panic");
        if let Err(error) = written {
            tracing::debug!(%error, "traffic not written down yet");
        }
    }

    /// What was saved until now.
    pub(super) fn saved(&self, now: SystemTime) -> Saved {
        let written = self.account.0.lock().unwrap_or_else(PoisonError::into_inner);
        let unwritten = self.counted() - *written;
        let days = self.store.traffic().unwrap_or_default();
        drop(written);
        saved(&days, unwritten, day_of(now))
    }

    /// Since the start.
    fn counted(&self) -> Traffic {
        let fetched = self.fetcher.snapshot();
        Traffic {
            peers: fetched.from_peers.saturating_sub(fetched.from_lan),
            lan: fetched.from_lan,
            store: self.flow.from_store(),
            mirror: fetched.from_mirror,
            up: self.upload.as_ref().map_or(0, |meter| meter.snapshot().bytes_up),
        }
    }
}

/// A clock that jumped back leaves days in the future; they count for ever, and for nothing else.
fn saved(days: &[Day], unwritten: Traffic, today: u32) -> Saved {
    let first = (today + 1).saturating_sub(DAYS).max(1);
    let sum = |wanted: &dyn Fn(u32) -> bool| -> Traffic {
        let wanted = days.iter().filter(|day| wanted(day.day));
        wanted.fold(unwritten, |sum, day| sum + day.traffic)
    };
    let of_day = |day: u32| {
        let written = days.iter().find(|one| one.day == day).map_or_else(Traffic::default, |one| one.traffic);
        DayVolume { day: name(day), bytes: volume(if day == today { written + unwritten } else { written }) }
    };
    Saved {
        today: volume(sum(&|day| day == today)),
        month: volume(sum(&|day| (first..=today).contains(&day))),
        ever: volume(sum(&|_| true)),
        days: (first..=today).map(of_day).collect(),
    }
}

fn volume(Traffic { peers, lan, store, mirror, up }: Traffic) -> Volume {
    Volume { peers, lan, store, mirror, up }
}

fn day_of(time: SystemTime) -> u32 {
    u32::try_from(seconds(time) / 86_400).unwrap_or(u32::MAX)
}

fn name(day: u32) -> String {
    moment(u64::from(day) * 86_400).split(' ').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn today_counts_in_the_month_and_the_month_in_all_time() {
        let day = |day, peers| Day { day, traffic: Traffic { peers, ..Traffic::default() } };
        let days = [day(0, 1), day(20_000, 2), day(20_001, 4), day(20_030, 8), day(20_031, 16)];
        let new = Traffic { peers: 32, mirror: 5, ..Traffic::default() };
        let saved = saved(&days, new, 20_030);
        let peers = [&saved.today, &saved.month, &saved.ever].map(|volume| volume.peers);
        assert_eq!(peers, [40, 44, 63]);
        assert_eq!((saved.today.mirror, saved.month.mirror, saved.ever.mirror), (5, 5, 5));
        assert_eq!(saved.days.len(), 30);
        assert_eq!((saved.days[0].day.as_str(), saved.days[0].bytes.peers), ("2024-10-05", 4));
        assert_eq!((saved.days[29].day.as_str(), saved.days[29].bytes.peers), ("2024-11-03", 40));
    }

    #[test]
    fn a_clock_at_its_beginning_breaks_nothing() {
        let saved = saved(&[], Traffic { up: 3, ..Traffic::default() }, 0);
        assert_eq!((saved.today.up, saved.days.len()), (3, 0));
    }
}
