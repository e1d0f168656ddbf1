//! Which pieces an unfinished holder says it has.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| apt_huddle::peer::fuzz::have(bytes));
