//! Entry points for fuzzing: each takes any bytes and breaks off when a reader breaks what it promises.

use std::{
    io::Read,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::hash::{ContentHash, Expected};

use super::{
    Compression, Fingerprint, IndexKind, Place, Proxies, Repository, Signer, Sources, Surroundings, Validity, Vouched,
    clearsign::{self, is_plain},
    deb822::{BadText, Comments, Paragraphs},
    decompress, entries, mirror_lists, path,
    pins::{MAX_PICKS, Pins},
    release,
    signature::MAX_BLOCK,
};

/// The last second of the year 9999, behind which no Release can be dated.
const LATEST: Duration = Duration::from_secs(253_402_300_799);

/// Paragraphs of fields.
pub fn deb822(bytes: &[u8]) {
    for comments in [Comments::Skipped, Comments::Refused] {
        let mut paragraphs = Paragraphs::new(bytes, comments);
        let mut last = 0;
        loop {
            let line = match paragraphs.next_paragraph() {
                Ok(None) => break,
                Ok(Some(paragraph)) => {
                    for name in ["Package", "a", "SHA256"] {
                        let first = paragraph.line_of(name);
                        let numbers = paragraph.lines(name).into_iter().flatten().map(|(number, _)| number);
                        assert!(numbers.is_sorted() && first >= paragraph.line());
                    }
                    paragraph.line()
                }
                Err(BadText::Paragraph { line, .. } | BadText::TooLong { line, .. } | BadText::Read { line, .. }) => {
                    line
                }
            };
            assert!(last < line, "paragraphs come in their order");
            last = line;
        }
        assert!(paragraphs.next_paragraph().is_ok_and(|next| next.is_none()), "nothing comes behind the end");
        assert!(last <= bytes.len() as u64);
    }
}

/// The framing of an InRelease.
pub fn clear_signed(bytes: &[u8]) {
    if let Ok(message) = clearsign::split(bytes) {
        assert!(message.text.len() + message.signatures.len() <= bytes.len());
        assert!(is_plain(&message.text) && is_plain(&message.signatures));
        assert!(message.signatures.len() <= MAX_BLOCK + 64, "one short line more at most");
    }
}

/// The text of a Release.
pub fn release(bytes: &[u8]) {
    let fingerprint: Fingerprint = "00".repeat(20).parse().expect("as many digits as a fingerprint has");
    let place = Place {
        repository: Repository::restore("m.example.org"),
        suite_dir: "dists/sid".to_owned(),
        is_named: false,
        shareable: true,
        validity: Validity::default(),
    };
    let signer = Signer { fingerprint: fingerprint.clone(), key: fingerprint, origin: Arc::from("") };
    let Ok(release) = release::read::read(bytes, place, signer) else { return };
    assert!(release.date() >= SystemTime::UNIX_EPOCH);
    assert!(release.aliases().count() <= 2 * release.members().len());
    let mut pins = Pins::default();
    pins.set(release.pin());
    let picks = pins.picks(release.repository(), release.suite_dir(), SystemTime::UNIX_EPOCH);
    assert!(picks.len() <= MAX_PICKS && (picks.is_empty() || release.valid_until().is_some()));
    for file in release.members().chain(release.aliases()).take(100) {
        assert!(is_inside(&file));
        assert_eq!(release.vouch(file.path()).as_ref().map(Vouched::expected), Some(file.expected()));
    }
}

/// Packages.
pub fn packages(bytes: &[u8]) {
    index(IndexKind::Packages, bytes);
}

/// Sources.
pub fn source_packages(bytes: &[u8]) {
    index(IndexKind::Sources, bytes);
}

/// The Index of patches.
pub fn patches(bytes: &[u8]) {
    index(IndexKind::Patches, bytes);
}

/// A file of apt's sources, in both styles.
pub fn sources(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let listen = vec![(Ipv4Addr::LOCALHOST, 9977).into()];
    let proxies = Proxies { listen, ..Proxies::default() };
    let lists = mirror_lists(text).into_iter().map(|path| (path, text.to_owned())).take(2).collect();
    let around = Surroundings { proxies, lists, ..Surroundings::default() };
    for name in ["a.list", "a.sources"] {
        let (sources, bad) = Sources::parse([(name, text)], &around);
        assert!(bad.len() <= text.len());
        assert!(bad.iter().all(|bad| bad.line > 0 && bad.line <= text.len() as u64));
        for source in sources.iter().take(20) {
            let Ok(release) = source.base.sibling("InRelease") else { continue };
            assert!(sources.names(&release));
            if let Some((repository, _)) = sources.place(&release) {
                assert!(repository.path_of(&release).is_some());
            }
            sources.signing(&release);
            let latest = SystemTime::UNIX_EPOCH + LATEST;
            assert!(sources.validity(&release).end(latest, None).is_none_or(|end| end > latest));
            assert!(!source.validity.is_ahead(latest, latest));
        }
    }
}

/// Packed bytes behind one that says how they are packed.
pub fn packed(bytes: &[u8]) {
    const LIMIT: u64 = 1 << 20;
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let compression = Compression::ALL[usize::from(*kind) % Compression::ALL.len()];
    let mut unpacked = Vec::new();
    if let Ok(mut plain) = decompress(compression, bytes, LIMIT) {
        // What came before an error counts as well.
        let _ended = plain.read_to_end(&mut unpacked);
    }
    assert!(unpacked.len() as u64 <= LIMIT);
}

fn index(kind: IndexKind, bytes: &[u8]) {
    let expected = Expected { hash: ContentHash::of(b""), size: 0 };
    let repository = Repository::restore("m.example.org");
    let index = Vouched::new(expected, repository.clone(), "main/Packages.diff/Index".to_owned(), true);
    let mut count = 0;
    for entry in entries(kind, &index, bytes).flatten() {
        assert!(is_inside(&entry.file) && *entry.file.repository() == repository);
        count += 1;
    }
    assert!(count * 64 <= bytes.len(), "each has a digest");
}

fn is_inside(file: &Vouched) -> bool {
    path::normalise_file(file.path()).is_ok_and(|path| path == file.path())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::archive::testing::with_changes;

    /// A reader, and text that it likes.
    type Target = (fn(&[u8]), &'static [u8]);

    const TARGETS: [Target; 11] = [
        (deb822, include_bytes!("../../tests/fuzz/seeds/deb822/folded")),
        (clear_signed, include_bytes!("../../tests/fuzz/seeds/clear_signed/short")),
        (release, include_bytes!("../../tests/fuzz/seeds/release/short")),
        (packages, include_bytes!("../../tests/fuzz/seeds/packages/two")),
        (source_packages, include_bytes!("../../tests/fuzz/seeds/source_packages/two")),
        (patches, include_bytes!("../../tests/fuzz/seeds/patches/two")),
        (sources, include_bytes!("../../tests/fuzz/seeds/sources/one-line")),
        (sources, include_bytes!("../../tests/fuzz/seeds/sources/stanza")),
        (release, include_bytes!("../../tests/fuzz/seeds/release/pinned")),
        (sources, include_bytes!("../../tests/fuzz/seeds/sources/options")),
        (packed, include_bytes!("../../tests/fuzz/seeds/packed/lz4")),
    ];

    #[test]
    fn the_seeds_are_taken() {
        for (target, seed) in TARGETS {
            target(seed);
        }
        let index = Vouched::restore(
            Expected { hash: ContentHash::of(b""), size: 0 },
            Repository::restore("m.example.org"),
            "Packages.diff/Index".to_owned(),
            true,
        );
        for (kind, at) in [(IndexKind::Packages, 3), (IndexKind::Sources, 4), (IndexKind::Patches, 5)] {
            assert_eq!(entries(kind, &index, TARGETS[at].1).map(Result::unwrap).count(), 2, "{kind:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(
            prop_oneof![any::<u8>(), Just(b'\n'), Just(b' '), Just(b':'), Just(b'-'), b'a'..b'd'], 0..300,
        )) {
            TARGETS.iter().for_each(|(target, _)| target(&bytes));
        }

        #[test]
        fn a_seed_with_any_changes_is_read_or_refused(
            (target, bytes) in proptest::sample::select(&TARGETS[..]).prop_flat_map(|(target, seed)| {
                (Just(target), with_changes(seed, b"\n \t\r:-/.\0\\#["))
            }),
        ) {
            target(&bytes);
        }
    }
}
