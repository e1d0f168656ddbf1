//! Keep: content-addressed files and what is known of them.
