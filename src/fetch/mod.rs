//! Bring and prove: one file from many sources.
