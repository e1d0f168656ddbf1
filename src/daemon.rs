//! The composition root: builds every station, starts it, and stops it in order.
//!
//! A new configuration is taken by ending in order and beginning anew in the same process, with the same open door
//! ([`Ended::ToBeginAnew`]): so every key can change, and apt finds no closed port meanwhile.
#![expect(clippy::disallowed_methods, reason = "the door of the process: tasks, time, sockets")]

mod advert;
mod service;
mod sockets;
mod trouble;

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use actix_server::ServerHandle;
use anyhow::{Context, Result, anyhow};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    announce::Announcer,
    archive,
    config::{Config, Share, names},
    dht::{Dht, Network},
    fetch::Fetcher,
    flow::{Flow, Rules, Stations, apt::Apt},
    mirror::{Mirror, guard::Origins, upstream::Upstream},
    peer::Pool,
    proxy::{Door, wire::Pace},
    seal::Seal,
    status::{Account, Streams, Window},
    store::{self, Store},
    upload,
};

use advert::Advert;
use service::{Service, Wish};
use sockets::{Sockets, addresses};

/// Pause between two files that are proven again, which leaves the disk to apt.
const BETWEEN_PROOFS: Duration = Duration::from_millis(100);
/// How often some of what is held is hashed, and how many bytes of it at least: 20 GB take some nine hours.
const BETWEEN_SCRUBS: Duration = Duration::from_secs(60);
const SCRUBBED: u64 = 40 << 20;
/// How often what is known of peers is saved.
const SAVE_PEERS: Duration = Duration::from_secs(300);
/// Where that is, in the store's directory; `peers.new` beside it while it is written.
const PEERS_FILE: &str = "peers.state";
/// How long stations may take to stop.
const STOP: Duration = Duration::from_secs(15);

/// Why the daemon ended.
#[derive(Debug)]
pub enum Ended {
    /// It was told to.
    ToStop,
    /// It was told to read its configuration again, which can be used. The door is still open: the caller executes the
    /// program anew by [`OpenDoor::begin_anew`].
    ToBeginAnew(OpenDoor),
}

pub use sockets::OpenDoor;

/// Runs the daemon until it is told to stop, or to begin anew; `is_usable` says then whether the configuration that is
/// written now can be used.
pub async fn run(config: Config, inherited: Vec<TcpListener>, is_usable: impl Fn() -> Result<()>) -> Result<Ended> {
    let mut service = Service::start()?;
    let shares = config.peer.share != Share::Off && config.dht.network != Network::Off;
    let sockets = Sockets::open(&config, shares, inherited)?;
    let mut daemon = Daemon::build(config, &sockets).await?;
    daemon.prove_again();
    daemon.remember_peers();
    daemon.tasks.spawn(daemon.flow.follow_lists(daemon.config.archive.lists.clone()));
    let Sockets { door, peers } = sockets;
    daemon.open_public_port(peers)?;
    daemon.join().await;
    daemon.open_door(door.listeners()?)?;
    daemon.greet()?;
    service.is_ready(&daemon.listen);
    loop {
        match service.wish().await {
            Wish::Stop => {
                service.stops();
                daemon.stop().await;
                return Ok(Ended::ToStop);
            }
            Wish::Reload => match is_usable() {
                Ok(()) => {
                    service.reloads();
                    daemon.stop().await;
                    return Ok(Ended::ToBeginAnew(door));
                }
                Err(error) => tracing::error!("{error:#}; the configuration stays as it was"),
            },
        }
    }
}

/// Everything that runs.
struct Daemon {
    config: Config,
    store: Store,
    pool: Pool,
    fetcher: Fetcher,
    mirror: Mirror,
    flow: Flow,
    dht: Option<Dht>,
    upload: Option<upload::Meter>,
    window: Option<Arc<Window>>,
    listen: Vec<SocketAddr>,
    peer_listen: Vec<SocketAddr>,
    servers: Vec<ServerHandle>,
    advert: Option<Advert>,
    tasks: JoinSet<()>,
}

impl Daemon {
    async fn build(config: Config, sockets: &Sockets) -> Result<Self> {
        let listen = sockets.door.addresses()?;
        let peer_listen = addresses(&sockets.peers)?;
        let privacy: archive::Privacy = config.privacy.clone().into();
        let store = open_store(&config, privacy.clone()).await?;
        let bind = peer_listen.first().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified());
        let pool = Pool::sealed(bind, seal(&config));
        pool.load(&config.store.path.join(PEERS_FILE)).await;
        let mirror = Mirror::new(upstream(&config, &listen))?;
        let fetcher = Fetcher::new(config.fetch.clone(), pool.clone(), mirror.clone(), store.clone());
        let dht = match peer_listen.as_slice() {
            [] => None,
            addresses => {
                let state = config.store.path.join("dht.state");
                let seed = rand::random();
                let taken = || format!("cannot listen on {}, UDP: see listen in section [peer]", join(addresses));
                Some(Dht::start(&config.dht, addresses, state, seed).await.with_context(taken)?)
            }
        };
        let apt = Apt::load(config.archive.apt_dir.clone(), config.archive.keyrings.clone(), proxies(&listen));
        let known = store.clone();
        for pin in tokio::task::spawn_blocking(move || known.pins()).await?.context("the store")? {
            apt.pin(pin);
        }
        let rules = Rules { origins: Origins(names(config.proxy.origins.clone())), privacy, apt };
        let stations =
            Stations { store: store.clone(), dht: dht.clone(), fetcher: fetcher.clone(), mirror: mirror.clone() };
        let flow = Flow::new(stations, rules);
        Ok(Self {
            config,
            store,
            pool,
            fetcher,
            mirror,
            flow,
            dht,
            upload: None,
            window: None,
            listen,
            peer_listen,
            servers: Vec::new(),
            advert: None,
            tasks: JoinSet::new(),
        })
    }

    /// Gives to peers and tells of it, unless the administrator only takes.
    fn open_public_port(&mut self, listeners: Vec<TcpListener>) -> Result<()> {
        let (Some(dht), Share::All, Some(port)) =
            (&self.dht, self.config.peer.share, self.peer_listen.first().map(SocketAddr::port))
        else {
            return Ok(());
        };
        let (upload_limit, seal) = (self.config.peer.upload_limit.0, seal(&self.config));
        let config = upload::Config { upload_limit, seal, ..upload::Config::default() };
        let (handle, server, meter) =
            upload::start(listeners, &config, self.store.clone()).context("the peers' port")?;
        self.servers.push(handle);
        self.upload = Some(meter);
        self.tasks.spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the peers' port closed");
            }
        });
        self.tasks.spawn(Announcer::new(dht.clone(), self.store.clone(), port).run());
        Ok(())
    }

    /// Joins the network: its port is to be tried when it gives, and it is looked for where nobody leads to it.
    async fn join(&self) {
        let Some(dht) = &self.dht else { return };
        let port = self.upload.as_ref().and(self.peer_listen.first()).map(SocketAddr::port);
        if let Some(port) = port {
            dht.serve(port).await;
        }
        let state = self.config.store.path.join("mainline.state");
        dht.seek(&self.config.dht, port, state, [rand::random(), rand::random()]).await;
    }

    /// After a damaged catalogue, files are there whose proof is lost: they are hashed again, one after another. Then all
    /// that is held is, over and over, a little at a time, while nothing is on its way.
    fn prove_again(&mut self) {
        let store = self.store.clone();
        self.tasks.spawn(async move {
            loop {
                let store = store.clone();
                match tokio::task::spawn_blocking(move || store.prove_next()).await {
                    Ok(Ok(true)) => tokio::time::sleep(BETWEEN_PROOFS).await,
                    Ok(Ok(false)) => break,
                    Ok(Err(error)) => break tracing::warn!(%error, "files without proof are left alone"),
                    Err(_) => return,
                }
            }
            loop {
                tokio::time::sleep(BETWEEN_SCRUBS).await;
                let store = store.clone();
                match tokio::task::spawn_blocking(move || store.scrub(SCRUBBED)).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => tracing::warn!(%error, "what is held cannot be looked at now"),
                    Err(_) => return,
                }
            }
        });
    }

    fn remember_peers(&mut self) {
        let (pool, file) = (self.pool.clone(), self.config.store.path.join(PEERS_FILE));
        self.tasks.spawn(async move {
            loop {
                tokio::time::sleep(SAVE_PEERS).await;
                pool.save(&file).await;
            }
        });
    }

    fn open_door(&mut self, listeners: Vec<TcpListener>) -> Result<()> {
        let window = Window {
            flow: self.flow.clone(),
            fetcher: self.fetcher.clone(),
            pool: self.pool.clone(),
            mirror: self.mirror.clone(),
            dht: self.dht.clone(),
            store: self.store.clone(),
            privacy: self.config.privacy.clone().into(),
            upload: self.upload.clone(),
            listen: self.listen.clone(),
            peer_listen: self.peer_listen.clone(),
            started: Instant::now(),
            account: Account::default(),
            streams: Streams::default(),
        };
        let window = Arc::new(window);
        self.tasks.spawn(window.clone().keep_account());
        self.window = Some(window.clone());
        let door = Door { flow: self.flow.clone(), allow: self.config.proxy.allow.clone(), pace: Pace::default() };
        let server = door.open(listeners, window.pages()).context("apt's door")?;
        self.servers.push(server.handle());
        self.tasks.spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "apt's door closed");
            }
        });
        if self.config.proxy.advertise {
            self.advert = Advert::start(&self.listen, &self.config.proxy.allow, &host_name());
        }
        Ok(())
    }

    /// Says what listens where, and how to go on.
    fn greet(&self) -> Result<()> {
        let proxy = self.listen.first().context("the configuration has an address")?;
        let mut text = format!("apt-huddle is ready: http://{proxy}/ is its status page and apt's proxy.\n\n");
        writeln!(text, "Point apt at it in one of two ways:")?;
        writeln!(text, "  apt-get -o Acquire::http::Proxy=http://{proxy} update")?;
        writeln!(text, "  deb http://{proxy}/mirror.example.org/debian bookworm main      in sources.list\n")?;
        match (self.peer_listen.as_slice(), self.config.peer.share) {
            ([], _) => writeln!(text, "peers: off")?,
            (addresses, Share::Take) => writeln!(text, "peers: {} (DHT only; nothing is given)", join(addresses))?,
            (addresses, _) => writeln!(text, "peers: {} (TCP and UDP)", join(addresses))?,
        }
        let dht = &self.config.dht;
        if self.dht.is_some() && dht.bootstrap.is_empty() && !dht.rendezvous {
            writeln!(
                text,
                "No bootstrap node is configured, and rendezvous is off: peers are found in the LAN at most."
            )?;
        }
        writeln!(text, "store: {}", self.config.store.path.display())?;
        // Whoever started the daemon may not listen.
        let mut out = io::stdout();
        let _gone = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        Ok(())
    }

    /// The advert and the door first, so that what apt waits for is still answered; then the peers; then what remembers.
    async fn stop(mut self) {
        tracing::info!("stopping");
        self.window.iter().for_each(|window| window.streams.close());
        if let Some(advert) = self.advert.take() {
            let _late = timeout(STOP, tokio::task::spawn_blocking(|| advert.stop())).await;
        }
        for server in self.servers.drain(..).rev() {
            let _late = timeout(STOP, server.stop(true)).await;
        }
        self.tasks.shutdown().await;
        if let Some(window) = self.window.take() {
            let _late = timeout(STOP, window.write_down()).await;
        }
        if let Some(dht) = &self.dht {
            let _late = timeout(STOP, dht.shutdown()).await;
        }
        let _late = timeout(STOP, self.pool.save(&self.config.store.path.join(PEERS_FILE))).await;
    }
}

/// What the members of a private network show each other.
fn seal(config: &Config) -> Option<Seal> {
    Some(&config.dht).filter(|dht| dht.network == Network::Private).and_then(|dht| Seal::new(&dht.secret))
}

/// The proxies that mirrors are asked through. Those of the environment that cannot be used are named and left out.
fn upstream(config: &Config, listen: &[SocketAddr]) -> Upstream {
    let (upstream, bad) = Upstream::new(&config.mirror.proxy, |name| std::env::var(name).ok());
    for error in bad {
        tracing::warn!(%error, "no proxy that is understood; mirrors are asked directly");
    }
    let (upstream, ours) = upstream.without(listen);
    for proxy in ours {
        tracing::warn!(%proxy, "the environment's proxy is this daemon itself; mirrors are asked directly");
    }
    for proxy in [upstream.http(), upstream.https()].into_iter().flatten() {
        tracing::info!(%proxy, "mirrors are asked through a proxy");
    }
    upstream
}

async fn open_store(config: &Config, privacy: archive::Privacy) -> Result<Store> {
    let config = store::Config {
        path: config.store.path.clone(),
        quota: config.store.quota.0,
        min_free: config.store.min_free.0,
    };
    let opened =
        tokio::task::spawn_blocking(move || Store::open(&config, move |repository| privacy.allows(repository)));
    opened.await?.map_err(|error| anyhow!(trouble::of_store(&error)))
}

fn join(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// How apt's sources may lead through this proxy.
fn proxies(listen: &[SocketAddr]) -> archive::Proxies {
    // Without a name, people have its addresses.
    let names = Some(host_name()).filter(|name| !name.is_empty()).into_iter().collect();
    archive::Proxies { listen: listen.to_vec(), names, is_own: Some(sockets::is_own) }
}

/// The name that people call this host by.
fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}
