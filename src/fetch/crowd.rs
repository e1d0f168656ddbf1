//! Which holders are connected to, and how many one party may put among those that a file is asked of: addresses that are
//! near each other are often one party's, and whoever fills all the places shuts everybody else out.
//!
//! Only global addresses are counted: on a LAN neighbours are who there is.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
};

use crate::archive::Scope;

/// Holders at one IPv4 address, or in one IPv6 /64, at most: several may be behind one router.
const PER_HOST: usize = 3;
/// Holders in one IPv4 /24, or in one IPv6 /48, at most.
const PER_SUBNET: usize = 8;

/// Ports that no daemon of ours has unless it is made to, and other services do: whoever announced one would have every
/// downloader connect to it.
const RESERVED_PORTS: Range<u16> = 0..1024;

/// Whether a holder that somebody named is connected to at all.
pub fn is_dialled(holder: SocketAddr) -> bool {
    !RESERVED_PORTS.contains(&holder.port())
}

/// Whether one more holder at that address may join those that are there.
pub fn has_room(there: impl Iterator<Item = IpAddr>, ip: IpAddr) -> bool {
    if Scope::of(ip) != Scope::Global {
        return true;
    }
    let (mut host, mut subnet) = (0, 0);
    for other in there {
        host += usize::from(prefix(other, 32, 64) == prefix(ip, 32, 64));
        subnet += usize::from(prefix(other, 24, 48) == prefix(ip, 24, 48));
    }
    host < PER_HOST && subnet < PER_SUBNET
}

/// So many bits of an IPv4 address, or of an IPv6 one, and which of the two it is.
fn prefix(ip: IpAddr, v4: u32, v6: u32) -> (bool, u128) {
    match ip.to_canonical() {
        IpAddr::V4(ip) => (true, u128::from(ip.to_bits() >> (32 - v4))),
        IpAddr::V6(ip) => (false, ip.to_bits() >> (128 - v6)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of these are taken when they come one after another.
    fn taken(addresses: impl Iterator<Item = String>) -> usize {
        let mut there: Vec<IpAddr> = Vec::new();
        for address in addresses {
            let ip = address.parse().expect("an address");
            if has_room(there.iter().copied(), ip) {
                there.push(ip);
            }
        }
        there.len()
    }

    #[test]
    fn a_holder_at_another_services_port_is_not_dialled() {
        for (holder, dialled) in [("5.6.7.8:22", false), ("[2600::1]:1023", false), ("5.6.7.8:1024", true)] {
            assert_eq!(is_dialled(holder.parse().expect("an address")), dialled, "{holder}");
        }
    }

    #[test]
    fn one_party_gets_a_few_places_and_neighbours_of_a_lan_get_all() {
        assert_eq!(taken((0..40).map(|_| "5.6.7.8".to_owned())), PER_HOST);
        assert_eq!(taken((0..40).map(|n| format!("5.6.7.{n}"))), PER_SUBNET);
        assert_eq!(taken((0..40).map(|n| format!("5.6.{n}.8"))), 40);
        assert_eq!(taken((0..40).map(|n| format!("2600:1:2:3::{n}"))), PER_HOST);
        assert_eq!(taken((0..40).map(|n| format!("2600:1:2:{n}::1"))), PER_SUBNET);
        assert_eq!(taken((0..40).map(|n| format!("2600:1:{n}::1"))), 40);
        assert_eq!(taken((0..40).map(|_| "127.0.0.1".to_owned())), 40);
        assert_eq!(taken((0..40).map(|n| format!("192.168.1.{n}"))), 40);
    }
}
