//! Ids of nodes, keys and items, and the distance between them.

use std::{fmt, net::IpAddr, str::FromStr};

use rand::Rng;
use sha1::{Digest, Sha1};

/// Length of an id in bytes.
pub const ID_LEN: usize = 20;

/// A point in the key space of 160 bits: a node, the key of a file, or the target of an item.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id([u8; ID_LEN]);

impl Id {
    /// Takes an id of 20 bytes.
    pub const fn new(bytes: [u8; ID_LEN]) -> Self {
        Self(bytes)
    }

    /// Takes an id that came in a message; `None` unless it has 20 bytes.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Draws an id.
    pub fn random(rng: &mut impl Rng) -> Self {
        let mut bytes = [0; ID_LEN];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// Draws an id that shares exactly the first `shared` bits with this one.
    pub fn random_sharing(&self, shared: usize, rng: &mut impl Rng) -> Self {
        let mut id = Self::random(rng);
        for bit in 0..=shared.min(8 * ID_LEN - 1) {
            let mask = 0x80 >> (bit % 8);
            let own = self.0[bit / 8] & mask;
            let want = if bit == shared { own ^ mask } else { own };
            id.0[bit / 8] = id.0[bit / 8] & !mask | want;
        }
        id
    }

    /// The target of an immutable item: the SHA-1 of its bencoded value (BEP 44).
    pub fn of_item(bencoded: &[u8]) -> Self {
        Self(Sha1::digest(bencoded).into())
    }

    /// The target of a mutable item: the SHA-1 of its key and salt (BEP 44).
    pub fn of_signed(key: &[u8], salt: &[u8]) -> Self {
        Self(Sha1::new().chain_update(key).chain_update(salt).finalize().into())
    }

    /// Draws an id that an address may have (BEP 42).
    pub fn rooted_in(ip: IpAddr, rng: &mut impl Rng) -> Self {
        let mut id = Self::random(rng);
        let root = root(ip, id.0[ID_LEN - 1]).to_be_bytes();
        id.0[..2].copy_from_slice(&root[..2]);
        id.0[2] = root[2] & 0xf8 | id.0[2] & 0x07;
        id
    }

    /// Whether an address may have this id: the first 21 bits follow from it and from the last byte (BEP 42).
    pub fn is_rooted_in(&self, ip: IpAddr) -> bool {
        let root = root(ip, self.0[ID_LEN - 1]).to_be_bytes();
        self.0[..2] == root[..2] && (self.0[2] ^ root[2]) & 0xf8 == 0
    }

    /// The 20 bytes.
    pub const fn as_bytes(&self) -> &[u8; ID_LEN] {
        &self.0
    }

    /// The first of all ids that share so many of the first bits with this one.
    pub fn first_of(&self, bits: usize) -> Self {
        let mut id = self.0;
        for (byte, first) in id.iter_mut().zip((0..).step_by(8)) {
            let own = bits.saturating_sub(first).min(8);
            *byte &= !(0xff_u16 >> own) as u8;
        }
        Self(id)
    }

    /// Kademlia's distance: exclusive or, compared as a number.
    pub fn distance(&self, other: &Self) -> Distance {
        let mut distance = self.0;
        distance.iter_mut().zip(other.0).for_each(|(byte, other)| *byte ^= other);
        Distance(distance)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Not 40 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 40 hexadecimal digits")]
pub struct BadId;

impl FromStr for Id {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        if text.len() != 2 * ID_LEN || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(BadId);
        }
        let mut bytes = [0; ID_LEN];
        for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).expect("two hexadecimal digits");
        }
        Ok(Self(bytes))
    }
}

/// The bits that an address and a random byte give to an id: CRC-32C of the masked address with three bits of the byte
/// above it (BEP 42).
fn root(ip: IpAddr, random: u8) -> u32 {
    let draw = random & 7;
    match ip {
        IpAddr::V4(ip) => crc32c(&(ip.to_bits() & 0x030f_3fff | u32::from(draw) << 29).to_be_bytes()),
        IpAddr::V6(ip) => {
            let high = (ip.to_bits() >> 64) as u64;
            crc32c(&(high & 0x0103_070f_1f3f_7fff | u64::from(draw) << 61).to_be_bytes())
        }
    }
}

/// CRC-32C (Castagnoli), bit by bit: ids are made rarely, and eight bytes at most go in.
fn crc32c(bytes: &[u8]) -> u32 {
    let shift = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), shift))
}

/// How far two ids are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Distance([u8; ID_LEN]);

impl Distance {
    /// The distance at which so small a part of all ids begins, of 2^64 parts.
    pub fn of_part(part: u64) -> Self {
        let mut distance = [0xff; ID_LEN];
        distance[..8].copy_from_slice(&part.to_be_bytes());
        Self(distance)
    }

    /// The part of all ids that is nearer, of 2^64 parts.
    pub fn part(&self) -> u64 {
        u64::from_be_bytes(*self.0.first_chunk().expect("an id has more than 8 bytes"))
    }

    /// The distance of the same point from another id than the one that this was measured from.
    pub fn seen_from(mut self, before: &Id, after: &Id) -> Self {
        let moved = before.distance(after);
        self.0.iter_mut().zip(moved.0).for_each(|(byte, moved)| *byte ^= moved);
        self
    }

    /// Leading bits that the two ids share; 160 for one id and itself.
    pub fn shared_bits(&self) -> usize {
        let zeros = self.0.iter().take_while(|byte| **byte == 0).count();
        8 * zeros + self.0.get(zeros).map_or(0, |byte| byte.leading_zeros() as usize)
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn the_distance_counts_shared_bits() {
        let zero = Id::new([0; 20]);
        assert_eq!(zero.distance(&zero).shared_bits(), 160);
        let mut last = [0; 20];
        last[19] = 1;
        assert_eq!(zero.distance(&Id::new(last)).shared_bits(), 159);
        assert_eq!(zero.distance(&Id::new([0xff; 20])).shared_bits(), 0);
    }

    #[test]
    fn a_drawn_id_shares_the_asked_number_of_bits() {
        let mut rng = StdRng::seed_from_u64(1);
        let own = Id::random(&mut rng);
        for shared in 0..160 {
            assert_eq!(own.distance(&own.random_sharing(shared, &mut rng)).shared_bits(), shared);
        }
    }

    #[test]
    fn ids_follow_from_addresses_as_bep_42_says() {
        // The table of BEP 42: address, last byte, first 21 bits.
        for (ip, last, first) in [
            ("124.31.75.21", 1, [0x5f, 0xbf, 0xb8]),
            ("21.75.31.124", 86, [0x5a, 0x3c, 0xe8]),
            ("65.23.51.170", 22, [0xa5, 0xd4, 0x30]),
            ("84.124.73.14", 65, [0x1b, 0x03, 0x20]),
            ("43.213.53.83", 90, [0xe5, 0x6f, 0x68]),
        ] {
            let ip: IpAddr = ip.parse().unwrap();
            let [a, b, c, _] = root(ip, last).to_be_bytes();
            assert_eq!([a, b, c & 0xf8], first, "{ip}");
        }
        let mut rng = StdRng::seed_from_u64(1);
        for ip in ["124.31.75.21", "2600::1"] {
            let ip = ip.parse().unwrap();
            assert!(Id::rooted_in(ip, &mut rng).is_rooted_in(ip));
            assert!(!Id::new([0; 20]).is_rooted_in(ip));
        }
    }

    #[test]
    fn ids_are_read_as_they_are_written() {
        let id = Id::random(&mut StdRng::seed_from_u64(1));
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "0", &"0".repeat(39), &"g".repeat(40), &"+1".repeat(20), &"\u{e9}".repeat(20)] {
            assert_eq!(bad.parse::<Id>(), Err(BadId), "{bad}");
        }
    }

    #[test]
    fn a_distance_can_be_seen_from_another_id() {
        let mut rng = StdRng::seed_from_u64(1);
        let [before, after, point] = std::array::from_fn(|_| Id::random(&mut rng));
        assert_eq!(before.distance(&point).seen_from(&before, &after), after.distance(&point));
    }

    #[test]
    fn an_item_is_found_under_the_hash_of_its_bencoded_value() {
        // The example of BEP 44.
        assert_eq!(Id::of_item(b"12:Hello World!").to_string(), "e5f96f6f38320f0f33959cb4d3d656452117aadb");
    }
}
