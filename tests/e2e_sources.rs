//! Source packages: what real `apt-get source` fetches is known from Sources, in a pooled repository and in a flat one.

use std::{fs, path::Path};

use apt_huddle::hash::ContentHash;

use crate::harness::{
    apt::{Way, have_apt},
    archive::Archive,
    daemon::{Daemon, run_to_end},
    eventually,
    huddle::Host,
    machine::{Config, Machine},
    mirror::Mirror,
    scratch,
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
