//! The framing of an InRelease.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| apt_huddle::archive::fuzz::clear_signed(bytes));
