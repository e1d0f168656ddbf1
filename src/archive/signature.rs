//! Signatures: whether an allowed key, good today, signed these bytes.
//!
//! **Security.** MD5, SHA-1 and other broken algorithms are refused, also while the machine's clock is behind. A key must
//! be neither expired nor revoked both when it signed and now. Packets other than signatures are refused before anything
//! looks into them, and no more than [`MAX_SIGNATURES`] are tried.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use sequoia_openpgp::{
    Cert, KeyHandle, Packet,
    cert::amalgamation::ValidAmalgamation,
    packet::Tag,
    parse::{
        PacketParserBuilder, PacketParserResult, Parse,
        stream::{
            DetachedVerifierBuilder, GoodChecksum, MessageLayer, MessageStructure, VerificationError,
            VerificationHelper,
        },
    },
    policy::StandardPolicy,
    types::RevocationStatus,
};

use super::keyring::{Fingerprint, Signers};

/// Most signatures of one Release. Debian's have three.
pub const MAX_SIGNATURES: usize = 16;

/// Largest block of signatures, in bytes.
pub const MAX_BLOCK: usize = 64 * 1024;

/// Algorithms are judged as of 1 February 2026 at the earliest, when SHA-1 has no use left in apt's own policy.
const POLICY_FLOOR: Duration = Duration::from_secs(1_769_904_000);

/// Who signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The certificate.
    pub fingerprint: Fingerprint,
    /// The very key: the certificate's own or a subkey.
    pub key: Fingerprint,
    /// The file that the certificate comes from.
    pub origin: Arc<str>,
}

/// No allowed key is known to have signed the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotSigned {
    /// All signatures are of keys that are not among the allowed ones; their names.
    Strangers(Vec<String>),
    /// An allowed key is named, and the signature is wrong; or there is no signature at all.
    Bad(String),
}

/// Checks signatures over text, binary or armored. One good one is enough.
pub fn check(block: &[u8], text: &[u8], signers: &Signers, now: SystemTime) -> Result<Signer, NotSigned> {
    let bad = |error: &dyn std::fmt::Display| NotSigned::Bad(error.to_string());
    admit(block).map_err(|reason| NotSigned::Bad(reason.to_owned()))?;
    let policy = StandardPolicy::at(now.max(SystemTime::UNIX_EPOCH + POLICY_FLOOR));
    let judge = Judge { signers, policy: &policy, now, signer: None, strangers: Vec::new(), fault: None };
    let verifier = DetachedVerifierBuilder::from_bytes(block).and_then(|it| it.with_policy(&policy, now, judge));
    let mut verifier = verifier.map_err(|error| bad(&error))?;
    verifier.verify_bytes(text).map_err(|error| bad(&error))?;
    let judge = verifier.into_helper();
    match (judge.signer, judge.fault) {
        (Some(signer), _) => Ok(signer),
        (None, Some(fault)) => Err(NotSigned::Bad(fault)),
        (None, None) => Err(NotSigned::Strangers(judge.strangers)),
    }
}

/// Lets pass between one and [`MAX_SIGNATURES`] signature packets and nothing else.
fn admit(block: &[u8]) -> Result<(), &'static str> {
    const BROKEN: &str = "the signature is not OpenPGP data";
    if block.len() > MAX_BLOCK {
        return Err("signatures of more than 64 KiB");
    }
    let mut next = PacketParserBuilder::from_bytes(block)
        .and_then(|builder| builder.max_recursion_depth(0).build())
        .map_err(|_| BROKEN)?;
    let mut count = 0;
    while let PacketParserResult::Some(parser) = next {
        match &parser.packet {
            Packet::Signature(_) => {}
            Packet::Unknown(packet) if packet.tag() == Tag::Signature => {}
            _ => return Err("something other than a signature among the signatures"),
        }
        count += 1;
        if count > MAX_SIGNATURES {
            return Err("more than 16 signatures");
        }
        next = parser.next().map_err(|_| BROKEN)?.1;
    }
    if count == 0 { Err("no signature") } else { Ok(()) }
}

/// Judges what sequoia found, by apt's rules.
struct Judge<'a> {
    signers: &'a Signers,
    policy: &'a StandardPolicy<'a>,
    now: SystemTime,
    signer: Option<Signer>,
    strangers: Vec<String>,
    fault: Option<String>,
}

impl VerificationHelper for Judge<'_> {
    fn get_certs(&mut self, handles: &[KeyHandle]) -> sequoia_openpgp::Result<Vec<Cert>> {
        Ok(self.signers.keyring.certs(handles))
    }

    fn check(&mut self, structure: MessageStructure) -> sequoia_openpgp::Result<()> {
        for layer in structure {
            let MessageLayer::SignatureGroup { results } = layer else { continue };
            for result in results {
                match result {
                    Ok(good) => self.admit_signer(&good),
                    Err(VerificationError::MissingKey { sig }) => {
                        self.strangers.extend(sig.get_issuers().first().map(KeyHandle::to_hex));
                    }
                    Err(wrong) => self.fault = Some(wrong.to_string()),
                }
            }
        }
        Ok(())
    }
}

impl Judge<'_> {
    fn admit_signer(&mut self, good: &GoodChecksum<'_>) {
        let cert = good.ka.cert();
        let (fingerprint, key) = (cert.fingerprint().into(), good.ka.key().fingerprint().into());
        if !self.signers.allow(&key, &fingerprint) {
            self.strangers.push(key.to_string());
            return;
        }
        if let Err(fault) = self.is_good_now(good) {
            self.fault = Some(format!("key {key} is {fault}"));
            return;
        }
        let origin = self.signers.keyring.origin(cert).expect("the certificate was taken from this keyring");
        self.signer.get_or_insert(Signer { fingerprint, key, origin });
    }

    /// Sequoia asks whether the key was good when it signed; gpgv, and so apt, also whether it still is.
    fn is_good_now(&self, good: &GoodChecksum<'_>) -> Result<(), String> {
        let cert = good.ka.cert().with_policy(self.policy, self.now).map_err(|error| format!("not valid: {error}"))?;
        cert.alive().map_err(|error| error.to_string())?;
        let handle = good.ka.key().fingerprint();
        let key = cert.keys().find(|key| key.key().fingerprint() == handle).ok_or("not bound any more")?;
        key.alive().map_err(|error| error.to_string())?;
        match (cert.revocation_status(), key.revocation_status()) {
            (RevocationStatus::Revoked(_), _) | (_, RevocationStatus::Revoked(_)) => Err("revoked".to_owned()),
            _ => Ok(()),
        }
    }
}
