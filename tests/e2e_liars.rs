//! e2e_liars
