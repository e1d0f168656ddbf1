//! The whole way through this station. What becomes of every kind of index in every packing and layout is tested where
//! it is learned, in `flow`.

use std::io::{self, Read};

use crate::hash::{ContentHash, Expected};

use super::{
    deb822::BadText,
    testing::{DAY, Key, clear_signed, now, pack, place},
    *,
};

fn verify(source: &str, at: &str, text: &str, key: &Key) -> Verdict {
    let (sources, bad) = Sources::parse([("a.list", &*format!("deb {source}\n"))], &Surroundings::default());
    assert_eq!(bad, []);
    let (trust, bad) = Trust::new(sources, key.ring(), []);
    assert_eq!(bad, []);
    trust.verify_inrelease(&Location::parse(at).unwrap(), clear_signed(text, &[key]).as_bytes(), true, now())
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
        assert!(release.vouch(&packages).unwrap().expected().size < MAX_UNPACKED);
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
