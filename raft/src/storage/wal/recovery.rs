//! Opening the log: what is whole is kept, what was never acknowledged is cut, what was acknowledged and does not read
//! back is refused.
//!
//! `super::scan` reads the log and gives the verdict. Here the disk is brought to what was read. Whatever lies behind
//! the newest `synced_to` is written again, not only synced: after a failed sync of an earlier process the kernel shows
//! pages as clean that never reached the disk. The tail is zeroed, segments behind it are removed, the directory is
//! synced, and a seal records that all of it is durable. Each of these steps leaves a log that opens to the same
//! result, so a crash between any two is harmless.

use std::collections::VecDeque;

use raft_core::{Entry, HardState, Index, SnapshotMeta};

use super::super::disk::{Disk, DiskOp, FileEntry, list_files, read_file};
use super::super::recovery::Remark;
use super::reader::LogBuilder;
use super::record;
use super::reserve::Spares;
use super::scan::{FIRST_SEQUENCE, Scanned, UNREADABLE_HEADER, Walked, damaged, scan};
use super::segment::{Position, segment_name, segment_sequence, spare_number};
use super::segment_file::SegmentFile;
use super::{ActiveSegment, ClosedSegment, LogState, Staged, Wal, WalConfig, WalError};

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
    /// What was cut from the end because it was never acknowledged.
    pub torn_tail: Option<Remark>,
}

pub(super) fn open(disk: &mut dyn Disk, config: WalConfig) -> Result<(Wal, Recovered), WalError> {
    let Found { scanned, spares } = find(disk, &config)?;
    repair(disk, &config, &scanned)?;
    let spares = remove_spares(disk, spares)?;
    disk.run(DiskOp::SyncDirectory)?;

    let Scanned { walked, log, torn_tail, .. } = scanned;
    let is_new = walked.is_empty();
    let mut wal = assemble(config, walked, spares, &log);
    wal.record_opening(disk, is_new)?;
    Ok((wal, Recovered::of(is_new, log, torn_tail)))
}

/// What [`open`] would find, without the repairs.
pub(super) fn read(disk: &mut dyn Disk, config: &WalConfig) -> Result<Recovered, WalError> {
    let Scanned { walked, log, torn_tail, .. } = find(disk, config)?.scanned;
    Ok(Recovered::of(walked.is_empty(), log, torn_tail))
}

/// What is there, and nothing of it changed.
struct Found {
    scanned: Scanned,
    spares: Vec<(u64, FileEntry)>,
}

fn find(disk: &mut dyn Disk, config: &WalConfig) -> Result<Found, WalError> {
    let mut files: Vec<(u64, FileEntry)> = Vec::new();
    let mut spares = Vec::new();
    for entry in list_files(disk)? {
        if let Some(sequence) = segment_sequence(&entry.file) {
            files.push((sequence, entry));
        } else if let Some(number) = spare_number(&entry.file) {
            spares.push((number, entry));
        }
    }
    files.sort();

    let scanned = scan(disk, config, &files)?;
    if scanned.walked.is_empty() && config.must_exist {
        return Err(match files.into_iter().next() {
            None => WalError::NoSegments,
            Some((_, first)) => damaged(&first.file, 0, UNREADABLE_HEADER.to_owned()),
        });
    }
    Ok(Found { scanned, spares })
}

impl Recovered {
    fn of(is_new: bool, log: LogBuilder, torn_tail: Option<Remark>) -> Recovered {
        let LogBuilder { hard_state, snapshot, entries, before_first } = log;
        Recovered { is_new, hard_state, snapshot, entries, before_first, torn_tail }
    }
}

/// Brings the disk to what was read: see the module's text.
fn repair(disk: &mut dyn Disk, config: &WalConfig, scanned: &Scanned) -> Result<(), WalError> {
    // The newest goes first, so that a crash in between leaves no hole.
    for file in scanned.surplus.iter().rev() {
        disk.run(DiskOp::Remove { file: file.clone() })?;
        disk.run(DiskOp::SyncDirectory)?;
    }
    if raft_core::planted::is("torn-tail-taken-for-valid") {
        return Ok(());
    }
    let synced_to = scanned.synced_to;
    for walked in scanned.walked.iter().filter(|walked| walked.sequence >= synced_to.segment) {
        let used = SegmentFile::new(disk, &walked.entry, config.read_window_bytes).used_bytes()?;
        zero(disk, config, walked, used)?;
        let from = if walked.sequence == synced_to.segment { synced_to.offset } else { 0 };
        let file = walked.entry.file.clone();
        let bytes = Vec::from(read_file(disk, &file, from, (walked.end - from) as usize)?);
        disk.run(DiskOp::Write { file, offset: from, bytes, sync: true })?;
    }
    Ok(())
}

/// Zeroes a segment from the end of its records up to `used`, without a sync.
fn zero(disk: &mut dyn Disk, config: &WalConfig, walked: &Walked, used: u64) -> Result<(), WalError> {
    let mut offset = walked.end;
    while offset < used {
        let bytes = (used - offset).min(config.read_window_bytes as u64);
        let (file, zeros) = (walked.entry.file.clone(), vec![0; bytes as usize]);
        disk.run(DiskOp::Write { file, offset, bytes: zeros, sync: false })?;
        offset += bytes;
    }
    Ok(())
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
            file: last.entry.file,
            sequence: last.sequence,
            file_bytes: last.entry.bytes,
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
        file: segment.entry.file,
        file_bytes: segment.entry.bytes,
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
