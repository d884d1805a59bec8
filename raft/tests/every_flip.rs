//! A byte changed anywhere in a log or a snapshot of over a megabyte: whatever was acknowledged is there to the last
//! byte, or the start is refused with the file and the place. Never a wrong entry, never a silent loss.
//!
//! Tried here are all bytes that frame others (headers, lengths, checksums, kinds, numbers, padding, what lies around
//! the boundaries of segments and pieces) and every so many bytes of the rest. `cargo run --release -p raft --example
//! every_flip` tries every byte, by every single bit and all of them.

#![allow(clippy::unwrap_used, reason = "test code")]

mod flip_support;

use std::collections::BTreeMap;

use flip_support::{Files, Part, Verdict, Written, parts};

/// Of bytes that frame nothing, one in this many is tried; no round number, so that every place in a word has its turn.
const STRIDE: usize = 131;

/// What is changed of a byte: one bit or all, another from byte to byte.
const MASKS: [u8; 9] = [0x01, 0xFF, 0x20, 0x08, 0x80, 0x10, 0x02, 0x40, 0x04];

/// Tries the bytes of `parts`.
fn try_sample(files: &mut Files, written: &Written, parts: &[Part]) -> BTreeMap<Verdict, u32> {
    let mut counts = BTreeMap::new();
    for Part { file, start, end, verdict, is_frame } in parts {
        let stride = if *is_frame { 1 } else { STRIDE };
        for offset in (*start..*end).step_by(stride) {
            let mask = MASKS[offset as usize % MASKS.len()];
            let found = files.try_flip(written, file, offset, mask);
            assert_eq!(found, *verdict, "{file}, byte {offset}, mask {mask:02x}");
            *counts.entry(found).or_default() += 1;
        }
    }
    counts
}

fn of_files<'a>(parts: &'a [Part], beginning: &str) -> Vec<Part> {
    let of_file = |part: &&'a Part| part.file.as_str().starts_with(beginning);
    parts.iter().filter(of_file).cloned().collect()
}

#[test]
fn a_changed_byte_in_a_large_log_is_refused_by_file_and_place_unless_it_says_nothing() {
    let (mut files, written) = Written::large_log();
    let parts = parts(&files, Verdict::Recovered);
    let log = of_files(&parts, "wal");
    let acknowledged = log.iter().filter(|part| part.verdict == Verdict::Refused);
    let acknowledged: u64 = acknowledged.map(|part| part.end - part.start).sum();
    assert!(acknowledged >= 1 << 20, "the log has {acknowledged} bytes only");
    let counts = try_sample(&mut files, &written, &log);
    assert!(counts[&Verdict::Refused] > 25_000 && counts[&Verdict::Recovered] > 100, "{counts:?}");
}

#[test]
fn a_changed_byte_in_a_large_snapshot_makes_the_node_start_from_the_one_before() {
    let (mut files, written) = Written::large_own_snapshot();
    let parts = of_files(&parts(&files, Verdict::Recovered), "snapshot");
    let counts = try_sample(&mut files, &written, &parts);
    assert!(counts[&Verdict::Recovered] > 7_000, "{counts:?}");
}

#[test]
fn a_changed_byte_in_a_large_snapshot_that_nothing_can_replace_is_refused_by_file_and_place() {
    let (mut files, written) = Written::large_installed_snapshot();
    let parts = of_files(&parts(&files, Verdict::Refused), "snapshot");
    let counts = try_sample(&mut files, &written, &parts);
    assert!(counts[&Verdict::Refused] > 7_000, "{counts:?}");
}
