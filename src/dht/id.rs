//! Ids of nodes, keys and items, and the distance between them.

use std::fmt;

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

    /// The 20 bytes.
    pub const fn as_bytes(&self) -> &[u8; ID_LEN] {
        &self.0
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
    fn an_item_is_found_under_the_hash_of_its_bencoded_value() {
        // The example of BEP 44.
        assert_eq!(Id::of_item(b"12:Hello World!").to_string(), "e5f96f6f38320f0f33959cb4d3d656452117aadb");
    }
}
