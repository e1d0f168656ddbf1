//! Whom to believe about which repository: apt's sources and keyrings together.

use std::{collections::HashMap, time::SystemTime};

use super::{
    Location,
    keyring::{BadKeyring, Keyring, Signers},
    release::{BadRelease, NoKey, Place, Verdict, verify_detached, verify_inrelease},
    sources::{Signing, Sources},
};

/// The keys that apt itself would accept, source by source.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    sources: Sources,
    default: Keyring,
    /// By path, and for embedded ones by their text.
    keyrings: HashMap<String, Keyring>,
}

impl Trust {
    /// Joins sources with the default keyrings (`trusted.gpg`, `trusted.gpg.d` and those of the configuration) and with
    /// the files that [`Sources::keyring_files`] names, by path. A file that could not be read is left out: its sources
    /// then have no key. Keys embedded in sources are read here; those that cannot be are returned.
    pub fn new(
        sources: Sources,
        default: Keyring,
        files: impl IntoIterator<Item = (String, Keyring)>,
    ) -> (Self, Vec<BadKeyring>) {
        let mut keyrings: HashMap<_, _> = files.into_iter().collect();
        let mut bad = Vec::new();
        for source in sources.iter() {
            let Some(armored) = source.signed_by.as_ref().and_then(|signed_by| signed_by.embedded.as_ref()) else {
                continue;
            };
            match Keyring::parse(armored.as_bytes(), &format!("{}:{}", source.file, source.line)) {
                Ok(keyring) => drop(keyrings.insert(armored.clone(), keyring)),
                Err(error) => bad.push(error),
            }
        }
        (Self { sources, default, keyrings }, bad)
    }

    /// apt's sources.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Checks an `InRelease` found there. `shareable` is whether its repository may be named to strangers.
    pub fn verify_inrelease(&self, at: &Location, message: &[u8], shareable: bool, now: SystemTime) -> Verdict {
        match self.admit(at, shareable) {
            Ok((place, signers)) => verify_inrelease(message, place, &signers, now),
            Err(verdict) => verdict,
        }
    }

    /// Checks a `Release` found there by its `Release.gpg`.
    pub fn verify_detached(
        &self,
        at: &Location,
        text: &[u8],
        signature: &[u8],
        shareable: bool,
        now: SystemTime,
    ) -> Verdict {
        match self.admit(at, shareable) {
            Ok((place, signers)) => verify_detached(text, signature, place, &signers, now),
            Err(verdict) => verdict,
        }
    }

    fn admit(&self, at: &Location, shareable: bool) -> Result<(Place, Signers), Verdict> {
        let (repository, suite_dir) = self.sources.place(at).ok_or(Verdict::Bad(BadRelease::Place))?;
        let check_valid_until = self.sources.checks_valid_until(at);
        let signers = self.signers(at).map_err(Verdict::Unverifiable)?;
        Ok((Place { repository, suite_dir, shareable, check_valid_until }, signers))
    }

    /// The keys that may sign a Release found there.
    pub fn signers(&self, at: &Location) -> Result<Signers, NoKey> {
        let signed_by = match self.sources.signing(at) {
            Signing::Default => return Ok(self.default.clone().into()),
            Signing::Conflict => return Err(NoKey::Conflict),
            Signing::By(signed_by) => signed_by,
        };
        let mut named = signed_by.files.iter().chain(&signed_by.embedded).peekable();
        let mut keyring = Keyring::default();
        if named.peek().is_none() {
            keyring = self.default.clone();
        }
        for name in named {
            if let Some(known) = self.keyrings.get(name) {
                keyring.extend(known);
            }
        }
        Ok(Signers { keyring, picks: signed_by.picks.clone() })
    }
}

#[cfg(test)]
mod tests {
    use crate::archive::testing::{Key, clear_signed, now};

    use super::*;

    const RELEASE: &str = "Codename: sid\nDate: Fri, 10 Jul 2026 09:12:31 UTC\nSHA256:\n \
                           e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 main/a\n";

    fn verified(trust: &Trust, base: &str, key: &Key) -> bool {
        let at = Location::parse(&format!("{base}/dists/sid/InRelease")).unwrap();
        trust.verify_inrelease(&at, clear_signed(RELEASE, &[key]).as_bytes(), true, now()).verified().is_some()
    }

    #[test]
    fn every_source_is_believed_only_by_its_own_keys() {
        let (default, debian, vendor, inline) = (Key::new(), Key::new(), Key::new(), Key::new());
        let list = format!(
            "deb [signed-by=/debian.gpg] http://m.example.org/debian sid main\n\
             deb [signed-by=/vendor.gpg] http://v.example.org sid main\n\
             deb [signed-by={}] http://picked.example.org sid main\n\
             deb [signed-by=/missing.gpg] http://missing.example.org sid main\n",
            default.fingerprint()
        );
        let embedded = inline.armored().replace("\n\n", "\n.\n").replace('\n', "\n ");
        let stanza = format!(
            "Types: deb\nURIs: http://i.example.org\nSuites: sid\nComponents: main\nSigned-By:\n {}\n",
            embedded.trim()
        );
        let (sources, bad) = Sources::parse([("a.list", &*list), ("b.sources", &*stanza)], &[]);
        assert_eq!(bad, []);
        let files = [("/debian.gpg".to_owned(), debian.ring()), ("/vendor.gpg".to_owned(), vendor.ring())];
        let (trust, bad) = Trust::new(sources, default.ring(), files);
        assert_eq!(bad, []);
        let (d, b, v, i) = (&default, &debian, &vendor, &inline);
        for (base, keys) in [
            ("http://m.example.org/debian", vec![b]),
            ("https://m.example.org/debian", vec![b]),
            ("http://v.example.org", vec![v]),
            ("http://i.example.org", vec![i]),
            ("http://picked.example.org", vec![d]),
            ("http://missing.example.org", vec![]),
            ("http://unknown.example.org", vec![d]),
        ] {
            for key in [d, b, v, i] {
                let allowed = keys.iter().any(|allowed| std::ptr::eq(*allowed, key));
                assert_eq!(verified(&trust, base, key), allowed, "{base} {}", key.fingerprint());
            }
        }
    }

    #[test]
    fn armored_and_binary_keyrings_of_several_keys_are_read() {
        let (one, two) = (Key::new(), Key::new());
        for bytes in [[one.binary(), two.binary()].concat(), (one.armored() + &two.armored()).into_bytes()] {
            let ring = Keyring::parse(&bytes, "/a.asc").unwrap();
            let mut found: Vec<_> = ring.fingerprints().map(|(fingerprint, _)| fingerprint.to_string()).collect();
            let mut want = [one.fingerprint(), two.fingerprint()];
            found.sort();
            want.sort();
            assert_eq!(found, want);
        }
        for nothing in [&b""[..], b"hello", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n"] {
            assert_eq!(Keyring::parse(nothing, "/a.asc").unwrap_err().origin, "/a.asc");
        }
    }
}
