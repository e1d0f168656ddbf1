//! Paragraphs of `Field: value` lines, Debian's control format (deb822(5), Debian policy 5.1).
//!
//! ```text
//!  Package: hello                      a field
//!  Description: example package        a folded field: lines that begin with a space or tab go on with it
//!   The GNU hello program.
//!                                      an empty line ends the paragraph
//!  Package: hello-traditional
//! ```
//!
//! The reader is streaming and total: one buffer holds the paragraph at hand and is used again for the next one, fields
//! are slices of it, and only what is asked for is looked at. Bytes that no paragraph can hold are an error with line
//! and field; the reader then goes on behind that paragraph.

use std::io::{self, BufRead};

use memchr::memchr;

/// Longest line, in bytes. The longest ones known are `Provides` of some 100 kB.
pub const MAX_LINE: usize = 1024 * 1024;

/// Longest paragraph, in bytes. The longest known is the Release of a suite with every architecture: 0.3 MB.
pub const MAX_PARAGRAPH: usize = 8 * 1024 * 1024;

/// Most fields of one paragraph.
pub const MAX_FIELDS: usize = 256;

/// Whether lines that begin with `#` are comments, as in files that people write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comments {
    /// They are, also between the lines of a folded field.
    Skipped,
    /// They are not, and no field name begins so.
    Refused,
}

/// A text is not in control format.
#[derive(Debug, thiserror::Error)]
pub enum BadText {
    /// One paragraph is malformed; reading may go on behind it.
    #[error("line {line}: {}{reason}", field_prefix(.field))]
    Paragraph {
        /// The line, counted from 1.
        line: u64,
        /// The field at fault, when there is one.
        field: Option<String>,
        /// What is wrong.
        reason: &'static str,
    },
    /// A line or a paragraph has no end in sight; nothing more is read.
    #[error("line {line}: more than {limit} bytes in a {what}")]
    TooLong {
        /// The line, counted from 1.
        line: u64,
        /// "line" or "paragraph".
        what: &'static str,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The bytes could not be read; nothing more is.
    #[error("line {line}: {error}")]
    Read {
        /// The line, counted from 1.
        line: u64,
        /// Why.
        error: io::Error,
    },
}

fn field_prefix(field: &Option<String>) -> String {
    field.as_ref().map(|field| format!("field {field}: ")).unwrap_or_default()
}

/// The paragraphs of a text.
#[derive(Debug)]
pub struct Paragraphs<R> {
    reader: R,
    comments: Comments,
    /// Lines read so far.
    line: u64,
    text: Vec<u8>,
    fields: Vec<Span>,
    /// A bit for each field that begins and is as long as one of these; mostly it tells that a field is new.
    marks: u64,
    ended: bool,
}

/// Where a field lies in the text of its paragraph.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    colon: usize,
    end: usize,
    line: u64,
}

/// One paragraph. Fields are looked up whatever the case of their letters.
#[derive(Debug, Clone, Copy)]
pub struct Paragraph<'a> {
    text: &'a [u8],
    fields: &'a [Span],
}

/// What a line was.
enum Line {
    End,
    Empty,
    Comment,
    /// Its bytes begin here in the paragraph's text.
    Text(usize),
}

impl<R: BufRead> Paragraphs<R> {
    /// Reads paragraphs from text.
    pub fn new(reader: R, comments: Comments) -> Self {
        Self { reader, comments, line: 0, text: Vec::new(), fields: Vec::new(), marks: 0, ended: false }
    }

    /// The next paragraph, or `None` at the end of the text. After [`BadText::Paragraph`] the one behind it can be read.
    pub fn next_paragraph(&mut self) -> Result<Option<Paragraph<'_>>, BadText> {
        self.text.clear();
        self.fields.clear();
        self.marks = 0;
        let mut fault = None;
        while !self.ended {
            match self.read_line()? {
                Line::End => self.ended = true,
                Line::Comment => {}
                Line::Empty if self.text.is_empty() => {}
                Line::Empty => break,
                Line::Text(start) => {
                    if let Err(found) = self.take_line(start) {
                        fault.get_or_insert(found);
                    }
                }
            }
        }
        match fault {
            Some(fault) => Err(fault),
            None if self.text.is_empty() => Ok(None),
            None => Ok(Some(Paragraph { text: &self.text, fields: &self.fields })),
        }
    }

    fn read_line(&mut self) -> Result<Line, BadText> {
        let start = self.text.len();
        self.line += 1;
        let line = self.line;
        self.append_line().map_err(|error| {
            self.ended = true;
            BadText::Read { line, error }
        })?;
        let read = self.text.len() - start;
        if read > MAX_LINE || self.text.len() > MAX_PARAGRAPH {
            self.ended = true;
            let (what, limit) = if read > MAX_LINE { ("line", MAX_LINE) } else { ("paragraph", MAX_PARAGRAPH) };
            return Err(BadText::TooLong { line, what, limit });
        }
        if read == 0 {
            return Ok(Line::End);
        }
        if self.text.last() == Some(&b'\n') {
            self.text.pop();
        }
        if self.text.len() > start && self.text.last() == Some(&b'\r') {
            self.text.pop();
        }
        let bytes = &self.text[start..];
        let kind = match bytes.first() {
            Some(b'#') if self.comments == Comments::Skipped => Line::Comment,
            Some(first) if !first.is_ascii_whitespace() || !bytes.trim_ascii().is_empty() => Line::Text(start),
            _ => Line::Empty,
        };
        match kind {
            Line::Text(_) => self.text.push(b'\n'),
            _ => self.text.truncate(start),
        }
        Ok(kind)
    }

    /// Appends a line with its end, or as much of it as is too much.
    fn append_line(&mut self) -> io::Result<()> {
        let most = self.text.len() + MAX_LINE + 1;
        while self.text.len() < most {
            let bytes = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                bytes => bytes?,
            };
            let bytes = &bytes[..bytes.len().min(most - self.text.len())];
            let end = memchr(b'\n', bytes).map(|end| end + 1);
            let taken = end.unwrap_or(bytes.len());
            self.text.extend_from_slice(&bytes[..taken]);
            self.reader.consume(taken);
            if end.is_some() || taken == 0 {
                break;
            }
        }
        Ok(())
    }

    fn take_line(&mut self, start: usize) -> Result<(), BadText> {
        let line = &self.text[start..self.text.len() - 1];
        let end = self.text.len() - 1;
        let fault = |field: Option<&[u8]>, reason| {
            let field = field.map(|name| String::from_utf8_lossy(&name[..name.len().min(64)]).into_owned());
            Err(BadText::Paragraph { line: self.line, field, reason })
        };
        if line[0] == b' ' || line[0] == b'\t' {
            return match self.fields.last_mut() {
                Some(field) => {
                    field.end = end;
                    Ok(())
                }
                None => fault(None, "a folded line without a field before it"),
            };
        }
        let Some(colon) = memchr(b':', line) else {
            return fault(None, "neither a field nor a folded line");
        };
        let name = &line[..colon];
        if name.is_empty() || matches!(name[0], b'#' | b'-') || !name.iter().all(u8::is_ascii_graphic) {
            return fault(None, "not a field name");
        }
        let known = Paragraph { text: &self.text, fields: &self.fields };
        let mark = 1 << ((name.len() * 5 + usize::from(name[0].to_ascii_lowercase())) % 64);
        if self.marks & mark != 0 && known.span(name).is_some() {
            return fault(Some(name), "given twice");
        }
        if self.fields.len() == MAX_FIELDS {
            return fault(Some(name), "more than 256 fields");
        }
        self.marks |= mark;
        self.fields.push(Span { start, colon: start + colon, end, line: self.line });
        Ok(())
    }
}

impl<'a> Paragraph<'a> {
    fn span(&self, name: &[u8]) -> Option<&'a Span> {
        let first = name.first()?.to_ascii_lowercase();
        let same = |field: &&Span| {
            field.colon - field.start == name.len()
                && self.text[field.start].to_ascii_lowercase() == first
                && self.text[field.start..field.colon].eq_ignore_ascii_case(name)
        };
        self.fields.iter().find(same)
    }

    /// The line that the paragraph's first field stands in, counted from 1.
    pub fn line(&self) -> u64 {
        self.fields.first().map_or(0, |field| field.line)
    }

    /// The line that a field begins in, else that of the paragraph.
    pub fn line_of(&self, name: &str) -> u64 {
        self.span(name.as_bytes()).map_or(self.line(), |field| field.line)
    }

    /// The value of a field, without spaces around it; a folded one with its line breaks.
    pub fn bytes(&self, name: &str) -> Option<&'a [u8]> {
        self.span(name.as_bytes()).map(|field| self.text[field.colon + 1..field.end].trim_ascii())
    }

    /// The value of a field as text.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>, BadText> {
        let Some(bytes) = self.bytes(name) else { return Ok(None) };
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(self.fault(name, "not UTF-8")),
        }
    }

    /// The value of a field that must be there and not be empty.
    pub fn required(&self, name: &str) -> Result<&'a str, BadText> {
        self.text(name)?.filter(|text| !text.is_empty()).ok_or_else(|| self.fault(name, "missing"))
    }

    /// The words of a field, whatever separates them; none when it is not there.
    pub fn words(&self, name: &str) -> Result<impl Iterator<Item = &'a str> + use<'a>, BadText> {
        Ok(self.text(name)?.unwrap_or_default().split_whitespace())
    }

    /// The lines of a field that say something, without spaces around them, each with its number counted from 1; none
    /// when the field is not there. Numbers are right where comments are refused.
    pub fn lines(&self, name: &str) -> Result<impl Iterator<Item = (u64, &'a str)> + use<'a>, BadText> {
        let field = self.span(name.as_bytes());
        let bytes = field.map_or(&[][..], |field| &self.text[field.colon + 1..field.end]);
        let text = std::str::from_utf8(bytes).map_err(|_| self.fault(name, "not UTF-8"))?;
        let numbers = field.map_or(0, |field| field.line)..;
        Ok(numbers.zip(text.split('\n').map(str::trim_ascii)).filter(|(_, line)| !line.is_empty()))
    }

    /// An error about a field of this paragraph.
    pub fn fault(&self, name: &str, reason: &'static str) -> BadText {
        self.fault_at(self.line_of(name), name, reason)
    }

    /// An error about one of the lines of a field.
    pub fn fault_at(&self, line: u64, name: &str, reason: &'static str) -> BadText {
        BadText::Paragraph { line, field: Some(name.to_owned()), reason }
    }
}

#[cfg(test)]
mod tests;
