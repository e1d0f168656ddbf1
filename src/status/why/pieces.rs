//! Who brought which piece of a file.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    fetch::{Map, Snapshot, Source},
    hash::Expected,
    status::report::{MirrorReason, PieceMap},
};

use super::Kept;

/// The pieces of a file, and who brought them.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Pieces {
    /// When they came.
    pub came: Came,
    /// Who brought which.
    pub map: PieceMap,
    /// Why the mirror brought something, if it did.
    pub mirror_reason: Option<MirrorReason>,
}

/// When the pieces of a file came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Came {
    /// They are on their way.
    Now,
    /// Since the start.
    ThisRun,
    /// Before that, so that nobody knows any more who brought them.
    Earlier,
}

/// What is known of a file that is on its way or held.
pub(super) fn of(file: &Expected, kept: Kept, fetched: &Snapshot, has_network: bool) -> Option<Pieces> {
    if let Some(picture) = fetched.live.iter().find(|picture| picture.expected == *file) {
        return Some(Pieces { came: Came::Now, map: (&picture.map).into(), mirror_reason: None });
    }
    if kept == Kept::Absent {
        return None;
    }
    let brought = fetched.recent.iter().find(|report| report.expected == *file && report.outcome.is_ok());
    Some(match brought {
        Some(report) => Pieces {
            came: Came::ThisRun,
            map: (&report.map).into(),
            mirror_reason: report.mirror_reason.map(|reason| MirrorReason::of(reason, has_network)),
        },
        None => {
            Pieces { came: Came::Earlier, map: (&Map::whole(file.pieces(), Source::Store)).into(), mirror_reason: None }
        }
    })
}
