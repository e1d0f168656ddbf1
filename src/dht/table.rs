//! The routing table of one family: nodes that answered, many of the far ones, the quick ones first.
//!
//! ```text
//!  shared bits   0     1     2    3 and more
//!  nodes kept    256   128   64   32 each
//! ```
//!
//! The wide buckets save hops: a lookup begins some eight bits nearer its target, and each node on its way knows two bits
//! more than with eight nodes a bucket. They are filled with the quickest of those that were met, see [`Table::is_curious`].
//!
//! **Security.** A node enters only by answering a question of ours. One that answers is never displaced for a stranger
//! unless the stranger is quicker, and of the global addresses at most [`PER_SUBNET`] of one neighbourhood stand in a
//! bucket. Nodes whose id is one that their address may have (BEP 42) displace others, and are never displaced by them: who
//! sits where it likes is welcome where there is room.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{
    contact::{Contact, Subnet},
    id::{Distance, ID_LEN, Id},
};

/// Nodes near a target that are asked to store, and that a reply names: Kademlia's `k`.
pub const K: usize = 8;

/// Sizes of the buckets of nodes that share few bits with the own id; their nodes compete by quickness.
pub const WIDE_BUCKETS: [usize; 3] = [256, 128, 64];

/// Size of all other buckets; their nodes stay as long as they answer.
const NEAR_BUCKET: usize = 32;

/// Most nodes of one subnet in a bucket.
const PER_SUBNET: usize = 2;

/// Silences in a row after which a node is handed to nobody and asked last.
const DOUBTFUL: u8 = 2;

/// Silences in a row after which a node is dropped.
const DEAD: u8 = 5;

/// A node near the own id is asked again when it was not heard of for so long: who is asked about keys nearby must know.
const STALE_NEAR: Duration = Duration::from_secs(15 * 60);

/// The same for nodes of wide buckets, of which a lookup asks a dozen and needs one.
const STALE_WIDE: Duration = Duration::from_secs(45 * 60);

/// A silent node is asked again after this long.
const RETRY: Duration = Duration::from_secs(60);

/// The nodes of one family.
pub struct Table {
    own: Id,
    /// By the number of shared bits; as many as the deepest node needs.
    buckets: Vec<Vec<Node>>,
}

/// Small, as there are hundreds. Times are seconds.
#[derive(Debug, Clone)]
struct Node {
    id: Id,
    ip: IpAddr,
    port: u16,
    silences: u8,
    /// See [`Contact::is_rooted`].
    is_rooted: bool,
    /// Smoothed round-trip time.
    rtt_micros: u32,
    heard: u32,
    asked: u32,
}

impl Node {
    fn new(contact: Contact, rtt: Duration, now: u32) -> Self {
        Self {
            id: contact.id,
            ip: contact.addr.ip(),
            port: contact.addr.port(),
            silences: 0,
            is_rooted: contact.is_rooted(),
            rtt_micros: micros(rtt),
            heard: now,
            asked: now,
        }
    }

    fn addr(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }

    fn contact(&self) -> Contact {
        Contact { id: self.id, addr: self.addr() }
    }

    fn is_lively(&self) -> bool {
        self.silences < DOUBTFUL
    }

    fn rtt(&self) -> Duration {
        Duration::from_micros(self.rtt_micros.into())
    }
}

impl Table {
    /// An empty table around the own id.
    pub fn new(own: Id) -> Self {
        Self { own, buckets: Vec::new() }
    }

    /// The own id is another one from now on: the same nodes, as far as there is room for them.
    pub fn rename(&mut self, own: Id) {
        let nodes = std::mem::replace(self, Self::new(own)).buckets;
        for node in nodes.into_iter().flatten() {
            let Some(index) = self.index(&node.id) else { continue };
            if self.buckets.len() <= index {
                self.buckets.resize(index + 1, Vec::new());
            }
            let bucket = &mut self.buckets[index];
            if bucket.len() < capacity(index) && has_room_beside(bucket, &node.contact()) {
                bucket.push(node);
            }
        }
    }

    /// How many nodes the network has, by how densely they stand around the own id.
    pub fn estimate(&self) -> usize {
        let mut near: Vec<u64> = self.lively_nodes().map(|node| self.own.distance(&node.id).part()).collect();
        near.sort_unstable();
        match near.get(K - 1) {
            Some(part) => (K as f64 * 2f64.powi(64) / (*part).max(1) as f64).min(1e9) as usize,
            None => near.len(),
        }
    }

    /// Nodes that answer, as far as is known.
    pub fn lively(&self) -> usize {
        self.lively_nodes().count()
    }

    fn lively_nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes().filter(|node| node.is_lively())
    }

    /// Whether it holds nobody.
    pub fn is_empty(&self) -> bool {
        self.buckets.iter().all(Vec::is_empty)
    }

    /// Whether a node that nobody has asked yet would find a place.
    pub fn wants(&self, contact: &Contact) -> bool {
        self.would_take(contact, |index, bucket| {
            let may_give_way = |node: &Node| node.silences > 0 || (!node.is_rooted && contact.is_rooted());
            bucket.len() < capacity(index) || bucket.iter().any(may_give_way)
        })
    }

    /// Whether a node that nobody has asked yet may be quicker than one that it would displace.
    pub fn is_curious(&self, contact: &Contact) -> bool {
        self.would_take(contact, |index, _| is_wide(index))
    }

    fn would_take(&self, contact: &Contact, has_place: impl Fn(usize, &[Node]) -> bool) -> bool {
        let Some(index) = self.index(&contact.id) else { return false };
        let bucket = self.buckets.get(index).map(Vec::as_slice).unwrap_or_default();
        has_place(index, bucket)
            && bucket.iter().all(|node| node.id != contact.id && node.addr() != contact.addr)
            && has_room_beside(bucket, contact)
    }

    /// A node answered after so long.
    pub fn handle_answer(&mut self, contact: Contact, rtt: Duration, now: Duration) {
        let Some(index) = self.index(&contact.id) else { return };
        let now = seconds(now);
        let known = self.buckets.get_mut(index).and_then(|bucket| bucket.iter_mut().find(|node| node.id == contact.id));
        if let Some(node) = known.filter(|node| node.addr() == contact.addr) {
            node.rtt_micros = (node.rtt_micros / 8 * 7).saturating_add(micros(rtt) / 8);
            node.heard = now;
            node.silences = 0;
            return;
        }
        self.forget_others_at(&contact);
        if self.buckets.len() <= index {
            self.buckets.resize(index + 1, Vec::new());
        }
        let bucket = &mut self.buckets[index];
        let fresh = Node::new(contact, rtt, now);
        if let Some(node) = bucket.iter_mut().find(|node| node.id == contact.id) {
            if !node.is_lively() {
                *node = fresh;
            }
            return;
        }
        if !has_room_beside(bucket, &contact) {
            return;
        }
        if bucket.len() < capacity(index) {
            bucket.push(fresh);
            return;
        }
        let worst = bucket.iter_mut().max_by_key(|node| (node.silences, !node.is_rooted, node.rtt_micros));
        let worst = worst.expect("a full bucket has nodes");
        // Near the own id every node counts, and the oldest are the most faithful; among the many far ones, the quick do.
        let is_better = match (worst.is_rooted, fresh.is_rooted) {
            (false, true) => true,
            (true, false) => false,
            _ => is_wide(index) && fresh.rtt_micros < worst.rtt_micros / 8 * 7,
        };
        if worst.silences > 0 || is_better {
            *worst = fresh;
        }
    }

    /// An id has moved to another address or an address to another id: what is known of the address is over.
    fn forget_others_at(&mut self, contact: &Contact) {
        for bucket in &mut self.buckets {
            bucket.retain(|node| node.id == contact.id || node.addr() != contact.addr);
        }
    }

    /// A node did not answer.
    pub fn handle_silence(&mut self, addr: &SocketAddr) {
        for bucket in &mut self.buckets {
            if let Some(at) = bucket.iter().position(|node| node.addr() == *addr) {
                bucket[at].silences += 1;
                if bucket[at].silences >= DEAD {
                    bucket.swap_remove(at);
                }
                return;
            }
        }
    }

    /// The nodes nearest to a target with their round-trip times, nearest first; doubtful ones only for want of better.
    pub fn closest(&self, target: &Id, count: usize) -> Vec<(Contact, Duration)> {
        let mut nodes = self.nearest(target, count, Node::is_lively);
        if nodes.len() < count {
            nodes.extend(self.nearest(target, count - nodes.len(), |node| !node.is_lively()));
        }
        nodes.into_iter().map(|node| (node.contact(), node.rtt())).collect()
    }

    /// The nodes that a stranger is told of: nearest first, none doubtful.
    pub fn nearest_lively(&self, target: &Id, mut keep: impl FnMut(&Contact) -> bool) -> Vec<Contact> {
        let nodes = self.nearest(target, K, |node| node.is_lively() && keep(&node.contact()));
        nodes.into_iter().map(Node::contact).collect()
    }

    /// The nodes nearest to a target, of those that are to be kept.
    ///
    /// Whoever shares more bits with the target is nearer, so only some buckets need be looked at: first the one that the
    /// target falls into, then all deeper ones together, then the others from the deepest.
    fn nearest(&self, target: &Id, count: usize, mut keep: impl FnMut(&Node) -> bool) -> Vec<&Node> {
        let shared = self.own.distance(target).shared_bits();
        let deeper = shared.saturating_add(1).min(self.buckets.len());
        let shallower = (0..shared.min(self.buckets.len())).rev().map(|index| index..index + 1);
        let groups = [shared.min(self.buckets.len())..deeper, deeper..self.buckets.len()].into_iter().chain(shallower);
        let mut nearest: Vec<&Node> = Vec::new();
        for group in groups {
            let from = nearest.len();
            if from >= count {
                break;
            }
            nearest.extend(self.buckets[group].iter().flatten().filter(|node| keep(node)));
            nearest[from..].sort_by_cached_key(|node| node.id.distance(target));
        }
        nearest.truncate(count);
        nearest
    }

    /// How near to any target some six nodes are to be expected, by how dense they stand around the own id; `None` while too
    /// few are known.
    pub fn expected_reach(&self) -> Option<Distance> {
        let nearest = self.nearest(&self.own, 2 * K, Node::is_lively);
        let last = nearest.get(2 * K - 1)?;
        Some(Distance::of_part(last.id.distance(&self.own).part() / 8 * 3))
    }

    /// The node that should be asked again first, if one is due, and how many bits it shares with the own id.
    pub fn next_stale(&mut self, now: Duration) -> Option<(Contact, usize)> {
        let now = seconds(now);
        let overdue = |index: usize, node: &Node| {
            let patience = match node.silences {
                0 if is_wide(index) => STALE_WIDE,
                0 => STALE_NEAR,
                _ => RETRY,
            };
            now.saturating_sub(node.heard.max(node.asked)).checked_sub(seconds(patience))
        };
        let nodes = self.buckets.iter_mut().enumerate();
        let nodes = nodes.flat_map(|(index, nodes)| nodes.iter_mut().map(move |node| (index, node)));
        let due = nodes.filter_map(|(index, node)| Some((overdue(index, node)?, index, node)));
        let (_, index, node) = due.max_by_key(|(overdue, ..)| *overdue)?;
        node.asked = now;
        Some((node.contact(), index))
    }

    /// All nodes, those heard of last first: what is worth saving.
    pub fn contacts(&self) -> Vec<Contact> {
        let mut nodes: Vec<&Node> = self.nodes().collect();
        nodes.sort_by_key(|node| (node.silences, std::cmp::Reverse(node.heard)));
        nodes.into_iter().map(Node::contact).collect()
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.buckets.iter().flatten()
    }

    /// The bucket of an id; none for the own.
    fn index(&self, id: &Id) -> Option<usize> {
        Some(self.own.distance(id).shared_bits()).filter(|shared| *shared < 8 * ID_LEN)
    }
}

fn is_wide(bucket: usize) -> bool {
    bucket < WIDE_BUCKETS.len()
}

fn capacity(bucket: usize) -> usize {
    WIDE_BUCKETS.get(bucket).copied().unwrap_or(NEAR_BUCKET)
}

fn has_room_beside(bucket: &[Node], contact: &Contact) -> bool {
    let ip = contact.addr.ip();
    let subnet = Subnet::of(ip);
    !Subnet::is_scarce(ip) || bucket.iter().filter(|node| Subnet::of(node.ip) == subnet).count() < PER_SUBNET
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
