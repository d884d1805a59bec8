//! Snapshot files and their store: written, read back, sent and received in any pieces, kept, pinned, refused.

#![allow(clippy::unwrap_used, reason = "test code")]

use proptest::prelude::*;
use raft::storage::disk::{DiskOp, list_files};
use raft::storage::memory::Unsynced;
use raft::storage::snapshot_file::{SNAPSHOT_FORMAT_VERSION, snapshot_name};
use raft::storage::{
    Disk, FileName, MemoryDisk, MemoryFiles, PinnedSnapshot, RealDisk, SnapshotError, SnapshotStore,
};
use raft_core::{EntryId, Index, Membership, NodeId, SnapshotMeta, Term};

fn meta(index: u64) -> SnapshotMeta {
    let voters = vec![NodeId(1), NodeId(2), NodeId(3)];
    SnapshotMeta { last: EntryId { term: Term(3), index: Index(index) }, membership: Membership::new(voters) }
}

fn content(index: u64, bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|place| (place * 31 + place / 251 + index) as u8).collect()
}

fn write(store: &mut SnapshotStore, disk: &mut dyn Disk, index: u64, bytes: usize) {
    let mut writer = store.begin_write(disk, meta(index)).unwrap();
    for piece in content(index, bytes).chunks(77_777) {
        writer.write(disk, piece).unwrap();
    }
    store.finish_write(disk, writer).unwrap();
}

fn read(snapshot: &PinnedSnapshot, disk: &mut dyn Disk) -> Vec<u8> {
    let mut reader = snapshot.reader(disk).unwrap();
    let mut content = Vec::new();
    while let Some(piece) = reader.next_piece(disk).unwrap() {
        content.extend_from_slice(&piece);
    }
    content
}

/// Sends the newest snapshot of one directory to another in pieces of `piece_bytes`.
fn transfer(
    from: &SnapshotStore,
    from_disk: &mut dyn Disk,
    to: &mut SnapshotStore,
    to_disk: &mut dyn Disk,
    piece_bytes: usize,
) -> Result<SnapshotMeta, SnapshotError> {
    let snapshot = from.pin_newest().unwrap();
    let mut offset = to.begin_receive(to_disk, snapshot.meta(), snapshot.bytes()).unwrap();
    loop {
        let piece = snapshot.read(from_disk, offset, piece_bytes).unwrap();
        if piece.is_empty() {
            return to.finish_receive(to_disk);
        }
        offset = to.receive_chunk(to_disk, offset, &piece, |_| ())?;
    }
}

fn names(disk: &mut dyn Disk) -> Vec<String> {
    list_files(disk).unwrap().into_iter().map(|entry| entry.file.to_string()).collect()
}

#[test]
fn a_snapshot_of_any_size_reads_back_after_a_restart() {
    for bytes in [0, 1, 1_048_575, 1_048_576, 1_048_577, 3_000_000] {
        let directory = tempfile::tempdir().unwrap();
        let mut disk = RealDisk::new(directory.path());
        let mut store = SnapshotStore::open(&mut disk).unwrap();
        assert!(store.newest().is_none() && store.newest_bytes() == 0);
        write(&mut store, &mut disk, 9, bytes);
        let store = SnapshotStore::open(&mut disk).unwrap();
        assert_eq!(store.newest(), Some(&meta(9)));
        assert!(store.newest_bytes() > bytes as u64);
        assert!(read(&store.pin_newest().unwrap(), &mut disk) == content(9, bytes), "{bytes} bytes");
    }
}

#[test]
fn the_two_newest_are_kept_and_pinned_ones_too() {
    let mut disk = MemoryDisk::new(&MemoryFiles::new());
    let mut store = SnapshotStore::open(&mut disk).unwrap();
    write(&mut store, &mut disk, 10, 100);
    assert_eq!(store.log_needed_after(), None, "one snapshot alone: the whole log is needed beside it");
    let pin = store.pin(meta(10).last).unwrap();
    for index in [20, 30, 40] {
        write(&mut store, &mut disk, index, 100);
    }
    let kept: Vec<u64> = store.list().map(|meta| meta.last.index.0).collect();
    assert_eq!(kept, [10, 30, 40]);
    assert_eq!(store.log_needed_after(), Some(Index(10)));
    assert_eq!(read(&pin, &mut disk), content(10, 100));
    drop(pin);
    store.remove_surplus(&mut disk).unwrap();
    assert_eq!(store.log_needed_after(), Some(Index(30)));
    assert_eq!(names(&mut disk).len(), 2);
    assert!(store.pin(meta(10).last).is_none());
}

#[test]
fn an_unfinished_snapshot_leaves_nothing_behind() {
    let files = MemoryFiles::new();
    let mut disk = MemoryDisk::new(&files);
    let mut store = SnapshotStore::open(&mut disk).unwrap();
    let writer = store.begin_write(&mut disk, meta(1)).unwrap();
    store.abort_write(&mut disk, writer).unwrap();
    assert!(names(&mut disk).is_empty());
    // Dropped without a word, and received in part: a restart tidies up.
    drop(store.begin_write(&mut disk, meta(2)).unwrap());
    store.begin_receive(&mut disk, &meta(3), 1_000).unwrap();
    assert_eq!(names(&mut disk).len(), 2);
    files.lose_power(Unsynced::Kept, 0);
    let mut disk = MemoryDisk::new(&files);
    assert!(SnapshotStore::open(&mut disk).unwrap().newest().is_none());
    assert!(names(&mut disk).is_empty());
}

#[test]
fn a_damaged_snapshot_goes_when_there_is_a_new_one() {
    let files = MemoryFiles::new();
    let mut disk = MemoryDisk::new(&files);
    let mut store = SnapshotStore::open(&mut disk).unwrap();
    write(&mut store, &mut disk, 5, 1_000);
    write(&mut store, &mut disk, 9, 1_000);
    assert!(files.flip_bit(&snapshot_name(meta(9).last), 500, 0));
    let mut store = SnapshotStore::open(&mut disk).unwrap();
    assert_eq!((store.damaged().len(), names(&mut disk).len()), (1, 2));
    write(&mut store, &mut disk, 7, 1_000);
    assert_eq!(names(&mut disk), [5, 7].map(|index| snapshot_name(meta(index).last).to_string()));
    assert!(store.damaged().is_empty());
}

#[test]
fn a_broken_off_transfer_goes_on_where_it_was() {
    let (mut from_disk, mut to_disk) =
        (MemoryDisk::new(&MemoryFiles::new()), MemoryDisk::new(&MemoryFiles::new()));
    let mut from = SnapshotStore::open(&mut from_disk).unwrap();
    let mut to = SnapshotStore::open(&mut to_disk).unwrap();
    write(&mut from, &mut from_disk, 5, 10_000);
    let snapshot = from.pin_newest().unwrap();
    assert_eq!(to.begin_receive(&mut to_disk, &meta(5), snapshot.bytes()).unwrap(), 0);
    let piece = snapshot.read(&mut from_disk, 0, 4_000).unwrap();
    assert_eq!(to.receive_chunk(&mut to_disk, 0, &piece, |_| ()).unwrap(), 4_000);
    // Twice the same, and one from beyond a gap: not taken, and the answer says what is missing.
    assert_eq!(to.receive_chunk(&mut to_disk, 0, &piece, |_| ()).unwrap(), 4_000);
    assert_eq!(to.receive_chunk(&mut to_disk, 9_000, &piece, |_| ()).unwrap(), 4_000);
    assert_eq!(to.receiving(), Some((&meta(5), 4_000)));
    assert_eq!(to.begin_receive(&mut to_disk, &meta(5), snapshot.bytes()).unwrap(), 4_000);
    assert_eq!(transfer(&from, &mut from_disk, &mut to, &mut to_disk, 3_000), Ok(meta(5)));
    assert_eq!(read(&to.pin_newest().unwrap(), &mut to_disk), content(5, 10_000));
    assert!(to.receiving().is_none());
}

#[test]
fn a_newer_snapshot_replaces_the_one_being_received() {
    let mut disk = MemoryDisk::new(&MemoryFiles::new());
    let mut store = SnapshotStore::open(&mut disk).unwrap();
    store.begin_receive(&mut disk, &meta(5), 1_000).unwrap();
    store.receive_chunk(&mut disk, 0, b"half", |_| ()).unwrap();
    assert_eq!(store.begin_receive(&mut disk, &meta(6), 1_000).unwrap(), 0);
    assert_eq!(names(&mut disk).len(), 1);
    store.abort_receive(&mut disk).unwrap();
    assert!(names(&mut disk).is_empty() && store.receiving().is_none());
}

#[test]
fn what_is_not_the_announced_snapshot_is_refused_and_not_kept() {
    let mut from_disk = MemoryDisk::new(&MemoryFiles::new());
    let mut from = SnapshotStore::open(&mut from_disk).unwrap();
    write(&mut from, &mut from_disk, 5, 500);
    let snapshot = from.pin_newest().unwrap();
    let sound = snapshot.read(&mut from_disk, 0, usize::MAX).unwrap();
    let flipped: Vec<u8> =
        sound.iter().enumerate().map(|(place, byte)| byte ^ u8::from(place == 300)).collect();
    let total = sound.len() as u64;
    let cases: [(&str, u64, u64, Vec<u8>); 4] = [
        ("another index", 6, total, sound.to_vec()),
        ("cut off", 5, total, sound[..sound.len() - 1].to_vec()),
        ("damaged", 5, total, flipped),
        ("announced shorter than it is", 5, total - 1, sound.to_vec()),
    ];
    for (case, index, total, bytes) in cases {
        let mut disk = MemoryDisk::new(&MemoryFiles::new());
        let mut store = SnapshotStore::open(&mut disk).unwrap();
        store.begin_receive(&mut disk, &meta(index), total).unwrap();
        let received = store.receive_chunk(&mut disk, 0, &bytes, |_| ());
        let refused = received.and_then(|_| store.finish_receive(&mut disk)).unwrap_err();
        assert!(
            matches!(refused, SnapshotError::Rejected(_) | SnapshotError::Damaged { .. }),
            "{case}: {refused}"
        );
        assert!(names(&mut disk).is_empty() && store.newest().is_none(), "{case}");
        assert!(matches!(store.finish_receive(&mut disk), Err(SnapshotError::Rejected(_))));
    }
}

#[test]
fn what_is_received_is_shown_on_the_way_and_damage_is_refused_before_the_end() {
    let mut from_disk = MemoryDisk::new(&MemoryFiles::new());
    let mut from = SnapshotStore::open(&mut from_disk).unwrap();
    write(&mut from, &mut from_disk, 5, 2_500_000);
    let sound = from.pin_newest().unwrap().read(&mut from_disk, 0, usize::MAX).unwrap();
    let first_header = sound.len() as u64 - 2_500_000 - 3 * 8 - 24;
    // Where a bit is flipped, and how many chunks are taken then.
    let cases = [
        (None, 9),
        (Some(10), 0),
        (Some(900_000), 3),
        (Some(first_header as usize + 8 + (1 << 20) + 3), 3),
        (Some(sound.len() - 1), 8),
    ];
    for (flipped, taken) in cases {
        let mut bytes = sound.to_vec();
        if let Some(place) = flipped {
            bytes[place] ^= 4;
        }
        let mut disk = MemoryDisk::new(&MemoryFiles::new());
        let mut store = SnapshotStore::open(&mut disk).unwrap();
        store.begin_receive(&mut disk, &meta(5), sound.len() as u64).unwrap();
        let (mut shown, mut offset, mut chunks, mut refused) = (Vec::new(), 0, 0, None);
        for chunk in bytes.chunks(300_000) {
            match store.receive_chunk(&mut disk, offset, chunk, |content| shown.extend_from_slice(content)) {
                Ok(missing) => offset = missing,
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
            chunks += 1;
            let piece_headers = 8 * (1 + offset / (1 << 20));
            assert!(shown.len() as u64 + first_header + piece_headers + 24 >= offset, "nothing is held back");
        }
        assert_eq!(chunks, taken, "{flipped:?}");
        match flipped {
            None => {
                store.finish_receive(&mut disk).unwrap();
                assert_eq!(shown, content(5, 2_500_000));
            }
            Some(place) => {
                assert!(matches!(refused, Some(SnapshotError::Damaged { .. })), "{place}: {refused:?}");
                assert!(names(&mut disk).is_empty() && store.receiving().is_none());
            }
        }
    }
}

#[test]
fn a_snapshot_of_another_version_is_refused_by_name() {
    let mut disk = MemoryDisk::new(&MemoryFiles::new());
    let mut store = SnapshotStore::open(&mut disk).unwrap();
    write(&mut store, &mut disk, 5, 500);
    let file = FileName::new("snapshot-0000000000000005-0000000000000003.snap");
    disk.run(DiskOp::Write { file: file.clone(), offset: 8, bytes: vec![7], sync: true }).unwrap();
    // With the version alone changed it is a damaged header of ours; another version has another checksum too.
    let damaged = SnapshotStore::open(&mut disk).unwrap();
    assert!(
        matches!(damaged.damaged(), [SnapshotError::Damaged { offset: 0, .. }]),
        "{:?}",
        damaged.damaged()
    );
    disk.run(DiskOp::Write { file: file.clone(), offset: 16, bytes: vec![7], sync: true }).unwrap();
    let refused = SnapshotStore::open(&mut disk).unwrap_err();
    assert_eq!(refused, SnapshotError::UnknownVersion { file, version: 7 });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_pieces_give_the_same_snapshot(bytes in 0usize..60_000, piece_bytes in 1usize..20_000) {
        let mut from_disk = MemoryDisk::new(&MemoryFiles::new());
        let mut to_disk = MemoryDisk::new(&MemoryFiles::new());
        let mut from = SnapshotStore::open(&mut from_disk).unwrap();
        let mut to = SnapshotStore::open(&mut to_disk).unwrap();
        write(&mut from, &mut from_disk, 8, bytes);
        prop_assert_eq!(transfer(&from, &mut from_disk, &mut to, &mut to_disk, piece_bytes.max(bytes / 50)), Ok(meta(8)));
        prop_assert_eq!(read(&to.pin_newest().unwrap(), &mut to_disk), content(8, bytes));
    }

    #[test]
    fn any_bytes_under_a_snapshots_name_are_passed_over(bytes in proptest::collection::vec(any::<u8>(), 0..300), sound_start in any::<bool>()) {
        let mut disk = MemoryDisk::new(&MemoryFiles::new());
        let file = FileName::new("snapshot-0000000000000005-0000000000000003.snap");
        let bytes = if sound_start { [b"RKVSNAP\n".to_vec(), SNAPSHOT_FORMAT_VERSION.to_le_bytes().to_vec(), bytes].concat() } else { bytes };
        disk.run(DiskOp::Create { file: file.clone(), zero_filled_bytes: 0 }).unwrap();
        disk.run(DiskOp::Write { file, offset: 0, bytes, sync: true }).unwrap();
        let store = SnapshotStore::open(&mut disk).unwrap();
        prop_assert!(store.newest().is_none() && store.damaged().len() == 1);
    }
}
