//! The URI of an entry: where it leads, through this proxy and through lists of mirrors too.
//!
//! ```text
//!  http://m.example.org/debian                          a base address
//!  http://127.0.0.1:9977/m.example.org/debian           the same, through this proxy
//!  mirror+file:/etc/apt/mirrors.list                    every base address in that file, see apt-transport-mirror(1)
//!  mirror+http://m.example.org/mirrors                  base addresses that are not known here
//!  cdrom:[Debian]/                                      nothing that is fetched over http or https
//! ```

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use crate::archive::Location;

use super::with_architecture;

/// Most mirrors of one list.
pub const MAX_MIRRORS: usize = 1000;

/// The addresses at which this proxy is reached.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Names of this host, besides `localhost`.
    pub names: Vec<String>,
    /// Asked when it listens on an unspecified address: whether an address is one of this host's.
    pub is_own: Option<fn(IpAddr) -> bool>,
}

impl Proxies {
    /// Whether a location leads to this proxy.
    pub fn has(&self, location: &Location) -> bool {
        let named = || self.names.iter().any(|name| name.eq_ignore_ascii_case(location.host()));
        let is_local = location.host() == "localhost" || named();
        let ip = location.ip().map(|ip| ip.to_canonical());
        let is_own = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified() || self.is_own.is_some_and(|asked| asked(ip));
        let reaches = |listen: &SocketAddr| match ip {
            _ if listen.port() != location.port_or_default() => false,
            None => is_local,
            Some(ip) if listen.ip().is_unspecified() => {
                (listen.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) || ip.is_ipv4()) && is_own(ip)
            }
            Some(ip) => listen.ip().to_canonical() == ip,
        };
        self.listen.iter().any(reaches)
    }

    /// The origin that a location stands for when it leads through this proxy; any other stands for itself. `None` when it
    /// leads here and stands for nothing.
    pub fn origin_of(&self, at: Location) -> Option<Location> {
        if !self.has(&at) {
            return Some(at);
        }
        Location::from_rewritten(&at.key()[at.authority().len()..]).ok()
    }
}

/// What is needed to read apt's sources besides their text.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Where this proxy is reached: an entry that leads through it counts as what it stands for.
    pub proxies: Proxies,
    /// The lists of mirrors that could be read, by their paths; see [`mirror_lists`].
    pub lists: HashMap<String, String>,
    /// Files of sources that are there and could not be read.
    pub unreadable: Vec<String>,
}

/// Where the URI of an entry leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bases {
    /// To these base addresses.
    Known(Vec<Location>),
    /// To mirrors that are not known here.
    Unknown,
    /// To nothing that is fetched over http or https.
    Elsewhere,
}

impl Surroundings {
    /// Reads the URI of an entry; the error is for people.
    pub(super) fn bases(&self, uri: &str) -> Result<Bases, String> {
        let uri = with_architecture(uri);
        let Some((scheme, rest)) = uri.split_once(':') else { return Ok(Bases::Elsewhere) };
        let scheme = scheme.to_ascii_lowercase();
        match scheme.as_str() {
            "http" | "https" => Ok(Bases::Known(vec![self.base(&uri)?])),
            "mirror+file" => Ok(match self.lists.get(&list_path(rest)) {
                Some(list) => Bases::Known(self.mirrors(list)),
                None => Bases::Unknown,
            }),
            _ if scheme == "mirror" || scheme.starts_with("mirror+") => Ok(Bases::Unknown),
            _ => Ok(Bases::Elsewhere),
        }
    }

    /// The base addresses in what cannot be read as an entry, and whether it may lead to others besides.
    pub(super) fn guessed(&self, text: &str) -> (Vec<Location>, bool) {
        let (mut bases, mut is_unknown) = (Vec::new(), false);
        for word in text.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(str::split_whitespace) {
            let lower = word.to_ascii_lowercase();
            let uri = ["mirror+", "mirror:", "http:", "https:"].iter().filter_map(|scheme| lower.find(scheme)).min();
            match uri.map(|at| self.bases(&word[at..])) {
                Some(Ok(Bases::Known(known))) => bases.extend(known),
                Some(Ok(Bases::Unknown)) => is_unknown = true,
                // apt refuses it too, or it leads to nothing that can be asked for here.
                Some(Ok(Bases::Elsewhere) | Err(_)) | None => {}
            }
        }
        (bases, is_unknown)
    }

    fn base(&self, uri: &str) -> Result<Location, String> {
        let written = Location::parse(uri).map_err(|error| error.to_string())?;
        match self.proxies.has(&written) {
            true => Location::from_rewritten(&written.key()[written.authority().len()..]),
            false => Ok(written),
        }
        .map_err(|error| error.to_string())
    }

    /// The mirrors of a list: a URI at the beginning of each line.
    fn mirrors(&self, list: &str) -> Vec<Location> {
        let lines = list.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        let uris = lines.filter_map(|line| line.split_whitespace().next());
        uris.filter_map(|uri| self.base(&with_architecture(uri)).ok()).take(MAX_MIRRORS).collect()
    }
}

/// The paths of lists of mirrors that a file of sources names.
pub fn mirror_lists(text: &str) -> Vec<String> {
    const SCHEME: &str = "mirror+file:";
    let words = text.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(str::split_whitespace);
    let path = |word: &str| {
        let at = word.to_ascii_lowercase().find(SCHEME)?;
        Some(list_path(&with_architecture(&word[at + SCHEME.len()..])))
    };
    words.filter_map(path).filter(|path| path.starts_with('/')).collect()
}

/// `///etc/a` and `/etc/a` are one path.
fn list_path(rest: &str) -> String {
    format!("/{}", rest.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> Location {
        Location::parse(url).unwrap()
    }

    fn proxies(listen: &[&str]) -> Proxies {
        Proxies {
            listen: listen.iter().map(|at| at.parse().unwrap()).collect(),
            names: vec!["house".to_owned()],
            is_own: Some(|ip| ip.to_string() == "192.0.2.7" || ip.to_string() == "2001:db8::7"),
        }
    }

    #[test]
    fn a_proxy_on_every_address_is_recognised_by_each_of_them() {
        let urls = |port: u16| {
            let hosts = ["127.0.0.1", "127.0.1.1", "localhost", "House", "192.0.2.7", "[::1]", "[2001:db8::7]"];
            hosts.map(|host| at(&format!("http://{host}:{port}/m.example.org/debian")))
        };
        for (listen, want) in [
            ("0.0.0.0:9977", [true, true, true, true, true, false, false]),
            ("[::]:9977", [true; 7]),
            ("127.0.0.1:9977", [true, false, true, true, false, false, false]),
            ("192.0.2.7:9977", [false, false, true, true, true, false, false]),
            ("[::1]:9977", [false, false, true, true, false, true, false]),
        ] {
            let proxies = proxies(&[listen]);
            assert_eq!(urls(9977).map(|url| proxies.has(&url)), want, "{listen}");
            assert_eq!(urls(9978).map(|url| proxies.has(&url)), [false; 7], "{listen}");
            for url in urls(9977).into_iter().filter(|url| proxies.has(url)) {
                assert_eq!(proxies.origin_of(url), Some(at("http://m.example.org/debian")));
            }
            let other = at("http://192.0.2.8:9977/m.example.org/debian");
            assert_eq!(
                proxies.origin_of(other.clone()),
                Some(other),
                "the proxy of another host is an origin like any"
            );
        }
        assert!(!Proxies::default().has(&at("http://localhost:9977/")));
        assert_eq!(proxies(&["[::]:9977"]).origin_of(at("http://127.0.0.1:9977/")), None);
    }
}
