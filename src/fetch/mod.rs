//! Bring and prove: one file from many sources.

pub mod ledger;
pub mod plan;
