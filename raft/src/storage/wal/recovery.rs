//! Opening the log: what is whole is kept, what was never acknowledged is cut, what was acknowledged and does not read
//! back is refused.
//!
//! The walk goes from segment to segment as long as checksums and headers continue each other. Where that ends, one
//! question decides: does any batch that can still be recognised behind that place say that the place had been durable
//! (`synced_to`)? Then it is damage, and the node must not start. If none does, nobody was ever told that these bytes
//! are safe: they are a torn tail.
//!
//! Then the disk is brought to what was read. Whatever lies behind the newest `synced_to` is written again, not only
//! synced: after a failed sync of an earlier process the kernel shows pages as clean that never reached the disk. The
//! tail is zeroed, segments behind it are removed, the directory is synced, and a seal records that all of it is
//! durable. Each of these steps leaves a log that opens to the same result, so a crash between any two is harmless.

use std::collections::VecDeque;

use bytes::Bytes;
use raft_core::{Entry, HardState, Index, SnapshotMeta};

use super::super::disk::{Disk, DiskOp, FileEntry, FileName, list_files, read_file};
use super::files::Spares;
use super::reader::{self, LogBuilder, ReaderStop, SegmentReader};
use super::record::{self, Record};
use super::segment::{
    HeaderRead, Position, SegmentHeader, WAL_FORMAT_VERSION, segment_name, segment_sequence, spare_number,
};
use super::{ActiveSegment, ClosedSegment, LogState, Staged, Wal, WalConfig, WalError};

/// The number of a directory's first segment.
const FIRST_SEQUENCE: u64 = 1;

/// What the log held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Whether there was no log and one was begun.
    pub is_new: bool,
    /// The newest term and vote.
    pub hard_state: HardState,
    /// The newest snapshot marker.
    pub snapshot: Option<SnapshotMeta>,
    /// The entries, without a gap; those the snapshot covers are among them as far as they are still there.
    pub entries: Vec<Entry>,
    /// The index before the first entry: what lies up to it must come from a snapshot.
    pub before_first: Index,
    /// What was cut from the end because it was never acknowledged, in words for the log.
    pub torn_tail: Option<String>,
}

/// One segment file as far as it was read.
#[derive(Debug)]
struct Walked {
    sequence: u64,
    file: FileName,
    file_bytes: u64,
    end: u64,
    chain: u32,
    index_max: Index,
}

/// A place where the log does not continue.
#[derive(Debug)]
struct Break {
    position: Position,
    /// What is wrong if it turns out to be damage.
    error: WalError,
}

struct Scan<'a> {
    disk: &'a mut dyn Disk,
    seed: u64,
    /// The segment files in order of their numbers.
    files: Vec<(u64, FileEntry)>,
    walked: Vec<Walked>,
    log: LogBuilder,
    /// The newest `synced_to` that was read.
    synced_to: Position,
}

pub(super) fn open(disk: &mut dyn Disk, config: WalConfig) -> Result<(Wal, Recovered), WalError> {
    let listing = list_files(disk)?;
    let mut files: Vec<(u64, FileEntry)> = Vec::new();
    let mut spares = Vec::new();
    for entry in listing {
        if let Some(sequence) = segment_sequence(&entry.file) {
            files.push((sequence, entry));
        } else if let Some(number) = spare_number(&entry.file) {
            spares.push((number, entry));
        }
    }
    files.sort();

    let mut scan = Scan {
        disk,
        seed: config.seed,
        files,
        walked: Vec::new(),
        log: LogBuilder::new(Index::ZERO),
        synced_to: Position::default(),
    };
    let torn_tail = scan.walk_all()?;
    if scan.walked.is_empty() && config.must_exist {
        return Err(WalError::MissingSegment { file: segment_name(FIRST_SEQUENCE) });
    }
    scan.repair()?;
    let Scan { disk, walked, log, .. } = scan;
    let spares = remove_spares(disk, spares)?;
    disk.run(DiskOp::SyncDirectory)?;

    let is_new = walked.is_empty();
    let mut wal = assemble(config, walked, spares, &log);
    wal.record_opening(disk, is_new)?;
    let LogBuilder { hard_state, snapshot, entries, before_first } = log;
    Ok((wal, Recovered { is_new, hard_state, snapshot, entries, before_first, torn_tail }))
}

impl Scan<'_> {
    /// Walks all segments up to the end of the log. Says what was cut there, if it was more than zeros.
    fn walk_all(&mut self) -> Result<Option<String>, WalError> {
        for place in 0..self.files.len() {
            let (sequence, entry) = self.files[place].clone();
            let content = read_whole(self.disk, &entry)?;
            if let Some(broken) = self.walk_segment(sequence, &entry, &content)? {
                self.judge(broken, place)?;
                return Ok(self.describe_cut(place, &content));
            }
        }
        Ok(None)
    }

    /// Walks one segment. A break is where the log ends, torn or damaged; the last segment always ends in one.
    fn walk_segment(
        &mut self,
        sequence: u64,
        entry: &FileEntry,
        content: &Bytes,
    ) -> Result<Option<Break>, WalError> {
        let header = match self.check_header(sequence, &entry.file, content)? {
            Ok(header) => header,
            Err(broken) => return Ok(Some(broken)),
        };
        if self.walked.is_empty() {
            self.log = LogBuilder::new(header.last_index_before);
            self.synced_to = Position { segment: sequence, offset: 0 };
        }
        let mut reader = SegmentReader::new(content, self.seed, sequence);
        let mut index_max = Index::ZERO;
        let stop = loop {
            let position = reader.position();
            let record = match reader.next_record() {
                Ok(record) => record,
                Err(stop) => break stop,
            };
            match &record {
                Record::Batch(head) => self.synced_to = self.synced_to.max(head.synced_to),
                Record::Entry(entry) => index_max = index_max.max(entry.index),
                Record::HardState(_) | Record::Snapshot(_) => {}
            }
            // A record with a sound checksum that makes no sense was written so; that is never a torn write.
            self.log.apply(record).map_err(|reason| damaged(&entry.file, position.offset, reason))?;
        };
        let position = reader.position();
        self.walked.push(Walked {
            sequence,
            file: entry.file.clone(),
            file_bytes: entry.bytes,
            end: position.offset,
            chain: reader.chain(),
            index_max,
        });
        match stop {
            ReaderStop::UnknownKind(kind) => {
                Err(WalError::UnknownRecord { file: entry.file.clone(), offset: position.offset, kind })
            }
            ReaderStop::Broken(reason) if self.is_last(sequence) => {
                Ok(Some(Break::at(position, &entry.file, reason.to_owned())))
            }
            ReaderStop::End if self.is_last(sequence) => {
                Ok(Some(Break::at(position, &entry.file, "there are only zeros".to_owned())))
            }
            // Whether this is where the segment should end, the next one's header says.
            ReaderStop::Broken(_) | ReaderStop::End => Ok(None),
        }
    }

    /// The segment's header if it continues the segment before; else the break.
    fn check_header(
        &self,
        sequence: u64,
        file: &FileName,
        content: &Bytes,
    ) -> Result<Result<SegmentHeader, Break>, WalError> {
        let start = Position { segment: sequence, offset: 0 };
        if let Some(previous) = self.walked.last()
            && sequence != previous.sequence + 1
        {
            let error = WalError::MissingSegment { file: segment_name(previous.sequence + 1) };
            return Ok(Err(Break { position: previous.end_position(), error }));
        }
        let header = match SegmentHeader::decode(content) {
            HeaderRead::UnknownVersion(version) => {
                let file = file.clone();
                return Err(WalError::UnknownVersion { file, version, known: WAL_FORMAT_VERSION });
            }
            HeaderRead::Unreadable => {
                return Ok(Err(Break::at(start, file, "the segment's header cannot be read".to_owned())));
            }
            HeaderRead::Header(header) => header,
        };
        if header.seed != self.seed {
            return Err(WalError::Foreign { file: file.clone() });
        }
        if header.sequence != sequence {
            let reason = format!("the header is of segment {}", header.sequence);
            return Ok(Err(Break::at(start, file, reason)));
        }
        match self.walked.last() {
            Some(previous)
                if (previous.end, previous.chain) != (header.previous_end, header.previous_chain) =>
            {
                let reason = format!("the log should go on up to byte {}", header.previous_end);
                Ok(Err(Break::at(previous.end_position(), &previous.file, reason)))
            }
            _ => Ok(Ok(header)),
        }
    }

    /// Tells a torn tail from damage: damage if anything behind the break says that the break had been durable.
    fn judge(&mut self, broken: Break, place: usize) -> Result<(), WalError> {
        // The break may lie in the segment before the one at `place`, which was walked up to its own end.
        for (sequence, entry) in &self.files[place.saturating_sub(1)..] {
            let sequence = *sequence;
            if sequence < broken.position.segment {
                continue;
            }
            let content = read_whole(self.disk, entry)?;
            let from = if sequence == broken.position.segment { broken.position.offset } else { 0 };
            let synced_to = reader::furthest_synced(&content, self.seed, sequence, from);
            if synced_to.is_some_and(|synced_to| synced_to > broken.position) {
                return Err(broken.error);
            }
        }
        // A first segment that cannot be read was never finished only if it is the very first one: any later one
        // became the first when its predecessors were let go, and that happens only after it is durable.
        if self.walked.is_empty()
            && self.files.first().is_some_and(|(sequence, _)| *sequence != FIRST_SEQUENCE)
        {
            return Err(broken.error);
        }
        Ok(())
    }

    fn is_last(&self, sequence: u64) -> bool {
        self.files.last().is_some_and(|(last, _)| *last == sequence)
    }

    /// In words what lies behind the end of the log: nothing if that is zeros.
    fn describe_cut(&self, place: usize, content: &Bytes) -> Option<String> {
        let (_, entry) = &self.files[place];
        let end =
            self.walked.last().filter(|walked| walked.file == entry.file).map_or(0, |walked| walked.end);
        let cut = &content[(end as usize).min(content.len())..];
        let cut_bytes = reader::used_bytes(cut);
        (cut_bytes > 0).then(|| {
            format!(
                "{} holds {cut_bytes} bytes from byte {end} on which are no part of the log: \
             a write that was never acknowledged, or an earlier use of the file",
                entry.file
            )
        })
    }

    /// Brings the disk to what was read: see the module's text.
    fn repair(&mut self) -> Result<(), WalError> {
        let kept = self.walked.last().map_or(0, |walked| walked.sequence);
        let surplus = self.files.iter().filter(|(sequence, _)| *sequence > kept);
        // The newest goes first, so that a crash in between leaves no hole.
        let surplus: Vec<FileName> = surplus.rev().map(|(_, entry)| entry.file.clone()).collect();
        for file in surplus {
            self.disk.run(DiskOp::Remove { file })?;
            self.disk.run(DiskOp::SyncDirectory)?;
        }
        for walked in &self.walked {
            if walked.sequence < self.synced_to.segment {
                continue;
            }
            let from = if walked.sequence == self.synced_to.segment { self.synced_to.offset } else { 0 };
            let entry = FileEntry { file: walked.file.clone(), bytes: walked.file_bytes };
            let content = read_whole(self.disk, &entry)?;
            let written = reader::used_bytes(&content);
            let mut bytes = content[from as usize..(walked.end as usize)].to_vec();
            bytes.resize(bytes.len().max(written.saturating_sub(from as usize)), 0);
            self.disk.run(DiskOp::Write { file: walked.file.clone(), offset: from, bytes, sync: true })?;
        }
        Ok(())
    }
}

impl Walked {
    fn end_position(&self) -> Position {
        Position { segment: self.sequence, offset: self.end }
    }
}

impl Break {
    fn at(position: Position, file: &FileName, reason: String) -> Break {
        Break { position, error: damaged(file, position.offset, reason) }
    }
}

/// Removes the spares of earlier lives. One of them may be a segment in disguise, whose write survived a power failure
/// when its rename did not: its records would fit the very segment that comes next.
fn remove_spares(disk: &mut dyn Disk, found: Vec<(u64, FileEntry)>) -> Result<Spares, WalError> {
    let next_number = found.iter().map(|(number, _)| number + 1).max().unwrap_or(0);
    for (_, entry) in found {
        disk.run(DiskOp::Remove { file: entry.file })?;
    }
    Ok(Spares::new(next_number))
}

fn assemble(config: WalConfig, mut walked: Vec<Walked>, spares: Spares, log: &LogBuilder) -> Wal {
    let active = match walked.pop() {
        Some(last) => ActiveSegment {
            file: last.file,
            sequence: last.sequence,
            file_bytes: last.file_bytes,
            end: last.end,
            chain: last.chain,
            index_max: last.index_max,
        },
        // No segment yet: a full one of number 0 makes the first batch begin segment 1.
        None => ActiveSegment {
            file: segment_name(FIRST_SEQUENCE - 1),
            sequence: FIRST_SEQUENCE - 1,
            file_bytes: 0,
            end: 0,
            chain: record::first_chain(config.seed, FIRST_SEQUENCE - 1),
            index_max: Index::ZERO,
        },
    };
    let closed = walked.into_iter().map(|segment| ClosedSegment {
        file: segment.file,
        file_bytes: segment.file_bytes,
        index_max: segment.index_max,
    });
    let snapshot_index = log.snapshot.as_ref().map_or(Index::ZERO, |meta| meta.last.index);
    let state = LogState {
        hard_state: log.hard_state,
        snapshot: log.snapshot.clone(),
        last_index: log.last_index().max(snapshot_index),
    };
    Wal {
        config,
        durable: Position { segment: active.sequence, offset: active.end },
        active,
        closed: closed.collect::<VecDeque<_>>(),
        spares,
        staged: Staged { batch: Vec::new(), state: state.clone(), index_max: Index::ZERO },
        submitted: state,
        unsealed: true,
        pending: VecDeque::new(),
        next_ticket: 1,
        buffers: Vec::new(),
        failure: None,
    }
}

impl Wal {
    /// Puts it on record that everything kept is durable. A new log first gets a segment.
    fn record_opening(&mut self, disk: &mut dyn Disk, is_new: bool) -> Result<(), WalError> {
        if is_new {
            record::stage_batch_head(&mut self.staged.batch);
            self.submit_batch(disk);
            self.finish(disk)?;
        }
        self.seal(disk).expect("nothing is pending or staged in a log just opened");
        self.finish(disk)
    }
}

fn damaged(file: &FileName, offset: u64, reason: String) -> WalError {
    WalError::Damaged { file: file.clone(), offset, reason }
}

fn read_whole(disk: &mut dyn Disk, entry: &FileEntry) -> Result<Bytes, WalError> {
    Ok(read_file(disk, &entry.file, 0, usize::try_from(entry.bytes).unwrap_or(usize::MAX))?)
}
