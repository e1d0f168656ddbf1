//! The deb822 style: one paragraph an entry.

use crate::archive::{
    Validity,
    deb822::{BadText, Comments, Paragraph, Paragraphs},
    validity::is_no,
};

use super::{BadSource, SignedBy, Source, SourceType, read_base, with_architecture};

const ARMOR: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

pub fn parse(file: &str, text: &str, proxies: &[String]) -> Vec<Result<Source, BadSource>> {
    let mut paragraphs = Paragraphs::new(text.as_bytes(), Comments::Skipped);
    let mut all = Vec::new();
    let bad = |line, reason| Err(BadSource { file: file.to_owned(), line, reason });
    loop {
        match paragraphs.next_paragraph() {
            Ok(None) => return all,
            Ok(Some(paragraph)) => match parse_entry(file, &paragraph, proxies) {
                Ok(sources) => all.extend(sources.into_iter().map(|source| match source {
                    Ok(source) => Ok(source),
                    Err(reason) => bad(paragraph.line_of("URIs"), reason),
                })),
                Err(error) => all.push(bad(line(&error), reason(&error))),
            },
            Err(error) => all.push(bad(line(&error), reason(&error))),
        }
    }
}

/// One source an address; none when the entry is not enabled.
fn parse_entry(
    file: &str,
    paragraph: &Paragraph<'_>,
    proxies: &[String],
) -> Result<Vec<Result<Source, String>>, BadText> {
    if paragraph.text("Enabled")?.is_some_and(is_no) {
        return Ok(Vec::new());
    }
    let list = |name| Ok::<Vec<String>, BadText>(paragraph.words(name)?.map(str::to_owned).collect());
    paragraph.required("Types")?;
    paragraph.required("Suites")?;
    paragraph.required("URIs")?;
    let types = paragraph.words("Types")?.map(|kind| match kind {
        "deb" => Ok(SourceType::Deb),
        "deb-src" => Ok(SourceType::DebSrc),
        _ => Err(paragraph.fault("Types", "expected deb or deb-src")),
    });
    let types = types.collect::<Result<Vec<_>, _>>()?;
    let (components, architectures) = (list("Components")?, list("Architectures")?);
    let suites: Vec<_> = paragraph.words("Suites")?.map(with_architecture).collect();
    if suites.iter().any(|suite| components.is_empty() != suite.ends_with('/')) {
        return Err(paragraph.fault("Components", "needed, but not with a suite that ends with a slash"));
    }
    let signed_by = match paragraph.text("Signed-By")?.map(read_signed_by).transpose() {
        Ok(signed_by) => signed_by,
        Err(reason) => return Ok(vec![Err(reason)]),
    };
    let mut validity = Validity::default();
    for option in Validity::OPTIONS {
        validity.set(option, paragraph.text(option)?.unwrap_or_default());
    }
    let bases = paragraph.words("URIs")?.filter_map(|uri| read_base(&with_architecture(uri), proxies));
    let sources = bases.map(|base| {
        Ok(Source {
            types: types.clone(),
            base: base?,
            suites: suites.clone(),
            components: components.clone(),
            architectures: architectures.clone(),
            signed_by: signed_by.clone(),
            validity,
            file: file.to_owned(),
            line: paragraph.line(),
        })
    });
    Ok(sources.collect())
}

/// A list, or a whole key in which every line is indented and a dot stands for an empty one.
fn read_signed_by(value: &str) -> Result<SignedBy, String> {
    if !value.contains(ARMOR) {
        return SignedBy::parse(value);
    }
    let lines = value.lines().map(|line| match line.trim() {
        "." => "",
        line => line,
    });
    let armored = lines.fold(String::new(), |text, line| text + line + "\n");
    Ok(SignedBy { embedded: Some(armored), ..SignedBy::default() })
}

fn line(error: &BadText) -> u64 {
    match error {
        BadText::Paragraph { line, .. } | BadText::TooLong { line, .. } | BadText::Read { line, .. } => *line,
    }
}

fn reason(error: &BadText) -> String {
    match error {
        BadText::Paragraph { field: Some(field), reason, .. } => format!("{field}: {reason}"),
        BadText::Paragraph { reason, .. } => (*reason).to_owned(),
        other => other.to_string(),
    }
}
