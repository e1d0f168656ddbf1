//! The advert in the LAN: `_apt_proxy._tcp`, by which auto-apt-proxy, squid-deb-proxy-client and their like find a proxy.
//!
//! ```text
//!  _apt_proxy._tcp.local.                       PTR  apt-huddle on house._apt_proxy._tcp.local.
//!  apt-huddle on house._apt_proxy._tcp.local.   SRV  9977 house-apt-huddle.local.
//!  house-apt-huddle.local.                      A    192.168.1.10
//! ```
//!
//! Only a door that is open to the LAN is advertised, and only on those of its addresses that `[proxy] allow` covers: a
//! neighbour who is led here must not be sent away. The names and their conflicts are those of DNS-SD (RFC 6763) over
//! multicast DNS (RFC 6762). A file for Avahi would do it too where Avahi runs, but it would say nothing of what the
//! configuration says, and stay when the daemon is gone.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use mdns_sd::{IfKind, IfPredicate, ServiceDaemon, ServiceInfo};

/// What is looked for.
const SERVICE: &str = "_apt_proxy._tcp.local.";
/// The port of multicast DNS.
const MDNS: u16 = 5353;
/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// An advert, as long as it lives.
pub(super) struct Advert {
    mdns: ServiceDaemon,
    name: String,
}

/// Where a door is open to others.
#[derive(Debug, Clone)]
struct Open {
    door: Vec<SocketAddr>,
    allow: Vec<IpNet>,
}

impl Open {
    /// Whether neighbours may come in at an address of this host.
    fn is_at(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let leads_in = |at: &SocketAddr| match at.ip() {
            any if any.is_unspecified() => ip.is_ipv4() || any.is_ipv6(),
            own => own.to_canonical() == ip,
        };
        self.door.iter().any(leads_in) && self.allow.iter().any(|net| net.contains(&ip))
    }

    /// The port of what is open, when anything may be.
    fn port(&self) -> Option<u16> {
        let is_open = |at: &&SocketAddr| !at.ip().to_canonical().is_loopback();
        self.door.iter().find(is_open).map(SocketAddr::port)
    }
}

impl Advert {
    /// Advertises a door under the name of this host. `None` where it is open to nobody else.
    pub(super) fn start(door: &[SocketAddr], allow: &[IpNet], host: &str) -> Option<Self> {
        let open = Open { door: door.to_vec(), allow: allow.to_vec() };
        let port = open.port()?;
        let is_open = move |ip: IpAddr| !ip.is_loopback() && open.is_at(ip);
        match Self::open(MDNS, port, host, is_open) {
            Ok(advert) => Some(advert),
            Err(error) => {
                tracing::warn!(%error, "no advert in the LAN");
                None
            }
        }
    }

    fn open(
        mdns_port: u16,
        port: u16,
        host: &str,
        is_open: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) -> mdns_sd::Result<Self> {
        let mdns = ServiceDaemon::new_with_port(mdns_port)?;
        mdns.disable_interface(IfKind::All)?;
        mdns.enable_interface(IfKind::Predicate(IfPredicate::new(move |interface| is_open(interface.ip()))))?;
        let label = label(host);
        // A name of its own: that of the host belongs to whoever answers for it already.
        let server = format!("{label}-apt-huddle.local.");
        let service = ServiceInfo::new(SERVICE, &format!("apt-huddle on {label}"), &server, "", port, None)?;
        let service = service.enable_addr_auto();
        let name = service.get_fullname().to_owned();
        mdns.register(service)?;
        Ok(Self { mdns, name })
    }

    /// Takes the advert back. It blocks for a second at most.
    pub(super) fn stop(self) {
        if let Ok(done) = self.mdns.unregister(&self.name) {
            let _late = done.recv_timeout(GOODBYE);
        }
        let _gone = self.mdns.shutdown();
    }
}

/// A host's name as one label of a name of DNS, of 40 bytes at most.
fn label(host: &str) -> String {
    let first = host.split('.').next().unwrap_or_default();
    let label: String = first.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(40).collect();
    if label.is_empty() { "host".to_owned() } else { label }
}

#[cfg(test)]
mod tests {
    use mdns_sd::ServiceEvent;

    use super::*;

    #[test]
    fn only_what_is_open_to_the_network_that_it_is_in_is_advertised() {
        let open = |door: &[&str], allow: &[&str]| Open {
            door: door.iter().map(|at| at.parse().unwrap()).collect(),
            allow: allow.iter().map(|net| net.parse().unwrap()).collect(),
        };
        let at = |open: &Open, ip: &str| open.is_at(ip.parse().unwrap());
        let lan = open(&["127.0.0.1:9977", "192.168.1.10:9978"], &["192.168.1.0/24"]);
        assert_eq!(lan.port(), Some(9978));
        assert_eq!((at(&lan, "192.168.1.10"), at(&lan, "192.168.1.11"), at(&lan, "127.0.0.1")), (true, false, false));
        let any = open(&["0.0.0.0:9977"], &["192.168.1.0/24"]);
        assert_eq!((at(&any, "192.168.1.7"), at(&any, "10.0.0.1"), at(&any, "fd00::1")), (true, false, false));
        let both = open(&["[::]:9977"], &["fd00::/8", "10.0.0.0/8"]);
        assert_eq!((at(&both, "fd00::1"), at(&both, "10.0.0.1"), at(&both, "192.0.2.1")), (true, true, false));
        assert_eq!(open(&["127.0.0.1:9977", "[::1]:9977"], &["10.0.0.0/8"]).port(), None);
    }

    #[test]
    fn a_hosts_name_is_one_label() {
        assert_eq!(["house.example.org", "my house", "", "ü"].map(label), ["house", "myhouse", "host", "host"]);
    }

    #[test]
    fn a_neighbour_finds_it_while_it_is_there() {
        // A port of the tests' own, on loopback: nobody else hears of it.
        let port = 40_000 + u16::try_from(std::process::id() % 20_000).expect("below 20,000");
        let advert = Advert::open(port, 9977, "house", |ip| ip.is_loopback() && ip.is_ipv4()).unwrap();
        let neighbour = ServiceDaemon::new_with_port(port).unwrap();
        neighbour.disable_interface(IfKind::All).unwrap();
        neighbour.enable_interface(IfKind::LoopbackV4).unwrap();
        let events = neighbour.browse(SERVICE).unwrap();
        let heard = |want: &dyn Fn(&ServiceEvent) -> bool| loop {
            let event = events.recv_timeout(Duration::from_secs(30)).expect("it is heard of");
            if want(&event) {
                return event;
            }
        };
        let found = heard(&|event| matches!(event, ServiceEvent::ServiceResolved(_)));
        let ServiceEvent::ServiceResolved(found) = found else { unreachable!("asked for") };
        assert_eq!((found.get_port(), found.get_hostname()), (9977, "house-apt-huddle.local."));
        assert!(found.get_addresses().iter().all(|ip| ip.to_string().starts_with("127.")), "{found:?}");
        advert.stop();
        heard(&|event| matches!(event, ServiceEvent::ServiceRemoved(..)));
        neighbour.shutdown().unwrap();
    }
}
