#![expect(clippy::disallowed_methods, reason = "the tests write the files that are rewritten")]

use std::fs;

use super::*;

/// A machine's apt configuration in a directory of its own.
fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Config) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let mut config = Config::default();
    config.archive.apt_dir = dir.path().to_owned();
    (dir, config)
}

fn doer<'a>(config: &'a Config, dump: &str, is_dry: bool) -> (Doer<'a>, Vec<Listed>) {
    let settings = Settings::parse(dump);
    let listed = files::listed(&config.archive.apt_dir).unwrap();
    let ground = ground(config, &settings, &listed);
    (Doer { config, settings, ground, is_dry }, listed)
}

fn rewrite(config: &Config, dump: &str, is_dry: bool) -> Outcome {
    let (doer, listed) = doer(config, dump, is_dry);
    doer.rewrite(&listed)
}

fn restore(config: &Config) -> Outcome {
    let (doer, listed) = doer(config, "", false);
    doer.restore(&listed)
}

fn read(dir: &tempfile::TempDir, name: &str) -> String {
    fs::read_to_string(dir.path().join(name)).unwrap()
}

const LIST: &str = "# mine\ndeb http://a.example.org/debian sid main\ndeb [arch=amd64] https://b.example.org/x ./\n";
const STANZA: &str = "Types: deb\nURIs: http://c.example.org/debian\nSuites: sid\nComponents: main\n";

#[test]
fn both_styles_are_rewritten_and_come_back_byte_for_byte() {
    let (dir, config) = machine(&[("sources.list", LIST), ("sources.list.d/c.sources", STANZA)]);
    let there = rewrite(&config, "", false);
    assert!(there.good && there.text.contains("apt-get update"), "{}", there.text);
    let list = read(&dir, "sources.list");
    assert!(list.contains("deb http://127.0.0.1:9977/a.example.org/debian sid main\n"), "{list}");
    assert!(list.contains("deb [arch=amd64] http://127.0.0.1:9977/HTTPS///b.example.org/x ./\n"), "{list}");
    assert!(read(&dir, "sources.list.d/c.sources").contains("URIs: http://127.0.0.1:9977/c.example.org/debian\n"));
    assert_eq!(read(&dir, "sources.list.apt-huddle.save"), LIST);
    assert_eq!(rewrite(&config, "", false).text, "Nothing to rewrite.\n");
    let back = restore(&config);
    assert!(back.good, "{}", back.text);
    assert_eq!((read(&dir, "sources.list").as_str(), read(&dir, "sources.list.d/c.sources").as_str()), (LIST, STANZA));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left behind");
    assert_eq!(restore(&config).text, "Nothing to restore.\n");
}

#[test]
fn a_dry_run_prints_a_diff_and_changes_nothing() {
    let (dir, config) = machine(&[("sources.list", LIST)]);
    let told = rewrite(&config, "", true);
    for line in [
        format!("--- {0}\n+++ {0}\n", dir.path().join("sources.list").display()),
        "-deb http://a.example.org/debian sid main\n".to_owned(),
        "+deb http://127.0.0.1:9977/a.example.org/debian sid main\n".to_owned(),
        " # mine\n".to_owned(),
    ] {
        assert!(told.text.contains(&line), "{line:?} in\n{}", told.text);
    }
    assert_eq!((read(&dir, "sources.list").as_str(), fs::read_dir(dir.path()).unwrap().count()), (LIST, 1));
}

#[test]
fn what_was_changed_since_keeps_its_changes_and_what_it_was_before() {
    let (dir, config) = machine(&[("sources.list", LIST)]);
    assert!(rewrite(&config, "", false).good);
    let more = read(&dir, "sources.list") + "deb http://d.example.org sid main\n";
    fs::write(dir.path().join("sources.list"), &more).unwrap();
    let told = restore(&config);
    assert!(told.good && told.text.contains("sources.list.apt-huddle.save"), "{}", told.text);
    assert_eq!(read(&dir, "sources.list"), LIST.to_owned() + "deb http://d.example.org sid main\n");
    assert_eq!(read(&dir, "sources.list.apt-huddle.save"), LIST);
    assert!(restore(&config).text.contains("is left"));
    // Rewritten again, it is kept as it is now.
    assert!(rewrite(&config, "", false).good);
    assert_eq!(read(&dir, "sources.list.apt-huddle.save"), LIST.to_owned() + "deb http://d.example.org sid main\n");
}

#[test]
fn one_file_that_is_not_understood_is_left_and_the_others_are_not() {
    let broken = "deb http://a.example.org sid\n";
    let (dir, config) = machine(&[("sources.list", LIST), ("sources.list.d/broken.list", broken)]);
    let told = rewrite(&config, "", false);
    assert!(
        !told.good && told.text.contains("broken.list: left as it is") && told.text.contains("line 1"),
        "{}",
        told.text
    );
    assert_eq!(read(&dir, "sources.list.d/broken.list"), broken);
    assert_ne!(read(&dir, "sources.list"), LIST);
}

#[test]
fn hosts_with_passwords_pins_or_settings_of_their_own_stay_as_they_are() {
    let (dir, config) = machine(&[
        ("sources.list", LIST),
        ("sources.list.d/c.sources", STANZA),
        ("auth.conf.d/b.conf", "machine b.example.org login x password y\n"),
        ("preferences.d/c", "Package: *\nPin: origin \"c.example.org\"\nPin-Priority: 900\n"),
    ]);
    let told = rewrite(&config, "Acquire::http::Proxy::a.example.org \"DIRECT\";\n", false);
    assert!(told.good, "{}", told.text);
    for why in
        ["sources.list:2: left", "settings for this host", "sources.list:3: left", "password", "c.sources:2: left"]
    {
        assert!(told.text.contains(why), "{why} in\n{}", told.text);
    }
    assert_eq!((read(&dir, "sources.list").as_str(), read(&dir, "sources.list.d/c.sources").as_str()), (LIST, STANZA));
}

#[test]
fn where_apt_would_ask_another_proxy_nothing_is_rewritten() {
    let (dir, config) = machine(&[("sources.list", LIST)]);
    let general = "Acquire::http::Proxy \"http://proxy.example.org:3128\";\n";
    let told = rewrite(&config, general, false);
    assert!(!told.good && told.text.contains("Acquire::http::Proxy::127.0.0.1 \"DIRECT\";"), "{}", told.text);
    assert_eq!(read(&dir, "sources.list"), LIST);
    let own = format!("{general}Acquire::http::Proxy::127.0.0.1 \"DIRECT\";\n");
    assert!(rewrite(&config, &own, true).good);
}

#[test]
fn a_list_says_which_way_each_source_goes_and_whether_it_is_shared() {
    let list = "deb http://a.example.org/debian sid main\ndeb https://b.example.org/x ./\n\
                deb http://127.0.0.1:9977/10.0.0.5/y sid main\ndeb http://127.0.0.1:9977/HTTPS///d.example.org/y sid main\n\
                deb cdrom:[Debian]/ sid main\ndeb http://u:secret@e.example.org/ sid main\n\
                deb tor+http://u:secret@f.example.org/ sid main\n";
    let (_dir, mut config) = machine(&[("sources.list", list)]);
    let proxy = "Acquire::http::Proxy \"http://localhost:9977/\";\nAcquire::https::Proxy \"DIRECT\";\n";
    let told = |config: &Config| {
        let (doer, listed) = doer(config, proxy, false);
        let outcome = doer.tell(&listed);
        assert!(outcome.good && outcome.text.lines().all(|line| line.chars().count() <= 80), "{}", outcome.text);
        assert!(!outcome.text.contains("secret"), "{}", outcome.text);
        outcome.text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let text = told(&config);
    for part in [
        "line 1 http://a.example.org/debian through apt-huddle, by apt's proxy kept, and shared",
        "line 2 https://b.example.org/x past apt-huddle, directly, by apt's proxy; --rewrite would lead it here",
        "line 3 http://10.0.0.5/y through apt-huddle, by its address kept when it is signed, never shared: its address",
        "line 4 https://d.example.org/y through apt-huddle, by its address kept, and shared",
        "line 5 cdrom:[Debian]/ not through apt-huddle: not fetched over http",
        "line 6 http://e.example.org/ through apt-huddle, by apt's proxy kept when it is signed, never shared: there is a",
    ] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
    config.privacy.hosts = toml::from_str::<Config>("privacy.hosts = [\"a.example.org\"]").unwrap().privacy.hosts;
    assert!(told(&config).contains("never shared: [privacy] hosts names it"));
}
