//! The promises: term and vote once more, apart from the log, so that damage to the log never costs a vote.
//!
//! ```text
//! name: promises; two slots, at bytes 0 and 4096, written in turn
//!
//! offset  bytes  what (integers are little-endian)
//!      0      8  "RKVPROM\n"
//!      8      4  format version
//!     12      1  whether there is a vote
//!     13      1  whether the log lacks something that was acknowledged
//!     14      2  zeros
//!     16      8  the seed of the data directory
//!     24      8  number of this writing, rising by one
//!     32      8  term
//!     40      8  vote
//!     48     12  zeros
//!     60      4  CRC32 of all of the above
//! ```
//!
//! A slot is durable before the batch that holds the same change is acknowledged. With a sound log the log alone counts: a
//! slot may be ahead of it by what was never acknowledged. With a damaged one the newest slot does, and both must be
//! sound: of a slot that cannot be read nobody knows whether it was the newer one.

use byteorder::{ByteOrder, LittleEndian};
use raft_core::{HardState, NodeId, Term};

use super::super::disk::{Disk, DiskError, DiskOp, FileName, list_files, read_file};

/// The file's name.
pub const PROMISES_FILE: &str = "promises";

const MAGIC: &[u8; 8] = b"RKVPROM\n";
const VERSION: u32 = 1;
const SLOT_BYTES: usize = 64;
/// A torn or damaged page concerns one slot only.
const SLOT_DISTANCE: u64 = 4096;
const FILE_BYTES: u64 = 2 * SLOT_DISTANCE;

/// What a slot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Promise {
    pub(super) hard_state: HardState,
    /// The log lacks something that was acknowledged, and was not repaired yet.
    pub(super) is_convalescent: bool,
}

/// The file, as far as it is known.
#[derive(Debug)]
pub(super) struct Promises {
    seed: u64,
    number: u64,
    newest: Promise,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// There is no such file, or nothing was ever written to it.
    Nothing { is_there: bool },
    /// Both slots are sound, and this is the newer one.
    Sound { number: u64, newest: Promise },
    /// A slot cannot be read.
    Unreadable {
        /// What the other says.
        other: Option<(u64, Promise)>,
    },
}

fn file() -> FileName {
    FileName::new(PROMISES_FILE)
}

fn encode(seed: u64, number: u64, promise: &Promise) -> Vec<u8> {
    let mut slot = vec![0; SLOT_BYTES];
    let Promise { hard_state: HardState { term, vote }, is_convalescent } = promise;
    slot[..8].copy_from_slice(MAGIC);
    LittleEndian::write_u32(&mut slot[8..], VERSION);
    slot[12] = u8::from(vote.is_some());
    slot[13] = u8::from(*is_convalescent);
    let words = [seed, number, term.0, vote.map_or(0, |vote| vote.0)];
    LittleEndian::write_u64_into(&words, &mut slot[16..48]);
    let checksum = crc32fast::hash(&slot[..60]);
    LittleEndian::write_u32(&mut slot[60..], checksum);
    slot
}

fn decode(slot: &[u8], seed: u64) -> Option<(u64, Promise)> {
    if slot.len() != SLOT_BYTES || &slot[..8] != MAGIC || LittleEndian::read_u32(&slot[8..]) != VERSION {
        return None;
    }
    let is_whole = LittleEndian::read_u32(&slot[60..]) == crc32fast::hash(&slot[..60]);
    if !is_whole || LittleEndian::read_u64(&slot[16..]) != seed {
        return None;
    }
    let term = Term(LittleEndian::read_u64(&slot[32..]));
    let vote = (slot[12] != 0).then(|| NodeId(LittleEndian::read_u64(&slot[40..])));
    let promise = Promise { hard_state: HardState { term, vote }, is_convalescent: slot[13] != 0 };
    Some((LittleEndian::read_u64(&slot[24..]), promise))
}

/// Reads the file, which is not changed.
pub(super) fn look(disk: &mut dyn Disk, seed: u64) -> Result<Found, DiskError> {
    let file = file();
    if !list_files(disk)?.iter().any(|entry| entry.file == file) {
        return Ok(Found::Nothing { is_there: false });
    }
    let (mut slots, mut is_blank) = ([None; 2], true);
    for (place, slot) in slots.iter_mut().enumerate() {
        let bytes = read_file(disk, &file, place as u64 * SLOT_DISTANCE, SLOT_BYTES)?;
        is_blank &= bytes.iter().all(|byte| *byte == 0);
        *slot = decode(&bytes, seed);
    }
    if is_blank {
        return Ok(Found::Nothing { is_there: true });
    }
    Ok(match slots {
        [Some(first), Some(second)] => {
            let (number, newest) = if first.0 > second.0 { first } else { second };
            Found::Sound { number, newest }
        }
        [first, second] => Found::Unreadable { other: first.or(second) },
    })
}

impl Found {
    /// Whether there is such a file.
    pub(super) fn is_there(&self) -> bool {
        !matches!(self, Found::Nothing { is_there: false })
    }

    /// Whether it says that the log lacks something. A file of which nothing can be read may have said so.
    pub(super) fn says_convalescent(&self) -> bool {
        match self {
            Found::Nothing { .. } => false,
            Found::Sound { newest, .. } => newest.is_convalescent,
            Found::Unreadable { other } => other.is_none_or(|(_, promise)| promise.is_convalescent),
        }
    }

    /// Whether it says that the log lacks nothing.
    pub(super) fn says_whole(&self) -> bool {
        matches!(self, Found::Sound { newest, .. } if !newest.is_convalescent)
    }

    /// The newest term and vote that can be read.
    pub(super) fn newest(&self) -> Option<HardState> {
        match self {
            Found::Nothing { .. } => None,
            Found::Sound { newest, .. } => Some(newest.hard_state),
            Found::Unreadable { other } => other.map(|(_, promise)| promise.hard_state),
        }
    }
}

impl Promises {
    /// Makes the file say this, in both slots, durably and one after the other, and goes on from there.
    pub(super) fn begin(
        disk: &mut dyn Disk,
        seed: u64,
        found: Found,
        newest: Promise,
    ) -> Result<Promises, DiskError> {
        let number = match found {
            Found::Nothing { is_there } => {
                if !is_there {
                    disk.run(DiskOp::Create { file: file(), zero_filled_bytes: FILE_BYTES })?;
                }
                0
            }
            Found::Sound { number, .. } => number,
            Found::Unreadable { other } => other.map_or(0, |(number, _)| number),
        };
        let mut promises = Promises { seed, number, newest };
        for _ in 0..2 {
            let write = promises.write(newest);
            disk.run(write)?;
        }
        disk.run(DiskOp::SyncDirectory)?;
        Ok(promises)
    }

    /// What it said last.
    pub(super) fn newest(&self) -> Promise {
        self.newest
    }

    /// The operation that makes it say this.
    pub(super) fn write(&mut self, newest: Promise) -> DiskOp {
        self.number += 1;
        self.newest = newest;
        let offset = self.number % 2 * SLOT_DISTANCE;
        let bytes = encode(self.seed, self.number, &newest);
        DiskOp::Write { file: file(), offset, bytes, sync: true }
    }
}
