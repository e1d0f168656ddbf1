//! Until when, and from when on, the Releases of a source may be believed: those options of its entry that speak of time.
//!
//! ```text
//!  one-line style       deb822 style         says, see sources.list(5)
//!  check-date           Check-Date           `no`: the clock is not to be trusted, nothing below is asked either
//!  date-max-future      Date-Max-Future      seconds that a Date may be ahead
//!  check-valid-until    Check-Valid-Until    `no`: a Release does not expire
//!  valid-until-min      Valid-Until-Min      seconds after its Date that it is valid at least, where it says until when
//!  valid-until-max      Valid-Until-Max      seconds after its Date that it is valid at most, whatever it says
//! ```

use std::time::{Duration, SystemTime};

/// How far ahead of this machine's clock the Date of a Release may be where nothing else is said: as apt has it.
const AHEAD: Duration = Duration::from_secs(10);

/// The options of an entry that speak of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Whether the clock is asked at all.
    pub check_date: bool,
    /// Whether a Release expires.
    pub check_valid_until: bool,
    /// How long after its Date it is valid at least, when it says until when.
    pub at_least: Option<Duration>,
    /// How long after its Date it is valid at most.
    pub at_most: Option<Duration>,
    /// How far in the future its Date may be.
    pub ahead: Duration,
}

impl Default for Validity {
    fn default() -> Self {
        Self { check_date: true, check_valid_until: true, at_least: None, at_most: None, ahead: AHEAD }
    }
}

impl Validity {
    /// The options by their names in lower case.
    pub const OPTIONS: [&str; 5] =
        ["check-date", "date-max-future", "check-valid-until", "valid-until-min", "valid-until-max"];

    /// Takes an option by its name in lower case; others than [`Self::OPTIONS`] say nothing of time. As in apt, what is no
    /// number and what is 0 say nothing either.
    pub fn set(&mut self, option: &str, value: &str) {
        match option {
            "check-date" => self.check_date = !is_no(value),
            "check-valid-until" => self.check_valid_until = !is_no(value),
            "valid-until-min" => self.at_least = seconds(value),
            "valid-until-max" => self.at_most = seconds(value),
            "date-max-future" => self.ahead = seconds(value).unwrap_or(AHEAD),
            _ => {}
        }
    }

    /// What two entries for one suite say together: the stricter of each. apt takes neither when they differ.
    pub fn and(self, other: Self) -> Self {
        let shorter = |one: Option<Duration>, two: Option<Duration>| Some(one?.min(two?));
        Self {
            check_date: self.check_date || other.check_date,
            check_valid_until: self.check_valid_until || other.check_valid_until,
            at_least: shorter(self.at_least, other.at_least),
            at_most: shorter(self.at_most, other.at_most).or(self.at_most).or(other.at_most),
            ahead: self.ahead.min(other.ahead),
        }
    }

    /// Until when a Release of that Date is valid, given what it says itself. `None` is for ever.
    pub fn end(&self, date: SystemTime, says: Option<SystemTime>) -> Option<SystemTime> {
        if !self.check_date || !self.check_valid_until {
            return None;
        }
        let says = says.map(|end| self.at_least.map_or(end, |at_least| end.max(date + at_least)));
        let latest = self.at_most.map(|at_most| date + at_most);
        says.map(|end| latest.map_or(end, |latest| end.min(latest))).or(latest)
    }

    /// Whether a Date is too far in the future.
    pub fn is_ahead(&self, date: SystemTime, now: SystemTime) -> bool {
        self.check_date && date > now + self.ahead
    }
}

/// Whether a value means no, as apt reads it.
pub fn is_no(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "no" | "false" | "without" | "off" | "disable" | "0")
}

/// Reads seconds, up to 136 years: added to any date of a Release, they overflow nothing.
fn seconds(value: &str) -> Option<Duration> {
    let digits = value.trim_ascii();
    let legal = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let seconds = legal.then(|| digits.parse().unwrap_or(u32::MAX))?;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use crate::archive::testing::{DAY, now};

    use super::*;

    fn of(options: &[(&str, &str)]) -> Validity {
        let mut validity = Validity::default();
        options.iter().for_each(|(option, value)| validity.set(option, value));
        validity
    }

    #[test]
    fn what_expires_earlier_counts_and_a_minimum_only_lengthens_what_is_said() {
        let (day, week) = ("86400", "604800");
        let (date, said) = (now(), Some(now() + 3 * DAY));
        for (options, says, end) in [
            (&[][..], None, None),
            (&[], said, said),
            (&[("valid-until-min", week)], None, None),
            (&[("valid-until-min", week)], said, Some(date + 7 * DAY)),
            (&[("valid-until-min", day)], said, said),
            (&[("valid-until-max", week)], None, Some(date + 7 * DAY)),
            (&[("valid-until-max", week)], said, said),
            (&[("valid-until-max", day)], said, Some(date + DAY)),
            (&[("valid-until-min", week), ("valid-until-max", day)], said, Some(date + DAY)),
            (&[("valid-until-max", day), ("check-valid-until", "no")], said, None),
            (&[("valid-until-max", day), ("check-date", "off")], said, None),
            (&[("valid-until-max", "0")], said, said),
            (&[("valid-until-max", "a day")], said, said),
            (&[("valid-until-max", "-1")], said, said),
        ] {
            assert_eq!(of(options).end(date, says), end, "{options:?} {says:?}");
        }
    }

    #[test]
    fn a_date_may_be_ahead_as_far_as_the_entry_says() {
        let second = Duration::from_secs(1);
        for (options, most) in [
            (&[][..], Some(AHEAD)),
            (&[("date-max-future", "3600")], Some(3600 * second)),
            (&[("date-max-future", "99999999999999999999")], Some(Duration::from_secs(u32::MAX.into()))),
            (&[("date-max-future", "soon")], Some(AHEAD)),
            (&[("check-date", "no")], None),
        ] {
            let validity = of(options);
            let far = most.unwrap_or(1000 * DAY);
            assert!(!validity.is_ahead(now() + far, now()), "{options:?}");
            assert_eq!(validity.is_ahead(now() + far + second, now()), most.is_some(), "{options:?}");
        }
    }

    #[test]
    fn of_two_entries_the_stricter_counts() {
        let lax = of(&[
            ("check-date", "no"),
            ("check-valid-until", "no"),
            ("valid-until-min", "9"),
            ("date-max-future", "99"),
        ]);
        let strict = of(&[("valid-until-max", "7"), ("date-max-future", "5")]);
        assert_eq!(lax.and(strict), strict);
        assert_eq!(strict.and(lax), strict);
        let longer = of(&[("valid-until-max", "8"), ("valid-until-min", "3"), ("date-max-future", "6")]);
        assert_eq!(longer.and(strict), strict);
        assert_eq!(longer.and(longer), longer);
    }

    #[test]
    fn no_number_of_seconds_is_too_large() {
        let endless = of(&Validity::OPTIONS.map(|option| (option, "184467440737095516160")));
        let year_9999 = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        assert!(endless.end(year_9999, Some(year_9999)) > Some(year_9999));
        assert!(!endless.is_ahead(year_9999, year_9999));
    }
}
