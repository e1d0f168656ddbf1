use proptest::prelude::*;

use super::*;

const FINGERPRINT: &str = "B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8";

fn around() -> Surroundings {
    let proxies = Proxies { listen: vec!["127.0.0.1:9977".parse().unwrap()], ..Proxies::default() };
    Surroundings { proxies, ..Surroundings::default() }
}

fn parse(name: &str, text: &str) -> (Sources, Vec<String>) {
    let (sources, bad) = Sources::parse([(name, text)], &around());
    (sources, bad.iter().map(BadSource::to_string).collect())
}

fn good(name: &str, text: &str) -> Sources {
    let (sources, bad) = parse(name, text);
    assert!(bad.is_empty(), "{bad:?}");
    sources
}

fn at(url: &str) -> Location {
    Location::parse(url).unwrap()
}

#[test]
fn the_one_line_style_is_read() {
    let text = format!(
        "# comment\n\ndeb http://m.example.org/debian/ bookworm main contrib # more\n\
         deb-src [arch=amd64,arm64 signed-by=/a.gpg,{FINGERPRINT}! check-valid-until=no] https://s.example.org sid main\n\
         deb\t[ trusted=yes ]\tcdrom:[Debian]/ bookworm main\ndeb file:/srv/debian bookworm main\n\
         deb http://flat.example.org/repo ./\n"
    );
    let sources = good("a.list", &text);
    let all: Vec<_> = sources.iter().collect();
    assert_eq!(all.len(), 3);
    assert_eq!(all[0].base.url(), "http://m.example.org/debian/");
    assert_eq!(
        (&*all[0].suites, &*all[0].components),
        (&["bookworm".to_owned()][..], &["main".into(), "contrib".into()][..])
    );
    assert_eq!((all[0].line, all[1].line, all[2].line), (3, 4, 7));
    assert_eq!(all[1].types, [SourceType::DebSrc]);
    assert_eq!(all[1].architectures, ["amd64", "arm64"]);
    assert!(!all[1].validity.check_valid_until);
    let pick = Pick { fingerprint: FINGERPRINT.parse().unwrap(), exact: true };
    assert_eq!(all[1].signed_by, Some(SignedBy { files: vec!["/a.gpg".into()], picks: vec![pick], embedded: None }));
    assert_eq!(sources.keyring_files(), ["/a.gpg"]);
}

#[test]
fn the_deb822_style_is_read() {
    let text = format!(
        "Types: deb deb-src\n# a mirror\nURIs: http://m.example.org/debian http://n.example.org/debian ftp://o.example.org\n\
         Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /a.gpg, {FINGERPRINT}\n\n\
         Enabled: no\nTypes: nonsense\n\n\
         types: deb\nuris: http://p.example.org\nsuites: ./\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQIN\n -----END PGP PUBLIC KEY BLOCK-----\n"
    );
    let sources = good("a.sources", &text);
    let all: Vec<_> = sources.iter().collect();
    assert_eq!(
        all.iter().map(|source| source.base.host()).collect::<Vec<_>>(),
        ["m.example.org", "n.example.org", "p.example.org"]
    );
    assert_eq!(all[0].types, [SourceType::Deb, SourceType::DebSrc]);
    assert_eq!(all[1].suites, ["bookworm", "bookworm-updates"]);
    assert_eq!(all[0].signed_by.as_ref().unwrap().picks.len(), 1);
    let embedded = all[2].signed_by.as_ref().unwrap().embedded.as_deref();
    assert_eq!(embedded, Some("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQIN\n-----END PGP PUBLIC KEY BLOCK-----\n"));
    assert_eq!(all[2].line, 11);
}

#[test]
fn a_bad_entry_is_named_and_the_others_are_used() {
    let text = "deb\nrpm http://a.example.org sid main\ndeb [a=b http://a.example.org sid main\ndeb http://a.example.org\n\
                deb http://a.example.org sid\ndeb [signed-by=AB12] http://a.example.org sid main\n\
                deb http://a\\b/ sid main\ndeb [x] http://a.example.org sid main\ndeb http://b.example.org sid main\n";
    let (sources, bad) = parse("a.list", text);
    assert_eq!(sources.iter().count(), 1);
    assert_eq!(bad.len(), 8, "{bad:?}");
    for (number, error) in (1..).zip(&bad) {
        assert!(error.starts_with(&format!("a.list:{number}: ")), "{error}");
    }
    let text = "Types: deb\nSuites: sid\nComponents: main\n\nTypes: x\nURIs: http://a.example.org\nSuites: sid\nComponents: main\n\n\
                Types: deb\nURIs: http://a.example.org\nSuites: sid\n\nTypes: deb\nTypes: deb\n\n\
                Types: deb\nURIs: http://a\\b http://b.example.org\nSuites: sid\nComponents: main\n";
    let (sources, bad) = parse("a.sources", text);
    assert_eq!(sources.iter().count(), 1);
    let want = [
        "a.sources:1: URIs: missing",
        "a.sources:5: Types: expected deb or deb-src",
        "a.sources:10: Components: needed",
        "a.sources:15: Types: given twice",
        "a.sources:18: not a host name",
    ];
    assert_eq!(bad.len(), want.len(), "{bad:?}");
    for (error, want) in bad.iter().zip(want) {
        assert!(error.starts_with(want), "{error}");
    }
}

#[test]
fn passwords_in_an_entry_are_not_shown() {
    let (sources, _) = parse("a.list", "deb https://user:hunter2@m.example.org/debian sid main\n");
    let source = sources.iter().next().unwrap();
    assert_eq!(source.base.credentials(), Some("user:hunter2"));
    assert!(!format!("{source:?}").contains("hunter2"));
    let (_, bad) = parse("a.list", "deb https://user:hunter2@m..example.org/debian sid main\n");
    assert!(!bad[0].contains("hunter2"), "{bad:?}");
}

#[test]
fn entries_through_the_proxy_count_as_their_origin() {
    for (uri, origin) in [
        ("http://127.0.0.1:9977/m.example.org/debian", "http://m.example.org/debian"),
        ("http://127.0.0.1:9977/m.example.org:8080/a%252b", "http://m.example.org:8080/a%252b"),
        ("http://127.0.0.1:9977/HTTPS///m.example.org/debian", "https://m.example.org/debian"),
        ("http://HTTPS///m.example.org/debian", "https://m.example.org/debian"),
        ("http://127.0.0.1:9978/m.example.org/debian", "http://127.0.0.1:9978/m.example.org/debian"),
    ] {
        let sources = good("a.list", &format!("deb {uri} sid main\n"));
        assert_eq!(sources.iter().next().unwrap().base.url(), origin);
    }
}

#[test]
fn only_hosts_and_ports_of_entries_are_named() {
    let sources = good("a.list", "deb http://127.0.0.1:8000/debian sid main\ndeb https://s.example.org/ sid main\n");
    assert!(sources.names(&at("http://127.0.0.1:8000/other")));
    assert!(sources.names(&at("https://S.example.org:443/x")));
    assert!(!sources.names(&at("http://127.0.0.1:8001/debian")));
    assert!(!sources.names(&at("http://127.0.0.1/debian")));
    assert!(!sources.names(&at("http://s.example.org/")));
}

/// Who may sign there, in a word.
fn signing(sources: &Sources, url: &str) -> String {
    match sources.signing(&at(url)) {
        Signing::By(signed_by) => signed_by.files.join(" "),
        Signing::Default => "default".to_owned(),
        Signing::Conflict => "conflict".to_owned(),
        Signing::Nobody(reason) => reason.to_owned(),
        Signing::Misplaced => "misplaced".to_owned(),
    }
}

#[test]
fn each_suite_has_its_own_signers() {
    let sources = good(
        "a.list",
        "deb [signed-by=/debian.gpg] http://m.example.org/debian bookworm main\n\
         deb-src [signed-by=/debian.gpg] http://m.example.org/debian bookworm main\n\
         deb [signed-by=/vendor.gpg] https://v.example.org/apt/ stable main\n\
         deb http://open.example.org/a sid main\n\
         deb [signed-by=/flat.gpg] http://m.example.org/debian flat/\n\
         deb [signed-by=/a.gpg] http://two.example.org sid main\ndeb [signed-by=/b.gpg] http://two.example.org sid main\n",
    );
    let by = |url: &str| signing(&sources, url);
    assert_eq!(by("http://m.example.org/debian/dists/bookworm/InRelease"), "/debian.gpg");
    assert_eq!(by("https://m.example.org/debian//dists/./bookworm/Release"), "/debian.gpg");
    assert_eq!(by("http://m.example.org/debian/flat/InRelease"), "/flat.gpg");
    assert_eq!(by("http://m.example.org/debian/dists/sid/InRelease"), "conflict");
    assert_eq!(by("https://v.example.org/apt/dists/other/InRelease"), "/vendor.gpg");
    assert_eq!(by("https://v.example.org/apt2/dists/stable/InRelease"), "default");
    assert_eq!(by("http://open.example.org/a/dists/sid/InRelease"), "default");
    assert_eq!(by("http://unknown.example.org/dists/sid/InRelease"), "default");
    assert_eq!(by("http://two.example.org/dists/sid/InRelease"), "conflict");
    assert_eq!(sources.keyring_files(), ["/a.gpg", "/b.gpg", "/debian.gpg", "/flat.gpg", "/vendor.gpg"]);
}

#[test]
fn a_flat_entry_tells_where_its_repository_begins() {
    let sources = good("a.list", "deb http://m.example.org/repo sub/dir/\ndeb http://n.example.org/repo ./\n");
    let place = |url: &str| sources.place(&at(url)).map(|(repository, dir)| (repository.to_string(), dir));
    let want = |repository: &str, dir: &str| Some((repository.to_owned(), dir.to_owned()));
    assert_eq!(place("http://m.example.org/repo/sub/dir/InRelease"), want("m.example.org/repo", "sub/dir"));
    assert_eq!(place("http://n.example.org/repo/./InRelease"), want("n.example.org/repo", ""));
    assert_eq!(place("http://o.example.org/repo/InRelease"), want("o.example.org/repo", ""));
    assert_eq!(place("http://o.example.org/dists/sid/InRelease"), want("o.example.org", "dists/sid"));
    assert_eq!(place("http://m.example.org/repo/sub/dir/Packages"), None);
}

#[test]
fn a_place_beside_those_of_the_sources_is_not_believed() {
    let sources = good(
        "a.list",
        "deb [signed-by=/debian.gpg] http://m.example.org/debian sid main\ndeb [signed-by=/flat.gpg] http://f.example.org/a sub/\n\
         deb [signed-by=/inner.gpg] http://m.example.org/debian/inner sid main\n",
    );
    for (url, want) in [
        ("http://m.example.org/debian/dists/sid/InRelease", "/debian.gpg"),
        ("http://m.example.org/debian/dists/trixie/InRelease", "/debian.gpg"),
        ("http://m.example.org/debian/dists/sid/sub/InRelease", "/debian.gpg"),
        ("http://m.example.org/debian/inner/dists/sid/InRelease", "/inner.gpg"),
        ("http://f.example.org/a/sub/InRelease", "/flat.gpg"),
        ("http://m.example.org/debian/InRelease", "misplaced"),
        ("http://m.example.org/debian/./Release", "misplaced"),
        ("http://f.example.org/a/InRelease", "misplaced"),
        ("http://m.example.org/debian/pool/InRelease", NESTED),
        ("https://m.example.org/debian/pool/dists/sid/InRelease", NESTED),
        ("http://m.example.org/debian/dists/sid/dists/sid/InRelease", NESTED),
        ("http://m.example.org/InRelease", NESTED),
        ("http://m.example.org/dists/sid/InRelease", NESTED),
        ("http://f.example.org/a/sub/sub/InRelease", NESTED),
        ("http://f.example.org/a/other/InRelease", NESTED),
        ("http://m.example.org/debian-security/dists/sid/InRelease", "default"),
        ("http://m.example.org:81/debian/pool/InRelease", "default"),
        ("http://n.example.org/debian/pool/InRelease", "default"),
    ] {
        assert_eq!(signing(&sources, url), want, "{url}");
    }
    let home = |url: &str| sources.home(&at(url)).map(Repository::to_string);
    assert_eq!(home("http://m.example.org/debian/pool/x.deb").as_deref(), Some("m.example.org/debian"));
    assert_eq!(home("http://m.example.org/debian/inner/x.deb").as_deref(), Some("m.example.org/debian/inner"));
    assert_eq!(home("http://m.example.org/debian-security/x.deb"), None);
    assert!(
        sources.has(&Repository::restore("f.example.org/a")) && !sources.has(&Repository::restore("f.example.org"))
    );
}

#[test]
fn nobody_may_sign_for_an_entry_that_cannot_be_read() {
    let paragraph = |lines: &str| format!("Types: deb\nSuites: sid\nComponents: main\n{lines}\n");
    for (name, text) in [
        ("a.list", "deb [signed-by=AB12] http://m.example.org/debian sid main\n".to_owned()),
        ("a.list", "deb [signed-by=/a.gpg http://m.example.org/debian sid main # deb\n".to_owned()),
        ("a.list", "deb http://m.example.org/debian sid\n".to_owned()),
        ("a.list", "dab [signed-by=/a.gpg] HTTP://127.0.0.1:9977/m.example.org/debian sid main\n".to_owned()),
        ("a.sources", paragraph("URIs: http://m.example.org/debian\nSigned-By: nonsense")),
        ("a.sources", paragraph("URIs: http://m.example.org/debian\nSigned-By: /a.gpg\nTypes: deb")),
        ("a.sources", paragraph("no field\nURIs:http://m.example.org/debian")),
        ("a.sources", paragraph(&format!("X: {}\nURIs: http://m.example.org/debian", "x".repeat(2_000_000)))),
    ] {
        let other = match name {
            "a.list" => "deb http://n.example.org sid main\n".to_owned(),
            _ => paragraph("URIs: http://n.example.org") + "\n",
        };
        let (sources, bad) = parse(name, &format!("{other}{text}"));
        let what = || text.chars().take(200).collect::<String>();
        assert_eq!(bad.len(), 1, "{} {bad:?}", what());
        for place in ["dists/sid/", "dists/other/", "", "pool/"] {
            let url = format!("http://m.example.org/debian/{place}InRelease");
            assert_eq!(signing(&sources, &url), UNREADABLE, "{} {url}", what());
        }
        assert_eq!(signing(&sources, "http://m.example.org/InRelease"), UNREADABLE, "{}", what());
        assert_eq!(signing(&sources, "http://o.example.org/dists/sid/InRelease"), "default", "{}", what());
        if !text.contains("xxx") {
            assert_eq!(signing(&sources, "http://n.example.org/dists/sid/InRelease"), "default", "{}", what());
        }
    }
    let off = paragraph("URIs: http://m.example.org\nEnabled: no\nSigned-By: nonsense");
    assert_eq!(signing(&good("a.sources", &off), "http://m.example.org/dists/sid/InRelease"), "default");
    let (_, bad) = parse("a.list", &"deb\n".repeat(1000));
    assert_eq!(bad.len(), MAX_BAD);
}

#[test]
fn the_mirrors_of_a_list_need_the_signature_that_its_entry_names() {
    let uri = "mirror+file:/etc/apt/a.list";
    for (name, text) in [
        ("a.list", format!("# mirror+file:/none\ndeb [signed-by=/a.gpg] {uri} sid main\n")),
        ("a.sources", format!("Types: deb\nURIs: {uri}\nSuites: sid\nComponents: main\nSigned-By: /a.gpg\n")),
    ] {
        assert_eq!(mirror_lists(&text), ["/etc/apt/a.list"]);
        let list =
            "# ours\nhttp://m.example.org/debian\tpriority:1\n\nhttps://n.example.org/debian/ type:deb\nfile:/srv\n";
        let lists = [("/etc/apt/a.list".to_owned(), list.to_owned())].into();
        let (sources, bad) = Sources::parse([(name, &*text)], &Surroundings { lists, ..around() });
        assert_eq!(bad, []);
        for (url, want) in [
            ("http://m.example.org/debian/dists/sid/InRelease", "/a.gpg"),
            ("https://n.example.org/debian/dists/sid/InRelease", "/a.gpg"),
            ("http://o.example.org/debian/dists/sid/InRelease", "default"),
        ] {
            assert_eq!(signing(&sources, url), want, "{name} {url}");
        }
        assert!(sources.names(&at("http://m.example.org/")));

        for (text, is_told) in [
            (text.clone(), true),
            (text.replace("+file:/", "+http://l.example.org/"), true),
            (text.replace("mirror+file:/", "mirror://l.example.org/"), true),
            (text.replace("[signed-by=/a.gpg] ", "").replace("Signed-By: /a.gpg\n", ""), false),
        ] {
            let other = match name {
                "a.list" => "deb http://p.example.org sid main\n",
                _ => "\nTypes: deb\nURIs: http://p.example.org\nSuites: sid\nComponents: main\n",
            };
            let text = text + other;
            let (sources, bad) = Sources::parse([(name, &*text)], &around());
            assert_eq!(
                bad.iter().map(|bad| bad.is_malformed).collect::<Vec<_>>(),
                vec![false; is_told.into()],
                "{text}"
            );
            let want = if is_told { UNKNOWN } else { "default" };
            assert_eq!(signing(&sources, "http://o.example.org/debian/dists/sid/InRelease"), want, "{text}");
            assert_eq!(signing(&sources, "http://p.example.org/dists/sid/InRelease"), "default", "{text}");
        }
    }
    let unreadable = Surroundings { unreadable: vec!["secret.list".to_owned()], ..around() };
    let (sources, bad) = Sources::parse([], &unreadable);
    assert_eq!(bad.len(), 1);
    assert_eq!(signing(&sources, "http://o.example.org/debian/dists/sid/InRelease"), UNKNOWN);
}

/// What entries for one place say of time.
fn validity(name: &str, text: &str, url: &str) -> Validity {
    good(name, text).validity(&at(url))
}

#[test]
fn what_an_entry_says_of_time_is_read_in_both_styles() {
    let options = "check-date=no Valid-Until-Min=60 valid-until-max=3600 date-max-future=20 check-valid-until=off";
    let line = format!("deb [{options}] http://m.example.org sid main\n");
    let fields = options.replace('=', ": ").replace(' ', "\n").replace(":\n", ": ");
    let stanza = format!("Types: deb\nURIs: http://m.example.org\nSuites: sid\nComponents: main\n{fields}\n");
    let seconds = std::time::Duration::from_secs;
    let want = Validity {
        check_date: false,
        check_valid_until: false,
        at_least: Some(seconds(60)),
        at_most: Some(seconds(3600)),
        ahead: seconds(20),
    };
    for (name, text) in [("a.list", &*line), ("a.sources", &*stanza)] {
        assert_eq!(validity(name, text, "http://m.example.org/dists/sid/InRelease"), want, "{name}");
        assert_eq!(validity(name, text, "http://m.example.org/dists/trixie/InRelease"), Validity::default(), "{name}");
    }
    let text = "deb [check-valid-until=no] http://m.example.org sid main\ndeb http://m.example.org sid contrib\n";
    let both = validity("a.list", text, "http://m.example.org/dists/sid/InRelease");
    assert!(both.check_valid_until, "two entries disagree");
}

#[test]
fn the_architecture_is_filled_in() {
    let line = "deb http://m.example.org/$(ARCH)/debian $(ARCH)/\ndeb http://m.example.org/p/$(ARCH) a-$(ARCH) main\n";
    let stanza = "Types: deb\nURIs: http://m.example.org/$(ARCH)/debian\nSuites: $(ARCH)/\n\n\
                  Types: deb\nURIs: http://m.example.org/p/$(ARCH)\nSuites: a-$(ARCH)\nComponents: main\n";
    for (name, text) in [("a.list", line), ("a.sources", stanza)] {
        let sources = good(name, text);
        let place = |url: String| sources.place(&at(&url)).map(|(repository, dir)| (repository.to_string(), dir));
        let a = ARCHITECTURE;
        let flat = place(format!("http://m.example.org/{a}/debian/{a}/InRelease"));
        assert_eq!(flat, Some((format!("m.example.org/{a}/debian"), a.to_owned())), "{name}");
        let suite = place(format!("http://m.example.org/p/{a}/dists/a-{a}/InRelease"));
        assert_eq!(suite, Some((format!("m.example.org/p/{a}"), format!("dists/a-{a}"))), "{name}");
    }
}

#[test]
fn a_comment_begins_at_the_first_hash_that_is_in_no_brackets() {
    let sources = good(
        "a.list",
        "deb [signed-by=/a#b.gpg] http://m.example.org sid main # [c\n#deb [x] http://n.example.org\n\
         deb http://o.example.org sid main #x [y=z] #\n",
    );
    assert_eq!(sources.keyring_files(), ["/a#b.gpg"]);
    let components: Vec<_> = sources.iter().map(|source| source.components.join(" ")).collect();
    assert_eq!(components, ["main", "main"]);
}

#[test]
fn an_entry_that_leads_out_of_its_address_has_no_suite_there() {
    let text = "deb http://m.example.org/a ../b main\ndeb http://m.example.org/a ../../b/\ndeb http://m.example.org/a b\\c main\n\
                deb http://m.example.org/a/../b sid main\ndeb http://m.example.org/a\0b sid main\n";
    let (sources, bad) = parse("a.list", text);
    assert_eq!(bad.iter().map(|error| &error[..9]).collect::<Vec<_>>(), ["a.list:4:", "a.list:5:"]);
    for url in [
        "http://m.example.org/b/InRelease",
        "http://m.example.org/a/b/InRelease",
        "http://m.example.org/a/dists/b/InRelease",
    ] {
        assert_eq!(sources.entries_for(&at(url)).count(), 0, "{url}");
    }
}

/// An entry as people may write it.
fn any_entry() -> impl Strategy<Value = Source> {
    let word = || "[a-z][a-z0-9.-]{0,6}";
    let words = || proptest::collection::vec(word(), 1..4);
    let flat = ("([a-z]{1,3}/){1,3}".prop_map(|suite| vec![suite]), Just(Vec::new()));
    let suites = prop_oneof![(words(), words()), flat];
    let base = ("https?://[a-z]{1,5}\\.example\\.org(:8[0-9]{3})?(/[a-z~+]{1,4}){0,2}/?", any::<bool>());
    let signed_by = proptest::option::of((proptest::collection::vec("/[a-z]{1,4}\\.gpg", 0..3), "[0-9A-F]{40}!?"));
    let time = (any::<[bool; 2]>(), proptest::option::of(1..u32::MAX), proptest::option::of(1..u32::MAX), 1..u32::MAX);
    (base, suites, proptest::collection::vec(word(), 0..3), signed_by, time).prop_map(
        |((base, source), (suites, components), architectures, signed_by, (checks, at_least, at_most, ahead))| {
            let seconds = |seconds: u32| std::time::Duration::from_secs(seconds.into());
            Source {
                types: vec![if source { SourceType::DebSrc } else { SourceType::Deb }],
                base: at(&base),
                suites,
                components,
                architectures,
                signed_by: signed_by.map(|(files, pick)| SignedBy {
                    files,
                    picks: vec![pick.parse().unwrap()],
                    embedded: None,
                }),
                validity: Validity {
                    check_date: checks[0],
                    check_valid_until: checks[1],
                    at_least: at_least.map(seconds),
                    at_most: at_most.map(seconds),
                    ahead: seconds(ahead),
                },
                file: String::new(),
                line: 1,
            }
        },
    )
}

/// The options of an entry, by their names in deb822 style, with their values.
fn options_of(entry: &Source) -> Vec<(&'static str, String)> {
    let yes = |yes| if yes { "yes" } else { "no" }.to_owned();
    let pick = |pick: &Pick| format!("{}{}", pick.fingerprint, if pick.exact { "!" } else { "" });
    let keys = |by: &SignedBy| by.files.iter().cloned().chain(by.picks.iter().map(pick)).collect::<Vec<_>>().join(",");
    let seconds = |time: std::time::Duration| time.as_secs().to_string();
    let validity = &entry.validity;
    let architectures = Some(entry.architectures.join(",")).filter(|all| !all.is_empty());
    [
        ("Architectures", architectures),
        ("Signed-By", entry.signed_by.as_ref().map(keys)),
        ("Check-Date", Some(yes(validity.check_date))),
        ("Check-Valid-Until", Some(yes(validity.check_valid_until))),
        ("Valid-Until-Min", validity.at_least.map(seconds)),
        ("Valid-Until-Max", validity.at_most.map(seconds)),
        ("Date-Max-Future", Some(seconds(validity.ahead))),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

fn one_line(entry: &Source) -> String {
    let options = options_of(entry);
    let options = options.iter().map(|(name, value)| format!("{}={value} ", name.replace("Architectures", "arch")));
    let kind = if entry.types == [SourceType::Deb] { "deb" } else { "deb-src" };
    let suites = entry.suites.iter().map(|suite| {
        format!(
            "{kind} [ {}] {} {suite} {}\n",
            options.clone().collect::<String>(),
            entry.base.url(),
            entry.components.join(" ")
        )
    });
    suites.collect()
}

fn stanza(entry: &Source) -> String {
    let options = options_of(entry);
    let lines = options.iter().map(|(name, value)| match *name {
        "Architectures" => format!("{name}: {}\n", value.replace(',', " ")),
        _ => format!("{name}: {value}\n"),
    });
    let kind = if entry.types == [SourceType::Deb] { "deb" } else { "deb-src" };
    let (suites, components) = (entry.suites.join("\n "), entry.components.join(" "));
    let components = if components.is_empty() { components } else { format!("Components: {components}\n") };
    format!("Types: {kind}\nURIs: {}\nSuites: {suites}\n{components}{}", entry.base.url(), lines.collect::<String>())
}

proptest! {
    #[test]
    fn an_entry_is_read_back_from_both_styles(entry in any_entry(), crlf: bool) {
        let written = |text: String| if crlf { text.replace('\n', "\r\n") } else { text };
        let read = good("a.sources", &written(stanza(&entry)));
        let want = Source { file: "a.sources".to_owned(), ..entry.clone() };
        prop_assert_eq!(read.iter().collect::<Vec<_>>(), [&want]);
        let read = good("a.list", &written(one_line(&entry)));
        let want: Vec<_> = entry.suites.iter().zip(1..).map(|(suite, line)| {
            Source { suites: vec![suite.clone()], file: "a.list".to_owned(), line, ..entry.clone() }
        }).collect();
        prop_assert_eq!(read.iter().collect::<Vec<_>>(), want.iter().collect::<Vec<_>>());
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(deb |deb-src |\\[|\\]|a=b|http://|[a-z./#,!=:\n \t-]){0,30}") {
        Sources::parse([("a.list", &*text), ("a.sources", &*text), ("a.save", &*text)], &around());
    }
}
