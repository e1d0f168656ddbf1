//! Taking the census of a network, some questions at a time.

use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::dht::{Explorer, Heard, Id, Probe};

use super::{
    all,
    census::{Census, Count},
    told::answered,
};

/// Questions under way: a few hundred a second, over so many nodes that none minds.
const PARALLEL: usize = 32;

/// Places in the network that the walk begins from.
const BEGINNINGS: [u8; 4] = [0x00, 0x40, 0x80, 0xc0];

/// Asks everybody who is named.
pub async fn walk(node: &Explorer) -> Count {
    let mut census = Census::default();
    for first in BEGINNINGS {
        let heard = all(node, Probe::FindNode(Id::new([first; 20]))).await;
        census.handle_named(heard.into_iter().filter_map(answered).map(|node| node.contact));
    }
    let mut asking = FuturesUnordered::new();
    loop {
        while asking.len() < PARALLEL
            && let Some(probe) = census.next()
        {
            asking.push(async move { all(node, probe).await });
        }
        let Some(heard) = asking.next().await else { return census.count() };
        for heard in heard {
            match heard {
                Heard::Node(answered) => census.handle_answer(answered),
                Heard::Named(named) => census.handle_named(named),
                Heard::Peer(_) | Heard::Item { .. } => {}
            }
        }
    }
}
