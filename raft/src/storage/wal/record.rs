//! Records, the grains of the log: `length · CRC32 · kind · body`, padded to eight bytes.
//!
//! ```text
//! offset  bytes  what (integers are little-endian)
//!      0      4  length of the body
//!      4      4  CRC32 of length, kind, body and padding, continued from the CRC32 of the record before
//!      8      1  kind
//!      9      …  body, then zeros up to a multiple of eight
//!
//! kind  body
//!    1  batch head: mark u64 · segment u64 · own offset u64 · synced-to segment u64 · synced-to offset u64 ·
//!       bytes of the batch, this record included, u64 · check of the directory's seed and the body so far, u32
//!    2  hard state: term u64 · vote u64 · whether there is a vote, u8
//!    3  snapshot marker: index u64 · term u64 · the members (`crate::membership_bytes`)
//!    4  entry without a payload (no-op): term u64 · index u64
//!    5  entry with a command: term u64 · index u64 · the command's bytes
//!    6  continued: segment u64 · offset u64 of a place in the next segment. A segment's last record, in no batch: the
//!       next segment's file exists, and everything before that place, which ends its first batch, is durable
//!    7  entry with a membership: term u64 · index u64 · the members
//! ```
//!
//! The checksum of a record stands on all records before it, back to the segment's own number, so bytes which an
//! earlier life of the file left behind never parse. A batch head can also be recognised alone, without the records
//! before it: that is how recovery learns, from behind a damaged place, that the place had been durable.
//!
//! NB: the check inside a batch head must not be a CRC32. A CRC32 over bytes that end in their own CRC32 is the same
//! whatever the bytes are: the chain would forget everything before the newest batch head.
//!
//! Nothing here knows files. Decoding must never trust a length before it is checked against what is there.

use byteorder::{ByteOrder, LittleEndian};
use bytes::Bytes;
use raft_core::{Entry, EntryId, HardState, Index, Membership, NodeId, Payload, SnapshotMeta, Term};

use super::segment::Position;
use crate::membership_bytes;

/// Length, checksum and kind.
pub(super) const RECORD_HEADER_BYTES: usize = 9;

/// Records begin at multiples of this.
pub(super) const RECORD_ALIGNMENT: usize = 8;

/// A whole batch head.
pub(super) const BATCH_HEAD_BYTES: usize = 64;

/// A whole record that says where the log goes on.
pub(super) const CONTINUED_BYTES: usize = 32;

/// Opens the body of every batch head; chosen by dice.
const BATCH_MARK: u64 = 0x9C5A_E1B2_7D03_F648;

const BATCH_BODY_BYTES: usize = 52;
const KIND_BATCH: u8 = 1;
const KIND_HARD_STATE: u8 = 2;
const KIND_SNAPSHOT: u8 = 3;
const KIND_NOOP: u8 = 4;
const KIND_COMMAND: u8 = 5;
const KIND_CONTINUED: u8 = 6;
const KIND_MEMBERSHIP: u8 = 7;

/// What one record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A batch begins.
    Batch(BatchHead),
    /// The term and vote from here on.
    HardState(HardState),
    /// A snapshot file is durable, and what it covers is the log's base.
    Snapshot(SnapshotMeta),
    /// An entry; everything behind its index that was there before is replaced.
    Entry(Entry),
    /// The segment ends, and the log goes on in the next one, durable up to here.
    Continued(Position),
}

/// What stands at the head of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHead {
    /// Where this head stands.
    pub position: Position,
    /// Everything before this place was durable when the batch was handed to the disk.
    pub synced_to: Position,
    /// The size of the batch, its head included.
    pub batch_bytes: u64,
}

impl BatchHead {
    /// Whether the batch holds nothing and says that everything before it is durable: the log was left in order.
    pub(super) fn is_seal(&self) -> bool {
        self.batch_bytes == BATCH_HEAD_BYTES as u64 && self.synced_to == self.position
    }
}

/// Why a record could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RecordFault {
    /// The bytes end before the record does, which needs this many.
    Incomplete(usize),
    /// No record stands here: zeros, stale bytes, a torn write, or damage.
    NotARecord(&'static str),
    /// A whole, checksummed record of a kind this version does not know.
    UnknownKind(u8),
    /// A whole, checksummed record whose body says nothing: it was written so, and is never a torn write.
    Senseless(&'static str),
}

impl RecordFault {
    /// What is wrong, if nothing follows the bytes that were looked at.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            RecordFault::Incomplete(_) => "a record would reach beyond the file",
            RecordFault::NotARecord(reason) | RecordFault::Senseless(reason) => reason,
            RecordFault::UnknownKind(_) => "the record is of an unknown kind",
        }
    }
}

/// The checksum a segment's first record continues from. Differs for every segment a directory ever has.
pub(super) fn first_chain(seed: u64, sequence: u64) -> u32 {
    let mut bytes = [0; 16];
    LittleEndian::write_u64(&mut bytes[..8], seed);
    LittleEndian::write_u64(&mut bytes[8..], sequence);
    crc32fast::hash(&bytes)
}

/// Appends `entry` as a record, its checksum still open.
pub(super) fn stage_entry(buffer: &mut Vec<u8>, entry: &Entry) {
    let members;
    let (kind, payload): (u8, &[u8]) = match &entry.payload {
        Payload::Noop => (KIND_NOOP, &[]),
        Payload::Command(command) => (KIND_COMMAND, command),
        Payload::Membership(membership) => {
            members = membership_bytes::encode(membership);
            (KIND_MEMBERSHIP, &members)
        }
    };
    let mut fixed = [0; 16];
    LittleEndian::write_u64(&mut fixed[..8], entry.term.0);
    LittleEndian::write_u64(&mut fixed[8..], entry.index.0);
    stage(buffer, kind, &fixed, payload);
}

/// Appends `hard_state` as a record, its checksum still open.
pub(super) fn stage_hard_state(buffer: &mut Vec<u8>, hard_state: &HardState) {
    let mut body = [0; 17];
    LittleEndian::write_u64(&mut body[..8], hard_state.term.0);
    LittleEndian::write_u64(&mut body[8..16], hard_state.vote.map_or(0, |vote| vote.0));
    body[16] = u8::from(hard_state.vote.is_some());
    stage(buffer, KIND_HARD_STATE, &body, &[]);
}

/// Appends `meta` as a record, its checksum still open.
pub(super) fn stage_snapshot(buffer: &mut Vec<u8>, meta: &SnapshotMeta) {
    let mut fixed = [0; 16];
    LittleEndian::write_u64(&mut fixed[..8], meta.last.index.0);
    LittleEndian::write_u64(&mut fixed[8..], meta.last.term.0);
    stage(buffer, KIND_SNAPSHOT, &fixed, &membership_bytes::encode(&meta.membership));
}

/// Keeps room for a batch head, which is written by `seal_batch`.
pub(super) fn stage_batch_head(buffer: &mut Vec<u8>) {
    stage(buffer, KIND_BATCH, &[0; BATCH_BODY_BYTES], &[]);
}

/// The record that ends a segment whose checksum chain is `chain`: the log is durable up to `place`, in the next segment.
/// With it the chain behind it.
pub(super) fn continued(place: Position, chain: u32) -> (Vec<u8>, u32) {
    let mut body = [0; 16];
    LittleEndian::write_u64_into(&[place.segment, place.offset], &mut body);
    let mut record = Vec::with_capacity(CONTINUED_BYTES);
    stage(&mut record, KIND_CONTINUED, &body, &[]);
    let chain = chain_records(&mut record, chain);
    (record, chain)
}

fn stage(buffer: &mut Vec<u8>, kind: u8, fixed: &[u8], rest: &[u8]) {
    let body_bytes = fixed.len() + rest.len();
    let length = u32::try_from(body_bytes).expect("an entry is far below four gigabytes");
    let mut header = [0; RECORD_HEADER_BYTES];
    LittleEndian::write_u32(&mut header[..4], length);
    header[8] = kind;
    let end = buffer.len() + record_bytes(body_bytes);
    buffer.reserve(end - buffer.len());
    buffer.extend_from_slice(&header);
    buffer.extend_from_slice(fixed);
    buffer.extend_from_slice(rest);
    buffer.resize(end, 0);
}

/// Completes a batch staged in `batch`: fills in its head and chains the checksums from `chain` on. The new chain.
pub(super) fn seal_batch(
    batch: &mut [u8],
    seed: u64,
    position: Position,
    synced_to: Position,
    chain: u32,
) -> u32 {
    assert!(batch.len() >= BATCH_HEAD_BYTES && batch[8] == KIND_BATCH, "a batch begins with its head");
    let batch_bytes = batch.len() as u64;
    let body = &mut batch[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + BATCH_BODY_BYTES];
    let words =
        [BATCH_MARK, position.segment, position.offset, synced_to.segment, synced_to.offset, batch_bytes];
    LittleEndian::write_u64_into(&words, &mut body[..48]);
    let own = head_check(seed, &body[..48]);
    LittleEndian::write_u32(&mut body[48..], own);
    chain_records(batch, chain)
}

/// Fills in the checksums of whole records, each continuing the one before, the first `chain`. The new chain.
fn chain_records(records: &mut [u8], mut chain: u32) -> u32 {
    let mut at = 0;
    while at < records.len() {
        let length = LittleEndian::read_u32(&records[at..]) as usize;
        let end = at + record_bytes(length);
        chain = checksum(chain, &records[at..end]);
        LittleEndian::write_u32(&mut records[at + 4..], chain);
        at = end;
    }
    assert_eq!(at, records.len(), "records are whole");
    chain
}

/// A record with a body of `body_bytes`, padding included.
pub(super) fn record_bytes(body_bytes: usize) -> usize {
    (RECORD_HEADER_BYTES + body_bytes).next_multiple_of(RECORD_ALIGNMENT)
}

/// The record at the beginning of `bytes`, its whole size, and the chain behind it.
pub(super) fn decode(bytes: &[u8], chain: u32) -> Result<(Record, usize, u32), RecordFault> {
    if bytes.len() < RECORD_HEADER_BYTES {
        return Err(RecordFault::Incomplete(RECORD_HEADER_BYTES));
    }
    let length = LittleEndian::read_u32(bytes) as usize;
    let size = record_bytes(length);
    if size > bytes.len() {
        return Err(RecordFault::Incomplete(size));
    }
    let stored = stored_checksum(bytes);
    let fits = checksum(chain, &bytes[..size]) == stored;
    if !fits && !raft_core::planted::is("record-checksum-not-looked-at") {
        return Err(RecordFault::NotARecord("the checksum does not fit"));
    }
    let body = &bytes[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + length];
    let record = match (bytes[8], length) {
        (KIND_BATCH, BATCH_BODY_BYTES) => Record::Batch(decode_batch_head(body)),
        (KIND_HARD_STATE, 17) => Record::HardState(decode_hard_state(body)),
        (KIND_SNAPSHOT, 16..) => Record::Snapshot(decode_snapshot(body)?),
        (KIND_NOOP, 16) => Record::Entry(decode_entry(body, Payload::Noop)),
        (KIND_COMMAND, 16..) => {
            Record::Entry(decode_entry(body, Payload::Command(Bytes::copy_from_slice(&body[16..]))))
        }
        (KIND_MEMBERSHIP, 16..) => {
            Record::Entry(decode_entry(body, Payload::Membership(Box::new(decode_members(body)?))))
        }
        (KIND_CONTINUED, 16) => Record::Continued(decode_place(body)),
        // Zeros, whose checksum fits once in four billion places.
        (0, _) => return Err(RecordFault::NotARecord("there is no kind 0")),
        (kind, _) => return Err(RecordFault::UnknownKind(kind)),
    };
    Ok((record, size, stored))
}

/// The batch head at `position`, recognised by itself alone: `bytes` are those at that position.
pub(super) fn recognise_batch_head(bytes: &[u8], seed: u64, position: Position) -> Option<BatchHead> {
    let body = bytes.get(RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + BATCH_BODY_BYTES)?;
    if LittleEndian::read_u64(body) != BATCH_MARK {
        return None;
    }
    let head = decode_batch_head(body);
    let own = LittleEndian::read_u32(&body[48..]);
    (head.position == position && own == head_check(seed, &body[..48])).then_some(head)
}

/// The checksum that stands in the record at the beginning of `bytes`, which hold its header.
pub(super) fn stored_checksum(bytes: &[u8]) -> u32 {
    LittleEndian::read_u32(&bytes[4..])
}

fn checksum(chain: u32, record: &[u8]) -> u32 {
    let chain = if raft_core::planted::is("checksum-not-chained") { 0 } else { chain };
    let mut hasher = crc32fast::Hasher::new_with_initial(chain);
    hasher.update(&record[..4]);
    hasher.update(&record[8..]);
    hasher.finalize()
}

/// A multiplying hash of the seed and the body's words; see the note above.
fn head_check(seed: u64, body: &[u8]) -> u32 {
    let mix = |hash: u64, word: u64| {
        let product = (hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        product ^ (product >> 29)
    };
    let hash = body.chunks_exact(8).fold(seed, |hash, word| mix(hash, LittleEndian::read_u64(word)));
    (mix(hash, 0) >> 32) as u32
}

fn decode_batch_head(body: &[u8]) -> BatchHead {
    let mut words = [0; 6];
    LittleEndian::read_u64_into(&body[..48], &mut words);
    let [_mark, segment, offset, synced_segment, synced_offset, batch_bytes] = words;
    BatchHead {
        position: Position { segment, offset },
        synced_to: Position { segment: synced_segment, offset: synced_offset },
        batch_bytes,
    }
}

fn decode_place(body: &[u8]) -> Position {
    Position { segment: LittleEndian::read_u64(body), offset: LittleEndian::read_u64(&body[8..]) }
}

fn decode_hard_state(body: &[u8]) -> HardState {
    let vote = (body[16] != 0).then(|| NodeId(LittleEndian::read_u64(&body[8..])));
    HardState { term: Term(LittleEndian::read_u64(body)), vote }
}

/// The members behind the two numbers that a body begins with.
fn decode_members(body: &[u8]) -> Result<Membership, RecordFault> {
    membership_bytes::decode(&body[16..])
        .map_err(|_| RecordFault::Senseless("its checksum fits, but the members cannot be read"))
}

fn decode_snapshot(body: &[u8]) -> Result<SnapshotMeta, RecordFault> {
    let last = EntryId {
        index: Index(LittleEndian::read_u64(body)),
        term: Term(LittleEndian::read_u64(&body[8..])),
    };
    Ok(SnapshotMeta { last, membership: decode_members(body)? })
}

fn decode_entry(body: &[u8], payload: Payload) -> Entry {
    Entry {
        term: Term(LittleEndian::read_u64(body)),
        index: Index(LittleEndian::read_u64(&body[8..])),
        payload,
    }
}
