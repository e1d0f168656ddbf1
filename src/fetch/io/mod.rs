//! The door of fetch: drives the machines with real bytes, and lets readers have them.

pub(super) mod flight;
pub(super) mod growing;
mod stream;
pub(super) mod tally;
