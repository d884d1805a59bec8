//! Looking at segments one by one, as far as each can be read, for people.
//!
//! A segment's chain of checksums begins with its own number, so each can be walked without those before it, also when
//! one of them is damaged. The walk is the one that opens a log (`reader`); the verdict on where it ends is not given
//! here but by `scan`. Nothing is changed, and of the entries nothing is kept.

use std::ops::RangeInclusive;

use raft_core::{HardState, Index, SnapshotMeta};

use super::super::disk::{Disk, DiskError, FileEntry, FileName, list_files};
use super::reader::{ReaderStop, Walk};
use super::record::{Record, RecordFault};
use super::segment::{HeaderRead, Position, SegmentHeader, segment_sequence};
use super::segment_file::SegmentFile;

/// How many bytes of a segment are read at once; a larger record is read whole.
const WINDOW_BYTES: usize = 1024 * 1024;

/// What one segment holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentReport {
    /// Its file.
    pub file: FileName,
    /// The number in its name.
    pub sequence: u64,
    /// The size of the file.
    pub file_bytes: u64,
    /// What stands where its header should be.
    pub header: HeaderRead,
    /// How many records there are, of every kind.
    pub records: u64,
    /// How many batches they make up.
    pub batches: u64,
    /// How many of these only say that all before them is durable.
    pub seals: u64,
    /// How many entries are among the records, those that later ones replace included.
    pub entries: u64,
    /// The lowest and the highest index of these entries.
    pub indexes: Option<RangeInclusive<Index>>,
    /// The newest term and vote.
    pub hard_state: Option<HardState>,
    /// The newest snapshot marker.
    pub snapshot: Option<SnapshotMeta>,
    /// Up to where the log had been durable, by the newest batch head.
    pub synced_to: Option<Position>,
    /// Where the log goes on, if the segment says so.
    pub continued_to: Option<Position>,
    /// Whether the last record is a seal.
    pub is_sealed: bool,
    /// Where its records end, in bytes from the file's beginning.
    pub end: u64,
    /// What stands there.
    pub stop: ReaderStop,
    /// How many bytes from there to the last one that is not zero.
    pub bytes_behind: u64,
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordPlace<'a> {
    /// The segment's file.
    pub file: &'a FileName,
    /// Its first byte.
    pub offset: u64,
    /// Its size, padding included.
    pub bytes: u64,
}

/// Walks every segment of the directory in the order of their numbers and shows `visit` each record. `seed` is the
/// directory's own number; it is used only for a segment whose header cannot be read.
///
/// # Errors
/// When a file cannot be read at all. What is in it is never an error here.
pub fn inspect_segments(
    disk: &mut dyn Disk,
    seed: Option<u64>,
    visit: &mut dyn FnMut(RecordPlace<'_>, &Record),
) -> Result<Vec<SegmentReport>, DiskError> {
    let mut files: Vec<(u64, FileEntry)> = Vec::new();
    for entry in list_files(disk)? {
        if let Some(sequence) = segment_sequence(&entry.file) {
            files.push((sequence, entry));
        }
    }
    files.sort();
    files.iter().map(|(sequence, entry)| inspect_segment(disk, *sequence, entry, seed, visit)).collect()
}

fn inspect_segment(
    disk: &mut dyn Disk,
    sequence: u64,
    entry: &FileEntry,
    seed: Option<u64>,
    visit: &mut dyn FnMut(RecordPlace<'_>, &Record),
) -> Result<SegmentReport, DiskError> {
    let mut file = SegmentFile::new(disk, entry, WINDOW_BYTES);
    let header = SegmentHeader::decode(file.header()?);
    let mut report = SegmentReport::begin(sequence, entry, header);
    let seed = match header {
        HeaderRead::Header(header) => Some(header.seed),
        HeaderRead::Unreadable => seed,
        // Records of another version may be laid out in any way.
        HeaderRead::UnknownVersion(_) => None,
    };
    if let Some(seed) = seed {
        let mut walk = Walk::new(seed, sequence);
        report.stop = loop {
            let offset = walk.position().offset;
            match file.next_record(&mut walk)? {
                Ok(record) => {
                    report.count(&record);
                    let bytes = walk.position().offset - offset;
                    visit(RecordPlace { file: &entry.file, offset, bytes }, &record);
                }
                Err(RecordFault::UnknownKind(kind)) => break ReaderStop::UnknownKind(kind),
                Err(fault) => break ReaderStop::Broken(fault.reason()),
            }
        };
        report.end = walk.position().offset;
    }
    report.bytes_behind = file.used_bytes()?.saturating_sub(report.end);
    if report.bytes_behind == 0 {
        report.stop = ReaderStop::End;
    }
    Ok(report)
}

impl SegmentReport {
    fn begin(sequence: u64, entry: &FileEntry, header: HeaderRead) -> SegmentReport {
        SegmentReport {
            file: entry.file.clone(),
            sequence,
            file_bytes: entry.bytes,
            header,
            records: 0,
            batches: 0,
            seals: 0,
            entries: 0,
            indexes: None,
            hard_state: None,
            snapshot: None,
            synced_to: None,
            continued_to: None,
            is_sealed: false,
            end: 0,
            stop: ReaderStop::Broken("the header cannot be read"),
            bytes_behind: 0,
        }
    }

    fn count(&mut self, record: &Record) {
        self.records += 1;
        self.is_sealed = matches!(record, Record::Batch(head) if head.is_seal());
        match record {
            Record::Batch(head) => {
                self.batches += 1;
                self.seals += u64::from(head.is_seal());
                self.synced_to = self.synced_to.max(Some(head.synced_to));
            }
            Record::HardState(hard_state) => self.hard_state = Some(*hard_state),
            Record::Snapshot(meta) => self.snapshot = Some(meta.clone()),
            Record::Entry(entry) => {
                self.entries += 1;
                let (low, high) = match &self.indexes {
                    Some(indexes) => (*indexes.start(), *indexes.end()),
                    None => (entry.index, entry.index),
                };
                self.indexes = Some(low.min(entry.index)..=high.max(entry.index));
            }
            Record::Continued(place) => self.continued_to = Some(*place),
        }
    }
}
