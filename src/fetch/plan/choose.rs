//! Which piece of which peer: the order of pieces, the order of sources, and the second ask for what is late.

use std::{
    cmp::Reverse,
    time::{Duration, Instant},
};

use crate::{
    fetch::ledger::{Ledger, SourceId},
    hash::{ContentHash, PIECE_SIZE},
};

use super::{
    Call, FIRST_SPECULATION, IN_FLIGHT, Plan, SPECULATION, TRIALS, WINDOW, Wish,
    peer::{Chain, Peer},
};

/// Part of a file's pieces that may be asked twice although the first source is not late.
const SPARE: usize = 25;
/// Claims remembered of which a supporter's piece fitted nothing.
const MAX_DISCREDITED: usize = 32;
/// How long a chain that was asked for is waited for before data is.
pub(super) const COMPARING: Duration = Duration::from_millis(120);
/// The time that a peer which was never measured is presumed to need, where a mirror streams that is.
const PRESUMED: Duration = Duration::from_millis(600);

impl Plan {
    /// A piece of somebody who stands for that chain fitted nothing: others are asked first.
    pub fn handle_discredited(&mut self, chain: ContentHash) {
        if self.discredited.len() < MAX_DISCREDITED && !self.discredited.contains(&chain) {
            self.discredited.push(chain);
        }
    }

    pub(super) fn ask_piece(&mut self, ledger: &Ledger, now: Instant) -> Option<Wish> {
        let swarming = self.is_swarming(ledger);
        if !ledger.has_claim() && !swarming {
            return None;
        }
        if let Some((source, piece)) = self.critical(ledger, now) {
            return Some(self.ask(source, piece, now));
        }
        if self.is_comparing(ledger, now) && !swarming {
            return None;
        }
        // What is late does not count: peers that trickle must not use up the window of those that send.
        let waiting = |peer: &Peer| (0..peer.asked.len()).filter(|&at| now < peer.late_at(at)).count();
        if self.peers.iter().map(waiting).sum::<usize>() >= IN_FLIGHT {
            return None;
        }
        let fair = (IN_FLIGHT / self.usable(ledger, now).count().max(1)).max(2);
        // An idle peer of unknown rate is tried before a known one gets more, but only a few at a time.
        let tried = self.usable(ledger, now).filter(|(_, peer)| peer.rate.is_none() && !peer.asked.is_empty()).count();
        let is_tried_next = |peer: &Peer| peer.rate.is_none() && peer.asked.is_empty() && tried < TRIALS;
        let mut free: Vec<_> = self
            .usable(ledger, now)
            .filter(|(_, peer)| peer.asked.len() < peer.depth().min(fair))
            .map(|(source, peer)| {
                // Without a chain those go first who have not been found to give nothing.
                let doubtful = self.is_discredited(ledger, source) || (swarming && peer.refused);
                (doubtful, !is_tried_next(peer), peer.finish(now), peer.given + peer.asked.len(), source)
            })
            .collect();
        free.sort();
        let room = swarming || self.has_room(ledger, now);
        let chosen = |&(.., source): &(bool, bool, Duration, usize, SourceId)| {
            let fresh = if room { self.choose(ledger, source, now) } else { None };
            fresh.or_else(|| self.hedge(ledger, source, room, now)).map(|piece| (source, piece))
        };
        let (source, piece) = free.iter().find_map(chosen)?;
        Some(self.ask(source, piece, now))
    }

    fn ask(&mut self, source: SourceId, piece: usize, now: Instant) -> Wish {
        self.peer(source).asked.push_back(super::peer::Asked { piece, since: now });
        Wish::Call(Call::Piece { source, piece })
    }

    fn usable(&self, ledger: &Ledger, now: Instant) -> impl Iterator<Item = (SourceId, &Peer)> {
        // Without a chain nothing is taken but what unfinished holders said that they have.
        let raw = !ledger.has_claim();
        let gives = move |peer: &Peer| peer.is_usable(now) && (!raw || peer.have.some().is_some());
        self.sources().filter(move |(source, peer)| gives(peer) && !ledger.is_suspect(*source))
    }

    fn is_discredited(&self, ledger: &Ledger, source: SourceId) -> bool {
        !self.discredited.is_empty() && ledger.camp(source).is_some_and(|camp| self.discredited.contains(&camp))
    }

    /// The pieces on which all else hangs: the last one as long as nothing is proven, the one at which claims part, and the
    /// one behind which nothing can be proven when too much is held on the word of claims.
    /// They are asked of somebody whatever else is under way, of one at a time, and of the next when that one is late.
    fn critical(&self, ledger: &Ledger, now: Instant) -> Option<(SourceId, usize)> {
        if !ledger.has_claim() {
            return None;
        }
        let reserved = self.reserved(ledger, now);
        let last = (ledger.anchor() == self.pieces).then_some(self.pieces - 1);
        let fork = ledger.fork().filter(|fork| Some(*fork) != last);
        let stuck = self.stuck(ledger, now).filter(|_| !self.has_room(ledger, now));
        // Nothing else moves apt on.
        let front = ledger.front().0;
        let is_awaited = front < ledger.anchor()
            && !self.serves_front(now)
            && self.peers.iter().any(|peer| peer.is_late(front, now))
            && fork.is_none_or(|fork| fork <= front);
        let front = is_awaited.then_some(front);
        last.into_iter().chain(fork).chain(stuck).chain(front).find_map(|piece| {
            let is_open = ledger.is_missing(piece)
                && !reserved.contains(&piece)
                && self.peers.iter().all(|peer| peer.expected(piece).is_none() || peer.is_late(piece, now));
            let candidate = |(_, peer): &(SourceId, &Peer)| {
                let is_new = peer.rate.is_none() && !peer.asked.is_empty();
                !is_new && peer.expected(piece).is_none() && !peer.unfit.contains(&piece) && peer.have.has(piece)
            };
            // In a big file one piece is not too much for a first measure, though the mirror may be there sooner.
            let may_ask = |source| self.pieces >= SPARE || self.is_sooner(ledger, source, piece, now);
            let best = self
                .usable(ledger, now)
                .filter(candidate)
                .filter(|(source, _)| is_open && !self.is_hedging(*source) && may_ask(*source))
                .min_by_key(|(source, peer)| (self.is_discredited(ledger, *source), peer.finish(now), *source));
            best.map(|(source, _)| (source, piece))
        })
    }

    /// Whether chains are about to come that may differ from what is claimed: as long as nothing is proven, no more than
    /// the last piece is asked for before.
    fn is_comparing(&self, ledger: &Ledger, now: Instant) -> bool {
        let asked = |peer: &Peer| matches!(peer.chain, Chain::Asked(at) if now < at + COMPARING);
        self.pieces > 1 && ledger.anchor() == self.pieces && self.peers.iter().any(|peer| !peer.gone && asked(peer))
    }

    /// Whether this source brings a piece of somebody else already.
    fn is_hedging(&self, source: SourceId) -> bool {
        let peer = &self.peers[source.0 as usize - 1];
        peer.asked.iter().any(|asked| self.is_asked_twice(asked.piece))
    }

    fn is_asked_twice(&self, piece: usize) -> bool {
        self.peers.iter().filter(|peer| peer.expected(piece).is_some()).count() > 1
    }

    /// Whether this source is expected to bring the piece before the streaming mirror does.
    fn is_sooner(&self, ledger: &Ledger, source: SourceId, piece: usize, now: Instant) -> bool {
        let peer = &self.peers[source.0 as usize - 1];
        let needs = if peer.rate.is_none() && peer.asked.is_empty() { PRESUMED } else { peer.finish(now) };
        self.mirror_expected(ledger, piece, now).is_none_or(|mirror| needs + needs / 4 < mirror)
    }

    /// The piece behind which nothing more can be proven, when nobody is about to bring it.
    pub(super) fn stuck(&self, ledger: &Ledger, now: Instant) -> Option<usize> {
        let piece = ledger.anchor().checked_sub(1)?;
        let is_stuck = ledger.is_missing(piece)
            && !self.reserved(ledger, now).contains(&piece)
            && self.peers.iter().all(|peer| peer.expected(piece).is_none() || peer.is_late(piece, now));
        is_stuck.then_some(piece)
    }

    /// Whether more may be asked for on the word of claims.
    pub(super) fn has_room(&self, ledger: &Ledger, now: Instant) -> bool {
        let open = self.peers.iter().flat_map(|peer| &peer.asked).filter(|asked| ledger.is_missing(asked.piece));
        if ledger.anchor() == self.pieces {
            return ledger.unproven() + open.count() < FIRST_SPECULATION;
        }
        let others = open.filter(|asked| asked.piece + 1 != ledger.anchor()).count();
        ledger.unproven() + others < SPECULATION + self.allowance(ledger, now)
    }

    /// What the others bring while the anchor waits for a peer that is slower than they are.
    fn allowance(&self, ledger: &Ledger, now: Instant) -> usize {
        let next = ledger.anchor().saturating_sub(1);
        if self.stuck_at == Some(ledger.anchor()) || !ledger.is_missing(next) {
            return 0;
        }
        let rates = || self.usable(ledger, now).filter_map(|(_, peer)| peer.rate);
        let (sum, count) = (rates().sum::<f64>(), rates().count() as f64);
        let slowest = self.peers.iter().filter(|peer| peer.expected(next).is_some()).filter_map(|peer| peer.rate);
        let Some(slowest) = slowest.reduce(f64::min).filter(|rate| *rate > 0.0 && sum > 0.0) else { return 0 };
        ((3.0 * (sum / slowest - count)).max(0.0) as usize).min(4 * SPECULATION)
    }

    /// Whether the piece that the anchor waits for is late.
    pub(super) fn is_overdue(&self, ledger: &Ledger, now: Instant) -> bool {
        let next = ledger.anchor().checked_sub(1).filter(|next| ledger.is_missing(*next));
        next.is_some_and(|next| self.peers.iter().any(|peer| peer.is_late(next, now)))
    }

    /// The piece that this peer should bring next.
    fn choose(&self, ledger: &Ledger, source: SourceId, now: Instant) -> Option<usize> {
        let peer = &self.peers[source.0 as usize - 1];
        let front = ledger.front().0;
        let reserved = self.reserved(ledger, now);
        let floor = ledger.fork().unwrap_or(front);
        let fresh = |&piece: &usize| {
            ledger.is_missing(piece)
                && !reserved.contains(&piece)
                && peer.have.has(piece)
                && !peer.unfit.contains(&piece)
                && !self.peers.iter().any(|peer| peer.expected(piece).is_some())
        };
        if self.is_too_slow(ledger, source, now) {
            return None;
        }
        let ahead = if self.serves_front(now) { 0 } else { WINDOW.saturating_sub(ledger.front_of_peers()) };
        let window = floor..ledger.anchor().min(front + ahead);
        let piece = window.into_iter().find(&fresh).or_else(|| {
            let mut rest = (floor..ledger.anchor()).rev().filter(&fresh);
            if self.holders_of.is_empty() {
                return rest.next();
            }
            rest.min_by_key(|piece| (self.holders_of[*piece], Reverse(*piece)))
        })?;
        self.is_sooner(ledger, source, piece, now).then_some(piece)
    }

    /// Whether the others would have brought all the rest before this peer has brought one piece more.
    fn is_too_slow(&self, ledger: &Ledger, source: SourceId, now: Instant) -> bool {
        let peer = &self.peers[source.0 as usize - 1];
        let Some(own) = peer.rate.filter(|_| peer.have.some().is_none()) else { return false };
        let rates = || self.usable(ledger, now).filter_map(|(_, peer)| peer.rate);
        let (others, quickest) = (rates().sum::<f64>() - own, rates().fold(0.0, f64::max));
        if others <= 0.0 || ledger.missing() > 4 * IN_FLIGHT {
            return false;
        }
        let rest = ledger.missing() as f64 / others + 1.0 / quickest.max(1.0);
        peer.finish(now).as_secs_f64() > rest * PIECE_SIZE as f64
    }

    /// A piece of another peer that is late, or that this one would bring in half the time; for a peer that has nothing
    /// else to do.
    fn hedge(&self, ledger: &Ledger, source: SourceId, room: bool, now: Instant) -> Option<usize> {
        let peer = &self.peers[source.0 as usize - 1];
        if !peer.asked.is_empty() {
            return None;
        }
        let open = self.peers.iter().flat_map(|peer| &peer.asked);
        let open = open.filter(|asked| ledger.is_missing(asked.piece) && self.is_asked_twice(asked.piece)).count() / 2;
        let spare = (self.pieces / SPARE).saturating_sub(self.hedged + open);
        let (may_gain, may_hedge) = (spare > 0 && peer.rate.is_some(), self.hedged + open < 1 + self.pieces / SPARE);
        let candidate = |other: &Peer, at: usize| {
            let piece = other.asked[at].piece;
            let late = may_hedge && now >= other.late_at(at);
            let gains = may_gain && now + 2 * peer.finish(now) < other.expected_at(at);
            let blocks = room || piece + 1 == ledger.anchor();
            (late || gains && blocks)
                && ledger.is_missing(piece)
                && peer.have.has(piece)
                && !peer.unfit.contains(&piece)
                && !other.asked.iter().any(|asked| self.is_asked_twice(asked.piece))
                && self.is_sooner(ledger, source, piece, now)
        };
        self.sources()
            .filter(|(other, _)| *other != source)
            .flat_map(|(_, other)| (0..other.asked.len()).map(move |at| (other, at)))
            .filter(|(other, at)| candidate(other, *at))
            .min_by_key(|(other, at)| other.asked[*at].piece)
            .map(|(other, at)| other.asked[at].piece)
    }
}
