//! Keys and signed texts for the tests of this station, all of whose time is [`now`]; and changes of texts, for fuzzing.

use std::{
    io::Write,
    time::{Duration, SystemTime},
};

use proptest::{collection::vec, prelude::*, sample::Index};
use sequoia_openpgp::{
    Cert, Packet,
    armor::{Kind, Writer},
    cert::CertBuilder,
    crypto::KeyPair,
    packet::signature::SignatureBuilder,
    policy::StandardPolicy,
    serialize::{
        Serialize,
        stream::{Message, Signer},
    },
    types::{HashAlgorithm, ReasonForRevocation, SignatureType},
};

use super::{Compression, Keyring, Place, Repository, Validity};

pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// Noon of 11 July 2026.
pub fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_783_771_200)
}

/// A key made in 2024 that signs with a subkey, as Debian's do.
pub struct Key(pub Cert);

impl Key {
    pub fn new() -> Self {
        Self::lasting(None)
    }

    /// A key that expires so long after it was made, 800 days before now.
    pub fn lasting(validity: impl Into<Option<Duration>>) -> Self {
        Self::made(now() - 800 * DAY, validity)
    }

    pub fn made(at: SystemTime, validity: impl Into<Option<Duration>>) -> Self {
        let builder = CertBuilder::new()
            .add_userid("Test Archive <archive@example.org>")
            .set_creation_time(at)
            .set_validity_period(validity)
            .add_signing_subkey();
        Self(builder.generate().unwrap().0)
    }

    pub fn revoked(&self) -> Self {
        let mut primary = self.0.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
        let revocation = sequoia_openpgp::cert::CertRevocationBuilder::new()
            .set_reason_for_revocation(ReasonForRevocation::KeyRetired, b"replaced")
            .unwrap()
            .set_signature_creation_time(now() - DAY / 2)
            .unwrap()
            .build(&mut primary, &self.0, None)
            .unwrap();
        Self(self.0.clone().insert_packets(revocation).unwrap().0)
    }

    /// The same certificate with its signing subkey revoked.
    pub fn with_revoked_subkey(&self) -> Self {
        let mut primary = self.0.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
        let subkey = self.0.keys().subkeys().next().unwrap().key().clone();
        let revocation = sequoia_openpgp::cert::SubkeyRevocationBuilder::new()
            .set_reason_for_revocation(ReasonForRevocation::KeyRetired, b"replaced")
            .unwrap()
            .set_signature_creation_time(now() - DAY / 2)
            .unwrap()
            .build(&mut primary, &self.0, &subkey, None)
            .unwrap();
        Self(self.0.clone().insert_packets([Packet::from(subkey), revocation.into()]).unwrap().0)
    }

    pub fn binary(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.serialize(&mut bytes).unwrap();
        bytes
    }

    pub fn armored(&self) -> String {
        armored(Kind::PublicKey, &self.binary())
    }

    pub fn ring(&self) -> Keyring {
        Keyring::parse(&self.binary(), "test.gpg").unwrap()
    }

    pub fn fingerprint(&self) -> String {
        self.0.fingerprint().to_hex()
    }

    pub fn subkey_fingerprint(&self) -> String {
        self.signer().public().fingerprint().to_hex()
    }

    fn signer(&self) -> KeyPair {
        let policy = StandardPolicy::at(now());
        let made = self.0.primary_key().key().creation_time();
        let mut keys = self.0.keys().with_policy(&policy, made + DAY).secret().for_signing();
        keys.next().unwrap().key().clone().into_keypair().unwrap()
    }

    /// An armored signature of the bytes with a digest of choice.
    pub fn signature_with(&self, text: &[u8], digest: HashAlgorithm) -> String {
        self.signature_at(text, digest, now() - DAY)
    }

    pub fn signature_at(&self, text: &[u8], digest: HashAlgorithm, at: SystemTime) -> String {
        let signature = SignatureBuilder::new(SignatureType::Binary)
            .set_hash_algo(digest)
            .set_signature_creation_time(at)
            .unwrap()
            .sign_message(&mut self.signer(), text)
            .unwrap();
        let mut bytes = Vec::new();
        Packet::from(signature).serialize(&mut bytes).unwrap();
        armored(Kind::Signature, &bytes)
    }
}

pub fn armored(kind: Kind, bytes: &[u8]) -> String {
    let mut writer = Writer::new(Vec::new(), kind).unwrap();
    writer.write_all(bytes).unwrap();
    String::from_utf8(writer.finalize().unwrap()).unwrap() + "\n"
}

/// A text clear-signed by all the keys, a day ago.
pub fn clear_signed(text: &str, keys: &[&Key]) -> String {
    clear_signed_at(text, keys, now() - DAY)
}

pub fn clear_signed_at(text: &str, keys: &[&Key], at: SystemTime) -> String {
    let mut bytes = Vec::new();
    let mut signer = Signer::new(Message::new(&mut bytes), keys[0].signer()).unwrap();
    for key in &keys[1..] {
        signer = signer.add_signer(key.signer()).unwrap();
    }
    let mut writer = signer.creation_time(at).cleartext().build().unwrap();
    writer.write_all(text.as_bytes()).unwrap();
    writer.finalize().unwrap();
    String::from_utf8(bytes).unwrap() + "\n"
}

pub fn place() -> Place {
    Place {
        repository: Repository::restore("m.example.org/debian"),
        suite_dir: "dists/bookworm".to_owned(),
        is_named: false,
        shareable: true,
        validity: Validity::default(),
    }
}

/// A date as Release files write it.
pub fn date_text(date: SystemTime) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = date.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let (mut year, mut month, mut day) = (1970, 0, seconds / 86_400);
    let days = |year: u64, month| match month {
        1 => 28 + u64::from(year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))),
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    };
    while day >= days(year, month) {
        day -= days(year, month);
        (year, month) = if month == 11 { (year + 1, 0) } else { (year, month + 1) };
    }
    let (hours, minutes, seconds) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("Any, {:02} {} {year} {hours:02}:{minutes:02}:{seconds:02} UTC", day + 1, MONTHS[month])
}

/// Packs bytes.
pub fn pack(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    use xz2::stream::{LzmaOptions, Stream};
    match compression {
        Compression::None => bytes.to_vec(),
        Compression::Gz => {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packer.write_all(bytes).unwrap();
            packer.finish().unwrap()
        }
        Compression::Xz => {
            let mut packer = xz2::write::XzEncoder::new(Vec::new(), 0);
            packer.write_all(bytes).unwrap();
            packer.finish().unwrap()
        }
        Compression::Bz2 => {
            let mut packer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            packer.write_all(bytes).unwrap();
            packer.finish().unwrap()
        }
        Compression::Zst => ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest),
        Compression::Lz4 => {
            let mut packer = lz4_flex::frame::FrameEncoder::new(Vec::new());
            packer.write_all(bytes).unwrap();
            packer.finish().unwrap()
        }
        Compression::Lzma => {
            let stream = Stream::new_lzma_encoder(&LzmaOptions::new_preset(0).unwrap()).unwrap();
            let mut packer = xz2::write::XzEncoder::new_stream(Vec::new(), stream);
            packer.write_all(bytes).unwrap();
            packer.finish().unwrap()
        }
    }
}

/// A few changes of a text: bytes replaced, put in from among `inserted`, left out, and repeated.
pub fn with_changes(text: &'static [u8], inserted: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    vec((any::<Index>(), 0..4u8, any::<u8>(), 1..40usize), 1..6).prop_map(move |changes| {
        let mut bytes = text.to_vec();
        for (at, kind, byte, length) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            let end = (at + length).min(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, inserted[usize::from(byte) % inserted.len()]),
                2 => drop(bytes.drain(at..end)),
                _ => bytes.extend_from_within(at..end),
            }
        }
        bytes
    })
}
