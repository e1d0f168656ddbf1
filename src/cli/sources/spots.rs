//! Where the URIs stand in a file of apt's sources, so that they can be replaced and nothing else.
//!
//! ```text
//!  deb [arch=amd64] http://m.example.org/debian bookworm main        URIs: http://m.example.org/debian
//!                   ^------------------------^                             http://n.example.org/debian
//!                                                                          ^-------------------------^ each of them
//! ```
//!
//! It finds them where [`Sources::parse`](crate::archive::Sources::parse) reads them, in entries that hold. A caller reads
//! the text again after a replacement, and compares.

use std::ops::Range;

use crate::archive::is_no;

/// A URI in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// Its bytes.
    pub range: Range<usize>,
    /// Its line, counted from 1.
    pub line: usize,
}

/// The two styles, by the end of a file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `*.list`
    OneLine,
    /// `*.sources`
    Deb822,
}

impl Style {
    /// The style of a file of this name; apt reads no others.
    pub fn of(name: &str) -> Option<Self> {
        match name.rsplit_once('.') {
            Some((_, "list")) => Some(Self::OneLine),
            Some((_, "sources")) => Some(Self::Deb822),
            _ => None,
        }
    }

    /// The URIs of a text, in its order.
    pub fn spots(self, text: &str) -> Vec<Spot> {
        match self {
            Self::OneLine => one_line(text),
            Self::Deb822 => deb822(text),
        }
    }
}

/// The lines of a text without their ends, with where they begin and their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, usize, &str)> {
    let mut at = 0;
    (1..).zip(text.split_inclusive('\n')).map(move |(number, raw)| {
        let start = at;
        at += raw.len();
        (number, start, raw.trim_end_matches(['\n', '\r']))
    })
}

/// The words of a text, with where they begin in it.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_whitespace().map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

fn one_line(text: &str) -> Vec<Spot> {
    let spot = |(number, start, line): (usize, usize, &str)| {
        let (at, kind) = words(line).next().filter(|(_, kind)| matches!(*kind, "deb" | "deb-src"))?;
        let mut rest = at + kind.len();
        let behind = line[rest..].trim_start();
        if let Some(options) = behind.strip_prefix('[') {
            rest = line.len() - options.len() + options.find(']')? + 1;
        }
        let (at, uri) = words(&line[rest..]).next()?;
        let from = start + rest + at;
        Some(Spot { range: from..from + uri.len(), line: number })
    };
    lines(text).filter_map(spot).collect()
}

/// What is known of the paragraph at hand.
#[derive(Default)]
struct Paragraph {
    uris: Vec<Spot>,
    is_off: bool,
    is_in_uris: bool,
}

fn deb822(text: &str) -> Vec<Spot> {
    let mut found = Vec::new();
    let mut paragraph = Paragraph::default();
    let end = |paragraph: Paragraph, found: &mut Vec<Spot>| {
        if !paragraph.is_off {
            found.extend(paragraph.uris);
        }
    };
    for (number, start, line) in lines(text) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim_ascii().is_empty() {
            end(std::mem::take(&mut paragraph), &mut found);
            continue;
        }
        let value = match line.split_once(':').filter(|_| !line.starts_with([' ', '\t'])) {
            None => line,
            Some((name, value)) => {
                paragraph.is_in_uris = name.eq_ignore_ascii_case("URIs");
                paragraph.is_off |= name.eq_ignore_ascii_case("Enabled") && is_no(value.trim());
                value
            }
        };
        if paragraph.is_in_uris {
            let from = start + line.len() - value.len();
            let spot = |(at, uri): (usize, &str)| Spot { range: from + at..from + at + uri.len(), line: number };
            paragraph.uris.extend(words(value).map(spot));
        }
    }
    end(paragraph, &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(style: Style, text: &str) -> Vec<(usize, &str)> {
        style.spots(text).into_iter().map(|spot| (spot.line, &text[spot.range])).collect()
    }

    #[test]
    fn the_uri_of_a_line_is_found_behind_any_options() {
        let text = "# deb http://no.example.org sid main\n\
                    deb http://a.example.org/debian sid main\n\
                    \tdeb-src   [ arch=amd64 signed-by=/k.gpg ]  http://b.example.org sid main # http://no\r\n\
                    deb [trusted=no]http://c.example.org/ ./\n\
                    rpm http://no.example.org sid main\n\
                    deb\n\n\
                    deb [arch=amd64 http://no.example.org sid main\n\
                    deb cdrom:[Debian]/ sid main";
        let want = [
            (2, "http://a.example.org/debian"),
            (3, "http://b.example.org"),
            (4, "http://c.example.org/"),
            (9, "cdrom:[Debian]/"),
        ];
        assert_eq!(found(Style::OneLine, text), want);
    }

    #[test]
    fn all_uris_of_a_paragraph_are_found_wherever_the_field_is_folded() {
        let text = "# URIs: http://no.example.org\n\
                    Types: deb\n\
                    uris: http://a.example.org/debian  https://b.example.org\n\
                    # a remark\n \thttp://c.example.org\n\
                    Suites: sid\n http://no.example.org\n\
                    \n\
                    Types: deb\nURIs:\n http://d.example.org\nEnabled: yes\n \
                    \t \r\n\
                    Enabled: no\nURIs: http://no.example.org\n";
        let want = [
            (3, "http://a.example.org/debian"),
            (3, "https://b.example.org"),
            (5, "http://c.example.org"),
            (11, "http://d.example.org"),
        ];
        assert_eq!(found(Style::Deb822, text), want);
    }

    #[test]
    fn a_files_style_is_in_its_name() {
        let names = ["sources.list", "a.sources", "a.sources.save", "list", "a.list.apt-huddle.save"];
        assert_eq!(names.map(Style::of), [Some(Style::OneLine), Some(Style::Deb822), None, None, None]);
    }
}
