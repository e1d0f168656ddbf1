//! Suites: Packages files, the Release that lists them, its signature; and what a forger makes of them.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use apt_huddle::hash::ContentHash;
use flate2::{Compression, write::GzEncoder};
use sequoia_openpgp::{
    Cert,
    armor::Kind,
    cert::CertBuilder,
    crypto::KeyPair,
    policy::StandardPolicy,
    serialize::{
        SerializeInto,
        stream::{self, Armorer, Message},
    },
};
use xz2::write::XzEncoder;

use super::{archive::Package, mirror::http_date};

/// A key that signs Release files.
pub struct Signer {
    cert: Cert,
}

impl Signer {
    /// Makes a key.
    pub fn new(name: &str) -> Self {
        let (cert, _) = CertBuilder::new()
            .add_userid(format!("{name} <archive@example.org>"))
            .add_signing_subkey()
            .set_creation_time(SystemTime::now() - Duration::from_secs(86_400))
            .generate()
            .expect("a key");
        Self { cert }
    }

    /// The public key as apt takes it in `trusted.gpg.d/*.asc`.
    pub fn armored(&self) -> Vec<u8> {
        self.cert.armored().to_vec().expect("memory takes every write")
    }

    /// Signs a text in the clear (RFC 9580, section 7).
    pub fn clear_sign(&self, text: &str) -> Vec<u8> {
        let mut signed = Vec::new();
        let signer = stream::Signer::new(Message::new(&mut signed), self.pair()).expect("a key that signs");
        let mut message = signer.cleartext().build().expect("a message");
        message.write_all(text.as_bytes()).expect("memory takes every write");
        message.finalize().expect("a signature");
        signed
    }

    /// Signs a text by a signature of its own, in armor, as apt wants it.
    pub fn detach_sign(&self, text: &str) -> Vec<u8> {
        let mut signature = Vec::new();
        let armorer = Armorer::new(Message::new(&mut signature)).kind(Kind::Signature).build().expect("a message");
        let signer = stream::Signer::new(armorer, self.pair()).expect("a key that signs");
        let mut message = signer.detached().build().expect("a message");
        message.write_all(text.as_bytes()).expect("memory takes every write");
        message.finalize().expect("a signature");
        signature
    }

    fn pair(&self) -> KeyPair {
        let policy = StandardPolicy::new();
        let key = self.cert.keys().secret().with_policy(&policy, None).for_signing().next().expect("a signing subkey");
        key.key().clone().into_keypair().expect("an unencrypted key")
    }
}

/// Where the signature of a suite's Release lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signature {
    /// In the text: `InRelease`, and nothing else.
    Inline,
    /// Beside it: `Release` and `Release.gpg`, and no `InRelease`.
    Beside,
}

/// How a Packages file lies on the mirror.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// As it is.
    Plain,
    /// gzip.
    Gz,
    /// xz.
    Xz,
}

impl Form {
    fn file_name(self) -> &'static str {
        match self {
            Self::Plain => "Packages",
            Self::Gz => "Packages.gz",
            Self::Xz => "Packages.xz",
        }
    }

    fn encode(self, text: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => text.to_vec(),
            Self::Gz => {
                let mut packer = GzEncoder::new(Vec::new(), Compression::best());
                packer.write_all(text).and_then(|()| packer.finish()).expect("memory takes every write")
            }
            Self::Xz => {
                let mut packer = XzEncoder::new(Vec::new(), 6);
                packer.write_all(text).and_then(|()| packer.finish()).expect("memory takes every write")
            }
        }
    }
}

/// One suite, before it is published.
pub struct Suite {
    /// Its folder below `dists`, its Suite and its Codename.
    pub name: String,
    /// Its Date and what the mirror gives as Last-Modified, in seconds since 1970.
    pub date: u64,
    /// The forms of Packages that the mirror has; the plain one is listed in any case, as Debian does.
    pub forms: Vec<Form>,
    /// Whether indexes are also found by their hash.
    pub by_hash: bool,
    /// How it is signed.
    pub signature: Signature,
    /// What it holds.
    pub packages: Vec<Package>,
    /// Further files that its Release lists, by their paths below the suite.
    pub others: Vec<(String, Vec<u8>)>,
}

impl Suite {
    /// Writes the suite below `debian`, over what was there.
    pub fn publish(&self, debian: &Path, signer: &Signer) {
        let text = self.packages_text();
        let index = index_folder(debian, &self.name);
        fs::create_dir_all(index.join("by-hash/SHA256")).expect("the scratch directory is ours");
        let published = UNIX_EPOCH + Duration::from_secs(self.date);
        let mut listed = String::new();
        for form in [Form::Plain, Form::Gz, Form::Xz] {
            let is_there = self.forms.contains(&form);
            if !is_there && form != Form::Plain {
                continue;
            }
            let bytes = form.encode(text.as_bytes());
            let hash = ContentHash::of(&bytes);
            if is_there {
                write(&index.join(form.file_name()), &bytes);
                if self.by_hash {
                    write(&index.join("by-hash/SHA256").join(hash.to_string()), &bytes);
                }
            }
            writeln!(listed, " {hash} {:>16} main/binary-amd64/{}", bytes.len(), form.file_name()).expect("a string");
        }
        for (path, bytes) in &self.others {
            let file = debian.join("dists").join(&self.name).join(path);
            fs::create_dir_all(file.parent().expect("a folder")).expect("the scratch directory is ours");
            write(&file, bytes);
            writeln!(listed, " {} {:>16} {path}", ContentHash::of(bytes), bytes.len()).expect("a string");
        }
        let release = format!(
            "Origin: Huddle\nLabel: Huddle\nSuite: {name}\nCodename: {name}\nDate: {date}\nAcquire-By-Hash: {by_hash}\n\
             No-Support-for-Architecture-all: Packages\nArchitectures: all amd64\nComponents: main\n\
             Description: packages to test with\nSHA256:\n{listed}",
            name = self.name,
            date = http_date(published).replace("GMT", "UTC"),
            by_hash = if self.by_hash { "yes" } else { "no" },
        );
        let dated = |name: &str, bytes: &[u8]| {
            let path = debian.join("dists").join(&self.name).join(name);
            write(&path, bytes);
            File::options().append(true).open(path).and_then(|file| file.set_modified(published)).expect("our file");
        };
        match self.signature {
            Signature::Inline => dated("InRelease", &signer.clear_sign(&release)),
            Signature::Beside => {
                dated("Release", release.as_bytes());
                dated("Release.gpg", &signer.detach_sign(&release));
            }
        }
    }

    fn packages_text(&self) -> String {
        let mut text = String::new();
        for package in &self.packages {
            writeln!(
                text,
                "Package: {}\nVersion: {}\nArchitecture: all\nMaintainer: A Penguin <penguin@example.org>\n\
                 Priority: optional\nSection: misc\nFilename: {}\nSize: {}\nSHA256: {}\nDescription: bytes to carry\n \
                 Random, so that nothing shrinks them.\n",
                package.name, package.version, package.path, package.size, package.sha256
            )
            .expect("a string");
        }
        text
    }
}

/// Changes one digit of a hash inside the signed text of an InRelease.
pub fn tamper_with_release(debian: &Path, suite: &str) {
    let path = release_file(debian, suite);
    let text = fs::read_to_string(&path).expect("a published suite");
    let at = text.find("SHA256:\n ").expect("a Release lists hashes") + "SHA256:\n ".len();
    let other = if text[at..].starts_with('0') { "1" } else { "0" };
    write(&path, [&text[..at], other, &text[at + 1..]].concat().as_bytes());
}

/// Puts a signature of the same key for another text beside a Release.
pub fn tamper_with_signature(debian: &Path, suite: &str, signer: &Signer) {
    let folder = debian.join("dists").join(suite);
    let text = fs::read_to_string(folder.join("Release")).expect("a suite that is signed beside its Release");
    write(&folder.join("Release.gpg"), &signer.detach_sign(&text.replace("Label: Huddle", "Label: Penguin")));
}

/// Promises another hash for a package in every form of Packages, under the old Release.
pub fn tamper_with_packages(debian: &Path, suite: &str, victim: &Package) {
    let index = index_folder(debian, suite);
    let honest = fs::read_to_string(index.join("Packages")).expect("a published suite with a plain Packages");
    let forged_hash = ContentHash::of(b"what the forger would like to be installed").to_string();
    let forged = honest.replace(&victim.sha256, &forged_hash);
    assert_ne!(honest, forged, "the victim is in the suite");
    for form in [Form::Plain, Form::Gz, Form::Xz] {
        let name = ContentHash::of(&form.encode(honest.as_bytes())).to_string();
        let bytes = form.encode(forged.as_bytes());
        write(&index.join(form.file_name()), &bytes);
        write(&index.join("by-hash/SHA256").join(name), &bytes);
    }
}

/// Where a suite's signed Release lies.
pub fn release_file(debian: &Path, suite: &str) -> PathBuf {
    debian.join("dists").join(suite).join("InRelease")
}

fn index_folder(debian: &Path, suite: &str) -> PathBuf {
    debian.join("dists").join(suite).join("main/binary-amd64")
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("the scratch directory is ours");
}
