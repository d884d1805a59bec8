//! The bytes of a snapshot file: a header, pieces of content, a footer, each with a checksum continued from the one before.
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
//! Here is what both ends of it know: `super::snapshot_file` writes and reads files, `super::snapshot_stream` checks what comes
//! from a peer.

use byteorder::{ByteOrder, LittleEndian};
use crc32fast::Hasher;
use raft_core::{EntryId, Index, SnapshotMeta, Term};

use super::disk::FileName;
use super::snapshot_file::SnapshotError;
use crate::membership_bytes::{self, MEMBERSHIP_BYTES_MAX};

/// The version of the snapshot format that this code reads and writes.
pub const SNAPSHOT_FORMAT_VERSION: u32 = 2;

/// The most content one piece holds, in bytes; a file that claims more is damaged.
pub const PIECE_BYTES_MAX: usize = 1024 * 1024;

/// A header without members and checksum.
pub(super) const HEADER_FIXED_BYTES: usize = 36;
/// What stands before a piece's content.
pub(super) const PIECE_HEADER_BYTES: usize = 8;
/// A footer; it begins like a piece of no content.
pub(super) const FOOTER_BYTES: usize = 24;

const MAGIC: &[u8; 8] = b"RKVSNAP\n";
const CHECKSUM_BYTES: usize = 4;

/// What is wrong with bytes of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// They are not what was written: why.
    Damage(&'static str),
    /// They are of a format that this version does not read.
    Version(u32),
}

impl Flaw {
    /// The error of `file`, which makes no sense from `offset` on.
    pub(super) fn of(self, file: &FileName, offset: u64) -> SnapshotError {
        let file = file.clone();
        match self {
            Flaw::Damage(reason) => SnapshotError::Damaged { file, offset, reason },
            Flaw::Version(version) => SnapshotError::UnknownVersion { file, version },
        }
    }
}

/// The header of a file for `meta`, and the tally that goes on behind it.
pub(super) fn encode_header(meta: &SnapshotMeta) -> (Vec<u8>, Tally) {
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
    (header, Tally::behind(checksum))
}

/// How long the header is that begins with `fixed`, which has [`HEADER_FIXED_BYTES`], or as many as there are.
pub(super) fn header_bytes(fixed: &[u8]) -> Result<usize, Flaw> {
    if fixed.len() < HEADER_FIXED_BYTES || !fixed.starts_with(MAGIC) {
        return Err(Flaw::Damage("it does not begin like a snapshot"));
    }
    let members_bytes = LittleEndian::read_u32(&fixed[32..]) as usize;
    Ok(HEADER_FIXED_BYTES + members_bytes.min(MEMBERSHIP_BYTES_MAX) + CHECKSUM_BYTES)
}

/// Checks a header that is as long as [`header_bytes`] says, or as much of it as there is.
pub(super) fn decode_header(header: &[u8]) -> Result<(SnapshotMeta, Tally), Flaw> {
    let bytes = header_bytes(header)?;
    let Some((covered, checksum)) = header.split_last_chunk::<CHECKSUM_BYTES>() else {
        return Err(Flaw::Damage("its header is cut off"));
    };
    let version = LittleEndian::read_u32(&header[8..]);
    let members_bytes = LittleEndian::read_u32(&header[32..]) as usize;
    let mut as_ours = Vec::from(covered);
    LittleEndian::write_u32(&mut as_ours[8..], SNAPSHOT_FORMAT_VERSION);
    let chain = crc32fast::hash(&as_ours);
    let fits_as_ours = header.len() == bytes
        && members_bytes <= MEMBERSHIP_BYTES_MAX
        && chain == u32::from_le_bytes(*checksum);
    match (version == SNAPSHOT_FORMAT_VERSION, fits_as_ours) {
        (true, true) => {}
        (true, false) => return Err(Flaw::Damage("the checksum of its header does not fit")),
        (false, false) => return Err(Flaw::Version(version)),
        // What fits but for its version is a header of ours whose version was damaged.
        (false, true) => return Err(Flaw::Damage("its format version does not fit the checksum")),
    }
    let Ok(membership) = membership_bytes::decode(&covered[HEADER_FIXED_BYTES..]) else {
        return Err(Flaw::Damage("its members cannot be read"));
    };
    let last = EntryId {
        index: Index(LittleEndian::read_u64(&header[16..])),
        term: Term(LittleEndian::read_u64(&header[24..])),
    };
    Ok((SnapshotMeta { last, membership }, Tally::behind(chain)))
}

/// What was written or read so far of a file, as its footer will have to say.
#[derive(Debug)]
pub(super) struct Tally {
    chain: u32,
    content_bytes: u64,
    pieces: u64,
}

impl Tally {
    fn behind(chain: u32) -> Tally {
        Tally { chain, content_bytes: 0, pieces: 0 }
    }

    /// Fills in what stands before the content of `piece`, which has room for it, and counts it.
    pub(super) fn seal(&mut self, piece: &mut [u8]) {
        let (header, content) = piece.split_at_mut(PIECE_HEADER_BYTES);
        LittleEndian::write_u32(header, content.len() as u32);
        let mut open = OpenPiece::of(self.chain, header);
        open.take(content);
        open.expected = open.hasher.clone().finalize();
        LittleEndian::write_u32(&mut header[4..], open.expected);
        self.close(open).expect("its checksum is its own");
    }

    /// The piece of which these are the first [`PIECE_HEADER_BYTES`], or None if they begin the footer.
    pub(super) fn open_piece(&self, header: &[u8]) -> Result<Option<OpenPiece>, Flaw> {
        let piece = OpenPiece::of(self.chain, header);
        if piece.missing > PIECE_BYTES_MAX {
            return Err(Flaw::Damage("a piece claims to be longer than any is"));
        }
        Ok((piece.missing > 0).then_some(piece))
    }

    /// Counts a piece whose content has been taken whole, if it is what its checksum says.
    pub(super) fn close(&mut self, piece: OpenPiece) -> Result<(), Flaw> {
        let OpenPiece { content_bytes, missing, expected, hasher } = piece;
        assert_eq!(missing, 0, "a piece is closed when it is whole");
        self.chain = hasher.finalize();
        self.content_bytes += content_bytes as u64;
        self.pieces += 1;
        if self.chain == expected {
            Ok(())
        } else {
            Err(Flaw::Damage("the checksum of a piece does not fit"))
        }
    }

    /// The footer of a file that ends here.
    pub(super) fn footer(&self) -> [u8; FOOTER_BYTES] {
        let mut footer = [0; FOOTER_BYTES];
        LittleEndian::write_u64(&mut footer[8..], self.content_bytes);
        LittleEndian::write_u64(&mut footer[16..], self.pieces);
        let mut hasher = Hasher::new_with_initial(self.chain);
        hasher.update(&footer[..4]);
        hasher.update(&footer[8..]);
        LittleEndian::write_u32(&mut footer[4..], hasher.finalize());
        footer
    }

    /// Whether these bytes are the end of a file that is whole.
    pub(super) fn check_footer(&self, footer: &[u8]) -> Result<(), Flaw> {
        if footer == self.footer() { Ok(()) } else { Err(Flaw::Damage("its end does not fit")) }
    }
}

/// A piece whose content comes.
#[derive(Debug)]
pub(super) struct OpenPiece {
    content_bytes: usize,
    missing: usize,
    expected: u32,
    hasher: Hasher,
}

impl OpenPiece {
    fn of(chain: u32, header: &[u8]) -> OpenPiece {
        let content_bytes = LittleEndian::read_u32(header) as usize;
        let expected = LittleEndian::read_u32(&header[4..]);
        let mut hasher = Hasher::new_with_initial(chain);
        hasher.update(&header[..4]);
        OpenPiece { content_bytes, missing: content_bytes, expected, hasher }
    }

    /// How many bytes of content are still to come.
    pub(super) fn missing(&self) -> usize {
        self.missing
    }

    /// Takes the next bytes of content, no more than are missing.
    pub(super) fn take(&mut self, content: &[u8]) {
        self.hasher.update(content);
        self.missing -= content.len();
    }
}
