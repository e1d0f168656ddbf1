use sequoia_openpgp::{armor::Kind, types::HashAlgorithm};

use crate::archive::{
    Keyring, Pick,
    testing::{DAY, Key, armored, clear_signed, clear_signed_at, date_text, now, place},
};

use crate::{archive::date, hash::ContentHash};

use super::*;

fn hash(text: &str) -> ContentHash {
    ContentHash::of(text.as_bytes())
}

fn text() -> String {
    format!(
        "Origin: Debian\nSuite: stable\nCodename: bookworm\nDate: Fri, 10 Jul 2026 09:12:31 UTC\n\
         Valid-Until: Fri, 17 Jul 2026 09:12:31 UTC\nAcquire-By-Hash: yes\nMD5Sum:\n d41d8cd98f00b204e9800998ecf8427e 9 main/md5-only\n\
         SHA256:\n {} 100 main/binary-amd64/Packages\n {} 20 main/binary-amd64/Packages.xz\n {} 0 main/a\n {} 0 main/b\n {} 1 ../../etc/passwd\n",
        hash("plain"),
        hash("xz"),
        hash(""),
        hash(""),
        hash("evil"),
    )
}

fn verify(message: &str, ring: Keyring) -> Verdict {
    verify_inrelease(message.as_bytes(), place(), &ring.into(), now())
}

/// The Release of a text that is signed as it should be.
fn signed(text: &str) -> Verdict {
    let key = Key::new();
    verify(&clear_signed(text, &[&key]), key.ring())
}

fn bad_signature(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Bad(BadRelease::Signature(_)))
}

fn bad_framing(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Bad(BadRelease::Framing(_)))
}

#[test]
fn a_signed_release_vouches_for_its_members() {
    let key = Key::new();
    let release = verify(&clear_signed(&text(), &[&key]), key.ring()).verified().unwrap();
    assert_eq!(release.signer().fingerprint.to_string(), key.fingerprint());
    assert_eq!(release.signer().key.to_string(), key.subkey_fingerprint());
    assert_eq!(&*release.signer().origin, "test.gpg");
    assert_eq!((release.suite(), release.codename()), (Some("stable"), Some("bookworm")));
    assert_eq!(Some(release.date()), date::parse("Fri, 10 Jul 2026 09:12:31 UTC"));
    assert_eq!(release.valid_until(), date::parse("Fri, 17 Jul 2026 09:12:31 UTC"));
    assert!(release.has_by_hash() && release.is_shareable());
    let paths: Vec<_> = release.members().map(|member| member.path().to_owned()).collect();
    let folder = "dists/bookworm/main";
    let want = ["a", "b", "binary-amd64/Packages", "binary-amd64/Packages.xz"].map(|name| format!("{folder}/{name}"));
    assert_eq!(paths, want);
    let xz = release.vouch("dists/bookworm/main/binary-amd64/Packages.xz").unwrap();
    assert_eq!(*xz.expected(), Expected { hash: hash("xz"), size: 20 });
    assert_eq!(xz.repository().as_str(), "m.example.org/debian");
    assert!(xz.shareable().is_some());
    for unknown in ["main/a", "dists/bookworm/main/md5-only", "dists/bookwormmain/a", "etc/passwd", "dists/bookworm"] {
        assert_eq!(release.vouch(unknown), None, "{unknown}");
    }
}

#[test]
fn by_hash_paths_stand_for_the_members_of_their_folder() {
    let release = signed(&text()).verified().unwrap();
    let by_hash = |folder: &str, of: &str| format!("dists/bookworm/{folder}/by-hash/SHA256/{}", hash(of));
    let path = by_hash("main/binary-amd64", "xz");
    let vouched = release.vouch(&path).unwrap();
    assert_eq!((vouched.path(), vouched.expected().size), (&*path, 20));
    assert_eq!(release.vouch(&by_hash("main", "xz")), None);
    assert_eq!(release.vouch(&by_hash("main/binary-amd64", "other")), None);
}

#[test]
fn digests_that_prove_nothing_are_further_names_of_members() {
    let (md5, sha512) = ("0f".repeat(16), "5a".repeat(64));
    let section = |name: &str, digest: &str| {
        format!(
            "{name}:\n {digest} 20 main/binary-amd64/Packages.xz\n {digest} 21 main/binary-amd64/Packages\n \
             {digest} 20 main/elsewhere\n nonsense\n"
        )
    };
    let text = text().replace("MD5Sum:\n", &section("MD5Sum", &md5)) + &section("SHA512", &sha512);
    let release = signed(&text).verified().unwrap();
    let folder = "dists/bookworm/main/binary-amd64";
    let want = [format!("{folder}/by-hash/MD5Sum/{md5}"), format!("{folder}/by-hash/SHA512/{sha512}")];
    let aliases: Vec<_> = release.aliases().collect();
    assert_eq!(aliases.iter().map(Vouched::path).collect::<Vec<_>>(), want);
    for (alias, path) in aliases.iter().zip(&want) {
        assert_eq!(*alias.expected(), Expected { hash: hash("xz"), size: 20 });
        assert_eq!(release.vouch(path).as_ref(), Some(alias));
    }
    assert_eq!(release.members().len(), 4);
    let without = signed(&text.replace("Acquire-By-Hash: yes", "Acquire-By-Hash: no")).verified().unwrap();
    assert_eq!(without.aliases().count(), 0);
}

#[test]
fn a_digest_that_stands_for_two_files_names_neither() {
    let md5 = "0f".repeat(16);
    let lines = |one: &str, other: &str| format!("MD5Sum:\n {md5} 100 {one}\n {md5} 20 {other}\n");
    let folder = "main/binary-amd64";
    let both = lines(&format!("{folder}/Packages"), &format!("{folder}/Packages.xz"));
    let release = signed(&text().replace("MD5Sum:\n", &both)).verified().unwrap();
    assert_eq!(release.aliases().count(), 0);
    assert_eq!(release.vouch(&format!("dists/bookworm/{folder}/by-hash/MD5Sum/{md5}")), None);
}

#[test]
fn a_release_of_weaker_digests_or_none_is_not_learned_from() {
    let text = text();
    let sha256 = &text[text.find("SHA256:").unwrap()..];
    for section in ["MD5Sum", "SHA1", "SHA512", "Description"] {
        let weak = text.replace(sha256, "").replace("MD5Sum", section);
        let verdict = signed(&weak);
        assert_eq!(verdict, Verdict::Bad(BadRelease::Content("line 1: field SHA256: missing".to_owned())), "{weak}");
    }
}

#[test]
fn a_private_or_flat_place_marks_what_it_vouches_for() {
    let key = Key::new();
    let flat = Place { suite_dir: String::new(), is_named: true, shareable: false, ..place() };
    let message = clear_signed(&text(), &[&key]);
    let verdict = verify_inrelease(message.as_bytes(), flat, &key.ring().into(), now());
    let release = verdict.verified().unwrap();
    assert!(release.vouch("main/a").unwrap().shareable().is_none());
    assert_eq!(release.members().next().unwrap().path(), "main/a");
    assert!(!release.vouch(&format!("main/by-hash/SHA256/{}", hash(""))).unwrap().path().is_empty());
}

#[test]
fn a_detached_signature_comes_to_the_same() {
    let key = Key::new();
    let (text, signers) = (text(), Signers::from(key.ring()));
    let signature = key.signature_with(text.as_bytes(), HashAlgorithm::SHA512);
    let check =
        |text: &str, signature: &str| verify_detached(text.as_bytes(), signature.as_bytes(), place(), &signers, now());
    assert_eq!(check(&text, &signature).verified().unwrap().members().len(), 4);
    assert!(bad_signature(&check(&text.replace("100", "101"), &signature)));
    assert!(bad_signature(&check(&text, "no signature")));
    assert!(bad_signature(&check(&text, "")));
    assert!(bad_framing(&check(&text.replace('\n', "\r"), &signature)));
}

#[test]
fn line_ends_do_not_break_a_signature() {
    let key = Key::new();
    let message = clear_signed(&text(), &[&key]);
    let other = message.replace("\r\n", "\n").replace('\n', "\r\n");
    assert_eq!(verify(&message, key.ring()).verified(), verify(&other, key.ring()).verified());
    assert!(verify(&other, key.ring()).verified().is_some());
}

#[test]
fn every_changed_byte_of_the_text_is_found() {
    let key = Key::new();
    let message = clear_signed(&text(), &[&key]);
    let (start, end) = (message.find("Origin").unwrap(), message.find("-----BEGIN PGP SIGNATURE").unwrap() - 1);
    for at in (start..end).step_by(7) {
        let mut bytes = message.clone().into_bytes();
        bytes[at] ^= 1;
        let verdict = verify_inrelease(&bytes, place(), &key.ring().into(), now());
        assert!(bad_signature(&verdict) || bad_framing(&verdict), "byte {at}: {verdict:?}");
    }
}

#[test]
fn nothing_injected_is_believed() {
    let key = Key::new();
    let message = clear_signed(&text(), &[&key]);
    let evil = format!("SHA256:\n {} 1 main/evil\n", hash("evil"));
    for injected in [
        format!("{evil}\n{message}"),
        format!("{message}{evil}"),
        format!("{message}{message}"),
        message.replacen("SIGNED MESSAGE-----\n", &format!("SIGNED MESSAGE-----\n{evil}"), 1),
        message.replacen("SIGNED MESSAGE-----\n", "SIGNED MESSAGE-----\nNotDashEscaped: yes\n", 1),
        message.replacen("Origin", "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin", 1),
        message.replacen("Origin", "-----END PGP SIGNATURE-----\nOrigin", 1),
        message.replacen("-----END", &format!("\n{evil}\n-----BEGIN PGP SIGNATURE-----\n-----END"), 1),
        message.replacen("Suite: stable\n", "Suite: stable\r", 1),
    ] {
        assert!(bad_framing(&verify(&injected, key.ring())), "{injected}");
    }
    for injected in [
        message.replacen("Origin", &format!("{evil}Origin"), 1),
        message.replacen("Origin", "- -----BEGIN PGP SIGNED MESSAGE-----\nOrigin", 1),
        message.replacen("-----BEGIN PGP SIGNATURE", &format!("{evil}\n-----BEGIN PGP SIGNATURE"), 1),
    ] {
        assert!(bad_signature(&verify(&injected, key.ring())), "{injected}");
    }
}

#[test]
fn escaped_dashes_are_part_of_the_text() {
    let key = Key::new();
    let with_dashes = text().replace("Origin: Debian\n", "Origin: Debian\nNotes:\n -----\n");
    assert!(verify(&clear_signed(&with_dashes, &[&key]), key.ring()).verified().is_some());
    let nested = format!("-----BEGIN PGP SIGNED MESSAGE-----\n\n{}", text());
    let message = clear_signed(&nested, &[&key]);
    assert!(message.contains("\n- -----BEGIN"), "{message}");
    assert!(matches!(verify(&message, key.ring()), Verdict::Bad(BadRelease::Content(_))));
}

#[test]
fn without_a_key_for_the_source_nothing_can_be_said() {
    let (key, other) = (Key::new(), Key::new());
    let message = clear_signed(&text(), &[&key]);
    assert_eq!(verify(&message, Keyring::default()), Verdict::Unverifiable(NoKey::NoKeyring));
    let Verdict::Unverifiable(NoKey::Strangers(keys)) = verify(&message, other.ring()) else { panic!() };
    assert_eq!(keys, [key.subkey_fingerprint()]);
    let named = Signers { are_named: true, ..other.ring().into() };
    let verdict = verify_inrelease(message.as_bytes(), place(), &named, now());
    assert_eq!(verdict, Verdict::Bad(BadRelease::Strangers(vec![key.subkey_fingerprint()])));
    let named = Signers { are_named: true, ..Signers::default() };
    let verdict = verify_inrelease(message.as_bytes(), place(), &named, now());
    assert_eq!(verdict, Verdict::Unverifiable(NoKey::NoKeyring), "its keyring is missing");
}

#[test]
fn picked_fingerprints_narrow_a_keyring() {
    let (key, other) = (Key::new(), Key::new());
    let message = clear_signed(&text(), &[&key]);
    let mut keyring = key.ring();
    keyring.extend(&other.ring());
    let check = |fingerprint: &str, exact| {
        let pick = Pick { fingerprint: fingerprint.parse().unwrap(), exact };
        let signers = Signers { keyring: keyring.clone(), picks: vec![pick], are_named: true };
        verify_inrelease(message.as_bytes(), place(), &signers, now()).verified().is_some()
    };
    assert!(check(&key.fingerprint(), false));
    assert!(check(&key.subkey_fingerprint(), false));
    assert!(check(&key.subkey_fingerprint(), true));
    assert!(!check(&key.fingerprint(), true));
    assert!(!check(&other.fingerprint(), false));
}

#[test]
fn one_good_signature_of_several_is_enough() {
    let (key, stranger, expired) = (Key::new(), Key::new(), Key::lasting(Some(799 * DAY + DAY / 2)));
    let message = clear_signed(&text(), &[&stranger, &expired, &key]);
    assert!(verify(&message, key.ring()).verified().is_some());
    let mut both = expired.ring();
    both.extend(&key.ring());
    assert!(verify(&message, both).verified().is_some());
    assert!(bad_signature(&verify(&message, expired.ring())));
}

#[test]
fn a_key_that_expired_since_it_signed_is_refused() {
    let key = Key::lasting(Some(799 * DAY + DAY / 2));
    let message = clear_signed(&text(), &[&key]);
    let then = verify_inrelease(message.as_bytes(), place(), &key.ring().into(), now() - 3 * DAY / 4);
    assert!(then.verified().is_some(), "half a day before, it was good");
    assert!(bad_signature(&verify(&message, key.ring())));
}

#[test]
fn a_key_revoked_in_any_file_is_refused() {
    let key = Key::new();
    let message = clear_signed(&text(), &[&key]);
    assert!(bad_signature(&verify(&message, key.revoked().ring())));
    let mut merged = key.ring();
    merged.extend(&key.revoked().ring());
    assert!(bad_signature(&verify(&message, merged)));
}

#[test]
fn broken_digests_are_refused_even_while_the_clock_is_behind() {
    let text = text();
    for clock in [now(), date::parse("Mon, 02 Jul 2012 00:00:00 UTC").unwrap()] {
        let key = Key::made(clock - 100 * DAY, None);
        let check = |digest| {
            let signature = key.signature_at(text.as_bytes(), digest, clock - DAY);
            bad_signature(&verify_detached(text.as_bytes(), signature.as_bytes(), place(), &key.ring().into(), clock))
        };
        assert!(check(HashAlgorithm::SHA1) && check(HashAlgorithm::MD5), "{clock:?}");
        assert!(!check(HashAlgorithm::SHA256), "{clock:?}");
    }
}

#[test]
fn a_signature_from_the_future_is_refused() {
    let key = Key::new();
    let message = clear_signed_at(&text(), &[&key], now() + DAY);
    assert!(bad_signature(&verify(&message, key.ring())));
}

#[test]
fn only_a_few_signatures_and_nothing_else_are_looked_at() {
    let (key, text) = (Key::new(), text());
    let check = |block: &str| verify_detached(text.as_bytes(), block.as_bytes(), place(), &key.ring().into(), now());
    let many =
        armored(Kind::Signature, &dearmored(&key.signature_with(text.as_bytes(), HashAlgorithm::SHA256)).repeat(17));
    assert_eq!(check(&many), Verdict::Bad(BadRelease::Signature("more than 16 signatures".to_owned())));
    let cert = armored(Kind::Signature, &key.binary());
    assert!(bad_signature(&check(&cert)));
}

fn dearmored(armored: &str) -> Vec<u8> {
    use std::io::Read;
    let mut bytes = Vec::new();
    sequoia_openpgp::armor::Reader::from_bytes(armored.as_bytes(), None).read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn an_expired_release_is_stale_unless_apt_does_not_mind() {
    let key = Key::new();
    let message = clear_signed(&text(), &[&key]);
    let late = now() + 30 * DAY;
    let check = |place| verify_inrelease(message.as_bytes(), place, &key.ring().into(), late);
    let valid_until = date::parse("Fri, 17 Jul 2026 09:12:31 UTC").unwrap();
    assert_eq!(check(place()), Verdict::Stale { valid_until });
    let validity = Validity { check_valid_until: false, ..Validity::default() };
    assert!(check(Place { validity, ..place() }).verified().is_some());
}

#[test]
fn a_release_speaks_only_for_its_own_suite() {
    let key = Key::new();
    let message = clear_signed(&text(), &[&key]);
    let check = |suite: &str| {
        let place = Place { suite_dir: format!("dists/{suite}"), ..place() };
        verify_inrelease(message.as_bytes(), place, &key.ring().into(), now())
    };
    for suite in ["bookworm", "stable"] {
        assert!(check(suite).verified().is_some(), "{suite}");
    }
    for suite in [
        "trixie",
        "bookworm-security",
        "bookwor",
        "old/bookworm",
        "stable-updates",
        "bookworm/updates",
        "bookworm/x",
        "",
    ] {
        assert!(matches!(check(suite), Verdict::Bad(BadRelease::WrongSuite { .. })), "{suite}");
    }
    let nameless = text().replace("Suite: stable\nCodename: bookworm\n", "");
    assert!(signed(&nameless).verified().is_some());
}

#[test]
fn each_archive_has_its_own_way_to_name_suites() {
    const NAMES: [&str; 12] = [
        "noble",
        "noble-updates",
        "noble-security",
        "noble-apps-security",
        "bookworm",
        "stable",
        "bookworm-updates",
        "stable-security",
        "buster",
        "buster/updates",
        "bookworm/mongo/7.0",
        "proposed-updates",
    ];
    let key = Key::new();
    let (ring, all) = (Signers::from(key.ring()), "main universe");
    for (suite, codename, components, is_named, places) in [
        ("noble", "noble", all, false, &["noble"][..]),
        ("noble-updates", "noble", all, true, &["noble-updates"]),
        ("noble-security", "noble", all, false, &["noble-security"]),
        ("noble-apps-security", "noble", all, false, &["noble-apps-security"]),
        ("stable", "bookworm", "main", true, &["bookworm", "stable"]),
        ("stable-updates", "bookworm-updates", "main", false, &["bookworm-updates"]),
        ("stable-security", "bookworm-security", "updates/main updates/contrib", false, &["stable-security"]),
        ("stable-backports", "bookworm-backports", "main", false, &[]),
        ("proposed-updates", "bookworm-proposed-updates", "main", false, &["proposed-updates"]),
        ("oldstable", "buster", "updates/main updates/contrib", false, &["buster/updates"]),
        ("oldstable", "buster", "main", false, &["buster"]),
        ("oldstable", "buster", "updates/main main", false, &["buster"]),
        ("bookworm", "bookworm/mongo", "main", true, &["bookworm", "bookworm/mongo/7.0"]),
        ("bookworm", "bookworm/mongo", "main", false, &["bookworm"]),
    ] {
        let names = format!("Suite: {suite}\nCodename: {codename}\nComponents: {components}\n");
        let text = text().replace("Suite: stable\nCodename: bookworm\n", &names);
        let signature = key.signature_with(text.as_bytes(), HashAlgorithm::SHA256);
        let taken = NAMES.iter().filter(|name| {
            let place = Place { suite_dir: format!("dists/{name}"), is_named, ..place() };
            verify_detached(text.as_bytes(), signature.as_bytes(), place, &ring, now()).verified().is_some()
        });
        let mut taken: Vec<_> = taken.copied().collect();
        taken.sort_unstable();
        assert_eq!(taken, places, "{names}");
    }
}

#[test]
fn the_release_of_a_suite_is_no_flat_repository_s_unless_an_entry_says_so() {
    let key = Key::new();
    let text = text();
    let flat = text.replace("main/binary-amd64/", "").replace("main/", "");
    let check = |text: &str, is_named| {
        let place = Place { suite_dir: String::new(), is_named, ..place() };
        let verdict = verify_inrelease(clear_signed(text, &[&key]).as_bytes(), place, &key.ring().into(), now());
        match verdict {
            Verdict::Verified(_) => true,
            Verdict::Bad(BadRelease::Content(_)) => false,
            other => panic!("{other:?}"),
        }
    };
    for (text, want) in [
        (text.clone(), false),
        (flat.clone(), true),
        (flat.replace("Codename: bookworm", "Codename: Debian_12"), true),
        (format!("Components:\n{flat}"), true),
        (format!("Components: main\n{flat}"), false),
        (flat.replace(" Packages\n", " main/source/Sources\n"), false),
        (flat.replace(" Packages\n", " amd64/Packages\n"), true),
    ] {
        assert_eq!((check(&text, false), check(&text, true)), (want, true), "{text}");
    }
}

#[test]
fn what_is_signed_must_be_a_release() {
    let line = |number: u32, rest: &str| Verdict::Bad(BadRelease::Content(format!("line {number}: {rest}")));
    let text = text();
    let without_sha256 = &text[..text.find("SHA256").unwrap()];
    for (text, want) in [
        (without_sha256.to_owned(), line(1, "field SHA256: missing")),
        (text.replace("Date: F", "Data: F"), line(1, "field Date: missing")),
        (text.replace("Fri, 10 Jul", "Someday"), line(4, "field Date: not a date")),
        (text.replace("Suite", "codename"), line(3, "field Codename: given twice")),
        (text.replace(" 100 ", " -1 "), line(10, "field SHA256: not a size")),
        (text.replace(" 100 ", " "), line(10, "field SHA256: a line is not digest, size and path")),
        (text.replace(&hash("xz").to_string(), "00"), line(11, "field SHA256: not a SHA-256")),
        (text.replace("main/b\n", "main/binary-amd64/Packages\n"), line(13, "field SHA256: one path with two digests")),
        (format!("{text}\nA: 1\n"), line(16, "a second paragraph")),
        ("\n".to_owned(), line(1, "an empty Release")),
    ] {
        assert_eq!(signed(&text), want, "{text}");
    }
    let future = text.replace("Date: Fri, 10 Jul 2026", "Date: Sun, 12 Jul 2026");
    assert_eq!(signed(&future), Verdict::Bad(BadRelease::Content("its Date is in the future".to_owned())));
}

#[test]
fn a_subkey_that_was_revoked_is_refused_and_the_others_of_its_key_are_not() {
    let (key, other) = (Key::new(), Key::new());
    let message = clear_signed(&text(), &[&key]);
    assert!(bad_signature(&verify(&message, key.with_revoked_subkey().ring())));
    let mut merged = key.with_revoked_subkey().ring();
    merged.extend(&other.ring());
    assert!(bad_signature(&verify(&message, merged.clone())));
    assert!(verify(&clear_signed(&text(), &[&key, &other]), merged).verified().is_some());
}

#[test]
fn a_signature_over_another_text_counts_for_nothing_beside_a_good_one() {
    let (key, other) = (Key::new(), Key::new());
    let text = text();
    let over = |key: &Key, text: &str| dearmored(&key.signature_with(text.as_bytes(), HashAlgorithm::SHA512));
    let (good, wrong) = (over(&key, &text), over(&other, "Origin: elsewhere"));
    let mut ring = key.ring();
    ring.extend(&other.ring());
    let check = |signatures: &[&[u8]]| {
        verify_detached(text.as_bytes(), &signatures.concat(), place(), &ring.clone().into(), now())
    };
    for both in [[&*wrong, &*good], [&*good, &*wrong]] {
        assert_eq!(check(&both).verified().unwrap().signer().fingerprint.to_string(), key.fingerprint());
    }
    assert!(bad_signature(&check(&[&wrong])));
    assert!(bad_signature(&check(&[&wrong, &wrong])));
}

#[test]
fn a_member_that_leads_out_of_its_repository_is_left_out_alone() {
    let members =
        ["main/../../x", "..", "/main/x", "main\\x", "main/", "./", "../dists/bookworm/main/x", "main/x\u{7f}"];
    let lines: String = members.map(|path| format!(" {} 7 {path}\n", hash("evil"))).concat();
    let release = signed(&(text() + &lines)).verified().unwrap();
    assert_eq!(release.members().len(), 4);
    assert!(release.members().all(|member| member.path().starts_with("dists/bookworm/main/")));
    for path in members.iter().flat_map(|path| [(*path).to_owned(), format!("dists/bookworm/{path}")]) {
        assert_eq!(release.vouch(&path), None, "{path}");
    }
    assert!(bad_framing(&signed_raw(&text().replace("main/a", "main/a\0b"))));
}

/// Signed beside the text, which no writer then refuses.
fn signed_raw(text: &str) -> Verdict {
    let key = Key::new();
    let signature = key.signature_with(text.as_bytes(), HashAlgorithm::SHA512);
    verify_detached(text.as_bytes(), signature.as_bytes(), place(), &key.ring().into(), now())
}

#[test]
fn more_than_a_release_may_have_is_not_even_hashed() {
    let key = Key::new();
    let long = format!("{}Description: {}\n", text(), "x".repeat(MAX_RELEASE));
    let too_long = Verdict::Bad(BadRelease::Framing("a Release of more than 8 MiB"));
    assert_eq!(verify(&long, key.ring()), too_long);
    assert_eq!(verify_detached(long.as_bytes(), b"", place(), &key.ring().into(), now()), too_long);
    let line = format!("{}Description: {}\n", text(), "x".repeat(crate::archive::deb822::MAX_LINE));
    let reason = "line 15: more than 1048576 bytes in a line".to_owned();
    assert_eq!(signed(&line), Verdict::Bad(BadRelease::Content(reason)));
}

#[test]
fn what_apt_s_sources_say_of_time_is_heard() {
    let key = Key::new();
    let check = |text: &str, options: &[(&str, &str)], now| {
        let mut validity = Validity::default();
        options.iter().for_each(|(option, value)| validity.set(option, value));
        let place = Place { validity, ..place() };
        verify_inrelease(clear_signed(text, &[&key]).as_bytes(), place, &key.ring().into(), now)
    };
    let text = text();
    let endless = text.replace("Valid-Until", "Invalid-Until");
    let (date, late) = (date::parse("Fri, 10 Jul 2026 09:12:31 UTC").unwrap(), now() + 30 * DAY);
    for (text, options, now, end) in [
        (&text, &[("valid-until-min", "864000")][..], now() + 8 * DAY, None),
        (&text, &[("valid-until-min", "864000")], late, Some(date + 10 * DAY)),
        (&endless, &[], late, None),
        (&endless, &[("valid-until-max", "86400")], late, Some(date + DAY)),
        (&endless, &[("valid-until-max", "86400"), ("check-date", "no")], late, None),
    ] {
        match (check(text, options, now), end) {
            (Verdict::Verified(_), None) => {}
            (Verdict::Stale { valid_until }, Some(end)) => assert_eq!(valid_until, end, "{options:?}"),
            (verdict, _) => panic!("{options:?}: {verdict:?}"),
        }
    }
    let ahead = text.replace("10 Jul 2026 09:12:31", "11 Jul 2026 12:01:00");
    let in_the_future = |options| matches!(check(&ahead, options, now()), Verdict::Bad(BadRelease::Content(_)));
    assert!(in_the_future(&[]) && in_the_future(&[("date-max-future", "59")]));
    assert!(!in_the_future(&[("date-max-future", "60")]) && !in_the_future(&[("check-date", "no")]));
}

proptest::proptest! {
    #[test]
    fn a_written_release_is_read_back(
        names in proptest::collection::vec(proptest::option::of("[a-z]{1,8}"), 3),
        times in (0..253_402_300_800_u64, proptest::option::of(0..253_402_300_800_u64)),
        has_by_hash: bool,
        files in proptest::collection::btree_map("[a-z]{1,4}(/[a-zA-Z.+~-]{0,3}[a-z]){0,3}", (0..1_u64 << 60, "[0-9a-f]{64}"), 0..9),
        crlf: bool,
    ) {
        let at = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let (date, end) = (at(times.0), times.1.map(at));
        let field = |name: &str, value: &Option<String>| value.as_ref().map_or(String::new(), |value| format!("{name}: {value}\n"));
        let lines: String = files.iter().map(|(path, (size, hash))| format!(" {hash} {size:>16} {path}\n")).collect();
        let text = field("Origin", &names[0])
            + &field("suite", &names[1])
            + &field("Codename", &names[2])
            + &field("Date", &Some(date_text(date)))
            + &field("Valid-Until", &end.map(date_text))
            + &format!("Acquire-By-Hash: {}\nSHA256:\n{lines}", if has_by_hash { "yes" } else { "no" });
        let text = if crlf { text.replace('\n', "\r\n") } else { text };
        let fingerprint: crate::archive::Fingerprint = "00".repeat(20).parse().unwrap();
        let signer = Signer { fingerprint: fingerprint.clone(), key: fingerprint, origin: "".into() };
        let read = read::read(text.as_bytes(), place(), signer);
        if files.is_empty() {
            proptest::prop_assert!(read.unwrap_err().to_string().ends_with("SHA256: missing"));
            return Ok(());
        }
        let release = read.unwrap();
        proptest::prop_assert_eq!([release.origin(), release.suite(), release.codename()], [0, 1, 2].map(|i| names[i].as_deref()));
        proptest::prop_assert_eq!((release.date(), release.valid_until(), release.has_by_hash()), (date, end, has_by_hash));
        let want: Vec<_> = files.iter().map(|(path, (size, hash))| {
            (format!("dists/bookworm/{path}"), Expected { hash: hash.parse().unwrap(), size: *size })
        }).collect();
        let got: Vec<_> = release.members().map(|member| (member.path().to_owned(), *member.expected())).collect();
        proptest::prop_assert_eq!(got, want);
    }

    #[test]
    fn a_changed_message_says_the_same_or_nothing(changes in proptest::collection::vec(
        (proptest::prelude::any::<proptest::sample::Index>(), 0..3u8, r"[ \t\r\n\x00:a-]|- |\r\n"), 1..3,
    )) {
        static SIGNED: std::sync::LazyLock<(String, Keyring)> = std::sync::LazyLock::new(|| {
            let key = Key::new();
            (clear_signed(&text(), &[&key]), key.ring())
        });
        let (message, ring) = &*SIGNED;
        let mut changed = message.clone();
        for (at, kind, other) in changes {
            let at = at.index(changed.len());
            match kind {
                0 => changed.insert_str(at, &other),
                1 => changed.replace_range(at..=at, ""),
                _ => changed.replace_range(at..=at, &other),
            }
        }
        if let Some(release) = verify(&changed, ring.clone()).verified() {
            proptest::prop_assert_eq!(Some(release), verify(message, ring.clone()).verified());
        }
    }
}
