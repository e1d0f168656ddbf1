//! Votes about the own address, as other nodes see it (BEP 42).
//!
//! **Security.** Each neighbourhood of nodes has one vote, the last that it gave, and there are not too many.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use rand::{RngExt, rngs::StdRng};

use super::contact::Subnet;

/// Most votes that are kept.
const MAX_VOTES: usize = 32;

/// Networks that must see one address before the own id follows it.
const CONFIDENT: usize = 3;

/// The votes about one family.
#[derive(Debug, Default)]
pub struct Votes {
    by_voter: BTreeMap<Subnet, SocketAddr>,
}

impl Votes {
    /// A node says where it saw us. When there are too many votes, another is forgotten by lot.
    pub fn handle_vote(&mut self, voter: IpAddr, seen: SocketAddr, rng: &mut StdRng) {
        let voter = Subnet::of(voter);
        if self.by_voter.len() >= MAX_VOTES && !self.by_voter.contains_key(&voter) {
            let drawn = rng.random_range(0..self.by_voter.len());
            let forgotten = *self.by_voter.keys().nth(drawn).expect("drawn from as many as there are");
            self.by_voter.remove(&forgotten);
        }
        self.by_voter.insert(voter, seen);
    }

    /// The address that so many networks see that one liar more or less makes no difference.
    pub fn confident(&self) -> Option<SocketAddr> {
        let winner = self.winner()?;
        let count = self.by_voter.values().filter(|seen| **seen == winner).count();
        (count >= CONFIDENT && 2 * count > self.by_voter.len()).then_some(winner)
    }

    /// The address that most nodes see.
    pub fn winner(&self) -> Option<SocketAddr> {
        let count = |seen: &SocketAddr| self.by_voter.values().filter(|other| *other == seen).count();
        self.by_voter.values().max_by_key(|seen| count(seen)).copied()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_crowd_of_neighbours_has_one_vote() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut votes = Votes::default();
        let [right, wrong] = [1, 2].map(|n| SocketAddr::from(([5, 5, 5, n], 9978)));
        assert_eq!(votes.winner(), None);
        for n in 0..100 {
            votes.handle_vote([66, 6, 6, n].into(), wrong, &mut rng);
        }
        assert_eq!(votes.winner(), Some(wrong));
        for n in 0..2 {
            votes.handle_vote([20, n, 1, 1].into(), right, &mut rng);
        }
        assert_eq!(votes.winner(), Some(right));
        assert_eq!(votes.confident(), None);
        for n in 0..200 {
            votes.handle_vote([21, n, 1, 1].into(), right, &mut rng);
        }
        assert_eq!(votes.by_voter.len(), MAX_VOTES);
        assert_eq!(votes.confident(), Some(right));
    }
}
