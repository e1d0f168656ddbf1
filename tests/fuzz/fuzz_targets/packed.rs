//! Packed bytes.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| apt_huddle::archive::fuzz::packed(bytes));
