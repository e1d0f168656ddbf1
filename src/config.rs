//! What is written, and what it means.
