//! A plain HTTP/1.1 client: one request a connection, the reply as it came.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status, 0 when the reply had no status line.
    pub status: u16,
    /// Status line and fields, lower case.
    pub head: String,
    /// The body, decoded when it was chunked.
    pub body: Vec<u8>,
    /// Whether the body came to its announced end.
    pub whole: bool,
}

impl Answer {
    /// A field's value, lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// `GET` of a target (a path, or a whole URL at a proxy) with further fields (`Name: value`).
pub fn fetch(to: SocketAddr, target: &str, fields: &[&str]) -> Answer {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    speak(to, &format!("GET {target} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n{fields}\r\n"))
}

/// Sends bytes as they are and reads to the end of the connection.
pub fn speak(to: SocketAddr, request: &str) -> Answer {
    let mut raw = Vec::new();
    if let Ok(mut stream) = TcpStream::connect(to) {
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("not zero");
        stream.write_all(request.as_bytes()).ok();
        stream.read_to_end(&mut raw).ok();
    }
    parse(&raw)
}

fn parse(raw: &[u8]) -> Answer {
    let Some(end) = raw.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Answer { status: 0, head: String::new(), body: raw.to_vec(), whole: false };
    };
    let head = String::from_utf8_lossy(&raw[..end]).to_ascii_lowercase();
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = raw[end + 4..].to_vec();
    let mut answer = Answer { status, head, body, whole: false };
    if answer.field("transfer-encoding") == Some("chunked") {
        (answer.body, answer.whole) = unchunk(&answer.body);
    } else {
        let length = answer.field("content-length").and_then(|length| length.parse().ok());
        answer.whole = length == Some(answer.body.len());
    }
    answer
}

fn unchunk(mut raw: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(end) = raw.windows(2).position(|window| window == b"\r\n") {
        let size =
            String::from_utf8_lossy(&raw[..end]).split(';').next().map(|hex| usize::from_str_radix(hex.trim(), 16));
        raw = &raw[end + 2..];
        match size {
            Some(Ok(0)) => return (body, true),
            Some(Ok(size)) if raw.len() >= size + 2 => {
                body.extend(&raw[..size]);
                raw = &raw[size + 2..];
            }
            _ => break,
        }
    }
    (body, false)
}

#[test]
fn a_chunked_body_is_joined_and_a_short_one_is_not_whole() {
    let answer = parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n002;a\r\nde\r\n0\r\n\r\n");
    assert_eq!((answer.body.as_slice(), answer.whole), (&b"abcde"[..], true));
    assert!(!parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab").whole);
    assert!(!parse(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc").whole);
    assert!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc").whole);
}
