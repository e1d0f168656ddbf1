//! Which origins may be asked at all: nobody may use the daemon to reach what only this host can reach.
//!
//! | address of the origin | client on this host | client elsewhere |
//! |---|---|---|
//! | named by apt's sources or `[proxy] origins` | yes | yes |
//! | global | yes | yes |
//! | private | yes | no |
//! | loopback, link-local, metadata, nobody's | no | no |
//!
//! **Security.** Every address that a name resolves to is judged when it is dialled, and every hop of a redirect anew,
//! so neither a changing DNS answer nor a mirror's redirect leads elsewhere.
//!
//! **Through a proxy** it is the proxy that resolves and dials. A literal address is judged as above. Of a name that is not
//! named, every address that it has *here* must be one that may be dialled, and a name that has none here is refused. What
//! such a name means to the proxy cannot be known: a name that the proxy resolves otherwise leads where the proxy can reach
//! and lets its clients go, but never to this host's own loopback unless the proxy runs here and allows that.

use std::net::IpAddr;

use crate::archive::{Location, Scope};

/// Who asks, and with it how far an origin may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// An origin that the administrator named: any address.
    Named,
    /// Any other origin, for a client on this host.
    Local,
    /// Any other origin, for a client elsewhere.
    Remote,
}

/// An origin that must not be asked for this client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} {what}: add {host:?} to origins in section [proxy] if that is meant")]
pub struct Forbidden {
    host: String,
    what: String,
}

impl Forbidden {
    /// A host that is to be asked for through a proxy, and that has no address here by which to judge it.
    pub fn unknown(host: &str) -> Self {
        Self {
            host: host.to_owned(),
            what: "does not resolve here, so nobody knows where the proxy would go".to_owned(),
        }
    }
}

impl Reach {
    /// Whether an address may be dialled.
    pub fn allows(self, ip: IpAddr) -> bool {
        match (self, Scope::of(ip)) {
            (Self::Named, _) | (_, Scope::Global) | (Self::Local, Scope::Private) => true,
            (Self::Remote, Scope::Private) | (_, Scope::Loopback | Scope::LinkLocal | Scope::Unusable) => false,
        }
    }

    /// Judges an address to which a host led.
    pub fn check(self, host: &str, ip: IpAddr) -> Result<(), Forbidden> {
        if self.allows(ip) {
            return Ok(());
        }
        let scope = match Scope::of(ip) {
            Scope::Global => "global",
            Scope::Private => "private",
            Scope::Loopback => "loopback",
            Scope::LinkLocal => "link-local",
            Scope::Unusable => "reserved",
        };
        Err(Forbidden { host: host.to_owned(), what: format!("leads to {ip}, a {scope} address") })
    }
}

/// The origins that the administrator named in `[proxy] origins`: `host` or `host:port`.
#[derive(Debug, Clone, Default)]
pub struct Origins(pub Vec<String>);

impl Origins {
    /// Whether a location is at one of them.
    pub fn name(&self, location: &Location) -> bool {
        location.is_named_in(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_reaches_what_the_table_says() {
        let reaches = |reach: Reach, ip: &str| reach.allows(ip.parse().expect("an address"));
        for ip in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "0.0.0.0", "fe80::1", "100.100.100.200"] {
            assert!(reaches(Reach::Named, ip), "{ip}");
            assert!(!reaches(Reach::Local, ip), "{ip}");
            assert!(!reaches(Reach::Remote, ip), "{ip}");
        }
        for ip in ["10.0.0.1", "192.168.1.1", "fd12::1"] {
            assert!(reaches(Reach::Local, ip) && !reaches(Reach::Remote, ip), "{ip}");
        }
        assert!(reaches(Reach::Remote, "151.101.2.132") && reaches(Reach::Local, "2a04:4e42::644"));
    }

    #[test]
    fn a_refusal_says_which_key_to_set() {
        let refusal = Reach::Local.check("evil.example.org", "127.0.0.1".parse().expect("an address")).unwrap_err();
        let text = refusal.to_string();
        assert!(text.contains("origins") && text.contains("[proxy]") && text.contains("evil.example.org"), "{text}");
    }

    #[test]
    fn an_origin_is_named_with_its_port() {
        let origins = Origins(vec!["mirror.example.org".into(), "127.5.0.1:8080".into()]);
        let names = |url: &str| origins.name(&Location::parse(url).expect("a URL"));
        assert!(names("http://Mirror.Example.org/debian/x") && names("http://127.5.0.1:8080/x"));
        assert!(names("http://mirror.example.org:81/x"), "without a port every port is meant");
        assert!(!names("http://127.5.0.1/x") && !names("http://127.5.0.1:81/x"));
    }
}
