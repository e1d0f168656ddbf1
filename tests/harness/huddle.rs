//! Hosts that know each other.

use std::{net::SocketAddr, ops::Index, time::Duration};

use super::{
    apt::{Apt, Way},
    archive::{Archive, Package, SUITE},
    client::fetch,
    daemon::Daemon,
    eventually,
    machine::{Config, Machine},
    mirror::Mirror,
    own_network,
    probe::Probe,
    suite::Signer,
};

/// How long hosts may take to find each other.
const FINDING: Duration = Duration::from_secs(60);

/// A host with its daemon.
pub struct Host {
    /// Its files.
    pub machine: Machine,
    /// Its daemon, running.
    pub daemon: Daemon,
}

impl Host {
    /// Starts a host's daemon.
    pub fn start(name: &str, mirror: &Mirror, config: &Config) -> Self {
        let machine = Machine::new(name, mirror);
        let daemon = machine.start(config);
        Self { machine, daemon }
    }

    /// Starts a host of which the mirror at this `host:port` is another archive's, signed by this key, and lets its daemon
    /// learn what that promises.
    pub fn of(name: &str, mirror: SocketAddr, signer: &Signer, config: &Config) -> Self {
        let machine = Machine::at(name, &mirror.to_string(), signer);
        let daemon = machine.start(config);
        let host = Self { machine, daemon };
        host.learn(mirror);
        host
    }

    /// Lets its daemon learn what the archive promises, by asking as apt does.
    #[track_caller]
    pub fn learn(&self, mirror: SocketAddr) {
        for file in ["InRelease", "main/binary-amd64/Packages"] {
            let url = format!("http://{mirror}/debian/dists/{SUITE}/{file}");
            let answer = fetch(self.daemon.proxy(), &url, &[]);
            assert_eq!(answer.status, 200, "{url}: {}", answer.text());
        }
    }

    /// Asks for a package as apt does.
    #[track_caller]
    pub fn bring(&self, mirror: SocketAddr, package: &Package) {
        let answer = fetch(self.daemon.proxy(), &format!("http://{mirror}{}", package.url_path()), &[]);
        assert!(answer.status == 200 && answer.whole, "{}: {}", package.name, answer.head);
        assert!(answer.body == package.bytes(), "{} came wrong", package.name);
    }

    /// Its apt, with the daemon as its proxy.
    pub fn apt(&self) -> Apt {
        self.machine.apt(Way::Proxy(self.daemon.proxy()))
    }
}

/// A mirror and the hosts that use it; the first host is the others' bootstrap.
pub struct Huddle {
    /// The mirror of the shared archive.
    pub mirror: Mirror,
    /// Asks the hosts' nodes what they know.
    pub probe: Probe,
    hosts: Vec<Host>,
}

impl Huddle {
    /// Starts a host for each of the configurations, which all share, and waits until they know each other.
    pub fn of(configs: &[Config]) -> Self {
        let mirror = Mirror::start(Archive::shared().root());
        let mut huddle = Self { mirror, probe: Probe::bind(own_network()), hosts: Vec::new() };
        configs.iter().for_each(|config| huddle.join(config.clone()));
        huddle
    }

    /// One more host.
    pub fn join(&mut self, config: Config) {
        let name = char::from(b'A' + self.hosts.len() as u8).to_string();
        let bootstrap = self.hosts.iter().map(|host| host.daemon.peers()).take(1).collect();
        let host = Host::start(&name, &self.mirror, &Config { bootstrap, ..config });
        self.hosts.push(host);
        let others = self.hosts.len() as u64 - 1;
        for host in &self.hosts {
            host.daemon.until("it knows the others", FINDING, |status| status.nodes() >= others);
        }
    }

    /// The nodes of all hosts.
    pub fn nodes(&self) -> Vec<SocketAddr> {
        self.hosts.iter().map(|host| host.daemon.peers()).collect()
    }

    /// Brings the packages to a host by way of apt, and waits until the others are told.
    #[track_caller]
    pub fn give(&self, host: usize, packages: &[&Package]) {
        let apt = self[host].apt();
        apt.update().expect_success();
        let names: Vec<_> = packages.iter().map(|package| package.name.as_str()).collect();
        apt.download(&names).expect_success();
        packages.iter().for_each(|package| self.wait_until_known(host, package));
    }

    /// Waits until one of the nodes has been told that the host has the package, and the host has all of it: of what is on
    /// its way it tells as well.
    #[track_caller]
    pub fn wait_until_known(&self, host: usize, package: &Package) {
        self.probe.wait_for(self[host].daemon.peers(), (&package.sha256, package.size), &self.nodes());
        let stored = || self[host].machine.objects().iter().any(|(name, _)| *name == package.sha256).then_some(());
        eventually("the package is kept", FINDING, stored);
    }

    /// To change a host.
    pub fn host_mut(&mut self, index: usize) -> &mut Host {
        &mut self.hosts[index]
    }
}

impl Index<usize> for Huddle {
    type Output = Host;

    fn index(&self, index: usize) -> &Host {
        &self.hosts[index]
    }
}
