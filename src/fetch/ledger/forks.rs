//! Claimed chains: who stands for which, where they part, and which of them a piece refutes.

use crate::hash::{ContentHash, PieceChain, Step};

use super::{Finding, Ledger, MIRROR, Slot, SourceId, State};

/// Distinct chains kept at a time, at most: one a peer that a download has.
const MAX_CLAIMS: usize = 32;
/// Distinct chains of hearsay kept at a time.
const MAX_HEARSAY: usize = 8;
/// States in all claims together; the two first are kept whatever their length.
const MAX_STATES: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Claim {
    pub chain: PieceChain,
    digest: ContentHash,
    /// Sources that served it themselves; what others say of them is hearsay and not kept.
    suppliers: Vec<SourceId>,
    /// Whether a piece showed it to be false, if those that it agreed with are true.
    refuted: bool,
}

impl Ledger {
    /// Whether any chain is claimed; without one, only a file of one piece can be judged piece by piece.
    pub fn has_claim(&self) -> bool {
        !self.claims.is_empty() || self.expected.pieces() == 1
    }

    /// Whether a source stands for a chain that still stands.
    pub fn has_word_of(&self, source: SourceId) -> bool {
        self.claims.iter().any(|claim| claim.suppliers.contains(&source))
    }

    /// Whether all that a source stands for has been set aside: it is not proven a liar, and asked for nothing.
    pub fn is_suspect(&self, source: SourceId) -> bool {
        self.set_aside.iter().any(|claim| claim.refuted && claim.suppliers.contains(&source))
    }

    /// Which of the standing claims a source stands for, by its digest.
    pub fn camp(&self, source: SourceId) -> Option<ContentHash> {
        self.claims.iter().find(|claim| claim.suppliers.contains(&source)).map(|claim| claim.digest)
    }

    /// The piece that decides between claims: behind it they all agree, before it they do not.
    pub fn fork(&self) -> Option<usize> {
        let [first, others @ ..] = &self.claims[..] else { return None };
        if others.is_empty() {
            return None;
        }
        (1..self.anchor.min(self.expected.pieces())).rev().find(|&boundary| {
            let state = first.chain.at(&self.expected, boundary);
            others.iter().any(|other| other.chain.at(&self.expected, boundary) != state)
        })
    }

    /// A source says beside a piece that it stands for the chain of that digest. `false` when no such chain is known.
    pub fn vouch(&mut self, digest: ContentHash, source: SourceId) -> bool {
        let mut known = self.claims.iter().chain(&self.set_aside);
        let Some(claim) = known.find(|claim| claim.digest == digest) else { return false };
        if !claim.suppliers.contains(&source) {
            let chain = claim.chain.clone();
            self.handle_claim(chain, Some(source));
        }
        true
    }

    /// Somebody claims a chain: a source that served it itself, or, with `None`, hearsay. Says whether it is a new one:
    /// what fitted nothing before may fit now.
    pub fn handle_claim(&mut self, chain: PieceChain, supplier: Option<SourceId>) -> bool {
        if chain.states().len() + 1 != self.expected.pieces() || supplier.is_some_and(|s| self.convicted.contains(&s)) {
            return false;
        }
        if let Some(piece) = self.contradiction(&chain) {
            supplier.into_iter().for_each(|source| self.convict(source, piece));
            return false;
        }
        let digest = chain.digest();
        if let Some(source) = supplier
            && self.stands_for_another(source, digest)
        {
            self.convict(source, self.anchor.saturating_sub(1));
            return false;
        }
        let mut known = self.claims.iter_mut().chain(&mut self.set_aside);
        if let Some(claim) = known.find(|claim| claim.digest == digest) {
            let new = supplier.filter(|source| !claim.suppliers.contains(source));
            claim.suppliers.extend(new);
            let again = new.is_some() || (supplier.is_some() && self.claims.is_empty());
            return again && self.revive(digest);
        }
        if !self.has_room(supplier.is_none()) {
            return false;
        }
        self.claims.push(Claim { chain, digest, suppliers: supplier.into_iter().collect(), refuted: false });
        self.judge_raw();
        self.extend_anchor();
        true
    }

    /// Every source that could give this piece has failed at it, or what the mirror gave for it fits no claim: the claims
    /// are set aside, and with them what peers sent that only they made consistent.
    pub fn handle_exhausted(&mut self, piece: usize) {
        self.disputes.remove(&piece);
        self.set_aside.append(&mut self.claims);
        let mut broken = false;
        for piece in 0..self.anchor {
            let Some((source, grade)) = self.slots[piece].sender() else {
                broken = true;
                continue;
            };
            if source != MIRROR {
                self.put(piece, Slot::Missing);
                self.findings.push(Finding::Discarded { source, grade, piece });
            } else if broken {
                self.put(piece, Slot::Raw { source, grade });
            }
            if source != MIRROR && !broken && piece < self.front {
                let before = piece.checked_sub(1).map(|before| self.slots[before]);
                let state = match before {
                    Some(Slot::Held { step, .. }) => step.to(),
                    _ => State::INITIAL,
                };
                (self.front, self.front_state) = (piece, state);
            }
            broken |= source != MIRROR;
        }
        self.read_raw_front();
    }

    /// Where claims part, a piece that fits one of them and leads to a state on which all agree refutes the others.
    pub(super) fn weigh_claims(&mut self, step: &Step) {
        let (expected, boundary, true_state) = (self.expected, step.index(), step.from());
        let leads_on = |claim: &Claim| claim.chain.at(&expected, boundary + 1) == step.to();
        if self.claims.len() < 2 || self.fork() != Some(boundary) || !self.claims.iter().any(leads_on) {
            return;
        }
        let (standing, refuted): (Vec<_>, Vec<_>) = std::mem::take(&mut self.claims)
            .into_iter()
            .partition(|claim| claim.chain.at(&expected, boundary) == true_state);
        self.claims = standing;
        self.set_aside.extend(refuted.into_iter().map(|claim: Claim| Claim { refuted: true, ..claim }));
        self.set_aside.truncate(2 * MAX_CLAIMS);
    }

    /// Drops the claims that differ from the state just proven, and convicts who served them.
    pub(super) fn refute_claims(&mut self) {
        let (expected, boundary, proven) = (self.expected, self.anchor, self.anchor_state);
        for claims in [&mut self.claims, &mut self.set_aside] {
            claims.retain(|claim| {
                let stands = claim.chain.at(&expected, boundary) == proven;
                if !stands {
                    self.liars.extend(claim.suppliers.iter().map(|source| (*source, boundary)));
                }
                stands
            });
        }
    }

    /// A convicted source's word counts no more; a claim that was its alone goes.
    pub(super) fn forget_word_of(&mut self, source: SourceId) {
        for claims in [&mut self.claims, &mut self.set_aside] {
            claims.retain_mut(|claim| {
                let alone = claim.suppliers == [source];
                claim.suppliers.retain(|supplier| *supplier != source);
                !alone
            });
        }
    }

    /// The boundary's piece at which a chain differs from what is proven.
    fn contradiction(&self, chain: &PieceChain) -> Option<usize> {
        let differs = |&boundary: &usize| chain.at(&self.expected, boundary) != self.proven_state(boundary);
        (self.anchor..self.slots.len()).find(differs)
    }

    /// A claim that was given up because nobody could fill it stands again when somebody new stands for it.
    fn revive(&mut self, digest: ContentHash) -> bool {
        let index = self.set_aside.iter().position(|claim| claim.digest == digest && !claim.refuted);
        let Some(index) = index else { return false };
        let claim = self.set_aside.swap_remove(index);
        self.claims.push(claim);
        self.judge_raw();
        self.extend_anchor();
        true
    }

    /// One file has one chain; who served two has served a false one.
    fn stands_for_another(&self, source: SourceId, digest: ContentHash) -> bool {
        let claims = || self.claims.iter().chain(&self.set_aside);
        claims().any(|claim| claim.digest != digest && claim.suppliers.contains(&source))
    }

    fn has_room(&self, hearsay: bool) -> bool {
        let states = self.expected.pieces() * (self.claims.len() + self.set_aside.len());
        let said = self.claims.iter().filter(|claim| claim.suppliers.is_empty()).count();
        let count = if hearsay { said < MAX_HEARSAY } else { self.claims.len() < MAX_CLAIMS };
        count && (self.claims.len() < 2 || states < MAX_STATES)
    }

    /// What lies there unjudged can be judged by a claim.
    fn judge_raw(&mut self) {
        for piece in 0..self.anchor {
            if let Slot::Raw { source, grade } = self.slots[piece] {
                self.put(piece, Slot::Doubted { source, grade });
                self.findings.push(Finding::Reread { piece });
            }
        }
    }
}
