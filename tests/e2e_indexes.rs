//! Other indexes than Packages, with real apt: the Sources of pooled and flat repositories, and patches of an index.

use std::{fs, io::Write, path::Path};

use apt_huddle::hash::ContentHash;
use flate2::write::GzEncoder;

use crate::harness::{
    apt::{Way, have_apt},
    archive::{Archive, LATER_DATE, Package},
    client::fetch,
    daemon::{Daemon, run_to_end},
    deb::Size,
    eventually,
    huddle::Host,
    machine::{Config, Machine},
    mirror::Mirror,
    scratch,
    suite::Suite,
};

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// A source package of two files.
struct Source {
    files: Vec<(String, Vec<u8>)>,
}

impl Source {
    fn new(name: &str) -> Self {
        let byte = |n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8 ^ name.len() as u8;
        let tar: Vec<u8> = (0..70_000).map(byte).collect();
        let tar_name = format!("{name}_1.0.tar.xz");
        let dsc = format!(
            "Format: 3.0 (native)\nSource: {name}\nBinary: {name}\nArchitecture: all\nVersion: 1.0\n\
             Maintainer: A Penguin <penguin@example.org>\nChecksums-Sha256:\n {} {} {tar_name}\n",
            ContentHash::of(&tar),
            tar.len()
        );
        Self { files: vec![(format!("{name}_1.0.dsc"), dsc.into_bytes()), (tar_name, tar)] }
    }

    fn paragraph(&self, name: &str, folder: &str) -> String {
        let lines =
            self.files.iter().map(|(name, bytes)| format!(" {} {} {name}\n", ContentHash::of(bytes), bytes.len()));
        format!(
            "Package: {name}\nBinary: {name}\nVersion: 1.0\nMaintainer: A Penguin <penguin@example.org>\n\
             Architecture: all\nFormat: 3.0 (native)\nDirectory: {folder}\nChecksums-Sha256:\n{}\n",
            lines.collect::<String>()
        )
    }

    fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).expect("the scratch directory is ours");
        for (name, bytes) in &self.files {
            fs::write(folder.join(name), bytes).expect("the scratch directory is ours");
        }
    }
}

/// Writes a Sources below a folder, and an InRelease that lists it.
fn publish(suite_dir: &Path, index: &str, text: &str) {
    let path = suite_dir.join(index);
    fs::create_dir_all(path.parent().expect("a folder")).expect("the scratch directory is ours");
    fs::write(&path, text).expect("the scratch directory is ours");
    let release = format!(
        "Origin: Huddle\nSuite: huddle\nCodename: huddle\nDate: Sat, 01 Mar 2025 12:00:00 UTC\nComponents: main\n\
         Architectures: all amd64\nSHA256:\n {} {} {index}\n",
        ContentHash::of(text.as_bytes()),
        text.len()
    );
    let signed = Archive::shared().signer().clear_sign(&release);
    fs::write(suite_dir.join("InRelease"), signed).expect("the scratch directory is ours");
}

/// Has apt fetch a source package into a new folder of a machine, and checks what came.
fn fetch_source(machine: &Machine, daemon: &Daemon, name: &str, source: &Source) {
    let into = tempfile::tempdir_in(machine.dir()).expect("a temporary folder");
    let mut command = machine.apt(Way::Proxy(daemon.proxy())).command("apt-get");
    command.args(["-q", "source", "--download-only", name]).current_dir(into.path());
    let output = run_to_end(command);
    assert!(output.status.success(), "{output:?}");
    for (name, bytes) in &source.files {
        assert!(fs::read(into.path().join(name)).expect("apt fetched it") == *bytes, "{name}");
    }
}

#[test]
fn apt_get_source_is_served_from_the_store_in_a_pooled_repository_and_in_a_flat_one() {
    if !have_apt() {
        return;
    }
    let root = scratch("sources-");
    let (pooled, flat) = (Source::new("pooled"), Source::new("flattened"));
    let debian = root.path().join("debian");
    pooled.write(&debian.join("pool/main/p/pooled"));
    let text = pooled.paragraph("pooled", "pool/main/p/pooled");
    publish(&debian.join("dists/huddle"), "main/source/Sources", &text);
    flat.write(&root.path().join("flat"));
    publish(&root.path().join("flat"), "Sources", &flat.paragraph("flattened", "."));

    let mirror = Mirror::start(root.path());
    let host = Host::start("sources", &mirror, &Config::default());
    let origin = format!("http://{}", mirror.authority());
    host.machine.write_sources(&format!("deb-src {origin}/debian huddle main\ndeb-src {origin}/flat ./\n"));
    host.machine.apt(Way::Proxy(host.daemon.proxy())).update().expect_success();
    for (name, source, folder) in [("pooled", &pooled, "/debian/pool/main/p/pooled"), ("flattened", &flat, "/flat")] {
        for _ in 0..2 {
            fetch_source(&host.machine, &host.daemon, name, source);
        }
        for (file, bytes) in &source.files {
            let hash = ContentHash::of(bytes).to_string();
            eventually("it is kept", PATIENCE, || {
                host.machine.objects().iter().any(|(held, _)| *held == hash).then_some(())
            });
            let asked = mirror.server().requests(&format!("{folder}/{file}"));
            assert_eq!(asked.len(), 1, "{file} came from the store at last: {}", host.daemon.log());
        }
    }
}

/// What patches one text into another that begins with it, as an archive publishes it: the Index, the patch, and the
/// patch's name.
fn patch(old: &str, new: &str) -> (String, Vec<u8>, &'static str) {
    let added = new.strip_prefix(old).expect("something was added at the end");
    let script = format!("{}a\n{added}.\n", old.lines().count());
    let mut packer = GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(script.as_bytes()).expect("memory");
    let packed = packer.finish().expect("memory");
    let line = |bytes: &[u8], name: &str| format!("{} {} {name}", ContentHash::of(bytes), bytes.len());
    let index = format!(
        "SHA256-Current: {}\nSHA256-History:\n {}\nSHA256-Patches:\n {}\nSHA256-Download:\n {}\n",
        line(new.as_bytes(), "").trim_end(),
        line(old.as_bytes(), "T-1"),
        line(script.as_bytes(), "T-1"),
        line(&packed, "T-1.gz"),
    );
    (index, packed, "T-1.gz")
}

#[test]
fn a_patch_of_an_index_is_known_from_its_index_and_what_it_makes_is_known_from_apts_lists() {
    if !have_apt() {
        return;
    }
    const FOLDER: &str = "main/binary-amd64";
    let archive = Archive::shared();
    let branch = archive.branch();
    let debian = branch.path().join("debian");
    let text = || fs::read_to_string(debian.join("dists/huddle").join(FOLDER).join("Packages")).expect("published");
    let first = Suite { by_hash: false, ..archive.suite("huddle") };
    first.publish(&debian, archive.signer());
    let old = text();
    let mirror = Mirror::start(branch.path());
    let host = Host::start("patches", &mirror, &Config { own_lists: true, ..Config::default() });
    let apt = host.machine.apt(Way::Proxy(host.daemon.proxy()));
    apt.update().expect_success();

    let added = Package::create(&debian, "pool-new", "patched-in", "1.0", Size::Whole(40_000), 12);
    let packages = archive.packages().iter().chain([&added]).cloned().collect();
    let mut second = Suite { date: LATER_DATE, packages, ..first };
    second.publish(&debian, archive.signer());
    let (index, patch, name) = patch(&old, &text());
    let below = |name: &str| format!("{FOLDER}/Packages.diff/{name}");
    second.others = vec![(below("Index"), index.into_bytes())];
    second.publish(&debian, archive.signer());
    fs::write(debian.join("dists/huddle").join(below(name)), &patch).expect("the scratch directory is ours");

    let whole = || mirror.server().requests(&format!("/debian/dists/huddle/{FOLDER}/Packages.xz")).len();
    let before = whole();
    apt.update().expect_success();
    assert_eq!(
        mirror.server().requests(&format!("/debian/dists/huddle/{}", below(name))).len(),
        1,
        "{}",
        host.daemon.log()
    );
    assert_eq!(whole(), before, "the patch was enough");
    let hash = ContentHash::of(&patch).to_string();
    eventually("the patch is kept", PATIENCE, || {
        host.machine.objects().iter().any(|(held, _)| *held == hash).then_some(())
    });
    let question = format!("/api/v1/why?q={}", added.sha256);
    eventually("what the patch made is learned", PATIENCE, || {
        fetch(host.daemon.proxy(), &question, &[]).text().contains("\"whole\":true").then_some(())
    });
    apt.install(&["patched-in"]).expect_success();
    eventually("what is promised is kept", PATIENCE, || {
        host.machine.objects().iter().any(|(held, _)| *held == added.sha256).then_some(())
    });
}
