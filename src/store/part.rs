//! How much of a file is asked for: `Range` of a request (RFC 9110, section 14), for apt and for peers alike.

use std::ops::Range;

/// The part of a file that a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All: no range was asked for, or one that RFC 9110 lets a server ignore.
    Whole,
    /// These bytes, at least one.
    Bytes(Range<u64>),
    /// A range that has no byte of the file.
    Nothing,
}

impl Part {
    /// Reads a `Range` field (RFC 9110, section 14.2). Several ranges at once and other units are ignored.
    pub fn parse(range: &str, size: u64) -> Self {
        let Some((unit, range)) = range.split_once('=') else { return Self::Whole };
        let Some((first, last)) = range.trim().split_once('-') else { return Self::Whole };
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return Self::Whole;
        }
        let bytes = match (position(first), position(last)) {
            (Some(first), Some(last)) if first > last => return Self::Whole,
            (Some(first), Some(last)) => first..last.saturating_add(1).min(size),
            (Some(first), None) if last.is_empty() => first..size,
            (None, Some(length)) if first.is_empty() => size.saturating_sub(length)..size,
            _ => return Self::Whole,
        };
        if bytes.is_empty() { Self::Nothing } else { Self::Bytes(bytes) }
    }
}

/// Digits only: `u64::from_str` would take a sign. More than fit are as good as the largest number.
fn position(digits: &str) -> Option<u64> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        for (text, part) in [
            ("bytes=0-0", Part::Bytes(0..1)),
            ("bytes=2-5", Part::Bytes(2..6)),
            ("Bytes=2-", Part::Bytes(2..10)),
            ("bytes=-3", Part::Bytes(7..10)),
            ("bytes=-99", Part::Bytes(0..10)),
            ("bytes=9-99999999999999999999999", Part::Bytes(9..10)),
            ("bytes=0-18446744073709551615", Part::Bytes(0..10)),
            ("bytes=99999999999999999999999-", Part::Nothing),
            ("bytes=10-", Part::Nothing),
            ("bytes=10-12", Part::Nothing),
            ("bytes=-0", Part::Nothing),
            ("bytes=5-2", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=-", Part::Whole),
            ("lines=1-2", Part::Whole),
            ("", Part::Whole),
        ] {
            assert_eq!(Part::parse(text, 10), part, "{text}");
        }
        assert_eq!(Part::parse("bytes=0-", 0), Part::Nothing);
    }

    proptest! {
        #[test]
        fn a_part_lies_within_the_file(text in "(bytes=)?[0-9,= -]{0,24}", size in any::<u64>()) {
            if let Part::Bytes(bytes) = Part::parse(&text, size) {
                prop_assert!(bytes.start < bytes.end && bytes.end <= size);
            }
        }
    }
}
