//! Tell: who is told what we hold, and when.

pub mod schedule;
