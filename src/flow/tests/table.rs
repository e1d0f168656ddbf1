//! Every kind of index in every packing, layout and name, all the way from a signed Release to what is promised.

use crate::archive::{
    Compression, Digest, IndexKind, Release, Sources, Surroundings, Trust, index_kind, path,
    testing::{Key, clear_signed, now, pack},
};

use super::{super::read::read, *};

/// What lists files: its path below the suite, its text, and the files that it lists, below the repository where they
/// begin with `pool`, else beside the index.
fn indexes() -> [(&'static str, IndexKind, String, Vec<&'static str>); 4] {
    let line = |name: &str| format!("{} {} {name}", ContentHash::of(name.as_bytes()), name.len());
    let packages: String = ["hello", "bye"]
        .map(|name| {
            let (hash, file) = (ContentHash::of(name.as_bytes()), format!("./pool/{name}_1_all.deb"));
            format!(
                "Package: {name}\nVersion: 1\nArchitecture: all\nFilename: {file}\nSize: {}\nSHA256: {hash}\n\n",
                name.len()
            )
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

/// What is promised at a URL, under its plain path as a request for it has it.
async fn promise(scene: &Scene, base: &str, below: &str) -> Option<Vouched> {
    scene.flow.promise(&Location::parse(&format!("{base}/{below}")).unwrap()).await
}

/// Makes a Release the latest of its suite, or one that lists nothing.
fn publish(scene: &Scene, release: &Release, day: u64, lists: bool) {
    let members = release.members().chain(release.aliases()).filter(|_| lists);
    let date = SystemTime::UNIX_EPOCH + Duration::from_secs(day * 86_400);
    scene.store().record_release(release.repository(), release.suite_dir(), date, "key", members).unwrap();
}

#[tokio::test]
async fn every_kind_in_every_packing_is_learned_in_every_layout_by_every_name() {
    let (scene, key) = (Scene::set(), Key::new());
    let mut day = 0;
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
        let (sources, bad) = Sources::parse([("a.list", &*format!("deb {source}\n"))], &Surroundings::default());
        assert_eq!(bad, []);
        let trust = Trust::new(sources, key.ring(), []).0;
        let message = clear_signed(&release_text(&files), &[&key]);
        let verdict = trust.verify_inrelease(&Location::parse(at).unwrap(), message.as_bytes(), true, now());
        let release = verdict.verified().unwrap();
        assert_eq!((release.members().len(), release.suite_dir()), (files.len(), suite_dir));
        let base = format!("http://{}", release.repository());

        for (path, bytes) in &files {
            let whole = path::join(suite_dir, path);
            let folder = path::split(&whole).0;
            let sha256 = ContentHash::of(bytes);
            let names = [
                whole.clone(),
                Digest::Sha256(sha256).path_in(folder),
                Digest::Sha512(sha512_name(bytes).parse().unwrap()).path_in(folder),
                Digest::Md5(md5_name(bytes).parse().unwrap()).path_in(folder),
            ];
            let index = indexes.iter().find(|(index, ..)| place(index) == Compression::of(path).0);
            for asked in &names {
                for lists in [false, true] {
                    day += 1;
                    publish(&scene, &release, day, lists);
                }
                let vouched = promise(&scene, &base, asked).await.unwrap();
                assert_eq!(*vouched.expected(), Expected { hash: sha256, size: bytes.len() as u64 }, "{asked}");
                assert_eq!(vouched.path(), whole, "{asked}");
                let Some((_, kind, _, want)) = index else {
                    assert_eq!(index_kind(vouched.path()), None, "{asked}");
                    continue;
                };
                let (found, compression) = index_kind(vouched.path()).unwrap();
                assert_eq!(found, *kind, "{asked}");
                let want: Vec<_> = want
                    .iter()
                    .map(|file| match file.starts_with("pool") {
                        true => (*file).to_owned(),
                        false => path::join(folder, file),
                    })
                    .collect();
                for file in &want {
                    assert_eq!(promise(&scene, &base, file).await, None, "{asked}: {file}");
                }
                assert_eq!(read(scene.store(), &vouched, compression, &bytes[..]).unwrap(), want.len(), "{asked}");
                for file in &want {
                    let name = path::split(file).1;
                    let text = name.strip_suffix("_1_all.deb").unwrap_or(name);
                    let promised = promise(&scene, &base, file).await.unwrap();
                    let expected = Expected { hash: ContentHash::of(text.as_bytes()), size: text.len() as u64 };
                    assert_eq!((promised.path(), *promised.expected()), (&**file, expected), "{asked}");
                }
            }
        }
    }
}
