//! Mutable items (BEP 44): a value under a public key, numbered and signed, and those that are kept for others.
//!
//! ```text
//!  target   SHA-1(key || salt)
//!  signed   [4:salt<n>:<salt>] 3:seqi<seq>e1:v<value, bencoded>      Ed25519; the salt only when there is one
//! ```
//!
//! The project itself uses none of them: whoever knows a file's hash could write such an item. They are kept as every
//! node of Mainline keeps them.
//!
//! **Security.** Only a genuine signature is kept, a lower number never replaces a higher one, equal numbers never
//! replace a value. Items far from the own id give way to nearer ones; no neighbourhood of addresses has more than its part.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    time::Duration,
};

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use super::{
    contact::Subnet,
    id::{Distance, Id},
    storage::TTL,
};

/// Length of a public key, in bytes.
pub const KEY_LEN: usize = 32;

/// Length of a signature, in bytes.
pub const SIGNATURE_LEN: usize = 64;

/// Longest salt, in bytes.
pub const MAX_SALT: usize = 64;

/// Most items.
const MAX_ITEMS: usize = 1000;

/// Most items that one subnet put.
const MAX_ITEMS_PER_SUBNET: usize = 100;

/// A mutable item as it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed<'a> {
    /// The public key.
    pub key: &'a [u8; KEY_LEN],
    /// What tells apart the items of one key; at most [`MAX_SALT`] bytes, mostly none.
    pub salt: &'a [u8],
    /// The item's number: higher ones replace lower ones.
    pub seq: i64,
    /// Over salt, number and value.
    pub signature: &'a [u8; SIGNATURE_LEN],
    /// The value, bencoded.
    pub value: &'a [u8],
}

impl Signed<'_> {
    /// Where it is found.
    pub fn target(&self) -> Id {
        Id::of_signed(self.key, self.salt)
    }

    /// Whether the owner of the key signed it.
    pub fn is_genuine(&self) -> bool {
        let signed = to_sign(self.salt, self.seq, self.value);
        let key = VerifyingKey::from_bytes(self.key);
        key.is_ok_and(|key| key.verify_strict(&signed, &Signature::from_bytes(self.signature)).is_ok())
    }
}

/// A mutable item of one's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnItem {
    key: [u8; KEY_LEN],
    salt: Vec<u8>,
    seq: i64,
    signature: [u8; SIGNATURE_LEN],
    value: Vec<u8>,
}

/// An item cannot be written: its salt or its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadItem {
    /// It is longer than [`MAX_SALT`].
    #[error("a salt has {MAX_SALT} bytes at most")]
    Salt,
    /// It is negative.
    #[error("a number is not negative")]
    Seq,
}

impl OwnItem {
    /// Signs a bencoded value under the key pair of an Ed25519 seed (RFC 8032).
    pub fn sign(seed: &[u8; KEY_LEN], salt: Vec<u8>, seq: i64, value: Vec<u8>) -> Result<Self, BadItem> {
        if salt.len() > MAX_SALT {
            return Err(BadItem::Salt);
        }
        if seq < 0 {
            return Err(BadItem::Seq);
        }
        let signer = SigningKey::from_bytes(seed);
        let signature = signer.sign(&to_sign(&salt, seq, &value)).to_bytes();
        Ok(Self { key: signer.verifying_key().to_bytes(), salt, seq, signature, value })
    }

    /// Where the items of a key pair and salt are found.
    pub fn target_of(seed: &[u8; KEY_LEN], salt: &[u8]) -> Id {
        Id::of_signed(&SigningKey::from_bytes(seed).verifying_key().to_bytes(), salt)
    }

    /// Where it is found.
    pub fn target(&self) -> Id {
        self.signed().target()
    }

    /// As it travels.
    pub fn signed(&self) -> Signed<'_> {
        let Self { key, salt, seq, signature, value } = self;
        Signed { key, salt, seq: *seq, signature, value }
    }
}

/// The bytes that a signature is over.
pub fn to_sign(salt: &[u8], seq: i64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if !salt.is_empty() {
        out.extend_from_slice(format!("4:salt{}:", salt.len()).as_bytes());
        out.extend_from_slice(salt);
    }
    out.extend_from_slice(format!("3:seqi{seq}e1:v").as_bytes());
    out.extend_from_slice(value);
    out
}

/// Why an item is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// There is no room.
    #[error("no room")]
    Full,
    /// Another number is kept than the one that was to be replaced.
    #[error("another item is kept")]
    Cas,
    /// A higher number is kept, or another value under this one.
    #[error("a newer item is kept")]
    Old,
}

/// Mutable items kept for others.
pub struct SignedItems {
    own: Id,
    items: BTreeMap<Distance, Kept>,
    by_subnet: HashMap<Subnet, usize>,
}

struct Kept {
    key: [u8; KEY_LEN],
    signature: [u8; SIGNATURE_LEN],
    seq: i64,
    value: Vec<u8>,
    subnet: Subnet,
    until: Duration,
}

impl SignedItems {
    /// Keeps nothing yet.
    pub fn new(own: Id) -> Self {
        Self { own, items: BTreeMap::new(), by_subnet: HashMap::new() }
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Keeps a genuine item. With `cas`, it only replaces the one of that number.
    pub fn put(&mut self, item: &Signed<'_>, cas: Option<i64>, from: SocketAddr, now: Duration) -> Result<(), NotKept> {
        let at = self.own.distance(&item.target());
        let subnet = Subnet::of(from.ip());
        if let Some(kept) = self.items.get_mut(&at).filter(|kept| kept.until > now) {
            if cas.is_some_and(|cas| cas != kept.seq) {
                return Err(NotKept::Cas);
            }
            if item.seq < kept.seq || (item.seq == kept.seq && item.value != kept.value) {
                return Err(NotKept::Old);
            }
            // It stays counted where it first came from, so that its number does not change hands by being repeated.
            *kept = Kept::of(item, kept.subnet, now + TTL);
            return Ok(());
        }
        self.remove(&at);
        if self.by_subnet.get(&subnet).is_some_and(|count| *count >= MAX_ITEMS_PER_SUBNET) {
            return Err(NotKept::Full);
        }
        if self.items.len() >= MAX_ITEMS {
            let farthest = *self.items.last_key_value().expect("a full store has items").0;
            if farthest <= at {
                return Err(NotKept::Full);
            }
            self.remove(&farthest);
        }
        self.items.insert(at, Kept::of(item, subnet, now + TTL));
        *self.by_subnet.entry(subnet).or_default() += 1;
        Ok(())
    }

    /// The item of a target. Its salt is not kept: whoever asks knows it.
    pub fn item(&self, target: &Id, now: Duration) -> Option<Signed<'_>> {
        let kept = self.items.get(&self.own.distance(target)).filter(|kept| kept.until > now)?;
        Some(Signed { key: &kept.key, salt: &[], seq: kept.seq, signature: &kept.signature, value: &kept.value })
    }

    /// Lets go of what has ended.
    pub fn sweep(&mut self, now: Duration) {
        let ended: Vec<Distance> = self.items.iter().filter(|(_, kept)| kept.until <= now).map(|(at, _)| *at).collect();
        ended.iter().for_each(|at| self.remove(at));
    }

    /// The own id is another one from now on.
    pub fn rename(&mut self, own: Id) {
        let items = std::mem::take(&mut self.items).into_iter();
        self.items = items.map(|(at, kept)| (at.seen_from(&self.own, &own), kept)).collect();
        self.own = own;
    }

    fn remove(&mut self, at: &Distance) {
        let Some(kept) = self.items.remove(at) else { return };
        let count = self.by_subnet.get_mut(&kept.subnet).expect("what is let go was counted");
        *count -= 1;
        if *count == 0 {
            self.by_subnet.remove(&kept.subnet);
        }
    }
}

impl Kept {
    fn of(item: &Signed<'_>, subnet: Subnet, until: Duration) -> Self {
        Self { key: *item.key, signature: *item.signature, seq: item.seq, value: item.value.to_vec(), subnet, until }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn with_item<T>(seed: u8, salt: &[u8], seq: i64, value: &[u8], look: impl FnOnce(Signed<'_>) -> T) -> T {
        look(OwnItem::sign(&[seed; 32], salt.to_vec(), seq, value.to_vec()).unwrap().signed())
    }

    #[test]
    fn what_is_signed_here_is_genuine_and_in_form() {
        let sign = |salt: usize, seq| OwnItem::sign(&[7; 32], vec![b's'; salt], seq, b"i1e".to_vec());
        let item = sign(MAX_SALT, 0).unwrap();
        assert!(item.signed().is_genuine());
        assert_eq!(item.target(), OwnItem::target_of(&[7; 32], &[b's'; MAX_SALT]));
        assert_eq!((sign(MAX_SALT + 1, 0), sign(0, -1)), (Err(BadItem::Salt), Err(BadItem::Seq)));
    }

    fn from(n: u8) -> SocketAddr {
        SocketAddr::from(([5, 6, n, 1], 1))
    }

    #[test]
    fn the_examples_of_bep_44_are_genuine_and_found_where_it_says() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let key = hex("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548");
        for (salt, signature, target) in [
            (
                &b""[..],
                "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01",
                "4a533d47ec9c7d95b1ad75f576cffc641853b750",
            ),
            (
                b"foobar",
                "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17ddf9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08",
                "411eba73b6f087ca51a3795d9c8c938d365e32c1",
            ),
        ] {
            let (key, signature) = (key.clone().try_into().unwrap(), hex(signature).try_into().unwrap());
            let item = Signed { key: &key, salt, seq: 1, signature: &signature, value: b"12:Hello World!" };
            assert!(item.is_genuine());
            assert_eq!(item.target().to_string(), target);
            assert!(!Signed { seq: 2, ..item }.is_genuine());
            assert!(!Signed { salt: b"x", ..item }.is_genuine());
            assert!(!Signed { value: b"12:Hello World?", ..item }.is_genuine());
        }
    }

    #[test]
    fn numbers_never_go_back_and_values_do_not_change_under_one() {
        let mut items = SignedItems::new(Id::new([0; 20]));
        let mut put =
            |seq, value: &[u8], cas| with_item(1, b"", seq, value, |item| items.put(&item, cas, from(1), NOW));
        assert_eq!(put(5, b"1:a", Some(4)), Ok(()), "there is nothing to compare with");
        assert_eq!(put(5, b"1:a", None), Ok(()));
        assert_eq!(put(5, b"1:b", None), Err(NotKept::Old));
        assert_eq!(put(4, b"1:a", None), Err(NotKept::Old));
        assert_eq!(put(6, b"1:b", Some(4)), Err(NotKept::Cas));
        assert_eq!(put(6, b"1:b", Some(5)), Ok(()));
        with_item(1, b"", 6, b"1:b", |item| {
            assert_eq!(items.item(&item.target(), NOW), Some(item));
            assert_eq!(items.item(&item.target(), NOW + TTL), None);
        });
        items.sweep(NOW + TTL);
        assert_eq!((items.len(), items.by_subnet.len()), (0, 0));
    }

    #[test]
    fn a_neighbourhood_has_its_part_and_far_items_give_way() {
        let mut items = SignedItems::new(Id::new([0; 20]));
        let key = SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes();
        let mut kept = Vec::new();
        for n in 0..3000_u32 {
            let salt = n.to_be_bytes();
            // Whether it is genuine is judged before.
            let item = Signed { key: &key, salt: &salt, seq: 1, signature: &[0; 64], value: b"0:" };
            let result = items.put(&item, None, from((n % 20) as u8), NOW);
            assert!(items.len() <= MAX_ITEMS && items.by_subnet.values().all(|count| *count <= MAX_ITEMS_PER_SUBNET));
            if result.is_ok() {
                kept.push(item.target());
            }
        }
        assert_eq!(items.len(), MAX_ITEMS);
        assert!(kept.len() > MAX_ITEMS, "nearer ones came in");
        let before = kept.iter().filter(|target| items.item(target, NOW).is_some()).count();
        items.rename(Id::new([0xff; 20]));
        assert_eq!(kept.iter().filter(|target| items.item(target, NOW).is_some()).count(), before);
    }
}
