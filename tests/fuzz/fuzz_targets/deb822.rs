//! Paragraphs of fields.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| apt_huddle::archive::fuzz::deb822(bytes));
