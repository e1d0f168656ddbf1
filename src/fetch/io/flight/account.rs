//! What is remembered of a download that has ended.
#![expect(clippy::disallowed_methods, reason = "when it ended")]

use std::time::SystemTime;

use crate::{
    fetch::{MirrorUse, ledger::SourceId},
    hash::PIECE_SIZE,
};

use super::{
    super::tally::{MirrorReason, Outcome, Report},
    Flight,
};

impl Flight<'_> {
    /// Why the mirror brought something, if it did.
    fn mirror_reason(&self) -> Option<MirrorReason> {
        let is_gone = |source| self.course.is_gone(SourceId(source));
        let mut sources = (1..).take(self.addresses.len());
        Some(match self.shared.config.mirror {
            _ if self.from_mirror == 0 => return None,
            _ if self.lead.vouched.shareable().is_none() => MirrorReason::Private,
            _ if self.peer_pieces > 0 => MirrorReason::FirstBytes,
            _ if self.addresses.is_empty() && self.searched => MirrorReason::Nobody,
            _ if self.addresses.is_empty() => MirrorReason::Sooner,
            _ if sources.all(is_gone) => MirrorReason::PeersFailed,
            MirrorUse::First => MirrorReason::Configured,
            MirrorUse::Sparing | MirrorUse::Last => MirrorReason::Quicker,
        })
    }

    /// What is to be remembered of it.
    pub fn report(&self, outcome: Outcome) -> Report {
        let useful = if outcome.is_ok() { self.expected.size } else { 0 };
        let mirror_pieces = self.from_mirror.div_ceil(PIECE_SIZE) as usize;
        Report {
            path: self.lead.vouched.path().to_owned(),
            repository: self.lead.vouched.repository().to_string(),
            expected: self.expected,
            from_peers: self.peer_pieces,
            from_lan: self.lan_pieces,
            map: self.lead.live.map(),
            mirror_reason: self.mirror_reason(),
            from_mirror: self.expected.pieces().saturating_sub(self.peer_pieces).min(mirror_pieces),
            peers: self.givers.len(),
            wasted: self.received.saturating_sub(useful),
            took: self.began.elapsed(),
            first_byte: self.first_byte,
            ended: SystemTime::now(),
            outcome,
        }
    }
}
