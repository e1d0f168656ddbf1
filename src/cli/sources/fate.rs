//! What becomes of a URI in apt's sources when they are rewritten, and of a rewritten one when they are restored.
//!
//! ```text
//!  http://m.example.org/debian       <->  http://127.0.0.1:9977/m.example.org/debian
//!  https://m.example.org/debian      <->  http://127.0.0.1:9977/HTTPS///m.example.org/debian
//! ```
//!
//! Left alone is whatever would not work any more: apt finds passwords, certificates and pins by the host of a URI, and
//! that is then this one.

use std::{fmt, net::SocketAddr};

use crate::archive::{Location, Proxies};

/// What is known of the machine besides its sources.
#[derive(Debug, Default)]
pub struct Ground {
    /// Where the daemon is reached.
    pub proxies: Proxies,
    /// The hosts that apt has passwords for; `None` when that is not to be known.
    pub passwords: Option<Vec<String>>,
    /// What `Pin: origin` names in apt's preferences.
    pub pinned: Vec<Pinned>,
    /// The hosts that apt has settings of their own for.
    pub own_settings: Vec<String>,
}

/// A host as `Pin: origin` names it (apt_preferences(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pinned {
    /// This one.
    Host(String),
    /// Those that a pattern is for, which is not looked into.
    Pattern,
}

/// What is to be done with a URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It leads through the daemon already, to this origin.
    Here(Location),
    /// It leads to this origin, and can be led through the daemon.
    Free(Location),
    /// It is left alone.
    Left(Left),
}

/// Why a URI is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// It is fetched by other means than http or https.
    Other,
    /// There is a password in it, or in apt's files.
    Password,
    /// apt's files of passwords cannot be read, and might name its host.
    PasswordsUnknown,
    /// apt's preferences name its host.
    Pinned,
    /// apt's configuration has settings for this host.
    OwnSettings,
    /// It is not understood.
    Unclear(String),
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Other => "not fetched over http or https",
            Self::Password => "needs a password, which apt would not send to apt-huddle",
            Self::PasswordsUnknown => "may need a password: apt's auth.conf cannot be read by this user",
            Self::Pinned => "apt's preferences pin this host by its name (Pin: origin)",
            Self::OwnSettings => "apt's configuration has settings for this host alone",
            Self::Unclear(why) => why,
        })
    }
}

impl Ground {
    /// What is to be done with a URI as it is written.
    pub fn fate(&self, uri: &str) -> Fate {
        let scheme = uri.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
        if !matches!(scheme.as_deref(), Some("http" | "https")) {
            return Fate::Left(Left::Other);
        }
        let written = match Location::parse(&uri.replace("$(ARCH)", "arch")) {
            Ok(location) => location,
            Err(error) => return Fate::Left(Left::Unclear(error.reason.to_owned())),
        };
        if self.proxies.has(&written) {
            return match self.proxies.origin_of(written) {
                Some(origin) => Fate::Here(origin),
                None => Fate::Left(Left::Unclear("it leads to apt-huddle and to no origin behind it".to_owned())),
            };
        }
        match self.objection(&written, uri) {
            Some(left) => Fate::Left(left),
            None => Fate::Free(written),
        }
    }

    fn objection(&self, at: &Location, uri: &str) -> Option<Left> {
        let is_it = |host: &String| host.eq_ignore_ascii_case(at.host());
        let is_pinned = |pinned: &Pinned| match pinned {
            Pinned::Host(host) => is_it(host),
            Pinned::Pattern => true,
        };
        // Quotes and escapes of the one-line style, which apt undoes, and others would not.
        let is_plain = uri.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'\''));
        match &self.passwords {
            _ if !is_plain => Some(Left::Unclear("it has characters that no address has".to_owned())),
            _ if at.query().is_some() => Some(Left::Unclear("it has a query".to_owned())),
            _ if at.credentials().is_some() => Some(Left::Password),
            None => Some(Left::PasswordsUnknown),
            Some(hosts) if hosts.iter().any(is_it) => Some(Left::Password),
            Some(_) if self.pinned.iter().any(is_pinned) => Some(Left::Pinned),
            Some(_) if self.own_settings.iter().any(is_it) => Some(Left::OwnSettings),
            Some(_) => None,
        }
    }
}

/// A URI led through a daemon: what `lead_back` gives back as it was.
pub fn lead_through(uri: &str, daemon: SocketAddr) -> Option<String> {
    let (scheme, rest) = uri.split_once("://")?;
    match scheme.to_ascii_lowercase().as_str() {
        "http" => Some(format!("http://{daemon}/{rest}")),
        "https" => Some(format!("http://{daemon}/HTTPS///{rest}")),
        _ => None,
    }
}

/// A URI that leads through the daemon, as it was before. `None` when it does not, or to nothing.
pub fn lead_back(uri: &str, proxies: &Proxies) -> Option<String> {
    let at = Location::parse(&uri.replace("$(ARCH)", "arch")).ok()?;
    if !proxies.has(&at) || proxies.origin_of(at).is_none() {
        return None;
    }
    let (_, rest) = uri.split_once("://")?;
    let (_, origin) = rest.split_once('/')?;
    let origin = origin.trim_start_matches('/');
    Some(match origin.strip_prefix("HTTPS/") {
        Some(origin) => format!("https://{}", origin.trim_start_matches('/')),
        None => format!("http://{origin}"),
    })
}

/// The hosts that a file of apt's preferences pins by their names.
pub fn pinned(preferences: &str) -> impl Iterator<Item = Pinned> {
    let pins = preferences.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        let origin = value.trim().strip_prefix("origin").filter(|_| name.eq_ignore_ascii_case("Pin"))?;
        Some(origin.trim().trim_matches('"'))
    });
    // An empty one is this host's own files.
    pins.filter(|host| !host.is_empty()).map(|host| match host.contains(['*', '?', '/', '[']) {
        true => Pinned::Pattern,
        false => Pinned::Host(host.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ground() -> Ground {
        let proxies = Proxies { listen: vec![daemon()], ..Proxies::default() };
        Ground { proxies, passwords: Some(Vec::new()), ..Ground::default() }
    }

    fn daemon() -> SocketAddr {
        "127.0.0.1:9977".parse().unwrap()
    }

    #[test]
    fn a_uri_is_led_through_and_back_as_it_was_written() {
        for (uri, through) in [
            ("http://m.example.org/debian", "http://127.0.0.1:9977/m.example.org/debian"),
            ("http://m.example.org:8080/a//b/", "http://127.0.0.1:9977/m.example.org:8080/a//b/"),
            ("https://M.example.org/$(ARCH)/x%2bz", "http://127.0.0.1:9977/HTTPS///M.example.org/$(ARCH)/x%2bz"),
            ("http://HTTPS///m.example.org/debian", "http://127.0.0.1:9977/HTTPS///m.example.org/debian"),
        ] {
            assert!(matches!(ground().fate(uri), Fate::Free(_)), "{uri}");
            assert_eq!(lead_through(uri, daemon()).as_deref(), Some(through));
            let Fate::Here(origin) = ground().fate(through) else { panic!("{through}") };
            assert_eq!(origin, Location::parse(&uri.replace("$(ARCH)", "arch")).unwrap());
            let back = if uri.contains("HTTPS") { "https://m.example.org/debian" } else { uri };
            assert_eq!(lead_back(through, &ground().proxies).as_deref(), Some(back));
        }
        for uri in ["http://m.example.org/", "http://127.0.0.1:9978/m.example.org/", "http://127.0.0.1:9977/"] {
            assert_eq!(lead_back(uri, &ground().proxies), None, "{uri}");
        }
        assert_eq!(lead_through("cdrom:[Debian]/", daemon()), None);
    }

    #[test]
    fn what_would_not_work_any_more_is_left_alone() {
        let left = |ground: &Ground, uri: &str| match ground.fate(uri) {
            Fate::Left(left) => Some(left),
            Fate::Here(_) | Fate::Free(_) => None,
        };
        let plain = ground();
        let uri = "https://m.example.org/debian";
        assert_eq!(left(&plain, uri), None);
        for other in ["cdrom:[Debian]/", "file:/srv", "mirror+file:/etc/apt/m", "tor+http://m.example.org/", "debian"] {
            assert_eq!(left(&plain, other), Some(Left::Other), "{other}");
        }
        assert_eq!(left(&plain, "http://user:pw@m.example.org/"), Some(Left::Password));
        for unclear in ["http://", "http://m.example.org/?a=b", "http://\"m.example.org\"/", "http://127.0.0.1:9977/"] {
            assert!(matches!(left(&plain, unclear), Some(Left::Unclear(_))), "{unclear}");
        }
        let named = || vec!["M.example.org".to_owned()];
        let of = |ground: Ground| left(&ground, uri);
        assert_eq!(of(Ground { passwords: Some(named()), ..ground() }), Some(Left::Password));
        assert_eq!(of(Ground { passwords: None, ..ground() }), Some(Left::PasswordsUnknown));
        assert_eq!(of(Ground { own_settings: named(), ..ground() }), Some(Left::OwnSettings));
        let pin = |pin: &str| Ground { pinned: pinned(&format!("Package: *\npin: {pin}\n")).collect(), ..ground() };
        assert_eq!(of(pin("origin \"m.example.org\"")), Some(Left::Pinned));
        assert_eq!(of(pin("origin *.example.org")), Some(Left::Pinned));
        for harmless in ["origin n.example.org", "origin \"\"", "release a=stable, o=Debian", "version 1:2"] {
            assert_eq!(of(pin(harmless)), None, "{harmless}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_led_through_comes_back(uri in r"https?://[a-z0-9.-]{1,20}(:[0-9]{1,5})?(/[ -~]{0,30})?") {
            let ground = ground();
            if let Fate::Free(origin) = ground.fate(&uri) && !uri.contains("HTTPS") {
                let through = lead_through(&uri, daemon()).unwrap();
                prop_assert_eq!(ground.fate(&through), Fate::Here(origin));
                prop_assert_eq!(lead_back(&through, &ground.proxies), Some(uri));
            }
        }
    }
}
