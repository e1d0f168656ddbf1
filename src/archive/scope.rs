//! How far an address reaches.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// From where an address can be reached, by the special-purpose registries (RFC 6890 and what followed it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// From everywhere.
    Global,
    /// Inside a site or a provider: RFC 1918, shared (RFC 6598) and unique local (RFC 4193) addresses.
    Private,
    /// This host.
    Loopback,
    /// This link; the metadata services of clouds live here (169.254.169.254), and those that live elsewhere count as here.
    LinkLocal,
    /// Nobody's: unspecified, multicast, broadcast, documentation, benchmarks, reserved.
    Unusable,
}

const METADATA_ALIBABA: [u8; 4] = [100, 100, 100, 200];
const METADATA_AZURE: [u8; 4] = [168, 63, 129, 16];
const METADATA_ORACLE: [u8; 4] = [192, 0, 0, 192];
const METADATA_AWS: [u16; 8] = [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254];

impl Scope {
    /// Classifies an address. An IPv4 address inside an IPv6 one (mapped, NAT64, 6to4, Teredo) counts as what it leads to.
    pub fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => of_v4(ip),
            IpAddr::V6(ip) => of_v6(ip),
        }
    }
}

/// Whether an address can be reached from everywhere.
pub fn is_global(ip: IpAddr) -> bool {
    Scope::of(ip) == Scope::Global
}

fn of_v4(ip: Ipv4Addr) -> Scope {
    match ip.octets() {
        [127, ..] => Scope::Loopback,
        [169, 254, ..] => Scope::LinkLocal,
        METADATA_ALIBABA | METADATA_AZURE | METADATA_ORACLE => Scope::LinkLocal,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Scope::Private,
        [0, ..] | [192, 0, 0, _] | [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Scope::Unusable,
        [192, 88, 99, _] | [198, 18..=19, ..] | [224..=255, ..] => Scope::Unusable,
        _ => Scope::Global,
    }
}

fn of_v6(ip: Ipv6Addr) -> Scope {
    let embedded = |high: u16, low: u16| of_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Scope::Loopback,
        [0, 0, 0, 0, 0, 0, 0, 0] => Scope::Unusable,
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        [0x2001, 0, _, _, _, _, high, low] => embedded(!high, !low),
        [0xfe80..=0xfebf, ..] | METADATA_AWS => Scope::LinkLocal,
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] | [0x64, 0xff9b, 1, ..] => Scope::Private,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] | [0x2001, 2, 0, ..] | [0x2001, 0x10..=0x2f, ..] => {
            Scope::Unusable
        }
        [0x2000..=0x3fff, ..] => Scope::Global,
        _ => Scope::Unusable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_special_range_is_known() {
        for (scope, addresses) in [
            (
                Scope::Global,
                &["9.9.9.9", "172.32.0.1", "100.128.0.1", "2620:fe::fe", "::ffff:9.9.9.9", "2002:909:909::"][..],
            ),
            (Scope::Private, &["10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd00::1", "::ffff:10.0.0.1"]),
            (Scope::Private, &["64:ff9b::10.0.0.1", "2002:a00:1::", "64:ff9b:1::1", "fec0::1"]),
            (Scope::Loopback, &["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::127.0.0.1"]),
            (Scope::LinkLocal, &["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "64:ff9b::169.254.169.254"]),
            (Scope::LinkLocal, &["100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254"]),
            (Scope::Unusable, &["0.0.0.0", "224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "240.0.0.1"]),
            (Scope::Unusable, &["::", "ff02::1", "2001:db8::1", "100::1", "3fff::1", "4000::1", "203.0.113.7"]),
        ] {
            for address in addresses {
                let ip: IpAddr = address.parse().unwrap();
                assert_eq!(Scope::of(ip), scope, "{address}");
                assert_eq!(is_global(ip), scope == Scope::Global, "{address}");
            }
        }
    }
}
