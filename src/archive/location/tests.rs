use proptest::prelude::*;

use super::*;

fn ok(url: &str) -> Location {
    Location::parse(url).unwrap_or_else(|error| panic!("{error}"))
}

fn reason(url: &str) -> &'static str {
    match Location::parse(url) {
        Ok(location) => panic!("{url:?} was read as {location}"),
        Err(error) => error.reason,
    }
}

#[test]
fn every_spelling_of_a_url_has_one_key() {
    let key = "mirror.example.org/debian/pool/h/hello_1:2+b~c.deb";
    for url in [
        "http://mirror.example.org/debian/pool/h/hello_1:2+b~c.deb",
        "http://MIRROR.Example.ORG:80/debian/pool/h/hello_1%3a2%2Bb%7ec.deb",
        "HTTP://mirror.example.org./debian//pool/./h/hello_1%3A2+b~c.deb",
        "https://mirror.example.org:443/debian/pool/h/%68ello_1:2+b~c.deb",
        "http://HTTPS///mirror.example.org/debian/pool/h/hello_1:2+b~c.deb",
        "http://user:secret@mirror.example.org:/debian/pool/h/hello_1:2+b~c.deb",
    ] {
        assert_eq!(ok(url).key(), key, "{url}");
    }
    assert_eq!(ok("http://mirror.example.org:8080/a").key(), "mirror.example.org:8080/a");
    assert_eq!(ok("https://mirror.example.org:80/a").key(), "mirror.example.org:80/a");
}

#[test]
fn the_parts_are_kept_apart() {
    let location = ok("https://us%65r:p%40ss@mirror.example.org:8443/a%20b/c%25d?token=x%2Fy");
    assert!(location.is_https());
    assert_eq!(location.host(), "mirror.example.org");
    assert_eq!(location.authority(), "mirror.example.org:8443");
    assert_eq!(location.port_or_default(), 8443);
    assert_eq!(location.path(), "/a b/c%d");
    assert_eq!(location.file_name(), "c%d");
    assert_eq!(location.query(), Some("token=x%2Fy"));
    assert_eq!(location.credentials(), Some("user:p@ss"));
    assert_eq!(location.url(), "https://mirror.example.org:8443/a%20b/c%25d?token=x%2Fy");
    assert_eq!(ok("http://mirror.example.org").path(), "/");
    assert_eq!(ok("http://mirror.example.org").port_or_default(), 80);
    assert_eq!(ok("https://mirror.example.org").port_or_default(), 443);
}

#[test]
fn a_question_mark_in_a_path_is_not_a_query() {
    let (path, query) = (ok("http://mirror.example.org/a%3Fb"), ok("http://mirror.example.org/a?b"));
    assert_ne!(path.key(), query.key());
    assert_eq!(path.path(), "/a?b");
}

#[test]
fn credentials_and_queries_are_never_shown() {
    let location = ok("http://user:hunter2@mirror.example.org/a?token=hunter2");
    let shown = [format!("{location}"), format!("{location:?}"), location.key(), location.authority()];
    assert!(!shown[0].contains("hunter2") && !shown[1].contains("hunter2"), "{shown:?}");
    assert!(!shown[2].contains("user") && !shown[3].contains("user"), "{shown:?}");
    for url in [
        "ftp://user:hunter2@mirror.example.org/a",
        "http:/user:hunter2@mirror.example.org/a",
        "user:hunter2@mirror.example.org",
        "http://user:hunter2@mirror.example.org:99999/a?hunter2",
        "http://user:hunt@hunter2@mirror.example.org/../a",
    ] {
        let error = Location::parse(url).expect_err(url);
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

#[test]
fn addresses_are_read_in_one_form() {
    assert_eq!(ok("http://[2001:DB8:0::1]:8080/a").authority(), "[2001:db8::1]:8080");
    assert_eq!(ok("http://[::1]/a").ip(), Some(IpAddr::from(Ipv6Addr::LOCALHOST)));
    assert_eq!(ok("http://127.0.0.1/a").ip(), Some(IpAddr::from(Ipv4Addr::LOCALHOST)));
    assert_eq!(ok("http://mirror.example.org/a").ip(), None);
    for host in ["127.1", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "127.0.0.1.1", "1.2.3.256"] {
        assert_eq!(reason(&format!("http://{host}/a")), "an IPv4 address not in the usual form", "{host}");
    }
}

#[test]
fn hosts_and_ports_that_are_none_are_refused() {
    for url in [
        "http:///a",
        "http://:80/a",
        "http://a..b/c",
        "http://./c",
        "http://a%2eb/c",
        "http://b\u{fc}cher.example/c",
        "http://[::1/a",
        "http://[fe80::1%25eth0]/a",
        "http://[::1]x/a",
        "http://a:0/c",
        "http://a:65536/c",
        "http://a:+80/c",
        "http://a:b:c/d",
        "http://a\\b/c",
        "mirror.example.org/a",
        "/debian/a",
        "file:///etc/passwd",
        "http://HTTPS///HTTPS///a/b",
        "https://HTTPS///a/b",
        "http://a/b#c",
        "http://a/b?\u{fc}",
        "http://a/b c",
        "http://a/b\r\nHost: c",
    ] {
        reason(url);
    }
    assert_eq!(reason(&format!("http://a/{}", "b".repeat(MAX_URL))), "URL longer than 8192 bytes");
    reason(&format!("http://{}/", "a".repeat(300)));
}

#[test]
fn paths_that_climb_or_hide_are_refused() {
    for path in [
        "../a",
        "a/../b",
        "a/%2e%2e/b",
        "a/.%2E/b",
        "a%2fb",
        "a%2Fb",
        "a%5cb",
        "a\\b",
        "a%00b",
        "a%0ab",
        "a%7fb",
        "a%C2%85b",
        "a%ff",
        "a%",
        "a%2",
        "a%zz",
        "a%+2",
    ] {
        reason(&format!("http://mirror.example.org/{path}"));
    }
}

#[test]
fn encoding_is_undone_only_once() {
    let location = ok("http://mirror.example.org/a/%252e%252e/b%252fc");
    assert_eq!(location.path(), "/a/%2e%2e/b%2fc");
    assert_eq!(location.url(), "http://mirror.example.org/a/%252e%252e/b%252fc");
}

#[test]
fn rewritten_requests_name_their_origin() {
    let rewritten = |target| Location::from_rewritten(target).map(|location| location.url());
    assert_eq!(rewritten("/mirror.example.org/debian/a").as_deref(), Ok("http://mirror.example.org/debian/a"));
    assert_eq!(rewritten("/mirror.example.org:8080/a").as_deref(), Ok("http://mirror.example.org:8080/a"));
    assert_eq!(rewritten("/HTTPS///mirror.example.org/a").as_deref(), Ok("https://mirror.example.org/a"));
    assert_eq!(rewritten("/HTTPS/mirror.example.org/a").as_deref(), Ok("https://mirror.example.org/a"));
    assert!(rewritten("/").is_err());
    assert!(rewritten("/HTTPS///").is_err());
}

#[test]
fn neighbours_stay_in_their_folder() {
    let release = ok("http://user:pw@mirror.example.org/debian/dists/bookworm/InRelease?x");
    let sibling = release.sibling("Release.gpg").unwrap();
    assert_eq!(sibling.url(), "http://mirror.example.org/debian/dists/bookworm/Release.gpg");
    assert_eq!(sibling.credentials(), Some("user:pw"));
    let base = ok("http://mirror.example.org/debian/");
    assert_eq!(base.join("dists/bookworm/InRelease").unwrap().path(), "/debian/dists/bookworm/InRelease");
    assert!(base.join("../private").is_err());
    assert!(release.sibling("a\0b").is_err());
}

proptest! {
    #[test]
    fn the_url_of_a_location_is_read_back_as_the_same(
        host in "[a-z][a-z0-9-]{0,8}(\\.[a-z]{1,4}){0,2}",
        port in proptest::option::of(1u16..),
        path in "[^\\pC\\\\/]{1,12}(/[^\\pC\\\\/]{1,12}){0,3}",
        https: bool,
    ) {
        prop_assume!(path.split('/').all(|segment| segment != ".."));
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let scheme = if https { "https" } else { "http" };
        let encoded = utf8_percent_encode(&path, NON_ALPHANUMERIC).to_string().replace("%2F", "/");
        let location = ok(&format!("{scheme}://{host}{port}/{encoded}"));
        prop_assert_eq!(&ok(&location.url()), &location);
        prop_assert_eq!(ok(&location.url()).key(), location.key());
    }

    #[test]
    fn any_text_is_read_or_refused(url in "(http://)?[a-z@:/?#%\\[\\].0-9\\\\\\x00-\\x20]{0,40}") {
        if let Ok(location) = Location::parse(&url) {
            prop_assert!(location.path().starts_with('/'));
            prop_assert!(location.path().split('/').all(|segment| segment != ".."));
        }
    }
}
