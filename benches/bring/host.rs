//! A host in this process: the stations that bring, keep and give, put together as the daemon does.

use std::{
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant, UNIX_EPOCH},
};

use apt_huddle::{
    archive::{Location, Repository, Vouched},
    fetch::{self, Claim, Cut, Fetcher, Growing, Holder, MirrorUse, Origin},
    hash::{Expected, Hasher},
    mirror::{Mirror, guard::Reach, upstream::Upstream},
    peer::Pool,
    store::{self, Store},
    upload,
};
use futures_util::{StreamExt, stream, stream::BoxStream};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};

use crate::harness::{archive::Package, deb::hex, own_network, scratch};

/// The repository that vouches for everything here.
const REPOSITORY: &str = "mirror.example.org/debian";

/// Time without a byte after which a run is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the archive says of a package.
fn vouched(package: &Package) -> Vouched {
    let hash = package.sha256.parse().expect("a hash of ours");
    let expected = Expected { hash, size: package.size };
    Vouched::restore(expected, Repository::restore(REPOSITORY), format!("dists/bench/{}", package.path), true)
}

fn open_store(dir: &TempDir) -> Store {
    let config = store::Config { path: dir.path().join("store"), quota: 1 << 34, min_free: 0 };
    Store::open(&config, |_| true).expect("a new store")
}

/// Hosts that have some packages: one store, and public ports in front of it.
pub struct Holders {
    store: Store,
    ports: Vec<JoinHandle<()>>,
    _dir: TempDir,
}

impl Holders {
    /// Puts the packages into a store.
    pub fn of(packages: &[&Package]) -> Self {
        let dir = scratch("holders-");
        let store = open_store(&dir);
        let date = UNIX_EPOCH + Duration::from_secs(86_400);
        let members: Vec<_> = packages.iter().map(|package| vouched(package)).collect();
        let repository = Repository::restore(REPOSITORY);
        store.record_release(&repository, "dists/bench", date, "key", members.iter().cloned()).expect("a Release");
        for (package, vouched) in packages.iter().zip(&members) {
            let partial = store.begin(*vouched.expected()).expect("room");
            let bytes = package.bytes();
            let mut hasher = Hasher::new(vouched.expected());
            hasher.update(&bytes);
            partial.write_at(0, &bytes).expect("room");
            store.commit(partial, hasher.finish().expect("true bytes"), vouched).expect("a proof");
        }
        Self { store, ports: Vec::new(), _dir: dir }
    }

    /// Opens one more public port on a network of its own.
    pub fn port(&mut self) -> SocketAddr {
        let listener = TcpListener::bind((own_network(), 0)).expect("a loopback address");
        listener.set_nonblocking(true).expect("a socket of ours");
        let addr = listener.local_addr().expect("a bound socket");
        let config = upload::Config::default();
        let (_handle, server, _meter) = upload::start(vec![listener], &config, self.store.clone()).expect("a port");
        self.ports.push(tokio::spawn(async move { server.await.expect("a port that stays open") }));
        addr
    }
}

impl Drop for Holders {
    fn drop(&mut self) {
        self.ports.iter().for_each(JoinHandle::abort);
    }
}

/// A host that has nothing yet.
pub struct Host {
    fetcher: Fetcher,
    pool: Pool,
    _dir: TempDir,
}

/// How a file came.
pub struct Brought {
    /// From the question to the last byte.
    pub took: Duration,
    /// Bytes that came and were of no use, by what the fetcher says.
    pub wasted: u64,
    /// How often the reader was cut and began anew.
    pub cuts: u32,
}

impl Host {
    /// An empty host that uses its mirror so.
    pub fn new(mirror: MirrorUse) -> Self {
        let dir = scratch("host-");
        let pool = Pool::new(Some(own_network().into()));
        let mirrors = Mirror::new(Upstream::default()).expect("clients");
        let fetcher = Fetcher::new(fetch::Config { mirror }, pool.clone(), mirrors, open_store(&dir));
        Self { fetcher, pool, _dir: dir }
    }

    /// Starts to bring a package.
    pub fn start(&self, package: &Package, mirror: Option<SocketAddr>, holders: BoxStream<'static, Holder>) -> Growing {
        let Claim::Lead(lead) = self.fetcher.claim(&vouched(package)) else { panic!("nobody else asks here") };
        let origin = mirror.map(|at| {
            let url = format!("http://{at}{}", package.url_path());
            Origin::new(Location::parse(&url).expect("a URL"), [], |_: &Location| Reach::Named)
        });
        self.fetcher.start(lead, origin, holders)
    }

    /// Brings a package and reads it as the door does, again when it is cut.
    ///
    /// # Panics
    /// When it does not come, or comes wrong.
    pub async fn bring(
        &self,
        package: &Package,
        mirror: Option<SocketAddr>,
        holders: BoxStream<'static, Holder>,
    ) -> Brought {
        let begun = Instant::now();
        let mut growing = self.start(package, mirror, holders);
        let (mut at, mut hash, mut cuts) = (0, Sha256::new(), 0);
        while at < package.size {
            let read = timeout(PATIENCE, growing.read(at, package.size)).await;
            match read.unwrap_or_else(|_| panic!("{}: nothing comes after {at} bytes", package.name)) {
                Ok(bytes) => {
                    hash.update(&bytes);
                    at += bytes.len() as u64;
                }
                // As apt does, which then gets the whole file anew.
                Err(Cut::Tainted) if cuts < 10 => (at, hash, cuts) = (0, Sha256::new(), cuts + 1),
                Err(cut) => panic!("{}: {cut}", package.name),
            }
        }
        let took = begun.elapsed();
        assert_eq!(hex(&hash.finalize()), package.sha256, "{} came wrong", package.name);
        growing.kept().await.expect("room");
        let expected = *growing.expected();
        let reports = self.fetcher.snapshot().recent;
        let report = reports.iter().find(|report| report.expected == expected).expect("one of the latest");
        Brought { took, wasted: report.wasted, cuts }
    }

    /// Whether a peer is kept out for a lie.
    pub fn has_banned(&self, peer: SocketAddr) -> bool {
        self.pool.snapshot().peers.iter().any(|met| met.address == peer && met.is_banned)
    }
}

/// Peers that are known at once.
pub fn known(peers: impl IntoIterator<Item = SocketAddr>) -> BoxStream<'static, Holder> {
    let peers: Vec<_> = peers.into_iter().map(Holder::Peer).collect();
    stream::iter(peers).boxed()
}

/// The same, after a while.
pub fn known_after(wait: Duration, peers: Vec<SocketAddr>) -> BoxStream<'static, Holder> {
    stream::once(tokio::time::sleep(wait)).flat_map(move |()| known(peers.clone())).boxed()
}
