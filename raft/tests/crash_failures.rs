//! Every single operation of a run fails, or the disk is full at every size: the run stops with an error, and what it
//! acknowledged before is there after a restart, also when the power fails after that restart.

#![allow(clippy::unwrap_used, reason = "test code")]

mod crash_support;

use crash_support::{Model, Run, check_snapshot_content, config, open};
use raft::storage::disk::{DiskError, DiskOp};
use raft::storage::memory::Unsynced;
use raft::storage::wal::Wal;
use raft::storage::{Disk, FileName, MemoryDisk, MemoryFiles, StorageError, WalError};
use raft_core::{Entry, Index, Payload, Persist, Term};

const STEPS: usize = 45;

/// Runs with whatever fault `files` have; the model and the error, if there was one.
fn run_on(files: &MemoryFiles, seed: u64, is_held: bool) -> (Model, Result<(), StorageError>) {
    match Run::begin(files, seed, is_held) {
        Ok(mut run) => {
            let result = run.steps(STEPS);
            (run.model, result)
        }
        Err(error) => (Run::begin(&MemoryFiles::new(), seed, is_held).unwrap().model, Err(error)),
    }
}

fn check(files: &MemoryFiles, model: &Model, context: &str) {
    for (unsynced, dice) in [(Unsynced::Lost, 0), (Unsynced::Kept, 0), (Unsynced::Torn, 1)] {
        let files = files.fork();
        files.lose_power(unsynced, dice);
        let recovery = open(&files).unwrap_or_else(|error| panic!("{context}, {unsynced:?}: {error}"));
        model.find(&recovery, model.acknowledged);
    }
    files.kill_process();
    let first = open(files).unwrap_or_else(|error| panic!("{context}: {error}"));
    model.find(&first, model.acknowledged);
    check_snapshot_content(files, &first);
    // A failed sync leaves pages that look clean and are not on the platters: what the restarted process has read and
    // now promises must not depend on them.
    files.lose_power(Unsynced::Lost, 0);
    let second = open(files).unwrap_or_else(|error| panic!("{context}, after power loss: {error}"));
    assert_eq!(first.restored, second.restored, "{context}");
}

#[test]
fn every_failing_operation_stops_the_run_and_loses_nothing_acknowledged() {
    for (seed, is_held) in [(11, false), (12, true)] {
        let mut failed = 0;
        loop {
            let files = MemoryFiles::new();
            files.fail_at(failed);
            let (model, result) = run_on(&files, seed, is_held);
            if !files.fault_has_happened() {
                break;
            }
            let context = format!("seed {seed}, operation {failed} fails");
            assert!(result.is_err(), "{context}: the run goes on");
            check(&files, &model, &context);
            failed += 1;
        }
        assert!(failed > 100, "the run has {failed} operations only");
    }
}

#[test]
fn a_full_disk_stops_the_run_and_loses_nothing_acknowledged() {
    let mut has_fitted = false;
    for capacity in (0..60_000).step_by(700) {
        let files = MemoryFiles::new();
        files.set_capacity(capacity);
        let (model, result) = run_on(&files, 13, false);
        has_fitted |= result.is_ok();
        check(&files, &model, &format!("capacity {capacity}"));
    }
    assert!(has_fitted, "no run ever had room enough");
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
    let files = MemoryFiles::new();
    let mut disk = MemoryDisk::new(&files);
    let (mut wal, _) = Wal::open(&mut disk, config()).unwrap();
    let persist = |index| Persist {
        hard_state: None,
        snapshot: None,
        entries: vec![Entry { term: Term(1), index: Index(index), payload: Payload::Noop }],
    };
    files.fail_at(files.operations());
    for index in 1..4 {
        wal.append(&persist(index));
        wal.submit(&mut disk).unwrap();
        let refused = wal.completed(disk.wait()).unwrap_err();
        assert!(matches!(refused, WalError::Disk(DiskError::Io { .. })), "{refused}");
    }
    let write = DiskOp::Remove { file: FileName::new("any") };
    assert!(matches!(disk.run(write), Err(DiskError::Poisoned { .. })));
}
