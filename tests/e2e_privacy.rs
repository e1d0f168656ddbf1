//! e2e_privacy
