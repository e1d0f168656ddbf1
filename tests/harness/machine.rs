//! One host of a test: its network, its configuration, its store, its apt.

use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{
    apt::{Apt, Way},
    archive::Archive,
    daemon::Daemon,
    deb::hex,
    mirror::Mirror,
    own_network, scratch,
    suite::Signer,
};

/// What differs from host to host in the daemon's configuration.
#[derive(Clone)]
pub struct Config {
    /// `[fetch] mirror`
    pub mirror: &'static str,
    /// `[peer] share`
    pub share: &'static str,
    /// `[peer] upload_limit`
    pub upload_limit: &'static str,
    /// `[privacy] public` names the mirror.
    pub public: bool,
    /// `[store] quota`
    pub quota: &'static str,
    /// `[proxy] listen`
    pub proxy: String,
    /// `[dht] bootstrap`
    pub bootstrap: Vec<SocketAddr>,
    /// `[dht] mainline`, through which the network is found; `rendezvous` is off where there is none.
    pub mainline: Vec<SocketAddr>,
    /// `[dht] secret` of a private network; the public one where there is none.
    pub secret: &'static str,
    /// `[mirror] proxy`
    pub upstream: String,
    /// Further hosts in `[privacy] public`.
    pub more_public: Vec<String>,
    /// Whether `[archive] lists` is where the machine's apt keeps them; else an empty place.
    pub own_lists: bool,
    /// Whether `[proxy] origins` names the mirror, which is on loopback.
    pub origin_allowed: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mirror: "sparing",
            share: "all",
            upload_limit: "1GB/s",
            public: true,
            quota: "10GB",
            proxy: "127.0.0.1:0".into(),
            bootstrap: Vec::new(),
            mainline: Vec::new(),
            secret: "",
            upstream: "none".into(),
            more_public: Vec::new(),
            own_lists: false,
            origin_allowed: true,
        }
    }
}

/// The host. Its directory goes with it.
pub struct Machine {
    name: String,
    ip: Ipv4Addr,
    dir: TempDir,
    origin: String,
}

impl Machine {
    /// A host that installs from this mirror and trusts the archive's key.
    pub fn new(name: &str, mirror: &Mirror) -> Self {
        Self::at(name, &mirror.authority(), Archive::shared().signer())
    }

    /// A host that installs from the mirror at this `host:port` and trusts this key.
    pub fn at(name: &str, origin: &str, signer: &Signer) -> Self {
        let machine = Self { name: name.to_owned(), ip: own_network(), dir: scratch(name), origin: origin.to_owned() };
        let apt_dir = machine.apt_dir();
        for folder in ["trusted.gpg.d", "sources.list.d", "preferences.d"] {
            fs::create_dir_all(apt_dir.join(folder)).expect("the scratch directory is ours");
        }
        fs::write(apt_dir.join("trusted.gpg.d/huddle.asc"), signer.armored()).expect("room");
        machine.write_sources(&format!("deb {} {} main\n", mirror_url(&machine.origin), super::archive::SUITE));
        machine
    }

    /// Starts its daemon; again on the same store when one ran before.
    pub fn start(&self, config: &Config) -> Daemon {
        let path = self.dir.path().join("apt-huddle.toml");
        fs::write(&path, self.toml(config)).expect("the scratch directory is ours");
        Daemon::start(&self.name, &path, config.share != "off")
    }

    /// Its apt, by one of the ways in.
    pub fn apt(&self, way: Way) -> Apt {
        if let Way::Rewritten(proxy) = way {
            let url = format!("http://{proxy}/{}/debian", self.origin);
            self.write_sources(&format!("deb {url} {} main\n", super::archive::SUITE));
        }
        Apt::new(self.dir.path(), way)
    }

    /// Replaces its sources.list.
    pub fn write_sources(&self, text: &str) {
        fs::write(self.apt_dir().join("sources.list"), text).expect("the scratch directory is ours");
    }

    /// Its `/etc/apt`.
    pub fn apt_dir(&self) -> PathBuf {
        self.dir.path().join("etc/apt")
    }

    /// Its own directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The files of its store by the hash that names them.
    pub fn objects(&self) -> Vec<(String, PathBuf)> {
        let folders = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        let objects = self.store().join("objects");
        let files = folders(&objects).flat_map(|ab| folders(&ab).collect::<Vec<_>>());
        let files = files.flat_map(|cd| folders(&cd).collect::<Vec<_>>());
        files.map(|path| (path.file_name().expect("a file").to_string_lossy().into_owned(), path)).collect()
    }

    /// Fails when an object is not what its name says.
    #[track_caller]
    pub fn assert_store_is_whole(&self) {
        for (name, path) in self.objects() {
            let bytes = fs::read(&path).expect("an object of ours");
            assert_eq!(hex(&Sha256::digest(&bytes)), name, "{} of {} bytes", path.display(), bytes.len());
        }
    }

    /// Flips a byte of an object on the disk, in place.
    pub fn flip(&self, sha256: &str, offset: u64) {
        use std::os::unix::fs::{FileExt, PermissionsExt};
        let (_, path) = self.objects().into_iter().find(|(name, _)| name == sha256).expect("the store holds it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("our file");
        let file = fs::File::options().read(true).write(true).open(&path).expect("our file");
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).expect("inside of the file");
        file.write_all_at(&[byte[0] ^ 0xff], offset).expect("inside of the file");
    }

    /// Where its daemon keeps what it has.
    pub fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn toml(&self, config: &Config) -> String {
        let bootstrap: Vec<_> = config.bootstrap.iter().map(ToString::to_string).collect();
        let mainline: Vec<_> = config.mainline.iter().map(ToString::to_string).collect();
        let origin_if = |named| if named { format!("{:?}", [&self.origin]) } else { "[]".into() };
        let public = config.public.then_some(&self.origin).into_iter().chain(&config.more_public).collect::<Vec<_>>();
        let mut text = String::new();
        write!(
            text,
            "[proxy]\nlisten = [{:?}]\norigins = {}\n\
             [peer]\nlisten = [\"{}:0\"]\nupload_limit = {:?}\nshare = {:?}\n\
             [fetch]\nmirror = {:?}\n\
             [mirror]\nproxy = {:?}\n\
             [privacy]\npublic = {:?}\n\
             [dht]\nnetwork = {:?}\nsecret = {:?}\nbootstrap = {bootstrap:?}\nlan = false\nrendezvous = {}\n\
             mainline = {mainline:?}\n\
             [store]\npath = {:?}\nquota = {:?}\nmin_free = \"1MB\"\n\
             [archive]\napt_dir = {:?}\nlists = {:?}\n",
            config.proxy,
            origin_if(config.origin_allowed),
            self.ip,
            config.upload_limit,
            config.share,
            config.mirror,
            config.upstream,
            public,
            if config.secret.is_empty() { "public" } else { "private" },
            config.secret,
            !mainline.is_empty(),
            self.store(),
            config.quota,
            self.apt_dir(),
            self.dir.path().join(if config.own_lists { "var/lib/apt/lists" } else { "no-lists" }),
        )
        .expect("a string");
        text
    }
}

/// The archive's base at a mirror.
pub fn mirror_url(authority: &str) -> String {
    format!("http://{authority}/debian")
}
