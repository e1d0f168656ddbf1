//! e2e_crash
