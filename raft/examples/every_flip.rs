//! Changes every single byte of a log and of snapshots of over a megabyte, by each single bit and by all bits, and
//! starts a node on each: `cargo run --release -p raft --example every_flip [MASK...]`, with masks in hexadecimal to
//! try fewer. It must never report a node that starts with anything else than was written; it ends with a panic then.
//!
//! The tests try a sample of the same (`raft/tests/every_flip.rs`).

#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

#[path = "../tests/flip_support/mod.rs"]
mod flip_support;

use flip_support::{Files, Part, Verdict, Written, parts};

/// Each bit alone, and all of them.
const MASKS: [u8; 9] = [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xFF];

type Counts = BTreeMap<Verdict, u64>;

fn main() {
    let chosen = std::env::args().skip(1);
    let chosen: Vec<u8> = chosen
        .map(|mask| u8::from_str_radix(&mask, 16).expect("a mask has two hexadecimal digits"))
        .collect();
    let masks = if chosen.is_empty() { &MASKS[..] } else { &chosen };
    let cases = [
        ("a log", Written::large_log(), Verdict::Recovered),
        ("a snapshot of the node's own", Written::large_own_snapshot(), Verdict::Recovered),
        ("a snapshot from a peer", Written::large_installed_snapshot(), Verdict::Refused),
    ];
    for (name, (files, written), snapshot) in &cases {
        let parts = parts(files, *snapshot);
        let bytes: u64 = parts.iter().map(|part| part.end - part.start).sum();
        let counts = try_all(files, written, &parts, masks);
        println!("{name}: {bytes} bytes, {} flips of each, {counts:?}", masks.len());
    }
}

/// Tries every byte of `parts` with every mask, on all processors.
fn try_all(files: &Files, written: &Written, parts: &[Part], masks: &[u8]) -> Counts {
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut files, mut counts) = (files.copy(), Counts::new());
        while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
            for offset in part.start..part.end {
                for mask in masks {
                    let found = files.try_flip(written, &part.file, offset, *mask);
                    assert_eq!(found, part.verdict, "{}, byte {offset}, mask {mask:02x}", part.file);
                    *counts.entry(found).or_default() += 1;
                }
            }
        }
        counts
    };
    let processors = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..processors).map(|_| scope.spawn(work)).collect();
        let mut sum = Counts::new();
        for worker in workers {
            for (verdict, count) in worker.join().expect("no flip is answered wrongly") {
                *sum.entry(verdict).or_default() += count;
            }
        }
        sum
    })
}
