//! Whom to believe about which repository: apt's sources and keyrings together.

use std::{collections::HashMap, time::SystemTime};

use super::{
    Location,
    keyring::{BadKeyring, Keyring, Signers},
    pins::{Pin, Pins},
    release::{BadRelease, NoKey, Place, Verdict, verify_detached, verify_inrelease},
    sources::{SignedBy, Signing, Sources},
};

/// The keys that apt itself would accept, source by source.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    sources: Sources,
    default: Keyring,
    /// By path, and for embedded ones by their text.
    keyrings: HashMap<String, Keyring>,
    pins: Pins,
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
        (Self { sources, default, keyrings, pins: Pins::default() }, bad)
    }

    /// apt's sources.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The same sources and keys with what the Releases verified by another one said of the next ones.
    pub fn with_pins_of(self, other: &Self) -> Self {
        Self { pins: other.pins.clone(), ..self }
    }

    /// Takes what the latest Release of a suite says of the next one. It must be the latest: whoever could replay an older
    /// one could bring back a key that was given up.
    pub fn pin(&mut self, pin: Pin) {
        self.pins.set(pin);
    }

    /// Checks an `InRelease` found there. `shareable` is whether its repository may be named to strangers.
    pub fn verify_inrelease(&self, at: &Location, message: &[u8], shareable: bool, now: SystemTime) -> Verdict {
        match self.admit(at, shareable, now) {
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
        match self.admit(at, shareable, now) {
            Ok((place, signers)) => verify_detached(text, signature, place, &signers, now),
            Err(verdict) => verdict,
        }
    }

    fn admit(&self, at: &Location, shareable: bool, now: SystemTime) -> Result<(Place, Signers), Verdict> {
        let (repository, suite_dir) = self.sources.place(at).ok_or(Verdict::Bad(BadRelease::Place))?;
        let signing = self.sources.signing(at);
        let mut signers = match signing {
            Signing::Default => self.default.clone().into(),
            Signing::By(signed_by) => self.named(signed_by),
            Signing::Conflict => return Err(Verdict::Unverifiable(NoKey::Conflict)),
            Signing::Nobody(reason) => return Err(Verdict::Unverifiable(NoKey::Nobody(reason))),
            Signing::Misplaced => return Err(Verdict::Bad(BadRelease::Place)),
        };
        if signing == Signing::Default {
            signers.picks = self.pins.picks(&repository, &suite_dir, now).to_vec();
            signers.are_named = !signers.picks.is_empty();
        }
        let (is_named, validity) = (self.sources.names_place(at), self.sources.validity(at));
        Ok((Place { repository, suite_dir, is_named, shareable, validity }, signers))
    }

    /// The keys that an entry names.
    fn named(&self, signed_by: &SignedBy) -> Signers {
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
        Signers { keyring, picks: signed_by.picks.clone(), are_named: true }
    }
}

#[cfg(test)]
mod tests {
    use crate::archive::{
        Surroundings,
        testing::{DAY, Key, clear_signed, now},
    };

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
        let (sources, bad) = Sources::parse([("a.list", &*list), ("b.sources", &*stanza)], &Surroundings::default());
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
    fn who_answers_for_a_host_gains_nothing_by_places_that_no_entry_names() {
        let (vendor, debian) = (Key::new(), Key::new());
        let list = "deb [signed-by=/debian.gpg] http://m.example.org/debian bookworm main\n";
        let (sources, _) = Sources::parse([("a.list", list)], &Surroundings::default());
        let (trust, _) = Trust::new(sources, vendor.ring(), [("/debian.gpg".to_owned(), debian.ring())]);
        let flat = RELEASE.replace("Codename: sid\n", "").replace("main/a", "Packages");
        let suite = RELEASE.replace("sid", "bookworm").replace("main/a", "main/binary-amd64/Packages");
        let check = |path: &str, text: &str, key: &Key| {
            let at = Location::parse(&format!("http://{path}/InRelease")).unwrap();
            trust.verify_inrelease(&at, clear_signed(text, &[key]).as_bytes(), true, now())
        };
        for path in ["m.example.org/debian/pool", "m.example.org", "m.example.org/debian/pool/dists/bookworm"] {
            for key in [&vendor, &debian] {
                for text in [&flat, &suite] {
                    let verdict = check(path, text, key);
                    assert!(matches!(verdict, Verdict::Unverifiable(NoKey::Nobody(_))), "{path} {verdict:?}");
                }
            }
        }
        for text in [&flat, &suite] {
            assert_eq!(check("m.example.org/debian", text, &debian), Verdict::Bad(BadRelease::Place));
        }
        let verdict = check("m.example.org/debian/dists/bookworm/anything", &suite, &debian);
        assert!(matches!(verdict, Verdict::Bad(BadRelease::WrongSuite { .. })), "{verdict:?}");
        let verdict = check("m.example.org/debian/dists/bookworm", &suite, &vendor);
        assert_eq!(verdict, Verdict::Bad(BadRelease::Strangers(vec![vendor.subkey_fingerprint()])));
        assert!(check("m.example.org/debian/dists/bookworm", &suite, &debian).verified().is_some());
        // Of no source: the clients of this host may know it.
        assert!(check("v.example.org", &flat, &vendor).verified().is_some());
        assert!(check("v.example.org", &suite, &vendor).verified().is_none());
        assert!(check("v.example.org/dists/bookworm", &suite, &vendor).verified().is_some());
    }

    #[test]
    fn a_release_may_name_the_keys_of_the_next_one() {
        let (old, new) = (Key::new(), Key::new());
        let list = format!(
            "deb http://m.example.org sid main\ndeb [signed-by={},{}] http://n.example.org sid main\n",
            old.fingerprint(),
            new.fingerprint()
        );
        let (sources, _) = Sources::parse([("a.list", &*list)], &Surroundings::default());
        let mut both = old.ring();
        both.extend(&new.ring());
        let (mut trust, _) = Trust::new(sources, both, []);
        let check = |trust: &Trust, host: &str, key: &Key, fields: &str, now| {
            let at = Location::parse(&format!("https://{host}.example.org/dists/sid/InRelease")).unwrap();
            let text = format!("{fields}{RELEASE}");
            trust.verify_inrelease(&at, clear_signed(&text, &[key]).as_bytes(), true, now).verified()
        };
        let end = "Valid-Until: Mon, 13 Jul 2026 09:12:31 UTC\n";
        let names = |key: &str| format!("{end}Signed-By: {}, {key}\n", "00".repeat(20));
        let says = |trust: &mut Trust, host, fields: &str| {
            trust.pin(check(trust, host, &new, fields, now()).unwrap().pin());
        };
        let takes = |trust: &Trust, host, now| [&old, &new].map(|key| check(trust, host, key, "", now).is_some());

        for (fields, old_is_good) in [
            (names(&new.fingerprint().to_lowercase()), false),
            (String::new(), true),
            (names(&format!("{}!", new.subkey_fingerprint())), false),
            // What is no list of fingerprints says nothing, and neither does one without an end.
            (names("/new.gpg"), true),
            (names(&new.fingerprint()).replace(end, ""), true),
        ] {
            says(&mut trust, "m", &fields);
            assert_eq!(takes(&trust, "m", now()), [old_is_good, true], "{fields}");
            assert_eq!(takes(&Trust::default().with_pins_of(&trust), "m", now()), [false, false]);
        }
        says(&mut trust, "m", &names(&new.fingerprint()));
        let again = Trust::new(trust.sources.clone(), trust.default.clone(), []).0;
        assert_eq!(takes(&again, "m", now()), [true, true]);
        let again = again.with_pins_of(&trust);
        assert_eq!(takes(&again, "m", now()), [false, true], "a pin outlives a look at the sources");
        assert_eq!(takes(&again, "m", now() + 3 * DAY), [true, true], "it ends");
        says(&mut trust, "n", &names(&new.fingerprint()));
        assert_eq!(takes(&trust, "n", now()), [true, true], "the sources have the first word");
        assert_eq!(takes(&trust, "o", now()), [true, true], "it is for one suite of one repository");
    }

    #[test]
    fn a_release_that_names_a_thousand_keys_is_refused() {
        let key = Key::new();
        let (trust, _) = Trust::new(Sources::default(), key.ring(), []);
        let at = Location::parse("http://m.example.org/dists/sid/InRelease").unwrap();
        let text = format!("Signed-By: {}\n{RELEASE}", vec![key.fingerprint(); 1000].join(","));
        let verdict = trust.verify_inrelease(&at, clear_signed(&text, &[&key]).as_bytes(), true, now());
        let reason = "line 1: field Signed-By: more than 64 keys".to_owned();
        assert_eq!(verdict, Verdict::Bad(BadRelease::Content(reason)));
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
