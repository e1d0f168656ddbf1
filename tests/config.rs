//! The configuration: what is written is taken, or refused in one line that says where and why.

use std::{
    fs,
    path::{Path, PathBuf},
};

use apt_huddle::config::KEYS;

use crate::harness::{
    daemon::{Daemon, Output, product, run_to_end},
    own_network, scratch,
};

/// A text, the key that is at fault, and a word of what was expected.
const BAD: &[(&str, &str, &str)] = &[
    ("[proxy]\nlisen = [\"127.0.0.1:0\"]\n", "lisen", "listen"),
    ("[proxxy]\n", "proxxy", "proxy"),
    ("colour = \"blue\"\n", "colour", "proxy"),
    ("[fetch]\nmirror = \"often\"\n", "mirror", "sparing"),
    ("[mirror]\nproxy = \"often\"\n", "proxy", "environment"),
    ("[mirror]\nproxy = \"socks5://p.example.org\"\n", "proxy", "http://"),
    ("[mirror]\nproxy = \"http://localhost:9977\"\n", "proxy", "itself"),
    ("[peer]\nshare = \"some\"\n", "share", "take"),
    ("[peer]\nupload_limit = \"fast\"\n", "upload_limit", "kB/s"),
    ("[peer]\nupload_limit = -1\n", "upload_limit", "kB/s"),
    ("[peer]\nlisten = [\"127.0.0.1\"]\n", "listen", "port"),
    ("[proxy]\nlisten = \"127.0.0.1:99999\"\n", "listen", "port"),
    ("[proxy]\nallow = [\"10.0.0.0/99\"]\n", "allow", "CIDR"),
    ("[proxy]\nlisten = [\"0.0.0.0:0\"]\n", "allow", "CIDR"),
    ("[store]\nquota = \"a lot\"\n", "quota", "GB"),
    ("[store]\nquota = \"99999999999999999999GB\"\n", "quota", "GB"),
    ("[dht]\nnetwork = \"mainline\"\n", "network", "private"),
    ("[dht]\nnetwork = \"private\"\n", "secret", "private"),
    ("[dht]\nbootstrap = [\"no port\"]\n", "bootstrap", "host:port"),
    ("[dht]\nrendezvous = \"yes\"\n", "rendezvous", "true"),
    ("[dht]\nlan = 1\n", "lan", "true"),
    ("[dht]\nmainline = [\"no port\"]\n", "mainline", "host:port"),
    ("[archive]\nkeyrings = [\"/no/such/keyring.gpg\"]\n", "keyrings", "/no/such/keyring.gpg"),
    ("[archive]\napt_dir = 7\n", "apt_dir", "string"),
    ("[archive]\nlists = []\n", "lists", "string"),
];

/// Runs it with a file, which must not get as far as to start anything.
fn refused(home: &Path, config: &Path) -> Output {
    let mut command = product();
    command.arg("run").arg("--config").arg(config).env("HOME", home).env("APT_HUDDLE_STORE_PATH", home.join("store"));
    run_to_end(command)
}

#[track_caller]
fn assert_one_line(home: &Path, output: &Output, words: &[&str]) {
    let said = &output.stderr;
    assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
    assert_eq!(said.trim_end().lines().count(), 1, "one line: {said}");
    assert!(output.stdout.is_empty(), "{words:?}");
    words.iter().for_each(|word| assert!(said.contains(word), "{word:?} in: {said}"));
    assert!(!home.join("store").exists(), "nothing was started: {said}");
}

#[test]
fn a_bad_file_is_refused_in_one_line_with_file_key_and_what_was_expected() {
    let home = scratch("config-");
    let file = home.path().join("apt-huddle.toml");
    for (text, key, expected) in BAD {
        fs::write(&file, text).expect("the scratch directory is ours");
        println!("{text}");
        assert_one_line(home.path(), &refused(home.path(), &file), &[&file.display().to_string(), key, expected]);
    }
}

#[test]
fn a_file_that_is_not_toml_or_cannot_be_read_is_one_line_too() {
    let home = scratch("config-");
    let missing = home.path().join("missing.toml");
    assert_one_line(home.path(), &refused(home.path(), &missing), &["missing.toml"]);
    assert_one_line(home.path(), &refused(home.path(), home.path()), &[&home.path().display().to_string()]);
    let broken = home.path().join("broken.toml");
    for bytes in [&b"[proxy\nlisten"[..], b"\xff\xfe", b"[proxy]\nlisten = [\"127.0.0.1:0\"\n\n\n\n"] {
        fs::write(&broken, bytes).expect("the scratch directory is ours");
        assert_one_line(home.path(), &refused(home.path(), &broken), &["broken.toml"]);
    }
}

#[test]
fn a_store_that_cannot_be_is_one_line() {
    let home = scratch("config-");
    let file = home.path().join("file");
    fs::write(&file, "not a folder").expect("the scratch directory is ours");
    let config = home.path().join("apt-huddle.toml");
    let path = file.join("store");
    fs::write(&config, format!("[proxy]\nlisten = [\"127.0.0.1:0\"]\n[store]\npath = {path:?}\n")).expect("room");
    let mut command = product();
    command.arg("run").arg("--config").arg(&config).env("HOME", home.path());
    command.env("APT_HUDDLE_PEER_LISTEN", format!("{}:0", own_network()));
    let output = run_to_end(command);
    let said = &output.stderr;
    assert!(!output.status.success() && said.contains(&path.display().to_string()), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
}

#[test]
fn the_environment_sets_keys_and_is_checked_as_the_file_is() {
    let home = scratch("config-");
    let mut command = product();
    command.arg("run").env("HOME", home.path()).env("APT_HUDDLE_STORE_PATH", home.path().join("store"));
    command.env("APT_HUDDLE_FETCH_MIRROR", "often");
    let output = run_to_end(command);
    assert_one_line(home.path(), &output, &["APT_HUDDLE_FETCH_MIRROR", "sparing"]);
}

#[test]
fn the_annotated_file_the_man_page_and_the_code_have_the_same_keys_and_defaults() {
    let text = fs::read_to_string(annotated()).expect("the file that users are given");
    let mut section = String::new();
    let mut written = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((key, value)) = uncommented(line).unwrap_or(line).split_once(" = ") {
            let before = text.lines().nth(number.saturating_sub(1)).unwrap_or_default();
            assert!(before.starts_with("# ") && uncommented(before).is_none(), "{key} is explained before it");
            written.push((section.clone(), key.to_owned(), value.to_owned()));
        }
    }
    let known = || KEYS.iter().map(|key| (key.section.to_owned(), key.name.to_owned(), key.default.to_owned()));
    assert_eq!(written, known().collect::<Vec<_>>());

    let man =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("man/apt-huddle.toml.5")).expect("it is there");
    let mut told = Vec::new();
    for line in man.lines() {
        if let Some((name, _)) = line.strip_prefix(".Ss Section [").and_then(|line| line.split_once(']')) {
            name.clone_into(&mut section);
        } else if let Some(key) = line.strip_prefix(".It Ic ") {
            let (key, default) = key.split_once(" No = ").unwrap_or((key, ""));
            told.push((section.clone(), key.to_owned(), default.to_owned()));
        }
    }
    let known = known().map(|(section, key, default)| {
        let default = if key == "path" { String::new() } else { in_mdoc(&default) };
        (section, key, default)
    });
    assert_eq!(told, known.collect::<Vec<_>>());
}

/// A default as the man page writes it: long lists are left to the text.
fn in_mdoc(default: &str) -> String {
    let value: toml::Table = format!("value = {default}").parse().expect("TOML");
    let text = |value: &toml::Value| format!("Qq {}", value.as_str().unwrap_or_default()).trim_end().to_owned();
    match &value["value"] {
        toml::Value::Array(list) if list.len() > 1 => "Bq Ar ...".to_owned(),
        toml::Value::Array(list) => format!("Bq {}", list.first().map(text).unwrap_or_default()).trim_end().to_owned(),
        toml::Value::String(_) => text(&value["value"]),
        other => other.to_string(),
    }
}

fn annotated() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/apt-huddle.toml")
}

#[test]
fn the_annotated_file_loads_as_it_is_and_with_every_key_set() {
    let path = annotated();
    let text = fs::read_to_string(&path).expect("the file that users are given");
    let set: Vec<_> = text.lines().map(|line| uncommented(line).unwrap_or(line)).collect();
    let set = set.join("\n");
    let home = scratch("config-");
    let all = home.path().join("all.toml");
    fs::write(&all, set).expect("the scratch directory is ours");
    for file in [&path, &all] {
        let mut command = product();
        command.arg("run").arg("--config").arg(file).env("HOME", home.path());
        command.env("APT_HUDDLE_PROXY_LISTEN", "127.0.0.1:0").env("APT_HUDDLE_STORE_PATH", home.path().join("store"));
        command.env("APT_HUDDLE_PEER_LISTEN", format!("{}:0", own_network())).env("APT_HUDDLE_DHT_BOOTSTRAP", "");
        let daemon = Daemon::start_as("annotated", command, true);
        drop(daemon.unwrap_or_else(|how| panic!("{}: {how:?}", file.display())));
    }
}

/// The key of a line like `#key = value` or `# key = value`, without the mark.
fn uncommented(line: &str) -> Option<&str> {
    let rest = line.strip_prefix('#')?.trim_start();
    let (key, _) = rest.split_once(" = ")?;
    let known = KEYS.iter().any(|known| known.name == key);
    known.then_some(rest)
}
