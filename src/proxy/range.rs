//! `Range` of a request (RFC 9110, section 14).

use std::ops::Range;

/// What part of a file is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All of it: no range, or one that may be ignored.
    Whole,
    /// These bytes.
    Bytes(Range<u64>),
    /// Bytes that are not there.
    Unsatisfiable,
}

/// Reads the value of a `Range` field for a file of that size. Several ranges are answered with the whole file.
pub fn parse(value: Option<&str>, size: u64) -> Part {
    let Some(ranges) = value.and_then(|value| value.trim().strip_prefix("bytes=")) else { return Part::Whole };
    let Some((first, last)) = ranges.split_once('-').filter(|_| !ranges.contains(',')) else { return Part::Whole };
    let number = |digits: &str| {
        digits.trim().bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.trim().parse().ok()).flatten()
    };
    let range = match (first.trim().is_empty(), last.trim().is_empty()) {
        (true, true) => return Part::Whole,
        (true, false) => match number(last) {
            Some(0) => return Part::Unsatisfiable,
            Some(suffix) => size.saturating_sub(suffix)..size,
            None => return Part::Whole,
        },
        (false, open) => {
            let last = if open { Some(u64::MAX - 1) } else { number(last) };
            match (number(first), last) {
                (Some(first), Some(last)) if first <= last => first..size.min(last + 1),
                _ => return Part::Whole,
            }
        }
    };
    if range.start >= size { Part::Unsatisfiable } else { Part::Bytes(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_one_range_is_read_and_the_rest_means_the_whole() {
        let cases = [
            (None, Part::Whole),
            (Some("bytes=0-"), Part::Bytes(0..100)),
            (Some("bytes=10-"), Part::Bytes(10..100)),
            (Some("bytes=10-19"), Part::Bytes(10..20)),
            (Some("bytes=10-1000"), Part::Bytes(10..100)),
            (Some("bytes=-7"), Part::Bytes(93..100)),
            (Some("bytes=-700"), Part::Bytes(0..100)),
            (Some("bytes=100-"), Part::Unsatisfiable),
            (Some("bytes=-0"), Part::Unsatisfiable),
            (Some("bytes=5-4"), Part::Whole),
            (Some("bytes=-"), Part::Whole),
            (Some("bytes=0-1,5-6"), Part::Whole),
            (Some("bytes=x-"), Part::Whole),
            (Some("bytes=+1-2"), Part::Whole),
            (Some("bytes=99999999999999999999-"), Part::Whole),
            (Some("lines=1-2"), Part::Whole),
        ];
        for (value, part) in cases {
            assert_eq!(parse(value, 100), part, "{value:?}");
        }
    }
}
