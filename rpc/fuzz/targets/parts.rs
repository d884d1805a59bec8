//! Any bytes as headers and integers: see `check::parts`.

#![no_main]

#[path = "../check.rs"]
#[allow(dead_code, reason = "each target uses its own part")]
mod check;
#[path = "../good_streams.rs"]
#[allow(dead_code, reason = "each target uses its own part")]
mod good_streams;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::parts(data));
