//! Suite names: what names a suite alike on every machine, whatever mirror it came from.
//!
//! ```text
//!  name   SHA-256( len || Origin || len || Codename, or Suite where there is none )      len: 4 bytes, big-endian; 0: no such field
//! ```
//!
//! The fields are signed, so that no mirror can change them. A codename stays when `stable` becomes `oldstable`; Ubuntu gives
//! `noble` and `noble-updates` one, and they are one suite here. Vendors who name nothing share one name: whoever looks for
//! their files asks more peers in vain, and that is all. A label says nothing that these two do not.

use sha2::{Digest, Sha256};

use super::Release;

/// The name of a suite. It says nothing to whoever does not know the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SuiteName([u8; 32]);

impl SuiteName {
    /// The name by the fields `Origin` and `Codename`, or `Suite`, of its Release.
    pub fn of(origin: Option<&str>, codename: Option<&str>) -> Self {
        let fields = [origin, codename].map(Option::unwrap_or_default);
        let digest = fields.iter().fold(Sha256::new(), |digest, field| {
            digest.chain_update((field.len() as u32).to_be_bytes()).chain_update(field)
        });
        Self(digest.finalize().into())
    }

    /// Gives back what was kept as bytes before.
    pub fn restore(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// As it is kept, and hashed into keys.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<&Release> for SuiteName {
    fn from(release: &Release) -> Self {
        Self::of(release.origin(), release.codename().or(release.suite()))
    }
}

/// That of suites whose Release names nothing.
impl Default for SuiteName {
    fn default() -> Self {
        Self::of(None, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_run_into_each_other() {
        let of = |origin, codename| SuiteName::of(Some(origin), Some(codename));
        assert_eq!(of("Debian", "sid"), of("Debian", "sid"));
        assert_ne!(of("Debian", "sid"), of("Debians", "id"));
        assert_ne!(of("Debian", ""), SuiteName::of(None, Some("Debian")));
        assert_eq!(of("", ""), SuiteName::default());
    }
}
