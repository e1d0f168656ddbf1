//! What is written, and what it means.
//!
//! A TOML file, every key optional, with one variable `APT_HUDDLE_<SECTION>_<KEY>` for each key that goes before it.
//! Nothing is started on a key or value that is not understood: the error names the place and what was expected there.
#![expect(clippy::disallowed_methods, reason = "the door to the configuration file")]

mod keys;
mod settings;

use std::{
    env,
    ffi::OsString,
    fmt, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use serde::Deserialize;

use crate::{
    archive::{self, Keyring, Location},
    dht, fetch, mirror,
};

pub use keys::KEYS;
use keys::Key;
pub use settings::{Origin, Setting};

/// Prefix of the variables that stand for keys.
const ENV_PREFIX: &str = "APT_HUDDLE_";

/// The whole configuration; every default is the one that `etc/apt-huddle.toml` documents.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// apt's side.
    pub proxy: Proxy,
    /// The peers' side.
    pub peer: Peer,
    /// How files are brought.
    pub fetch: fetch::Config,
    /// How mirrors are reached.
    pub mirror: mirror::upstream::Config,
    /// What is never shared.
    pub privacy: Privacy,
    /// How peers are found.
    pub dht: dht::Config,
    /// What is kept.
    pub store: Store,
    /// What is trusted.
    pub archive: Archive,
}

/// Section `[proxy]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Proxy {
    /// Where apt is served. Other addresses than loopback need `allow`.
    pub listen: Vec<SocketAddr>,
    /// Networks of further clients.
    pub allow: Vec<IpNet>,
    /// Origins, `host` or `host:port`, that may be asked although their address is not public and apt's sources do not name them.
    pub origins: Vec<Host>,
    /// Whether a door that is open to the LAN is advertised there.
    pub advertise: bool,
}

impl Default for Proxy {
    fn default() -> Self {
        let listen = vec![SocketAddr::from(([127, 0, 0, 1], 9977))];
        Self { listen, allow: Vec::new(), origins: Vec::new(), advertise: true }
    }
}

/// Section `[peer]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Peer {
    /// Where peers are served, TCP, and the DHT is spoken, UDP.
    pub listen: Vec<SocketAddr>,
    /// Bytes a second given to all peers together.
    pub upload_limit: Rate,
    /// What is given and asked for.
    pub share: Share,
}

impl Default for Peer {
    fn default() -> Self {
        Self { listen: vec![SocketAddr::from(([0u16; 8], 9978))], upload_limit: Rate(Some(500_000)), share: Share::All }
    }
}

/// `[peer] share`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    /// Asks peers and gives to them.
    #[default]
    All,
    /// Asks peers, gives and announces nothing.
    Take,
    /// No socket for peers, no lookup.
    Off,
}

/// Section `[privacy]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Privacy {
    /// Origins that are never shared.
    pub hosts: Vec<Host>,
    /// Origins on loopback or in private ranges that may be shared all the same.
    pub public: Vec<Host>,
}

impl From<Privacy> for archive::Privacy {
    fn from(Privacy { hosts, public }: Privacy) -> Self {
        Self { hosts: names(hosts), public: names(public) }
    }
}

/// The hosts as they were written.
pub fn names(hosts: impl IntoIterator<Item = Host>) -> Vec<String> {
    hosts.into_iter().map(|host| host.0).collect()
}

/// An origin, `host` or `host:port`: no scheme, no path.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Host(String);

impl TryFrom<String> for Host {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let location = Location::parse(&format!("http://{text}/"));
        let is_host = location.is_ok_and(|location| {
            location.path() == "/" && location.query().is_none() && location.credentials().is_none()
        });
        if is_host && !text.contains('/') { Ok(Self(text)) } else { Err(format!("{text:?} is no host")) }
    }
}

/// Section `[store]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// The store's directory.
    pub path: PathBuf,
    /// Bytes that it may take.
    pub quota: Size,
    /// Bytes of the disk that stay free.
    pub min_free: Size,
}

impl Default for Store {
    fn default() -> Self {
        Self { path: data_home().join("apt-huddle"), quota: Size(20_000_000_000), min_free: Size(1_000_000_000) }
    }
}

/// The user's data directory (XDG Base Directory Specification).
fn data_home() -> PathBuf {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .unwrap_or_else(|| PathBuf::from("/var/lib"))
}

/// Section `[archive]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Archive {
    /// apt's configuration: its sources and keyrings.
    pub apt_dir: PathBuf,
    /// Where apt keeps the indexes that it fetched; need not be there.
    pub lists: PathBuf,
    /// Further keyrings, trusted for every source that names none of its own.
    pub keyrings: Vec<PathBuf>,
}

impl Default for Archive {
    fn default() -> Self {
        Self { apt_dir: PathBuf::from("/etc/apt"), lists: PathBuf::from("/var/lib/apt/lists"), keyrings: Vec::new() }
    }
}

/// A number of bytes, written like `20GB`, `512MiB` or `1000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Size(pub u64);

/// Bytes a second, written like `500kB/s`; `unlimited` is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Rate(pub Option<u64>);

#[derive(Deserialize)]
#[serde(untagged, expecting = "a text like \"20GB\" or a number of bytes")]
enum Written {
    Number(u64),
    Text(String),
}

impl TryFrom<Written> for Size {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => parse_bytes(&text).map(Self).ok_or_else(|| format!("{text:?} is no size")),
        }
    }
}

impl TryFrom<Written> for Rate {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let text = match written {
            Written::Number(0) => return Err("0 is no rate".to_owned()),
            Written::Number(bytes) => return Ok(Self(Some(bytes))),
            Written::Text(text) => text,
        };
        let bytes = text.trim().strip_suffix("/s").and_then(parse_bytes);
        match (text.trim(), bytes) {
            ("unlimited", _) => Ok(Self(None)),
            (_, Some(bytes)) if bytes > 0 => Ok(Self(Some(bytes))),
            _ => Err(format!("{text:?} is no rate")),
        }
    }
}

/// Reads a count of bytes with a unit of powers of 1000 (kB, MB, GB, TB) or of 1024 (KiB, MiB, GiB, TiB).
fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (text[..split].parse::<f64>().ok()?, text[split..].trim());
    let factor: f64 = match unit {
        "" | "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        "KiB" => 1024.0,
        "MiB" => 1024f64.powi(2),
        "GiB" => 1024f64.powi(3),
        "TiB" => 1024f64.powi(4),
        _ => return None,
    };
    let bytes = number * factor;
    (bytes < 1e18).then_some(bytes as u64)
}

/// A configuration that cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, with its line, or the variable.
    place: String,
    /// What is wrong and what was expected.
    problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads the file, if one is given, and the variables.
    pub fn load(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let (text, name) = match file {
            Some(path) => (read(path)?, path.display().to_string()),
            None => (String::new(), "built-in defaults".to_owned()),
        };
        let variables = texts(variables)?;
        let from_variables: Vec<_> = variables.iter().filter_map(|(variable, _)| key_of(variable)).collect();
        let config = Self::read(&text, &name, variables)?;
        config.check().map_err(|Objection { section, key, problem }| {
            let set = from_variables.iter().any(|(set_section, set_key)| set_section == section && set_key == key);
            let variable = format!("{ENV_PREFIX}{}_{}", section.to_ascii_uppercase(), key.to_ascii_uppercase());
            let place = if set { variable } else { name };
            ConfigError { place, problem: format!("{key} in section [{section}] {problem}") }
        })?;
        Ok(config)
    }

    fn read(
        text: &str,
        name: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let problem = |error: toml::de::Error| describe(&error, text, name);
        let _strict: Self = toml::from_str(text).map_err(problem)?;
        let mut table: toml::Table = toml::from_str(text).map_err(problem)?;
        for (variable, value) in variables {
            let Some((section, name)) = key_of(&variable) else { continue };
            let key = Key::find(&section, &name);
            let value = value_of(&value, key.is_some_and(|key| key.is_list));
            let alone = toml::Table::from_iter([(name.clone(), value.clone())]);
            let alone = toml::Table::from_iter([(section.clone(), alone.into())]);
            alone.try_into::<Self>().map_err(|error| {
                let expected = key.map_or(String::new(), |key| format!(": expected {}", key.expected));
                ConfigError { place: variable, problem: in_one_line(error.message()) + &expected }
            })?;
            let entry = table.entry(section).or_insert_with(|| toml::Table::new().into());
            if let Some(section) = entry.as_table_mut() {
                section.insert(name, value);
            }
        }
        table.try_into().map_err(|error: toml::de::Error| ConfigError {
            place: name.to_owned(),
            problem: in_one_line(error.message()),
        })
    }

    /// What the form of a value does not tell.
    fn check(&self) -> Result<(), Objection> {
        let no = |section, key, problem: String| Err(Objection { section, key, problem });
        if self.proxy.listen.is_empty() {
            return no("proxy", "listen", "is empty: expected an address like \"127.0.0.1:9977\"".into());
        }
        if let Some(open) = self.proxy.listen.iter().find(|address| !address.ip().to_canonical().is_loopback())
            && self.proxy.allow.is_empty()
        {
            let problem = format!(
                "has {open}, which others can reach: expected their networks in CIDR form in allow, like allow = \
                 [\"192.168.1.0/24\"]"
            );
            return no("proxy", "listen", problem);
        }
        if let mirror::upstream::Choice::Through(proxy) = &self.mirror.proxy
            && proxy.is_at(&self.proxy.listen)
        {
            let problem = format!("is {proxy}, which is this daemon itself: expected another proxy, or \"none\"");
            return no("mirror", "proxy", problem);
        }
        if self.peer.listen.is_empty() && self.peer.share != Share::Off {
            return no("peer", "listen", "is empty: expected an address, or share = \"off\"".into());
        }
        match self.dht.check() {
            Err(bad @ dht::BadConfig::Entry(_)) => return no("dht", "bootstrap", format!("is wrong: {bad}")),
            Err(bad @ dht::BadConfig::Mainline(_)) => return no("dht", "mainline", format!("is wrong: {bad}")),
            Err(bad) => return no("dht", "network", format!("is wrong: {bad}")),
            Ok(()) => {}
        }
        if self.store.path.as_os_str().is_empty() {
            return no("store", "path", "is empty: expected a directory".into());
        }
        for path in &self.archive.keyrings {
            let bytes = fs::read(path).map_err(|error| error.to_string());
            let name = path.display().to_string();
            let keyring = bytes.and_then(|bytes| Keyring::parse(&bytes, &name).map_err(|bad| bad.reason));
            if let Err(error) = keyring {
                return no("archive", "keyrings", format!("has {name}, which is no keyring: {error}"));
            }
        }
        if !self.archive.apt_dir.is_dir() && self.archive.apt_dir != Archive::default().apt_dir {
            let missing = self.archive.apt_dir.display();
            return no(
                "archive",
                "apt_dir",
                format!("is {missing}, which is no directory: expected apt's configuration"),
            );
        }
        Ok(())
    }
}

/// A value that is well-formed and cannot be meant.
#[derive(Debug)]
struct Objection {
    section: &'static str,
    key: &'static str,
    problem: String,
}

fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|error| {
        let problem = match error.kind() {
            io::ErrorKind::NotFound => "no such file: expected a configuration file".to_owned(),
            io::ErrorKind::InvalidData => "not a text file: expected TOML in UTF-8".to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        ConfigError { place: path.display().to_string(), problem }
    })
}

/// The variables that are meant for the configuration, which have to be texts.
fn texts(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Vec<(String, String)>, ConfigError> {
    let named = variables.into_iter().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let text = |(name, value): (String, OsString)| match value.into_string() {
        Ok(value) => Ok((name, value)),
        Err(_) => Err(ConfigError { place: name, problem: "not a text: expected UTF-8".to_owned() }),
    };
    named.filter(|(name, _)| name.starts_with(ENV_PREFIX)).map(text).collect()
}

/// `APT_HUDDLE_STORE_MIN_FREE` is `min_free` in `[store]`; variables without a key are something else's.
fn key_of(variable: &str) -> Option<(String, String)> {
    let (section, key) = variable.strip_prefix(ENV_PREFIX)?.split_once('_')?;
    Some((section.to_ascii_lowercase(), key.to_ascii_lowercase()))
}

/// A variable holds a TOML value, or a bare text; a list may be written with commas alone.
fn value_of(text: &str, is_list: bool) -> toml::Value {
    let parsed = toml::from_str::<toml::Table>(&format!("value = {text}"));
    match parsed.ok().and_then(|mut table| table.remove("value")) {
        Some(value) if !is_list || value.is_array() => value,
        _ if is_list => {
            let items = text.split(',').map(|item| item.trim().trim_matches('"')).filter(|item| !item.is_empty());
            toml::Value::Array(items.map(Into::into).collect())
        }
        _ => text.into(),
    }
}

/// Where in the file an error is, which key it is about, and what was expected there.
fn describe(error: &toml::de::Error, text: &str, name: &str) -> ConfigError {
    let message = in_one_line(error.message());
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return ConfigError { place: name.to_owned(), problem: message };
    };
    let line = before.matches('\n').count();
    let lines: Vec<_> = text.lines().take(line + 1).collect();
    let section = lines.iter().rev().find_map(|line| line.trim().strip_prefix('[')?.split_once(']'));
    let key = lines.iter().rev().find_map(|line| Some(line.split_once('=')?.0.trim()));
    let known = section.zip(key).and_then(|((section, _), key)| Key::find(section, key));
    let problem = match known {
        Some(Key { name, expected, .. }) => format!("{name}: {message}: expected {expected}"),
        None => message,
    };
    ConfigError { place: format!("{name}:{}", line + 1), problem }
}

fn in_one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
