//! Who took how much: figures for the status page.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::Peer;

/// Peers whose figures are kept; beyond that, those that took least go first.
const MAX_TAKERS: usize = 1024;

/// Bytes that each peer took. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Takers(Arc<Mutex<HashMap<Peer, Arc<AtomicU64>>>>);

impl Takers {
    /// The counter of a peer; connections count on it without a lock.
    pub(super) fn of(&self, peer: Peer) -> Arc<AtomicU64> {
        let mut takers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if takers.len() >= MAX_TAKERS && !takers.contains_key(&peer) {
            let least = takers.iter().min_by_key(|(_, taken)| (Arc::strong_count(taken) > 1, taken.load(Relaxed)));
            let least = least.map(|(peer, _)| *peer);
            least.map(|least| takers.remove(&least));
        }
        takers.entry(peer).or_default().clone()
    }

    /// Who took something, in no order: the address, or the first of its /64.
    pub(super) fn all(&self) -> Vec<(IpAddr, u64)> {
        let takers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = takers.iter().map(|(peer, taken)| (peer.address(), taken.load(Relaxed)));
        taken.filter(|(_, taken)| *taken > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn strangers_without_end_push_out_those_who_took_least_and_are_gone() {
        let takers = Takers::default();
        let peer = |number: u32| Peer::of(Ipv4Addr::from_bits(0x0800_0000 + number).into());
        let busy = takers.of(peer(0));
        takers.of(peer(1)).store(5, Relaxed);
        for number in 2..3 * MAX_TAKERS as u32 {
            takers.of(peer(number)).store(1, Relaxed);
        }
        busy.store(3, Relaxed);
        assert_eq!(takers.0.lock().unwrap().len(), MAX_TAKERS);
        let all = takers.all();
        assert!(all.contains(&("8.0.0.0".parse().unwrap(), 3)) && all.contains(&("8.0.0.1".parse().unwrap(), 5)));
    }
}
