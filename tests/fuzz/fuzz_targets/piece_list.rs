//! A piece chain.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| apt_huddle::peer::fuzz::piece_list(bytes));
