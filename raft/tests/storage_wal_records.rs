//! Records and segments under random input: any log comes back as it was, any prefix of a segment reads as a prefix of
//! its records, and no bytes whatever make a reader panic.

#![allow(clippy::unwrap_used, reason = "test code")]

use bytes::Bytes;
use proptest::prelude::*;
use raft::storage::disk::{Disk, DiskOp, read_file};
use raft::storage::wal::{
    HeaderRead, LogBuilder, Record, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentReader, Wal, WalConfig,
    segment_name,
};
use raft::storage::{MemoryDisk, MemoryFiles};
use raft_core::{Entry, EntryId, HardState, Index, Membership, NodeId, Payload, Persist, SnapshotMeta, Term};

const SEED: u64 = 3;

/// What a dice throw becomes; indexes and terms are made to fit when it is played.
#[derive(Debug, Clone)]
enum Throw {
    Append(Vec<usize>),
    Overwrite(u64),
    HardState(Option<u64>),
    Marker { beyond: bool },
    Submit,
    Reopen,
}

fn throw() -> impl Strategy<Value = Throw> {
    prop_oneof![
        4 => proptest::collection::vec(0usize..400, 0..6).prop_map(Throw::Append),
        1 => (1u64..6).prop_map(Throw::Overwrite),
        1 => proptest::option::of(any::<u64>()).prop_map(Throw::HardState),
        1 => any::<bool>().prop_map(|beyond| Throw::Marker { beyond }),
        3 => Just(Throw::Submit),
        1 => Just(Throw::Reopen),
    ]
}

fn open(files: &MemoryFiles, segment_bytes: u64) -> (Wal, LogBuilder) {
    let config = WalConfig { segment_bytes, read_window_bytes: 100, ..WalConfig::new(SEED) };
    let (wal, recovered) = Wal::open(&mut MemoryDisk::new(files), config).unwrap();
    let log = LogBuilder {
        hard_state: recovered.hard_state,
        snapshot: recovered.snapshot,
        entries: recovered.entries,
        before_first: recovered.before_first,
    };
    (wal, log)
}

fn play(throw: &Throw, log: &LogBuilder) -> Persist {
    let (term, next) = (log.hard_state.term.0, log.last_index().next().0);
    let mut persist = Persist { hard_state: None, snapshot: None, entries: Vec::new() };
    match throw {
        Throw::Append(sizes) => {
            persist.entries = (next..).zip(sizes).map(|(index, bytes)| entry(term, index, *bytes)).collect();
        }
        Throw::Overwrite(back) => {
            // What a snapshot covers is committed, and never replaced.
            let covered =
                log.snapshot.as_ref().map_or(Index::ZERO, |meta| meta.last.index).max(log.before_first);
            let first = next.saturating_sub(*back).max(covered.0 + 1);
            persist.hard_state = Some(HardState { term: Term(term + 1), vote: None });
            persist.entries = vec![entry(term + 1, first, 9)];
        }
        Throw::HardState(vote) => {
            persist.hard_state = Some(HardState { term: Term(term + 1), vote: vote.map(NodeId) });
        }
        Throw::Marker { beyond } => {
            let last = match (log.entries.last(), beyond) {
                (Some(entry), false) => entry.id(),
                _ => EntryId { term: Term(term), index: Index(next + 3) },
            };
            let membership = Membership::new([NodeId(1), NodeId(u64::MAX)]);
            persist.snapshot = Some(SnapshotMeta { last, membership });
        }
        Throw::Submit | Throw::Reopen => {}
    }
    persist
}

fn entry(term: u64, index: u64, command_bytes: usize) -> Entry {
    let payload = match command_bytes {
        0 => Payload::Noop,
        1 => Payload::Command(Bytes::new()),
        _ => Payload::Command(Bytes::from(vec![index as u8; command_bytes])),
    };
    Entry { term: Term(term), index: Index(index), payload }
}

fn records(persist: &Persist) -> impl Iterator<Item = Record> {
    let hard_state = persist.hard_state.map(Record::HardState).into_iter();
    let snapshot = persist.snapshot.clone().map(Record::Snapshot).into_iter();
    hard_state.chain(snapshot).chain(persist.entries.clone().into_iter().map(Record::Entry))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_log_comes_back_as_it_was(
        throws in proptest::collection::vec(throw(), 1..60),
        segment_bytes in 1_024u64..6_000,
    ) {
        let files = MemoryFiles::new();
        let (mut wal, mut model) = open(&files, segment_bytes);
        let mut disk = MemoryDisk::new(&files);
        for throw in throws.iter().chain([&Throw::Submit, &Throw::Reopen]) {
            let persist = play(throw, &model);
            wal.append(&persist);
            records(&persist).for_each(|record| model.apply(record).unwrap());
            if matches!(throw, Throw::Submit | Throw::Reopen) {
                wal.submit(&mut disk);
                wal.finish(&mut disk).unwrap();
            }
            if matches!(throw, Throw::Reopen) {
                let (reopened, log) = open(&files, segment_bytes);
                prop_assert_eq!(&log, &model);
                wal = reopened;
            }
        }
    }

    #[test]
    fn any_prefix_of_a_segment_reads_as_a_prefix_of_its_records(
        sizes in proptest::collection::vec(0usize..200, 1..12),
        cut in any::<proptest::sample::Index>(),
        garbage in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let files = MemoryFiles::new();
        let (mut wal, _) = open(&files, 8_192);
        let mut disk = MemoryDisk::new(&files);
        for (index, bytes) in (1..).zip(&sizes) {
            wal.append(&Persist { hard_state: None, snapshot: None, entries: vec![entry(0, index, *bytes)] });
            wal.submit(&mut disk).unwrap();
            wal.finish(&mut disk).unwrap();
        }
        let whole = read_file(&mut disk, &segment_name(1), 0, 8_192).unwrap();
        let all = read_all(&whole);
        let mut cut_off = whole[..cut.index(whole.len())].to_vec();
        cut_off.extend(garbage);
        let some = read_all(&cut_off);
        prop_assert_eq!(&some[..], &all[..some.len()]);
        prop_assert!(all.len() > sizes.len());
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512), flip in 0usize..64) {
        read_all(&bytes);
        prop_assert!(!matches!(SegmentHeader::decode(&bytes), HeaderRead::Header(_)));
        let header = SegmentHeader {
            seed: SEED,
            sequence: 1,
            previous_end: 4,
            previous_chain: 5,
            last_index_before: Index(6),
        };
        let mut encoded = header.encode();
        prop_assert_eq!(SegmentHeader::decode(&encoded), HeaderRead::Header(header));
        encoded[flip] ^= 0x10;
        prop_assert!(!matches!(SegmentHeader::decode(&encoded), HeaderRead::Header(_)));
        prop_assert_eq!(SegmentHeader::decode(&encoded[..SEGMENT_HEADER_BYTES - 1]), HeaderRead::Unreadable);
    }
}

fn read_all(segment: &[u8]) -> Vec<Record> {
    let mut reader = SegmentReader::new(segment, SEED, 1);
    std::iter::from_fn(|| reader.next_record().ok()).collect()
}

#[test]
fn records_of_another_number_or_directory_never_parse() {
    let files = MemoryFiles::new();
    let (mut wal, _) = open(&files, 4_096);
    let mut disk = MemoryDisk::new(&files);
    wal.append(&Persist { hard_state: None, snapshot: None, entries: vec![entry(0, 1, 100)] });
    wal.submit(&mut disk).unwrap();
    wal.finish(&mut disk).unwrap();
    let segment = read_file(&mut disk, &segment_name(1), 0, 4_096).unwrap();
    assert!(SegmentReader::new(&segment, SEED, 1).next_record().is_ok());
    assert!(SegmentReader::new(&segment, SEED, 2).next_record().is_err());
    assert!(SegmentReader::new(&segment, SEED + 1, 1).next_record().is_err());
}

#[test]
fn a_record_does_not_fit_behind_any_other_batch_than_its_own() {
    // Two logs that differ in their first entry alone, and the second batch of the one behind the first of the other.
    let segments = [100, 101].map(|first_bytes| {
        let files = MemoryFiles::new();
        let (mut wal, _) = open(&files, 4_096);
        let mut disk = MemoryDisk::new(&files);
        for (index, bytes) in [(1, first_bytes), (2, 50), (3, 50)] {
            wal.append(&Persist { hard_state: None, snapshot: None, entries: vec![entry(0, index, bytes)] });
            wal.submit(&mut disk).unwrap();
            wal.finish(&mut disk).unwrap();
        }
        read_file(&mut disk, &segment_name(1), 0, 4_096).unwrap()
    });
    let ends: Vec<usize> = (0..2).map(|place| end_of_entry(&segments[place], 2)).collect();
    assert_eq!(ends[0], ends[1], "padding makes both of one size");
    let mixed = [&segments[0][..ends[0]], &segments[1][ends[0]..]].concat();
    let entries = read_all(&mixed).into_iter().filter(|record| matches!(record, Record::Entry(_))).count();
    assert_eq!(entries, 2);
}

#[test]
fn a_log_whose_segments_do_not_say_that_they_are_continued_is_read_too() {
    let files = MemoryFiles::new();
    let (mut wal, _) = open(&files, 1_024);
    let mut disk = MemoryDisk::new(&files);
    for index in 1..=20 {
        wal.append(&Persist { hard_state: None, snapshot: None, entries: vec![entry(0, index, 100)] });
        wal.submit(&mut disk).unwrap();
        wal.finish(&mut disk).unwrap();
    }
    let (wal, expected) = open(&files, 1_024);
    assert!(wal.segments() > 2 && expected.entries.len() == 20);
    for sequence in 1..wal.segments() as u64 {
        let (file, next) = (segment_name(sequence), segment_name(sequence + 1));
        let segment = read_file(&mut disk, &file, 0, 1_024).unwrap();
        let mut reader = SegmentReader::new(&segment, SEED, sequence);
        let (end, chain) = loop {
            let (end, chain) = (reader.position().offset, reader.chain());
            if let Record::Continued(place) = reader.next_record().unwrap() {
                assert_eq!(place.segment, sequence + 1);
                break (end, chain);
            }
        };
        assert!(reader.position().offset <= 1_024, "there is room to say so");
        let header = SegmentHeader::decode(&read_file(&mut disk, &next, 0, 64).unwrap());
        let HeaderRead::Header(header) = header else { panic!("{header:?}") };
        let header = SegmentHeader { previous_end: end, previous_chain: chain, ..header };
        for (file, offset, bytes) in [(file, end, vec![0; 32]), (next, 0, header.encode().to_vec())] {
            disk.run(DiskOp::Write { file, offset, bytes, sync: true }).unwrap();
        }
    }
    for _ in 0..2 {
        assert_eq!(open(&files, 1_024).1, expected);
    }
}

#[test]
fn a_record_with_a_sound_checksum_that_says_nothing_is_damage_and_never_a_torn_tail() {
    let files = MemoryFiles::new();
    let (mut wal, _) = open(&files, 4_096);
    let mut disk = MemoryDisk::new(&files);
    let unsorted = Membership { voters: vec![NodeId(2), NodeId(1)], ..Membership::default() };
    let payload = Payload::Membership(Box::new(unsorted));
    let senseless = Entry { term: Term(0), index: Index(1), payload };
    wal.append(&Persist { hard_state: None, snapshot: None, entries: vec![senseless] });
    wal.submit(&mut disk).unwrap();
    wal.finish(&mut disk).unwrap();
    // No seal follows: a batch of which a part does not read back would be cut here.
    let config = WalConfig { segment_bytes: 4_096, ..WalConfig::new(SEED) };
    let refused = Wal::open(&mut disk, config).unwrap_err();
    assert!(refused.to_string().contains("the members cannot be read"), "{refused}");
}

/// Where entry `index` ends in a segment.
fn end_of_entry(segment: &[u8], index: u64) -> usize {
    let mut reader = SegmentReader::new(segment, SEED, 1);
    loop {
        let record = reader.next_record().unwrap();
        if matches!(record, Record::Entry(entry) if entry.index == Index(index)) {
            return reader.position().offset as usize;
        }
    }
}
