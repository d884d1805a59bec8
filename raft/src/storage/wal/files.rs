//! The log's files: beginning a segment, letting go of old ones.
//!
//! A new segment is a spare file renamed (`reserve`): zero-filled by another thread ahead of time, a compacted segment
//! used again, or reserved. Only when there is none is a file made and filled here, in the writer's way. A segment opens with all that
//! its predecessors said apart from entries, so that they can go. Old segments go oldest first, each made durable
//! before the next, so that a crash never leaves a hole. A segment must never go before its successor is durable, which
//! is when the segment itself says so (`segment` has the order of the steps).

use raft_core::Index;

use super::super::disk::{Disk, DiskOp};
use super::record::{self, BATCH_HEAD_BYTES, CONTINUED_BYTES};
use super::segment::{Position, SEGMENT_HEADER_BYTES, SegmentHeader, segment_name};
use super::{ActiveSegment, ClosedSegment, LogState, Role, Wal, WalConfig};

/// What begins a segment.
#[derive(Debug)]
pub(super) struct Opening {
    /// The first write: the segment's header and its first batch, still unsealed, which repeats the state of the log so
    /// far before it goes on.
    pub(super) bytes: Vec<u8>,
    /// What ties the segment to the log once that write is done, in this order; the batch counts only afterwards.
    pub(super) links: Vec<DiskOp>,
}

impl Wal {
    /// Lets go of the segments whose entries all are at or below `up_to`, apart from the one being written.
    ///
    /// `up_to` must be covered by a durable snapshot. Of two kept snapshots it should be the older one's index, so that
    /// the log still reaches it if the newer should turn out to be damaged.
    pub fn compact(&mut self, up_to: Index, disk: &mut dyn Disk) {
        let _ = self.compact_some(up_to, usize::MAX, disk);
    }

    /// Like [`compact`](Wal::compact), but lets at most `segments_max` segments go, so that the next batch does not wait
    /// for hundreds of them. Whether more may go right away.
    pub fn compact_some(&mut self, up_to: Index, segments_max: usize, disk: &mut dyn Disk) -> bool {
        let mut gone = 0;
        while let Some(oldest) = self.closed.front() {
            // The segment after it must be known to be durable: it repeats what this one says.
            let successor_is_durable = self.durable.segment > self.active.sequence - self.closed.len() as u64;
            if oldest.index_max > up_to || !successor_is_durable {
                return false;
            }
            if gone == segments_max {
                return true;
            }
            gone += 1;
            let oldest = self.closed.pop_front().expect("it was just looked at");
            self.let_go(oldest, disk);
        }
        false
    }

    fn let_go(&mut self, segment: ClosedSegment, disk: &mut dyn Disk) {
        let is_of_size = segment.file_bytes == self.config.segment_bytes;
        // The log reaches back to the snapshot before the newest, so what is left of it is about what it will grow by until
        // the next one; and then it was that large before, spares included.
        let spares_max = self.config.spare_segments_max.max(self.closed.len() + 1);
        let kept = if is_of_size { self.spares.keep(spares_max) } else { None };
        let (op, surplus) = match kept {
            Some((spare, surplus)) => (DiskOp::Rename { from: segment.file, to: spare }, surplus),
            None => (DiskOp::Remove { file: segment.file }, None),
        };
        self.pend(disk, op, Role::Housekeeping);
        self.pend(disk, DiskOp::SyncDirectory, Role::Housekeeping);
        if let Some(file) = surplus {
            self.pend(disk, DiskOp::Remove { file }, Role::Housekeeping);
        }
    }

    /// Makes the next segment the active one.
    pub(super) fn begin_segment(&mut self, disk: &mut dyn Disk, records: &[u8]) -> Opening {
        let sequence = self.active.sequence + 1;
        let mut header = SegmentHeader {
            seed: self.config.seed,
            sequence,
            previous_end: self.active.end,
            previous_chain: self.active.chain,
            last_index_before: self.submitted.last_index,
        };
        let mut bytes = opening(&self.submitted, records);
        let mut links = vec![DiskOp::SyncDirectory];
        // Sequence 0 stands for "no segment yet".
        if self.active.sequence > 0 {
            let place = Position { segment: sequence, offset: bytes.len() as u64 };
            let (record, chain) = record::continued(place, self.active.chain);
            header.previous_end += record.len() as u64;
            header.previous_chain = chain;
            let (file, offset) = (self.active.file.clone(), self.active.end);
            links.push(DiskOp::Write { file, offset, bytes: record, sync: true });
        }
        bytes[..SEGMENT_HEADER_BYTES].copy_from_slice(&header.encode());

        let file = segment_name(sequence);
        let file_bytes = self.config.segment_bytes.max((bytes.len() + CONTINUED_BYTES) as u64);
        let spare = if file_bytes == self.config.segment_bytes { self.spares.take() } else { None };
        let op = match spare {
            Some(spare) => DiskOp::Rename { from: spare, to: file.clone() },
            // A segment of a size of its own is filled by its one batch: zeros first would only be written twice.
            None => DiskOp::Create {
                file: file.clone(),
                zero_filled_bytes: zeros_ahead(&self.config, file_bytes),
            },
        };
        self.pend(disk, op, Role::Housekeeping);

        let next = ActiveSegment {
            file,
            sequence,
            file_bytes,
            end: SEGMENT_HEADER_BYTES as u64,
            chain: record::first_chain(self.config.seed, sequence),
            index_max: Index::ZERO,
        };
        let full = std::mem::replace(&mut self.active, next);
        if full.sequence > 0 {
            let ActiveSegment { file, file_bytes, index_max, .. } = full;
            self.closed.push_back(ClosedSegment { file, file_bytes, index_max });
        }
        Opening { bytes, links }
    }
}

fn zeros_ahead(config: &WalConfig, file_bytes: u64) -> u64 {
    if file_bytes == config.segment_bytes { file_bytes } else { 0 }
}

/// Room for a header, then a batch which repeats `state` and goes on with `records`.
pub(super) fn opening(state: &LogState, records: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES + 4 * BATCH_HEAD_BYTES + records.len());
    bytes.resize(SEGMENT_HEADER_BYTES, 0);
    record::stage_batch_head(&mut bytes);
    record::stage_hard_state(&mut bytes, &state.hard_state);
    if let Some(meta) = &state.snapshot {
        record::stage_snapshot(&mut bytes, meta);
    }
    bytes.extend_from_slice(records);
    bytes
}
