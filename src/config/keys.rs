//! Every key that a person can write, with its default and what is expected there.
//!
//! `etc/apt-huddle.toml` and the man page have the same keys and the same defaults; a test holds them to this list.

/// In the order of `etc/apt-huddle.toml`.
pub const KEYS: &[Key] = &[
    Key::list("proxy", "listen", r#"["127.0.0.1:9977"]"#, r#"addresses with a port, like ["127.0.0.1:9977"]"#),
    Key::list("proxy", "allow", "[]", r#"networks in CIDR form, like ["192.168.1.0/24"]"#),
    Key::list("proxy", "origins", "[]", r#"hosts, like ["mirror.example.org", "10.0.0.5:8080"]"#),
    Key::one("proxy", "advertise", "true", "true or false"),
    Key::list("peer", "listen", r#"["[::]:9978"]"#, r#"addresses with a port, like ["[::]:9978"]"#),
    Key::one("peer", "upload_limit", r#""500kB/s""#, r#"a rate, like "500kB/s", or "unlimited""#),
    Key::one("peer", "share", r#""all""#, r#""all", "take" or "off""#),
    Key::one("fetch", "mirror", r#""sparing""#, r#""first", "sparing" or "last""#),
    Key::one(
        "mirror",
        "proxy",
        r#""environment""#,
        r#""environment", "none" or a URL like "http://proxy.example.org:3128""#,
    ),
    Key::list("privacy", "hosts", "[]", r#"hosts, like ["mirror.example.org"]"#),
    Key::list("privacy", "public", "[]", r#"hosts, like ["10.0.0.5:8080"]"#),
    Key::one("dht", "network", r#""public""#, r#""public", "private" or "off""#),
    Key::list("dht", "bootstrap", "[]", r#"nodes, like ["host:port"]"#),
    Key::one("dht", "secret", r#""""#, "a text"),
    Key::one("dht", "lan", "true", "true or false"),
    Key::one("dht", "rendezvous", "true", "true or false"),
    Key::list(
        "dht",
        "mainline",
        r#"["router.bittorrent.com:6881", "router.utorrent.com:6881", "dht.transmissionbt.com:6881", "dht.libtorrent.org:25401"]"#,
        r#"nodes, like ["host:port"]"#,
    ),
    Key::one("store", "path", r#""/var/lib/apt-huddle""#, r#"a directory, like "/var/lib/apt-huddle""#),
    Key::one("store", "quota", r#""20GB""#, r#"a size, like "20GB""#),
    Key::one("store", "min_free", r#""1GB""#, r#"a size, like "1GB""#),
    Key::one("archive", "apt_dir", r#""/etc/apt""#, r#"a directory as a string, like "/etc/apt""#),
    Key::one("archive", "lists", r#""/var/lib/apt/lists""#, r#"a directory as a string, like "/var/lib/apt/lists""#),
    Key::list("archive", "keyrings", "[]", r#"files, like ["/usr/share/keyrings/example.gpg"]"#),
];

/// One key.
#[derive(Debug)]
pub struct Key {
    /// The section that it stands in.
    pub section: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// Whether it takes a list.
    pub is_list: bool,
    /// What holds without it, in TOML. Of the store's path this is what holds for a user without a home.
    pub default: &'static str,
    /// What may be written.
    pub expected: &'static str,
}

impl Key {
    const fn list(section: &'static str, name: &'static str, default: &'static str, expected: &'static str) -> Self {
        Self { section, name, is_list: true, default, expected }
    }

    const fn one(section: &'static str, name: &'static str, default: &'static str, expected: &'static str) -> Self {
        Self { section, name, is_list: false, default, expected }
    }

    /// The key of this name, if there is one.
    pub fn find(section: &str, name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.section == section && key.name == name)
    }
}
