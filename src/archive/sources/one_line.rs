//! The one-line style: `deb [option=value ...] URI suite [component ...]`.

use crate::archive::Validity;

use super::{BadSource, SignedBy, Source, SourceType, read_base, with_architecture};

pub fn parse(file: &str, text: &str, proxies: &[String]) -> Vec<Result<Source, BadSource>> {
    let lines = text.lines().zip(1..);
    let entries = lines.filter_map(|(line, number)| {
        let read = parse_entry(without_comment(line).trim(), proxies).transpose()?;
        Some(match read {
            Ok(source) => Ok(Source { file: file.to_owned(), line: number, ..source }),
            Err(reason) => Err(BadSource { file: file.to_owned(), line: number, reason }),
        })
    });
    entries.collect()
}

/// `None` for an empty line, and for one of a scheme that is not ours.
fn parse_entry(entry: &str, proxies: &[String]) -> Result<Option<Source>, String> {
    let Some((kind, rest)) = entry.split_once([' ', '\t']) else {
        return if entry.is_empty() { Ok(None) } else { Err("an entry of one word".to_owned()) };
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
    let uri = words.next().ok_or("no URI")?;
    let Some(base) = read_base(&with_architecture(uri), proxies) else { return Ok(None) };
    let suite = with_architecture(words.next().ok_or("no suite")?);
    let mut source = Source {
        types: vec![kind],
        base: base?,
        suites: vec![suite],
        components: words.map(str::to_owned).collect(),
        architectures: Vec::new(),
        signed_by: None,
        validity: Validity::default(),
        file: String::new(),
        line: 0,
    };
    if source.components.is_empty() != source.suites[0].ends_with('/') {
        return Err("components are needed, but not behind a suite that ends with a slash".to_owned());
    }
    for option in options.split_whitespace() {
        let (name, value) = option.split_once('=').ok_or_else(|| format!("option {option}: expected name=value"))?;
        match name.to_ascii_lowercase().as_str() {
            "signed-by" => source.signed_by = Some(SignedBy::parse(value)?),
            "arch" => source.architectures = value.split(',').map(str::to_owned).collect(),
            time => source.validity.set(time, value),
        }
    }
    Ok(Some(source))
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
