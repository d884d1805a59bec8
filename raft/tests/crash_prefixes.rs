//! The power fails in the middle of every single operation of a run, and of every operation of the recovery after it,
//! with everything a disk may make of unsynced data: what was acknowledged is there, and nothing is invented.

#![allow(clippy::unwrap_used, reason = "test code")]

mod crash_support;

use crash_support::{Model, Run, check_snapshot_content, entry, open};
use raft::storage::disk::DiskOp;
use raft::storage::memory::Unsynced;
use raft::storage::{Disk, FileName, MemoryDisk, MemoryFiles, Recovery, StorageError, WalError};
use raft_core::{EntryId, HardState, Persist, Restored};

const STEPS: usize = 55;

/// Everything that may become of unsynced data; the torn ones by different dice.
const FATES: [(Unsynced, u64); 6] = [
    (Unsynced::Lost, 0),
    (Unsynced::Kept, 0),
    (Unsynced::Prefix, 1),
    (Unsynced::Torn, 2),
    (Unsynced::Torn, 3),
    (Unsynced::Torn, 4),
];

/// Runs until the power fails in operation `off_at`; `None` when the run is shorter. A run that fails in its first
/// open has promised nothing.
fn run_until(off_at: u64, seed: u64, is_held: bool) -> Option<(MemoryFiles, Model)> {
    let files = MemoryFiles::new();
    files.switch_off_at(off_at);
    let Ok(mut run) = Run::begin(&files, seed, is_held) else {
        let fresh = MemoryFiles::new();
        return Some((files, Run::begin(&fresh, seed, is_held).unwrap().model));
    };
    match run.steps(STEPS) {
        Ok(()) => None,
        Err(_) => {
            run.begin_held();
            Some((files, run.model))
        }
    }
}

fn recovered(files: &MemoryFiles, model: &Model, context: &str) -> (Recovery, usize) {
    let recovery = open(files).unwrap_or_else(|error| panic!("{context}: {error}"));
    let place = model.find(&recovery, model.acknowledged);
    check_snapshot_content(files, &recovery);
    (recovery, place)
}

/// The newest segment gone from a log that has more is never taken for a log that ends before it.
fn never_ends_early(files: &MemoryFiles, context: &str) {
    let files = files.fork();
    let names = files.contents().into_iter().map(|(file, _)| file);
    let segments: Vec<FileName> = names.filter(|file| file.as_str().starts_with("wal-")).collect();
    let [.., before, last] = &segments[..] else { return };
    MemoryDisk::new(&files).run(DiskOp::Remove { file: last.clone() }).unwrap();
    let expected = WalError::MissingSegment { file: last.clone(), told_by: before.clone() };
    match open(&files) {
        Err(refused) => assert_eq!(refused, StorageError::Wal(expected), "{context}"),
        Ok(_) => panic!("{context}: {last} is gone, and nobody notices"),
    }
}

/// Goes on after a recovery: what is appended then comes back too, and nothing else has changed.
fn goes_on(files: &MemoryFiles, recovery: Recovery, context: &str) {
    let Recovery { mut wal, restored, .. } = recovery;
    let mut disk = MemoryDisk::new(files);
    let next = wal.last_index().next().0;
    let hard_state = HardState { term: restored.hard_state.term.next(), vote: None };
    let entries = vec![entry(hard_state.term.0, next, 50), entry(hard_state.term.0, next + 1, 900)];
    wal.append(&Persist { hard_state: Some(hard_state), snapshot: None, entries: entries.clone() });
    wal.submit(&mut disk).unwrap();
    wal.finish(&mut disk).unwrap();
    files.lose_power(Unsynced::Lost, 0);
    let again = open(files).unwrap_or_else(|error| panic!("{context}, gone on: {error}"));
    let mut expected = restored;
    expected.hard_state = hard_state;
    expected.entries.extend(entries);
    assert_eq!(ids(&again.restored), ids(&expected), "{context}");
    assert_eq!(again.restored, expected, "{context}");
}

fn ids(restored: &Restored) -> Vec<EntryId> {
    restored.entries.iter().map(|entry| entry.id()).collect()
}

fn every_prefix(seed: u64, is_held: bool) {
    let mut prefixes = 0;
    while let Some((files, model)) = run_until(prefixes, seed, is_held) {
        for (unsynced, dice) in FATES {
            let context = format!("seed {seed}, off at {prefixes}, {unsynced:?} {dice}");
            let survived = files.fork();
            survived.lose_power(unsynced, dice);
            let (first, _) = recovered(&survived, &model, &context);
            // Whatever a recovery returned is durable: losing power at once changes nothing.
            survived.lose_power(Unsynced::Lost, 0);
            let (second, _) = recovered(&survived, &model, &context);
            assert_eq!(first.restored, second.restored, "{context}");
            never_ends_early(&survived, &context);
            goes_on(&survived, second, &context);
            never_ends_early(&survived, &context);
        }
        // The process alone dies: what it wrote can be read, but is not safe before the recovery made it so.
        let context = format!("seed {seed}, killed at {prefixes}");
        files.kill_process();
        let (first, _) = recovered(&files, &model, &context);
        files.lose_power(Unsynced::Lost, 0);
        let (second, _) = recovered(&files, &model, &context);
        assert_eq!(first.restored, second.restored, "{context}");
        never_ends_early(&files, &context);
        prefixes += 1;
    }
    assert!(prefixes > 100, "the run has {prefixes} operations only");
}

#[test]
fn power_lost_in_any_operation_loses_nothing_acknowledged() {
    every_prefix(1, false);
    every_prefix(2, false);
}

#[test]
fn power_lost_with_many_batches_in_flight_loses_nothing_acknowledged() {
    every_prefix(3, true);
    every_prefix(4, true);
}

#[test]
fn power_lost_in_any_operation_of_a_recovery_changes_nothing() {
    for off_at in (0..).step_by(5) {
        let Some((files, model)) = run_until(off_at, 5, true) else { break };
        for (unsynced, dice) in [FATES[0], FATES[3]] {
            let survived = files.fork();
            survived.lose_power(unsynced, dice);
            let (undisturbed, _) = recovered(&survived.fork(), &model, "undisturbed");
            for recovery_off_at in 0.. {
                let disturbed = survived.fork();
                disturbed.switch_off_at(disturbed.operations() + recovery_off_at);
                if open(&disturbed).is_ok() {
                    break;
                }
                let context = format!("off at {off_at}, {unsynced:?}, recovery off at {recovery_off_at}");
                for (unsynced, dice) in FATES {
                    let files = disturbed.fork();
                    files.lose_power(unsynced, dice);
                    let (again, _) = recovered(&files, &model, &context);
                    assert_eq!(again.restored, undisturbed.restored, "{context}, then {unsynced:?} {dice}");
                }
            }
        }
    }
}
