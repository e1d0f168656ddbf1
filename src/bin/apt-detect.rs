//! Tells apt which proxy to take: apt-huddle while it is well, else the administrator's own, else none.
//!
//! apt runs it as `apt-detect URL` once for each host (`Acquire::http::Proxy-Auto-Detect`, apt.conf(5)) and waits for it,
//! however long it takes; it asks again for every file when nothing is printed, and fails when the exit code is not 0. So
//! this always prints one line, exits with 0, and asks the daemon for a third of a second at most.
//!
//! ```text
//!  the host of the URL is this one, or one of the LAN              the administrator's own proxy, or DIRECT
//!  the daemon answers GET /healthz with its own name in time      http://127.0.0.1:9977
//!  anything else                                                   the administrator's own proxy, or DIRECT
//! ```
//!
//! Where the daemon listens elsewhere than the package's socket unit says, apt's configuration says so:
//! `Apt-Huddle::Proxy "http://127.0.0.1:9988";`.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a program of one question")]

use std::{
    env,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Where the package's socket unit listens.
const DOOR: &str = "http://127.0.0.1:9977";
/// How long the daemon may take to say that it is well.
const PATIENCE: Duration = Duration::from_millis(300);
/// Largest answer that is read, in bytes.
const MAX_ANSWER: usize = 4096;

fn main() {
    let url = env::args().nth(1).unwrap_or_default();
    let settings = Settings::of_apt();
    let door = settings.door.as_deref().unwrap_or(DOOR).trim_end_matches('/').to_owned();
    let is_for_us = !is_near(host_of(&url)) && is_well(&door);
    let proxy = if is_for_us { door } else { settings.own_proxy(&door) };
    // apt has closed the pipe only when it does not care any more.
    let _unheard = writeln!(io::stdout(), "{proxy}");
}

/// What apt's configuration and the environment say.
#[derive(Debug, Default)]
struct Settings {
    door: Option<String>,
    proxy: Option<String>,
}

impl Settings {
    fn of_apt() -> Self {
        let asked = ["shell", "DOOR", "Apt-Huddle::Proxy", "PROXY", "Acquire::http::Proxy"];
        let told = Command::new("apt-config").args(asked).stdin(Stdio::null()).stderr(Stdio::null()).output();
        let told = told.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let mut settings = Self::parse(&told);
        settings.proxy = settings.proxy.or_else(|| env::var("http_proxy").ok()).filter(|proxy| !proxy.is_empty());
        settings
    }

    /// Reads `NAME='value'`, a line each.
    fn parse(text: &str) -> Self {
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("='"));
            Some(line?.strip_suffix('\'')?.replace(r"'\''", "'")).filter(|value| !value.is_empty())
        };
        Self { door: value("DOOR"), proxy: value("PROXY") }
    }

    /// The proxy that apt would take without apt-huddle; one that is apt-huddle itself is none.
    fn own_proxy(&self, door: &str) -> String {
        let own = self.proxy.as_deref().map(|proxy| proxy.trim_end_matches('/'));
        own.filter(|own| *own != door && !own.contains(char::is_whitespace)).unwrap_or("DIRECT").to_owned()
    }
}

/// The host of a URL, without a port or the brackets of IPv6; empty where there is none.
fn host_of(url: &str) -> &str {
    let authority = url.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or(""));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    }
}

/// Whether a host is this one or in the LAN, from which nothing need be saved.
fn is_near(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    match name.parse() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
        Err(_) => name == "localhost" || name.ends_with(".localhost") || name.ends_with(".local"),
    }
}

/// Whether apt-huddle answers there, in time.
fn is_well(door: &str) -> bool {
    let Some(at) = door.strip_prefix("http://").and_then(|at| at.parse().ok()) else { return false };
    ask(at, Instant::now() + PATIENCE).is_ok_and(|answer| says_well(&answer))
}

/// A status of 200, and the name: another program may have the port.
fn says_well(answer: &[u8]) -> bool {
    let answer = String::from_utf8_lossy(answer);
    answer.starts_with("HTTP/1.1 200 ") && answer.to_ascii_lowercase().contains("\r\nserver: apt-huddle")
}

fn ask(at: SocketAddr, deadline: Instant) -> io::Result<Vec<u8>> {
    let left = || match deadline.saturating_duration_since(Instant::now()) {
        left if left.is_zero() => Err(io::Error::from(io::ErrorKind::TimedOut)),
        left => Ok(left),
    };
    let mut stream = TcpStream::connect_timeout(&at, left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    write!(stream, "GET /healthz HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut chunk = [0; 1024];
    while answer.len() < MAX_ANSWER && !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut chunk)? {
            0 => break,
            read => answer.extend(&chunk[..read]),
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_url_is_found_in_every_form() {
        for (url, host) in [
            ("http://mirror.example.org/debian", "mirror.example.org"),
            ("http://user:p@ss@mirror.example.org:8080/", "mirror.example.org"),
            ("http://[::1]:80/x", "::1"),
            ("http://127.0.0.1:9977", "127.0.0.1"),
            ("", ""),
            ("nonsense", ""),
        ] {
            assert_eq!(host_of(url), host, "{url}");
        }
    }

    #[test]
    fn this_host_and_the_lan_are_near() {
        for host in [
            "localhost",
            "LOCALHOST.",
            "a.local",
            "127.9.9.9",
            "10.0.0.1",
            "192.168.1.1",
            "::1",
            "fd00::1",
            "169.254.0.1",
        ] {
            assert!(is_near(host), "{host}");
        }
        for host in ["mirror.example.org", "local.example.org", "192.0.2.1", "2001:db8::1", "172.32.0.1", ""] {
            assert!(!is_near(host), "{host}");
        }
    }

    #[test]
    fn the_administrators_proxy_is_kept_unless_it_is_ours() {
        let own = |text: &str| Settings::parse(text).own_proxy(DOOR);
        assert_eq!(own("PROXY='http://proxy.example.org:3128/'\n"), "http://proxy.example.org:3128");
        assert_eq!(own("PROXY='http://127.0.0.1:9977/'\n"), "DIRECT");
        assert_eq!(own("PROXY=''\n"), "DIRECT");
        assert_eq!(own("PROXY='DIRECT'"), "DIRECT");
        assert_eq!(own("PROXY='http://a b'"), "DIRECT", "apt reads to the line's end");
        assert_eq!(own(""), "DIRECT");
        assert_eq!(Settings::parse("DOOR='http://127.0.0.1:1'\nPROXY='x'").door.as_deref(), Some("http://127.0.0.1:1"));
    }

    #[test]
    fn only_apt_huddle_itself_is_well() {
        assert!(says_well(b"HTTP/1.1 200 OK\r\nServer: apt-huddle/0.1.0\r\n\r\n"));
        assert!(!says_well(b"HTTP/1.1 200 OK\r\nserver: nginx\r\n\r\n"));
        assert!(!says_well(b"HTTP/1.1 503 Service Unavailable\r\nserver: apt-huddle\r\n\r\n"));
        assert!(!says_well(b""));
    }
}
