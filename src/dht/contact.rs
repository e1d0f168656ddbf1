//! Contacts: who a node is and where, how that is written, and where from it is believed.
//!
//! ```text
//!  peer     4 bytes IPv4, or 16 bytes IPv6 | port, big-endian          6 or 18 bytes (BEP 5, BEP 32)
//!  contact  id of 20 bytes                 | peer                      26 or 38 bytes
//! ```

use std::net::{IpAddr, SocketAddr};

use crate::archive::Scope;

use super::id::{ID_LEN, Id};

/// IPv4 and IPv6 are two networks of nodes that share ids (BEP 32).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order in which tables are kept.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(addr: &SocketAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    /// 0 or 1, the place in [`Family::BOTH`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Bytes of an address and port.
    pub const fn peer_len(self) -> usize {
        match self {
            Self::V4 => 6,
            Self::V6 => 18,
        }
    }

    /// Bytes of a contact.
    pub const fn contact_len(self) -> usize {
        ID_LEN + self.peer_len()
    }
}

/// A node and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Contact {
    /// The node's id.
    pub id: Id,
    /// Its UDP address.
    pub addr: SocketAddr,
}

impl Contact {
    /// Whether the id is one that the address may have (BEP 42). Addresses that are not global may have any.
    pub fn is_rooted(&self) -> bool {
        !Subnet::is_scarce(self.addr.ip()) || self.id.is_rooted_in(self.addr.ip())
    }

    /// Appends the 26 or 38 bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(&write_peer(&self.addr));
    }

    /// Reads the contacts of one family; a rest that is no whole contact is left out.
    pub fn read_all(bytes: &[u8], family: Family) -> impl Iterator<Item = Self> {
        bytes.chunks_exact(family.contact_len()).filter_map(|bytes| {
            let (id, peer) = bytes.split_at(ID_LEN);
            Some(Self { id: Id::read(id)?, addr: read_peer(peer)? })
        })
    }
}

/// The 6 or 18 bytes of an address and port.
pub fn write_peer(addr: &SocketAddr) -> Vec<u8> {
    let mut out = match addr.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    out.extend_from_slice(&addr.port().to_be_bytes());
    out
}

/// Reads 6 or 18 bytes.
pub fn read_peer(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk::<2>()?;
    let ip = match ip.len() {
        4 => IpAddr::V4(<[u8; 4]>::try_from(ip).ok()?.into()),
        16 => IpAddr::V6(<[u8; 16]>::try_from(ip).ok()?.into()),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

/// An address in its plain form: IPv4 that came through an IPv6 socket is IPv4, without flow and zone.
pub fn plain(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// The scope of an address that a host can have; `None` for all others, link-local ones included, as contacts name
/// no zone, and IPv4 in the form of IPv6.
fn scope(ip: IpAddr) -> Option<Scope> {
    match Scope::of(ip) {
        _ if ip.to_canonical() != ip => None,
        scope @ (Scope::Global | Scope::Private | Scope::Loopback) => Some(scope),
        Scope::LinkLocal | Scope::Unusable => None,
    }
}

/// Whether an address that a node names is taken from it: global ones from everybody, the others only in their own
/// scope, or, for private ranges, from everybody in a private network. Port 0 never.
pub fn is_believable(addr: &SocketAddr, named_by: IpAddr, private_network: bool) -> bool {
    match scope(addr.ip()) {
        _ if addr.port() == 0 => false,
        None => false,
        Some(Scope::Global) => true,
        Some(Scope::Private) if private_network => true,
        named => scope(named_by) == named,
    }
}

/// Whether a host can have that address and port at all.
pub fn is_host(addr: &SocketAddr) -> bool {
    addr.port() != 0 && scope(addr.ip()).is_some()
}

/// A neighbourhood of addresses that one party may well hold alone: an IPv4 /24 or an IPv6 /48.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subnet(u64);

impl Subnet {
    /// The neighbourhood of an address.
    pub fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self(1 << 63 | u64::from(ip.to_bits() >> 8)),
            IpAddr::V6(ip) => Self((ip.to_bits() >> 80) as u64),
        }
    }

    /// Whether its addresses are scarce, so that the number of nodes taken from one says something: they are global.
    pub fn is_scarce(ip: IpAddr) -> bool {
        scope(ip) == Some(Scope::Global)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn contacts_of_both_families_come_back() {
        for (text, family) in [("5.6.7.8:9978", Family::V4), ("[2600::1]:1", Family::V6)] {
            let contact = Contact { id: Id::new([7; 20]), addr: addr(text) };
            let mut bytes = Vec::new();
            contact.write(&mut bytes);
            assert_eq!(bytes.len(), family.contact_len());
            bytes.extend_from_slice(&[1, 2, 3]);
            assert_eq!(Contact::read_all(&bytes, family).collect::<Vec<_>>(), [contact]);
        }
        assert_eq!(read_peer(&[1, 2, 3, 4, 5]), None);
        assert_eq!(read_peer(&[]), None);
    }

    #[test]
    fn an_address_is_believed_only_in_its_own_scope() {
        let cases = [
            ("5.6.7.8:1", "9.9.9.9", true, true),
            ("5.6.7.8:0", "9.9.9.9", false, false),
            ("5.6.7.8:1", "127.0.0.1", true, true),
            ("127.0.0.2:1", "127.0.0.1", true, true),
            ("127.0.0.2:1", "9.9.9.9", false, false),
            ("127.0.0.2:1", "10.0.0.1", false, false),
            ("[::1]:1", "127.0.0.1", true, true),
            ("10.1.2.3:1", "9.9.9.9", false, true),
            ("10.1.2.3:1", "192.168.1.1", true, true),
            ("10.1.2.3:1", "127.0.0.1", false, true),
            ("[fd00::1]:1", "2600::1", false, true),
            ("0.0.0.0:1", "127.0.0.1", false, false),
            ("224.0.0.1:1", "9.9.9.9", false, false),
            ("255.255.255.255:1", "9.9.9.9", false, false),
            ("169.254.169.254:1", "169.254.1.1", false, false),
            ("192.0.2.1:1", "9.9.9.9", false, false),
            ("[::]:1", "2600::1", false, false),
            ("[ff02::1]:1", "2600::1", false, false),
            ("[fe80::1]:1", "fe80::2", false, false),
            ("[::ffff:5.6.7.8]:1", "9.9.9.9", false, false),
            ("[2001:db8::1]:1", "2600::1", false, false),
            ("[2600::2]:1", "2600::1", true, true),
        ];
        for (named, by, public, private) in cases {
            assert_eq!(is_believable(&addr(named), by.parse().unwrap(), false), public, "{named} by {by}");
            assert_eq!(is_believable(&addr(named), by.parse().unwrap(), true), private, "{named} by {by}, private");
        }
    }

    #[test]
    fn neighbours_share_a_subnet_and_families_do_not() {
        let subnet = |text: &str| Subnet::of(text.parse().unwrap());
        assert_eq!(subnet("5.6.7.8"), subnet("5.6.7.250"));
        assert_ne!(subnet("5.6.7.8"), subnet("5.6.8.8"));
        assert_eq!(subnet("2600:1:2:3::1"), subnet("2600:1:2:ffff::1"));
        assert_ne!(subnet("2600:1:2::1"), subnet("2600:1:3::1"));
        assert_eq!(plain(addr("[::ffff:5.6.7.8]:9")), addr("5.6.7.8:9"));
    }
}
