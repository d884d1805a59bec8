//! Snapshot files: a state machine's content as of one log entry, in checksummed pieces.
//!
//! ```text
//! name: snapshot-<index, 16 hexadecimal digits>-<term, 16 hexadecimal digits>.snap; while it grows: snapshot-<number>.tmp
//!
//! bytes  what (integers are little-endian)
//!     8  "RKVSNAP\n"
//!     4  format version
//!     4  size of this header, checksum included
//!     8  index of the last entry contained
//!     8  its term
//!     4  bytes of the members
//!     …  the members (`crate::membership_bytes`)
//!     4  CRC32 of the header up to here
//!
//! then pieces of at most one megabyte
//!     4  length, at least 1
//!     4  CRC32 of length and content, continued from the CRC32 before it
//!     …  content
//!
//! then the footer
//!     4  zeros
//!     4  CRC32 of zeros, total and number, continued from the CRC32 before it
//!     8  total of the contents' lengths
//!     8  number of pieces
//! ```
//!
//! The content is opaque here, and never held as a whole: a writer holds one piece, a reader one. A file counts only
//! under its final name, which it gets after it was synced; `super::snapshot_store` sees to that.

use byteorder::{ByteOrder, LittleEndian};
use bytes::Bytes;
use raft_core::{EntryId, Index, SnapshotMeta, Term};
use thiserror::Error;

use super::disk::{Disk, DiskError, DiskOp, FileName, Outcome, read_file};
use crate::membership_bytes::{self, MEMBERSHIP_BYTES_MAX, MembershipError};

/// The version of the snapshot format that this code reads and writes.
pub const SNAPSHOT_FORMAT_VERSION: u32 = 2;

/// The most content one piece holds, in bytes; a file that claims more is damaged.
pub const PIECE_BYTES_MAX: usize = 1024 * 1024;

const MAGIC: &[u8; 8] = b"RKVSNAP\n";
const HEADER_FIXED_BYTES: usize = 36;
const CHECKSUM_BYTES: usize = 4;
const PIECE_HEADER_BYTES: usize = 8;
const FOOTER_BYTES: usize = 24;

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

/// The longest header a file can have.
pub(super) const HEADER_BYTES_MAX: usize = HEADER_FIXED_BYTES + MEMBERSHIP_BYTES_MAX + CHECKSUM_BYTES;

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
    chain: u32,
    content_bytes: u64,
    pieces: u64,
}

impl SnapshotWriter {
    /// Begins `file`, which must not exist, with the header for `meta`. Waits for the disk, as all of this does.
    pub(super) fn begin(
        disk: &mut dyn Disk,
        file: FileName,
        meta: SnapshotMeta,
    ) -> Result<SnapshotWriter, DiskError> {
        let (header, chain) = encode_header(&meta);
        let offset = header.len() as u64;
        disk.run(DiskOp::Create { file: file.clone(), zero_filled_bytes: 0 })?;
        disk.run(DiskOp::Write { file: file.clone(), offset: 0, bytes: header, sync: false })?;
        let piece = vec![0; PIECE_HEADER_BYTES];
        Ok(SnapshotWriter { file, meta, piece, offset, chain, content_bytes: 0, pieces: 0 })
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
                // Each at once: one large sync in the end would hold up the log's own for as long as it takes.
                disk.run(DiskOp::Sync { file: self.file.clone() })?;
            }
        }
        Ok(())
    }

    /// Writes what is left and the footer, and makes the content durable. The file's name, its meta and its size.
    pub(super) fn finish(mut self, disk: &mut dyn Disk) -> Result<(FileName, SnapshotMeta, u64), DiskError> {
        if self.piece.len() > PIECE_HEADER_BYTES {
            self.flush_piece(disk)?;
        }
        let mut footer = vec![0; FOOTER_BYTES];
        LittleEndian::write_u64(&mut footer[8..], self.content_bytes);
        LittleEndian::write_u64(&mut footer[16..], self.pieces);
        let checksum = piece_checksum(self.chain, &footer);
        LittleEndian::write_u32(&mut footer[4..], checksum);
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
        let content_bytes = piece.len() - PIECE_HEADER_BYTES;
        LittleEndian::write_u32(&mut piece, content_bytes as u32);
        self.chain = piece_checksum(self.chain, &piece);
        LittleEndian::write_u32(&mut piece[4..], self.chain);
        let piece_bytes = piece.len() as u64;
        let write = DiskOp::Write { file: self.file.clone(), offset: self.offset, bytes: piece, sync: false };
        if let Outcome::Written(buffer) = disk.run(write)? {
            self.piece = buffer;
        }
        self.piece.clear();
        self.piece.resize(PIECE_HEADER_BYTES, 0);
        self.offset += piece_bytes;
        self.content_bytes += content_bytes as u64;
        self.pieces += 1;
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
    chain: u32,
    content_bytes: u64,
    pieces: u64,
}

impl SnapshotReader {
    /// Opens `file` and reads its header. Waits for the disk, as all of this does.
    pub fn open(disk: &mut dyn Disk, file: FileName) -> Result<SnapshotReader, SnapshotError> {
        let damaged = |reason| SnapshotError::Damaged { file: file.clone(), offset: 0, reason };
        let fixed = read_file(disk, &file, 0, HEADER_FIXED_BYTES)?;
        if fixed.len() < HEADER_FIXED_BYTES || &fixed[..8] != MAGIC {
            return Err(damaged("it does not begin like a snapshot"));
        }
        let version = LittleEndian::read_u32(&fixed[8..]);
        let members_bytes = LittleEndian::read_u32(&fixed[32..]) as usize;
        let header_bytes = HEADER_FIXED_BYTES + members_bytes.min(MEMBERSHIP_BYTES_MAX) + CHECKSUM_BYTES;
        let header = read_file(disk, &file, 0, header_bytes)?;
        let Some((covered, checksum)) = header.split_last_chunk::<CHECKSUM_BYTES>() else {
            return Err(damaged("its header is cut off"));
        };
        let mut as_ours = Vec::from(covered);
        LittleEndian::write_u32(&mut as_ours[8..], SNAPSHOT_FORMAT_VERSION);
        let chain = crc32fast::hash(&as_ours);
        let fits_as_ours = header.len() == header_bytes
            && members_bytes <= MEMBERSHIP_BYTES_MAX
            && chain == u32::from_le_bytes(*checksum);
        match (version == SNAPSHOT_FORMAT_VERSION, fits_as_ours) {
            (true, true) => {}
            (true, false) => return Err(damaged("the checksum of its header does not fit")),
            (false, false) => return Err(SnapshotError::UnknownVersion { file, version }),
            // What fits but for its version is a header of ours whose version was damaged.
            (false, true) => return Err(damaged("its format version does not fit the checksum")),
        }
        let Ok(meta) = decode_meta(covered) else {
            return Err(damaged("its members cannot be read"));
        };
        Ok(SnapshotReader { file, meta, offset: header_bytes as u64, chain, content_bytes: 0, pieces: 0 })
    }

    /// What the snapshot stands for.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// The next piece of content, or `None` when all of it was handed out and the file is whole.
    pub fn next_piece(&mut self, disk: &mut dyn Disk) -> Result<Option<Bytes>, SnapshotError> {
        let header = read_file(disk, &self.file, self.offset, PIECE_HEADER_BYTES)?;
        if header.len() < PIECE_HEADER_BYTES {
            return Err(self.damaged("it is cut off"));
        }
        let content_bytes = LittleEndian::read_u32(&header) as usize;
        if content_bytes == 0 {
            return self.check_footer(disk).map(|()| None);
        }
        if content_bytes > PIECE_BYTES_MAX {
            return Err(self.damaged("a piece claims to be longer than any is"));
        }
        let piece = read_file(disk, &self.file, self.offset, PIECE_HEADER_BYTES + content_bytes)?;
        if piece.len() < PIECE_HEADER_BYTES + content_bytes {
            return Err(self.damaged("it is cut off"));
        }
        let chain = piece_checksum(self.chain, &piece);
        if chain != LittleEndian::read_u32(&piece[4..]) {
            return Err(self.damaged("the checksum of a piece does not fit"));
        }
        self.chain = chain;
        self.offset += piece.len() as u64;
        self.content_bytes += content_bytes as u64;
        self.pieces += 1;
        Ok(Some(piece.slice(PIECE_HEADER_BYTES..)))
    }

    /// The next piece of a file that grows and has `bytes` bytes by now, or `None` if there is no further whole piece yet.
    pub(super) fn next_piece_before(
        &mut self,
        disk: &mut dyn Disk,
        bytes: u64,
    ) -> Result<Option<Bytes>, SnapshotError> {
        if self.offset + PIECE_HEADER_BYTES as u64 > bytes {
            return Ok(None);
        }
        let header = read_file(disk, &self.file, self.offset, PIECE_HEADER_BYTES)?;
        let content_bytes = header.get(..4).map_or(0, LittleEndian::read_u32);
        let end = self.offset + PIECE_HEADER_BYTES as u64 + u64::from(content_bytes);
        if content_bytes > 0 && end <= bytes { self.next_piece(disk) } else { Ok(None) }
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

    /// Everything before this byte of the file has been handed out.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    fn check_footer(&self, disk: &mut dyn Disk) -> Result<(), SnapshotError> {
        // One byte more than there should be: nothing may follow.
        let footer = read_file(disk, &self.file, self.offset, FOOTER_BYTES + 1)?;
        if footer.len() != FOOTER_BYTES
            || piece_checksum(self.chain, &footer) != LittleEndian::read_u32(&footer[4..])
            || LittleEndian::read_u64(&footer[8..]) != self.content_bytes
            || LittleEndian::read_u64(&footer[16..]) != self.pieces
        {
            return Err(self.damaged("its end does not fit"));
        }
        Ok(())
    }

    fn damaged(&self, reason: &'static str) -> SnapshotError {
        SnapshotError::Damaged { file: self.file.clone(), offset: self.offset, reason }
    }
}

fn encode_header(meta: &SnapshotMeta) -> (Vec<u8>, u32) {
    let members = membership_bytes::encode(&meta.membership);
    assert!(members.len() <= MEMBERSHIP_BYTES_MAX, "a membership is checked before it is in a log");
    let header_bytes = HEADER_FIXED_BYTES + members.len() + CHECKSUM_BYTES;
    let mut header = vec![0; HEADER_FIXED_BYTES];
    header[..8].copy_from_slice(MAGIC);
    LittleEndian::write_u32(&mut header[8..], SNAPSHOT_FORMAT_VERSION);
    LittleEndian::write_u32(&mut header[12..], header_bytes as u32);
    LittleEndian::write_u64(&mut header[16..], meta.last.index.0);
    LittleEndian::write_u64(&mut header[24..], meta.last.term.0);
    LittleEndian::write_u32(&mut header[32..], members.len() as u32);
    header.extend(members);
    let checksum = crc32fast::hash(&header);
    header.extend(checksum.to_le_bytes());
    (header, checksum)
}

fn decode_meta(header: &[u8]) -> Result<SnapshotMeta, MembershipError> {
    let index = Index(LittleEndian::read_u64(&header[16..]));
    let term = Term(LittleEndian::read_u64(&header[24..]));
    let membership = membership_bytes::decode(&header[HEADER_FIXED_BYTES..])?;
    Ok(SnapshotMeta { last: EntryId { term, index }, membership })
}

fn piece_checksum(chain: u32, piece: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(chain);
    hasher.update(&piece[..4]);
    hasher.update(&piece[PIECE_HEADER_BYTES..]);
    hasher.finalize()
}
