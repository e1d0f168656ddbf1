//! A peer that breaks the protocol in one manner whenever it is asked for bytes, or for piece hashes, or for what it holds;
//! the other answers are right.

use std::{net::SocketAddr, sync::Arc};

use super::{
    PIECE,
    archive::Package,
    liar::chain_of,
    own_network,
    probe::Probe,
    server::{Body, End, Reply, Request, Server},
};

/// Bytes of a head that has no end: a gigabyte.
const ENDLESS: u64 = 1 << 30;

/// How it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// More bytes than were asked for, behind the right length.
    More,
    /// Fewer bytes, and the end of the connection.
    Less,
    /// A shorter length than was asked for.
    Shorter,
    /// Another range, and says so.
    OtherRange,
    /// The right head, and bytes of something else.
    OtherFile,
    /// Chunks.
    Chunked,
    /// 200 and the whole file for a part of it.
    Whole,
    /// Fields without end.
    EndlessFields,
    /// One field without end.
    EndlessField,
    /// Two lengths.
    TwoLengths,
    /// A byte a second.
    Trickle,
    /// Takes the connection and answers nothing.
    Mute,
    /// Has it not, though it said so.
    Missing,
    /// Closes after each answer, which is right.
    Closes,
    /// Has more pieces than the file has. Of piece hashes alone.
    OddSet,
    /// No other than that of an honest peer.
    Right,
}

impl Manner {
    /// Every bad manner in which any answer can be given.
    pub const ALL: [Self; 14] = [
        Self::More,
        Self::Less,
        Self::Shorter,
        Self::OtherRange,
        Self::OtherFile,
        Self::Chunked,
        Self::Whole,
        Self::EndlessFields,
        Self::EndlessField,
        Self::TwoLengths,
        Self::Trickle,
        Self::Mute,
        Self::Missing,
        Self::Closes,
    ];

    /// The answer to the question what it holds, of which the right one is this.
    fn say(self, right: Reply) -> Reply {
        let Body::Memory(bits) = &right.body else { return right };
        let length = bits.len();
        let head = |fields: String| format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        match self {
            Self::Right => right,
            Self::Shorter => Reply { head: head(format!("Content-Length: {}\r\n", length / 2)), span: 0..0, ..right },
            Self::More => {
                let bits = vec![0xff; length + 100_000];
                let span = 0..bits.len() as u64;
                Reply {
                    head: head(format!("Content-Length: {}\r\n", bits.len())),
                    body: Body::Memory(Arc::new(bits)),
                    span,
                    ..right
                }
            }
            Self::Trickle => {
                let whole = [right.head.as_bytes(), bits].concat();
                let span = 0..whole.len() as u64;
                Reply { head: String::new(), body: Body::Memory(Arc::new(whole)), span, rate: Some(1), ..right }
            }
            Self::EndlessField => Reply {
                head: "HTTP/1.1 200 OK\r\nX-B: ".to_owned(),
                body: Body::Repeated(b"aaaaaaaa"),
                span: 0..ENDLESS,
                ..right
            },
            _ => Reply { head: String::new(), stop: Some((0, End::Stall)), ..right },
        }
    }

    fn answer(self, bytes: &Arc<Vec<u8>>, request: &Request) -> Reply {
        let size = bytes.len() as u64;
        let (status, span) = match request.range(size) {
            Some(Ok(span)) => ("206 Partial Content", span),
            Some(Err(())) => return Reply::bare("416 Range Not Satisfiable"),
            None => ("200 OK", 0..size),
        };
        let is_part = status.starts_with("206");
        let length = span.end - span.start;
        let range = |from: u64| if is_part { content_range(from, length, size) } else { String::new() };
        let head = |status: &str, fields: &str| format!("HTTP/1.1 {status}\r\n{fields}\r\n");
        let right = format!("{}Content-Length: {length}\r\n", range(span.start));
        let reply = |head: String| Reply {
            head,
            body: Body::Memory(Arc::clone(bytes)),
            span: span.clone(),
            stop: None,
            rate: None,
            flip_every: None,
        };
        match self {
            Self::More => {
                let more = [&bytes[span.start as usize..span.end as usize], &[b'+'; 100_000]].concat();
                let span = 0..more.len() as u64;
                Reply { body: Body::Memory(Arc::new(more)), span, ..reply(head(status, &right)) }
            }
            Self::Less => Reply { stop: Some((length / 2, End::Fin)), ..reply(head(status, &right)) },
            Self::Shorter => {
                let fields = format!("{}Content-Length: {}\r\n", range(span.start), length / 2);
                Reply { stop: Some((length / 2, End::Fin)), ..reply(head(status, &fields)) }
            }
            Self::OtherRange => {
                let from =
                    if span.start == 0 { size.saturating_sub(length) } else { span.start - PIECE.min(span.start) };
                let fields = format!("{}Content-Length: {length}\r\n", content_range(from, length, size));
                Reply { span: from..from + length, ..reply(head("206 Partial Content", &fields)) }
            }
            Self::OtherFile => Reply { flip_every: Some(1), ..reply(head(status, &right)) },
            Self::Chunked => {
                let fields = format!("{}Transfer-Encoding: chunked\r\n", range(span.start));
                reply(head(status, &fields) + &format!("{length:x}\r\n"))
            }
            Self::Whole => {
                let fields = format!("Content-Length: {}\r\n", if is_part { size } else { size + 1 });
                Reply { span: 0..size, ..reply(head("200 OK", &fields)) }
            }
            Self::EndlessFields | Self::EndlessField => {
                let field = if self == Self::EndlessFields { "X-A: b\r\n" } else { "aaaaaaaa" };
                let start = format!("HTTP/1.1 {status}\r\nX-B: ");
                Reply { body: Body::Repeated(field.as_bytes()), span: 0..ENDLESS, ..reply(start) }
            }
            Self::TwoLengths => reply(head(status, &format!("{right}Content-Length: {}\r\n", length + 1))),
            Self::Trickle => Reply { rate: Some(1), ..reply(head(status, &right)) },
            Self::Mute => Reply { stop: Some((0, End::Stall)), ..reply(String::new()) },
            Self::Missing => Reply::bare("404 Not Found"),
            Self::OddSet => {
                let digits = "ff".repeat(size as usize);
                Reply {
                    span: 0..0,
                    ..reply(head("200 OK", &format!("Content-Length: 0\r\nX-Huddle-Have: {digits}\r\n")))
                }
            }
            Self::Right => reply(head(status, &right)),
            Self::Closes => {
                Reply { stop: Some((length, End::Fin)), ..reply(head(status, &(right + "Connection: close\r\n"))) }
            }
        }
    }
}

fn content_range(from: u64, length: u64, size: u64) -> String {
    format!("Content-Range: bytes {from}-{}/{size}\r\n", from + length.max(1) - 1)
}

/// The peer. It vanishes when it is dropped.
pub struct Rogue {
    server: Server,
    probe: Probe,
    sha256: String,
}

impl Rogue {
    /// Serves a package from a network of its own, and breaks the protocol whenever it is asked for bytes.
    pub fn start(manner: Manner, package: &Package) -> Self {
        Self::with([manner, Manner::Right, Manner::Right], package)
    }

    /// The same whenever it is asked for piece hashes.
    pub fn of_hashes(manner: Manner, package: &Package) -> Self {
        Self::with([Manner::Right, manner, Manner::Right], package)
    }

    /// The same whenever it is asked what it holds. Otherwise it holds whatever it is asked for, and gives nothing of it.
    pub fn of_holds(manner: Manner, package: &Package) -> Self {
        Self::with([Manner::Mute, Manner::Right, manner], package)
    }

    fn with([of_bytes, of_hashes, of_holds]: [Manner; 3], package: &Package) -> Self {
        let ip = own_network();
        let bytes = Arc::new(package.bytes());
        let chain = Arc::new(chain_of(&bytes).concat());
        let sha256 = package.sha256.clone();
        let answer = move |request: &Request| {
            let plain = || match request.path.ends_with("/pieces") {
                true => of_hashes.answer(&chain, request),
                false => of_bytes.answer(&bytes, request),
            };
            let holds_all = of_bytes == Manner::Mute;
            match request.have(|asked| holds_all || asked == sha256) {
                Some(right) => of_holds.say(right),
                None => plain(),
            }
        };
        let server = Server::start(ip, Box::new(answer));
        Self { server, probe: Probe::bind(ip), sha256: package.sha256.clone() }
    }

    /// Tells each node that it has the package.
    pub fn announce(&self, nodes: &[SocketAddr]) {
        nodes.iter().for_each(|node| self.probe.announce(*node, &self.sha256, self.server.addr().port(), None));
    }

    /// Where it serves.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Requests and bytes sent.
    pub fn server(&self) -> &Server {
        &self.server
    }
}
