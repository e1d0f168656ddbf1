//! Questions: what a person may write, and what is sought for it.
//!
//! ```text
//!  64 hexadecimal digits                     a SHA-256
//!  http://host/path, /HTTPS///host/path      a URL in every form that the proxy takes
//!  pool/main/h/hello/hello_2.10-3_amd64.deb  a path in whichever repository; host/path, like a URL
//!  hello  hello:amd64  hello=1:2.10-3        a package, by the names of its files: name_version_architecture.deb
//!  hello_2.10-3_amd64.deb, Packages.xz       a file by its name
//! ```
//!
//! **Security.** What is asked comes from anybody who can reach the page. It is never a pattern: names are compared, not
//! matched. A password in a URL is not repeated in an answer.

use std::net::SocketAddr;

use percent_encoding::percent_decode_str;

use crate::{
    archive::{Location, path},
    hash::ContentHash,
};

use super::version::without_epoch;

/// Longest question, in bytes.
const MAX_QUESTION: usize = 4096;

/// Endings of the files of binary packages.
const ENDINGS: [&str; 3] = [".deb", ".udeb", ".ddeb"];

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// How it is repeated to people.
    pub text: String,
    /// What is sought.
    pub subject: Subject,
}

/// What a question is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A digest.
    Hash(ContentHash),
    /// A URL: where it may lead, the likeliest place first.
    Url(Vec<Location>),
    /// A path in some repository, as written and decoded, or a URL without its scheme.
    Path {
        /// Its spellings.
        paths: Vec<String>,
        /// As a URL.
        url: Option<Location>,
    },
    /// A package.
    Package(Package),
    /// A file name without folders.
    Name(String),
}

/// A package as apt's command line has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    name: String,
    architecture: Option<String>,
    version: Option<String>,
}

/// A text that asks nothing; the message says what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadQuestion {
    /// Nothing is asked.
    #[error("nothing is asked: expected a path, a URL, a package or a SHA-256")]
    Empty,
    /// More than 4096 bytes.
    #[error("the question is longer than 4096 bytes")]
    TooLong,
    /// Control characters or others that no path has.
    #[error("the question has a control character")]
    Control,
    /// It looks like a URL and is none.
    #[error("not a URL of a file: {0}")]
    Url(&'static str),
    /// It looks like a path and is none.
    #[error("not a path in a repository: {0}")]
    Path(path::BadPath),
}

/// What a file of a binary package says by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileName<'a> {
    /// The package.
    pub package: &'a str,
    /// Its version, mostly without epoch, which may be percent-encoded.
    pub version: &'a str,
    /// Its architecture, or `all`.
    pub architecture: &'a str,
}

impl Question {
    /// Reads a question. `own` is where this proxy listens, for URLs that lead through it.
    pub fn parse(text: &str, own: &[SocketAddr]) -> Result<Self, BadQuestion> {
        let text = text.trim();
        if text.is_empty() {
            return Err(BadQuestion::Empty);
        }
        if text.len() > MAX_QUESTION {
            return Err(BadQuestion::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(BadQuestion::Control);
        }
        let subject = read(text, own)?;
        let text = match &subject {
            Subject::Url(places) => places.first().map_or_else(String::new, ToString::to_string),
            _ => text.to_owned(),
        };
        Ok(Self { text, subject })
    }
}

fn read(text: &str, own: &[SocketAddr]) -> Result<Subject, BadQuestion> {
    let bad_url = |error: crate::archive::BadLocation| BadQuestion::Url(error.reason);
    if let Ok(hash) = text.parse() {
        return Ok(Subject::Hash(hash));
    }
    if text.contains("://") {
        let asked = Location::parse(text).map_err(bad_url)?;
        let behind = is_own(&asked, own).then(|| Location::from_rewritten(&asked.key()[asked.authority().len()..]));
        let behind = behind.transpose().map_err(bad_url)?;
        return Ok(Subject::Url(behind.into_iter().chain([asked]).collect()));
    }
    if text.starts_with('/') {
        return Ok(Subject::Url(vec![Location::from_rewritten(text).map_err(bad_url)?]));
    }
    if text.contains('/') {
        let url = Location::from_rewritten(text).ok();
        if let Some(private) = url.clone().filter(|url| url.credentials().is_some()) {
            return Ok(Subject::Url(vec![private]));
        }
        let written = path::normalise_file(text).map_err(BadQuestion::Path)?;
        let decoded = percent_decode_str(&written).decode_utf8().ok().and_then(|path| path::normalise_file(&path).ok());
        let decoded = decoded.filter(|decoded| *decoded != written);
        return Ok(Subject::Path { paths: [written].into_iter().chain(decoded).collect(), url });
    }
    Ok(Package::parse(text).map_or_else(|| Subject::Name(text.to_owned()), Subject::Package))
}

/// Whether a URL leads to this proxy itself.
fn is_own(location: &Location, own: &[SocketAddr]) -> bool {
    own.iter().filter(|at| at.port() == location.port_or_default()).any(|at| match location.ip() {
        Some(ip) => ip == at.ip() || at.ip().is_unspecified(),
        None => location.host() == "localhost",
    })
}

impl Package {
    /// Reads `name[:architecture][=version]`, in the alphabets of Debian policy 5.6.1, 5.6.8 and 5.6.12.
    fn parse(text: &str) -> Option<Self> {
        let (rest, version) = text.split_once('=').map_or((text, None), |(rest, version)| (rest, Some(version)));
        let (name, architecture) = rest.split_once(':').map_or((rest, None), |(name, of)| (name, Some(of)));
        let all = |text: &str, extra: &str| {
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || extra.contains(c);
            !text.is_empty() && text.chars().all(legal)
        };
        let legal_name = name.len() >= 2 && !name.starts_with(['+', '-', '.']) && all(name, "+-.");
        let legal_version =
            |version: &str| all(&version.to_ascii_lowercase(), "+-.~:") && !without_epoch(version).is_empty();
        let legal = legal_name && architecture.is_none_or(|of| all(of, "-")) && version.is_none_or(legal_version);
        legal.then(|| Self {
            name: name.to_owned(),
            architecture: architecture.map(str::to_owned),
            version: version.map(str::to_owned),
        })
    }

    /// How the names of its files begin.
    pub fn begins(&self) -> &str {
        &self.name
    }

    /// Whether a file is one of this package. A name alone may also be that of a file.
    pub fn fits(&self, file_name: &str) -> bool {
        let bare = self.architecture.is_none() && self.version.is_none();
        let Some(file) = FileName::parse(file_name) else { return bare && file_name == self.name };
        let version = percent_decode_str(file.version).decode_utf8_lossy();
        file.package == self.name
            && self.architecture.as_ref().is_none_or(|wanted| wanted == file.architecture || file.architecture == "all")
            && self.version.as_ref().is_none_or(|wanted| *wanted == version || without_epoch(wanted) == version)
    }
}

impl<'a> FileName<'a> {
    /// Reads `name_version_architecture.deb`.
    pub fn parse(file_name: &'a str) -> Option<Self> {
        let stem = ENDINGS.iter().find_map(|end| file_name.strip_suffix(end))?;
        let mut parts = stem.split('_');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(package), Some(version), Some(architecture), None) => Some(Self { package, version, architecture }),
            _ => None,
        }
    }
}

/// How the names that [`same_file`] accepts begin.
pub fn name_begins(name: &str) -> &str {
    FileName::parse(name).map_or(name, |file| &name[..=file.package.len()])
}

/// Whether two names are of one file: apt keeps a package under a name with its epoch, the archive has it without.
pub fn same_file<'a>(name: &'a str, other: &'a str) -> bool {
    let (Some(one), Some(two)) = (FileName::parse(name), FileName::parse(other)) else { return name == other };
    let version = |file: FileName<'_>| {
        let decoded = percent_decode_str(file.version).decode_utf8_lossy();
        without_epoch(&decoded).to_owned()
    };
    let rest = |file: FileName<'a>, name: &'a str| (file.package, name.rsplit_once('_').map(|(_, end)| end));
    name == other || (rest(one, name) == rest(two, other) && version(one) == version(two))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Vec<SocketAddr> {
        vec!["127.0.0.1:9977".parse().unwrap()]
    }

    fn subject(text: &str) -> Subject {
        Question::parse(text, &own()).unwrap().subject
    }

    #[test]
    fn every_form_of_url_leads_to_the_same_file() {
        let file = Location::parse("http://m.example.org/debian/pool/a_1%3a2.deb").unwrap();
        let tls = Location::parse("https://m.example.org/debian/pool/a_1%3a2.deb").unwrap();
        for (text, place) in [
            ("http://m.example.org/debian/pool/a_1%3a2.deb", &file),
            ("  HTTP://M.example.org:80//debian/./pool/a_1:2.deb\n", &file),
            ("http://127.0.0.1:9977/m.example.org/debian/pool/a_1:2.deb", &file),
            ("http://localhost:9977/m.example.org/debian/pool/a_1%3A2.deb", &file),
            ("/m.example.org/debian/pool/a_1:2.deb", &file),
            ("https://m.example.org/debian/pool/a_1:2.deb", &tls),
            ("http://HTTPS///m.example.org/debian/pool/a_1:2.deb", &tls),
            ("http://127.0.0.1:9977/HTTPS///m.example.org/debian/pool/a_1:2.deb", &tls),
            ("/HTTPS///m.example.org/debian/pool/a_1:2.deb", &tls),
        ] {
            let Subject::Url(places) = subject(text.trim_end_matches('\n')) else { panic!("{text}") };
            assert_eq!(&places[0], place, "{text}");
        }
        let Subject::Path { paths, url } = subject("m.example.org/debian//pool/a_1%3a2.deb") else { panic!() };
        assert_eq!(url, Some(file));
        assert_eq!(paths, ["m.example.org/debian/pool/a_1%3a2.deb", "m.example.org/debian/pool/a_1:2.deb"]);
    }

    #[test]
    fn another_proxy_on_the_same_port_is_not_this_one() {
        for other in ["http://127.0.0.2:9977/m.example.org/a", "http://127.0.0.1:9978/m.example.org/a"] {
            let Subject::Url(places) = subject(other) else { panic!() };
            assert_eq!(places, [Location::parse(other).unwrap()]);
        }
        let everywhere = ["0.0.0.0:9977".parse().unwrap()];
        let asked = Question::parse("http://10.0.0.1:9977/m.example.org/a", &everywhere).unwrap();
        assert!(matches!(asked.subject, Subject::Url(places) if places.len() == 2));
    }

    #[test]
    fn passwords_are_not_repeated() {
        for text in [
            "http://user:secret@m.example.org/a?token=secret",
            "http://127.0.0.1:9977/user:secret@m.example.org/a",
            "user:secret@m.example.org/a",
        ] {
            let question = Question::parse(text, &own()).unwrap();
            assert!(!question.text.contains("secret"), "{}", question.text);
        }
    }

    #[test]
    fn packages_are_found_by_the_names_of_their_files() {
        let fits = |text: &str, name: &str| match subject(text) {
            Subject::Package(package) => name.starts_with(package.begins()) && package.fits(name),
            Subject::Name(asked) => name.starts_with(name_begins(&asked)) && same_file(&asked, name),
            other => panic!("{text}: {other:?}"),
        };
        for (text, yes, no) in [
            ("hello", "hello_2.10-3_amd64.deb", "hello-doc_2.10-3_all.deb"),
            ("hello:amd64", "hello_2.10-3_amd64.deb", "hello_2.10-3_i386.deb"),
            ("hello:amd64", "hello_2.10-3_all.deb", "hello_2.10-3_armhf.deb"),
            ("hello=2.10-3", "hello_2.10-3_amd64.deb", "hello_2.10-30_amd64.deb"),
            ("hello=1:2.10-3", "hello_2.10-3_amd64.deb", "hello_1_amd64.deb"),
            ("hello=1:2.10-3", "hello_1%3a2.10-3_amd64.deb", "hello_2%3a2.10-3_amd64.deb"),
            ("hello:i386=2.10-3", "hello_2.10-3_i386.udeb", "hello_2.10-3_amd64.udeb"),
            ("g++", "g++_4_amd64.deb", "g+++_4_amd64.deb"),
            ("hello.tar.xz", "hello.tar.xz", "hello.tar.xz.asc"),
            ("hello_2.10-3_amd64.deb", "hello_2.10-3_amd64.deb", "hello_2.10-3_i386.deb"),
            ("hello_1%3a2.10-3_amd64.deb", "hello_2.10-3_amd64.deb", "hello_2.10-3_amd64.udeb"),
            ("Packages.xz", "Packages.xz", "Packages.xz2"),
            ("%", "%", "a"),
            ("_", "_", "a"),
            ("hel%", "hel%", "hello_2.10-3_amd64.deb"),
        ] {
            assert!(fits(text, yes), "{text}: {yes}");
            assert!(!fits(text, no), "{text}: {no}");
        }
    }

    #[test]
    fn what_asks_nothing_says_what_was_expected() {
        let bad = |text: &str| Question::parse(text, &own()).unwrap_err();
        assert_eq!(bad(" \n"), BadQuestion::Empty);
        assert_eq!(bad("a\0b"), BadQuestion::Control);
        assert_eq!(bad("a\u{9b}31mb"), BadQuestion::Control);
        assert_eq!(bad(&"a".repeat(MAX_QUESTION + 1)), BadQuestion::TooLong);
        assert_eq!(bad("../../etc/passwd"), BadQuestion::Path(path::BadPath::Climbs));
        assert!(matches!(bad("ftp://m.example.org/a"), BadQuestion::Url(_)));
        assert!(matches!(bad("http://m.example.org/a/../b"), BadQuestion::Url(_)));
    }
}
