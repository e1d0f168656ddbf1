//! The one-line style: `deb [option=value ...] URI suite [component ...]`.

use crate::archive::Validity;

use super::{Bases, Entry, Found, SignedBy, SourceType, Surroundings, with_architecture};

pub fn parse(file: &str, text: &str, around: &Surroundings, found: &mut Found) {
    for (line, number) in text.lines().zip(1..) {
        let line = without_comment(line).trim();
        match parse_entry(line, around) {
            Ok(None) => {}
            Ok(Some((entry, bases))) => found.add(&Entry { file: file.to_owned(), line: number, ..entry }, bases),
            Err(reason) => found.refuse(file, number, reason, line, around),
        }
    }
}

/// `None` for an empty line.
fn parse_entry(line: &str, around: &Surroundings) -> Result<Option<(Entry, Bases)>, String> {
    let Some((kind, rest)) = line.split_once([' ', '\t']) else {
        return if line.is_empty() { Ok(None) } else { Err("an entry of one word".to_owned()) };
    };
    let kind = match kind {
        "deb" => SourceType::Deb,
        "deb-src" => SourceType::DebSrc,
        other => return Err(format!("type {other}: expected deb or deb-src")),
    };
    let (options, rest) = match rest.trim_start().strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or("options without closing bracket")?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let bases = around.bases(words.next().ok_or("no URI")?)?;
    if bases == Bases::Elsewhere {
        return Ok(None);
    }
    let suite = with_architecture(words.next().ok_or("no suite")?);
    let mut entry = Entry {
        types: vec![kind],
        suites: vec![suite],
        components: words.map(str::to_owned).collect(),
        architectures: Vec::new(),
        signed_by: None,
        validity: Validity::default(),
        file: String::new(),
        line: 0,
    };
    if entry.components.is_empty() != entry.suites[0].ends_with('/') {
        return Err("components are needed, but not behind a suite that ends with a slash".to_owned());
    }
    for option in options.split_whitespace() {
        let (name, value) = option.split_once('=').ok_or_else(|| format!("option {option}: expected name=value"))?;
        match name.to_ascii_lowercase().as_str() {
            "signed-by" => entry.signed_by = Some(SignedBy::parse(value)?),
            "arch" => entry.architectures = value.split(',').map(str::to_owned).collect(),
            time => entry.validity.set(time, value),
        }
    }
    Ok(Some((entry, bases)))
}

/// The line up to its comment; a `#` between brackets begins none.
fn without_comment(line: &str) -> &str {
    let (mut at, mut rest) = (0, line);
    while let Some(found) = rest.find(['#', '[']) {
        if rest[found..].starts_with('#') {
            return &line[..at + found];
        }
        let behind = rest[found..].find(']').map_or(found + 1, |end| found + end);
        (at, rest) = (at + behind, &rest[behind..]);
    }
    line
}
