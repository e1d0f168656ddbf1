//! The proxy that mirrors are reached through, where this host has one: `[mirror] proxy`, or the environment.
//!
//! | setting | what is used |
//! |---|---|
//! | `"environment"` | `http_proxy`, `https_proxy`, `all_proxy`, but for the hosts in `no_proxy`, as curl reads them |
//! | `"none"` | none |
//! | `"http://proxy.example.org:3128"` | this one, for http and https, but for the hosts in `no_proxy` |
//!
//! apt's own `Acquire::http::Proxy` is not read: it names this daemon. Hosts on loopback are never asked through a proxy.
//!
//! ```text
//!  no_proxy=localhost,.example.org,example.net:8080,10.0.0.0/8,[2001:db8::1]      a name stands for those below it too;
//!                                                                                 `*` for every host
//! ```

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;
use serde::Deserialize;

use crate::archive::Location;

/// Entries of `no_proxy` that are looked at.
const MAX_EXCEPT: usize = 1000;

/// Section `[mirror]` of the configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Through which proxy mirrors are asked.
    pub proxy: Choice,
}

/// `[mirror] proxy`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Choice {
    /// What the environment says.
    #[default]
    Environment,
    /// None.
    Direct,
    /// This one.
    Through(Proxy),
}

impl TryFrom<String> for Choice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "environment" => Ok(Self::Environment),
            "none" => Ok(Self::Direct),
            url if url.contains("://") => Proxy::parse(url).map(Self::Through),
            _ => Err(format!("{text:?} is no proxy")),
        }
    }
}

/// A proxy that is spoken to in HTTP. Its password is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy(Location);

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0.authority())
    }
}

impl Proxy {
    /// Reads `http://[user:password@]host[:port][/]`; without a scheme, `http` is meant.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let location = Location::parse(&url).map_err(|error| error.to_string())?;
        if location.is_https() || location.path() != "/" || location.query().is_some() {
            return Err(format!(
                "http://{} is wanted, with no path: no other proxies are spoken to",
                location.authority()
            ));
        }
        Ok(Self(location))
    }

    /// Its address as a URL, without credentials.
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// User and password, when the address had any.
    pub fn credentials(&self) -> Option<(&str, &str)> {
        let credentials = self.0.credentials()?;
        Some(credentials.split_once(':').unwrap_or((credentials, "")))
    }

    /// Whether it is one of these sockets of this host. What hides behind a name is found by the `Via` field of requests.
    pub fn is_at(&self, listen: &[SocketAddr]) -> bool {
        let is_local = is_loopback(&self.0);
        let is_ours = |at: &&SocketAddr| {
            let ip = at.ip().to_canonical();
            let same = self.0.ip().is_some_and(|own| own.to_canonical() == ip);
            at.port() == self.0.port_or_default()
                && (same || (is_local && (ip.is_unspecified() || (ip.is_loopback() && self.0.ip().is_none()))))
        };
        listen.iter().any(|at| is_ours(&at))
    }
}

/// Which proxy is asked for what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upstream {
    http: Option<Proxy>,
    https: Option<Proxy>,
    except: Vec<Except>,
}

impl Upstream {
    /// What a choice means, given the variables of the environment. Variables that are no proxies are given back as
    /// errors and left out.
    pub fn new(choice: &Choice, variable: impl Fn(&str) -> Option<String>) -> (Self, Vec<String>) {
        let mut bad = Vec::new();
        let mut first = |names: &[&'static str]| {
            let (name, text) =
                names.iter().find_map(|name| Some((name, variable(name).filter(|text| !text.trim().is_empty())?)))?;
            Proxy::parse(text.trim()).inspect_err(|error| bad.push(format!("{name}: {error}"))).ok()
        };
        let (http, https) = match choice {
            // Upper case is left out: behind a web server, that would be a header of a request.
            Choice::Environment => (
                first(&["http_proxy", "all_proxy", "ALL_PROXY"]),
                first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            ),
            Choice::Direct => (None, None),
            Choice::Through(proxy) => (Some(proxy.clone()), Some(proxy.clone())),
        };
        let except = variable("no_proxy").or_else(|| variable("NO_PROXY")).unwrap_or_default();
        let except = except.split([',', ' ']).filter_map(Except::parse).take(MAX_EXCEPT).collect();
        (Self { http, https, except }, bad)
    }

    /// Leaves out those that are these sockets of this host, and gives them back.
    pub fn without(mut self, listen: &[SocketAddr]) -> (Self, Vec<Proxy>) {
        let ours = [&mut self.http, &mut self.https];
        let ours = ours.into_iter().filter_map(|proxy| proxy.take_if(|proxy| proxy.is_at(listen))).collect();
        (self, ours)
    }

    /// The proxy for `http` origins.
    pub fn http(&self) -> Option<&Proxy> {
        self.http.as_ref()
    }

    /// The proxy for `https` origins.
    pub fn https(&self) -> Option<&Proxy> {
        self.https.as_ref()
    }

    /// Whether a location is asked for through a proxy.
    pub fn covers(&self, at: &Location) -> bool {
        let proxy = if at.is_https() { &self.https } else { &self.http };
        proxy.is_some() && !is_loopback(at) && !self.except.iter().any(|except| except.covers(at))
    }
}

fn is_loopback(at: &Location) -> bool {
    let host = at.host();
    at.ip().is_some_and(|ip| ip.to_canonical().is_loopback()) || host == "localhost" || host.ends_with(".localhost")
}

/// An entry of `no_proxy`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Except {
    All,
    Network(IpNet),
    /// A name, lower case, and those below it; perhaps one port only.
    Name(String, Option<u16>),
}

impl Except {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text == "*" {
            return Some(Self::All);
        }
        let address = text.trim_start_matches('[').trim_end_matches(']');
        if let Some(network) = address.parse().ok().or_else(|| address.parse::<IpAddr>().ok().map(IpNet::from)) {
            return Some(Self::Network(network));
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().ok()?)),
            None => (text.as_str(), None),
        };
        let name = name.trim_start_matches("*.").trim_matches('.');
        if let (Ok(ip), None) = (name.parse::<IpAddr>(), port) {
            return Some(Self::Network(ip.into()));
        }
        (!name.is_empty()).then(|| Self::Name(name.to_owned(), port))
    }

    fn covers(&self, at: &Location) -> bool {
        match self {
            Self::All => true,
            Self::Network(network) => at.ip().is_some_and(|ip| network.contains(&ip.to_canonical())),
            Self::Name(name, port) => {
                let host = at.host().trim_matches(['[', ']']);
                let below = host.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                below && port.is_none_or(|port| port == at.port_or_default())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(choice: &str, variables: &[(&str, &str)]) -> (Upstream, Vec<String>) {
        let choice = Choice::try_from(choice.to_owned()).expect("a choice");
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
        Upstream::new(&choice, variable)
    }

    fn covers(upstream: &Upstream, url: &str) -> bool {
        upstream.covers(&Location::parse(url).expect("a URL"))
    }

    #[test]
    fn the_environment_is_read_as_curl_reads_it() {
        let (both, bad) = upstream(
            "environment",
            &[
                ("http_proxy", "proxy.example.org:3128"),
                ("HTTPS_PROXY", "http://u:p%40@tls.example.org/"),
                ("HTTP_PROXY", "http://evil.example.org"),
            ],
        );
        assert!(bad.is_empty());
        assert_eq!(both.http().expect("one").url(), "http://proxy.example.org:3128/");
        assert_eq!(both.https().expect("one").credentials(), Some(("u", "p@")));
        assert!(!format!("{both:?}").contains("p@"), "no password is shown");
        let (all, _) = upstream("environment", &[("ALL_PROXY", "http://p.example.org"), ("http_proxy", " ")]);
        assert!(covers(&all, "http://m.example.org/") && covers(&all, "https://m.example.org/"));
        let (none, _) = upstream("none", &[("http_proxy", "http://p.example.org")]);
        assert!(!covers(&none, "http://m.example.org/"));
        let (bad, errors) = upstream("environment", &[("http_proxy", "socks5://p.example.org")]);
        assert!(!covers(&bad, "http://m.example.org/") && errors[0].starts_with("http_proxy: "), "{errors:?}");
    }

    #[test]
    fn hosts_in_no_proxy_and_on_loopback_are_asked_directly() {
        let list = "localhost, .example.org,m.example.net:8080,10.0.0.0/8,[2001:db8::1],192.168.1.7, ,*.corp";
        let (upstream, _) = upstream("http://p.example.org:3128", &[("no_proxy", list)]);
        for direct in [
            "http://127.0.0.1/",
            "http://localhost:81/",
            "http://[::1]/",
            "http://a.localhost/",
            "http://example.org/",
            "https://a.b.EXAMPLE.org/",
            "http://m.example.net:8080/",
            "http://10.3.4.5/",
            "http://[2001:db8::1]/",
            "http://192.168.1.7:99/",
            "http://x.corp/",
        ] {
            assert!(!covers(&upstream, direct), "{direct}");
        }
        for proxied in [
            "http://notexample.org/",
            "http://m.example.net/",
            "http://11.3.4.5/",
            "https://[2001:db8::2]/",
            "http://192.168.1.8/",
            "http://corp.example.com/",
        ] {
            assert!(covers(&upstream, proxied), "{proxied}");
        }
        let (nothing, _) = self::upstream("http://p.example.org", &[("no_proxy", "*")]);
        assert!(!covers(&nothing, "http://m.example.org/"));
    }

    #[test]
    fn a_proxy_that_is_this_daemon_is_known() {
        let listen: Vec<SocketAddr> =
            ["127.0.0.1:9977", "[::]:9988", "10.0.0.5:9999"].map(|at| at.parse().unwrap()).into();
        for ours in [
            "http://127.0.0.1:9977",
            "http://localhost:9977/",
            "http://127.0.0.1:9988",
            "http://[::1]:9988",
            "http://localhost:9988",
            "http://10.0.0.5:9999",
            "http://[::ffff:10.0.0.5]:9999",
        ] {
            assert!(Proxy::parse(ours).unwrap().is_at(&listen), "{ours}");
        }
        for other in
            ["http://127.0.0.1:3128", "http://127.0.0.2:9977", "http://10.0.0.6:9999", "http://p.example.org:9977"]
        {
            assert!(!Proxy::parse(other).unwrap().is_at(&listen), "{other}");
        }
        let (upstream, _) = upstream("http://localhost:9977", &[]);
        let (left, ours) = upstream.without(&listen);
        assert!(ours.len() == 2 && left.http().is_none() && left.https().is_none());
    }

    #[test]
    fn what_is_no_proxy_is_refused() {
        for bad in [
            "often",
            "",
            "https://p.example.org",
            "socks5://p.example.org",
            "http://",
            "http://p.example.org/x",
            "http://p:0",
        ] {
            assert!(Choice::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
