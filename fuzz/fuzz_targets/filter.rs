//! Text to plan to evaluation, for libFuzzer.
#![no_main]

#[path = "../filter_case.rs"]
mod filter_case;

libfuzzer_sys::fuzz_target!(|input: &[u8]| filter_case::run(input));
