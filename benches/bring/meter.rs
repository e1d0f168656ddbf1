//! What lines carried of a file: answers of HTTP/1.1 (RFC 9112) are read along as they pass, and their bodies counted.
//!
//! Nobody's own word is taken: not that of who asked, nor of who served.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

use apt_huddle::hash::PIECE_SIZE;

use crate::{
    harness::{archive::Package, liar::Liar},
    link::Link,
};

/// Bytes of a head at most; what is longer is not looked at any more.
const MAX_HEAD: usize = 64 * 1024;
/// Pieces that are named at most.
const NAMED: usize = 8;

/// Bytes of bodies by path, and by the piece that they are of.
#[derive(Default)]
pub struct Carried(BTreeMap<String, BTreeMap<u64, u64>>);

impl Carried {
    /// Bytes of each piece of what is at this path.
    pub fn of(&self, path: &str) -> BTreeMap<u64, u64> {
        self.0.get(path).cloned().unwrap_or_default()
    }

    fn note(&mut self, path: &str, mut span: Range<u64>) {
        let pieces = self.0.entry(path.to_owned()).or_default();
        while span.start < span.end {
            let piece = span.start / PIECE_SIZE;
            let until = span.end.min((piece + 1) * PIECE_SIZE);
            *pieces.entry(piece).or_default() += until - span.start;
            span.start = until;
        }
    }
}

/// One connection, read along.
#[derive(Default)]
pub struct Meter {
    /// Paths asked for and not yet answered, in their order.
    asked: VecDeque<String>,
    /// A request's head that has not ended.
    ask: Vec<u8>,
    /// An answer's head that has not ended.
    head: Vec<u8>,
    body: Option<Body>,
}

/// A body on its way.
struct Body {
    path: String,
    /// Where its next byte is in the file.
    at: u64,
    left: u64,
}

impl Meter {
    /// Bytes of requests, which have no bodies.
    pub fn handle_up(&mut self, mut bytes: &[u8]) {
        while let Some(head) = take_head(&mut self.ask, &mut bytes) {
            self.asked.extend(head.split_whitespace().nth(1).map(str::to_owned));
        }
    }

    /// Bytes of answers.
    pub fn handle_down(&mut self, mut bytes: &[u8], carried: &mut Carried) {
        loop {
            if let Some(body) = &mut self.body {
                let here = body.left.min(bytes.len() as u64);
                carried.note(&body.path, body.at..body.at + here);
                (body.at, body.left) = (body.at + here, body.left - here);
                bytes = &bytes[here as usize..];
                if body.left > 0 {
                    return;
                }
                self.body = None;
            }
            let Some(head) = take_head(&mut self.head, &mut bytes) else { return };
            let Some(path) = self.asked.pop_front() else { return };
            let head = head.to_ascii_lowercase();
            let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            let left = field("content-length").and_then(|length| length.trim().parse().ok()).unwrap_or(0);
            let from = field("content-range").and_then(|range| range.strip_prefix("bytes ")?.split_once('-'));
            let at = from.and_then(|(from, _)| from.parse().ok()).unwrap_or(0);
            self.body = Some(Body { path, at, left });
        }
    }
}

/// Takes what belongs to a head, and gives the head when it has ended.
fn take_head(head: &mut Vec<u8>, bytes: &mut &[u8]) -> Option<String> {
    while let Some((first, rest)) = bytes.split_first() {
        *bytes = rest;
        if head.len() < MAX_HEAD {
            head.push(*first);
        }
        if head.ends_with(b"\r\n\r\n") {
            return Some(String::from_utf8_lossy(&std::mem::take(head)).into_owned());
        }
    }
    None
}

/// What bringing a file cost its lines.
#[derive(Default)]
pub struct Toll {
    /// Bytes beyond the file's own, in pieces.
    pub again: f64,
    /// Pieces that each line carried.
    by_line: Vec<f64>,
    /// Pieces of which more crossed than they are long.
    more_than_once: Vec<u64>,
    /// What the product says that was of no use, in pieces.
    own: f64,
}

impl Toll {
    /// Of a package that came over these lines and no other; the product says that `own` bytes were of no use.
    pub fn of<'a>(package: &Package, lines: impl IntoIterator<Item = &'a Link>, own: u64) -> Self {
        let (of_peers, of_mirror) = (Liar::path(&package.sha256), package.url_path());
        let (mut pieces, mut by_line) = (BTreeMap::<u64, u64>::new(), Vec::new());
        for line in lines {
            let carried = [&of_peers, &of_mirror].map(|path| line.carried(path));
            by_line.push(in_pieces(carried.iter().flat_map(BTreeMap::values).sum()));
            for (piece, bytes) in carried.into_iter().flatten() {
                *pieces.entry(piece).or_default() += bytes;
            }
        }
        let length = |piece: u64| PIECE_SIZE.min(package.size - piece * PIECE_SIZE);
        let all: u64 = pieces.values().sum();
        let more = pieces.iter().filter(|(piece, bytes)| **bytes > length(**piece));
        Self {
            again: in_pieces(all.saturating_sub(package.size)),
            by_line,
            more_than_once: more.map(|(piece, _)| *piece).collect(),
            own: in_pieces(own),
        }
    }

    /// Pieces by line, and which of them crossed more than once.
    pub fn told(&self) -> String {
        let lines: Vec<_> = self.by_line.iter().map(|pieces| format!("{pieces:.1}")).collect();
        let named: Vec<_> = self.more_than_once.iter().take(NAMED).map(ToString::to_string).collect();
        let more = self.more_than_once.len() - named.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let twice = if named.is_empty() { "none".into() } else { named.join(" ") + &more };
        format!("by line {}; more than once {twice}; own count {:.1}", lines.join(" "), self.own)
    }
}

/// Bytes in pieces, to a tenth.
fn in_pieces(bytes: u64) -> f64 {
    (bytes as f64 / PIECE_SIZE as f64 * 10.0).round() / 10.0
}
