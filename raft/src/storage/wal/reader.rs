//! Reading a log back: the records of one segment, and the log that records amount to.
//!
//! `SegmentReader` walks one segment as far as its checksum chain holds; `LogBuilder` plays the records in the order
//! they were written, later ones replacing the tail. Both are pure: bytes in, values out. Neither decides whether the
//! place where a chain breaks is a torn tail or damage; `super::scan` does.

use std::ops::Range;

use raft_core::{Entry, HardState, Index, SnapshotMeta, Term};

use super::record::{self, BATCH_HEAD_BYTES, BatchHead, RECORD_ALIGNMENT, Record, RecordFault};
use super::segment::{Position, SEGMENT_HEADER_BYTES};

/// Walks the records of one segment from its first.
#[derive(Debug)]
pub struct SegmentReader<'a> {
    file: &'a [u8],
    walk: Walk,
}

/// Why the walk ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReaderStop {
    /// Nothing but zeros, or nothing at all, is left.
    End,
    /// Bytes that do not continue the log: torn, stale or damaged.
    Broken(&'static str),
    /// A sound record of a kind this version does not know.
    UnknownKind(u8),
}

impl<'a> SegmentReader<'a> {
    /// A reader of segment `sequence` whose whole content is `file`, in the directory of `seed`. The header is not
    /// looked at.
    pub fn new(file: &'a [u8], seed: u64, sequence: u64) -> SegmentReader<'a> {
        SegmentReader { file, walk: Walk::new(seed, sequence) }
    }

    /// Where the next record begins.
    pub fn position(&self) -> Position {
        self.walk.position
    }

    /// The checksum chain at that place.
    pub fn chain(&self) -> u32 {
        self.walk.chain
    }

    /// The next record, or why there is none; the reader then stays where it is.
    pub fn next_record(&mut self) -> Result<Record, ReaderStop> {
        let rest = self.file.get(self.walk.position.offset as usize..).unwrap_or(&[]);
        self.walk.step(rest).map_err(|fault| match fault {
            RecordFault::UnknownKind(kind) => ReaderStop::UnknownKind(kind),
            _ if used_bytes(rest) == 0 => ReaderStop::End,
            fault => ReaderStop::Broken(fault.reason()),
        })
    }
}

/// A place in a segment, and what it takes to go on from there. The bytes come from outside.
#[derive(Debug)]
pub(super) struct Walk {
    seed: u64,
    position: Position,
    chain: u32,
}

impl Walk {
    /// The first record of segment `sequence`.
    pub(super) fn new(seed: u64, sequence: u64) -> Walk {
        let position = Position { segment: sequence, offset: SEGMENT_HEADER_BYTES as u64 };
        Walk { seed, position, chain: record::first_chain(seed, sequence) }
    }

    /// Where the next record begins.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// The checksum chain at that place.
    pub(super) fn chain(&self) -> u32 {
        self.chain
    }

    /// Goes on behind the head of a batch at `head`, which was recognised by itself; `chain` is the checksum it carries.
    pub(super) fn resume_behind_head(&mut self, head: Position, chain: u32) {
        self.position = Position { offset: head.offset + BATCH_HEAD_BYTES as u64, ..head };
        self.chain = chain;
    }

    /// Reads the record at the beginning of `rest`, which are the bytes at `position`, and goes behind it; stays where
    /// it is when there is none.
    pub(super) fn step(&mut self, rest: &[u8]) -> Result<Record, RecordFault> {
        let (record, size, chain) = record::decode(rest, self.chain)?;
        if let Record::Batch(head) = record {
            if record::recognise_batch_head(rest, self.seed, self.position).is_none() {
                return Err(RecordFault::NotARecord("the head of a batch names another place"));
            }
            if head.synced_to > self.position {
                return Err(RecordFault::Senseless(
                    "the head of a batch says that more was durable than came before it",
                ));
            }
        }
        self.position.offset += size as u64;
        self.chain = chain;
        Ok(record)
    }
}

/// How many bytes there are before the zeros at the end.
pub(super) fn used_bytes(file: &[u8]) -> usize {
    // Whole blocks are compared at once, since most of a fresh segment is zeros.
    const BLOCK: [u8; 4096] = [0; 4096];
    let mut end = file.len();
    while end >= BLOCK.len() && file[end - BLOCK.len()..end] == BLOCK {
        end -= BLOCK.len();
    }
    file[..end].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// The batch heads that begin in `range` of one segment, whose bytes from the beginning of `range` on are `window`, each with
/// the checksum it carries.
pub(super) fn batch_heads(
    window: &[u8],
    seed: u64,
    range: Range<Position>,
) -> impl Iterator<Item = (BatchHead, u32)> {
    let first = range.start.offset.next_multiple_of(RECORD_ALIGNMENT as u64);
    (first..range.end.offset)
        .step_by(RECORD_ALIGNMENT)
        .map_while(move |offset| {
            let bytes = window.get((offset - range.start.offset) as usize..)?;
            let head = record::recognise_batch_head(bytes, seed, Position { offset, ..range.start });
            Some(head.map(|head| (head, record::stored_checksum(bytes))))
        })
        .flatten()
}

/// No log gets to a term or an index beyond it.
const NUMBER_MAX: u64 = u64::MAX / 2;

/// Refuses numbers that no log gets to, so that others can follow those that are taken.
pub(super) fn check_reach(term: Term, index: Index) -> Result<(), String> {
    match term.0.max(index.0) {
        ..=NUMBER_MAX => Ok(()),
        number => Err(format!("no log gets as far as {number}")),
    }
}

/// The log that a sequence of records amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogBuilder {
    /// The newest term and vote.
    pub hard_state: HardState,
    /// The newest snapshot marker.
    pub snapshot: Option<SnapshotMeta>,
    /// The entries, without a gap.
    pub entries: Vec<Entry>,
    /// The index before the first of `entries`: the log is known from the next on.
    pub before_first: Index,
}

impl LogBuilder {
    /// A log of which nothing is known up to `before_first`.
    pub fn new(before_first: Index) -> LogBuilder {
        LogBuilder { hard_state: HardState::default(), snapshot: None, entries: Vec::new(), before_first }
    }

    /// Index of the last entry, or the index before the first when there is none.
    pub fn last_index(&self) -> Index {
        self.before_first.plus(self.entries.len() as u64)
    }

    /// The entry at `index`, if it is there.
    pub fn entry(&self, index: Index) -> Option<&Entry> {
        let place = index.0.checked_sub(self.before_first.0 + 1)?;
        self.entries.get(usize::try_from(place).ok()?)
    }

    /// Plays one record; says what is wrong if it cannot follow those before.
    pub fn apply(&mut self, record: Record) -> Result<(), String> {
        match record {
            Record::Batch(_) | Record::Continued(_) => Ok(()),
            Record::HardState(hard_state) => {
                check_reach(hard_state.term, Index::ZERO)?;
                if hard_state.term < self.hard_state.term {
                    return Err(format!("term {} follows term {}", hard_state.term, self.hard_state.term));
                }
                self.hard_state = hard_state;
                Ok(())
            }
            Record::Snapshot(meta) => {
                check_reach(meta.last.term, meta.last.index)?;
                self.apply_snapshot(meta);
                Ok(())
            }
            Record::Entry(entry) => {
                check_reach(entry.term, entry.index)?;
                self.apply_entry(entry)
            }
        }
    }

    /// The log goes on from the snapshot: what follows its last entry stays if that entry is in the log, else the
    /// whole log goes. Entries up to the snapshot are kept here: they help if its file should be damaged.
    pub fn apply_snapshot(&mut self, meta: SnapshotMeta) {
        if self.snapshot.as_ref().is_some_and(|newest| newest.last.index > meta.last.index) {
            return;
        }
        let is_in_log = self.entry(meta.last.index).is_some_and(|entry| entry.term == meta.last.term);
        if meta.last.index > self.before_first && !is_in_log {
            self.entries.clear();
            self.before_first = meta.last.index;
        }
        self.snapshot = Some(meta);
    }

    fn apply_entry(&mut self, entry: Entry) -> Result<(), String> {
        if entry.index > self.last_index().next() || entry.index == Index::ZERO {
            return Err(format!("entry {} follows entry {}", entry.index, self.last_index()));
        }
        if let Some(meta) = self.snapshot.as_ref().filter(|meta| entry.index <= meta.last.index) {
            return Err(format!("entry {} replaces what the snapshot of {} covers", entry.index, meta.last));
        }
        if entry.index <= self.before_first {
            self.entries.clear();
            self.before_first = entry.index.previous();
        }
        self.entries.truncate(entry.index.distance_from(self.before_first.next()) as usize);
        self.entries.push(entry);
        Ok(())
    }
}
