//! Any messages between nodes: see `check::messages`.

#![no_main]

#[path = "../check.rs"]
#[allow(dead_code, reason = "each target uses its own part")]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::messages(data));
