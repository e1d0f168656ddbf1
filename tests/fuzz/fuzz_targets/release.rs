//! The text of a Release.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| apt_huddle::archive::fuzz::release(bytes));
