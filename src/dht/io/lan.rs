//! Neighbours on the local link, by one datagram to a multicast group.
//!
//! ```text
//!  dial_back {id, port}  ->  239.192.99.78:9979, TTL 1      whoever is of the same network asks that port who is near
//! ```
//!
//! A plain datagram and not mDNS: it is authenticated as all others of a private network are, it tells who is not of the
//! network nothing but that the program runs, and it needs no name, no record and no responder that may have the port
//! already. IPv4 only; nodes tell each other of IPv6 from there on.
//!
//! **Security.** A hello names no address: the one that it came from is asked, at the port that it names. It costs one
//! question at most, few a second, and, in a large network, mostly none.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a socket, a clock and a task")]

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::UdpSocket,
    sync::{mpsc::WeakSender, watch},
    time::{Instant, sleep, sleep_until},
};

use crate::{
    archive::Scope,
    dht::{
        Snapshot,
        id::Id,
        message::{Body, MAX_READ, Packet, Query, Sender, write_query},
        realm::Realm,
        table::K,
    },
};

use super::Command;

/// The group, of an administrator's own scope (RFC 2365), and its port.
const GROUP: (Ipv4Addr, u16) = (Ipv4Addr::new(239, 192, 99, 78), 9979);

/// Wait before the second hello while nobody is known; it doubles up to [`MAX_WAIT`].
const MIN_WAIT: Duration = Duration::from_secs(1);

/// Longest wait between hellos while few are known.
const MAX_WAIT: Duration = Duration::from_secs(10 * 60);

/// Shortest time between two answers to one address.
const AGAIN: Duration = Duration::from_secs(20);

/// Most addresses that are answered in that time.
const MAX_ANSWERED: usize = 64;

/// Those who answer wait up to so long, so that a hundred of them do not at once.
const SPREAD: Duration = Duration::from_millis(300);

/// Of more nodes than these, as many answer.
const ANSWERERS: usize = 20;

/// The task that says hello, and hears others say it.
pub struct Lan {
    socket: UdpSocket,
    group: SocketAddr,
    realm: Realm,
    /// Where the own node is asked.
    port: u16,
    own: Id,
    rng: StdRng,
    answered: HashMap<IpAddr, Instant>,
    commands: WeakSender<Command>,
    snapshot: watch::Receiver<Snapshot>,
}

impl Lan {
    /// Joins the group on the interface of the own node, if that is not loopback: who is bound to it has no neighbours.
    pub fn join(
        realm: Realm,
        own: &[SocketAddr],
        seed: u64,
        commands: WeakSender<Command>,
        snapshot: watch::Receiver<Snapshot>,
    ) -> io::Result<Option<Self>> {
        let outward = own.iter().filter(|at| !at.ip().to_canonical().is_loopback());
        let mut suiting = outward.filter_map(|at| match at.ip().to_canonical() {
            IpAddr::V4(ip) => Some((ip, at.port())),
            IpAddr::V6(ip) => ip.is_unspecified().then_some((Ipv4Addr::UNSPECIFIED, at.port())),
        });
        let Some((interface, port)) = suiting.next() else { return Ok(None) };
        let socket = open(interface, GROUP)?;
        Ok(Some(Self::with(socket, GROUP.into(), realm, port, seed, commands, snapshot)))
    }

    fn with(
        socket: UdpSocket,
        group: SocketAddr,
        realm: Realm,
        port: u16,
        seed: u64,
        commands: WeakSender<Command>,
        snapshot: watch::Receiver<Snapshot>,
    ) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let own = Id::random(&mut rng);
        Self { socket, group, realm, port, own, rng, answered: HashMap::new(), commands, snapshot }
    }

    /// Starts the task. It ends with the own node.
    pub fn spawn(self) {
        tokio::spawn(self.run());
    }

    async fn run(mut self) {
        let (mut next, mut wait) = (Instant::now(), MIN_WAIT);
        let mut buffer = [0; MAX_READ + 1];
        loop {
            let heard = tokio::select! {
                heard = self.socket.recv_from(&mut buffer) => heard.ok(),
                () = sleep_until(next) => None,
                changed = self.snapshot.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    continue;
                }
            };
            match heard {
                Some((len, from)) => self.handle_hello(&buffer[..len], from).await,
                None if next <= Instant::now() => {
                    if self.snapshot.borrow().nodes() < K {
                        self.say_hello().await;
                    }
                    next += wait.mul_f64(self.rng.random_range(0.75..1.25));
                    wait = (wait * 2).min(MAX_WAIT);
                }
                None => {}
            }
        }
    }

    async fn say_hello(&mut self) {
        let sender = Sender { id: self.own, read_only: true };
        let hello = Query::DialBack { port: self.port, token: None };
        let datagram = write_query(&self.realm, b"hello", sender, &hello, [false; 2], 0);
        // A host without a network says hello to nobody.
        let _unreachable = self.socket.send_to(&datagram, self.group).await;
    }

    async fn handle_hello(&mut self, datagram: &[u8], from: SocketAddr) {
        let Some(Packet { body: Body::Query(asked), .. }) = Packet::read(&self.realm, datagram) else { return };
        let Query::DialBack { port, token: None } = asked.query else { return };
        let is_near = matches!(Scope::of(from.ip()), Scope::Private | Scope::Loopback | Scope::Global);
        let nodes = self.snapshot.borrow().nodes();
        let is_drawn = nodes <= ANSWERERS || self.rng.random_bool(ANSWERERS as f64 / nodes as f64);
        if asked.sender == self.own || !is_near || !is_drawn {
            return;
        }
        let now = Instant::now();
        self.answered.retain(|_, at| now - *at < AGAIN);
        if self.answered.len() >= MAX_ANSWERED || self.answered.contains_key(&from.ip()) {
            return;
        }
        self.answered.insert(from.ip(), now);
        let (commands, delay) = (self.commands.clone(), SPREAD.mul_f64(self.rng.random()));
        let neighbour = SocketAddr::new(from.ip(), port);
        tokio::spawn(async move {
            sleep(delay).await;
            if let Some(commands) = commands.upgrade() {
                let _gone = commands.send(Command::Enter(vec![neighbour])).await;
            }
        });
    }
}

fn open(interface: Ipv4Addr, group: (Ipv4Addr, u16)) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // Every node of this host hears the group.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_multicast_ttl_v4(1)?;
    socket.join_multicast_v4(&group.0, &interface)?;
    if !interface.is_unspecified() {
        socket.set_multicast_if_v4(&interface)?;
    }
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, group.1)).into())?;
    UdpSocket::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    struct Member {
        commands: mpsc::Receiver<Command>,
        _handles: (mpsc::Sender<Command>, watch::Sender<Snapshot>),
    }

    /// Somebody of a network on loopback, with a group of the test's own.
    fn member(realm: Realm, group: (Ipv4Addr, u16), port: u16) -> Member {
        let (sender, commands) = mpsc::channel(8);
        let (figures, snapshot) = watch::channel(Snapshot::default());
        let socket = open(Ipv4Addr::LOCALHOST, group).unwrap();
        Lan::with(socket, group.into(), realm, port, u64::from(port), sender.downgrade(), snapshot).spawn();
        Member { commands, _handles: (sender, figures) }
    }

    #[tokio::test]
    async fn neighbours_of_one_network_hear_each_other_and_nobody_else() {
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let group = (Ipv4Addr::new(239, 192, 99, 79), free);
        let private = || Realm::private("a secret").unwrap();
        let mut first = member(private(), group, 1001);
        let mut other = member(Realm::public(), group, 1002);
        let mut second = member(private(), group, 1003);
        for (member, neighbour) in [(&mut first, 1003), (&mut second, 1001)] {
            let heard = tokio::time::timeout(Duration::from_secs(20), member.commands.recv()).await.expect("in time");
            let Some(Command::Enter(addrs)) = heard else { panic!("{heard:?}") };
            assert_eq!(addrs.iter().map(SocketAddr::port).collect::<Vec<_>>(), [neighbour]);
            assert!(addrs[0].ip().is_loopback(), "{addrs:?}");
        }
        assert!(other.commands.try_recv().is_err());
    }

    #[tokio::test]
    async fn who_is_bound_to_loopback_has_no_neighbours() {
        let (sender, _commands) = mpsc::channel(8);
        let (_figures, snapshot) = watch::channel(Snapshot::default());
        let own = ["127.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap()];
        assert!(Lan::join(Realm::public(), &own, 1, sender.downgrade(), snapshot).unwrap().is_none());
    }
}
