//! What others announced here: who has which file, claims of piece hashes, and items.
//!
//! **Security.** Everything has an end and a cap. A holder is stored at the address that it sent from, never at one that
//! it names. When there are too many keys, those far from the own id give way to nearer ones: these are the ones that
//! others will look for here, and an id cannot be moved near all keys. No neighbourhood of addresses holds more than its
//! part of the whole, or of one key.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    time::Duration,
};

use rand::{Rng, seq::SliceRandom};

use super::{
    contact::Subnet,
    id::{Distance, Id},
    message::MAX_CLAIMS,
};

/// How long holders are kept on Mainline, where they announce every 20 to 25 minutes.
pub const MAINLINE_TTL: Duration = Duration::from_secs(45 * 60);

/// How long anything is kept after it was last announced; holders announce hourly and may miss one.
pub const TTL: Duration = Duration::from_secs(130 * 60);

/// Most keys with holders.
const MAX_KEYS: usize = 20_000;

/// Most holders in all.
const MAX_HOLDERS: usize = 100_000;

/// Most holders of one key.
const MAX_HOLDERS_PER_KEY: usize = 100;

/// Most holders of one key in one subnet.
const MAX_HOLDERS_PER_KEY_AND_SUBNET: usize = 8;

/// Most holders of one subnet, over all keys.
const MAX_HOLDERS_PER_SUBNET: usize = 20_000;

/// Most networks that are counted behind one claim.
const MAX_NETWORKS: usize = 32;

/// Most items.
const MAX_ITEMS: usize = 4_000;

/// Most items that one subnet put.
const MAX_ITEMS_PER_SUBNET: usize = 2_000;

/// What is kept for others.
pub struct Storage {
    own: Id,
    ttl: Duration,
    keys: BTreeMap<Distance, Key>,
    holders: usize,
    holders_by_subnet: HashMap<Subnet, usize>,
    items: BTreeMap<Distance, Item>,
    items_by_subnet: HashMap<Subnet, usize>,
}

#[derive(Default)]
struct Key {
    holders: Vec<Holder>,
    claims: Vec<Claimed>,
}

struct Holder {
    addr: SocketAddr,
    until: Duration,
}

struct Claimed {
    bytes: Vec<u8>,
    networks: Vec<(Subnet, Duration)>,
}

struct Item {
    value: Vec<u8>,
    subnet: Subnet,
    until: Duration,
}

/// There is no room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no room")]
pub struct Full;

impl Storage {
    /// Holds nothing yet; will keep holders for so long.
    pub fn new(own: Id, ttl: Duration) -> Self {
        Self {
            own,
            ttl,
            keys: BTreeMap::new(),
            holders: 0,
            holders_by_subnet: HashMap::new(),
            items: BTreeMap::new(),
            items_by_subnet: HashMap::new(),
        }
    }

    /// The own id is another one from now on.
    pub fn rename(&mut self, own: Id) {
        let moved = |at: Distance| at.seen_from(&self.own, &own);
        self.keys = std::mem::take(&mut self.keys).into_iter().map(|(at, key)| (moved(at), key)).collect();
        self.items = std::mem::take(&mut self.items).into_iter().map(|(at, item)| (moved(at), item)).collect();
        self.own = own;
    }

    /// Keys with holders, and items.
    pub fn stored(&self) -> usize {
        self.keys.len() + self.items.len()
    }

    /// A holder of a file announced itself, with a claim of its piece hashes.
    pub fn announce(&mut self, id: &Id, addr: SocketAddr, claim: Option<&[u8]>, now: Duration) -> Result<(), Full> {
        let at = self.own.distance(id);
        let subnet = Subnet::of(addr.ip());
        let until = now + self.ttl;
        let known = self.keys.get_mut(&at).and_then(|key| key.holders.iter_mut().find(|holder| holder.addr == addr));
        match known {
            Some(holder) => holder.until = until,
            None => {
                self.make_room_for_holder(at, subnet)?;
                self.keys.entry(at).or_default().holders.push(Holder { addr, until });
                self.holders += 1;
                *self.holders_by_subnet.entry(subnet).or_default() += 1;
            }
        }
        if let Some(claim) = claim {
            self.keys.entry(at).or_default().handle_claim(claim, subnet, until);
        }
        Ok(())
    }

    fn make_room_for_holder(&mut self, at: Distance, subnet: Subnet) -> Result<(), Full> {
        if self.holders_by_subnet.get(&subnet).is_some_and(|count| *count >= MAX_HOLDERS_PER_SUBNET) {
            return Err(Full);
        }
        let keys = self.keys.len();
        match self.keys.get_mut(&at) {
            Some(key) => {
                let neighbours = key.holders.iter().filter(|holder| Subnet::of(holder.addr.ip()) == subnet).count();
                if neighbours >= MAX_HOLDERS_PER_KEY_AND_SUBNET {
                    return Err(Full);
                }
                if key.holders.len() >= MAX_HOLDERS_PER_KEY {
                    // Each of so many is known to be as good as the next: the one that ends first goes.
                    let first = key.holders.iter().enumerate().min_by_key(|(_, holder)| holder.until);
                    let first = first.map(|(index, _)| index).expect("a full key has holders");
                    let gone = key.holders.swap_remove(first);
                    self.handle_gone([gone]);
                }
            }
            None if keys >= MAX_KEYS => self.give_up_farther_key(at)?,
            None => {}
        }
        if self.holders >= MAX_HOLDERS { self.give_up_farther_key(at) } else { Ok(()) }
    }

    fn give_up_farther_key(&mut self, at: Distance) -> Result<(), Full> {
        let farthest = self.keys.last_entry().filter(|entry| *entry.key() > at).ok_or(Full)?;
        let key = farthest.remove();
        self.handle_gone(key.holders);
        Ok(())
    }

    fn handle_gone(&mut self, holders: impl IntoIterator<Item = Holder>) {
        for holder in holders {
            self.holders -= 1;
            uncount(&mut self.holders_by_subnet, Subnet::of(holder.addr.ip()));
        }
    }

    /// Up to `count` holders of a file, drawn by lot from those that may be told.
    pub fn holders(
        &self,
        id: &Id,
        count: usize,
        now: Duration,
        rng: &mut impl Rng,
        may_tell: impl Fn(&SocketAddr) -> bool,
    ) -> Vec<SocketAddr> {
        let key = self.keys.get(&self.own.distance(id));
        let holders = key.into_iter().flat_map(|key| &key.holders).filter(|holder| holder.until > now);
        let mut addrs: Vec<_> = holders.map(|holder| holder.addr).filter(may_tell).collect();
        addrs.shuffle(rng);
        addrs.truncate(count);
        addrs
    }

    /// Claims of a file's piece hashes and the number of networks behind each, most first.
    pub fn claims(&self, id: &Id, now: Duration) -> Vec<(&[u8], u32)> {
        let key = self.keys.get(&self.own.distance(id));
        let claims = key.into_iter().flat_map(|key| &key.claims);
        let counted = claims.map(|claim| {
            let networks = claim.networks.iter().filter(|(_, until)| *until > now).count();
            (&claim.bytes[..], u32::try_from(networks).expect("networks of a claim are few"))
        });
        let mut claims: Vec<_> = counted.filter(|(_, networks)| *networks > 0).collect();
        claims.sort_by_key(|(_, networks)| std::cmp::Reverse(*networks));
        claims
    }

    /// Somebody puts an item, given as its bencoded value.
    pub fn put(&mut self, value: &[u8], from: SocketAddr, now: Duration) -> Result<(), Full> {
        let at = self.own.distance(&Id::of_item(value));
        let until = now + TTL;
        if let Some(item) = self.items.get_mut(&at) {
            item.until = until;
            return Ok(());
        }
        let subnet = Subnet::of(from.ip());
        if self.items_by_subnet.get(&subnet).is_some_and(|count| *count >= MAX_ITEMS_PER_SUBNET) {
            return Err(Full);
        }
        if self.items.len() >= MAX_ITEMS {
            let farthest = self.items.last_entry().filter(|entry| *entry.key() > at).ok_or(Full)?;
            uncount(&mut self.items_by_subnet, farthest.remove().subnet);
        }
        self.items.insert(at, Item { value: value.to_vec(), subnet, until });
        *self.items_by_subnet.entry(subnet).or_default() += 1;
        Ok(())
    }

    /// Somebody asks for an item: what is wanted is kept on.
    pub fn handle_wanted(&mut self, target: &Id, now: Duration) {
        if let Some(item) = self.items.get_mut(&self.own.distance(target)).filter(|item| item.until > now) {
            item.until = now + TTL;
        }
    }

    /// An item's bencoded value.
    pub fn item(&self, target: &Id, now: Duration) -> Option<&[u8]> {
        self.items.get(&self.own.distance(target)).filter(|item| item.until > now).map(|item| &item.value[..])
    }

    /// Lets go of what has ended.
    pub fn sweep(&mut self, now: Duration) {
        let mut gone = Vec::new();
        self.keys.retain(|_, key| {
            gone.extend(key.holders.extract_if(.., |holder| holder.until <= now));
            for claim in &mut key.claims {
                claim.networks.retain(|(_, until)| *until > now);
            }
            key.claims.retain(|claim| !claim.networks.is_empty());
            !key.holders.is_empty()
        });
        self.handle_gone(gone);
        let counts = &mut self.items_by_subnet;
        self.items.retain(|_, item| {
            let lasts = item.until > now;
            if !lasts {
                uncount(counts, item.subnet);
            }
            lasts
        });
    }
}

impl Key {
    /// A network stands behind one claim, the last that it made. A claim that only one network makes gives way, the oldest
    /// first, to one that another network makes; a claim of several stays.
    fn handle_claim(&mut self, bytes: &[u8], subnet: Subnet, until: Duration) {
        for claim in self.claims.iter_mut().filter(|claim| claim.bytes != bytes) {
            claim.networks.retain(|(network, _)| *network != subnet);
        }
        self.claims.retain(|claim| !claim.networks.is_empty());
        if let Some(claim) = self.claims.iter_mut().find(|claim| claim.bytes == bytes) {
            let networks = claim.networks.len();
            match claim.networks.iter_mut().find(|(network, _)| *network == subnet) {
                Some((_, ends)) => *ends = until,
                None if networks < MAX_NETWORKS => claim.networks.push((subnet, until)),
                None => {}
            }
            return;
        }
        if self.claims.len() >= MAX_CLAIMS {
            let weak = self.claims.iter().enumerate().filter(|(_, claim)| claim.networks.len() == 1);
            match weak.min_by_key(|(_, claim)| claim.networks[0].1) {
                Some((index, _)) => self.claims.swap_remove(index),
                None => return,
            };
        }
        self.claims.push(Claimed { bytes: bytes.to_vec(), networks: vec![(subnet, until)] });
    }
}

fn uncount(counts: &mut HashMap<Subnet, usize>, subnet: Subnet) {
    let count = counts.get_mut(&subnet).expect("what is let go was counted");
    *count -= 1;
    if *count == 0 {
        counts.remove(&subnet);
    }
}

#[cfg(test)]
mod tests;
