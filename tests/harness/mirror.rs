//! A mirror that serves a folder, and misbehaves where it is told.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    PIECE, own_network,
    server::{Body, End, Reply, Request, Server},
};

/// How a mirror misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Another status, with a short body.
    Status(u16),
    /// Bytes that are not HTTP.
    Garbage,
    /// A Content-Length of 1,000 bytes more than come before the end of the connection.
    TooLong,
    /// A Content-Length of 1,000 bytes less than the file has.
    TooShort,
    /// An end of the connection instead of an answer.
    Nothing,
    /// No answer, and no end.
    Hang,
    /// A stop after so many bytes.
    StallAfter(u64),
    /// An orderly end of the connection after so many bytes.
    CutAfter(u64),
    /// A reset after so many bytes.
    ResetAfter(u64),
    /// Wrong bytes here and there.
    Lie,
    /// So many bytes a second.
    Slow(u64),
    /// An answer to the first request that is of an earlier version of the file and ends after so many bytes; then the
    /// file as it is.
    Changes(u64),
    /// The same, but every answer is of another version.
    AlwaysChanges(u64),
    /// Bytes of another range than the one asked for, under the name of the right one or of what they are.
    OtherRange { honest: bool },
    /// A redirect to the same place.
    Circle,
}

/// The mirror. It vanishes when it is dropped.
pub struct Mirror {
    server: Server,
    site: Arc<Mutex<Site>>,
}

struct Site {
    root: PathBuf,
    faults: Vec<(String, Fault)>,
    /// Requests answered under a fault that counts them.
    counted: u64,
}

impl Mirror {
    /// Serves a folder from a loopback address in a network of its own.
    pub fn start(root: &Path) -> Self {
        let site = Arc::new(Mutex::new(Site { root: root.to_owned(), faults: Vec::new(), counted: 0 }));
        let serving = Arc::clone(&site);
        let handler = move |request: &Request| serving.lock().expect("no thread dies with the lock").answer(request);
        Self { server: Server::start(own_network(), Box::new(handler)), site }
    }

    /// `127.a.b.c:port`
    pub fn authority(&self) -> String {
        self.server.addr().to_string()
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Requests, bytes sent, and the switch.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// From now on misbehaves for paths that start like this.
    pub fn fault(&self, prefix: &str, fault: Fault) {
        self.site().faults.insert(0, (prefix.to_owned(), fault));
    }

    /// Behaves again.
    pub fn heal(&self) {
        let mut site = self.site();
        (site.faults, site.counted) = (Vec::new(), 0);
        drop(site);
        self.server.go_on();
    }

    /// From now on serves another folder.
    pub fn serve(&self, root: &Path) {
        root.clone_into(&mut self.site().root);
    }

    /// Bytes of package files sent so far.
    pub fn pool_bytes(&self) -> u64 {
        self.server.sent("/debian/pool")
    }

    fn site(&self) -> std::sync::MutexGuard<'_, Site> {
        self.site.lock().expect("no thread dies with the lock")
    }
}

impl Site {
    fn answer(&mut self, request: &Request) -> Reply {
        let request = &Request { path: below_the_host(&request.path), ..request.clone() };
        let fault = self.faults.iter().find(|(prefix, _)| request.path.starts_with(prefix)).map(|(_, fault)| *fault);
        match fault {
            Some(Fault::Status(status)) => {
                let body = format!("this mirror says {status}\n").into_bytes();
                let head = format!("HTTP/1.1 {status} Trouble\r\nContent-Length: {}\r\n\r\n", body.len());
                let span = 0..body.len() as u64;
                Reply { head, body: Body::Memory(Arc::new(body)), span, ..Reply::bare("") }
            }
            Some(Fault::Circle) => {
                let head = format!("HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", request.path);
                Reply { head, ..Reply::bare("") }
            }
            Some(Fault::Changes(_) | Fault::AlwaysChanges(_)) => {
                self.counted += 1;
                self.file(request, fault)
            }
            Some(Fault::Garbage) => Reply {
                head: "\x01\x02 penguins \x03\r\n\r\n".repeat(50),
                stop: Some((0, End::Fin)),
                ..Reply::bare("")
            },
            Some(Fault::Nothing) => Reply { head: String::new(), stop: Some((0, End::Fin)), ..Reply::bare("") },
            Some(Fault::Hang) => Reply { head: String::new(), stop: Some((0, End::Stall)), ..Reply::bare("") },
            _ => self.file(request, fault),
        }
    }

    fn file(&self, request: &Request, fault: Option<Fault>) -> Reply {
        let path = self.root.join(request.path.trim_start_matches('/'));
        let Some(meta) = fs::metadata(&path).ok().filter(fs::Metadata::is_file) else {
            return Reply::bare("404 Not Found");
        };
        let is_of_old = matches!(fault, Some(Fault::AlwaysChanges(_)))
            || (matches!(fault, Some(Fault::Changes(_))) && self.counted == 1);
        let age = std::time::Duration::from_secs(if is_of_old { self.counted * 3600 } else { 0 });
        let modified = http_date(meta.modified().expect("a file system with times") - age);
        if request.field("if-modified-since") == Some(&modified) {
            return Reply { head: "HTTP/1.1 304 Not Modified\r\n\r\n".into(), ..Reply::bare("") };
        }
        let size = meta.len();
        let other = match fault {
            Some(Fault::OtherRange { .. }) => 4096,
            _ => 0,
        };
        let ranged = request.range(size).filter(|_| request.field("if-range").is_none_or(|date| date == modified));
        let (status, span) = match ranged {
            None => ("200 OK", 0..size),
            Some(Ok(span)) => ("206 Partial Content", span),
            Some(Err(())) => return Reply::bare("416 Range Not Satisfiable"),
        };
        let length = match fault {
            Some(Fault::TooLong) => span.end - span.start + 1000,
            Some(Fault::TooShort) => (span.end - span.start).saturating_sub(1000),
            _ => span.end - span.start,
        };
        let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nLast-Modified: {modified}\r\n");
        let version = if is_of_old { self.counted } else { 0 };
        head += &format!("Accept-Ranges: bytes\r\nETag: \"of-this-mirror-{version}\"\r\n");
        let moved = (span.start.min(size - length.min(size)).saturating_sub(other), length);
        let span = if other > 0 && status.starts_with("206") { moved.0..moved.0 + moved.1 } else { span };
        if status.starts_with("206") {
            let shift = if let Some(Fault::OtherRange { honest: false }) = fault { other } else { 0 };
            head += &format!("Content-Range: bytes {}-{}/{size}\r\n", span.start + shift, span.end - 1 + shift);
        }
        let stop = match fault {
            Some(Fault::StallAfter(bytes)) => Some((bytes, End::Stall)),
            Some(Fault::CutAfter(bytes)) => Some((bytes, End::Fin)),
            Some(Fault::Changes(bytes) | Fault::AlwaysChanges(bytes)) if is_of_old => Some((bytes, End::Fin)),
            Some(Fault::OtherRange { .. }) if status.starts_with("200") => Some((PIECE, End::Fin)),
            Some(Fault::ResetAfter(bytes)) => Some((bytes, End::Reset)),
            Some(Fault::TooLong | Fault::TooShort) => Some((length.min(span.end - span.start), End::Fin)),
            _ => None,
        };
        let rate = if let Some(Fault::Slow(rate)) = fault { Some(rate) } else { None };
        let flip_every = (fault == Some(Fault::Lie) || is_of_old).then_some(10_007);
        Reply { head: head + "\r\n", body: Body::File(path), span, stop, rate, flip_every }
    }
}

/// The path of a whole URL, as a proxy is asked for it.
fn below_the_host(target: &str) -> String {
    let Some((_, rest)) = target.split_once("://") else { return target.to_owned() };
    rest.find('/').map_or("/", |slash| &rest[slash..]).to_owned()
}

/// An IMF-fixdate (RFC 9110, section 5.6.7).
pub fn http_date(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(days % 7) as usize];
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{weekday}, {:02} {} {year} {hour:02}:{minute:02}:{second:02} GMT", day + 1, names[month])
}

#[test]
fn dates_read_as_http_wants_them() {
    for (seconds, text) in [
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (951_827_696, "Tue, 29 Feb 2000 12:34:56 GMT"),
    ] {
        assert_eq!(http_date(UNIX_EPOCH + std::time::Duration::from_secs(seconds)), text);
    }
}
