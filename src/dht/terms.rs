//! On what terms a search goes: whose turn comes first, and when it is over.

use std::time::Duration;

/// Whose turn comes first. Of equals it is the oldest's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// Somebody waits for it.
    Urgent,
    /// Somebody will want it soon, and waits for something else first.
    Ahead,
    /// Nobody waits: files are told of.
    Background,
}

impl Priority {
    /// All, the first first.
    pub const ALL: [Self; 3] = [Self::Urgent, Self::Ahead, Self::Background];

    /// Most jobs under way that come no sooner than this one's: the others always find room beside them.
    pub const fn share(self) -> usize {
        match self {
            Self::Urgent => 64,
            Self::Ahead => 40,
            Self::Background => 16,
        }
    }
}

/// What a search is to keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Whose turn comes first.
    pub priority: Priority,
    /// After so long it is over, whatever it has found, its turn come or not. A search lasts ten seconds in any case.
    pub deadline: Duration,
    /// Whether nodes are asked even if an equal search ended a moment ago: who looks again wants to know who has come.
    pub anew: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self { priority: Priority::Urgent, deadline: Duration::from_secs(10), anew: false }
    }
}
