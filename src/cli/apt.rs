//! apt's own settings, as far as they say which way a request goes (apt.conf(5), apt-transport-http(1)).
//!
//! ```text
//!  Acquire::http::Proxy::mirror.example.org "DIRECT";       for one host, before all else
//!  Acquire::http::Proxy-Auto-Detect "/path/of/a/program";   asked once for each host, for http alone
//!  Acquire::http::Proxy "http://127.0.0.1:9977";            for all, and for https where Acquire::https says nothing
//! ```
//!
//! Variables of the environment are left out: they are those of whoever runs apt, at another time.
#![expect(clippy::disallowed_methods, reason = "the command line's door to apt's programs, which may hang")]

use std::{
    io::{self, Read},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::archive::{Location, Proxies};

/// How long a program that apt would wait for may take here.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked at meanwhile.
const EVERY: Duration = Duration::from_millis(10);
/// Most that is read of what a program prints, in bytes; a long configuration has some 100 kB.
const MAX_OUTPUT: u64 = 4 << 20;

/// Names, in lower case, and values, in apt's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings(Vec<(String, String)>);

/// Where apt sends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To the daemon.
    Daemon,
    /// To another proxy, shown without a password.
    Proxy(String),
    /// To the origin.
    Direct,
    /// Nowhere: the program that it asks fails, and then apt does.
    Fails {
        /// The program.
        program: String,
        /// How.
        why: String,
    },
}

/// Which setting says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The address itself leads to the daemon.
    Address,
    /// The host's own setting.
    Host,
    /// The program of `Proxy-Auto-Detect`.
    AutoDetect,
    /// The setting for all hosts.
    General,
    /// None.
    Nothing,
}

impl Settings {
    /// Asks `apt-config dump`.
    pub fn load() -> io::Result<Self> {
        let mut command = Command::new("apt-config");
        let told = printed(command.arg("dump"))?;
        Ok(Self::parse(&told))
    }

    /// Reads lines like `Name::Of::It "value";`.
    pub fn parse(dump: &str) -> Self {
        let setting = |line: &str| {
            let (name, value) = line.split_once(" \"")?;
            Some((name.to_ascii_lowercase(), value.strip_suffix("\";")?.to_owned()))
        };
        Self(dump.lines().filter_map(setting).collect())
    }

    /// The value of a name in lower case; an empty one counts as none.
    pub fn value(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The program that is asked for a proxy.
    pub fn auto_detect(&self) -> Option<&str> {
        self.value("acquire::http::proxy-auto-detect").or_else(|| self.value("acquire::http::proxyautodetect"))
    }

    /// Whether apt has settings for this one host, such as certificates, or a proxy.
    pub fn has_own_for(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        self.0.iter().filter(|(_, value)| !value.is_empty()).any(|(name, _)| {
            let mut parts = name.split("::");
            parts.next() == Some("acquire")
                && matches!(parts.next(), Some("http" | "https"))
                && parts.any(|part| part == host)
        })
    }

    /// Which way apt asks for what lies at an address. `detect` is given the program and the address, and says what the
    /// program printed, if anything.
    pub fn route(
        &self,
        at: &Location,
        proxies: &Proxies,
        detect: &mut dyn FnMut(&str, &Location) -> io::Result<Option<String>>,
    ) -> (Route, By) {
        let schemes: &[&str] = if at.is_https() { &["https", "http"] } else { &["http"] };
        let first = |name: &str| schemes.iter().find_map(|scheme| self.value(&format!("acquire::{scheme}::{name}")));
        if let Some(own) = first(&format!("proxy::{}", at.host())) {
            return (route_by(own, proxies), By::Host);
        }
        if let (false, Some(program)) = (at.is_https(), self.auto_detect()) {
            match detect(program, at) {
                Ok(Some(told)) => return (route_by(&told, proxies), By::AutoDetect),
                Ok(None) => {}
                Err(error) => {
                    let (program, why) = (program.to_owned(), error.to_string());
                    return (Route::Fails { program, why }, By::AutoDetect);
                }
            }
        }
        match first("proxy") {
            Some(general) => (route_by(general, proxies), By::General),
            None => (Route::Direct, By::Nothing),
        }
    }
}

fn route_by(proxy: &str, proxies: &Proxies) -> Route {
    match Location::parse(proxy) {
        _ if proxy.eq_ignore_ascii_case("direct") => Route::Direct,
        Ok(at) if proxies.has(&at) => Route::Daemon,
        _ => Route::Proxy(without_password(proxy)),
    }
}

/// A URL as it may be shown: without user and password.
pub fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    match rest.rsplit_once('@') {
        Some((_, rest)) if scheme.is_empty() => rest.to_owned(),
        Some((_, rest)) => format!("{scheme}://{rest}"),
        None => url.to_owned(),
    }
}

/// Asks a program for the proxy of an address, as apt does: the first line that it prints.
pub fn detect(program: &str, at: &Location) -> io::Result<Option<String>> {
    let told = printed(Command::new(program).arg(at.url()))?;
    let line = told.lines().next().unwrap_or_default().trim();
    Ok((!line.is_empty()).then(|| line.to_owned()))
}

/// What a program prints that ends in time, and well.
fn printed(command: &mut Command) -> io::Result<String> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let out = child.stdout.take().expect("it was piped");
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        out.take(MAX_OUTPUT).read_to_end(&mut bytes).map(|_| bytes)
    });
    let ended = wait(&mut child);
    if ended.is_err() {
        let _gone = child.kill();
        let _reaped = child.wait();
        // What the program started may hold the pipe for as long as it likes.
        return ended.map(|()| String::new());
    }
    let bytes = reader.join().map_err(|_| io::Error::other("its output could not be read"))??;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn wait(child: &mut Child) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(io::Error::other(format!("it ends with {status}"))),
            None if Instant::now() < deadline => thread::sleep(EVERY),
            None => return Err(io::Error::other(format!("it takes longer than {} s", PATIENCE.as_secs()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "http://127.0.0.1:9977";

    fn routed(dump: &str, url: &str, told: io::Result<Option<String>>) -> (Route, By) {
        let proxies = Proxies { listen: vec!["127.0.0.1:9977".parse().unwrap()], ..Proxies::default() };
        let mut told = Some(told);
        let mut detect = |_: &str, _: &Location| told.take().expect("asked once");
        Settings::parse(dump).route(&Location::parse(url).unwrap(), &proxies, &mut detect)
    }

    fn nothing() -> io::Result<Option<String>> {
        Ok(None)
    }

    #[test]
    fn a_hosts_own_setting_goes_before_the_program_and_that_before_the_general_one() {
        let general = format!("Acquire::http::Proxy \"{OURS}/\";\n");
        let program = "Acquire::http::Proxy-Auto-Detect \"/p\";\n";
        let own = "Acquire::http::Proxy::m.example.org \"DIRECT\";\n";
        let url = "http://m.example.org/debian";
        assert_eq!(routed("", url, nothing()), (Route::Direct, By::Nothing));
        assert_eq!(routed(&general, url, nothing()), (Route::Daemon, By::General));
        let both = format!("{general}{program}");
        assert_eq!(routed(&both, url, Ok(Some("DIRECT".into()))), (Route::Direct, By::AutoDetect));
        assert_eq!(routed(&both, url, Ok(Some(OURS.into()))), (Route::Daemon, By::AutoDetect));
        assert_eq!(routed(&both, url, nothing()), (Route::Daemon, By::General));
        assert_eq!(routed(&format!("{both}{own}"), url, nothing()), (Route::Direct, By::Host));
        let other = Ok(Some("http://proxy.example.org:3128".into()));
        let (route, _) = routed(program, url, other);
        assert_eq!(route, Route::Proxy("http://proxy.example.org:3128".into()));
    }

    #[test]
    fn no_password_is_shown() {
        for (url, shown) in [
            ("socks5h://u:p@proxy.example.org:9050", "socks5h://proxy.example.org:9050"),
            ("http://u:p@ss@proxy.example.org/", "http://proxy.example.org/"),
            ("u:p@proxy.example.org", "proxy.example.org"),
            ("http://proxy.example.org", "http://proxy.example.org"),
        ] {
            let dump = format!("Acquire::http::Proxy \"{url}\";\n");
            let (route, _) = routed(&dump, "http://m.example.org/", nothing());
            assert_eq!(route, Route::Proxy(shown.to_owned()));
        }
    }

    #[test]
    fn https_hears_of_its_own_and_of_the_general_proxy_but_asks_no_program() {
        let url = "https://m.example.org/debian";
        let program = "Acquire::http::Proxy-Auto-Detect \"/p\";\n";
        assert_eq!(routed(program, url, Err(io::ErrorKind::NotFound.into())), (Route::Direct, By::Nothing));
        let general = format!("Acquire::http::Proxy \"{OURS}\";\n");
        assert_eq!(routed(&general, url, nothing()), (Route::Daemon, By::General));
        let direct = format!("{general}Acquire::https::Proxy \"DIRECT\";\n");
        assert_eq!(routed(&direct, url, nothing()), (Route::Direct, By::General));
    }

    #[test]
    fn a_program_that_fails_is_named() {
        let program = "acquire::http::proxy-auto-detect \"/gone\";\n";
        let (route, by) = routed(program, "http://m.example.org/", Err(io::ErrorKind::NotFound.into()));
        assert!(matches!(route, Route::Fails { program, .. } if program == "/gone"));
        assert_eq!(by, By::AutoDetect);
    }

    #[test]
    fn the_last_value_of_a_name_holds_and_an_empty_one_is_none() {
        let settings = Settings::parse("A::b \"1\";\nA::B \"2\";\nlist:: \"x\";\nbroken\nc \"\";\n");
        assert_eq!((settings.value("a::b"), settings.value("c"), settings.value("d")), (Some("2"), None, None));
    }

    #[test]
    fn settings_for_one_host_are_noticed() {
        let dump = "Acquire::https::M.example.org::CaInfo \"/ca\";\nAcquire::http::Proxy::p.example.org \"DIRECT\";\n\
                    Acquire::http::Proxy \"http://x.example.org\";\nAPT::q.example.org \"1\";\n";
        let settings = Settings::parse(dump);
        let own = ["m.example.org", "p.example.org", "x.example.org", "q.example.org"];
        assert_eq!(own.map(|host| settings.has_own_for(host)), [true, true, false, false]);
    }

    #[test]
    fn a_program_is_asked_as_apt_asks_it() {
        let at = Location::parse("http://m.example.org/debian").unwrap();
        assert_eq!(detect("/bin/echo", &at).unwrap().as_deref(), Some("http://m.example.org/debian"));
        assert_eq!(detect("/bin/true", &at).unwrap(), None);
        assert!(detect("/bin/false", &at).is_err());
        assert_eq!(detect("/no/such/program", &at).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
