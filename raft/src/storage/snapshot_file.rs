//! Snapshot files: a state machine's content as of one log entry, in checksummed pieces.
//!
//! How its bytes lie is written in `super::snapshot_format`.
//!
//! The content is opaque here, and never held as a whole: a writer holds one piece, a reader one. A file counts only
//! under its final name, which it gets after it was synced; `super::snapshot_store` sees to that.

use bytes::Bytes;
use raft_core::{EntryId, Index, SnapshotMeta, Term};
use thiserror::Error;

use super::disk::{Disk, DiskError, DiskOp, FileName, Outcome, read_file};
use super::snapshot_format::{
    FOOTER_BYTES, Flaw, HEADER_FIXED_BYTES, PIECE_HEADER_BYTES, Tally, decode_header, encode_header,
    header_bytes,
};
pub use super::snapshot_format::{PIECE_BYTES_MAX, SNAPSHOT_FORMAT_VERSION};

/// Why a snapshot cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// A disk operation failed.
    #[error("a snapshot cannot be read or written: {0}")]
    Disk(#[from] DiskError),
    /// The file does not read back as it was written.
    #[error("{file} is damaged at byte {offset}: {reason}")]
    Damaged {
        /// The file.
        file: FileName,
        /// Where it stops making sense.
        offset: u64,
        /// What is wrong there.
        reason: &'static str,
    },
    /// The file is of a format this version does not read.
    #[error(
        "{file} has snapshot format version {version}; this program reads version {SNAPSHOT_FORMAT_VERSION}"
    )]
    UnknownVersion {
        /// The file.
        file: FileName,
        /// Its version.
        version: u32,
    },
    /// A peer sent something that is not the snapshot it announced. Nothing of it is kept.
    #[error("the snapshot that was received is refused: {0}")]
    Rejected(&'static str),
    /// No snapshot of this entry is there.
    #[error("there is no snapshot of entry {0}")]
    NotThere(EntryId),
}

/// Of a growing file, what is made durable at once, in bytes: some milliseconds of a disk's time.
const STRIDE_BYTES: u64 = 8 << 20;

const CUT_OFF: Flaw = Flaw::Damage("it is cut off");

/// The final name of the snapshot whose last entry is `last`.
pub fn snapshot_name(last: EntryId) -> FileName {
    FileName::new(&format!("snapshot-{:016x}-{:016x}.snap", last.index.0, last.term.0))
}

/// The last entry of the snapshot of this name, if it is a snapshot's final name.
pub fn snapshot_id(file: &FileName) -> Option<EntryId> {
    let (index, term) = file.as_str().strip_prefix("snapshot-")?.strip_suffix(".snap")?.split_once('-')?;
    let number = |digits| u64::from_str_radix(digits, 16).ok();
    let last = EntryId { index: Index(number(index)?), term: Term(number(term)?) };
    (snapshot_name(last) == *file).then_some(last)
}

/// Writes one snapshot file, piece by piece, under a name of its own that does not count yet.
#[derive(Debug)]
pub struct SnapshotWriter {
    file: FileName,
    meta: SnapshotMeta,
    /// Room for a piece's header, then its content so far.
    piece: Vec<u8>,
    offset: u64,
    stride: Stride,
    tally: Tally,
}

/// Makes a file durable while it grows, and has its pages forgotten: one sync in the end would hold up the log's own for as
/// long as it takes, and the whole file in memory would displace what is needed there. Not each piece by itself: the sync of
/// a file that has grown writes the file system's journal, too.
#[derive(Debug, Default)]
pub(super) struct Stride {
    synced_bytes: u64,
}

impl Stride {
    /// The file has `bytes` bytes.
    pub(super) fn go_on(
        &mut self,
        disk: &mut dyn Disk,
        file: &FileName,
        bytes: u64,
    ) -> Result<(), DiskError> {
        if bytes - self.synced_bytes < STRIDE_BYTES {
            return Ok(());
        }
        self.synced_bytes = bytes;
        disk.run(DiskOp::Sync { file: file.clone() })?;
        disk.run(DiskOp::Forget { file: file.clone(), bytes }).map(drop)
    }
}

impl SnapshotWriter {
    /// Begins `file`, which must not exist, with the header for `meta`. Waits for the disk, as all of this does.
    pub(super) fn begin(
        disk: &mut dyn Disk,
        file: FileName,
        meta: SnapshotMeta,
    ) -> Result<SnapshotWriter, DiskError> {
        let (header, tally) = encode_header(&meta);
        let offset = header.len() as u64;
        disk.run(DiskOp::Create { file: file.clone(), zero_filled_bytes: 0 })?;
        disk.run(DiskOp::Write { file: file.clone(), offset: 0, bytes: header, sync: false })?;
        let piece = vec![0; PIECE_HEADER_BYTES];
        Ok(SnapshotWriter { file, meta, piece, offset, stride: Stride::default(), tally })
    }

    /// What the snapshot stands for.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// Appends content of any length; it reaches the disk a piece at a time.
    pub fn write(&mut self, disk: &mut dyn Disk, mut content: &[u8]) -> Result<(), DiskError> {
        while !content.is_empty() {
            let room = PIECE_HEADER_BYTES + PIECE_BYTES_MAX - self.piece.len();
            let (now, later) = content.split_at(room.min(content.len()));
            self.piece.extend_from_slice(now);
            content = later;
            if self.piece.len() == PIECE_HEADER_BYTES + PIECE_BYTES_MAX {
                self.flush_piece(disk)?;
                self.stride.go_on(disk, &self.file, self.offset)?;
            }
        }
        Ok(())
    }

    /// Writes what is left and the footer, and makes the content durable. The file's name, its meta and its size.
    pub(super) fn finish(mut self, disk: &mut dyn Disk) -> Result<(FileName, SnapshotMeta, u64), DiskError> {
        if self.piece.len() > PIECE_HEADER_BYTES {
            self.flush_piece(disk)?;
        }
        let footer = self.tally.footer().to_vec();
        let bytes = self.offset + FOOTER_BYTES as u64;
        let write =
            DiskOp::Write { file: self.file.clone(), offset: self.offset, bytes: footer, sync: false };
        disk.run(write)?;
        disk.run(DiskOp::Sync { file: self.file.clone() })?;
        Ok((self.file, self.meta, bytes))
    }

    /// The name of the file that grows.
    pub(super) fn file(&self) -> &FileName {
        &self.file
    }

    fn flush_piece(&mut self, disk: &mut dyn Disk) -> Result<(), DiskError> {
        let mut piece = std::mem::take(&mut self.piece);
        self.tally.seal(&mut piece);
        let (file, offset) = (self.file.clone(), self.offset);
        self.offset += piece.len() as u64;
        if let Outcome::Written(buffer) =
            disk.run(DiskOp::Write { file, offset, bytes: piece, sync: false })?
        {
            self.piece = buffer;
        }
        self.piece.clear();
        self.piece.resize(PIECE_HEADER_BYTES, 0);
        Ok(())
    }
}

/// Reads one snapshot file, piece by piece, checking each before it is handed out.
///
/// NB: that the file is whole is known only when `next_piece` has returned `None`.
#[derive(Debug)]
pub struct SnapshotReader {
    file: FileName,
    meta: SnapshotMeta,
    offset: u64,
    tally: Tally,
}

impl SnapshotReader {
    /// Opens `file` and reads its header. Waits for the disk, as all of this does.
    pub fn open(disk: &mut dyn Disk, file: FileName) -> Result<SnapshotReader, SnapshotError> {
        let fixed = read_file(disk, &file, 0, HEADER_FIXED_BYTES)?;
        let bytes = header_bytes(&fixed).map_err(|flaw| flaw.of(&file, 0))?;
        let header = read_file(disk, &file, 0, bytes)?;
        let (meta, tally) = decode_header(&header).map_err(|flaw| flaw.of(&file, 0))?;
        Ok(SnapshotReader { file, meta, offset: header.len() as u64, tally })
    }

    /// What the snapshot stands for.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// The next piece of content, or `None` when all of it was handed out and the file is whole.
    pub fn next_piece(&mut self, disk: &mut dyn Disk) -> Result<Option<Bytes>, SnapshotError> {
        let header = read_file(disk, &self.file, self.offset, PIECE_HEADER_BYTES)?;
        if header.len() < PIECE_HEADER_BYTES {
            return Err(self.flawed(CUT_OFF));
        }
        let Some(mut piece) = self.tally.open_piece(&header).map_err(|flaw| self.flawed(flaw))? else {
            // One byte more than there should be: nothing may follow.
            let footer = read_file(disk, &self.file, self.offset, FOOTER_BYTES + 1)?;
            return self.tally.check_footer(&footer).map(|()| None).map_err(|flaw| self.flawed(flaw));
        };
        let content = read_file(disk, &self.file, self.offset + PIECE_HEADER_BYTES as u64, piece.missing())?;
        if content.len() < piece.missing() {
            return Err(self.flawed(CUT_OFF));
        }
        piece.take(&content);
        self.tally.close(piece).map_err(|flaw| self.flawed(flaw))?;
        self.offset += (PIECE_HEADER_BYTES + content.len()) as u64;
        Ok(Some(content))
    }

    /// Reads on to the end and shows `visit` each piece: whether the file is whole.
    pub(super) fn read_on(
        mut self,
        disk: &mut dyn Disk,
        mut visit: impl FnMut(&Bytes),
    ) -> Result<SnapshotMeta, SnapshotError> {
        while let Some(piece) = self.next_piece(disk)? {
            visit(&piece);
        }
        Ok(self.meta)
    }

    fn flawed(&self, flaw: Flaw) -> SnapshotError {
        flaw.of(&self.file, self.offset)
    }
}
