//! The window: what the daemon does, for people and programs.
