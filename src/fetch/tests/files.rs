//! Files to be downloaded, and the false copies of them that liars hold.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::hash::{ContentHash, Expected, Hasher, PIECE_SIZE, PieceChain, State, Step};

use super::server::Manner;

#[derive(Clone)]
pub struct File {
    pub bytes: Bytes,
    pub expected: Expected,
    pub chain: PieceChain,
    /// The chains of liars, each made once.
    told: Arc<Mutex<HashMap<Manner, PieceChain>>>,
}

impl File {
    /// A file of so many pieces, the last one of any length.
    pub fn new(seed: u64, pieces: usize) -> Self {
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut bytes = vec![0; (pieces - 1) * PIECE_SIZE as usize + rng.random_range(1..=PIECE_SIZE as usize)];
        rng.fill(&mut bytes[..]);
        Self::of(bytes.into())
    }

    /// A file of so many bytes.
    pub fn sized(seed: u64, size: usize) -> Self {
        let mut bytes = vec![0; size];
        StdRng::seed_from_u64(seed).fill(&mut bytes[..]);
        Self::of(bytes.into())
    }

    fn of(bytes: Bytes) -> Self {
        let expected = Expected { hash: ContentHash::of(&bytes), size: bytes.len() as u64 };
        let mut hasher = Hasher::new(&expected);
        hasher.update(&bytes);
        let chain = hasher.finish().expect("its own hash").chain().clone();
        Self { bytes, expected, chain, told: Arc::default() }
    }

    pub fn pieces(&self) -> usize {
        self.expected.pieces()
    }

    pub fn piece(&self, index: usize) -> Bytes {
        let span = self.expected.span(index);
        self.bytes.slice(span.start as usize..span.end as usize)
    }

    pub fn flipped(&self, index: usize, salt: u8) -> Bytes {
        let mut bytes = self.piece(index).to_vec();
        bytes[0] ^= salt | 1;
        bytes.into()
    }

    /// The chain that a peer of that manner tells.
    pub fn chain_told(&self, manner: Manner) -> PieceChain {
        let make = || match manner {
            Manner::LiesConsistently(bad) => self.chain_of_flipped(bad),
            Manner::FalseChain(bad) => self.chain_false_at(bad),
            Manner::Forks { fork, salt } => self.chain_false_before(fork, salt),
            _ => self.chain.clone(),
        };
        self.told.lock().expect("nobody panics with it").entry(manner).or_insert_with(make).clone()
    }

    /// The chain that belongs to a copy with that piece flipped, from there to the end.
    pub fn chain_of_flipped(&self, bad: usize) -> PieceChain {
        let mut at = self.chain.at(&self.expected, bad);
        self.altered(|index, state| {
            if index < bad {
                return state;
            }
            let bytes = if index == bad { self.flipped(bad, 1) } else { self.piece(index) };
            at = Step::take(&self.expected, index, at, &bytes).expect("length").to();
            at
        })
    }

    /// The chain of a copy of which every piece before `fork` is flipped, and that is true behind it.
    pub fn chain_false_before(&self, fork: usize, salt: u8) -> PieceChain {
        let mut at = State::INITIAL;
        self.altered(|index, state| {
            if index >= fork {
                return state;
            }
            at = Step::take(&self.expected, index, at, &self.flipped(index, salt)).expect("length").to();
            at
        })
    }

    /// A chain with one false state, after piece `bad`.
    pub fn chain_false_at(&self, bad: usize) -> PieceChain {
        self.altered(|index, state| {
            let mut bytes = *state.as_bytes();
            bytes[5] ^= u8::from(index == bad);
            State::new(bytes)
        })
    }

    /// The chain with each state, that after piece 0 first, put through a change.
    fn altered(&self, mut change: impl FnMut(usize, State) -> State) -> PieceChain {
        let states = self.chain.states().iter().enumerate();
        let bytes: Vec<u8> = states.flat_map(|(index, state)| *change(index, *state).as_bytes()).collect();
        PieceChain::decode(&self.expected, &bytes).expect("the same length")
    }
}
