//! From mirrors: the origin's own bytes.
