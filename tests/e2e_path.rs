//! e2e_path
