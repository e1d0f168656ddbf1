//! Heads of requests, read so strictly that nobody can understand them in another way (RFC 9112, sections 2 to 6).
//!
//! ```text
//!  GET http://mirror.example.org/debian/pool/... HTTP/1.1 CR LF
//!  Host: mirror.example.org CR LF
//!  CR LF                                                      and no body: what follows is the next head
//! ```
//!
//! Whatever may be framed in two ways ends the connection: a line that does not end in CR LF, a folded or control
//! character, two lengths, a length beside a transfer coding. A body is read by nothing here, so a request that has one
//! is refused; then nothing that it smuggles is ever taken for a request.

use bytes::{Bytes, BytesMut};

/// Bytes of one head at most.
pub const MAX_HEAD: usize = 16 * 1024;
/// Fields of one head at most.
const MAX_FIELDS: usize = 64;
/// Fields that ask for another protocol. None is spoken here, and RFC 9110, section 7.8, lets a server ignore them.
const UPGRADES: [&str; 2] = ["upgrade", "http2-settings"];

/// The head of one request, without body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    bytes: Bytes,
    /// The method, as it was sent.
    pub method: String,
    /// What is asked for, as it was sent.
    pub target: String,
    /// Whether it is HTTP/1.1, and not HTTP/1.0.
    pub is_current: bool,
    /// Whether it is the last one of its connection.
    pub closes: bool,
}

/// Why a head is refused. The connection ends after the answer that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHead {
    /// It is malformed, or may be understood in two ways.
    #[error("{0}")]
    Malformed(&'static str),
    /// It has too many bytes or fields.
    #[error("the head of a request may have {MAX_HEAD} bytes and {MAX_FIELDS} fields")]
    TooLong,
    /// A body comes behind it.
    #[error("requests with a body are not answered")]
    Body,
    /// It waits for an interim answer, which apt would not understand.
    #[error("nothing is answered before the answer")]
    Expectation,
    /// It is of another version of HTTP.
    #[error("this is HTTP/1.1")]
    Version,
}

impl BadHead {
    /// HTTP status and its phrase.
    pub fn status(self) -> &'static str {
        match self {
            Self::Malformed(_) => "400 Bad Request",
            Self::Body => "413 Content Too Large",
            Self::Expectation => "417 Expectation Failed",
            Self::TooLong => "431 Request Header Fields Too Large",
            Self::Version => "505 HTTP Version Not Supported",
        }
    }
}

impl Head {
    /// The head's bytes, with the empty line.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether the answer has no body whatever it says.
    pub fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// The fields, in their order.
    pub fn fields(&self) -> Vec<(String, Vec<u8>)> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let _complete = request.parse(&self.bytes);
        request.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect()
    }

    /// Reads a head that ends in an empty line.
    fn read(bytes: Bytes) -> Result<Self, BadHead> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(&bytes) {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
            Ok(_) => return Err(BadHead::Malformed("an empty line within a head")),
            Err(httparse::Error::TooManyHeaders) => return Err(BadHead::TooLong),
            Err(httparse::Error::Version) => return Err(BadHead::Version),
            Err(_) => return Err(BadHead::Malformed("not the head of a request")),
        }
        let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
        if method == "CONNECT" {
            return Err(BadHead::Malformed("a tunnel needs a connection of its own"));
        }
        if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BadHead::Malformed("a target has letters, digits and signs of ASCII"));
        }
        let (method, target, is_current) = (method.to_owned(), target.to_owned(), request.version == Some(1));
        let framing = Framing::of(request.headers)?;
        framing.judge(is_current)?;
        let bytes = match framing.upgrades {
            true => without_upgrade(&method, &target, is_current, request.headers),
            false => bytes.clone(),
        };
        let closes = framing.closes || !(is_current || framing.stays);
        Ok(Self { bytes, method, target, is_current, closes })
    }
}

/// What a head says of how the request is framed.
#[derive(Default)]
struct Framing {
    hosts: usize,
    length: Option<u64>,
    is_coded: bool,
    expects: bool,
    upgrades: bool,
    closes: bool,
    stays: bool,
}

impl Framing {
    fn of(fields: &[httparse::Header<'_>]) -> Result<Self, BadHead> {
        let mut framing = Self::default();
        for field in fields {
            match field.name.to_ascii_lowercase().as_str() {
                "host" => framing.hosts += 1,
                "content-length" => {
                    let length = read_length(field.value).ok_or(BadHead::Malformed("a length is a number"))?;
                    if framing.length.replace(length).is_some() {
                        return Err(BadHead::Malformed("two lengths"));
                    }
                }
                "transfer-encoding" => framing.is_coded = true,
                "expect" => framing.expects = true,
                "connection" => {
                    let options = String::from_utf8_lossy(field.value).to_ascii_lowercase();
                    for option in options.split(',').map(str::trim) {
                        framing.closes |= option == "close";
                        framing.stays |= option == "keep-alive";
                        framing.upgrades |= UPGRADES.contains(&option);
                    }
                }
                name => framing.upgrades |= UPGRADES.contains(&name),
            }
        }
        Ok(framing)
    }

    fn judge(&self, is_current: bool) -> Result<(), BadHead> {
        match self {
            Self { is_coded: true, length: Some(_), .. } => {
                Err(BadHead::Malformed("a length beside a transfer coding"))
            }
            Self { is_coded: true, .. } if !is_current => Err(BadHead::Malformed("HTTP/1.0 knows no transfer codings")),
            Self { hosts: 2.., .. } => Err(BadHead::Malformed("two hosts")),
            Self { hosts: 0, .. } if is_current => Err(BadHead::Malformed("no host")),
            Self { is_coded: true, .. } | Self { length: Some(1..), .. } => Err(BadHead::Body),
            Self { expects: true, .. } => Err(BadHead::Expectation),
            _ => Ok(()),
        }
    }
}

/// Digits only: a sign, a list or a space may be a length to somebody else.
fn read_length(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value).ok()?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

/// The same head, as if no other protocol had been asked for.
fn without_upgrade(method: &str, target: &str, is_current: bool, fields: &[httparse::Header<'_>]) -> Bytes {
    let mut head = format!("{method} {target} HTTP/1.{}\r\n", u8::from(is_current)).into_bytes();
    for field in fields {
        let name = field.name.to_ascii_lowercase();
        if UPGRADES.contains(&name.as_str()) {
            continue;
        }
        let options = String::from_utf8_lossy(field.value);
        let kept: Vec<_> = options
            .split(',')
            .map(str::trim)
            .filter(|option| !UPGRADES.contains(&option.to_ascii_lowercase().as_str()))
            .collect();
        let kept = kept.join(", ").into_bytes();
        let value = if name == "connection" { &kept } else { field.value };
        if !(name == "connection" && value.is_empty()) {
            [field.name.as_bytes(), b": ", value, b"\r\n"].iter().for_each(|part| head.extend_from_slice(part));
        }
    }
    head.extend_from_slice(b"\r\n");
    head.into()
}

/// What a client sent and nobody has read yet.
#[derive(Debug, Default)]
pub struct Input {
    bytes: BytesMut,
    /// How many of them were looked at, and are of the head that is coming.
    checked: usize,
}

impl Input {
    /// Bytes came.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The next head, once all of it is there.
    pub fn next(&mut self) -> Result<Option<Head>, BadHead> {
        // RFC 9112, section 2.2: empty lines before a request are ignored.
        while self.checked == 0 && self.bytes.starts_with(b"\r\n") {
            let _empty = self.bytes.split_to(2);
        }
        match self.end()? {
            Some(end) => Head::read(self.bytes.split_to(end).freeze()).map(Some),
            None if self.checked > MAX_HEAD => Err(BadHead::TooLong),
            None => Ok(None),
        }
    }

    /// Where the head ends.
    fn end(&mut self) -> Result<Option<usize>, BadHead> {
        for at in self.checked..self.bytes.len() {
            let before = at.checked_sub(1).map(|before| self.bytes[before]);
            match (before, self.bytes[at]) {
                (Some(b'\r'), b'\n') if self.bytes[..=at].ends_with(b"\r\n\r\n") => {
                    self.checked = 0;
                    return if at < MAX_HEAD { Ok(Some(at + 1)) } else { Err(BadHead::TooLong) };
                }
                (Some(b'\r'), b'\n') => {}
                (Some(b'\r'), _) | (_, b'\n') => return Err(BadHead::Malformed("a line ends in CR LF")),
                (_, b'\t' | b'\r' | 32..=126 | 128..) => {}
                (_, 0..=31 | 127) => return Err(BadHead::Malformed("a control character in a head")),
            }
        }
        self.checked = self.bytes.len();
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Head>, BadHead> {
        let mut input = Input::default();
        input.extend(text.as_bytes());
        input.next()
    }

    #[test]
    fn what_apt_and_its_kind_send_is_read() {
        let apt = "GET http://m.example.org/a HTTP/1.1\r\nHost: m.example.org\r\nRange: bytes=5-\r\n\r\n";
        let head = read(&format!("\r\n\r\n{apt}")).unwrap().unwrap();
        assert_eq!((head.bytes(), &*head.target), (&Bytes::from_static(apt.as_bytes()), "http://m.example.org/a"));
        assert!(head.is_current && !head.closes && !head.is_head());
        assert_eq!(head.fields()[1], ("Range".to_owned(), b"bytes=5-".to_vec()));
        for (text, closes) in [
            ("HEAD / HTTP/1.0\r\n\r\n", true),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n", true),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", false),
        ] {
            assert_eq!(read(text).unwrap().unwrap().closes, closes, "{text}");
        }
    }

    #[test]
    fn what_may_be_framed_in_two_ways_is_refused() {
        let host = "Host: a\r\n";
        for (text, status) in [
            (format!("GET / HTTP/1.1\r\n{host}Content-Length: 1\r\nContent-Length: 1\r\n\r\n"), 400),
            (format!("GET / HTTP/1.1\r\n{host}Content-Length: 0, 0\r\n\r\n"), 400),
            (format!("GET / HTTP/1.1\r\n{host}Content-Length: +3\r\n\r\n"), 400),
            (format!("GET / HTTP/1.1\r\n{host}Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400),
            (format!("GET / HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n"), 400),
            (format!("GET / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n"), 413),
            (format!("GET / HTTP/1.1\r\n{host}Transfer-Encoding: identity\r\n\r\n"), 413),
            (format!("POST / HTTP/1.1\r\n{host}Content-Length: 5\r\n\r\nGET /"), 413),
            (format!("GET / HTTP/1.1\r\n{host}{host}\r\n"), 400),
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
            (format!("GET / HTTP/1.1\r\n{host}X: a\r\n b\r\n\r\n"), 400),
            (format!("GET / HTTP/1.1\r\n{host}X : a\r\n\r\n"), 400),
            (format!("GET / HTTP/1.1\n{host}"), 400),
            (format!("GET / HTTP/1.1\r\n{host}X: a\rb\r\n\r\n"), 400),
            (format!("GET / HTTP/1.1\r\n{host}X: a\0b\r\n\r\n"), 400),
            (format!("GET /\u{e9} HTTP/1.1\r\n{host}\r\n"), 400),
            (format!("GET / HTTP/1.1\r\n{host}Expect: 100-continue\r\n\r\n"), 417),
            (format!("CONNECT a:443 HTTP/1.1\r\n{host}\r\n"), 400),
            ("PRI * HTTP/2.0\r\n\r\n".to_owned(), 505),
            (format!("GET / HTTP/1.1\r\n{}\r\n", "X: a\r\n".repeat(MAX_FIELDS + 1)), 431),
            (format!("GET /{}", "a".repeat(MAX_HEAD)), 431),
        ] {
            let refused = read(&text).expect_err(&text);
            assert!(refused.status().starts_with(&status.to_string()), "{text}: {refused:?}");
        }
    }

    #[test]
    fn another_protocol_is_not_asked_for_any_more() {
        let text = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n\
                    HTTP2-Settings: x\r\nAccept: */*\r\n\r\n";
        let head = read(text).unwrap().unwrap();
        assert_eq!(&head.bytes()[..], b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAccept: */*\r\n\r\n");
        assert!(head.closes);
        let text = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        assert_eq!(&read(text).unwrap().unwrap().bytes()[..], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
}
