//! Where a file lives: one spelling for every form of URL.
//!
//! ```text
//!  http://Mirror.Example.org:80/debian//pool/h/hello_1%2b2.deb
//!         host, lower case      path, decoded once and folded      -> key  mirror.example.org/debian/pool/h/hello_1+2.deb
//! ```
//!
//! **Security.** Percent-encoding is undone exactly once; a slash, backslash or control character that appears only then
//! is refused, and so is every host that different resolvers read differently (`127.1`, `0x7f000001`). A query is kept
//! apart: such a location is fetched as it was asked for, but is never inside a [`Repository`](super::Repository), so
//! nothing vouches for it. User and password are kept apart too and appear in no text that is shown.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::path;

/// Longest URL that is looked at, in bytes.
pub const MAX_URL: usize = 8192;

/// Longest host name (RFC 1035, section 2.3.4).
const MAX_HOST: usize = 253;

/// What a path may hold as it is: RFC 3986's unreserved characters, and those of its sub-delimiters, `:` and `@` that
/// Debian's names use. So versions travel as `1%3a2+b~c` is written by people: `1:2+b~c`.
const LITERAL: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b'+')
    .remove(b':')
    .remove(b'@')
    .remove(b'=')
    .remove(b',')
    .remove(b'!');

/// The address of a file at its origin, normalised: lower-case host, no default port, percent-encoding undone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Location {
    https: bool,
    host: String,
    port: Option<u16>,
    path: String,
    query: Option<String>,
    credentials: Option<String>,
}

/// A URL cannot be the address of a file in an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {url}")]
pub struct BadLocation {
    /// The URL as it was written, without credentials and query.
    pub url: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Location {
    /// Reads an absolute `http` or `https` URL (RFC 3986). `http://HTTPS///host/path` stands for `https://host/path`, as
    /// in apt-cacher-ng.
    pub fn parse(url: &str) -> Result<Self, BadLocation> {
        parse(url).map_err(|reason| BadLocation { url: redacted(url), reason })
    }

    /// Reads the target of a request to the proxy itself, in origin form: `/host/path` stands for `http://host/path`,
    /// `/HTTPS///host/path` for `https://host/path`.
    pub fn from_rewritten(target: &str) -> Result<Self, BadLocation> {
        let rest = target.trim_start_matches('/');
        match rest.strip_prefix("HTTPS/") {
            Some(https) => Self::parse(&format!("https://{}", https.trim_start_matches('/'))),
            None => Self::parse(&format!("http://{rest}")),
        }
    }

    /// The host, lower case, without port; an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The host as an address, when it is a literal one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }

    /// `host` or `host:port`; the scheme's own port is left out.
    pub fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }

    /// The TCP port: that of the URL, else the scheme's.
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or(if self.https { 443 } else { 80 })
    }

    /// Whether the origin is to be spoken to over TLS.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The decoded path, which begins with a slash.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The query as it was written, without the question mark.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// The last segment of the path; empty for a folder.
    pub fn file_name(&self) -> &str {
        path::split(&self.path).1
    }

    /// `user:password` of the URL, decoded, when it had any.
    pub fn credentials(&self) -> Option<&str> {
        self.credentials.as_deref()
    }

    /// Whether a list has the host, or the host with this port; the scheme's own port counts whether it is written or not.
    pub fn is_named_in(&self, hosts: &[String]) -> bool {
        let host = self.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let with_port = format!("{host}:{}", self.port_or_default());
        let mut entries = hosts.iter().map(|entry| entry.trim().trim_end_matches('.'));
        entries.any(|entry| [host, bare, &with_port].into_iter().any(|name| name.eq_ignore_ascii_case(entry)))
    }

    /// The URL to ask the origin for, percent-encoded, without credentials.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.https { "https" } else { "http" }, self.key())
    }

    /// `host[:port]/path[?query]`, percent-encoded in one way: equal for all spellings of one file, over http or https.
    pub fn key(&self) -> String {
        let mut key = format!("{}{}", self.authority(), utf8_percent_encode(&self.path, LITERAL));
        if let Some(query) = &self.query {
            key.push('?');
            key.push_str(query);
        }
        key
    }

    /// Another file in the same folder.
    pub fn sibling(&self, name: &str) -> Result<Self, BadLocation> {
        self.with_path(&path::join(path::split(&self.path).0, name))
    }

    /// A file below this location, which is taken as a folder.
    pub fn join(&self, below: &str) -> Result<Self, BadLocation> {
        self.with_path(&path::join(&self.path, below))
    }

    fn with_path(&self, path: &str) -> Result<Self, BadLocation> {
        let path = path::normalise(path).map_err(|reason| BadLocation {
            url: redacted(&format!("{self} and {path}")),
            reason: match reason {
                path::BadPath::TooLong => "path too long",
                _ => "path leaves its folder or has forbidden characters",
            },
        })?;
        Ok(Self { path: format!("/{path}"), query: None, ..self.clone() })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), utf8_percent_encode(&self.path, LITERAL))?;
        if self.query.is_some() { f.write_str("?...") } else { Ok(()) }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let credentials = if self.credentials.is_some() { " with credentials" } else { "" };
        write!(f, "{self}{credentials}")
    }
}

fn parse(url: &str) -> Result<Location, &'static str> {
    if url.len() > MAX_URL {
        return Err("URL longer than 8192 bytes");
    }
    if url.chars().any(|c| c.is_control() || c == ' ') {
        return Err("URL with a space or control character");
    }
    let (scheme, rest) = url.split_once("://").ok_or("not an absolute URL")?;
    let https = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return Err("neither http nor https"),
    };
    if let Some(tls) = rest.strip_prefix("HTTPS///") {
        return match https {
            false if !tls.starts_with("HTTPS///") => parse(&format!("https://{tls}")),
            _ => Err("HTTPS/// stands only after http://"),
        };
    }
    if rest.contains('#') {
        return Err("a fragment has no place in a request");
    }
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    if query.is_some_and(|query| !query.is_ascii()) {
        return Err("a query with characters that are not encoded");
    }
    let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
    let (credentials, authority) =
        authority.rsplit_once('@').map_or((None, authority), |(user, rest)| (Some(user), rest));
    let (host, port) = parse_authority(authority)?;
    Ok(Location {
        https,
        host,
        port: port.filter(|&port| port != if https { 443 } else { 80 }),
        path: decode_path(path)?,
        query: query.map(str::to_owned),
        credentials: credentials.filter(|text| !text.is_empty()).map(decode_credentials).transpose()?,
    })
}

fn parse_authority(authority: &str) -> Result<(String, Option<u16>), &'static str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or("IPv6 address without closing bracket")?;
            let address: Ipv6Addr = address.parse().map_err(|_| "not an IPv6 address")?;
            let port = match port {
                "" => None,
                port => Some(port.strip_prefix(':').ok_or("text after the IPv6 address")?),
            };
            (format!("[{address}]"), port)
        }
        None => {
            let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
            (parse_name(host)?, port)
        }
    };
    let port = match port {
        None | Some("") => None,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => match digits.parse() {
            Ok(0) | Err(_) => return Err("not a port number"),
            Ok(port) => Some(port),
        },
        Some(_) => return Err("not a port number"),
    };
    Ok((host, port))
}

/// Lower-cases a host name. A name whose last label is a number is an IPv4 address for some resolvers (WHATWG URL,
/// "ends in a number"), so it must be one in the usual four parts.
fn parse_name(host: &str) -> Result<String, &'static str> {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if host.is_empty() || host.len() > MAX_HOST {
        return Err("no host, or one that is too long");
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if !host.bytes().all(allowed) || host.split('.').any(str::is_empty) {
        return Err("not a host name");
    }
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    match host.parse::<Ipv4Addr>() {
        Err(_) if numeric => Err("an IPv4 address not in the usual form"),
        _ => Ok(host),
    }
}

fn decode_path(encoded: &str) -> Result<String, &'static str> {
    let mut rest = encoded;
    while let Some(percent) = rest.find('%') {
        let code = rest.get(percent + 1..percent + 3).ok_or("broken percent-encoding")?;
        match u8::from_str_radix(code, 16) {
            Ok(b'/' | b'\\') => return Err("an encoded slash or backslash"),
            Ok(_) if code.bytes().all(|b| b.is_ascii_hexdigit()) => rest = &rest[percent + 3..],
            _ => return Err("broken percent-encoding"),
        }
    }
    let decoded = percent_decode_str(encoded).decode_utf8().map_err(|_| "path is not UTF-8")?;
    match path::normalise(&decoded) {
        Ok(path) => Ok(format!("/{path}")),
        Err(path::BadPath::Climbs) => Err("path with a `..` segment"),
        Err(path::BadPath::TooLong) => Err("path longer than 4096 bytes"),
        Err(path::BadPath::Forbidden | path::BadPath::Empty) => Err("path with a control character or backslash"),
    }
}

fn decode_credentials(encoded: &str) -> Result<String, &'static str> {
    let decoded = percent_decode_str(encoded).decode_utf8().map_err(|_| "credentials are not UTF-8")?;
    if decoded.chars().any(char::is_control) {
        return Err("credentials with a control character");
    }
    Ok(decoded.into_owned())
}

/// A URL for a message: nothing before the last `@` and after the first `?`, no control characters, not too long.
fn redacted(url: &str) -> String {
    let shown = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
    let shown = shown.split('?').next().unwrap_or_default();
    shown.chars().take(200).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests;
