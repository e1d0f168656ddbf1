//! The network that a node belongs to: its id on every datagram, its secret behind every key; or Mainline, which has neither.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::hash::ContentHash;

use super::{
    id::{ID_LEN, Id},
    shelf::Shelf,
};

/// Length of a network id in bytes.
pub const NETWORK_LEN: usize = 8;

/// Length of the code that authenticates a datagram of a private network, in bytes.
pub const MAC_LEN: usize = 16;

/// A network: the common one, a private one that a secret opens, or BitTorrent's Mainline.
///
/// ```text
///  id   SHA-256("apt-huddle/1 network" || secret)[..8]              top-level `n` of each datagram
///  mac  HMAC-SHA-256(secret, the datagram without its `m`)[..16]    top-level `m`, private networks only
///  key  SHA-256("apt-huddle/1" || secret || hash of the file)[..20]
///  shelf SHA-256("apt-huddle/1 shelf" || secret || name of the suite || shard, 1 byte)[..20]
///  meet SHA-256("apt-huddle/1 rendezvous" || secret || day since 1970, 4 bytes big-endian)[..20]
/// ```
///
/// Datagrams of Mainline have none of these; files have no keys there.
///
/// **Security.** An id names a network and opens none. That of the public one stands in the source; what it keeps out are
/// other programs, and nodes of other networks that would join two of them by one contact. That of a private one is seen by
/// whoever sees a datagram, and copied as easily: the code alone lets a datagram in. Guessing it unseen, of 2^64, finds at most
/// that some host speaks. As it is made of the secret, a secret can be tried against it, and against the codes, by whoever
/// saw one datagram: it must be drawn, not thought of, some 16 letters and digits or more, and then nobody comes to an end.
#[derive(Clone)]
pub struct Realm {
    /// Nothing on Mainline.
    id: Option<[u8; NETWORK_LEN]>,
    secret: Vec<u8>,
}

/// Without the secret.
impl fmt::Debug for Realm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Realm").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Realm {
    /// The network that everybody may join.
    pub fn public() -> Self {
        Self::with(Vec::new())
    }

    /// A network of those who know the secret; `None` when it is empty.
    pub fn private(secret: &str) -> Option<Self> {
        (!secret.is_empty()).then(|| Self::with(secret.as_bytes().to_vec()))
    }

    /// BitTorrent's DHT: the meeting point, and for tools.
    pub fn mainline() -> Self {
        Self { id: None, secret: Vec::new() }
    }

    fn with(secret: Vec<u8>) -> Self {
        let digest = Sha256::new().chain_update(b"apt-huddle/1 network").chain_update(&secret).finalize();
        let id = *digest.first_chunk().expect("a SHA-256 has more than 8 bytes");
        Self { id: Some(id), secret }
    }

    /// Whether datagrams carry a code.
    pub fn is_private(&self) -> bool {
        !self.secret.is_empty()
    }

    /// Whether it is BitTorrent's.
    pub fn is_mainline(&self) -> bool {
        self.id.is_none()
    }

    /// What top-level `n` says; empty on Mainline, where there is none.
    pub fn id(&self) -> &[u8] {
        self.id.as_ref().map_or(&[], |id| id)
    }

    /// Whether a datagram with that top-level `n` is of this network. Mainline minds no keys that it does not know.
    pub fn names(&self, n: Option<&[u8]>) -> bool {
        self.id.is_none_or(|id| n == Some(&id[..]))
    }

    /// Where the members of this network meet on Mainline, on a day since 1970. Who does not know the secret of a private
    /// network cannot tell its key from any other.
    pub fn rendezvous(&self, day: u32) -> Id {
        let digest = Sha256::new()
            .chain_update(b"apt-huddle/1 rendezvous")
            .chain_update(&self.secret)
            .chain_update(day.to_be_bytes())
            .finalize();
        Id::new(*digest.first_chunk::<ID_LEN>().expect("a SHA-256 has more than 20 bytes"))
    }

    /// Where a file is announced and looked up.
    pub fn key(&self, file: &ContentHash) -> Id {
        let digest = Sha256::new()
            .chain_update(b"apt-huddle/1")
            .chain_update(&self.secret)
            .chain_update(file.as_bytes())
            .finalize();
        Id::new(*digest.first_chunk::<ID_LEN>().expect("a SHA-256 has more than 20 bytes"))
    }

    /// Where a shelf is announced and looked up.
    pub fn shelf(&self, shelf: &Shelf) -> Id {
        let digest = Sha256::new()
            .chain_update(b"apt-huddle/1 shelf")
            .chain_update(&self.secret)
            .chain_update(shelf.suite().as_bytes())
            .chain_update([shelf.shard()])
            .finalize();
        Id::new(*digest.first_chunk::<ID_LEN>().expect("a SHA-256 has more than 20 bytes"))
    }

    /// The code over a datagram given in parts; `None` in the public network.
    pub fn mac(&self, parts: [&[u8]; 2]) -> Option<[u8; MAC_LEN]> {
        let tag = self.hmac(parts)?.finalize().into_bytes();
        Some(*tag.first_chunk().expect("a SHA-256 has more than 16 bytes"))
    }

    /// Whether a datagram, given in parts around its code, is of this network. Takes the same time for every wrong code.
    pub fn accepts(&self, parts: [&[u8]; 2], mac: Option<&[u8]>) -> bool {
        match (self.hmac(parts), mac) {
            (None, None) => true,
            (Some(hmac), Some(mac)) => mac.len() == MAC_LEN && hmac.verify_truncated_left(mac).is_ok(),
            _ => false,
        }
    }

    fn hmac(&self, parts: [&[u8]; 2]) -> Option<Hmac<Sha256>> {
        self.is_private().then(|| {
            let hmac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes keys of any length");
            parts.iter().fold(hmac, |hmac, part| hmac.chain_update(part))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_their_keys_are_apart() {
        let file = ContentHash::of(b"a file");
        let [public, one, two] = [Realm::public(), Realm::private("one").unwrap(), Realm::private("two").unwrap()];
        assert_ne!(public.id(), one.id());
        assert_ne!(one.id(), two.id());
        assert_ne!(public.key(&file), one.key(&file));
        assert_ne!(one.key(&file), two.key(&file));
        assert!(Realm::private("").is_none());
        let meeting = [public.rendezvous(20_000), public.rendezvous(20_001), one.rendezvous(20_000)];
        assert!(meeting[0] != meeting[1] && meeting[0] != meeting[2], "{meeting:?}");
        assert_eq!(meeting[0], Realm::public().rendezvous(20_000));
    }

    #[test]
    fn mainline_reads_what_has_a_network_and_what_has_none() {
        let [mainline, public] = [Realm::mainline(), Realm::public()];
        assert!(mainline.names(None) && mainline.names(Some(public.id())));
        assert!(public.names(Some(public.id())) && !public.names(None) && !public.names(Some(b"")));
        assert!(mainline.is_mainline() && !mainline.is_private() && mainline.id().is_empty());
    }

    #[test]
    fn only_the_secret_makes_a_code_that_is_accepted() {
        let realm = Realm::private("one").unwrap();
        let mac = realm.mac([b"da", b"ta"]).unwrap();
        assert!(realm.accepts([b"dat", b"a"], Some(&mac)));
        assert!(!realm.accepts([b"data", b"!"], Some(&mac)));
        assert!(!realm.accepts([b"data", b""], Some(&mac[..15])));
        assert!(!realm.accepts([b"data", b""], Some(&[])));
        assert!(!realm.accepts([b"data", b""], None));
        assert!(!Realm::private("two").unwrap().accepts([b"data", b""], Some(&mac)));
        assert!(Realm::public().accepts([b"data", b""], None));
        assert!(!Realm::public().accepts([b"data", b""], Some(&mac)));
    }
}
