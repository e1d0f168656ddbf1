//! e2e_faults
