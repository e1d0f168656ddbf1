//! What a search for one file, or shelf, has found so far: each holder once, and chains from the claims that fit.

use std::{collections::HashSet, net::SocketAddr};

use crate::hash::{Expected, PieceChain};

use super::{
    claim::{Assembly, Claim},
    id::Id,
};

/// Most holders of one search.
pub const MAX_HOLDERS: usize = 100;

/// Most distinct claims that one search follows; each asks for three items at most.
pub const MAX_CLAIMS: usize = 4;

/// Something that a search found. It is hearsay, for whoever fetches to prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Somebody who says it has the file: where it serves peers over TCP.
    Holder(SocketAddr),
    /// A claim of the file's piece hashes, of the length that the file's size asks for.
    Chain(PieceChain),
}

/// One search.
#[derive(Debug)]
pub struct Find {
    /// None of a shelf, of which nothing can be claimed.
    expected: Option<Expected>,
    holders: HashSet<SocketAddr>,
    claims: HashSet<Vec<u8>>,
    assemblies: Vec<Assembly>,
}

impl Find {
    /// Knows nothing yet of a file, or of a shelf.
    pub fn new(expected: Option<Expected>) -> Self {
        Self { expected, holders: HashSet::new(), claims: HashSet::new(), assemblies: Vec::new() }
    }

    /// Takes a holder, and gives it back when it is news.
    pub fn handle_holder(&mut self, holder: SocketAddr) -> Option<Found> {
        let is_news = self.holders.len() < MAX_HOLDERS && self.holders.insert(holder);
        is_news.then_some(Found::Holder(holder))
    }

    /// Takes a claim: what it yields, and targets of items that it needs.
    pub fn handle_claim(&mut self, claim: &[u8]) -> (Option<Found>, Vec<Id>) {
        if self.claims.len() >= MAX_CLAIMS || self.claims.contains(claim) {
            return (None, Vec::new());
        }
        match self.expected.and_then(|expected| Claim::read(&expected, claim)) {
            None => (None, Vec::new()),
            Some(read) => {
                self.claims.insert(claim.to_vec());
                match read {
                    Claim::Chain(chain) => (Some(Found::Chain(chain)), Vec::new()),
                    Claim::Items(assembly) => {
                        let mut needed: Vec<Id> = assembly.missing().collect();
                        needed.sort();
                        needed.dedup();
                        self.assemblies.push(assembly);
                        (None, needed)
                    }
                }
            }
        }
    }

    /// Takes an item's bencoded value, and gives the chains that are whole with it.
    pub fn handle_item(&mut self, target: &Id, bencoded: &[u8]) -> Vec<Found> {
        let wanted = self.assemblies.iter_mut().filter(|assembly| assembly.missing().any(|missing| missing == *target));
        wanted.filter_map(|assembly| assembly.handle_item(target, bencoded)).map(Found::Chain).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        dht::claim::Publication,
        hash::{ContentHash, PIECE_SIZE},
    };

    use super::*;

    fn expected(pieces: u64) -> Expected {
        Expected { hash: ContentHash::of(b""), size: pieces * PIECE_SIZE }
    }

    fn find(pieces: u64) -> Find {
        Find::new(Some(expected(pieces)))
    }

    #[test]
    fn holders_come_once_and_are_bounded() {
        let mut find = find(1);
        let addr = |n: u16| SocketAddr::from(([5, 6, 7, 8], n));
        assert_eq!(find.handle_holder(addr(1)), Some(Found::Holder(addr(1))));
        assert_eq!(find.handle_holder(addr(1)), None);
        assert_eq!((0..1000).filter_map(|n| find.handle_holder(addr(n))).count(), MAX_HOLDERS - 1);
    }

    #[test]
    fn two_claims_may_share_an_item() {
        let mut find = find(40);
        let chain = |last: u8| {
            let mut states = vec![7; 32 * 39];
            states[32 * 39 - 1] = last;
            PieceChain::decode(&expected(40), &states).unwrap()
        };
        let chains = [chain(1), chain(2)];
        let published = chains.each_ref().map(|chain| Publication::of(&expected(40), chain));
        for publication in &published {
            let (found, needed) = find.handle_claim(publication.claim.as_ref().unwrap());
            assert_eq!((found, needed.len()), (None, 2));
            assert_eq!(find.handle_claim(publication.claim.as_ref().unwrap()).1, []);
        }
        let [shared, ends @ ..] = [&published[0].items[0], &published[0].items[1], &published[1].items[1]];
        assert_eq!(*shared, published[1].items[0]);
        assert_eq!(find.handle_item(&Id::of_item(shared), shared), []);
        for (end, chain) in ends.into_iter().zip(chains) {
            assert_eq!(find.handle_item(&Id::of_item(end), end), [Found::Chain(chain)]);
            assert_eq!(find.handle_item(&Id::of_item(end), end), []);
        }
    }

    #[test]
    fn claims_are_bounded() {
        let mut find = find(5);
        let asked = (0..=255).filter(|n| !find.handle_claim(&[&[2; 1][..], &[*n; 20]].concat()).1.is_empty()).count();
        assert_eq!(asked, MAX_CLAIMS);
    }
}
