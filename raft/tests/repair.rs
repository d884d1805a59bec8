//! A damaged log where others can repair it: it opens as far as it is whole and says that something is missing, for as long
//! as that is so; term and vote are never lost, nothing is thrown away before the repair, and a crash changes none of it.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::sync::Arc;

use bytes::Bytes;
use raft::core::{Config, Entry, HardState, Index, NodeId, Payload, Persist, RawNode, Restored, Term};
use raft::driver::{Applier, LogItem, LogWriter, RaftNode};
use raft::storage::disk::FileName;
use raft::storage::memory::{MemoryDisk, MemoryFiles, Unsynced};
use raft::storage::wal::{Recovered, Wal, WalConfig, WalError};
use raft::sync::LockQueue;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

const SEGMENT_BYTES: u64 = 4096;
const ENTRIES: u64 = 30;
const NEWEST: HardState = HardState { term: Term(7), vote: Some(NodeId(2)) };

fn config() -> WalConfig {
    WalConfig { segment_bytes: SEGMENT_BYTES, repairs: true, ..WalConfig::new(3) }
}

fn entry(index: u64) -> Entry {
    let payload = Payload::Command(Bytes::from(vec![index as u8; 200]));
    Entry { term: Term(2), index: Index(index), payload }
}

fn write(wal: &mut Wal, disk: &mut MemoryDisk, hard_state: Option<HardState>, entries: Vec<Entry>) {
    wal.append(&Persist { hard_state, snapshot: None, entries });
    wal.submit(disk).unwrap();
    wal.finish(disk).unwrap();
}

/// A directory whose log has some segments; its newest vote stands at its end.
fn written() -> MemoryFiles {
    let files = MemoryFiles::new();
    let mut disk = MemoryDisk::new(&files);
    let (mut wal, recovered) = Wal::open(&mut disk, config()).unwrap();
    assert!(!recovered.is_convalescent, "a log that begins lacks nothing");
    write(&mut wal, &mut disk, Some(HardState { term: Term(2), vote: None }), Vec::new());
    for index in 1..=ENTRIES {
        write(&mut wal, &mut disk, None, vec![entry(index)]);
    }
    write(&mut wal, &mut disk, Some(NEWEST), Vec::new());
    wal.seal(&mut disk);
    wal.finish(&mut disk).unwrap();
    files.kill_process();
    files
}

fn open(files: &MemoryFiles) -> Result<(Wal, Recovered, MemoryDisk), WalError> {
    let mut disk = MemoryDisk::new(files);
    Wal::open(&mut disk, config()).map(|(wal, recovered)| (wal, recovered, disk))
}

fn names(files: &MemoryFiles, prefix: &str) -> Vec<FileName> {
    let names = files.contents().into_iter().map(|(name, _)| name);
    names.filter(|name| name.as_str().starts_with(prefix)).collect()
}

fn flip(files: &MemoryFiles, name: &str, offset: u64) {
    assert!(files.flip_bit(&FileName::new(name), offset, 3));
}

/// What must be true of a log that was damaged, in whatever start since.
fn check_convalescent(recovered: &Recovered, what: &str) {
    assert!(recovered.is_convalescent, "{what}: it is known that something is missing");
    assert_eq!(recovered.hard_state, NEWEST, "{what}: the newest vote stands");
    let whole: Vec<Entry> = (1..=recovered.entries.len() as u64).map(entry).collect();
    assert_eq!(recovered.entries, whole, "{what}: what is there is what was written");
}

#[test]
fn every_damage_to_the_log_is_found_and_costs_entries_but_no_vote() {
    let sound = written();
    let segments = names(&sound, "wal-");
    assert!(segments.len() >= 3);
    let mut lost = 0;
    for name in &segments {
        let contents = sound.contents();
        let bytes = &contents.iter().find(|(file, _)| file == name).unwrap().1;
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
        for offset in (0..used).step_by(13) {
            let files = sound.fork();
            flip(&files, name.as_str(), offset);
            let what = format!("{name}, byte {offset}");
            match open(&files) {
                Ok((_, recovered, _)) if recovered.damage.is_none() => {
                    assert_eq!(recovered.entries.len() as u64, ENTRIES, "{what} meant nothing");
                    assert_eq!(recovered.hard_state, NEWEST);
                }
                Ok((_, recovered, _)) => {
                    check_convalescent(&recovered, &what);
                    lost += ENTRIES - recovered.entries.len() as u64;
                    files.kill_process();
                    let (_, again, _) = open(&files).unwrap();
                    check_convalescent(&again, &format!("{what}, at the next start"));
                    assert!(
                        again.damage.is_none(),
                        "{what}: the log itself is whole again: {:?}",
                        again.damage
                    );
                    assert!(!names(&files, "damaged-").is_empty(), "{what}: nothing is thrown away");
                }
                Err(error) => assert!(error.to_string().contains(name.as_str()), "{what}: {error}"),
            }
        }
    }
    assert!(lost > 1000, "most damage costs entries");
}

#[test]
fn a_lost_segment_is_damage_too() {
    let sound = written();
    // Without the first, the log looks like one that was shortened: that the snapshot is missing shows it.
    for name in names(&sound, "wal-").split_off(1) {
        let files = sound.fork();
        let mut disk = MemoryDisk::new(&files);
        use raft::storage::disk::{Disk, DiskOp};
        disk.run(DiskOp::Remove { file: name.clone() }).unwrap();
        files.kill_process();
        match open(&files) {
            Ok((_, recovered, _)) => check_convalescent(&recovered, name.as_str()),
            Err(error) => panic!("without {name}: {error}"),
        }
    }
}

#[test]
fn a_log_and_promises_that_are_both_damaged_are_refused_and_left_as_they_are() {
    for offset in [20, 4096 + 33] {
        let files = written();
        flip(&files, "wal-0000000000000002.log", 500);
        flip(&files, "promises", offset);
        let before = files.contents();
        let Err(refused @ WalError::Damaged { .. }) = open(&files) else { panic!("it is not refused") };
        assert!(refused.to_string().contains("promises, which has term and vote once more, is damaged, too"));
        assert_eq!(files.contents(), before);
    }
}

#[test]
fn damaged_promises_beside_a_sound_log_mean_nothing() {
    for offset in [20, 4096 + 33] {
        let files = written();
        flip(&files, "promises", offset);
        let (_, recovered, _) = open(&files).unwrap();
        assert!(!recovered.is_convalescent && recovered.hard_state == NEWEST);
        files.kill_process();
        flip(&files, "wal-0000000000000002.log", 500);
        check_convalescent(&open(&files).unwrap().1, "the promises were written anew");
    }
}

#[test]
fn a_directory_from_before_there_were_promises_gets_them_and_is_refused_if_it_is_damaged() {
    let files = MemoryFiles::new();
    let before = WalConfig { repairs: false, ..config() };
    let mut disk = MemoryDisk::new(&files);
    let (mut wal, _) = Wal::open(&mut disk, before).unwrap();
    for index in 1..=ENTRIES {
        write(&mut wal, &mut disk, Some(NEWEST), vec![entry(index)]);
    }
    files.kill_process();
    let damaged = files.fork();
    flip(&damaged, "wal-0000000000000001.log", 500);
    assert!(open(&damaged).is_err(), "nobody knows what it had voted");
    assert!(!open(&files).unwrap().1.is_convalescent);
    files.kill_process();
    flip(&files, "wal-0000000000000001.log", 500);
    check_convalescent(
        &Recovered { entries: Vec::new(), ..open(&files).unwrap().1 },
        "from here on it is known",
    );
}

#[test]
fn a_crash_at_any_step_of_the_repair_leaves_a_log_that_is_known_to_lack_something() {
    let sound = written();
    flip(&sound, "wal-0000000000000002.log", 500);
    let steps = {
        let files = sound.fork();
        let before = files.operations();
        let (mut wal, _, mut disk) = open(&files).unwrap();
        wal.healed(&mut disk);
        wal.finish(&mut disk).unwrap();
        files.operations() - before
    };
    for step in 0..steps {
        for (seed, unsynced) in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn].into_iter().enumerate() {
            let files = sound.fork();
            files.switch_off_at(files.operations() + step);
            let healed = open(&files).is_ok_and(|(mut wal, _, mut disk)| {
                wal.healed(&mut disk);
                wal.finish(&mut disk).is_ok()
            });
            files.lose_power(unsynced, seed as u64);
            let (_, recovered, _) = open(&files).unwrap_or_else(|error| panic!("step {step}: {error}"));
            if !healed && recovered.is_convalescent {
                check_convalescent(&recovered, &format!("step {step}, {unsynced:?}"));
            } else {
                assert_eq!(recovered.hard_state, NEWEST, "step {step}");
            }
        }
    }
}

#[test]
fn a_repaired_log_is_like_any_other_and_nothing_is_left_aside() {
    let files = written();
    flip(&files, "wal-0000000000000002.log", 500);
    let (mut wal, recovered, mut disk) = open(&files).unwrap();
    let kept = recovered.entries.len() as u64;
    write(&mut wal, &mut disk, Some(NEWEST), (kept + 1..=ENTRIES + 5).map(entry).collect());
    wal.healed(&mut disk);
    wal.finish(&mut disk).unwrap();
    assert!(names(&files, "damaged-").is_empty());
    files.lose_power(Unsynced::Lost, 0);
    let (_, recovered, _) = open(&files).unwrap();
    assert!(!recovered.is_convalescent);
    assert_eq!(recovered.entries, (1..=ENTRIES + 5).map(entry).collect::<Vec<_>>());
    assert!(names(&files, "damaged-").is_empty(), "also when their removal was not durable");
}

#[test]
fn what_a_second_damage_leaves_is_not_taken_for_what_the_first_one_left() {
    let files = written();
    flip(&files, "wal-0000000000000002.log", 500);
    let (mut wal, recovered, mut disk) = open(&files).unwrap();
    let kept = recovered.entries.len() as u64;
    write(&mut wal, &mut disk, None, (kept + 1..=ENTRIES + 5).map(entry).collect());
    wal.seal(&mut disk);
    wal.healed(&mut disk);
    wal.finish(&mut disk).unwrap();
    files.lose_power(Unsynced::Lost, 0);
    assert!(!names(&files, "damaged-").is_empty(), "the power failed before their removal was durable");

    flip(&files, "wal-0000000000000002.log", 500);
    let of = |name: &str| files.contents().into_iter().find(|(file, _)| file.as_str() == name).unwrap().1;
    let damaged = of("wal-0000000000000002.log");
    assert!(open(&files).unwrap().1.is_convalescent);
    assert!(of("damaged-wal-0000000000000002.log") == damaged);
}

#[test]
fn a_vote_in_a_last_batch_that_is_damaged_and_passes_for_torn_is_not_forgotten() {
    let files = MemoryFiles::new();
    let mut disk = MemoryDisk::new(&files);
    let (mut wal, _) = Wal::open(&mut disk, config()).unwrap();
    write(&mut wal, &mut disk, Some(HardState { term: Term(2), vote: None }), vec![entry(1)]);
    write(&mut wal, &mut disk, Some(NEWEST), Vec::new());
    files.kill_process();
    let log = FileName::new("wal-0000000000000001.log");
    let bytes = files.contents().into_iter().find(|(name, _)| *name == log).unwrap().1;
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
    flip(&files, log.as_str(), used);
    for start in 0..2 {
        let (_, recovered, _) = open(&files).unwrap();
        assert!(
            !recovered.is_convalescent,
            "start {start}: it may as well be a write that was never finished"
        );
        assert_eq!((recovered.hard_state, recovered.entries.len()), (NEWEST, 1), "start {start}");
        files.kill_process();
    }
}

/// A log writer of a directory that is damaged, the node it writes for, which has stopped, and the first entry missing.
fn writer_of_damaged(files: &MemoryFiles) -> (LogWriter, RaftNode, Entry) {
    flip(files, "wal-0000000000000002.log", 500);
    let (wal, recovered, disk) = open(files).unwrap();
    let core =
        RawNode::new(Config::new(NodeId(1), [NodeId(1)]), Restored::default(), ChaCha8Rng::seed_from_u64(1));
    let node = RaftNode::new(core, Arc::new(Applier::new(Arc::new(LockQueue::new(1)))));
    node.stop();
    let missing = entry(recovered.entries.len() as u64 + 1);
    (LogWriter::new(wal, Box::new(disk), |_| false), node, missing)
}

fn to_write(entry: &Entry) -> LogItem {
    let persist = Some(Persist { hard_state: None, snapshot: None, entries: vec![entry.clone()] });
    LogItem::Ready { persist, heals: false, messages: Vec::new() }
}

fn heals() -> LogItem {
    LogItem::Ready { persist: None, heals: true, messages: Vec::new() }
}

#[test]
fn that_a_log_is_repaired_goes_on_record_behind_what_repaired_it() {
    let files = written();
    let (mut writer, node, missing) = writer_of_damaged(&files);
    node.log_work().append(to_write(&missing));
    node.log_work().append(heals());

    // One operation of the disk is done, then the power goes off.
    files.switch_off_at(files.operations() + 1);
    writer.turn(&node);
    files.lose_power(Unsynced::Lost, 0);
    let (_, recovered, _) = open(&files).unwrap();
    assert!(recovered.is_convalescent);
    assert_eq!(recovered.entries.last(), Some(&missing), "what it wrote first is what it lacked");
}

#[test]
fn that_a_log_is_repaired_goes_on_record_also_when_nothing_is_written_with_it() {
    for (what, writes_before) in [("nothing is on its way", false), ("a batch is", true)] {
        let files = written();
        let (mut writer, node, missing) = writer_of_damaged(&files);
        if writes_before {
            node.log_work().append(to_write(&missing));
            writer.turn(&node);
        }
        node.log_work().append(heals());
        writer.turn(&node);
        while let Some(completion) = writer.disk().complete() {
            writer.completed(completion, &node).unwrap();
        }
        assert_eq!(names(&files, "damaged-"), [], "{what}");
        files.lose_power(Unsynced::Lost, 0);
        assert!(!open(&files).unwrap().1.is_convalescent, "{what}");
    }
}
