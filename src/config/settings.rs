//! What holds, key by key, and where it was said.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use toml::Spanned;

use super::{Config, ConfigError, ENV_PREFIX, Store, keys::KEYS, read, texts, value_of};

/// What stands in the place of a secret, and of a proxy's address with a password.
const HIDDEN: &str = "\"...\"";

/// A key and what it is set to.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The section that it stands in.
    pub section: &'static str,
    /// Its name there.
    pub key: &'static str,
    /// Its value, in TOML as it would be written; a secret is not told.
    pub value: String,
    /// Where that was said.
    pub origin: Origin,
}

/// Where a value was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere.
    Default,
    /// In a file, in this line, counted from 1.
    File(PathBuf, usize),
    /// In a variable of this name.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(file, line) => write!(f, "{}:{line}", file.display()),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// The values of a file by section and key.
type Table = BTreeMap<String, BTreeMap<String, Spanned<toml::Value>>>;

impl Setting {
    /// Every key, in the order of the documentation. The errors are those of [`Config::load`].
    pub fn all(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Vec<Self>, ConfigError> {
        let variables: Vec<_> = variables.into_iter().collect();
        Config::load(file, variables.clone())?;
        let variables: BTreeMap<_, _> = texts(variables)?.into_iter().collect();
        let text = file.map(read).transpose()?.unwrap_or_default();
        // It was read before; a file that changes meanwhile is as if it were empty.
        let table: Table = toml::from_str(&text).unwrap_or_default();
        let setting = |key: &'static super::Key| {
            let variable = format!("{ENV_PREFIX}{}_{}", key.section, key.name).to_ascii_uppercase();
            let written = table.get(key.section).and_then(|section| section.get(key.name));
            let (value, origin) = match (variables.get(&variable), written, file) {
                (Some(value), ..) => (value_of(value, key.is_list).to_string(), Origin::Variable(variable)),
                (None, Some(value), Some(file)) => {
                    let line = text.get(..value.span().start).map_or(0, |before| before.matches('\n').count()) + 1;
                    (value.get_ref().to_string(), Origin::File(file.to_owned(), line))
                }
                _ if (key.section, key.name) == ("store", "path") => {
                    let path = Store::default().path.display().to_string();
                    (toml::Value::from(path).to_string(), Origin::Default)
                }
                _ => (key.default.to_owned(), Origin::Default),
            };
            let is_told = match (key.section, key.name) {
                _ if origin == Origin::Default => true,
                ("dht", "secret") => false,
                ("mirror", "proxy") => !value.contains('@'),
                _ => true,
            };
            let value = if is_told { value } else { HIDDEN.to_owned() };
            Self { section: key.section, key: key.name, value, origin }
        };
        Ok(KEYS.iter().map(setting).collect())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests write the files that are read")]
mod tests {
    use std::fs;

    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn each_value_is_told_with_its_place_and_a_secret_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.toml");
        let text =
            "[store]\n# more\nquota = \"5GB\"\n\n[dht]\nsecret = \"s\"\nmainline = [\n  \"a.example.org:1\",\n]\n";
        fs::write(&file, text).unwrap();
        let set = variables(&[("APT_HUDDLE_PROXY_ORIGINS", "a.example.org,b.example.org"), ("APT_HUDDLE_LOG", "info")]);
        let settings = Setting::all(Some(&file), set).unwrap();
        let told = |section: &str, key: &str| {
            let found = settings.iter().find(|setting| (setting.section, setting.key) == (section, key)).unwrap();
            (found.value.clone(), found.origin.to_string().replace(&file.display().to_string(), "FILE"))
        };
        for ((section, key), (value, origin)) in [
            (("store", "quota"), ("\"5GB\"", "FILE:3")),
            (("store", "min_free"), ("\"1GB\"", "default")),
            (("dht", "secret"), ("\"...\"", "FILE:6")),
            (("dht", "mainline"), ("[\"a.example.org:1\"]", "FILE:7")),
            (("proxy", "origins"), ("[\"a.example.org\", \"b.example.org\"]", "APT_HUDDLE_PROXY_ORIGINS")),
        ] {
            assert_eq!(told(section, key), (value.to_owned(), origin.to_owned()), "{section} {key}");
        }
        assert_eq!(settings.len(), KEYS.len());
        let proxy =
            Setting::all(None, variables(&[("APT_HUDDLE_MIRROR_PROXY", "http://u:p@proxy.example.org")])).unwrap();
        assert!(proxy.iter().all(|setting| !setting.value.contains("u:p")));
        assert!(Setting::all(Some(&file), variables(&[("APT_HUDDLE_STORE_QUOTA", "lots")])).is_err());
    }

    #[test]
    fn what_is_said_to_be_the_default_is_what_holds_without_a_file() {
        for key in KEYS.iter().filter(|key| (key.section, key.name) != ("store", "path")) {
            let text = format!("[{}]\n{} = {}\n", key.section, key.name, key.default);
            let written: Config = toml::from_str(&text).unwrap_or_else(|error| panic!("{text}{error}"));
            assert_eq!(format!("{written:?}"), format!("{:?}", Config::default()), "{text}");
        }
    }

    #[test]
    fn no_key_is_forgotten_in_the_list() {
        // A configuration with nothing but unknown keys names those that it knows.
        let sections: Vec<_> = KEYS.iter().map(|key| key.section).collect();
        let known = |text: &str| {
            let error = toml::from_str::<Config>(text).unwrap_err().message().to_owned();
            let names: Vec<String> = error.split('`').skip(3).step_by(2).map(str::to_owned).collect();
            names
        };
        for section in known("no_such_section = 1\n") {
            assert!(sections.contains(&section.as_str()), "[{section}]");
            for name in known(&format!("[{section}]\nno_such_key = 1\n")) {
                assert!(super::super::Key::find(&section, &name).is_some(), "[{section}] {name}");
            }
        }
    }
}
