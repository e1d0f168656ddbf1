//! Keys that may sign a Release, and which of them may for a source.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use sequoia_openpgp::{Cert, Fingerprint as Handle, KeyHandle, cert::CertParser, parse::Parse};

/// Largest keyring, in bytes.
pub const MAX_KEYRING: usize = 16 * 1024 * 1024;

/// Certificates with the names of the files that they come from.
#[derive(Clone, Default)]
pub struct Keyring {
    keys: BTreeMap<Handle, Key>,
}

#[derive(Clone)]
struct Key {
    cert: Arc<Cert>,
    origin: Arc<str>,
}

/// A file holds no OpenPGP certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {reason}")]
pub struct BadKeyring {
    /// The name that was given for the file.
    pub origin: String,
    /// Why nothing of it can be used.
    pub reason: String,
}

/// The fingerprint of a key: 40 hexadecimal digits, 64 for version 6 keys, upper case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(String);

/// A text is not a fingerprint; key ids are too short to be safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a fingerprint: expected 40 or 64 hexadecimal digits")]
pub struct BadFingerprint;

impl FromStr for Fingerprint {
    type Err = BadFingerprint;

    fn from_str(text: &str) -> Result<Self, BadFingerprint> {
        let digits: String = text.strip_prefix("0x").unwrap_or(text).to_ascii_uppercase();
        let legal = matches!(digits.len(), 40 | 64) && digits.bytes().all(|b| b.is_ascii_hexdigit());
        legal.then_some(Self(digits)).ok_or(BadFingerprint)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Handle> for Fingerprint {
    fn from(handle: Handle) -> Self {
        Self(handle.to_hex())
    }
}

impl Keyring {
    /// Reads certificates, binary (`.gpg`) or armored (`.asc`). Those that cannot be read are left out, as long as one can.
    /// `origin` names the file to people.
    pub fn parse(bytes: &[u8], origin: &str) -> Result<Self, BadKeyring> {
        let bad = |reason: String| BadKeyring { origin: origin.to_owned(), reason };
        if bytes.len() > MAX_KEYRING {
            return Err(bad("larger than 16 MiB".to_owned()));
        }
        let mut ring = Self::default();
        let mut fault = None;
        for cert in CertParser::from_bytes(bytes).map_err(|error| bad(error.to_string()))? {
            match cert {
                Ok(cert) => ring.insert(Key { cert: Arc::new(cert), origin: origin.into() }),
                Err(error) => fault = Some(error),
            }
        }
        match fault {
            _ if !ring.is_empty() => Ok(ring),
            Some(error) => Err(bad(error.to_string())),
            None => Err(bad("no OpenPGP certificate in it".to_owned())),
        }
    }

    /// Adds the keys of another ring. What both have is merged, so a revocation in either counts.
    pub fn extend(&mut self, other: &Self) {
        for key in other.keys.values() {
            self.insert(key.clone());
        }
    }

    fn insert(&mut self, key: Key) {
        let handle = key.cert.fingerprint();
        let merged = match self.keys.remove(&handle) {
            Some(known) => {
                let cert = known.cert.as_ref().clone().merge_public(key.cert.as_ref().clone());
                Key { cert: cert.map_or(known.cert, Arc::new), origin: known.origin }
            }
            None => key,
        };
        self.keys.insert(handle, merged);
    }

    /// Whether no key is in it.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The fingerprints of its certificates, each with the name of its file.
    pub fn fingerprints(&self) -> impl Iterator<Item = (Fingerprint, &str)> {
        self.keys.iter().map(|(handle, key)| (handle.clone().into(), &*key.origin))
    }

    /// The certificates that have one of these keys.
    pub(super) fn certs(&self, handles: &[KeyHandle]) -> Vec<Cert> {
        let wanted = |cert: &Cert| cert.keys().any(|key| handles.iter().any(|id| id.aliases(key.key().key_handle())));
        self.keys.values().filter(|key| wanted(&key.cert)).map(|key| key.cert.as_ref().clone()).collect()
    }

    /// The name of the file that a certificate comes from.
    pub(super) fn origin(&self, cert: &Cert) -> Option<Arc<str>> {
        self.keys.get(&cert.fingerprint()).map(|key| key.origin.clone())
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.fingerprints()).finish()
    }
}

/// One fingerprint of a `Signed-By` list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pick {
    /// The key, or the certificate that it belongs to.
    pub fingerprint: Fingerprint,
    /// Only the key itself, not others of its certificate (`!` behind the fingerprint).
    pub exact: bool,
}

impl FromStr for Pick {
    type Err = BadFingerprint;

    fn from_str(text: &str) -> Result<Self, BadFingerprint> {
        let (digits, exact) = text.strip_suffix('!').map_or((text, false), |digits| (digits, true));
        Ok(Self { fingerprint: digits.parse()?, exact })
    }
}

/// The keys that may sign for one source.
#[derive(Debug, Clone, Default)]
pub struct Signers {
    /// The certificates to verify with.
    pub keyring: Keyring,
    /// When not empty, only these keys of it.
    pub picks: Vec<Pick>,
    /// Whether they were named for this source: by `Signed-By` in its entry, or by its last Release.
    pub are_named: bool,
}

impl Signers {
    /// Whether a key may sign, by its own fingerprint and that of its certificate.
    pub(super) fn allow(&self, key: &Fingerprint, cert: &Fingerprint) -> bool {
        let allows = |pick: &Pick| pick.fingerprint == *key || (!pick.exact && pick.fingerprint == *cert);
        self.picks.is_empty() || self.picks.iter().any(allows)
    }
}

impl From<Keyring> for Signers {
    fn from(keyring: Keyring) -> Self {
        Self { keyring, picks: Vec::new(), are_named: false }
    }
}
