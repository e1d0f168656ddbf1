use std::io::{BufReader, Read, repeat};

use crate::{
    archive::{Digest, Repository, deb822::MAX_LINE},
    hash::ContentHash,
};

use super::*;

fn index_at(path: &str, shareable: bool) -> Vouched {
    let expected = Expected { hash: ContentHash::of(b""), size: 0 };
    Vouched::new(expected, Repository::restore("m.example.org/debian"), path.to_owned(), shareable)
}

fn hash(text: &str) -> ContentHash {
    ContentHash::of(text.as_bytes())
}

fn read(kind: IndexKind, text: &str) -> Vec<Result<Entry, String>> {
    let index = index_at("dists/sid/main/source/Packages.diff/Index", true);
    entries(kind, &index, text.as_bytes()).map(|entry| entry.map_err(|error| error.to_string())).collect()
}

fn paths(entries: &[Result<Entry, String>]) -> Vec<&str> {
    entries.iter().map(|entry| entry.as_ref().unwrap().file.path()).collect()
}

fn binary(name: &str, filename: &str) -> String {
    format!(
        "Package: {name}\nVersion: 1:2+b~c\nArchitecture: amd64\nFilename: {filename}\nSize: 12\nSHA256: {}\n\n",
        hash(name)
    )
}

fn source(name: &str, directory: &str, files: &[&str]) -> String {
    let files: String = files.iter().map(|file| format!(" {} 12 {file}\n", hash(file))).collect();
    format!(
        "Package: {name}\nBinary: a,\n b\nVersion: 1-2\nFiles:\n d41d8cd98f00b204e9800998ecf8427e 1 other\n\
         Directory: {directory}\nChecksums-Sha256:\n{files}\n"
    )
}

fn patches(files: &[&str]) -> String {
    let lines: String = files.iter().map(|file| format!(" {} 12 {file}\n", hash(file))).collect();
    format!(
        "SHA256-Current: {0} 100\nSHA256-History:\n {0} 90 T-1-F-0\nSHA256-Patches:\n {0} 80 T-1-F-0\n\
         X-Unmerged-SHA256-Download:\n {0} 70 0.gz\nSHA256-Download:\n{lines}",
        hash("")
    )
}

#[test]
fn the_name_of_an_index_tells_its_kind() {
    for (path, kind) in [
        ("dists/sid/main/binary-amd64/Packages", Some(IndexKind::Packages)),
        ("Packages", Some(IndexKind::Packages)),
        ("dists/sid/main/source/Sources", Some(IndexKind::Sources)),
        ("sub/Sources", Some(IndexKind::Sources)),
        ("dists/sid/main/binary-amd64/Packages.diff/Index", Some(IndexKind::Patches)),
        ("dists/sid/main/Contents-amd64.diff/Index", Some(IndexKind::Patches)),
        ("dists/sid/main/Index", None),
        ("dists/sid/main/Contents-amd64", None),
        ("dists/sid/main/i18n/Translation-en", None),
        ("dists/sid/main/dep11/Components-amd64.yml", None),
        ("dists/sid/main/dep11/icons-64x64.tar", None),
        ("dists/noble/main/cnf/Commands-amd64", None),
        ("dists/sid/main/installer-amd64/current/images/SHA256SUMS", None),
        ("dists/sid/main/binary-amd64/Release", None),
    ] {
        for packing in Compression::ALL {
            let want = kind.map(|kind| (kind, packing));
            assert_eq!(index_kind(&format!("{path}{}", packing.suffix())), want, "{path} {packing:?}");
        }
    }
    assert_eq!(index_kind(&Digest::Sha256(hash("")).path_in("dists/sid/main/source")), None);
}

#[test]
fn each_binary_package_is_vouched_for_in_the_index_s_repository() {
    for shareable in [true, false] {
        let index = index_at("dists/sid/main/binary-amd64/Packages", shareable);
        let text = binary("hello", "./pool//h/hello_1.deb") + &binary("bye", "pool/b/bye_1.deb");
        let all: Vec<_> = entries(IndexKind::Packages, &index, text.as_bytes()).map(Result::unwrap).collect();
        assert_eq!(all.len(), 2);
        let hello = &all[0];
        assert_eq!(hello.file.path(), "pool/h/hello_1.deb");
        assert_eq!(hello.file.repository(), index.repository());
        assert_eq!(*hello.file.expected(), Expected { hash: hash("hello"), size: 12 });
        assert_eq!(hello.file.shareable().is_some(), shareable);
        let package = hello.package.as_ref().unwrap();
        assert_eq!((&*package.name, &*package.version, &*package.architecture), ("hello", "1:2+b~c", "amd64"));
    }
}

#[test]
fn every_file_of_a_source_package_is_vouched_for() {
    let text = source("hello", "pool/main/h/hello", &["hello_1-2.dsc", "hello_1.orig.tar.xz"])
        + &source("bye", "pool/main/b/bye/", &["bye_1.dsc"])
        + "Package: without-files\nVersion: 1\n\n"
        + &source("flat", ".", &["./flat_1.dsc"]).replace("Directory: .\n", "");
    let all = read(IndexKind::Sources, &text);
    assert_eq!(all[3], Err("line 22: field Checksums-Sha256: missing".to_owned()));
    let (good, last) = (&all[..3], &all[4..]);
    assert_eq!(
        paths(good),
        ["pool/main/h/hello/hello_1-2.dsc", "pool/main/h/hello/hello_1.orig.tar.xz", "pool/main/b/bye/bye_1.dsc"]
    );
    assert_eq!(paths(last), ["flat_1.dsc"]);
    let first = good[0].as_ref().unwrap();
    assert_eq!(*first.file.expected(), Expected { hash: hash("hello_1-2.dsc"), size: 12 });
    let package = first.package.as_ref().unwrap();
    assert_eq!((&*package.name, &*package.version, &*package.architecture), ("hello", "1-2", "source"));
}

#[test]
fn every_patch_lies_beside_its_index_also_when_that_was_found_by_hash() {
    let text = patches(&["T-1-F-0.gz", "T-1-F-2.gz"]);
    let folder = "dists/sid/main/binary-amd64/Packages.diff";
    for path in [format!("{folder}/Index"), Digest::Sha256(hash("")).path_in(folder)] {
        let index = index_at(&path, true);
        let all: Vec<_> = entries(IndexKind::Patches, &index, text.as_bytes()).map(Result::unwrap).collect();
        let paths: Vec<_> = all.iter().map(|entry| entry.file.path().strip_prefix(folder)).collect();
        assert_eq!(paths, [Some("/T-1-F-0.gz"), Some("/T-1-F-2.gz")]);
        assert_eq!(*all[0].file.expected(), Expected { hash: hash("T-1-F-0.gz"), size: 12 });
        assert!(all[0].package.is_none());
    }
}

#[test]
fn an_index_without_patches_or_digests_of_packed_ones_lists_nothing() {
    assert_eq!(read(IndexKind::Patches, "SHA1-Current: da39a3ee5e6b4b0d3255bfef95601890afd80709 0\n"), []);
    assert_eq!(read(IndexKind::Patches, &patches(&[])), []);
    assert_eq!(read(IndexKind::Patches, ""), []);
}

#[test]
fn a_malformed_package_is_an_error_and_the_others_go_on() {
    let good = binary("hello", "pool/h/hello_1.deb");
    let outside = "line 4: field Filename: not a path inside the repository";
    let with = |of: &str, with: &str| binary("x", "x.deb").replace(of, with);
    for (bad, error) in [
        (binary("x", "../../etc/passwd"), outside),
        (binary("x", "pool/../../etc/passwd"), outside),
        (binary("x", "/etc/passwd"), outside),
        (binary("x", "pool/x\\y.deb"), outside),
        (binary("x", "pool/x\0y.deb"), outside),
        (binary("x", "pool/"), outside),
        (binary("x", &"x/".repeat(3000)), outside),
        (binary("x", ""), "line 4: field Filename: missing"),
        (with("Size: 12", "Size: -1"), "line 5: field Size: not a size"),
        (with("Size: 12", "Size: 9999999999999999999"), "line 5: field Size: not a size"),
        (with("SHA256", "MD5sum"), "line 1: field SHA256: missing"),
        (with("SHA256: ", "SHA256: 0"), "line 6: field SHA256: not a SHA-256"),
        (with("Size: 12", "Size: 12\nsize: 13"), "line 6: field size: given twice"),
        (with("Size: 12", "Filename: y.deb"), "line 5: field Filename: given twice"),
        (with("Size: 12", "Size 12"), "line 5: neither a field nor a folded line"),
    ] {
        let entries = read(IndexKind::Packages, &format!("{bad}{good}"));
        assert_eq!(entries.len(), 2, "{bad}");
        assert_eq!(entries[0], Err(error.to_owned()), "{bad}");
        assert!(entries[1].is_ok(), "{bad}");
    }
}

#[test]
fn a_malformed_source_package_is_an_error_by_its_line_and_the_others_go_on() {
    let good = source("hello", "pool/h", &["hello_1.dsc"]);
    let outside = "field Checksums-Sha256: not a path inside the repository";
    let with = |of: &str, with: &str| source("x", "x", &["a.dsc", "b.tar"]).replace(of, with);
    for (bad, error) in [
        (source("x", "../x", &["a.dsc"]), "line 7: field Directory: not a path inside the repository".to_owned()),
        (source("x", "/etc", &["a.dsc"]), "line 7: field Directory: not a path inside the repository".to_owned()),
        (source("x", "a\\b", &["a.dsc"]), "line 7: field Directory: not a path inside the repository".to_owned()),
        (source("x", "x", &["a.dsc", "../../etc/passwd"]), format!("line 10: {outside}")),
        (source("x", "x", &["/etc/passwd"]), format!("line 9: {outside}")),
        (source("x", "x", &["a\0b"]), format!("line 9: {outside}")),
        (source("x", "x", &["a\\b"]), format!("line 9: {outside}")),
        (source("x", "x", &["sub/"]), format!("line 9: {outside}")),
        (with(" 12 b.tar", " -1 b.tar"), "line 10: field Checksums-Sha256: not a size".to_owned()),
        (
            with(" 12 b.tar", " b.tar"),
            "line 10: field Checksums-Sha256: a line is not digest, size and path".to_owned(),
        ),
        (with(&hash("b.tar").to_string(), "00"), "line 10: field Checksums-Sha256: not a SHA-256".to_owned()),
        (with("Checksums-Sha256", "Checksums-Sha1"), "line 1: field Checksums-Sha256: missing".to_owned()),
        (with("Directory: x", "Directory: x\nDirectory: y"), "line 8: field Directory: given twice".to_owned()),
        (with("Package: x", "Source: x"), "line 1: field Package: missing".to_owned()),
        (
            source("x", "x", &vec!["a"; MAX_FILES + 1]),
            format!("line {}: field Checksums-Sha256: more than 4096 files", 9 + MAX_FILES),
        ),
    ] {
        let entries = read(IndexKind::Sources, &format!("{bad}{good}"));
        assert_eq!(entries.len(), 2, "{bad}");
        assert_eq!(entries[0], Err(error), "{bad}");
        assert!(entries[1].is_ok(), "{bad}");
    }
}

#[test]
fn a_malformed_row_of_patches_is_an_error_by_its_line() {
    let outside = "field SHA256-Download: not a path inside the repository";
    for (bad, error) in [
        (patches(&["a.gz", "../../../a.gz"]), format!("line 10: {outside}")),
        (patches(&["/a.gz"]), format!("line 9: {outside}")),
        (patches(&["a\0.gz"]), format!("line 9: {outside}")),
        (patches(&["a.gz"]).replace(" 12 ", " x "), "line 9: field SHA256-Download: not a size".to_owned()),
        (patches(&["a.gz"]) + "sha256-download: x\n", "line 10: field sha256-download: given twice".to_owned()),
        (
            patches(&vec!["a"; MAX_FILES + 1]),
            format!("line {}: field SHA256-Download: more than 4096 files", 9 + MAX_FILES),
        ),
    ] {
        assert_eq!(read(IndexKind::Patches, &bad), [Err(error)], "{bad}");
    }
}

#[test]
fn line_ends_of_another_system_change_nothing() {
    for (kind, text) in [
        (IndexKind::Packages, binary("hello", "pool/h/hello_1.deb") + &binary("bye", "pool/b/bye_1.deb")),
        (IndexKind::Sources, source("hello", "pool/h", &["a.dsc", "b.tar"]) + &source("bye", "pool/b", &["b.dsc"])),
        (IndexKind::Patches, patches(&["T-1-F-0.gz", "T-1-F-2.gz"])),
    ] {
        let unix = read(kind, &text);
        assert!(unix.len() > 1 && unix.iter().all(Result::is_ok), "{unix:?}");
        assert_eq!(read(kind, &text.replace('\n', "\r\n")), unix);
    }
}

#[test]
fn a_line_of_a_gigabyte_ends_every_kind_after_a_megabyte() {
    for kind in [IndexKind::Packages, IndexKind::Sources, IndexKind::Patches] {
        let mut endless = BufReader::new(repeat(b'x').take(1 << 30));
        let index = index_at("Packages", true);
        let all: Vec<_> = entries(kind, &index, &mut endless).map(|entry| entry.unwrap_err().to_string()).collect();
        assert_eq!(all, [format!("line 1: more than {MAX_LINE} bytes in a line")]);
        assert!(endless.into_inner().limit() > (1 << 30) - 4 * MAX_LINE as u64);
    }
}
