//! Claims: how a piece chain travels beside a peer, in four tiers by the number of pieces.
//!
//! ```text
//!  pieces      carried
//!  1           nothing: there are no inner states
//!  2 to 4      claim = 01 | states, 32 bytes each
//!  5 to 69     claim = 02 | targets, 20 bytes each, of 1 to 3 items; item = byte string of at most 30 states
//!  70 and up   nothing: peers hand the chain out over HTTP
//! ```
//!
//! **Security.** A claim is hearsay: anybody may announce one. Its length must fit the file's size, items must hash to
//! their targets, and all else is found by hashing pieces (see [`crate::hash`]).

use crate::hash::{Expected, PieceChain};

use super::{
    bencode::{Value, byte_string},
    id::{ID_LEN, Id},
};

/// Most pieces of a file whose states stand in the claim itself.
const MAX_INLINE_PIECES: usize = 4;

/// Most pieces of a file whose states stand in items.
const MAX_ITEM_PIECES: usize = 69;

/// Most states in one item.
const STATES_PER_ITEM: usize = 30;

/// Bytes of one state.
const STATE_LEN: usize = 32;

/// First byte of a claim that is states.
const INLINE: u8 = 1;

/// First byte of a claim that is targets of items.
const TARGETS: u8 = 2;

/// What is published of a file's piece chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Publication {
    /// What goes beside the peer.
    pub claim: Option<Vec<u8>>,
    /// Bencoded values of the items that the claim refers to.
    pub items: Vec<Vec<u8>>,
}

impl Publication {
    /// Chooses the tier.
    pub fn of(expected: &Expected, chain: &PieceChain) -> Self {
        let states = chain.encode();
        match expected.pieces() {
            pieces if pieces != chain.states().len() + 1 => Self::default(),
            2..=MAX_INLINE_PIECES => Self { claim: Some([&[INLINE], &states[..]].concat()), items: Vec::new() },
            pieces if (MAX_INLINE_PIECES + 1..=MAX_ITEM_PIECES).contains(&pieces) => {
                let items: Vec<_> = states.chunks(STATES_PER_ITEM * STATE_LEN).map(byte_string).collect();
                let mut claim = vec![TARGETS];
                items.iter().for_each(|item| claim.extend_from_slice(Id::of_item(item).as_bytes()));
                Self { claim: Some(claim), items }
            }
            _ => Self::default(),
        }
    }
}

/// A claim that fits its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The chain itself.
    Chain(PieceChain),
    /// The chain stands in items.
    Items(Assembly),
}

impl Claim {
    /// Reads a claim; `None` when it cannot be one of a file of that size.
    pub fn read(expected: &Expected, bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        match (*version, expected.pieces()) {
            (INLINE, 2..=MAX_INLINE_PIECES) => PieceChain::decode(expected, rest).ok().map(Self::Chain),
            (TARGETS, pieces) if (MAX_INLINE_PIECES + 1..=MAX_ITEM_PIECES).contains(&pieces) => {
                let items = (pieces - 1).div_ceil(STATES_PER_ITEM);
                let targets = rest.chunks(ID_LEN).map(Id::read).collect::<Option<Vec<_>>>()?;
                let parts = targets.into_iter().map(|target| (target, None)).collect::<Vec<_>>();
                (parts.len() == items).then_some(Self::Items(Assembly { expected: *expected, parts }))
            }
            _ => None,
        }
    }
}

/// A chain that is being put together from its items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembly {
    expected: Expected,
    parts: Vec<(Id, Option<Vec<u8>>)>,
}

impl Assembly {
    /// Targets of the items that are still missing.
    pub fn missing(&self) -> impl Iterator<Item = Id> {
        self.parts.iter().filter(|(_, states)| states.is_none()).map(|(target, _)| *target)
    }

    /// Takes an item's bencoded value and gives the chain when it was the last one missing. A value that does not hash to
    /// the target is not looked at.
    pub fn handle_item(&mut self, target: &Id, bencoded: &[u8]) -> Option<PieceChain> {
        if Id::of_item(bencoded) != *target {
            return None;
        }
        let value = Value::parse(bencoded).ok()?;
        let states = value.bytes()?;
        for (of, part) in &mut self.parts {
            if of == target {
                part.get_or_insert_with(|| states.to_vec());
            }
        }
        let whole = self.parts.iter().map(|(_, part)| part.as_deref()).collect::<Option<Vec<_>>>()?;
        PieceChain::decode(&self.expected, &whole.concat()).ok()
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        dht::message::{MAX_CLAIM, MAX_ITEM},
        hash::{ContentHash, PIECE_SIZE},
    };

    use super::*;

    fn file(pieces: usize) -> (Expected, PieceChain) {
        let size = PIECE_SIZE * pieces as u64 - 1;
        let expected = Expected { hash: ContentHash::of(&pieces.to_be_bytes()), size };
        let states: Vec<u8> = (0..32 * (pieces - 1)).map(|n| (n % 251) as u8).collect();
        (expected, PieceChain::decode(&expected, &states).unwrap())
    }

    #[test]
    fn each_tier_is_carried_as_the_table_says() {
        for (pieces, claim, items) in [
            (1, None, 0),
            (2, Some(33), 0),
            (4, Some(97), 0),
            (5, Some(21), 1),
            (31, Some(21), 1),
            (32, Some(41), 2),
            (69, Some(61), 3),
            (70, None, 0),
            (71, None, 0),
            (200, None, 0),
        ] {
            let (expected, chain) = file(pieces);
            let publication = Publication::of(&expected, &chain);
            assert_eq!(publication.claim.as_ref().map(Vec::len), claim, "{pieces} pieces");
            assert_eq!(publication.items.len(), items, "{pieces} pieces");
            assert!(publication.claim.is_none_or(|claim| claim.len() <= MAX_CLAIM));
            assert!(publication.items.iter().all(|item| item.len() <= MAX_ITEM));
        }
    }

    #[test]
    fn chains_come_back_whatever_order_the_items_come_in() {
        for pieces in 2..=69 {
            let (expected, chain) = file(pieces);
            let publication = Publication::of(&expected, &chain);
            match Claim::read(&expected, &publication.claim.unwrap()).unwrap() {
                Claim::Chain(read) => assert_eq!(read, chain),
                Claim::Items(mut assembly) => {
                    let mut read = None;
                    for item in publication.items.iter().rev() {
                        assert_eq!(read, None);
                        read = assembly.handle_item(&Id::of_item(item), item);
                    }
                    assert_eq!(read, Some(chain));
                    assert_eq!(assembly.missing().count(), 0);
                }
            }
        }
    }

    #[test]
    fn claims_that_do_not_fit_the_file_are_dropped() {
        let (two, chain) = file(2);
        let claim = Publication::of(&two, &chain).claim.unwrap();
        assert!(Claim::read(&two, &claim[..32]).is_none());
        assert!(Claim::read(&two, &[&claim[..], &[0]].concat()).is_none());
        assert!(Claim::read(&two, &[&[TARGETS], &[0; 20][..]].concat()).is_none());
        assert!(Claim::read(&two, &[]).is_none());
        assert!(Claim::read(&file(3).0, &claim).is_none());
        let five = file(5).0;
        assert!(Claim::read(&five, &[&[INLINE], &[0; 128][..]].concat()).is_none());
        assert!(Claim::read(&five, &[&[TARGETS], &[0; 19][..]].concat()).is_none());
        assert!(Claim::read(&five, &[&[TARGETS], &[0; 40][..]].concat()).is_none());
        assert!(Claim::read(&file(70).0, &[&[TARGETS], &[0; 60][..]].concat()).is_none());
        assert!(Claim::read(&file(1).0, &[INLINE]).is_none());
    }

    #[test]
    fn items_that_do_not_fit_make_no_chain() {
        let (five, chain) = file(5);
        let item = Publication::of(&five, &chain).items.remove(0);
        let claim_of = |item: &[u8]| {
            let claim = [&[TARGETS], &Id::of_item(item).as_bytes()[..]].concat();
            let Some(Claim::Items(assembly)) = Claim::read(&five, &claim) else { panic!("no assembly") };
            assembly
        };
        assert_eq!(claim_of(&item).handle_item(&Id::of_item(&item), &item), Some(chain));
        let mut forged = item.clone();
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(claim_of(&item).handle_item(&Id::of_item(&item), &forged), None);
        for bad in [byte_string(&[0; 127]), byte_string(&[0; 160]), b"i1e".to_vec(), b"le".to_vec()] {
            assert_eq!(claim_of(&bad).handle_item(&Id::of_item(&bad), &bad), None);
        }
    }
}
