//! The deb822 style: one paragraph an entry.

use crate::archive::{
    Validity,
    deb822::{BadText, Comments, Paragraph, Paragraphs},
    validity::is_no,
};

use super::{Entry, Found, SignedBy, SourceType, Surroundings, with_architecture};

const ARMOR: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

pub fn parse(file: &str, text: &str, around: &Surroundings, found: &mut Found) {
    let mut paragraphs = Paragraphs::new(text.as_bytes(), Comments::Skipped);
    loop {
        let error = match paragraphs.next_paragraph() {
            Ok(None) => return,
            Ok(Some(paragraph)) => match parse_entry(file, &paragraph) {
                Ok(None) => continue,
                Ok(Some(entry)) => {
                    // Read by `parse_entry` before.
                    let uris = paragraph.words("URIs").into_iter().flatten();
                    for bases in uris.map(|uri| around.bases(uri)) {
                        match bases {
                            Ok(bases) => found.add(&entry, bases),
                            Err(reason) => found.refuse(file, paragraph.line_of("URIs"), reason, "", around),
                        }
                    }
                    continue;
                }
                Err(Fault::Text(error)) => error,
                Err(Fault::SignedBy(reason)) => {
                    let line = paragraph.line_of("Signed-By");
                    found.refuse(file, line, reason, lines_around(text, line), around);
                    continue;
                }
            },
            Err(error) => error,
        };
        let line = line(&error);
        let part = match error {
            BadText::Paragraph { .. } => lines_around(text, line),
            // Nothing more is read of the file, whatever it says.
            BadText::TooLong { .. } | BadText::Read { .. } => text,
        };
        found.refuse(file, line, reason(&error), part, around);
    }
}

enum Fault {
    Text(BadText),
    SignedBy(String),
}

impl From<BadText> for Fault {
    fn from(error: BadText) -> Self {
        Self::Text(error)
    }
}

/// `None` when the entry is not enabled.
fn parse_entry(file: &str, paragraph: &Paragraph<'_>) -> Result<Option<Entry>, Fault> {
    if paragraph.text("Enabled")?.is_some_and(is_no) {
        return Ok(None);
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
        return Err(paragraph.fault("Components", "needed, but not with a suite that ends with a slash").into());
    }
    let signed_by = paragraph.text("Signed-By")?.map(read_signed_by).transpose().map_err(Fault::SignedBy)?;
    let mut validity = Validity::default();
    for option in Validity::OPTIONS {
        validity.set(option, paragraph.text(option)?.unwrap_or_default());
    }
    let (file, line) = (file.to_owned(), paragraph.line());
    Ok(Some(Entry { types, suites, components, architectures, signed_by, validity, file, line }))
}

/// The lines between two empty ones that a line, counted from 1, is among.
fn lines_around(text: &str, line: u64) -> &str {
    let (mut start, mut has_it, mut at) = (0, false, 0);
    for (number, raw) in (1..).zip(text.split_inclusive('\n')) {
        if raw.trim_end_matches(['\r', '\n']).is_empty() {
            if has_it {
                return &text[start..at];
            }
            start = at + raw.len();
        }
        has_it |= number == line;
        at += raw.len();
    }
    &text[start..]
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
