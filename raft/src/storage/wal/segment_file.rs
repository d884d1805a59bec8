//! A segment on the disk, read in windows so that opening a log never takes a segment's size of memory.
//!
//! A window is a megabyte; only a record that is larger is read whole. Nothing here changes the file, and nothing is
//! remembered between two segments.

use bytes::Bytes;

use super::super::disk::{Disk, DiskError, FileEntry, read_file};
use super::reader;
use super::reader::Walk;
use super::record::{BATCH_HEAD_BYTES, BatchHead, Record, RecordFault};
use super::segment::{Position, SEGMENT_HEADER_BYTES};

/// A record's header and a batch head fit into this; asking for it first finds out how much more is needed.
const FIRST_LOOK_BYTES: usize = BATCH_HEAD_BYTES;

/// One segment file, open for reading.
pub(super) struct SegmentFile<'a> {
    disk: &'a mut dyn Disk,
    entry: &'a FileEntry,
    window_bytes: usize,
    window: Bytes,
    window_start: u64,
}

impl<'a> SegmentFile<'a> {
    /// The file of `entry`, read `window_bytes` at a time.
    pub(super) fn new(disk: &'a mut dyn Disk, entry: &'a FileEntry, window_bytes: usize) -> SegmentFile<'a> {
        assert!(window_bytes >= FIRST_LOOK_BYTES, "a window holds at least a batch head");
        SegmentFile { disk, entry, window_bytes, window: Bytes::new(), window_start: 0 }
    }

    /// The bytes from `offset` on: at least `wanted` of them, unless the file ends.
    pub(super) fn bytes(&mut self, offset: u64, wanted: usize) -> Result<&[u8], DiskError> {
        let end = (offset + wanted as u64).min(self.entry.bytes);
        let window_end = self.window_start + self.window.len() as u64;
        if offset < self.window_start || end > window_end {
            self.window = read_file(self.disk, &self.entry.file, offset, wanted.max(self.window_bytes))?;
            self.window_start = offset;
        }
        let skipped = (offset - self.window_start) as usize;
        Ok(self.window.get(skipped..).unwrap_or(&[]))
    }

    /// The segment's header, or as much of it as there is.
    pub(super) fn header(&mut self) -> Result<&[u8], DiskError> {
        self.bytes(0, SEGMENT_HEADER_BYTES)
    }

    /// The next record of `walk`, or why there is none.
    pub(super) fn next_record(&mut self, walk: &mut Walk) -> Result<Result<Record, RecordFault>, DiskError> {
        let offset = walk.position().offset;
        let stepped = walk.step(self.bytes(offset, FIRST_LOOK_BYTES)?);
        match stepped {
            Err(RecordFault::Incomplete(wanted)) if offset + wanted as u64 <= self.entry.bytes => {
                Ok(walk.step(self.bytes(offset, wanted)?))
            }
            other => Ok(other),
        }
    }

    /// How many bytes there are before the zeros at the end.
    pub(super) fn used_bytes(&mut self) -> Result<u64, DiskError> {
        let mut end = self.entry.bytes;
        while end > 0 {
            let start = end.saturating_sub(self.window_bytes as u64);
            let window = read_file(self.disk, &self.entry.file, start, (end - start) as usize)?;
            match reader::used_bytes(&window) {
                0 => end = start,
                used => return Ok(start + used as u64),
            }
        }
        Ok(0)
    }

    /// The furthest `synced_to` of the batch heads that can be recognised at or behind `from`; one beyond `enough` will
    /// do. This is the evidence against a broken place: whoever wrote such a head knew everything before its
    /// `synced_to` to be durable.
    pub(super) fn furthest_synced(
        &mut self,
        seed: u64,
        from: Position,
        enough: Position,
    ) -> Result<Option<Position>, DiskError> {
        let mut furthest = None;
        self.find_batch_head(seed, from, &mut |head, _| {
            furthest = furthest.max(Some(head.synced_to));
            furthest > Some(enough)
        })?;
        Ok(furthest)
    }

    /// The first batch head that can be recognised at or behind `from`: its place, and the checksum it carries.
    pub(super) fn next_batch_head(
        &mut self,
        seed: u64,
        from: Position,
    ) -> Result<Option<(Position, u32)>, DiskError> {
        let mut next = None;
        self.find_batch_head(seed, from, &mut |head, chain| {
            next = Some((head.position, chain));
            true
        })?;
        Ok(next)
    }

    /// Shows `is_it` the batch heads that can be recognised at or behind `from`, until it says so.
    fn find_batch_head(
        &mut self,
        seed: u64,
        from: Position,
        is_it: &mut dyn FnMut(BatchHead, u32) -> bool,
    ) -> Result<(), DiskError> {
        let used = self.used_bytes()?;
        let mut start = from.offset;
        while start < used {
            let end = start + self.window_bytes as u64;
            // A head may lie across the end of the window.
            let window_bytes = self.window_bytes + BATCH_HEAD_BYTES;
            let window = read_file(self.disk, &self.entry.file, start, window_bytes)?;
            let range = Position { offset: start, ..from }..Position { offset: end, ..from };
            if reader::batch_heads(&window, seed, range).any(|(head, chain)| is_it(head, chain)) {
                break;
            }
            start = end;
        }
        Ok(())
    }
}
