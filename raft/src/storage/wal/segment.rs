//! Segments, the files of the log: their names, their headers, their places.
//!
//! ```text
//! name:  wal-<sequence number, 16 hexadecimal digits>.log      spares: spare-<number, 16 hexadecimal digits>.log
//!
//! offset  bytes  what (integers are little-endian)
//!      0      8  "RKVWAL\r\n"
//!      8      4  format version
//!     12      4  size of this header
//!     16      8  the seed of the data directory
//!     24      8  the sequence number, as in the name
//!     32      8  where the segment before ends, its record "continued" included; 0 in a directory's first segment
//!     40      4  the checksum chain at that place
//!     44      8  index of the log's last entry when this segment was begun
//!     52      8  zeros
//!     60      4  CRC32 of all of the above
//! ```
//!
//! The last thing written to a segment says that the log is continued in the next one (`record`): nothing else would
//! show that a successor is lost. Room for it is kept free at the segment's end. The order is this:
//!
//! 1. the next file gets its name, and its header and first batch are written and synced;
//! 2. the directory is synced;
//! 3. "continued" is written behind the last record of the segment before, and synced;
//! 4. only then is that first batch acknowledged, or named as `synced_to`.
//!
//! So a segment that is continued has a successor that reads back at least to the end of its first batch; anything else
//! is damage. A crash between 1 and 3 leaves a file whose header names an end that the segment before does not reach:
//! recovery drops it, since nobody was told of it. Logs written without "continued" are read too: their headers name the
//! end as it is.
//!
//! Sequence numbers rise by one. The checksums of the records stand on them, so a file must never become the segment of a
//! number whose records it has held before: segments that recovery drops and spares of earlier lives are removed, never
//! used again.

use byteorder::{ByteOrder, LittleEndian};
use raft_core::Index;

use super::super::disk::FileName;

/// The header's size; the first record follows it.
pub const SEGMENT_HEADER_BYTES: usize = 64;

/// The version of the log's format that this code reads and writes.
pub const WAL_FORMAT_VERSION: u32 = 2;

const MAGIC: &[u8; 8] = b"RKVWAL\r\n";

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// The segment's sequence number.
    pub segment: u64,
    /// The byte in the segment's file.
    pub offset: u64,
}

/// What a segment's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The data directory's own number, so that a file of another directory is noticed.
    pub seed: u64,
    /// The segment's sequence number.
    pub sequence: u64,
    /// Where the segment before ends.
    pub previous_end: u64,
    /// The checksum chain at that end.
    pub previous_chain: u32,
    /// Index of the log's last entry when the segment was begun.
    pub last_index_before: Index,
}

/// What stands where a header should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderRead {
    /// A header.
    Header(SegmentHeader),
    /// The header of a format this code does not know.
    UnknownVersion(u32),
    /// Nothing that can be read: never written, torn, or damaged.
    Unreadable,
}

impl SegmentHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        LittleEndian::write_u32(&mut bytes[8..], WAL_FORMAT_VERSION);
        LittleEndian::write_u32(&mut bytes[12..], SEGMENT_HEADER_BYTES as u32);
        LittleEndian::write_u64(&mut bytes[16..], self.seed);
        LittleEndian::write_u64(&mut bytes[24..], self.sequence);
        LittleEndian::write_u64(&mut bytes[32..], self.previous_end);
        LittleEndian::write_u32(&mut bytes[40..], self.previous_chain);
        LittleEndian::write_u64(&mut bytes[44..], self.last_index_before.0);
        let checksum = crc32fast::hash(&bytes[..60]);
        LittleEndian::write_u32(&mut bytes[60..], checksum);
        bytes
    }

    /// Reads the header at the beginning of a file.
    pub fn decode(file: &[u8]) -> HeaderRead {
        if file.len() < SEGMENT_HEADER_BYTES || &file[..8] != MAGIC {
            return HeaderRead::Unreadable;
        }
        let version = LittleEndian::read_u32(&file[8..]);
        let mut as_ours = [0; 60];
        as_ours.copy_from_slice(&file[..60]);
        LittleEndian::write_u32(&mut as_ours[8..], WAL_FORMAT_VERSION);
        let fits_as_ours = crc32fast::hash(&as_ours) == LittleEndian::read_u32(&file[60..]);
        match (version == WAL_FORMAT_VERSION, fits_as_ours) {
            (true, true) => {}
            (false, false) => return HeaderRead::UnknownVersion(version),
            // What fits but for its version is a header of ours whose version was damaged.
            (false, true) | (true, false) => return HeaderRead::Unreadable,
        }
        HeaderRead::Header(SegmentHeader {
            seed: LittleEndian::read_u64(&file[16..]),
            sequence: LittleEndian::read_u64(&file[24..]),
            previous_end: LittleEndian::read_u64(&file[32..]),
            previous_chain: LittleEndian::read_u32(&file[40..]),
            last_index_before: Index(LittleEndian::read_u64(&file[44..])),
        })
    }
}

/// The name of segment `sequence`.
pub fn segment_name(sequence: u64) -> FileName {
    FileName::new(&format!("wal-{sequence:016x}.log"))
}

/// The sequence number in a segment's name, if it is one.
pub fn segment_sequence(file: &FileName) -> Option<u64> {
    number_between(file, "wal-")
}

/// The name of spare file `number`.
pub(super) fn spare_name(number: u64) -> FileName {
    FileName::new(&format!("spare-{number:016x}.log"))
}

/// The number in a spare file's name, if it is one.
pub(in super::super) fn spare_number(file: &FileName) -> Option<u64> {
    number_between(file, "spare-")
}

/// Only the one spelling that we write ourselves is taken.
fn number_between(file: &FileName, before: &str) -> Option<u64> {
    let digits = file.as_str().strip_prefix(before)?.strip_suffix(".log")?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (format!("{number:016x}") == digits).then_some(number)
}
