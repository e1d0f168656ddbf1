//! Versions in Debian's order, to show the newest first (deb-version(7)).

use std::cmp::Ordering;

/// Compares `[epoch:]upstream[-revision]` with another.
pub fn compare(a: &str, b: &str) -> Ordering {
    let ((a_epoch, a), (b_epoch, b)) = (split_epoch(a), split_epoch(b));
    let ((a, a_revision), (b, b_revision)) = (split_revision(a), split_revision(b));
    compare_part(a_epoch, b_epoch).then_with(|| compare_part(a, b)).then_with(|| compare_part(a_revision, b_revision))
}

/// The version without its epoch, as the names of files have it.
pub fn without_epoch(version: &str) -> &str {
    split_epoch(version).1
}

fn split_epoch(version: &str) -> (&str, &str) {
    match version.split_once(':') {
        Some((epoch, rest)) if !epoch.is_empty() && epoch.bytes().all(|byte| byte.is_ascii_digit()) => (epoch, rest),
        _ => ("0", version),
    }
}

fn split_revision(version: &str) -> (&str, &str) {
    version.rsplit_once('-').unwrap_or((version, "0"))
}

/// Runs of other characters and runs of digits take turns; either may be empty.
fn compare_part(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (a_text, b_text) = (take(&mut a, false), take(&mut b, false));
        let texts = compare_text(a_text, b_text);
        let (a_digits, b_digits) =
            (take(&mut a, true).trim_start_matches('0'), take(&mut b, true).trim_start_matches('0'));
        let order = texts.then(a_digits.len().cmp(&b_digits.len())).then_with(|| a_digits.cmp(b_digits));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

fn take<'a>(text: &mut &'a str, digits: bool) -> &'a str {
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    let (run, rest) = text.split_at(end);
    *text = rest;
    run
}

/// A tilde sorts before the end, the end before letters, letters before all else.
fn compare_text(a: &str, b: &str) -> Ordering {
    let weight = |c: Option<char>| match c {
        Some('~') => (0, '~'),
        None => (1, ' '),
        Some(c) if c.is_ascii_alphabetic() => (2, c),
        Some(c) => (3, c),
    };
    let (mut a, mut b) = (a.chars(), b.chars());
    loop {
        let (one, other) = (a.next(), b.next());
        let order = weight(one).cmp(&weight(other));
        if order.is_ne() || one.is_none() {
            return order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_dpkg_orders_them() {
        let ascending = [
            "1.0~beta1~svn1245",
            "1.0~beta1",
            "1.0",
            "1.0-1~bpo12+1",
            "1.0-1",
            "1.0-1+b1",
            "1.0-1+deb12u1",
            "1.0-2",
            "1.0-10",
            "1.0a-1",
            "1.0+dfsg-1",
            "1.0.1-1",
            "1.9-1",
            "1.10-1",
            "10.0",
            "1:0.1",
            "2:0.1",
            "10:0",
        ];
        for (at, one) in ascending.iter().enumerate() {
            for (other_at, other) in ascending.iter().enumerate() {
                assert_eq!(compare(one, other), at.cmp(&other_at), "{one} and {other}");
            }
        }
        for (one, other) in [("1.0", "1.00"), ("1.0", "0:1.0"), ("1.0-0", "1.0"), ("", "0"), ("1.a", "1.a0")] {
            assert_eq!(compare(one, other), Ordering::Equal, "{one} and {other}");
        }
    }

    #[test]
    fn an_epoch_is_no_part_of_a_file_name() {
        assert_eq!(["1:2.3-4", "2.3-4", "a:1", ":1"].map(without_epoch), ["2.3-4", "2.3-4", "a:1", ":1"]);
    }
}
