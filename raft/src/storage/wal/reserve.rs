//! The log's reserve: files that wait to become segments, so that what is accepted finds room on a full disk.
//!
//! A spare is a file of a segment's size whose blocks are its own. Those that were written (with zeros, or as a segment
//! before) sync fast and are used first; those that are only reserved cost nothing to make, and there are always
//! `reserve_segments` spares, unless the disk is full. What the log can still take is what is left of the segment being
//! written and the spares, less a part that is held back for what is never refused: terms, votes, snapshot markers.
//! A disk that is full is asked again in a while.

use super::super::disk::{Disk, DiskError, DiskOp, FileName, Outcome};
use super::record::CONTINUED_BYTES;
use super::segment::spare_name;
use super::{Role, Wal, files};

/// Zeros of a spare that are synced at once, in bytes.
const ZEROS_PER_SYNC: usize = 1024 * 1024;

/// This part of a segment is held back for what is never refused: of 16 MiB, some thirty thousand changes of the term.
const HELD_BACK_PART: u64 = 4;

/// A file that waits to become a segment.
#[derive(Debug)]
struct SpareFile {
    file: FileName,
    /// Whether its blocks have been written once.
    is_written: bool,
}

/// The files that wait to become segments.
#[derive(Debug)]
pub(super) struct Spares {
    files: Vec<SpareFile>,
    next_number: u64,
    /// Whether a plan is out that has not come back as a spare.
    one_is_coming: bool,
    /// Whether the disk was asked for one more and has not answered.
    is_asking: bool,
    /// Whether the disk last said that it has no room for one more.
    is_full: bool,
    /// The segment in which a spare to be written ahead found no room.
    found_no_room_in: Option<u64>,
}

impl Spares {
    /// No spares yet; numbers from `next_number` on are free.
    pub(super) fn new(next_number: u64) -> Spares {
        let (one_is_coming, is_asking, is_full, found_no_room_in) = Default::default();
        Spares { files: Vec::new(), next_number, one_is_coming, is_asking, is_full, found_no_room_in }
    }

    fn new_name(&mut self) -> FileName {
        let name = spare_name(self.next_number);
        self.next_number += 1;
        name
    }

    /// The spare that syncs fastest.
    pub(super) fn take(&mut self) -> Option<FileName> {
        let place =
            self.files.iter().rposition(|spare| spare.is_written).or(self.files.len().checked_sub(1))?;
        Some(self.files.remove(place).file)
    }

    /// Keeps a file that was written once, at most `most` spares altogether: takes its new name, and gives back one that
    /// is not needed any more. `None`: it is not needed itself.
    pub(super) fn keep(&mut self, most: usize) -> Option<(FileName, Option<FileName>)> {
        let mut surplus = None;
        if self.files.len() >= most {
            let unwritten = self.files.iter().position(|spare| !spare.is_written)?;
            surplus = Some(self.files.remove(unwritten).file);
        }
        let file = self.new_name();
        self.files.push(SpareFile { file: file.clone(), is_written: true });
        Some((file, surplus))
    }
}

/// A spare file to be made, by any thread on any `Disk` of the same directory.
#[derive(Debug)]
pub struct SparePlan {
    file: FileName,
    bytes: u64,
}

/// A spare file that was made.
#[derive(Debug)]
pub struct Spare {
    file: FileName,
}

impl SparePlan {
    /// Makes the file and waits until its zeros are on the disk. They go there in small steps: one large sync would
    /// hold up the log's own for as long as the disk takes for all of it. `None`: the disk is full, and nothing is left.
    ///
    /// # Errors
    /// When the disk fails otherwise.
    pub fn prepare(self, disk: &mut dyn Disk) -> Result<Option<Spare>, DiskError> {
        match self.fill(disk) {
            Ok(()) => Ok(Some(Spare { file: self.file })),
            Err(DiskError::Full { operation: "write", .. }) => {
                disk.run(DiskOp::Remove { file: self.file })?;
                Ok(None)
            }
            Err(DiskError::Full { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn fill(&self, disk: &mut dyn Disk) -> Result<(), DiskError> {
        disk.run(DiskOp::Create { file: self.file.clone(), zero_filled_bytes: 0 })?;
        let at_once = |offset| {
            usize::try_from(self.bytes - offset).map_or(ZEROS_PER_SYNC, |left| left.min(ZEROS_PER_SYNC))
        };
        let mut offset = 0;
        let mut zeros = vec![0; at_once(offset)];
        while offset < self.bytes {
            zeros.truncate(at_once(offset));
            let written = zeros.len() as u64;
            let write = DiskOp::Write { file: self.file.clone(), offset, bytes: zeros, sync: false };
            match disk.run(write)? {
                Outcome::Written(buffer) => zeros = buffer,
                other => unreachable!("a write was answered with {other:?}"),
            }
            disk.run(DiskOp::Sync { file: self.file.clone() })?;
            offset += written;
        }
        Ok(())
    }
}

impl Wal {
    /// A spare to be written ahead: when there is no written one, none is coming, and the active segment is half full, so
    /// that an idle node writes no zeros it may never need. The answer goes to `add_spare`, `no_room_for_spare` or
    /// `no_spare_comes`. Where there was no room it is tried again in the next segment: it fills a disk to find that out.
    pub fn wants_spare(&mut self) -> Option<SparePlan> {
        let is_half_full = self.active.end >= self.active.file_bytes / 2;
        let has_written = self.spares.files.iter().any(|spare| spare.is_written);
        if !is_half_full || has_written || self.spares.one_is_coming || self.spares.is_full {
            return None;
        }
        if self.spares.found_no_room_in == Some(self.active.sequence) {
            return None;
        }
        self.spares.one_is_coming = true;
        Some(SparePlan { file: self.spares.new_name(), bytes: self.config.segment_bytes })
    }

    /// A plan was given up: the next batch asks again.
    pub fn no_spare_comes(&mut self) {
        self.spares.one_is_coming = false;
    }

    /// A plan found no room on the disk.
    pub fn no_room_for_spare(&mut self) {
        self.no_spare_comes();
        self.spares.found_no_room_in = Some(self.active.sequence);
    }

    /// Takes a spare that was made.
    pub fn add_spare(&mut self, spare: Spare) {
        self.spares.one_is_coming = false;
        self.spares.files.push(SpareFile { file: spare.file, is_written: true });
    }

    /// Whether the reserve is not whole and the disk is not known to have no room for it.
    pub fn wants_reserve(&self) -> bool {
        let is_short = self.spares.files.len() < self.config.reserve_segments;
        is_short && !self.spares.is_asking && !self.spares.is_full && self.failure.is_none()
    }

    /// Asks the disk for a file more if the reserve is not whole, also a disk that was full when it was last asked.
    pub fn make_reserve(&mut self, disk: &mut dyn Disk) {
        if self.spares.files.len() >= self.config.reserve_segments
            || self.spares.is_asking
            || self.failure.is_some()
        {
            return;
        }
        self.spares.is_asking = true;
        let file = self.spares.new_name();
        let reserve = DiskOp::Reserve { file: file.clone(), bytes: self.config.segment_bytes };
        self.pend(disk, reserve, Role::Reserve(file));
    }

    /// The disk has answered.
    pub(super) fn reserved(
        &mut self,
        file: FileName,
        result: Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        self.spares.is_asking = false;
        match result {
            Ok(()) => {
                self.spares.is_full = false;
                self.spares.files.push(SpareFile { file, is_written: false });
                Ok(())
            }
            Err(DiskError::Full { .. }) => {
                self.spares.is_full = true;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Whether anything is reserved at all.
    pub fn has_reserve(&self) -> bool {
        self.config.reserve_segments > 0
    }

    /// Whether the reserve is not whole because the disk is full.
    pub fn is_short_of_room(&self) -> bool {
        self.spares.is_full && self.spares.files.len() < self.config.reserve_segments
    }

    /// How many bytes of batches are sure to find room, if a batch that does not fit what is left of a segment counts
    /// twice: what is left is lost to it.
    pub fn room_bytes(&self) -> u64 {
        let left = self.active.file_bytes.saturating_sub(self.active.end + CONTINUED_BYTES as u64);
        (left + self.spares.files.len() as u64 * self.batch_bytes_max()).saturating_sub(self.held_back())
    }

    /// What `room_bytes` is at least when the reserve is whole.
    pub fn whole_room_bytes(&self) -> u64 {
        (self.config.reserve_segments as u64 * self.batch_bytes_max()).saturating_sub(self.held_back())
    }

    /// The largest batch that finds its place in a spare; a larger one needs a file of a size of its own.
    pub fn batch_bytes_max(&self) -> u64 {
        let opening = files::opening(&self.staged.state, &[]).len() + CONTINUED_BYTES;
        self.config.segment_bytes.saturating_sub(opening as u64)
    }

    fn held_back(&self) -> u64 {
        self.config.segment_bytes / HELD_BACK_PART
    }
}
