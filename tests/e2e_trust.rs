//! e2e_trust
