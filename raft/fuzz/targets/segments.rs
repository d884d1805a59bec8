//! Logs whose checksums fit, whatever they say, and damaged ones: see `check::segments`.

#![no_main]

#[path = "../check.rs"]
#[allow(dead_code, reason = "each target uses its own part")]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::segments(data));
