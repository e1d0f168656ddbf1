//! The whole way through this station: from a signed Release to the entries of the indexes that it lists.

use std::io::{self, Read};

use crate::hash::{ContentHash, Expected, Hasher};

use super::{
    deb822::BadText,
    testing::{DAY, Key, clear_signed, now, pack, place},
    *,
};

/// What lists files: its path below the suite, its text, and the files that it lists, below the repository where they
/// begin with `pool`, else beside the index.
fn indexes() -> [(&'static str, IndexKind, String, Vec<&'static str>); 4] {
    let line = |name: &str| format!("{} {} {name}", ContentHash::of(name.as_bytes()), name.len());
    let packages: String = ["hello", "bye"]
        .map(|name| {
            let (hash, file) = (ContentHash::of(name.as_bytes()), format!("./pool/{name}_1_all.deb"));
            format!("Package: {name}\nVersion: 1\nArchitecture: all\nFilename: {file}\nSize: 5\nSHA256: {hash}\n\n")
        })
        .concat();
    let sources = format!(
        "Package: hello\nVersion: 1\nDirectory: pool/h\nChecksums-Sha256:\n {}\n {}\n",
        line("hello_1.dsc"),
        line("hello_1.tar.xz")
    );
    let patches = format!("SHA256-Current: {}\nSHA256-Download:\n {}\n", line(""), line("T-2-F-1.gz"));
    [
        (
            "main/binary-amd64/Packages",
            IndexKind::Packages,
            packages,
            vec!["pool/hello_1_all.deb", "pool/bye_1_all.deb"],
        ),
        ("main/source/Sources", IndexKind::Sources, sources, vec!["pool/h/hello_1.dsc", "pool/h/hello_1.tar.xz"]),
        ("main/binary-amd64/Packages.diff/Index", IndexKind::Patches, patches.clone() + "X: 1\n", vec!["T-2-F-1.gz"]),
        ("main/source/Sources.diff/Index", IndexKind::Patches, patches, vec!["T-2-F-1.gz"]),
    ]
}

/// What lists none.
const LEAVES: [&str; 8] = [
    "main/i18n/Translation-en",
    "main/Contents-amd64",
    "main/dep11/Components-amd64.yml",
    "main/dep11/icons-64x64.tar",
    "main/cnf/Commands-amd64",
    "main/installer-amd64/current/images/SHA256SUMS",
    "main/binary-amd64/Release",
    "main/debian-installer/binary-amd64/Translations",
];

/// An entry of apt's sources, where its InRelease lies, and the folder of the suite below the repository. A flat
/// repository has no folders below that of its suite.
const LAYOUTS: [(&str, &str, &str); 3] = [
    ("http://m.example.org/debian sid main", "http://m.example.org/debian/dists/sid/InRelease", "dists/sid"),
    ("http://m.example.org/flat ./", "http://m.example.org/flat/./InRelease", ""),
    ("http://m.example.org/flat sub/dir/", "https://m.example.org/flat/sub/dir/InRelease", "sub/dir"),
];

/// Names for bytes, made of their SHA-256: nothing here believes them.
fn md5_name(bytes: &[u8]) -> String {
    ContentHash::of(bytes).to_string()[..32].to_owned()
}

fn sha512_name(bytes: &[u8]) -> String {
    ContentHash::of(bytes).to_string().repeat(2)
}

/// The Release of some files, by their paths below the suite.
fn release_text(files: &[(String, Vec<u8>)]) -> String {
    let section = |name: &str, digest: &dyn Fn(&[u8]) -> String| {
        let lines = files.iter().map(|(path, bytes)| format!(" {} {:>9} {path}\n", digest(bytes), bytes.len()));
        format!("{name}:\n{}", lines.collect::<String>())
    };
    format!(
        "Origin: Test\nSuite: unstable\nCodename: sid\nDate: Sat, 11 Jul 2026 08:00:00 UTC\nAcquire-By-Hash: yes\n{}{}{}",
        section("MD5Sum", &md5_name),
        section("SHA256", &|bytes| ContentHash::of(bytes).to_string()),
        section("SHA512", &sha512_name),
    )
}

fn verify(source: &str, at: &str, text: &str, key: &Key) -> Verdict {
    let (sources, bad) = Sources::parse([("a.list", &*format!("deb {source}\n"))], &Surroundings::default());
    assert_eq!(bad, []);
    let (trust, bad) = Trust::new(sources, key.ring(), []);
    assert_eq!(bad, []);
    trust.verify_inrelease(&Location::parse(at).unwrap(), clear_signed(text, &[key]).as_bytes(), true, now())
}

/// The paths that an index of these bytes lists, read as the path that it was asked for by leads to it.
fn listed(release: &Release, path: &str, kind: IndexKind, bytes: &[u8], limit: u64) -> Result<Vec<String>, BadText> {
    let asked = release.vouch(path).expect("listed");
    let plain = match by_hash(path) {
        Some(_) => release.plain_paths(path).remove(0),
        None => path.to_owned(),
    };
    let (found, compression) = index_kind(&plain).expect("an index");
    assert_eq!(found, kind, "{path}");
    let unpacked = decompress(compression, bytes, limit).unwrap();
    entries(kind, &asked, unpacked).map(|entry| Ok(entry?.file.path().to_owned())).collect()
}

#[test]
fn every_kind_in_every_packing_is_read_from_every_layout_by_every_name() {
    let key = Key::new();
    for (source, at, suite_dir) in LAYOUTS {
        let is_flat = !suite_dir.starts_with("dists/");
        let place = |path: &str| match is_flat {
            true => path.replace("main/binary-amd64/", "").replace("main/source/", ""),
            false => path.to_owned(),
        };
        let indexes = indexes();
        let plain = indexes.iter().map(|(path, _, text, _)| (*path, text.clone()));
        let plain = plain.chain(LEAVES.map(|path| (path, format!("the text of {path}"))));
        let files: Vec<_> = plain
            .flat_map(|(path, text)| {
                let path = place(path);
                Compression::ALL.map(|packing| (format!("{path}{}", packing.suffix()), pack(packing, text.as_bytes())))
            })
            .collect();
        let release = verify(source, at, &release_text(&files), &key).verified().unwrap();
        assert_eq!((release.members().len(), release.suite_dir()), (files.len(), suite_dir));

        for (path, bytes) in &files {
            let whole = path::join(suite_dir, path);
            let folder = path::split(&whole).0;
            let sha256 = ContentHash::of(bytes);
            let paths = [
                whole.clone(),
                Digest::Sha256(sha256).path_in(folder),
                Digest::Sha512(sha512_name(bytes).parse().unwrap()).path_in(folder),
                Digest::Md5(md5_name(bytes).parse().unwrap()).path_in(folder),
            ];
            let index = indexes.iter().find(|(index, ..)| place(index) == Compression::of(path).0);
            for asked in &paths {
                let vouched = release.vouch(asked).unwrap();
                assert_eq!(*vouched.expected(), Expected { hash: sha256, size: bytes.len() as u64 }, "{asked}");
                let mut hasher = Hasher::new(vouched.expected());
                hasher.update(bytes);
                hasher.finish().unwrap();
                let Some((_, kind, text, want)) = index else {
                    assert_eq!(index_kind(&whole), None, "{whole}");
                    continue;
                };
                let size = release.unpacked_size(asked).unwrap();
                assert_eq!(size, text.len() as u64, "{asked}");
                let beside = |file: &&str| match file.starts_with("pool") {
                    true => (*file).to_owned(),
                    false => path::join(folder, file),
                };
                let want: Vec<_> = want.iter().map(beside).collect();
                assert_eq!(listed(&release, asked, *kind, bytes, size).unwrap(), want, "{asked}");
                let one_too_few = listed(&release, asked, *kind, bytes, size - 1).unwrap_err();
                assert!(matches!(one_too_few, BadText::Read { .. }), "{asked}: {one_too_few}");
            }
            let aliases = release.aliases().filter(|alias| paths.iter().any(|path| path == alias.path()));
            assert_eq!(aliases.count(), 2, "{whole}");
        }
    }
}

/// Releases as the archives publish them, in every field, with some of the files that they list. Suite and codename,
/// how many indexes with entries, and whether it says until when it is valid.
const PUBLISHED: [(&str, &str, &str, usize, bool); 4] = [
    (include_str!("../../tests/data/debian-12.Release"), "oldstable", "bookworm", 24, false),
    (include_str!("../../tests/data/debian-13.Release"), "stable", "trixie", 12, false),
    (include_str!("../../tests/data/debian-sid.Release"), "unstable", "sid", 15, true),
    (include_str!("../../tests/data/ubuntu-24.04.Release"), "noble", "noble", 11, false),
];

#[test]
fn the_releases_of_debian_and_ubuntu_are_learned_from() {
    let key = Key::new();
    for (text, suite, codename, indexes, has_end) in PUBLISHED {
        let message = clear_signed(text, &[&key]);
        let check = |dir: &str, now| {
            let place = Place { suite_dir: format!("dists/{dir}"), ..place() };
            verify_inrelease(message.as_bytes(), place, &key.ring().into(), now)
        };
        for name in [suite, codename] {
            assert!(check(name, now()).verified().is_some(), "{name}");
        }
        for name in ["bullseye", "trixie-updates", "noble-security", "experimental"] {
            assert!(matches!(check(name, now()), Verdict::Bad(BadRelease::WrongSuite { .. })), "{codename} as {name}");
        }
        assert_eq!(check(codename, now() + 8 * DAY).verified().is_none(), has_end, "{codename}");

        let release = check(codename, now()).verified().unwrap();
        assert_eq!((release.suite(), release.codename()), (Some(suite), Some(codename)));
        assert!(release.has_by_hash());
        assert_eq!(release.valid_until().is_some(), has_end, "{codename}");
        let found = release.members().filter(|member| index_kind(member.path()).is_some());
        assert_eq!(found.count(), indexes, "{codename}");
        let names: std::collections::BTreeSet<_> = release.aliases().map(|alias| alias.path().to_owned()).collect();
        for member in release.members() {
            assert_eq!(release.vouch(member.path()).as_ref(), Some(&member));
            let by_hash = Digest::Sha256(member.expected().hash).path_in(path::split(member.path()).0);
            assert_eq!(release.vouch(&by_hash).map(|vouched| *vouched.expected()), Some(*member.expected()));
        }
        assert!(names.len() > indexes && names.iter().all(|name| name.contains("/by-hash/MD5Sum/")), "{names:?}");
        let packages = format!("dists/{codename}/main/binary-amd64/Packages");
        let size = release.vouch(&packages).unwrap().expected().size;
        assert_eq!(release.unpacked_size(&format!("{packages}.xz")), Some(size));
        assert!(size < MAX_UNPACKED);
    }
}

#[test]
fn a_release_of_one_published_suite_is_refused_in_the_place_of_another() {
    let key = Key::new();
    for (text, _, codename, ..) in PUBLISHED {
        for (_, suite, other, ..) in PUBLISHED.iter().filter(|(_, _, other, ..)| *other != codename) {
            for name in [suite, other] {
                let (source, at) = (
                    format!("http://m.example.org/debian {name} main"),
                    format!("http://m.example.org/debian/dists/{name}/InRelease"),
                );
                let verdict = verify(&source, &at, text, &key);
                assert!(matches!(verdict, Verdict::Bad(BadRelease::WrongSuite { .. })), "{codename} as {name}");
            }
        }
    }
}

#[test]
fn a_bomb_in_an_index_ends_its_entries() {
    let zeros = io::repeat(b'\n').take(8 << 20);
    let mut text = Vec::new();
    io::BufReader::new(zeros).read_to_end(&mut text).unwrap();
    let index = Vouched::restore(
        Expected { hash: ContentHash::of(b""), size: 0 },
        Repository::restore("m.example.org"),
        "Packages".to_owned(),
        true,
    );
    for compression in Compression::ALL {
        for kind in [IndexKind::Packages, IndexKind::Sources, IndexKind::Patches] {
            let packed = pack(compression, &text);
            let plain = decompress(compression, &packed[..], 1 << 20).unwrap();
            let all: Vec<_> = entries(kind, &index, plain).collect();
            assert!(matches!(&all[..], [Err(BadText::Read { .. })]), "{compression:?} {kind:?}");
        }
    }
}
