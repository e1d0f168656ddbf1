//! The one-line style: `deb [option=value ...] URI suite [component ...]`.

use super::{BadSource, SignedBy, Source, SourceType, is_no, read_base};

pub fn parse(file: &str, text: &str, proxies: &[String]) -> Vec<Result<Source, BadSource>> {
    let lines = text.lines().zip(1..);
    let entries = lines.filter_map(|(line, number)| {
        let entry = line.split('#').next().unwrap_or_default().trim();
        let read = parse_entry(entry, proxies).transpose()?;
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
    let Some(base) = read_base(uri, proxies) else { return Ok(None) };
    let suite = words.next().ok_or("no suite")?;
    let mut source = Source {
        types: vec![kind],
        base: base?,
        suites: vec![suite.to_owned()],
        components: words.map(str::to_owned).collect(),
        architectures: Vec::new(),
        signed_by: None,
        check_valid_until: true,
        file: String::new(),
        line: 0,
    };
    if source.components.is_empty() != suite.ends_with('/') {
        return Err("components are needed, but not behind a suite that ends with a slash".to_owned());
    }
    for option in options.split_whitespace() {
        let (name, value) = option.split_once('=').ok_or_else(|| format!("option {option}: expected name=value"))?;
        match name.to_ascii_lowercase().as_str() {
            "signed-by" => source.signed_by = Some(SignedBy::parse(value)?),
            "arch" => source.architectures = value.split(',').map(str::to_owned).collect(),
            "check-valid-until" => source.check_valid_until = !is_no(value),
            _ => {}
        }
    }
    Ok(Some(source))
}
