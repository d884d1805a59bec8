//! Opening the log: what is whole is kept, what was never acknowledged is cut, what was acknowledged and does not read
//! back is refused.
//!
//! `super::scan` reads the log and gives the verdict. Here the disk is brought to what was read. Whatever lies behind
//! the newest `synced_to` is written again, not only synced: after a failed sync of an earlier process the kernel shows
//! pages as clean that never reached the disk. The tail is zeroed, segments behind it are removed, the directory is
//! synced, and a seal records that all of it is durable. Each of these steps leaves a log that opens to the same
//! result, so a crash between any two is harmless.
//!
//! Where others can give back what is lost (`WalConfig::repairs`), a damaged log is opened as far as it is whole. First it
//! is put on record that something is missing (`promises`), then what cannot be used is set aside, and only then is the
//! log cut: the next start would find nothing wrong with it. Whatever state the log is in, a later term or vote in the promises
//! counts: it was durable there before it was told. A log that stands on a snapshot which is gone, and leads on from nothing,
//! is of no use as a whole, and treated like one that is damaged at its beginning (`Found::give_up`).

use std::collections::VecDeque;

use raft_core::{Entry, HardState, Index, Persist, SnapshotMeta};

use super::super::disk::{Disk, DiskOp, FileEntry, FileName, list_files, read_file};
use super::super::recovery::Remark;
use super::promises::{self, PROMISES_FILE, Promise, Promises};
use super::reader::LogBuilder;
use super::record;
use super::reserve::Spares;
use super::scan::{FIRST_SEQUENCE, Scanned, UNREADABLE_HEADER, Walked, damaged, scan};
use super::segment::{Position, segment_name, segment_sequence, spare_number};
use super::segment_file::SegmentFile;
use super::set_aside;
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
    /// Why the log ends before it should: what follows was acknowledged, and set aside.
    pub damage: Option<WalError>,
    /// Whether the log lacks something that was acknowledged, lost at this start or at an earlier one.
    pub is_convalescent: bool,
}

/// What there is of a log, and nothing of it changed.
#[derive(Debug)]
pub(in super::super) struct Found {
    scanned: Scanned,
    spares: Vec<(u64, FileEntry)>,
    promised: promises::Found,
    /// The log has an older term or vote than was promised: its last batch, damaged, may pass for one that was never synced.
    forgotten: bool,
    /// Others can give back what is lost, and no vote is lost.
    is_repairable: bool,
    /// Something that was acknowledged is missing, and that is not on record yet.
    has_loss: bool,
}

impl Found {
    /// What can be read of it.
    pub(in super::super) fn log(&self) -> &LogBuilder {
        &self.scanned.log
    }

    /// Whether the log may be opened without what is missing.
    pub(in super::super) fn is_repairable(&self) -> bool {
        self.is_repairable
    }

    /// All of the log is of no use, since what it stands on is gone: `open` sets it aside, together with `snapshots`. Its term
    /// and vote stay.
    pub(in super::super) fn give_up(&mut self, snapshots: impl Iterator<Item = FileName>) {
        let Scanned { walked, surplus, log, synced_to, torn_tail, .. } = &mut self.scanned;
        let segments = walked.drain(..).map(|walked| walked.entry.file).chain(surplus.drain(..));
        // The last goes first: as long as a segment is left, the next start finds that it stands on nothing.
        *surplus = segments.chain(snapshots).collect();
        *log = LogBuilder { hard_state: log.hard_state, ..LogBuilder::new(Index::ZERO) };
        (*synced_to, *torn_tail) = (Position::default(), None);
        self.has_loss = true;
    }

    /// What [`Found::open`] would return beside the log.
    pub(in super::super) fn recovered(self) -> Recovered {
        let is_convalescent = self.is_convalescent();
        let Scanned { walked, log, torn_tail, damage, .. } = self.scanned;
        let LogBuilder { hard_state, snapshot, entries, before_first } = log;
        let is_new = walked.is_empty();
        Recovered { is_new, hard_state, snapshot, entries, before_first, torn_tail, damage, is_convalescent }
    }

    /// Brings the disk to what was found.
    pub(in super::super) fn open(
        mut self,
        disk: &mut dyn Disk,
        config: WalConfig,
    ) -> Result<(Wal, Recovered), WalError> {
        let is_convalescent = self.is_convalescent();
        // Before a new loss is on record, which what is found then belongs to.
        if self.promised.says_whole() {
            set_aside::let_go(disk)?;
        }
        let promises = match config.repairs || self.promised.is_there() {
            true => {
                let newest = Promise { hard_state: self.scanned.log.hard_state, is_convalescent };
                Some(Promises::begin(disk, config.seed, self.promised, newest)?)
            }
            false => None,
        };
        // They take the room that what is set aside may need.
        let spares = remove_spares(disk, std::mem::take(&mut self.spares))?;
        if self.has_loss {
            set_aside::set_aside(disk, &config, &mut self.scanned)?;
        }
        repair(disk, &config, &self.scanned)?;
        disk.run(DiskOp::SyncDirectory)?;

        let is_new = self.scanned.walked.is_empty();
        let mut wal = assemble(config, std::mem::take(&mut self.scanned.walked), spares, &self.scanned.log);
        wal.promises = promises;
        wal.set_aside = set_aside::files(disk)?;
        wal.record_opening(disk, is_new)?;
        if is_convalescent || self.forgotten {
            wal.record_hard_state(disk)?;
        }
        Ok((wal, Recovered { is_new, ..self.recovered() }))
    }

    /// Whether something that was acknowledged is missing: now, or since an earlier start.
    fn is_convalescent(&self) -> bool {
        self.has_loss || self.promised.says_convalescent()
    }
}

/// Reads the log.
pub(in super::super) fn find(disk: &mut dyn Disk, config: &WalConfig) -> Result<Found, WalError> {
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

    // Also where nothing is repaired: what they say of an earlier start holds.
    let promised = promises::look(disk, config.seed)?;
    let is_trusted = matches!(promised, promises::Found::Sound { .. });
    let is_repairable = config.repairs && is_trusted && !raft_core::planted::is("repairable-damage-refused");
    let scanned = scan(disk, config, &files, is_repairable);
    let mut scanned = scanned.map_err(|error| with_word_of_promises(error, promised))?;
    if scanned.walked.is_empty() && config.must_exist && scanned.damage.is_none() {
        match files.into_iter().next() {
            // All of it was set aside, and then the power went off.
            None if is_repairable && promised.says_convalescent() => {}
            None => return Err(WalError::NoSegments),
            Some((_, first)) => {
                let error = damaged(&first.file, 0, UNREADABLE_HEADER.to_owned());
                match is_repairable {
                    true => scanned.damage = Some(error),
                    false => return Err(error),
                }
            }
        }
    }
    let written = scanned.log.hard_state;
    scanned.log.hard_state = newer(written, promised.newest());
    let forgotten = scanned.log.hard_state != written;
    let has_loss = scanned.damage.is_some();
    Ok(Found { scanned, spares, promised, forgotten, is_repairable, has_loss })
}

/// Why damage that others could repair is refused all the same, where that is so.
fn with_word_of_promises(error: WalError, promised: promises::Found) -> WalError {
    match (error, promised) {
        (WalError::Damaged { file, offset, reason }, promises::Found::Unreadable { .. }) => {
            let reason = format!(
                "{reason}; {PROMISES_FILE}, which has term and vote once more, is damaged, too, so nobody knows what this \
                 node voted"
            );
            WalError::Damaged { file, offset, reason }
        }
        (error, _) => error,
    }
}

/// The later of two states that one node was in.
fn newer(one: HardState, other: Option<HardState>) -> HardState {
    match other {
        Some(other) if (other.term, other.vote.is_some()) > (one.term, one.vote.is_some()) => other,
        _ => one,
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
        promises: None,
        set_aside: Vec::new(),
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
    /// Writes the term and vote that did not come from the log into it: they must be there when it has healed.
    fn record_hard_state(&mut self, disk: &mut dyn Disk) -> Result<(), WalError> {
        let hard_state = Some(self.submitted.hard_state);
        self.append(&Persist { hard_state, snapshot: None, entries: Vec::new() });
        self.submit(disk).expect("a hard state was staged");
        self.finish(disk)?;
        self.seal(disk).expect("nothing is pending or staged once it is finished");
        self.finish(disk)
    }

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
