//! The local API's client: one request, over HTTP/1.1 (RFC 9112), to a daemon on this host.
//!
//! It trusts no one's length and waits for no one for ever: another program may listen where the daemon should.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the command line's door to the daemon: a socket and a deadline"
)]

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use super::Failure;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How long an answer may take; one that goes through the whole catalogue of a busy machine takes a while.
const ANSWER: Duration = Duration::from_secs(30);
/// How long something may take to be done: a part of a large store is hashed, or a file is fetched again.
const DONE: Duration = Duration::from_secs(600);
/// Largest answer, in bytes.
const MAX_ANSWER: usize = 16 << 20;
/// Fields of an answer's head at most.
const MAX_FIELDS: usize = 32;

/// What the daemon said.
#[derive(Debug)]
pub struct Reply {
    /// Who said it.
    pub from: SocketAddr,
    /// HTTP status.
    pub status: u16,
    /// The body, whole.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as it is, with a line's end.
    pub fn as_is(&self) -> String {
        String::from_utf8_lossy(&self.body).trim_end().to_owned() + "\n"
    }
}

/// Asks the first of the addresses at which somebody listens.
pub fn get(listen: &[SocketAddr], target: &str) -> Result<Reply, Failure> {
    ask(listen, "GET", target, ANSWER)
}

/// Has something done by the first of the addresses at which somebody listens.
pub fn post(listen: &[SocketAddr], target: &str) -> Result<Reply, Failure> {
    ask(listen, "POST", target, DONE)
}

fn ask(listen: &[SocketAddr], method: &str, target: &str, patience: Duration) -> Result<Reply, Failure> {
    let mut refusals = Vec::new();
    for &address in listen {
        let address = reachable(address);
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => {
                let request = format!(
                    "{method} {target} HTTP/1.1\r\nHost: {address}\r\nAccept: application/json\r\n\
                     Content-Length: 0\r\nConnection: close\r\n\r\n"
                );
                return speak(stream, address, request.as_bytes(), patience)
                    .map_err(|error| unanswered(address, &error, patience));
            }
            Err(error) => refusals.push(format!("{address} ({error})")),
        }
    }
    Err(Failure::Daemon(format!(
        "no daemon listens at {}; start one with `apt-huddle run`, or name the running one's configuration with --config",
        refusals.join(", ")
    )))
}

/// An address that stands for all of this host's is reached at its loopback one.
pub fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn unanswered(address: SocketAddr, error: &io::Error, patience: Duration) -> Failure {
    let how = match error.kind() {
        io::ErrorKind::InvalidData => "is no apt-huddle of this version".to_owned(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!("gave no answer in {} s", patience.as_secs()),
        _ => format!("gave no answer: {error}"),
    };
    Failure::Daemon(format!("what listens at {address} {how}"))
}

fn speak(mut stream: TcpStream, from: SocketAddr, request: &[u8], patience: Duration) -> io::Result<Reply> {
    let deadline = Instant::now() + patience;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(request)?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        if let Some((status, body)) = parse(&bytes)? {
            return Ok(Reply { from, status, body });
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => bytes.extend(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Status and body, once both are whole. Only a body of a length that was said is one of the API's.
fn parse(bytes: &[u8]) -> io::Result<Option<(u16, Vec<u8>)>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Response::new(&mut fields);
    let foreign = || io::Error::from(io::ErrorKind::InvalidData);
    let httparse::Status::Complete(end) = head.parse(bytes).map_err(|_| foreign())? else {
        return if bytes.len() < MAX_ANSWER { Ok(None) } else { Err(foreign()) };
    };
    let length = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|field| std::str::from_utf8(field.value).ok()?.trim().parse::<usize>().ok());
    let length = length.filter(|&length| length <= MAX_ANSWER).ok_or_else(foreign)?;
    let status = head.code.ok_or_else(foreign)?;
    Ok(bytes.get(end..end + length).map(|body| (status, body.to_vec())))
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    /// A program that gives this answer, whatever it is asked, and ends the connection.
    fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn an_answer_is_taken_when_it_is_whole() {
        let address = answering("HTTP/1.1 400 Bad Request\r\ncontent-length: 4\r\n\r\n{} \n");
        let reply = get(&[address], "/a").unwrap();
        assert_eq!((reply.from, reply.status, reply.as_is().as_str()), (address, 400, "{}\n"));
    }

    #[test]
    fn what_is_no_daemon_is_said_to_be_none() {
        for (answer, how) in [
            ("SSH-2.0-OpenSSH_9.2\r\n", "is no apt-huddle"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", "is no apt-huddle"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "is no apt-huddle"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{}", "gave no answer"),
            ("", "gave no answer"),
        ] {
            let Err(Failure::Daemon(said)) = get(&[answering(answer)], "/") else { panic!("{answer:?}") };
            assert!(said.contains(how), "{answer:?}: {said}");
        }
    }

    #[test]
    fn without_a_daemon_it_says_where_and_what_to_do() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let Err(Failure::Daemon(said)) = get(&[address], "/") else { panic!() };
        assert!(said.contains(&address.to_string()) && said.contains("apt-huddle run"), "{said}");
        let first = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(get(&[address, first], "/").unwrap().from, first);
    }

    #[test]
    fn all_addresses_are_reached_at_loopback() {
        for (listen, at) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1")] {
            assert_eq!(reachable(listen.parse().unwrap()), at.parse().unwrap());
        }
    }
}
