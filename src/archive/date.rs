//! Dates as Release files write them: `Sat, 11 Jul 2026 09:12:31 UTC` (RFC 2822, section 3.3, with a named zone).

use std::time::{Duration, SystemTime};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Reads a date between 1970 and 9999. The weekday may be left out and is not checked; the zone is `UTC`, `GMT`, `Z` or
/// an offset of no hours, and nothing else is legal in a Release file.
pub fn parse(text: &str) -> Option<SystemTime> {
    let date = text.trim().split_once(',').map_or(text, |(_weekday, rest)| rest);
    let mut words = date.split_ascii_whitespace();
    let day = number(words.next()?, 31)?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(month))? as u64 + 1;
    let year = number(words.next()?, 9999).filter(|&year| year >= 1970)?;
    let mut clock = words.next()?.split(':');
    let hours = number(clock.next()?, 23)?;
    let minutes = number(clock.next()?, 59)?;
    let seconds = number(clock.next()?, 60)?;
    if clock.next().is_some() || !matches!(words.next()?, "UTC" | "GMT" | "Z" | "+0000" | "-0000") {
        return None;
    }
    if words.next().is_some() || day == 0 || day > days_in(month, year) {
        return None;
    }
    let seconds = ((days_before(year, month) + day - 1) * 24 + hours) * 3600 + minutes * 60 + seconds;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

fn number(digits: &str, max: u64) -> Option<u64> {
    let legal = (1..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|&number| legal && number <= max)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(month: u64, year: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1 January 1970 to the first of a month.
fn days_before(year: u64, month: u64) -> u64 {
    let before = year - 1;
    let leaps = before / 4 - before / 100 + before / 400;
    let leaps_before_1970 = 1969 / 4 - 1969 / 100 + 1969 / 400;
    (year - 1970) * 365 + leaps - leaps_before_1970 + (1..month).map(|month| days_in(month, year)).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<u64> {
        parse(text).map(|date| date.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
    }

    #[test]
    fn dates_are_read_as_debian_writes_them() {
        assert_eq!(seconds("Sat, 11 Jul 2026 09:12:31 UTC"), Some(1_783_761_151));
        assert_eq!(seconds("Thu, 01 Jan 1970 00:00:00 UTC"), Some(0));
        assert_eq!(seconds("Thu, 29 Feb 2024  5:00:00 +0000"), Some(1_709_182_800));
        assert_eq!(seconds("31 Dec 1999 23:59:59 GMT"), Some(946_684_799));
        assert_eq!(seconds("Sun, 01 Mar 2400 00:00:00 UTC"), Some(13_574_649_600));
    }

    proptest::proptest! {
        #[test]
        fn every_second_up_to_the_year_9999_is_read_back(seconds in 0..253_402_300_800_u64) {
            let date = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            proptest::prop_assert_eq!(parse(&crate::archive::testing::date_text(date)), Some(date));
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "yesterday",
            "Sat, 11 Jul 2026",
            "Sat, 11 Jul 2026 09:12 UTC",
            "Sat, 11 Jul 2026 09:12:31",
            "Sat, 11 Jul 2026 09:12:31 CEST",
            "Sat, 11 Jul 2026 09:12:31 +0200",
            "Sat, 32 Jul 2026 09:12:31 UTC",
            "Sat, 0 Jul 2026 09:12:31 UTC",
            "Sun, 29 Feb 2026 09:12:31 UTC",
            "Sat, 11 Jul 1969 09:12:31 UTC",
            "Sat, 11 Jul 2026 24:12:31 UTC",
            "Sat, 11 Jul 99999 09:12:31 UTC",
            "Sat, 11 Jul 2026 09:12:31:00 UTC",
            "Sat, 11 Jul 2026 +9:12:31 UTC",
            "Sat, 11 Jul 2026 09:12:31 UTC UTC",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
