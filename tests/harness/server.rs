//! A small HTTP/1.1 server with a thread a connection, which writes down what it sends and breaks off where it is told.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    ops::Range,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use percent_encoding::percent_decode_str;
use socket2::{Domain, SockRef, Socket, Type};

/// Bytes of one write.
const CHUNK: u64 = 16 * 1024;

/// Kept small, so that what was written is about what was received.
const SEND_BUFFER: usize = 64 * 1024;

/// A request's head.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `HEAD` or what else was asked.
    pub method: String,
    /// The path, percent-encoding undone.
    pub path: String,
    /// Fields by lower-case name.
    pub fields: BTreeMap<String, String>,
    /// What follows the head.
    pub body: Vec<u8>,
}

impl Request {
    /// A field's value.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// The bytes that a single `Range` asks for, of a body of `size` bytes (RFC 9110, section 14). `Err` is a 416.
    pub fn range(&self, size: u64) -> Option<Result<Range<u64>, ()>> {
        let (first, last) = self.field("range")?.strip_prefix("bytes=")?.split_once('-')?;
        let range = match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(first), Ok(last)) => first..size.min(last + 1),
            (Ok(first), Err(_)) => first..size,
            (Err(_), Ok(suffix)) => size.saturating_sub(suffix)..size,
            (Err(_), Err(_)) => return None,
        };
        Some(if range.start < range.end { Ok(range) } else { Err(()) })
    }
}

impl Request {
    /// The answer to the question which of some files are here, when it is one.
    pub fn have(&self, is_here: impl Fn(&str) -> bool) -> Option<Reply> {
        if self.path != "/~/have" {
            return None;
        }
        let hex = |hash: &[u8]| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let here: Vec<bool> = self.body.chunks(32).map(|hash| is_here(&hex(hash))).collect();
        let byte = |eight: &[bool]| eight.iter().rev().fold(0, |byte, here| byte << 1 | u8::from(*here));
        let bits: Vec<u8> = here.chunks(8).map(byte).collect();
        let (head, span) = (format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bits.len()), 0..bits.len() as u64);
        Some(Reply { head, body: Body::Memory(Arc::new(bits)), span, ..Reply::bare("") })
    }
}

/// Where a body's bytes come from.
pub enum Body {
    /// From memory; `Reply::span` counts in it.
    Memory(Arc<Vec<u8>>),
    /// From a file; `Reply::span` counts in it.
    File(PathBuf),
    /// The same again and again, for as long as the span is.
    Repeated(&'static [u8]),
}

/// How a reply breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// An orderly close.
    Fin,
    /// A reset.
    Reset,
    /// Nothing more, until [`Server::go_on`].
    Stall,
}

/// One reply.
pub struct Reply {
    /// Status line and fields, to the empty line; sent as it is.
    pub head: String,
    /// The body.
    pub body: Body,
    /// Which bytes of it are sent.
    pub span: Range<u64>,
    /// After how many bytes of the span it breaks off, and how.
    pub stop: Option<(u64, End)>,
    /// Bytes a second.
    pub rate: Option<u64>,
    /// Every byte at a multiple of this is flipped.
    pub flip_every: Option<u64>,
}

impl Reply {
    /// A reply of a head alone.
    pub fn bare(status: &str) -> Self {
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        Self { head, body: Body::Memory(Arc::default()), span: 0..0, stop: None, rate: None, flip_every: None }
    }
}

/// What is sent for a request.
pub type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// The server. It vanishes when it is dropped.
pub struct Server {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    handler: Box<Handler>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    gone: bool,
    /// Bytes a second of all replies together, and when the last byte so far has left.
    line: Option<(u64, Instant)>,
    /// Raised by each `go_on`; who stalls waits for it to rise.
    round: u64,
    sockets: Vec<Socket>,
    requests: Vec<Request>,
    /// By path, the spans of body that were written.
    sent: BTreeMap<String, Vec<Range<u64>>>,
}

impl Server {
    /// Listens on a port that the system chooses.
    pub fn start(ip: Ipv4Addr, handler: Box<Handler>) -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.set_send_buffer_size(SEND_BUFFER).expect("a small buffer");
        listener.bind(&SocketAddr::from((ip, 0)).into()).expect("a loopback address");
        listener.listen(128).expect("a listener");
        let addr = listener.local_addr().ok().and_then(|addr| addr.as_socket()).expect("an IPv4 address");
        let state = State { sockets: vec![listener.try_clone().expect("a descriptor")], ..State::default() };
        let shared = Arc::new(Shared { handler, state: Mutex::new(state), changed: Condvar::new() });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener.into(), &accepting));
        Self { addr, shared }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops listening and cuts every connection, as a machine does that is switched off.
    pub fn vanish(&self) {
        let mut state = self.shared.lock();
        state.gone = true;
        for socket in state.sockets.drain(..) {
            socket.shutdown(Shutdown::Both).ok();
        }
        self.shared.changed.notify_all();
    }

    /// From now on all replies share a line of so many bytes a second.
    pub fn limit(&self, rate: u64) {
        self.shared.lock().line = Some((rate, Instant::now()));
    }

    /// Lets the replies go on that stall now.
    pub fn go_on(&self) {
        self.shared.lock().round += 1;
        self.shared.changed.notify_all();
    }

    /// The requests so far of which the path starts like this.
    pub fn requests(&self, prefix: &str) -> Vec<Request> {
        self.shared.lock().requests.iter().filter(|request| request.path.starts_with(prefix)).cloned().collect()
    }

    /// Bytes of body written so far for paths that start like this.
    pub fn sent(&self, prefix: &str) -> u64 {
        let state = self.shared.lock();
        let spans = state.sent.iter().filter(|(path, _)| path.starts_with(prefix)).flat_map(|(_, spans)| spans);
        spans.map(|span| span.end - span.start).sum()
    }

    /// The spans of a path's body that were written, in order of time.
    pub fn spans(&self, path: &str) -> Vec<Range<u64>> {
        self.shared.lock().sent.get(path).cloned().unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.vanish();
    }
}

/// How often the most often covered byte is covered.
pub fn most_often(spans: &[Range<u64>]) -> usize {
    let mut edges: Vec<(u64, i64)> = spans.iter().flat_map(|span| [(span.start, 1), (span.end, -1)]).collect();
    edges.sort_unstable();
    let depths = edges.iter().scan(0, |depth, (_, change)| {
        *depth += change;
        Some(*depth)
    });
    depths.max().unwrap_or(0) as usize
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread dies with the lock")
    }

    /// Waits for the next `go_on`. `false` when the server vanished.
    fn stall(&self) -> bool {
        let state = self.lock();
        let round = state.round;
        let state = self.changed.wait_while(state, |state| !state.gone && state.round == round);
        !state.expect("no thread dies with the lock").gone
    }

    /// Takes time of the line that all replies share, and waits until these bytes have left.
    fn queue(&self, bytes: u64) {
        let mut state = self.lock();
        let Some((rate, free)) = &mut state.line else { return };
        let now = Instant::now();
        *free = (*free).max(now) + Duration::from_secs_f64(bytes as f64 / *rate as f64);
        let wait = free.duration_since(now);
        drop(state);
        thread::sleep(wait);
    }

    fn note(&self, path: &str, span: Range<u64>) {
        let mut state = self.lock();
        let spans = state.sent.entry(path.to_owned()).or_default();
        match spans.last_mut() {
            Some(last) if last.end == span.start => last.end = span.end,
            _ => spans.push(span),
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { break };
        let mut state = shared.lock();
        if state.gone {
            break;
        }
        state.sockets.retain(|socket| socket.peer_addr().is_ok() || socket.is_listener().unwrap_or(false));
        state.sockets.extend(SockRef::from(&stream).try_clone());
        drop(state);
        let shared = Arc::clone(shared);
        thread::spawn(move || converse(stream, &shared));
    }
}

fn converse(mut stream: TcpStream, shared: &Shared) {
    stream.set_nodelay(true).ok();
    let Ok(reading) = stream.try_clone() else { return };
    let mut reader = BufReader::new(reading);
    while let Some(request) = read_request(&mut reader) {
        shared.lock().requests.push(request.clone());
        let reply = (shared.handler)(&request);
        match send(&mut stream, &request, reply, shared) {
            Ok(()) if request.field("connection") == Some("close") => break,
            Ok(()) => {}
            Err(End::Reset) => return reset(&stream, shared),
            Err(End::Fin | End::Stall) => break,
        }
    }
    stream.shutdown(Shutdown::Both).ok();
}

fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|&read| read > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let path = percent_decode_str(target).decode_utf8().ok()?.into_owned();
    let mut fields = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&read| read > 0)?;
        let Some((name, value)) = line.split_once(':') else { break };
        fields.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = fields.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, fields, body })
}

/// The error is how the connection is to end.
fn send(stream: &mut TcpStream, request: &Request, reply: Reply, shared: &Shared) -> Result<(), End> {
    stream.write_all(reply.head.as_bytes()).map_err(|_| End::Fin)?;
    if request.method == "HEAD" {
        return Ok(());
    }
    let mut source: Box<dyn Read> = match &reply.body {
        Body::Memory(bytes) => Box::new(&bytes[reply.span.start as usize..reply.span.end as usize]),
        Body::File(path) => {
            let mut file = File::open(path).map_err(|_| End::Fin)?;
            file.seek(SeekFrom::Start(reply.span.start)).map_err(|_| End::Fin)?;
            Box::new(file)
        }
        Body::Repeated(bytes) => Box::new(Repeated { bytes, left: &[] }),
    };
    let mut stop = reply.stop.map(|(after, end)| (reply.span.start + after, end));
    let mut at = reply.span.start;
    let mut buffer = [0; CHUNK as usize];
    let step = CHUNK.min(reply.rate.unwrap_or(CHUNK)).max(1);
    loop {
        if let Some((_, end)) = stop.take_if(|(stop, _)| *stop <= at)
            && (end != End::Stall || !shared.stall())
        {
            return Err(end);
        }
        if at >= reply.span.end {
            return Ok(());
        }
        let until = reply.span.end.min(at + step).min(stop.map_or(u64::MAX, |(stop, _)| stop));
        let chunk = &mut buffer[..(until - at) as usize];
        source.read_exact(chunk).map_err(|_| End::Fin)?;
        if let Some(every) = reply.flip_every {
            (0..chunk.len()).filter(|i| (at + *i as u64).is_multiple_of(every)).for_each(|i| chunk[i] ^= 0xff);
        }
        shared.queue(until - at);
        stream.write_all(chunk).map_err(|_| End::Fin)?;
        shared.note(&request.path, at..until);
        if let Some(rate) = reply.rate {
            thread::sleep(Duration::from_secs_f64((until - at) as f64 / rate as f64));
        }
        at = until;
    }
}

/// Bytes that begin anew when they end.
struct Repeated {
    bytes: &'static [u8],
    left: &'static [u8],
}

impl Read for Repeated {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left.is_empty() {
            self.left = self.bytes;
        }
        self.left.read(buffer)
    }
}

/// Forgets every other descriptor of the connection, so that closing this one is the last close: a reset, not a FIN.
fn reset(stream: &TcpStream, shared: &Shared) {
    let socket = SockRef::from(stream);
    socket.set_linger(Some(Duration::ZERO)).ok();
    let peer = socket.peer_addr().ok();
    shared.lock().sockets.retain(|other| other.peer_addr().ok() != peer || peer.is_none());
}
