//! Where an answer of the dispatcher's ends: its bytes are followed as they pass (RFC 9112, section 6).
//!
//! ```text
//!  head --.-- no body (HEAD, 204, 304) ----------------> end
//!         |-- Content-Length: so many bytes -----------> end
//!         |-- chunked: size line, data, ..., 0, trailer -> end
//!         '-- neither: the end of the connection
//! ```

use memchr::memmem;

/// How far an answer has come.
#[derive(Debug, Clone)]
pub struct Framing {
    /// Whether the request was a HEAD.
    is_head: bool,
    state: State,
    /// Bytes of the body so far, of one with a length.
    body: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Head(Vec<u8>),
    /// So many bytes are left.
    Fixed(u64),
    Chunked(Chunk),
    Endless,
    Done,
}

/// Where in a chunked body the next byte lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    /// In the digits of a size; `begun`: not at their first.
    Size { size: u64, begun: bool },
    /// Behind them, up to the line's end.
    Extension { size: u64 },
    /// In the data, or in the line's end behind them.
    Data { left: u64 },
    /// In a line of the trailer; `is_empty`: it has nothing so far.
    Trailer { is_empty: bool },
}

impl Framing {
    /// Nothing of it has come.
    pub fn new(is_head: bool) -> Self {
        Self { is_head, state: State::Head(Vec::new()), body: 0 }
    }

    /// Follows bytes, and says how many of them are of this answer.
    pub fn handle(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            let rest = &bytes[at..];
            at += match &mut self.state {
                State::Head(head) => {
                    // The end may lie across two parts.
                    let from = head.len().saturating_sub(3);
                    let before = head.len();
                    head.extend_from_slice(rest);
                    match memmem::find(&head[from..], b"\r\n\r\n") {
                        Some(found) => {
                            let end = from + found + 4;
                            self.state = State::behind(&head[..end], self.is_head);
                            end - before
                        }
                        None => rest.len(),
                    }
                }
                State::Fixed(left) => {
                    let taken = (rest.len() as u64).min(*left);
                    *left -= taken;
                    self.body += taken;
                    if *left == 0 {
                        self.state = State::Done;
                    }
                    taken as usize
                }
                State::Chunked(chunk) => match chunk.handle(rest) {
                    (taken, Some(next)) => {
                        *chunk = next;
                        taken
                    }
                    (taken, None) => {
                        self.state = State::Done;
                        taken
                    }
                },
                State::Endless => rest.len(),
                State::Done => 0,
            };
        }
        at
    }

    /// Whether all of it has come.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether its head has not come whole.
    pub fn in_head(&self) -> bool {
        matches!(self.state, State::Head(_))
    }

    /// Whether the body has a length that is not reached.
    pub fn is_fixed(&self) -> bool {
        matches!(self.state, State::Fixed(_))
    }

    /// Whether the next byte begins the size of a chunk.
    pub fn is_between_chunks(&self) -> bool {
        matches!(self.state, State::Chunked(Chunk::Size { begun: false, .. }))
    }

    /// Bytes of the body so far, of one with a length.
    pub fn body(&self) -> u64 {
        self.body
    }
}

impl State {
    /// What comes behind the head.
    fn behind(head: &[u8], is_head: bool) -> Self {
        let text = String::from_utf8_lossy(head).to_ascii_lowercase();
        let status = text.split(' ').nth(1).unwrap_or_default();
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
        if is_head || ["204", "304"].contains(&status) {
            return Self::Done;
        }
        if field("transfer-encoding").is_some_and(|coding| coding.ends_with("chunked")) {
            return Self::Chunked(Chunk::Size { size: 0, begun: false });
        }
        match field("content-length").and_then(|length| length.parse().ok()) {
            Some(0) => Self::Done,
            Some(length) => Self::Fixed(length),
            None => Self::Endless,
        }
    }
}

impl Chunk {
    /// Takes some bytes, at least one; `None`: the body ends with them.
    fn handle(self, bytes: &[u8]) -> (usize, Option<Self>) {
        let byte = bytes[0];
        match self {
            Self::Size { size, .. } if byte.is_ascii_hexdigit() => {
                let digit = (byte as char).to_digit(16).unwrap_or(0);
                (1, Some(Self::Size { size: size.saturating_mul(16).saturating_add(digit.into()), begun: true }))
            }
            Self::Size { size, .. } => (1, Some(Self::Extension { size })),
            Self::Extension { size: 0 } if byte == b'\n' => (1, Some(Self::Trailer { is_empty: true })),
            Self::Extension { size } if byte == b'\n' => (1, Some(Self::Data { left: size.saturating_add(2) })),
            Self::Extension { .. } => (1, Some(self)),
            Self::Data { left } => {
                let taken = (bytes.len() as u64).min(left);
                let next = match left - taken {
                    0 => Self::Size { size: 0, begun: false },
                    left => Self::Data { left },
                };
                (taken as usize, Some(next))
            }
            Self::Trailer { is_empty: true } if byte == b'\n' => (1, None),
            Self::Trailer { .. } if byte == b'\n' => (1, Some(Self::Trailer { is_empty: true })),
            Self::Trailer { .. } if byte == b'\r' => (1, Some(self)),
            Self::Trailer { .. } => (1, Some(Self::Trailer { is_empty: false })),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANSWERS: [(&str, bool); 6] = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n", true),
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", false),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n003\r\nabc\r\n1a;x=y\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n",
            false,
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n", false),
    ];

    proptest! {
        #[test]
        fn an_answer_ends_where_it_ends_however_it_is_split(which in 0..ANSWERS.len(), cuts in prop::collection::vec(1_usize..40, 0..60)) {
            let (answer, is_head) = ANSWERS[which];
            let bytes = format!("{answer}HTTP/1.1 200 OK\r\n").into_bytes();
            let mut framing = Framing::new(is_head);
            let (mut rest, mut taken) = (&bytes[..], 0);
            for cut in cuts.into_iter().chain([bytes.len()]) {
                let (part, more) = rest.split_at(cut.min(rest.len()));
                let used = framing.handle(part);
                taken += used;
                prop_assert_eq!(framing.is_done(), taken == answer.len());
                prop_assert!(used == part.len() || framing.is_done());
                rest = more;
            }
            prop_assert_eq!(taken, answer.len());
        }
    }

    #[test]
    fn zeros_may_be_put_between_chunks_and_nowhere_else() {
        let mut framing = Framing::new(false);
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        framing.handle(head);
        let between: Vec<_> = b"2\r\nab\r\n0\r\n"
            .iter()
            .map(|byte| {
                let is_between = framing.is_between_chunks();
                framing.handle(&[*byte]);
                is_between
            })
            .collect();
        let places: Vec<_> = (0..between.len()).filter(|at| between[*at]).collect();
        assert_eq!(places, [0, 7]);
    }

    #[test]
    fn an_answer_without_any_length_ends_with_its_connection() {
        let mut framing = Framing::new(false);
        assert_eq!(framing.handle(b"HTTP/1.0 200 OK\r\n\r\nabc"), 22);
        assert!(!framing.is_done() && !framing.is_fixed() && !framing.is_between_chunks());
    }
}
