//! The log on real files: what is appended comes back, across rotations, compaction, recycling and large entries.

use std::env;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use raft::storage::disk::{Disk, DiskOp, Outcome};
use raft::storage::wal::{Recovered, WAL_FORMAT_VERSION, Wal, WalConfig, WalError};
use raft::storage::{FileName, RealDisk};
use raft_core::{Entry, EntryId, HardState, Index, Membership, NodeId, Payload, Persist, SnapshotMeta, Term};

const SEED: u64 = 7;

fn config(segment_bytes: u64) -> WalConfig {
    WalConfig { segment_bytes, ..WalConfig::new(SEED) }
}

fn entry(term: u64, index: u64, command_bytes: usize) -> Entry {
    let payload = match command_bytes {
        0 => Payload::Noop,
        _ => Payload::Command(Bytes::from(vec![(index % 251) as u8; command_bytes])),
    };
    Entry { term: Term(term), index: Index(index), payload }
}

fn persist(term: u64, entries: Vec<Entry>) -> Persist {
    let hard_state = Some(HardState { term: Term(term), vote: Some(NodeId(2)) });
    Persist { hard_state, snapshot: None, entries }
}

fn write(wal: &mut Wal, disk: &mut dyn Disk, persist: &Persist) {
    wal.append(persist);
    let ticket = wal.submit(disk).expect("something was staged");
    let mut durable = None;
    while durable.is_none() {
        durable = wal.completed(disk.wait()).expect("the disk is sound");
    }
    assert_eq!(durable, Some(ticket));
}

fn reopen(disk: &mut dyn Disk, segment_bytes: u64) -> (Wal, Recovered) {
    Wal::open(disk, config(segment_bytes)).expect("the log is sound")
}

fn file_names(disk: &mut dyn Disk) -> Vec<String> {
    match disk.run(DiskOp::List).expect("listing works") {
        Outcome::Files(files) => files.into_iter().map(|entry| entry.file.to_string()).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_log_is_empty_and_stays_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = RealDisk::new(directory.path());
    let (_, recovered) = reopen(&mut disk, 4096);
    assert!(recovered.is_new && recovered.entries.is_empty() && recovered.torn_tail.is_none());
    let (_, recovered) = reopen(&mut disk, 4096);
    assert!(!recovered.is_new && recovered.entries.is_empty() && recovered.torn_tail.is_none());
    assert_eq!(recovered.hard_state, HardState::default());
}

#[test]
fn what_was_appended_comes_back_across_many_segments() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = RealDisk::new(directory.path());
    let (mut wal, _) = reopen(&mut disk, 4096);
    let mut expected = Vec::new();
    for index in 1..=200 {
        let entry = entry(1 + index / 50, index, (index as usize * 7) % 300);
        write(&mut wal, &mut disk, &persist(1 + index / 50, vec![entry.clone()]));
        expected.push(entry);
    }
    assert!(wal.segments() > 5);
    for _ in 0..2 {
        let (wal, recovered) = reopen(&mut RealDisk::new(directory.path()), 4096);
        assert_eq!(recovered.entries, expected);
        assert_eq!(recovered.before_first, Index(0));
        assert_eq!(recovered.hard_state, HardState { term: Term(5), vote: Some(NodeId(2)) });
        assert_eq!(wal.last_index(), Index(200));
    }
    let times = disk.sync_times();
    assert!(times.figures().p50_us > 0);
}

#[test]
fn an_entry_at_an_older_index_replaces_the_tail() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = RealDisk::new(directory.path());
    let (mut wal, _) = reopen(&mut disk, 4096);
    write(&mut wal, &mut disk, &persist(1, (1..=10).map(|index| entry(1, index, 100)).collect()));
    write(&mut wal, &mut disk, &persist(2, vec![entry(2, 4, 10), entry(2, 5, 10)]));
    let (_, recovered) = reopen(&mut disk, 4096);
    let mut expected: Vec<Entry> = (1..=3).map(|index| entry(1, index, 100)).collect();
    expected.extend([entry(2, 4, 10), entry(2, 5, 10)]);
    assert_eq!(recovered.entries, expected);
}

#[test]
fn an_entry_larger_than_a_segment_gets_a_segment_of_its_size() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = RealDisk::new(directory.path());
    let (mut wal, _) = reopen(&mut disk, 4096);
    let expected = vec![entry(1, 1, 10), entry(1, 2, 3_000_000), entry(1, 3, 10)];
    for entry in &expected {
        write(&mut wal, &mut disk, &persist(1, vec![entry.clone()]));
    }
    let (_, recovered) = reopen(&mut disk, 4096);
    assert_eq!(recovered.entries, expected);
}

#[test]
fn compaction_removes_old_segments_and_uses_some_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = RealDisk::new(directory.path());
    let (mut wal, _) = reopen(&mut disk, 4096);
    for index in 1..=300 {
        write(&mut wal, &mut disk, &persist(1, vec![entry(1, index, 200)]));
        if index % 50 == 0 {
            let last = EntryId { term: Term(1), index: Index(index - 10) };
            let membership = Membership::new([NodeId(1), NodeId(2)]);
            let snapshot = Some(SnapshotMeta { last, membership });
            write(&mut wal, &mut disk, &Persist { hard_state: None, snapshot, entries: Vec::new() });
            wal.compact(Index(index - 10), &mut disk);
            wal.finish(&mut disk).unwrap();
        }
    }
    assert!(wal.segments() <= 5, "{} segments", wal.segments());
    let names = file_names(&mut disk);
    let spares = names.iter().filter(|name| name.starts_with("spare")).count();
    assert!(spares <= config(4096).spare_segments_max, "{names:?}");
    let (_, recovered) = reopen(&mut disk, 4096);
    assert_eq!(recovered.snapshot.unwrap().last.index, Index(290));
    assert!(recovered.before_first > Index(0) && recovered.before_first <= Index(290));
    let first = recovered.before_first.0 + 1;
    assert_eq!(recovered.entries, (first..=300).map(|index| entry(1, index, 200)).collect::<Vec<_>>());
}

#[test]
fn a_log_under_load_goes_on_in_the_segments_that_its_snapshots_set_free() {
    const ENTRIES_PER_SNAPSHOT: u64 = 200;
    let directory = tempfile::tempdir().unwrap();
    let mut disk = RealDisk::new(directory.path());
    let (mut wal, _) = reopen(&mut disk, 4096);
    let (mut zero_filled, mut files_max) = (Vec::new(), 0);
    for round in 0..6 {
        zero_filled.push(0);
        for first in (round * ENTRIES_PER_SNAPSHOT + 1..=(round + 1) * ENTRIES_PER_SNAPSHOT).step_by(5) {
            let batch = (first..first + 5).map(|index| entry(1, index, 200)).collect();
            write(&mut wal, &mut disk, &persist(1, batch));
            if let Some(plan) = wal.wants_spare() {
                zero_filled[round as usize] += 1;
                wal.add_spare(plan.prepare(&mut disk).unwrap().expect("there is room"));
            }
        }
        if round < 3 {
            files_max = file_names(&mut disk).len();
        }
        wal.compact(Index(round * ENTRIES_PER_SNAPSHOT), &mut disk);
        wal.finish(&mut disk).unwrap();
    }
    assert!(wal.segments() > config(4096).spare_segments_max, "{} segments", wal.segments());
    assert!(zero_filled[0] > 1 && zero_filled[1] > 1, "{zero_filled:?}");
    // One more now and then, where a snapshot does not end with a segment.
    assert!(zero_filled[2..].iter().sum::<usize>() <= 3, "{zero_filled:?}");
    let files = file_names(&mut disk).len();
    assert!(files <= files_max, "{files} files, of which there were {files_max} before");
}

#[test]
fn a_marker_that_is_not_in_the_log_drops_all_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = RealDisk::new(directory.path());
    let (mut wal, _) = reopen(&mut disk, 4096);
    write(&mut wal, &mut disk, &persist(1, (1..=10).map(|index| entry(1, index, 20)).collect()));
    let meta = |term, index| SnapshotMeta {
        last: EntryId { term: Term(term), index: Index(index) },
        membership: Membership::new([NodeId(1)]),
    };
    let marker = |meta| Persist { hard_state: None, snapshot: Some(meta), entries: Vec::new() };
    write(&mut wal, &mut disk, &marker(meta(1, 4)));
    let (_, recovered) = reopen(&mut disk, 4096);
    assert_eq!(recovered.entries.len(), 10, "the marker's entry is in the log: what follows stays");
    write(&mut wal, &mut disk, &marker(meta(2, 7)));
    write(&mut wal, &mut disk, &persist(2, vec![entry(2, 8, 5)]));
    let (_, recovered) = reopen(&mut disk, 4096);
    assert_eq!((recovered.before_first, recovered.entries), (Index(7), vec![entry(2, 8, 5)]));
}

#[test]
fn a_spare_made_ahead_becomes_the_next_segment() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = RealDisk::new(directory.path());
    let (mut wal, _) = reopen(&mut disk, 4096);
    assert!(wal.wants_spare().is_none(), "the segment is empty");
    write(&mut wal, &mut disk, &persist(1, (1..=10).map(|index| entry(1, index, 200)).collect()));
    let plan = wal.wants_spare().expect("there is no spare, and the segment is half full");
    assert!(wal.wants_spare().is_none(), "one is coming");
    wal.add_spare(plan.prepare(&mut RealDisk::new(directory.path())).unwrap().expect("there is room"));
    assert!(wal.wants_spare().is_none(), "one is there");
    write(&mut wal, &mut disk, &persist(1, (11..=16).map(|index| entry(1, index, 200)).collect()));
    write(&mut wal, &mut disk, &persist(1, (17..=26).map(|index| entry(1, index, 200)).collect()));
    assert_eq!(wal.segments(), 2);
    assert!(!file_names(&mut disk).iter().any(|name| name.starts_with("spare")));
    assert!(wal.wants_spare().is_some());
    let (_, recovered) = reopen(&mut disk, 4096);
    assert_eq!(recovered.entries.len(), 26);
}

#[test]
fn a_log_of_another_directory_or_version_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = RealDisk::new(directory.path());
    reopen(&mut disk, 4096);
    let other = WalConfig { segment_bytes: 4096, ..WalConfig::new(SEED + 1) };
    let file = FileName::new("wal-0000000000000001.log");
    assert_eq!(Wal::open(&mut disk, other).unwrap_err(), WalError::Foreign { file: file.clone() });
    // With the version alone changed it is a damaged header of ours; another version has another checksum too.
    for (offset, is_other_version) in [(8, false), (60, true)] {
        disk.run(DiskOp::Write { file: file.clone(), offset, bytes: vec![9], sync: true }).unwrap();
        let refused = Wal::open(&mut disk, config(4096)).unwrap_err();
        let is_named =
            refused == WalError::UnknownVersion { file: file.clone(), version: 9, known: WAL_FORMAT_VERSION };
        assert_eq!(is_named, is_other_version, "{refused}");
    }
}

#[test]
fn a_first_start_that_finds_no_room_leaves_no_file() {
    const FILES: &str = "RAFT_TEST_FULL_DIRECTORY";
    if let Some(directory) = env::var_os(FILES) {
        let mut disk = RealDisk::new(Path::new(&directory));
        let refused = Wal::open(&mut disk, WalConfig::new(SEED)).unwrap_err();
        assert!(matches!(refused, WalError::Disk(_)), "{refused}");
        return;
    }
    // The same test again, in a process whose files cannot grow to a segment.
    let directory = tempfile::tempdir().unwrap();
    let script = "trap '' XFSZ && ulimit -f 1024 && exec \"$0\" --exact \"$1\"";
    let child = Command::new("sh")
        .args(["-c", script])
        .arg(env::current_exe().unwrap())
        .arg("a_first_start_that_finds_no_room_leaves_no_file")
        .env(FILES, directory.path())
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
    let left = file_names(&mut RealDisk::new(directory.path()));
    assert!(left.is_empty(), "{left:?}");
}
