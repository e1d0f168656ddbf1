//! The signed archive that the tests share, built once a run from a seed.
//!
//! ```text
//!   <root>/debian/pool/main/h/hello/hello_2.10+huddle~1_all.deb ...
//!   <root>/debian/dists/huddle/InRelease, main/binary-amd64/{Packages{,.gz,.xz},by-hash/SHA256/...}
//!          dists/gz, dists/plain                     the same, in one compression only, without by-hash
//! ```

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use tempfile::TempDir;

use super::{
    PIECE,
    deb::{self, Size},
    scratch, scratch_of_the_run,
    suite::{Form, Signature, Signer, Suite},
};

/// Every byte of the packages follows from it.
const SEED: u64 = 0x68_75_64_64_6c_65;

/// The suite that has every package in every form.
pub const SUITE: &str = "huddle";

/// When the first version of every suite was published, in seconds since 1970.
pub const FIRST_DATE: u64 = 1_740_830_400;

/// When a later version was.
pub const LATER_DATE: u64 = FIRST_DATE + 86_400;

/// A package of the archive.
#[derive(Clone)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where its file lies below the archive's base: `pool/...deb`.
    pub path: String,
    /// The file itself.
    pub file: PathBuf,
    /// Length of the file in bytes.
    pub size: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// SHA-256 of what it installs at `usr/share/<name>/data`.
    pub content_sha256: String,
}

impl Package {
    /// Writes a package's file below a directory named `debian`.
    pub fn create(debian: &Path, pool: &str, name: &str, version: &str, size: Size, seed: u64) -> Self {
        let path = format!("{pool}/{name}_{version}_all.deb");
        let file = debian.join(&path);
        fs::create_dir_all(file.parent().expect("a pool folder")).expect("the scratch directory is ours");
        let control = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: A Penguin <penguin@example.org>\n\
             Section: misc\nPriority: optional\nDescription: bytes to carry\n Random, so that nothing shrinks them.\n"
        );
        let written = deb::write(&file, &control, name, size, seed);
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            path,
            file,
            size: written.size,
            sha256: written.sha256,
            content_sha256: written.content_sha256,
        }
    }

    /// Number of its pieces.
    pub fn pieces(&self) -> u64 {
        self.size.div_ceil(PIECE)
    }

    /// The bytes of its file.
    pub fn bytes(&self) -> Vec<u8> {
        fs::read(&self.file).expect("the archive lasts as long as the run")
    }

    /// The file's path in a URL below the mirror's root.
    pub fn url_path(&self) -> String {
        format!("/debian/{}", self.path)
    }
}

/// The archive of the run.
pub struct Archive {
    root: PathBuf,
    packages: Vec<Package>,
    signer: Signer,
}

impl Archive {
    /// The one of this run.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Archive> = LazyLock::new(Archive::build);
        &SHARED
    }

    fn build() -> Self {
        let root = scratch_of_the_run("archive-");
        let debian = root.join("debian");
        let wanted = [
            ("hello", "2.10+huddle~1", Size::Whole(30_000)),
            ("huddle-1", "1.0", Size::Whole(400_001)),
            ("huddle-2", "1.0", Size::Whole(PIECE + 77_777)),
            ("huddle-4", "1.0", Size::Whole(4 * PIECE - 1)),
            ("huddle-5", "1.0", Size::Whole(4 * PIECE + 64)),
            ("huddle-69", "1.0", Size::Whole(69 * PIECE)),
            ("huddle-70", "1.0", Size::Whole(69 * PIECE + 63)),
            ("huddle-71", "1.0", Size::Whole(70 * PIECE + 65)),
            ("huddle-200", "1.0", Size::Whole(199 * PIECE + 12_345)),
            ("huddle-empty", "1.0", Size::NoData),
            ("huddle-exact", "1.0", Size::Whole(PIECE)),
            ("huddle-over", "1.0", Size::Whole(PIECE + 1)),
        ];
        let packages: Vec<_> = wanted
            .into_iter()
            .zip(SEED..)
            .map(|((name, version, size), seed)| {
                Package::create(&debian, &format!("pool/main/h/{name}"), name, version, size, seed)
            })
            .collect();
        let archive = Self { root, packages, signer: Signer::new("Huddle Test Archive") };
        archive.suite(SUITE).publish(&debian, &archive.signer);
        let hello = vec![archive.package("hello").clone(), archive.package("huddle-2").clone()];
        for (name, form) in [("gz", Form::Gz), ("plain", Form::Plain), ("xz", Form::Xz)] {
            Suite { forms: vec![form], by_hash: false, packages: hello.clone(), ..archive.suite(name) }
                .publish(&debian, &archive.signer);
        }
        archive
    }

    /// What the mirror serves: the folder that holds `debian/`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The key that signs it.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// All packages.
    pub fn packages(&self) -> &[Package] {
        &self.packages
    }

    /// The package of that name.
    pub fn package(&self, name: &str) -> &Package {
        self.packages.iter().find(|package| package.name == name).expect("a package of the archive")
    }

    /// Bytes of all package files.
    pub fn pool_size(&self) -> u64 {
        self.packages.iter().map(|package| package.size).sum()
    }

    /// A suite of all packages in all forms, not yet published.
    pub fn suite(&self, name: &str) -> Suite {
        Suite {
            name: name.to_owned(),
            date: FIRST_DATE,
            forms: vec![Form::Plain, Form::Gz, Form::Xz],
            by_hash: true,
            signature: Signature::Inline,
            packages: self.packages.clone(),
            others: Vec::new(),
        }
    }

    /// Another archive with the same pool and a `dists` of its own, to publish in and to tamper with.
    pub fn branch(&self) -> TempDir {
        let branch = scratch("branch-");
        let debian = branch.path().join("debian");
        fs::create_dir(&debian).expect("the scratch directory is ours");
        symlink(self.root.join("debian/pool"), debian.join("pool")).expect("the scratch directory is ours");
        branch
    }
}
