use super::*;

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().expect("room");
    fs::write(file.path(), text).expect("room");
    let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    let name = file.path().display().to_string();
    Config::load(Some(file.path()), variables).map_err(|error| error.to_string().replace(&name, "test.toml"))
}

#[test]
fn an_empty_file_means_the_defaults() {
    let config = load("", &[]).expect("nothing to object to");
    assert_eq!(config.proxy.listen, ["127.0.0.1:9977".parse().expect("an address")]);
    assert_eq!(config.peer.upload_limit, Rate(Some(500_000)));
    assert_eq!(config.store.quota, Size(20_000_000_000));
}

#[test]
fn a_variable_goes_before_the_file() {
    let variables = [
        ("APT_HUDDLE_STORE_MIN_FREE", "2GB"),
        ("APT_HUDDLE_PROXY_LISTEN", r#"["127.0.0.1:1"]"#),
        ("APT_HUDDLE_DHT_NETWORK", "off"),
        ("APT_HUDDLE_LOG", "debug"),
        ("PATH", "/bin"),
    ];
    let config = load("[store]\nmin_free = \"1GB\"\nquota = 5\n", &variables).expect("all good");
    assert_eq!((config.store.min_free, config.store.quota), (Size(2_000_000_000), Size(5)));
    assert_eq!(config.proxy.listen[0].port(), 1);
    assert_eq!(config.dht.network, dht::Network::Off);
}

#[test]
fn what_is_not_understood_is_named_with_its_place_and_what_was_expected() {
    let cases = [
        ("[proxy]\nlisen = []", "test.toml:2", "listen"),
        ("[prox]\n", "test.toml:1", "proxy"),
        ("[store]\nquota = \"lots\"", "test.toml:2", "20GB"),
        ("[peer]\nupload_limit = \"5\"", "test.toml:2", "500kB/s"),
        ("[peer]\nupload_limit = true", "test.toml:2", "upload_limit"),
        ("[fetch]\nmirror = \"never\"", "test.toml:2", "sparing"),
        ("[proxy]\nlisten = [\"localhost\"]", "test.toml:2", "listen"),
        ("[proxy]\nlisten = [\"0.0.0.0:9977\"]", "test.toml", "allow"),
        ("[proxy]\nlisten = []", "test.toml", "127.0.0.1:9977"),
        ("nonsense", "test.toml:1", "="),
        ("[privacy]\nhosts = [\"https://corp.example.org/debian\"]", "test.toml:2", "hosts"),
        ("[privacy]\npublic = [\"corp.example.org/\"]", "test.toml:2", "no host"),
        ("[proxy]\norigins = [\"bad host\"]", "test.toml:2", "no host"),
        ("[store]\npath = \"\"", "test.toml", "path"),
    ];
    for (text, place, expected) in cases {
        let error = load(text, &[]).expect_err(text);
        assert!(error.starts_with(place) && error.contains(expected) && !error.contains('\n'), "{text}: {error}");
    }
    let error = load("", &[("APT_HUDDLE_PROXY_PORT", "1")]).expect_err("no such key");
    assert!(error.starts_with("APT_HUDDLE_PROXY_PORT: ") && error.contains("listen"), "{error}");
    let error = load("", &[("APT_HUDDLE_PROXY_LISTEN", "0.0.0.0:1")]).expect_err("nobody is allowed");
    assert!(error.starts_with("APT_HUDDLE_PROXY_LISTEN: ") && error.contains("allow"), "{error}");
}

#[test]
fn an_unreadable_file_is_named() {
    let error = Config::load(Some(Path::new("/nonexistent/x.toml")), []).expect_err("no such file").to_string();
    assert!(error.starts_with("/nonexistent/x.toml: no such file"), "{error}");
}

#[test]
fn sizes_have_units_of_both_kinds() {
    assert_eq!(parse_bytes("1.5 GiB"), Some(3 << 29));
    assert_eq!(parse_bytes("20GB"), Some(20_000_000_000));
    for bad in ["", "GB", "-1GB", "1XB", "1e99", "9999999999TB"] {
        assert_eq!(parse_bytes(bad), None, "{bad}");
    }
}
