//! Packages of wanted sizes, signed, and a mirror that has them.

use tempfile::TempDir;

use super::{
    archive::{FIRST_DATE, Package, SUITE},
    deb::Size,
    mirror::Mirror,
    scratch,
    suite::{Form, Signature, Signer, Suite},
};

/// A small archive of its own. Its files go with it.
pub struct Depot {
    /// What it has.
    pub packages: Vec<Package>,
    /// Who signs it.
    pub signer: Signer,
    dir: TempDir,
}

impl Depot {
    /// One package of each of these sizes in bytes.
    pub fn of(sizes: impl IntoIterator<Item = u64>) -> Self {
        let dir = scratch("depot-");
        let debian = dir.path().join("debian");
        let package = |(number, size): (u64, u64)| {
            let name = format!("depot-{number}");
            Package::create(&debian, &format!("pool/main/d/{name}"), &name, "1.0", Size::Whole(size), number)
        };
        let packages: Vec<_> = (1..).zip(sizes).map(package).collect();
        let signer = Signer::new("Huddle Depot");
        let suite = Suite {
            name: SUITE.to_owned(),
            date: FIRST_DATE,
            forms: vec![Form::Plain],
            by_hash: false,
            signature: Signature::Inline,
            packages: packages.clone(),
            others: Vec::new(),
        };
        suite.publish(&debian, &signer);
        Self { packages, signer, dir }
    }

    /// One package of that size.
    pub fn one(size: u64) -> Self {
        Self::of([size])
    }

    /// The first package.
    pub fn package(&self) -> &Package {
        self.packages.first().expect("a depot is not empty")
    }

    /// All packages.
    pub fn all(&self) -> Vec<&Package> {
        self.packages.iter().collect()
    }

    /// A mirror of it, on a network of its own.
    pub fn mirror(&self) -> Mirror {
        Mirror::start(self.dir.path())
    }
}
