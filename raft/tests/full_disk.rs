//! A disk that fills up: what the log promises to have room for it has, whatever the sizes; nothing but the reserve is
//! given up, and it is made whole again when there is room.

#![allow(clippy::unwrap_used, reason = "test code")]

use bytes::Bytes;
use raft::core::{Entry, HardState, Index, NodeId, Payload, Persist, Term};
use raft::storage::disk::{Disk, DiskError, DiskOp, FileName};
use raft::storage::memory::{MemoryDisk, MemoryFiles, Unsynced};
use raft::storage::snapshot_store::SnapshotStore;
use raft::storage::wal::{Wal, WalConfig};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

const SEGMENT_BYTES: u64 = 8 << 10;

fn config() -> WalConfig {
    WalConfig { segment_bytes: SEGMENT_BYTES, ..WalConfig::new(3) }
}

fn batch(index: u64, bytes: usize) -> Persist {
    let payload = Payload::Command(Bytes::from(vec![index as u8; bytes]));
    let entries = vec![Entry { term: Term(1), index: Index(index), payload }];
    Persist { hard_state: None, snapshot: None, entries }
}

fn used_bytes(files: &MemoryFiles) -> u64 {
    files.contents().iter().map(|(_, bytes)| bytes.len() as u64).sum()
}

/// Asks for files until there are enough or the disk says no.
fn fill_reserve(wal: &mut Wal, disk: &mut MemoryDisk) {
    while wal.wants_reserve() {
        wal.make_reserve(disk);
        wal.finish(disk).unwrap();
    }
}

/// A log with its reserve on a disk that has no byte more.
fn on_a_full_disk(files: &MemoryFiles) -> (Wal, MemoryDisk) {
    let mut disk = MemoryDisk::new(files);
    let (mut wal, _) = Wal::open(&mut disk, config()).unwrap();
    fill_reserve(&mut wal, &mut disk);
    files.set_capacity(used_bytes(files));
    (wal, disk)
}

#[test]
fn everything_within_the_room_is_written_on_a_full_disk_whatever_its_size() {
    for seed in 0..200 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let files = MemoryFiles::new();
        let (mut wal, mut disk) = on_a_full_disk(&files);
        let largest = *[50, 700, wal.batch_bytes_max() as usize / 2 - 100].get(seed as usize % 3).unwrap();
        let (mut left, mut index) = (wal.room_bytes(), 0);
        loop {
            let persist = batch(index + 1, random.random_range(0..=largest));
            if persist.charge_bytes() > left {
                break;
            }
            left -= persist.charge_bytes();
            index += 1;
            wal.append(&persist);
            wal.submit(&mut disk).unwrap();
            wal.finish(&mut disk).unwrap_or_else(|error| panic!("seed {seed}, entry {index}: {error}"));
            assert!(wal.room_bytes() >= left, "seed {seed}: the room shrinks by less than what is charged");
            if random.random() {
                wal.seal(&mut disk);
                wal.finish(&mut disk).unwrap();
            }
        }
        assert!(index > 0, "seed {seed}");
        // What is never refused still finds its place.
        for term in 2..12 {
            let hard_state = Some(HardState { term: Term(term), vote: Some(NodeId(1)) });
            wal.append(&Persist { hard_state, snapshot: None, entries: Vec::new() });
            wal.submit(&mut disk).unwrap();
            wal.finish(&mut disk).unwrap_or_else(|error| panic!("seed {seed}, term {term}: {error}"));
        }
        files.lose_power(Unsynced::Lost, seed);
        let mut disk = MemoryDisk::new(&files);
        let (_, recovered) = Wal::open(&mut disk, config()).unwrap();
        assert_eq!(recovered.entries.len() as u64, index, "seed {seed}");
        assert_eq!(recovered.hard_state.term, Term(11));
    }
}

#[test]
fn a_full_disk_is_noticed_and_left_alone_and_asked_again() {
    let files = MemoryFiles::new();
    let mut disk = MemoryDisk::new(&files);
    let (mut wal, _) = Wal::open(&mut disk, config()).unwrap();
    files.set_capacity(used_bytes(&files) + SEGMENT_BYTES + 10);
    fill_reserve(&mut wal, &mut disk);
    assert!(wal.is_short_of_room() && !wal.wants_reserve());
    assert_eq!(used_bytes(&files), 2 * SEGMENT_BYTES, "nothing is left of what found no room");
    wal.make_reserve(&mut disk);
    wal.finish(&mut disk).unwrap();
    assert!(wal.is_short_of_room());
    let before = wal.room_bytes();
    files.set_capacity(u64::MAX);
    wal.make_reserve(&mut disk);
    wal.finish(&mut disk).unwrap();
    fill_reserve(&mut wal, &mut disk);
    assert!(!wal.is_short_of_room());
    assert!(wal.room_bytes() >= before + 3 * wal.batch_bytes_max());
    assert!(wal.room_bytes() >= wal.whole_room_bytes());
}

#[test]
fn letting_the_log_go_makes_room_on_a_full_disk() {
    let files = MemoryFiles::new();
    let (mut wal, mut disk) = on_a_full_disk(&files);
    for index in 1..=20 {
        wal.append(&batch(index, 1000));
        wal.submit(&mut disk).unwrap();
        wal.finish(&mut disk).unwrap();
    }
    let before = wal.room_bytes();
    wal.compact(Index(20), &mut disk);
    wal.finish(&mut disk).unwrap();
    assert!(wal.room_bytes() > before + SEGMENT_BYTES, "segments become spares");
}

#[test]
fn a_spare_that_finds_no_room_leaves_nothing_and_breaks_nothing() {
    let files = MemoryFiles::new();
    let (mut wal, mut disk) = on_a_full_disk(&files);
    wal.append(&batch(1, 5000));
    wal.submit(&mut disk).unwrap();
    wal.finish(&mut disk).unwrap();
    let plan = wal.wants_spare().expect("the segment is half full");
    let used = used_bytes(&files);
    files.set_capacity(used + 1000);
    let mut other = MemoryDisk::new(&files);
    assert!(plan.prepare(&mut other).unwrap().is_none());
    assert_eq!(used_bytes(&files), used);
    wal.no_room_for_spare();
    other.run(DiskOp::SyncDirectory).expect("the disk was not given up");
    assert!(wal.wants_spare().is_none(), "the disk is not filled again and again");
    files.set_capacity(u64::MAX);
    wal.append(&batch(2, 5000));
    wal.submit(&mut disk).unwrap();
    wal.finish(&mut disk).unwrap();
    assert!(wal.wants_spare().is_some(), "the next segment asks again");
}

#[test]
fn a_received_snapshot_that_finds_no_room_leaves_nothing_and_may_come_again() {
    let meta = raft::core::SnapshotMeta {
        last: raft::core::EntryId { term: Term(1), index: Index(5) },
        membership: raft::core::Membership::new([NodeId(1)]),
    };
    let sent = {
        let files = MemoryFiles::new();
        let mut disk = MemoryDisk::new(&files);
        let mut store = SnapshotStore::open(&mut disk).unwrap();
        let mut writer = store.begin_write(&mut disk, meta.clone()).unwrap();
        writer.write(&mut disk, &[9; 5000]).unwrap();
        store.finish_write(&mut disk, writer).unwrap();
        files.contents().pop().unwrap().1
    };
    let files = MemoryFiles::new();
    let mut disk = MemoryDisk::new(&files);
    let mut store = SnapshotStore::open(&mut disk).unwrap();
    for has_room in [false, true] {
        files.set_capacity(if has_room { u64::MAX } else { 3000 });
        assert_eq!(store.begin_receive(&mut disk, &meta, sent.len() as u64).unwrap(), 0);
        let received = store.receive_chunk(&mut disk, 0, &sent, |_| ());
        assert_eq!(received.is_ok(), has_room, "{received:?}");
        if !has_room {
            assert!(files.contents().is_empty(), "nothing is left");
        }
    }
    assert_eq!(store.finish_receive(&mut disk).unwrap(), meta);
}

#[test]
fn a_snapshot_that_finds_no_room_at_any_point_leaves_nothing() {
    let meta = raft::core::SnapshotMeta {
        last: raft::core::EntryId { term: Term(1), index: Index(5) },
        membership: raft::core::Membership::new([NodeId(1)]),
    };
    let mut outcomes = [0, 0];
    for capacity in (0..2_200_000).step_by(70_001) {
        let files = MemoryFiles::new();
        let mut disk = MemoryDisk::new(&files);
        let mut store = SnapshotStore::open(&mut disk).unwrap();
        files.set_capacity(capacity);
        let content = vec![3; 2_000_000];
        let written = store.begin_write(&mut disk, meta.clone()).and_then(|mut writer| {
            match writer.write(&mut disk, &content) {
                Ok(()) => store.finish_write(&mut disk, writer).map(drop),
                Err(error) => store.abort_write(&mut disk, writer).and(Err(error)),
            }
        });
        outcomes[usize::from(written.is_ok())] += 1;
        if let Err(error) = written {
            assert!(matches!(error, DiskError::Full { .. }), "{error}");
            assert!(files.contents().is_empty(), "with {capacity} bytes: {:?}", files.contents()[0].0);
        }
        let file = FileName::new("anything");
        disk.run(DiskOp::Create { file, zero_filled_bytes: 0 }).expect("the disk was not given up");
    }
    assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
}
