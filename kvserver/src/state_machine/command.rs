//! What a log entry asks of the state machine, and its bytes.
//!
//! ```text
//! format version (1 byte) · kind (1 byte) · fields as varints and length-prefixed bytes · value (all that is left)
//! ```
//!
//! The bytes are written once per request, straight from the request's fields, and read on every node from the
//! entry's own memory: nothing is copied until a value enters the store. Logs outlive releases: a format is never
//! changed, a new one gets the next number, and a number that is not known is refused by name.

use bytes::Bytes;

use super::codec::{ReadError, Reader, put_bytes, put_varint, varint_bytes};
use super::limits::LEGACY_CLIENT_ID_BYTES_MAX;

/// The only format so far.
const FORMAT: u8 = 1;
const OPEN_SESSION: u8 = 1;
const PUT: u8 = 2;
const APPEND: u8 = 3;
const DELETE: u8 = 4;
const LEGACY_PUT: u8 = 5;
const LEGACY_APPEND: u8 = 6;

/// A write's place in its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The session: the index of the entry that opened it.
    pub client_id: u64,
    /// The write's number, from 1, one per write.
    pub seq: u64,
    /// Every seq below has been answered, so its reply need not be kept.
    pub acked_below: u64,
}

/// The connection an origin client's write came in on, unique over all nodes and their restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId {
    /// The node that took the request.
    pub node: u64,
    /// Which life of that node's process.
    pub incarnation: u64,
    /// The connection within it.
    pub connection: u64,
}

/// What an origin client may do to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegacyOp {
    /// Replace the value.
    Put,
    /// Add to its end; a missing key is an empty one.
    Append,
}

/// A request to the state machine. It borrows: from the request when it is encoded, from the entry when decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Opens a session, whose id is this entry's index.
    OpenSession,
    /// Replaces the value of a key.
    Put {
        /// Which write of which session.
        stamp: Stamp,
        /// The key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
    },
    /// Adds to the end of a key's value; a missing key is an empty one.
    Append {
        /// Which write of which session.
        stamp: Stamp,
        /// The key.
        key: &'a [u8],
        /// What is added.
        value: &'a [u8],
    },
    /// Deletes a key.
    Delete {
        /// Which write of which session.
        stamp: Stamp,
        /// The key.
        key: &'a [u8],
    },
    /// A write of an origin client, which has no session (design §3.2).
    Legacy {
        /// Not unique: the origin draws it from a generator that nobody seeds.
        client_id: &'a [u8],
        /// Counts up from 1 in each of its processes.
        request_id: u64,
        /// Put or append.
        op: LegacyOp,
        /// The key.
        key: &'a [u8],
        /// The value, or what is added.
        value: &'a [u8],
        /// Where it came in.
        stream: StreamId,
    },
}

/// A log entry that makes no sense. Every replica reads it alike and answers alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCommand {
    /// Of a release that is newer than this one, or not a command at all.
    #[error("command format {found} is unknown; this program reads format {FORMAT}")]
    UnknownFormat {
        /// The first byte.
        found: u8,
    },
    /// Not one of this format's kinds.
    #[error("command kind {found} is unknown in format {FORMAT}")]
    UnknownKind {
        /// The second byte.
        found: u8,
    },
    /// It ends within a field.
    #[error("the command ends too early")]
    Truncated,
    /// It goes on after its last field.
    #[error("the command goes on for {bytes} bytes after its end")]
    TrailingBytes {
        /// How many.
        bytes: usize,
    },
    /// A number that nothing of ours would have written so, or a length over its limit.
    #[error("a number or length in the command is out of range")]
    OutOfRange,
    /// Seqs begin at 1.
    #[error("seq 0 is before the first write of a session")]
    ZeroSeq,
}

impl From<ReadError> for InvalidCommand {
    fn from(error: ReadError) -> InvalidCommand {
        match error {
            ReadError::Short => InvalidCommand::Truncated,
            ReadError::OutOfRange => InvalidCommand::OutOfRange,
        }
    }
}

impl<'a> Command<'a> {
    /// The bytes for the log, in one allocation of exactly their size.
    pub fn encode(&self) -> Bytes {
        let bytes = self.encoded_bytes();
        let mut out = Vec::with_capacity(bytes);
        out.push(FORMAT);
        match *self {
            Command::OpenSession => out.push(OPEN_SESSION),
            Command::Put { stamp, key, value } => put_write(&mut out, PUT, stamp, key, value),
            Command::Append { stamp, key, value } => put_write(&mut out, APPEND, stamp, key, value),
            Command::Delete { stamp, key } => put_write(&mut out, DELETE, stamp, key, b""),
            Command::Legacy { client_id, request_id, op, key, value, stream } => {
                out.push(match op {
                    LegacyOp::Put => LEGACY_PUT,
                    LegacyOp::Append => LEGACY_APPEND,
                });
                put_bytes(&mut out, client_id);
                for number in [request_id, stream.node, stream.incarnation, stream.connection] {
                    put_varint(&mut out, number);
                }
                put_bytes(&mut out, key);
                out.extend_from_slice(value);
            }
        }
        debug_assert_eq!(out.len(), bytes, "the size is computed before");
        Bytes::from(out)
    }

    /// How many bytes [`Command::encode`] makes.
    pub fn encoded_bytes(&self) -> usize {
        let with_length = |bytes: &[u8]| varint_bytes(bytes.len() as u64) + bytes.len();
        let stamped = |stamp: &Stamp| {
            varint_bytes(stamp.client_id) + varint_bytes(stamp.seq) + varint_bytes(stamp.acked_below)
        };
        2 + match self {
            Command::OpenSession => 0,
            Command::Put { stamp, key, value } | Command::Append { stamp, key, value } => {
                stamped(stamp) + with_length(key) + value.len()
            }
            Command::Delete { stamp, key } => stamped(stamp) + with_length(key),
            Command::Legacy { client_id, request_id, op: _, key, value, stream } => {
                let numbers = [*request_id, stream.node, stream.incarnation, stream.connection];
                let numbers: usize = numbers.into_iter().map(varint_bytes).sum();
                with_length(client_id) + numbers + with_length(key) + value.len()
            }
        }
    }

    /// Reads an entry's bytes, copying nothing.
    pub fn decode(bytes: &'a [u8]) -> Result<Command<'a>, InvalidCommand> {
        let mut reader = Reader::new(bytes);
        let found = reader.byte()?;
        if found != FORMAT {
            return Err(InvalidCommand::UnknownFormat { found });
        }
        let command = match reader.byte()? {
            OPEN_SESSION => Command::OpenSession,
            PUT => {
                let (stamp, key) = stamp_and_key(&mut reader)?;
                Command::Put { stamp, key, value: reader.rest() }
            }
            APPEND => {
                let (stamp, key) = stamp_and_key(&mut reader)?;
                Command::Append { stamp, key, value: reader.rest() }
            }
            DELETE => {
                let (stamp, key) = stamp_and_key(&mut reader)?;
                Command::Delete { stamp, key }
            }
            LEGACY_PUT => legacy(&mut reader, LegacyOp::Put)?,
            LEGACY_APPEND => legacy(&mut reader, LegacyOp::Append)?,
            found => return Err(InvalidCommand::UnknownKind { found }),
        };
        match reader.left() {
            0 => Ok(command),
            bytes => Err(InvalidCommand::TrailingBytes { bytes }),
        }
    }
}

fn put_write(out: &mut Vec<u8>, kind: u8, stamp: Stamp, key: &[u8], value: &[u8]) {
    out.push(kind);
    put_varint(out, stamp.client_id);
    put_varint(out, stamp.seq);
    put_varint(out, stamp.acked_below);
    put_bytes(out, key);
    out.extend_from_slice(value);
}

fn stamp_and_key<'a>(reader: &mut Reader<'a>) -> Result<(Stamp, &'a [u8]), InvalidCommand> {
    let stamp = Stamp { client_id: reader.varint()?, seq: reader.varint()?, acked_below: reader.varint()? };
    if stamp.seq == 0 {
        return Err(InvalidCommand::ZeroSeq);
    }
    // A key over its limit is not an unreadable command: it is answered `TooLarge`.
    Ok((stamp, reader.bytes(usize::MAX)?))
}

fn legacy<'a>(reader: &mut Reader<'a>, op: LegacyOp) -> Result<Command<'a>, InvalidCommand> {
    let client_id = reader.bytes(LEGACY_CLIENT_ID_BYTES_MAX)?;
    let request_id = reader.varint()?;
    let stream =
        StreamId { node: reader.varint()?, incarnation: reader.varint()?, connection: reader.varint()? };
    let key = reader.bytes(usize::MAX)?;
    Ok(Command::Legacy { client_id, request_id, op, key, value: reader.rest(), stream })
}
