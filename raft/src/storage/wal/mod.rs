//! The write-ahead log: what the node promised, in the order it was promised.
//!
//! Records of entries, hard states and snapshot markers are staged into a batch; a batch is one write and one
//! fdatasync. Batches fill segments, files of a fixed size that were zero-filled when they were made, or that an
//! earlier part of the log has no more use for: a write into them changes no metadata, which halves what a sync costs.
//!
//! `append` stages, `submit` hands the batch to the disk and never waits, `completed` takes the disk's answers and says
//! which batch is durable. A batch must never be reported before its own sync and all earlier ones are done, and
//! nothing is ever submitted again after a failure.
//!
//! The formats stand in `record` and `segment`; reading back in `reader`, `scan` and `recovery`; looking without opening
//! in `inspect`; what can be had of a damaged one in `salvage`; the care of files in `files` and `reserve`.

mod error;
mod files;
mod inspect;
mod promises;
mod reader;
mod record;
mod recovery;
mod reserve;
mod salvage;
mod scan;
mod segment;
mod segment_file;
mod set_aside;

use std::collections::VecDeque;

use raft_core::{HardState, Index, Persist, SnapshotMeta, planted};

use super::disk::{Completion, Disk, DiskOp, FileName, OpId, Outcome};

pub use error::WalError;
pub use inspect::{RecordPlace, SegmentReport, inspect_segments};
pub use reader::{LogBuilder, ReaderStop, SegmentReader};
pub use record::{BatchHead, Record};
pub use recovery::Recovered;
pub use reserve::{Spare, SparePlan};
pub use salvage::{Unreadable, salvage_entries};
pub use segment::{
    HeaderRead, Position, SEGMENT_HEADER_BYTES, SegmentHeader, WAL_FORMAT_VERSION, segment_name,
    segment_sequence,
};

pub use promises::PROMISES_FILE;
pub(super) use recovery::Found;
pub(super) use segment::spare_number;
pub(super) use set_aside::is_set_aside;

use files::Opening;
use promises::{Promise, Promises};
use record::{BATCH_HEAD_BYTES, CONTINUED_BYTES};

/// A segment must at least hold its opening and something to follow.
const SEGMENT_BYTES_MIN: u64 = 1024;

/// How many used write buffers wait to be used again.
const BUFFERS_KEPT_MAX: usize = 2;

/// The log's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalConfig {
    /// Size of a segment in bytes; a larger batch gets a larger segment of its own, for which no reserve is room: what a full
    /// disk is to outlast has to fit [`Wal::batch_bytes_max`]. 16 MiB.
    pub segment_bytes: u64,
    /// How many files wait to become the next segment, unless the log itself has more; what is beyond that is removed. 5: as
    /// many as a snapshot of the default size sets free, so that a log under load is never in want of zeros.
    pub spare_segments_max: usize,
    /// How many there are at least if the disk has room, kept by `make_reserve`: what is accepted must fit them. 0: nothing is
    /// reserved, and nothing refused for want of room. 4.
    pub reserve_segments: usize,
    /// A write buffer that has grown beyond this many bytes is given back to the allocator. 8 MiB: what a node
    /// writes at once that has much to catch up on.
    pub buffer_bytes_kept_max: usize,
    /// How many bytes of a segment are read at once when the log is opened; a larger record is read whole. 1 MiB.
    pub read_window_bytes: usize,
    /// A number of the data directory's own (its incarnation); files of another are refused.
    pub seed: u64,
    /// Whether term and vote are kept a second time apart from the log, and a log that is damaged is opened as far as it is
    /// whole, for others to give back what is missing. False.
    pub repairs: bool,
    /// Whether a missing log is an error rather than the beginning of a new one. False.
    pub must_exist: bool,
}

impl WalConfig {
    /// The defaults, for the directory of this seed.
    pub fn new(seed: u64) -> WalConfig {
        WalConfig {
            segment_bytes: 16 * 1024 * 1024,
            spare_segments_max: 5,
            reserve_segments: 4,
            buffer_bytes_kept_max: 8 * 1024 * 1024,
            read_window_bytes: 1024 * 1024,
            seed,
            repairs: false,
            must_exist: false,
        }
    }
}

/// Names one submitted batch; rising by one with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchTicket(pub u64);

/// The log, open for appending. Belongs to the log writer.
#[derive(Debug)]
pub struct Wal {
    config: WalConfig,
    active: ActiveSegment,
    /// Full segments, oldest first.
    closed: VecDeque<ClosedSegment>,
    spares: reserve::Spares,
    /// Term and vote once more.
    promises: Option<Promises>,
    staged: Staged,
    /// The state that the submitted batches amount to; what a new segment begins with.
    submitted: LogState,
    /// What was set aside of a log that was damaged, until it is repaired.
    set_aside: Vec<FileName>,
    /// Everything before this place is durable.
    durable: Position,
    /// Whether a batch with records was submitted after the last seal.
    unsealed: bool,
    /// Submitted operations that the disk has not answered, in order.
    pending: VecDeque<(OpId, Role)>,
    next_ticket: u64,
    /// Write buffers to use again.
    buffers: Vec<Vec<u8>>,
    failure: Option<WalError>,
}

/// The segment that is being written.
#[derive(Debug)]
struct ActiveSegment {
    file: FileName,
    sequence: u64,
    file_bytes: u64,
    /// Where the next batch goes.
    end: u64,
    /// The checksum chain at `end`.
    chain: u32,
    /// The highest index any of its entries has.
    index_max: Index,
}

/// A segment that is not written any more.
#[derive(Debug)]
struct ClosedSegment {
    file: FileName,
    file_bytes: u64,
    /// The highest index any of its entries has.
    index_max: Index,
}

/// Records that wait for `submit`.
#[derive(Debug)]
struct Staged {
    /// A batch head to be filled in, then records. Empty when nothing waits.
    batch: Vec<u8>,
    /// The state when these records are written too.
    state: LogState,
    /// The highest index among these records' entries.
    index_max: Index,
}

/// What the log says as a whole, apart from its entries.
#[derive(Debug, Clone)]
struct LogState {
    hard_state: HardState,
    snapshot: Option<SnapshotMeta>,
    /// Index of the last entry, or of the snapshot if that is higher.
    last_index: Index,
}

/// What a pending operation was for.
#[derive(Debug)]
enum Role {
    /// The last operation that a batch which ends here needs.
    Batch(BatchTicket, Position),
    /// Whatever comes before that, and the care of files; it only has to succeed.
    Housekeeping,
    /// A file for the reserve.
    Reserve(FileName),
}

impl Wal {
    /// Opens the log of a data directory, or begins one, waiting for the disk. Cuts a torn tail, makes everything it
    /// returns durable, and refuses a damaged log. A crash at any point of it leaves a log that opens the same way.
    pub fn open(disk: &mut dyn Disk, config: WalConfig) -> Result<(Wal, Recovered), WalError> {
        Wal::find(disk, &config)?.open(disk, config)
    }

    /// Reads the log and changes nothing; opened it is with the settings that it was found with.
    pub(super) fn find(disk: &mut dyn Disk, config: &WalConfig) -> Result<Found, WalError> {
        assert!(
            config.segment_bytes >= SEGMENT_BYTES_MIN,
            "a segment holds at least {SEGMENT_BYTES_MIN} bytes"
        );
        recovery::find(disk, config)
    }

    /// What [`open`](Wal::open) would return or refuse, changing nothing: a torn tail is left where it is.
    ///
    /// # Errors
    /// As `open`.
    pub fn read(disk: &mut dyn Disk, config: &WalConfig) -> Result<Recovered, WalError> {
        Wal::find(disk, config).map(Found::recovered)
    }

    /// Stages one Ready's worth; nothing reaches the disk before `submit`. Several may be staged for one batch.
    pub fn append(&mut self, persist: &Persist) {
        let Staged { batch, state, index_max } = &mut self.staged;
        if batch.is_empty() {
            record::stage_batch_head(batch);
        }
        if let Some(hard_state) = &persist.hard_state {
            assert!(hard_state.term >= state.hard_state.term, "a term never falls");
            record::stage_hard_state(batch, hard_state);
            state.hard_state = *hard_state;
        }
        if let Some(meta) = &persist.snapshot {
            record::stage_snapshot(batch, meta);
            state.last_index = state.last_index.max(meta.last.index);
            state.snapshot = Some(meta.clone());
        }
        let covered = state.snapshot.as_ref().map_or(Index::ZERO, |meta| meta.last.index);
        for entry in &persist.entries {
            assert!(entry.index > covered, "what a snapshot covers is committed and never replaced");
            assert!(entry.index <= state.last_index.next(), "the log has no gaps");
            record::stage_entry(batch, entry);
            state.last_index = entry.index;
            *index_max = (*index_max).max(entry.index);
        }
    }

    /// How many bytes wait for `submit`.
    pub fn staged_bytes(&self) -> usize {
        self.staged.batch.len()
    }

    /// Hands what is staged to the disk as one batch: one synced write, preceded by a new segment where the current
    /// one is full. `None` when nothing is staged.
    pub fn submit(&mut self, disk: &mut dyn Disk) -> Option<BatchTicket> {
        if self.staged.batch.len() <= BATCH_HEAD_BYTES {
            return None;
        }
        self.unsealed = true;
        Some(self.submit_batch(disk))
    }

    /// Whether everything is durable but no record on disk says so yet; an idle writer then calls `seal`.
    pub fn wants_seal(&self) -> bool {
        self.unsealed && self.is_idle()
    }

    /// Appends a batch without records, whose head says that everything before it is durable. Without one, damage to
    /// the very last batch cannot be told from a torn write. Nothing happens unless `wants_seal`.
    pub fn seal(&mut self, disk: &mut dyn Disk) -> Option<BatchTicket> {
        if !self.wants_seal() {
            return None;
        }
        if self.staged.batch.is_empty() {
            record::stage_batch_head(&mut self.staged.batch);
        }
        self.unsealed = false;
        Some(self.submit_batch(disk))
    }

    /// Takes the next answer of the disk. Says which batch, and with it all earlier ones, is durable now, if one is.
    /// After an error the log is finished: every later answer is that error.
    pub fn completed(&mut self, completion: Completion) -> Result<Option<BatchTicket>, WalError> {
        let (id, role) = self.pending.pop_front().expect("the disk answers only what the log submitted");
        assert_eq!(id, completion.id, "the disk answers in the order of submission");
        let (result, role) = match role {
            // A disk that is full has not failed.
            Role::Reserve(file) => {
                let result = self.reserved(file, completion.result.map(drop));
                (result.map(|()| Outcome::Done), Role::Housekeeping)
            }
            role => (completion.result, role),
        };
        match result {
            Err(_) if planted::is("failed-sync-taken-for-success") || planted::is("failed-sync-retried") => {}
            Err(error) => {
                self.failure.get_or_insert(WalError::Disk(error));
            }
            Ok(Outcome::Written(buffer)) => self.keep_buffer(buffer),
            Ok(_) => {}
        }
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        match role {
            Role::Housekeeping | Role::Reserve(_) => Ok(None),
            Role::Batch(ticket, end) => {
                assert!(end > self.durable, "batches become durable in order");
                self.durable = end;
                Ok(Some(ticket))
            }
        }
    }

    /// Whether the disk has answered everything and nothing is staged.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.staged.batch.len() <= BATCH_HEAD_BYTES
    }

    /// Everything before this place is durable.
    pub fn durable(&self) -> Position {
        self.durable
    }

    /// Index of the last entry that was appended, or of the snapshot if that is higher.
    pub fn last_index(&self) -> Index {
        self.staged.state.last_index
    }

    /// How many segment files the log consists of.
    pub fn segments(&self) -> usize {
        self.closed.len() + 1
    }

    /// Waits until the disk has answered everything. Not for a turn.
    pub fn finish(&mut self, disk: &mut dyn Disk) -> Result<(), WalError> {
        while !self.pending.is_empty() {
            self.completed(disk.wait())?;
        }
        Ok(())
    }

    /// Puts it on record that nothing that was acknowledged is missing any more, and lets go of what was set aside.
    pub fn healed(&mut self, disk: &mut dyn Disk) {
        let Some(promises) = &mut self.promises else { return };
        let newest = Promise { is_convalescent: false, ..promises.newest() };
        let write = promises.write(newest);
        self.pend(disk, write, Role::Housekeeping);
        for file in std::mem::take(&mut self.set_aside) {
            self.pend(disk, DiskOp::Remove { file }, Role::Housekeeping);
        }
    }

    /// A promise is durable in both places before anybody hears of it.
    fn promise(&mut self, disk: &mut dyn Disk) {
        let hard_state = self.staged.state.hard_state;
        if let Some(promises) = &mut self.promises
            && promises.newest().hard_state != hard_state
        {
            let write = promises.write(Promise { hard_state, ..promises.newest() });
            self.pend(disk, write, Role::Housekeeping);
        }
    }

    fn submit_batch(&mut self, disk: &mut dyn Disk) -> BatchTicket {
        self.promise(disk);
        let next_buffer = self.buffers.pop().unwrap_or_default();
        let mut bytes = std::mem::replace(&mut self.staged.batch, next_buffer);
        let (mut batch_start, mut links) = (0, Vec::new());
        // A segment that ends must have room to say so.
        if self.active.end + (bytes.len() + CONTINUED_BYTES) as u64 > self.active.file_bytes {
            let batch = bytes;
            Opening { bytes, links } = self.begin_segment(disk, &batch[BATCH_HEAD_BYTES..]);
            batch_start = SEGMENT_HEADER_BYTES;
            self.keep_buffer(batch);
        }

        let ActiveSegment { sequence, end, chain, .. } = self.active;
        let position = Position { segment: sequence, offset: end };
        self.active.chain =
            record::seal_batch(&mut bytes[batch_start..], self.config.seed, position, self.durable, chain);
        self.active.end += (bytes.len() - batch_start) as u64;
        self.active.index_max = self.active.index_max.max(self.staged.index_max);
        self.staged.index_max = Index::ZERO;
        self.submitted.clone_from(&self.staged.state);

        let ticket = BatchTicket(self.next_ticket);
        self.next_ticket += 1;
        let role = Role::Batch(ticket, Position { segment: sequence, offset: self.active.end });
        let file = self.active.file.clone();
        let offset = position.offset - batch_start as u64;
        let mut op = DiskOp::Write { file, offset, bytes, sync: true };
        for link in links {
            self.pend(disk, std::mem::replace(&mut op, link), Role::Housekeeping);
        }
        self.pend(disk, op, role);
        ticket
    }

    fn pend(&mut self, disk: &mut dyn Disk, op: DiskOp, role: Role) {
        let id = disk.submit(op);
        self.pending.push_back((id, role));
    }

    fn keep_buffer(&mut self, mut buffer: Vec<u8>) {
        if self.buffers.len() < BUFFERS_KEPT_MAX && buffer.capacity() <= self.config.buffer_bytes_kept_max {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }
}
