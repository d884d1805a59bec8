//! Any bytes as a stream of requests: see `check::requests`.

#![no_main]

#[path = "../check.rs"]
#[allow(dead_code, reason = "each target uses its own part")]
mod check;
#[path = "../good_streams.rs"]
#[allow(dead_code, reason = "each target uses its own part")]
mod good_streams;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::requests(data));
