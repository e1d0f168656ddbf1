//! The routing table of one family: nodes that answered, many of the far ones, the quick ones first.
//!
//! ```text
//!  shared bits   0     1     2    3    4 and more
//!  nodes kept    128   64    32   16   8 each
//! ```
//!
//! The wide buckets save hops: most lookups begin several bits nearer their target than with eight nodes a bucket.
//!
//! **Security.** A node enters only by answering a question of ours. One that answers is never displaced for a stranger
//! unless the stranger is much quicker, and of the global addresses at most [`PER_SUBNET`] of one neighbourhood stand in a
//! bucket.

use std::{net::SocketAddr, time::Duration};

use super::{
    contact::{Contact, Subnet},
    id::Id,
};

/// Nodes near a target that are asked to store, and that a reply names: Kademlia's `k`.
pub const K: usize = 8;

/// Sizes of the buckets of nodes that share few bits with the own id.
const WIDE_BUCKETS: [usize; 4] = [128, 64, 32, 16];

/// Most nodes of one subnet in a bucket.
const PER_SUBNET: usize = 2;

/// Silences in a row after which a node is handed to nobody and asked last.
const DOUBTFUL: u8 = 2;

/// Silences in a row after which a node is dropped.
const DEAD: u8 = 5;

/// A node is asked again when it was not heard of for so long.
const STALE: Duration = Duration::from_secs(15 * 60);

/// A silent node is asked again after this long.
const RETRY: Duration = Duration::from_secs(60);

/// The nodes of one family.
pub struct Table {
    own: Id,
    buckets: Vec<Vec<Node>>,
}

#[derive(Debug, Clone)]
struct Node {
    contact: Contact,
    /// Smoothed round-trip time.
    rtt: Duration,
    heard: Duration,
    asked: Duration,
    silences: u8,
}

impl Table {
    /// An empty table around the own id.
    pub fn new(own: Id) -> Self {
        Self { own, buckets: vec![Vec::new(); 160] }
    }

    /// The own id is another one from now on: the same nodes, as far as there is room for them.
    pub fn rename(&mut self, own: Id) {
        let nodes = std::mem::replace(self, Self::new(own)).buckets;
        for node in nodes.into_iter().flatten() {
            let Some(index) = self.index(&node.contact.id) else { continue };
            if self.buckets[index].len() < capacity(index) && has_room_beside(&self.buckets[index], &node.contact) {
                self.buckets[index].push(node);
            }
        }
    }

    /// How many nodes the network has, by how densely they stand around the own id.
    pub fn estimate(&self) -> usize {
        let mut near: Vec<f64> = self.lively_nodes().map(|node| self.own.distance(&node.contact.id).part()).collect();
        near.sort_by(f64::total_cmp);
        match near.get(K - 1) {
            Some(part) => (K as f64 / part).min(1e9) as usize,
            None => near.len(),
        }
    }

    /// Nodes that answer, as far as is known.
    pub fn lively(&self) -> usize {
        self.lively_nodes().count()
    }

    fn lively_nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes().filter(|node| node.silences < DOUBTFUL)
    }

    /// Whether it holds nobody.
    pub fn is_empty(&self) -> bool {
        self.buckets.iter().all(Vec::is_empty)
    }

    /// Whether a node that nobody has asked yet would find a place.
    pub fn wants(&self, contact: &Contact) -> bool {
        let Some(index) = self.index(&contact.id) else { return false };
        let bucket = &self.buckets[index];
        bucket.iter().all(|node| node.contact.id != contact.id && node.contact.addr != contact.addr)
            && (bucket.len() < capacity(index) || bucket.iter().any(|node| node.silences > 0))
            && has_room_beside(bucket, contact)
    }

    /// A node answered after so long.
    pub fn handle_answer(&mut self, contact: Contact, rtt: Duration, now: Duration) {
        let Some(index) = self.index(&contact.id) else { return };
        let capacity = capacity(index);
        self.forget_others_at(&contact);
        let bucket = &mut self.buckets[index];
        let fresh = Node { contact, rtt, heard: now, asked: now, silences: 0 };
        if let Some(node) = bucket.iter_mut().find(|node| node.contact.id == contact.id) {
            if node.contact.addr == contact.addr {
                node.rtt = (node.rtt * 7 + rtt) / 8;
                node.heard = now;
                node.silences = 0;
            } else if node.silences >= DOUBTFUL {
                *node = fresh;
            }
            return;
        }
        if !has_room_beside(bucket, &contact) {
            return;
        }
        if bucket.len() < capacity {
            bucket.push(fresh);
            return;
        }
        let worst = bucket.iter_mut().max_by_key(|node| (node.silences, node.rtt)).expect("a full bucket has nodes");
        // Near the own id every node counts, and the oldest are the most faithful; among the many far ones, the quick do.
        let is_wide = index < WIDE_BUCKETS.len();
        if worst.silences > 0 || (is_wide && rtt < worst.rtt / 2) {
            *worst = fresh;
        }
    }

    /// An id has moved to another address or an address to another id: what is known of the address is over.
    fn forget_others_at(&mut self, contact: &Contact) {
        for bucket in &mut self.buckets {
            bucket.retain(|node| node.contact.addr != contact.addr || node.contact.id == contact.id);
        }
    }

    /// A node did not answer.
    pub fn handle_silence(&mut self, addr: &SocketAddr) {
        for bucket in &mut self.buckets {
            if let Some(at) = bucket.iter().position(|node| node.contact.addr == *addr) {
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
        let mut nodes: Vec<&Node> = self.nodes().collect();
        nodes.sort_by_cached_key(|node| (node.silences >= DOUBTFUL, node.contact.id.distance(target)));
        nodes.into_iter().take(count).map(|node| (node.contact, node.rtt)).collect()
    }

    /// The nodes that a stranger is told of: nearest first, none doubtful.
    pub fn nearest_lively(&self, target: &Id, mut keep: impl FnMut(&Contact) -> bool) -> Vec<Contact> {
        let lively = self.nodes().filter(|node| node.silences < DOUBTFUL).map(|node| node.contact);
        let mut contacts: Vec<Contact> = lively.filter(|contact| keep(contact)).collect();
        contacts.sort_by_cached_key(|contact| contact.id.distance(target));
        contacts.truncate(K);
        contacts
    }

    /// The node that should be asked again first, if one is due, and how many bits it shares with the own id.
    pub fn next_stale(&mut self, now: Duration) -> Option<(Contact, usize)> {
        let due = |node: &Node| {
            let patience = if node.silences > 0 { RETRY } else { STALE };
            now.saturating_sub(node.heard.max(node.asked)) >= patience
        };
        let nodes =
            self.buckets.iter_mut().enumerate().flat_map(|(index, nodes)| nodes.iter_mut().map(move |n| (index, n)));
        let (index, node) = nodes.filter(|(_, node)| due(node)).min_by_key(|(_, node)| node.heard.max(node.asked))?;
        node.asked = now;
        Some((node.contact, index))
    }

    /// All nodes, those heard of last first: what is worth saving.
    pub fn contacts(&self) -> Vec<Contact> {
        let mut nodes: Vec<&Node> = self.nodes().collect();
        nodes.sort_by_key(|node| (node.silences, std::cmp::Reverse(node.heard)));
        nodes.into_iter().map(|node| node.contact).collect()
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.buckets.iter().flatten()
    }

    /// The bucket of an id; none for the own.
    fn index(&self, id: &Id) -> Option<usize> {
        Some(self.own.distance(id).shared_bits()).filter(|shared| *shared < self.buckets.len())
    }
}

fn capacity(bucket: usize) -> usize {
    WIDE_BUCKETS.get(bucket).copied().unwrap_or(K)
}

fn has_room_beside(bucket: &[Node], contact: &Contact) -> bool {
    let ip = contact.addr.ip();
    let subnet = Subnet::of(ip);
    let neighbours = bucket.iter().filter(|node| Subnet::of(node.contact.addr.ip()) == subnet).count();
    !Subnet::is_scarce(ip) || neighbours < PER_SUBNET
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn own() -> Id {
        Id::new([0; 20])
    }

    /// A node of the farthest bucket.
    fn far(n: u8) -> Contact {
        let mut id = [0x80; 20];
        id[19] = n;
        Contact { id: Id::new(id), addr: SocketAddr::from(([5, n, 1, 1], 1)) }
    }

    /// A node that shares four bits.
    fn near(n: u8) -> Contact {
        let mut id = [0; 20];
        id[0] = 0x08;
        id[19] = n;
        Contact { id: Id::new(id), addr: SocketAddr::from(([6, n, 1, 1], 1)) }
    }

    #[test]
    fn wide_buckets_keep_the_quick_and_small_ones_the_old() {
        let mut table = Table::new(own());
        for n in 0..200 {
            table.handle_answer(far(n), 100 * MS, MS);
            table.handle_answer(near(n), 100 * MS, MS);
        }
        assert_eq!(table.contacts().len(), 128 + 8);
        table.handle_answer(far(200), 10 * MS, MS);
        table.handle_answer(near(200), 10 * MS, MS);
        let contacts = table.contacts();
        assert!(contacts.contains(&far(200)));
        assert!(!contacts.contains(&near(200)));
        assert_eq!(table.contacts().len(), 128 + 8);
    }

    #[test]
    fn the_silent_give_way_and_are_dropped() {
        let mut table = Table::new(own());
        for n in 0..8 {
            table.handle_answer(near(n), MS, MS);
        }
        assert!(!table.wants(&near(9)));
        table.handle_silence(&near(3).addr);
        assert!(table.wants(&near(9)));
        table.handle_answer(near(9), MS, MS);
        assert!(!table.contacts().contains(&near(3)));
        for _ in 0..DEAD {
            assert!(table.contacts().contains(&near(4)));
            table.handle_silence(&near(4).addr);
        }
        assert!(!table.contacts().contains(&near(4)));
    }

    #[test]
    fn doubtful_nodes_are_told_to_nobody() {
        let mut table = Table::new(own());
        table.handle_answer(near(1), MS, MS);
        table.handle_answer(far(1), MS, MS);
        table.handle_silence(&near(1).addr);
        table.handle_silence(&near(1).addr);
        assert_eq!(table.nearest_lively(&near(1).id, |_| true), [far(1)]);
        assert_eq!(table.lively(), 1);
        assert_eq!(table.closest(&near(1).id, 9).len(), 2);
        table.handle_answer(near(1), MS, MS);
        assert_eq!(table.nearest_lively(&near(1).id, |_| true), [near(1), far(1)]);
    }

    #[test]
    fn an_address_stands_for_one_id_and_the_own_id_for_none() {
        let mut table = Table::new(own());
        table.handle_answer(far(1), MS, MS);
        table.handle_answer(Contact { id: near(2).id, addr: far(1).addr }, MS, MS);
        assert_eq!(table.contacts(), [Contact { id: near(2).id, addr: far(1).addr }]);
        table.handle_answer(Contact { id: own(), addr: far(9).addr }, MS, MS);
        assert_eq!(table.contacts().len(), 1);
    }

    #[test]
    fn one_subnet_fills_no_bucket_unless_its_addresses_are_free() {
        let mut table = Table::new(own());
        let at = |n: u8, ip: [u8; 4]| Contact { id: far(n).id, addr: SocketAddr::from((ip, 1)) };
        for n in 0..50 {
            table.handle_answer(at(n, [5, 5, 5, n]), MS, MS);
        }
        assert_eq!(table.contacts().len(), PER_SUBNET);
        for n in 50..100 {
            table.handle_answer(at(n, [127, 0, 0, n]), MS, MS);
        }
        assert_eq!(table.contacts().len(), PER_SUBNET + 50);
    }

    #[test]
    fn the_stalest_node_is_asked_first_and_once() {
        let mut table = Table::new(own());
        table.handle_answer(far(1), MS, MS);
        table.handle_answer(near(2), MS, 2 * MS);
        assert_eq!(table.next_stale(STALE), None);
        assert_eq!(table.next_stale(STALE + 5 * MS), Some((far(1), 0)));
        assert_eq!(table.next_stale(STALE + 5 * MS), Some((near(2), 4)));
        assert_eq!(table.next_stale(STALE + 5 * MS), None);
    }

    #[test]
    fn the_closest_come_in_order() {
        let mut rng = StdRng::seed_from_u64(7);
        let mut table = Table::new(own());
        for _ in 0..500 {
            let addr = SocketAddr::from((rng.next_u32().to_be_bytes(), 1));
            table.handle_answer(Contact { id: Id::random(&mut rng), addr }, MS, MS);
        }
        let target = Id::random(&mut rng);
        let closest = table.closest(&target, 20);
        assert_eq!(closest.len(), 20);
        assert!(closest.is_sorted_by_key(|(contact, _)| contact.id.distance(&target)));
    }
}
