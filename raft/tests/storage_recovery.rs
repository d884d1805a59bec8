//! Log and snapshots put together: which snapshot counts, which part of the log stays, and which holes are refused.

#![allow(clippy::unwrap_used, reason = "test code")]

use log::Level;
use raft::storage::disk::DiskOp;
use raft::storage::memory::Unsynced;
use raft::storage::wal::{Wal, WalConfig};
use raft::storage::{
    Disk, FileName, MemoryDisk, MemoryFiles, Recovery, SnapshotError, SnapshotStore, StorageError, WalError,
    recover,
};
use raft_core::{Entry, EntryId, HardState, Index, Membership, NodeId, Payload, Persist, SnapshotMeta, Term};

fn meta(term: u64, index: u64) -> SnapshotMeta {
    let last = EntryId { term: Term(term), index: Index(index) };
    SnapshotMeta { last, membership: Membership::new([NodeId(1), NodeId(2)]) }
}

fn entries(term: u64, indexes: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
    indexes.map(|index| Entry { term: Term(term), index: Index(index), payload: Payload::Noop }).collect()
}

/// A directory with a log of term 1 made of `persists`.
fn with_log(persists: &[Persist]) -> MemoryFiles {
    let files = MemoryFiles::new();
    let mut disk = MemoryDisk::new(&files);
    let (mut wal, _) = Wal::open(&mut disk, config()).unwrap();
    wal.append(&Persist {
        hard_state: Some(HardState { term: Term(1), vote: Some(NodeId(2)) }),
        snapshot: None,
        entries: Vec::new(),
    });
    persists.iter().for_each(|persist| wal.append(persist));
    wal.submit(&mut disk).unwrap();
    wal.finish(&mut disk).unwrap();
    files
}

fn log(entries: Vec<Entry>) -> Persist {
    Persist { hard_state: None, snapshot: None, entries }
}

fn marker(meta: SnapshotMeta) -> Persist {
    Persist { hard_state: None, snapshot: Some(meta), entries: Vec::new() }
}

fn add_snapshot(files: &MemoryFiles, meta: SnapshotMeta) {
    let mut disk = MemoryDisk::new(files);
    let mut store = SnapshotStore::open(&mut disk).unwrap();
    let mut writer = store.begin_write(&mut disk, meta).unwrap();
    writer.write(&mut disk, b"state").unwrap();
    store.finish_write(&mut disk, writer).unwrap();
}

fn damage_snapshot(files: &MemoryFiles, meta: &SnapshotMeta) {
    let name = format!("snapshot-{:016x}-{:016x}.snap", meta.last.index.0, meta.last.term.0);
    assert!(files.flip_bit(&FileName::new(&name), 60, 3));
}

fn config() -> WalConfig {
    WalConfig { segment_bytes: 4096, ..WalConfig::new(1) }
}

fn start(files: &MemoryFiles) -> Result<Recovery, StorageError> {
    recover(&mut MemoryDisk::new(files), config(), false)
}

#[test]
fn an_empty_directory_is_a_beginning_unless_there_should_be_a_log() {
    let files = MemoryFiles::new();
    let refused = recover(&mut MemoryDisk::new(&files), config(), true).unwrap_err();
    assert!(matches!(refused, StorageError::Wal(WalError::NoSegments)), "{refused}");
    let recovery = start(&files).unwrap();
    assert_eq!(recovery.restored, Default::default());
    assert!(recovery.remarks.is_empty());
    assert!(recover(&mut MemoryDisk::new(&files), config(), true).is_ok());
}

#[test]
fn a_local_snapshot_without_a_marker_counts_and_keeps_the_whole_log() {
    let files = with_log(&[log(entries(1, 1..=10))]);
    add_snapshot(&files, meta(1, 6));
    for _ in 0..2 {
        let restored = start(&files).unwrap().restored;
        assert_eq!(restored.snapshot, Some(meta(1, 6)));
        assert_eq!(restored.entries, entries(1, 1..=10));
        assert_eq!(restored.hard_state, HardState { term: Term(1), vote: Some(NodeId(2)) });
    }
}

#[test]
fn a_received_snapshot_ahead_of_the_log_drops_it_and_raises_the_term() {
    let files = with_log(&[log(entries(1, 1..=10))]);
    add_snapshot(&files, meta(4, 20));
    for _ in 0..2 {
        let Recovery { mut wal, restored, .. } = start(&files).unwrap();
        assert_eq!((&restored.snapshot, restored.entries.len()), (&Some(meta(4, 20)), 0));
        assert_eq!(restored.hard_state, HardState { term: Term(4), vote: None });
        // The log goes on behind the snapshot at once: its marker is in the log already.
        assert_eq!(wal.last_index(), Index(20));
        wal.append(&log(entries(4, 21..=21)));
    }
}

#[test]
fn a_received_snapshot_that_contradicts_the_log_drops_its_suffix_for_good() {
    let files = with_log(&[log(entries(1, 1..=30))]);
    add_snapshot(&files, meta(2, 20));
    let Recovery { mut wal, restored, .. } = start(&files).unwrap();
    assert!(restored.entries.is_empty());
    let mut disk = MemoryDisk::new(&files);
    wal.append(&log(entries(2, 21..=21)));
    wal.submit(&mut disk).unwrap();
    wal.finish(&mut disk).unwrap();
    assert_eq!(start(&files).unwrap().restored.entries, entries(2, 21..=21));
}

#[test]
fn a_marked_snapshot_that_is_damaged_is_replaced_by_an_older_one_if_the_log_leads_on() {
    let files = with_log(&[log(entries(1, 1..=30)), marker(meta(1, 20))]);
    add_snapshot(&files, meta(1, 10));
    add_snapshot(&files, meta(1, 20));
    damage_snapshot(&files, &meta(1, 20));
    let Recovery { restored, remarks, .. } = start(&files).unwrap();
    assert_eq!(restored.snapshot, Some(meta(1, 10)));
    assert_eq!(restored.entries, entries(1, 1..=30));
    assert_eq!(remarks.len(), 2, "{remarks:?}");
    // With no snapshot at all, the log alone is enough too.
    damage_snapshot(&files, &meta(1, 10));
    let restored = start(&files).unwrap().restored;
    assert_eq!((restored.snapshot, restored.entries), (None, entries(1, 1..=30)));
}

#[test]
fn a_marked_snapshot_that_is_gone_and_not_in_the_log_is_refused_by_name() {
    let files = with_log(&[log(entries(1, 1..=10)), marker(meta(2, 20)), log(entries(2, 21..=22))]);
    add_snapshot(&files, meta(1, 10));
    let refused = start(&files).unwrap_err();
    let file = FileName::new("snapshot-0000000000000014-0000000000000002.snap");
    let cause = SnapshotError::NotThere(meta(2, 20).last);
    let (first_missing, last_missing) = (Index(11), Index(20));
    let expected = StorageError::SnapshotLost { file: file.clone(), cause, first_missing, last_missing };
    assert_eq!(refused, expected);
    // There and damaged: the place is named.
    add_snapshot(&files, meta(2, 20));
    damage_snapshot(&files, &meta(2, 20));
    let refused = start(&files).unwrap_err();
    let StorageError::SnapshotLost { cause: SnapshotError::Damaged { file: damaged, .. }, .. } = refused
    else {
        panic!("{refused}");
    };
    assert_eq!(damaged, file);
}

#[test]
fn a_hole_between_snapshot_and_log_is_refused() {
    let files = with_log(&[log(entries(1, 1..=200))]);
    {
        let mut disk = MemoryDisk::new(&files);
        let (mut wal, _) = Wal::open(&mut disk, config()).unwrap();
        for index in 201..=230 {
            wal.append(&log(entries(1, index..=index)));
            wal.submit(&mut disk).unwrap();
            wal.finish(&mut disk).unwrap();
        }
        add_snapshot(&files, meta(1, 100));
        add_snapshot(&files, meta(1, 220));
        wal.compact(Index(220), &mut disk);
        wal.finish(&mut disk).unwrap();
    }
    assert!(start(&files).is_ok());
    damage_snapshot(&files, &meta(1, 220));
    let refused = start(&files).unwrap_err();
    assert!(
        matches!(
            refused,
            StorageError::SnapshotLost { first_missing: Index(101), .. }
                | StorageError::Gap { first_missing: Index(101), .. }
        ),
        "{refused}"
    );
}

/// Where others can give back what is missing.
fn repairing() -> WalConfig {
    WalConfig { repairs: true, ..config() }
}

const VOTE: HardState = HardState { term: Term(2), vote: Some(NodeId(2)) };

/// A directory with two snapshots and the log behind the older one, and its promises: with neither snapshot nothing leads from
/// the beginning to the log.
fn compacted() -> MemoryFiles {
    let files = with_log(&[log(entries(1, 1..=200))]);
    let mut disk = MemoryDisk::new(&files);
    let (mut wal, _) = Wal::open(&mut disk, repairing()).unwrap();
    for index in 201..=260 {
        let hard_state = Some(HardState { term: Term(2), vote: None });
        wal.append(&Persist { hard_state, snapshot: None, entries: entries(2, index..=index) });
        wal.submit(&mut disk).unwrap();
        wal.finish(&mut disk).unwrap();
    }
    add_snapshot(&files, meta(2, 230));
    add_snapshot(&files, meta(2, 250));
    wal.append(&marker(meta(2, 250)));
    wal.append(&Persist { hard_state: Some(VOTE), snapshot: None, entries: Vec::new() });
    wal.submit(&mut disk).unwrap();
    wal.compact(Index(230), &mut disk);
    wal.finish(&mut disk).unwrap();
    let sound = recover(&mut MemoryDisk::new(&files.fork()), repairing(), true).unwrap();
    assert!(sound.restored.entries[0].index > Index(1) && !sound.is_convalescent);
    files.kill_process();
    files
}

fn with_both_snapshots_damaged() -> MemoryFiles {
    let files = compacted();
    damage_snapshot(&files, &meta(2, 230));
    damage_snapshot(&files, &meta(2, 250));
    files
}

fn names(files: &MemoryFiles, beginning: &str) -> usize {
    files.contents().iter().filter(|(file, _)| file.as_str().starts_with(beginning)).count()
}

#[test]
fn a_log_that_stands_on_damaged_snapshots_is_set_aside_with_them_and_the_node_is_known_to_lack_it() {
    let files = with_both_snapshots_damaged();
    let segments = names(&files, "wal-");
    for start in 0..2 {
        let recovery = recover(&mut MemoryDisk::new(&files), repairing(), true).unwrap();
        assert!(recovery.is_convalescent, "start {start}");
        let Recovery { restored, remarks, .. } = recovery;
        assert_eq!((restored.hard_state, restored.snapshot, restored.entries), (VOTE, None, Vec::new()));
        let said = remarks.into_iter().map(|remark| remark.text).collect::<Vec<_>>().join("; ");
        assert!(
            start > 0 || said.contains("entries 1 to 2") && said.contains("neither in a whole"),
            "{said}"
        );
        assert!(said.contains("neither votes nor counts"), "{said}");
        assert_eq!(names(&files, "damaged-snapshot-"), 2);
        assert_eq!((names(&files, "damaged-wal-"), names(&files, "snapshot-")), (segments, 0));
        files.kill_process();
    }
    // The leader sends what is missing.
    add_snapshot(&files, meta(3, 300));
    let mut disk = MemoryDisk::new(&files);
    let Recovery { mut wal, restored, .. } = recover(&mut disk, repairing(), true).unwrap();
    assert_eq!(restored.snapshot, Some(meta(3, 300)));
    wal.healed(&mut disk);
    wal.finish(&mut disk).unwrap();
    files.kill_process();
    let recovery = recover(&mut MemoryDisk::new(&files), repairing(), true).unwrap();
    assert!(!recovery.is_convalescent && recovery.remarks.is_empty(), "{:?}", recovery.remarks);
    assert_eq!(names(&files, "damaged-"), 0);
}

#[test]
fn an_older_snapshot_that_is_whole_is_what_a_repair_begins_from() {
    let files = with_log(&[log(entries(1, 1..=10)), marker(meta(2, 20)), log(entries(2, 21..=22))]);
    add_snapshot(&files, meta(1, 10));
    add_snapshot(&files, meta(2, 20));
    assert!(!recover(&mut MemoryDisk::new(&files), repairing(), true).unwrap().is_convalescent);
    files.kill_process();
    damage_snapshot(&files, &meta(2, 20));
    for _ in 0..2 {
        let recovery = recover(&mut MemoryDisk::new(&files), repairing(), true).unwrap();
        assert!(recovery.is_convalescent);
        assert_eq!((recovery.restored.snapshot, recovery.restored.entries), (Some(meta(1, 10)), Vec::new()));
        assert_eq!(recovery.wal.last_index(), Index(10), "the log goes on behind the snapshot");
        files.kill_process();
    }
}

#[test]
fn a_hole_is_refused_and_nothing_changed_where_nobody_can_fill_it_or_a_vote_may_be_lost() {
    let alone = with_both_snapshots_damaged();
    let before = alone.contents();
    assert!(matches!(start(&alone), Err(StorageError::SnapshotLost { first_missing: Index(1), .. })));
    assert_eq!(alone.contents(), before);
    for offset in [20, 4096 + 33] {
        let files = with_both_snapshots_damaged();
        assert!(files.flip_bit(&FileName::new("promises"), offset, 3));
        let before = files.contents();
        let refused = recover(&mut MemoryDisk::new(&files), repairing(), true).unwrap_err();
        assert!(matches!(refused, StorageError::SnapshotLost { first_missing: Index(1), .. }), "{refused}");
        assert_eq!(files.contents(), before);
    }
}

#[test]
fn a_crash_while_all_of_a_log_is_set_aside_leaves_a_node_that_is_known_to_lack_it() {
    let damaged = with_both_snapshots_damaged();
    let steps = {
        let (files, before) = (damaged.fork(), damaged.operations());
        recover(&mut MemoryDisk::new(&files), repairing(), true).unwrap();
        files.operations() - before
    };
    assert!(steps > 10);
    for step in 0..steps {
        for (seed, unsynced) in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn].into_iter().enumerate() {
            let files = damaged.fork();
            files.switch_off_at(files.operations() + step);
            let _ = recover(&mut MemoryDisk::new(&files), repairing(), true);
            files.lose_power(unsynced, seed as u64);
            let recovery = recover(&mut MemoryDisk::new(&files), repairing(), true);
            let recovery = recovery.unwrap_or_else(|error| panic!("step {step}, {unsynced:?}: {error}"));
            assert!(recovery.is_convalescent, "step {step}, {unsynced:?}");
            assert_eq!(recovery.restored.hard_state, VOTE, "step {step}, {unsynced:?}");
            assert!(recovery.restored.snapshot.is_none() && recovery.restored.entries.is_empty());
            assert!(names(&files, "damaged-wal-") > 0, "step {step}: nothing is thrown away");
        }
    }
}

#[test]
fn what_a_used_file_holds_behind_the_log_is_no_warning_and_behind_a_seal_not_even_news() {
    let files = MemoryFiles::new();
    let mut disk = MemoryDisk::new(&files);
    let (mut wal, _) = Wal::open(&mut disk, config()).unwrap();
    // Segments come and go, so that the last one is a file which was used before.
    for index in 1..=600 {
        wal.append(&log(entries(1, index..=index)));
        wal.submit(&mut disk).unwrap();
        wal.compact(Index(index - 1), &mut disk);
        wal.finish(&mut disk).unwrap();
    }
    add_snapshot(&files, meta(1, 600));
    let levels = || {
        let remarks = start(&files.fork()).unwrap().remarks;
        remarks.into_iter().map(|remark| remark.level).collect::<Vec<_>>()
    };
    assert_eq!(levels(), [Level::Info]);
    wal.seal(&mut disk).unwrap();
    wal.finish(&mut disk).unwrap();
    assert_eq!(levels(), [Level::Debug]);
    // Whatever it was, it is cut: the next start finds nothing.
    start(&files).unwrap();
    assert!(levels().is_empty());
}

#[test]
fn a_segment_goes_only_when_its_successor_is_durable() {
    let files = MemoryFiles::new();
    let (mut wal, _) = Wal::open(&mut MemoryDisk::new(&files), config()).unwrap();
    let mut disk = MemoryDisk::held(&files);
    wal.append(&log(entries(1, 1..=70)));
    wal.submit(&mut disk).unwrap();
    wal.finish(&mut disk).unwrap();
    // The next batch does not fit: it begins a segment, and is on its way.
    wal.append(&log(entries(1, 71..=140)));
    wal.submit(&mut disk).unwrap();
    assert_eq!(wal.segments(), 2);
    wal.compact(Index(70), &mut disk);
    assert_eq!(wal.segments(), 2, "the first segment is all there is on the disk");
    wal.finish(&mut disk).unwrap();
    wal.compact(Index(69), &mut disk);
    assert_eq!(wal.segments(), 2, "entry 70 is still wanted");
    wal.compact(Index(70), &mut disk);
    assert_eq!(wal.segments(), 1);
    wal.finish(&mut disk).unwrap();
    assert_eq!(disk.held_operations(), 0);
    add_snapshot(&files, meta(1, 70));
    assert_eq!(start(&files).unwrap().restored.entries, entries(1, 71..=140));
    disk.run(DiskOp::List).unwrap();
}
