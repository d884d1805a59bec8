//! The state of one instant, as bytes, taken while entries go on being applied.
//!
//! ```text
//! "KVSM" · format version (1 byte) · index · floor                      header
//! 1 · id, latest entry, acked_below, replies                            a session, by shard and id
//! 2 · ClientId, connection, last write, latest entry, reply             a stream of an origin client, by both
//! 3 · key                                                               a key, in byte order, then its versions:
//! 4 · version · 0, or length + 1 and the value                          a version, oldest first; 0 is a tombstone
//! 5 · CRC32 of everything before, little-endian                         the end
//! ```
//!
//! Freezing pins the newest version and shares the sessions: what it costs does not grow with the store. Every key
//! is written with all its versions from the floor of the instant up to it, not only the newest: a replica restored
//! from it must answer old versions, and move its floor, exactly like one that saw every entry. The bytes of an
//! instant are the same on every node.
//!
//! Membership and term are not the state machine's: the file around these bytes carries them. So is the checksum
//! of each chunk; the one at the end here only proves that nothing was lost between writing and reading.

use std::sync::Arc;

use bytes::Bytes;

use super::StateMachine;
use super::codec::{put_bytes, put_varint};
use super::sessions::Shard;
use super::stable_hash::StableHash;
use crate::mvcc::{Pin, Revision, TooManyPins, Version};
use raft::core::planted;

/// How the bytes begin.
pub(super) const MAGIC: &[u8; 4] = b"KVSM";
/// The only format so far.
pub(super) const FORMAT: u8 = 1;
pub(super) const SESSION: u8 = 1;
pub(super) const LEGACY_STREAM: u8 = 2;
pub(super) const KEY: u8 = 3;
pub(super) const REVISION: u8 = 4;
pub(super) const END: u8 = 5;

/// One instant of a state machine. Dropping it gives the instant up, and the memory that only it needed.
#[derive(Debug)]
pub struct Frozen {
    term: u64,
    pin: Pin,
    sessions: Vec<Arc<Shard>>,
    /// Already encoded: the table is small, and rarely used at all.
    legacy: Bytes,
}

impl Frozen {
    /// Index of the last entry applied at this instant.
    pub fn index(&self) -> u64 {
        self.pin.version().0
    }

    /// That entry's term, as the caller said.
    pub fn term(&self) -> u64 {
        self.term
    }
}

/// Where the next chunk begins.
#[derive(Clone, Debug)]
pub struct Cursor {
    position: Position,
    /// Of the bytes so far.
    checksum: u32,
    /// How many they are.
    written: u64,
}

impl Cursor {
    /// The beginning.
    pub fn start() -> Cursor {
        Cursor { position: Position::Header, checksum: 0, written: 0 }
    }

    /// How many bytes come before it.
    pub fn written(&self) -> u64 {
        self.written
    }
}

#[derive(Clone, Debug)]
enum Position {
    Header,
    /// Sessions of `shard` from `from` on, then the further shards.
    Sessions {
        shard: usize,
        from: u64,
    },
    /// The encoded streams from here on.
    Legacy {
        offset: usize,
    },
    Keys(KeyPosition),
    End,
}

#[derive(Clone, Debug, Default)]
struct KeyPosition {
    /// This key or, if it is past, the next one.
    key: Vec<u8>,
    /// Versions of `key` up to this one are written; with 0 and no `offset`, not even the key is.
    done: Version,
    /// So many bytes of the next version's value are written already, and its head.
    offset: usize,
}

/// The instant is not of this state machine (any more): it was replaced by a received snapshot meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the frozen instant belongs to a state that was replaced")]
pub struct PinLost;

impl StateMachine {
    /// Freezes this instant, which is the one after the entry at `index`, of `term`. At most
    /// [`PINS_MAX`](crate::mvcc::PINS_MAX) at once.
    pub fn freeze(&mut self, index: u64, term: u64) -> Result<Frozen, TooManyPins> {
        assert_eq!(index, self.applied, "only the present can be frozen");
        let pin = self.store.pin(Version(index))?;
        let mut legacy = Vec::new();
        self.legacy.encode(LEGACY_STREAM, &mut legacy);
        let sessions = match planted::is("snapshot-without-the-sessions") {
            true => vec![std::sync::Arc::default(); self.sessions.shards().len()],
            false => self.sessions.shards(),
        };
        Ok(Frozen { term, pin, sessions, legacy: Bytes::from(legacy) })
    }

    /// Gives the instant up. Dropping it does the same; this starts freeing at once.
    pub fn unpin(&mut self, frozen: Frozen) {
        drop(frozen);
        self.reclaim(crate::mvcc::RECLAIM_PER_WRITE);
    }

    /// The bytes of `frozen` from `cursor` on, at most some hundred more than `bytes_max` unless one session alone
    /// is longer, and where to go on; `None` at the end. Calls may be far apart and entries be applied between them.
    pub fn snapshot_chunk(
        &self,
        frozen: &Frozen,
        cursor: &Cursor,
        bytes_max: usize,
    ) -> Result<(Vec<u8>, Option<Cursor>), PinLost> {
        if !self.store.knows(&frozen.pin) {
            return Err(PinLost);
        }
        let bytes_max = bytes_max.max(1);
        let mut out = Vec::with_capacity(bytes_max.min(CAPACITY_MAX));
        let mut position = cursor.position.clone();
        while out.len() < bytes_max {
            position = match position {
                Position::Header => {
                    put_header(&mut out, frozen.pin.version(), frozen.pin.floor());
                    Position::Sessions { shard: 0, from: 0 }
                }
                Position::Sessions { shard, from } => {
                    let is_late = planted::is("sessions-of-a-later-instant");
                    let shards = if is_late { &self.sessions.shards() } else { &frozen.sessions };
                    put_sessions(&mut out, shards, shard, from, bytes_max)
                }
                Position::Legacy { offset } => put_legacy(&mut out, frozen, offset, bytes_max),
                Position::Keys(at) => self.put_keys(&mut out, frozen, at, bytes_max),
                Position::End => break,
            };
        }
        let is_end = matches!(position, Position::End);
        if is_end {
            out.push(END);
        }
        let mut hasher = crc32fast::Hasher::new_with_initial(cursor.checksum);
        hasher.update(&out);
        let checksum = hasher.finalize();
        if is_end {
            out.extend_from_slice(&checksum.to_le_bytes());
            return Ok((out, None));
        }
        let written = cursor.written + out.len() as u64;
        Ok((out, Some(Cursor { position, checksum, written })))
    }

    /// One number for everything that entries built, the same on every replica at the same index: sessions, streams,
    /// keys, versions, the floor. It reads the whole state; it is for tests and the simulator.
    pub fn state_hash(&self) -> u64 {
        let mut hash = StableHash::new();
        let mut scratch = Vec::new();
        put_header(&mut scratch, Version(self.applied), self.store.floor());
        for shard in self.sessions.shards() {
            for (client_id, session) in shard.iter() {
                session.encode(*client_id, &mut scratch);
            }
        }
        self.legacy.encode(LEGACY_STREAM, &mut scratch);
        hash.bytes(&scratch);
        for (key, revisions) in self.store.kept(b"", self.store.floor(), Version(self.applied)) {
            for (position, revision) in revisions.enumerate() {
                if position == 0 {
                    hash.bytes(key);
                }
                hash.number(revision.version.0);
                match &revision.value {
                    // Most of the state, and read word by word most of the time that this takes.
                    Some(value) => hash.number(u64::from(crc32fast::hash(value)) << 32 | value.len() as u64),
                    None => hash.number(u64::MAX),
                }
            }
        }
        hash.finish()
    }

    fn put_keys(&self, out: &mut Vec<u8>, frozen: &Frozen, at: KeyPosition, bytes_max: usize) -> Position {
        let mut offset = at.offset;
        for (key, revisions) in self.store.kept(&at.key, frozen.pin.floor(), frozen.pin.version()) {
            let is_resumed = (at.done > Version(0) || at.offset > 0) && *key == *at.key;
            let mut done = if is_resumed { at.done } else { Version(0) };
            let mut is_key_written = is_resumed;
            for revision in revisions.filter(|revision| !is_resumed || revision.version > at.done) {
                if out.len() >= bytes_max {
                    return Position::Keys(KeyPosition { key: key.to_vec(), done, offset: 0 });
                }
                if !is_key_written {
                    out.push(KEY);
                    put_bytes(out, key);
                    is_key_written = true;
                }
                offset = put_revision(out, revision, offset, bytes_max);
                if offset > 0 {
                    return Position::Keys(KeyPosition { key: key.to_vec(), done, offset });
                }
                done = revision.version;
            }
        }
        Position::End
    }
}

/// The most that a chunk's buffer is given before it is known to be needed.
const CAPACITY_MAX: usize = 1024 * 1024;

fn put_header(out: &mut Vec<u8>, version: Version, floor: Version) {
    out.extend_from_slice(MAGIC);
    out.push(FORMAT);
    put_varint(out, version.0);
    put_varint(out, floor.0);
}

fn put_sessions(
    out: &mut Vec<u8>,
    shards: &[Arc<Shard>],
    shard: usize,
    from: u64,
    bytes_max: usize,
) -> Position {
    let Some(sessions) = shards.get(shard) else { return Position::Legacy { offset: 0 } };
    for (client_id, session) in sessions.range(from..) {
        if out.len() >= bytes_max {
            return Position::Sessions { shard, from: *client_id };
        }
        out.push(SESSION);
        session.encode(*client_id, out);
    }
    Position::Sessions { shard: shard + 1, from: 0 }
}

fn put_legacy(out: &mut Vec<u8>, frozen: &Frozen, offset: usize, bytes_max: usize) -> Position {
    let end = frozen.legacy.len().min(offset + (bytes_max - out.len()));
    out.extend_from_slice(&frozen.legacy[offset..end]);
    if end < frozen.legacy.len() {
        return Position::Legacy { offset: end };
    }
    Position::Keys(KeyPosition::default())
}

/// Writes a version from `offset` of its value on, and its head if that is 0. Gives the offset reached if the
/// value is longer than there is room for, else 0.
fn put_revision(out: &mut Vec<u8>, revision: &Revision, offset: usize, bytes_max: usize) -> usize {
    if offset == 0 {
        out.push(REVISION);
        put_varint(out, revision.version.0);
        put_varint(out, revision.value.as_ref().map_or(0, |value| value.len() as u64 + 1));
    }
    let Some(value) = &revision.value else { return 0 };
    // At least one byte, or a chunk of heads alone would never get on.
    let room = bytes_max.saturating_sub(out.len()).max(1);
    let end = value.len().min(offset + room);
    out.extend_from_slice(&value[offset..end]);
    if end < value.len() { end } else { 0 }
}
