//! One flipped bit anywhere in the files of a finished run: the same state is recovered, or the start is refused by
//! file and place. Never a wrong entry, never a silent loss of something acknowledged.

#![allow(clippy::unwrap_used, reason = "test code")]

mod crash_support;

use std::collections::BTreeMap;

use crash_support::{Model, Run, check_snapshot_content, open};
use raft::storage::disk::DiskOp;
use raft::storage::{Disk, FileName, MemoryDisk, MemoryFiles, StorageError, WalError};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

const STEPS: usize = 40;

fn short_run(seed: u64, sealed: bool) -> (MemoryFiles, Model) {
    let files = MemoryFiles::new();
    let mut run = Run::begin(&files, seed, false).unwrap();
    run.short().unwrap();
    if sealed {
        run.finish().unwrap();
    }
    (files, run.model)
}

fn long_run(seed: u64) -> (MemoryFiles, Model) {
    let files = MemoryFiles::new();
    let mut run = Run::begin(&files, seed, false).unwrap();
    run.steps(STEPS).unwrap();
    run.finish().unwrap();
    (files, run.model)
}

/// Flips one bit of every byte, and hands each such disk to `check`.
fn each_flip(files: &MemoryFiles, mut check: impl FnMut(&MemoryFiles, &FileName, u64)) {
    for (file, content) in files.contents() {
        for offset in 0..content.len() as u64 {
            let flipped = files.fork();
            assert!(flipped.flip_bit(&file, offset, (offset * 5 % 8) as u32));
            check(&flipped, &file, offset);
        }
    }
}

#[test]
fn a_flipped_bit_in_a_sealed_log_or_a_snapshot_is_harmless_or_refused() {
    let (files, model) = short_run(21, true);
    let newest = model.states.len() - 1;
    let mut verdicts: BTreeMap<String, [u32; 2]> = BTreeMap::new();
    each_flip(&files, |flipped, file, offset| {
        let kind = file.as_str().split('-').next().unwrap().to_owned();
        let verdict = verdicts.entry(kind).or_default();
        match open(flipped) {
            Ok(recovery) => {
                assert_eq!(model.find(&recovery, newest), newest);
                check_snapshot_content(flipped, &recovery);
                verdict[0] += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains(file.as_str()), "{file} at {offset}: {error}");
                verdict[1] += 1;
                // The refusal has changed nothing: with the bit turned back the node starts.
                assert!(flipped.flip_bit(file, offset, (offset * 5 % 8) as u32));
                assert_eq!(model.find(&open(flipped).unwrap(), newest), newest);
            }
        }
    });
    assert!(verdicts["wal"][1] > 2500, "{verdicts:?}");
    assert!(verdicts["snapshot"][0] > 500, "a damaged snapshot is replaced by the older one: {verdicts:?}");
    assert!(verdicts["spare"][0] > 1000 && verdicts["spare"][1] == 0, "{verdicts:?}");
}

#[test]
fn a_flipped_bit_in_an_unsealed_log_costs_at_most_what_was_in_flight_with_the_last_batch() {
    let (files, model) = short_run(22, false);
    each_flip(&files, |flipped, _, _| {
        if let Ok(recovery) = open(flipped) {
            model.find(&recovery, model.before_last_batch);
        }
    });
}

#[test]
fn two_flipped_bits_in_a_sealed_log_cost_at_most_the_last_batch() {
    let (files, model) = short_run(21, true);
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let contents = files.contents();
    let mut refused = 0;
    for _ in 0..1_500 {
        let flipped = files.fork();
        for _ in 0..2 {
            let (file, content) = &contents[random.random_range(0..contents.len())];
            let offset = random.random_range(0..content.len() as u64);
            assert!(flipped.flip_bit(file, offset, random.random_range(0..8)));
        }
        match open(&flipped) {
            Ok(recovery) => assert!(model.find(&recovery, model.before_last_batch) < model.states.len()),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 500, "{refused}");
}

#[test]
fn a_missing_file_is_noticed() {
    let (files, model) = long_run(23);
    let newest = model.states.len() - 1;
    let segments: Vec<FileName> = names(&files, "wal");
    assert!(segments.len() >= 4, "{segments:?}");
    for (place, file) in segments.iter().enumerate() {
        match without(&files, file) {
            Err(StorageError::Wal(WalError::MissingSegment { file: missing, told_by }))
                if missing == *file =>
            {
                let neighbour = segments.get(place + 1).unwrap_or(&segments[segments.len() - 2]);
                assert_eq!(told_by, *neighbour);
            }
            // The first one missing shows only as a hole between snapshot and log, if it does not lie below both.
            Err(StorageError::Gap { .. } | StorageError::SnapshotLost { .. }) if place == 0 => {}
            Ok(recovery) if place == 0 => assert_eq!(model.find(&recovery, newest), newest),
            other => panic!("{file}: {:?}", other.map(|recovery| recovery.restored)),
        }
    }
    for file in names(&files, "snapshot") {
        match without(&files, &file) {
            Ok(recovery) => assert_eq!(model.find(&recovery, newest), newest),
            Err(StorageError::SnapshotLost { file: lost, .. }) => assert_eq!(lost, file),
            Err(other) => panic!("{file}: {other}"),
        }
    }
}

#[test]
fn a_last_segment_without_its_beginning_is_refused_although_nothing_in_it_says_so() {
    let files = MemoryFiles::new();
    let mut run = Run::begin(&files, 25, false).unwrap();
    let begun = names(&files, "wal").len();
    // The run ends where the newest segment holds nothing but the batch that began it.
    while names(&files, "wal").len() == begun {
        run.append_one().unwrap();
    }
    let last = names(&files, "wal").pop().unwrap();
    let newest = run.model.states.len() - 1;
    assert_eq!(run.model.find(&open(&files.fork()).unwrap(), newest), newest);
    for bytes in [0, 1, 64, 100, 200] {
        let files = files.fork();
        let mut disk = MemoryDisk::new(&files);
        disk.run(DiskOp::Truncate { file: last.clone(), bytes }).unwrap();
        let refused = open(&files).unwrap_err();
        let is_named = matches!(&refused, StorageError::Wal(WalError::Damaged { file, .. }) if *file == last);
        assert!(is_named, "cut to {bytes} bytes: {refused}");
    }
}

#[test]
fn a_log_that_must_be_there_is_never_begun_anew() {
    let (files, _) = long_run(24);
    let mut disk = MemoryDisk::new(&files);
    for file in names(&files, "wal") {
        disk.run(DiskOp::Remove { file }).unwrap();
    }
    for _ in 0..2 {
        let refused = open(&files).unwrap_err();
        assert!(matches!(refused, StorageError::Wal(WalError::NoSegments)), "{refused}");
    }
}

fn names(files: &MemoryFiles, beginning: &str) -> Vec<FileName> {
    let names = files.contents().into_iter().map(|(file, _)| file);
    names.filter(|file| file.as_str().starts_with(beginning)).collect()
}

fn without(files: &MemoryFiles, file: &FileName) -> Result<raft::storage::Recovery, StorageError> {
    let files = files.fork();
    MemoryDisk::new(&files).run(DiskOp::Remove { file: file.clone() }).unwrap();
    open(&files)
}
