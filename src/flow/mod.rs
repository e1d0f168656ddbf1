//! The path: one request from question to answer.
