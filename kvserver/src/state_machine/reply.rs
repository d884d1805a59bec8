//! What the state machine answers: small, cheap to copy, and kept per write until its client has seen it.

use std::fmt;

use super::codec::{ReadError, Reader, put_varint};
use super::command::InvalidCommand;
use super::limits::{KEY_BYTES_MAX, SESSION_WINDOW, VALUE_BYTES_MAX};
use crate::mvcc::Version;

const WRITTEN: u8 = 1;
const DELETED: u8 = 2;
const NOT_FOUND: u8 = 3;
const KEY_TOO_LARGE: u8 = 4;
const VALUE_TOO_LARGE: u8 = 5;

/// The part of a write that is over its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The key.
    Key,
    /// The value, or what an append would have made of it.
    Value,
}

impl Part {
    /// The most bytes it may have.
    pub fn bytes_max(self) -> usize {
        match self {
            Part::Key => KEY_BYTES_MAX,
            Part::Value => VALUE_BYTES_MAX,
        }
    }
}

/// What an origin client's write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegacyOutcome {
    /// It is in the store, now or since its first copy.
    Done,
    /// Key or value over the limit; nothing was written.
    TooLarge,
}

/// The answer to one entry. All replicas give the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The session is open.
    SessionOpened {
        /// Its id, which is the index of the entry.
        client_id: u64,
    },
    /// Put or append: the value is in the store.
    Written {
        /// The version that wrote it; for a repeated request that of the first copy.
        version: Version,
    },
    /// The key was there, and is not from this version on.
    Deleted {
        /// The version that deleted it; for a repeated request that of the first copy.
        version: Version,
    },
    /// Delete: there was no such key.
    NotFound,
    /// Nothing was written, because a part is over its limit.
    TooLarge {
        /// Which one.
        part: Part,
        /// How long it is, or would have become.
        bytes: u64,
    },
    /// The session is not there (any more). Whether the write ran earlier is not known.
    SessionExpired,
    /// The session's client said before that it had seen this write answered.
    StaleSeq,
    /// The seq is [`SESSION_WINDOW`] or more above the session's `acked_below`; nothing was written, and the same
    /// seq may be sent again once the earlier ones are answered.
    OutOfWindow,
    /// To an origin client.
    Legacy(LegacyOutcome),
    /// The entry makes no sense.
    Invalid(InvalidCommand),
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Part::Key => "key",
            Part::Value => "value",
        })
    }
}

/// One line for people.
impl fmt::Display for Reply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::SessionOpened { client_id } => write!(formatter, "session {client_id} is open"),
            Reply::Written { version } => write!(formatter, "written at version {version}"),
            Reply::Deleted { version } => write!(formatter, "deleted at version {version}"),
            Reply::NotFound => formatter.write_str("there is no such key"),
            Reply::TooLarge { part, bytes } => {
                write!(formatter, "the {part} has {bytes} bytes, at most {} are allowed", part.bytes_max())
            }
            Reply::SessionExpired => {
                formatter.write_str("the session is gone; whether the write ran is not known")
            }
            Reply::StaleSeq => {
                formatter.write_str("the client said before that it had seen this write answered")
            }
            Reply::OutOfWindow => {
                write!(formatter, "{SESSION_WINDOW} writes of the session are waiting to be acknowledged")
            }
            Reply::Legacy(LegacyOutcome::Done) => formatter.write_str("done"),
            Reply::Legacy(LegacyOutcome::TooLarge) => formatter.write_str("key or value is too large"),
            Reply::Invalid(error) => error.fmt(formatter),
        }
    }
}

/// What a write came to when it ran: the replies that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Written(Version),
    Deleted(Version),
    NotFound,
    TooLarge(Part, u64),
}

impl From<Outcome> for Reply {
    fn from(outcome: Outcome) -> Reply {
        match outcome {
            Outcome::Written(version) => Reply::Written { version },
            Outcome::Deleted(version) => Reply::Deleted { version },
            Outcome::NotFound => Reply::NotFound,
            Outcome::TooLarge(part, bytes) => Reply::TooLarge { part, bytes },
        }
    }
}

impl From<Outcome> for LegacyOutcome {
    fn from(outcome: Outcome) -> LegacyOutcome {
        match outcome {
            Outcome::TooLarge(..) => LegacyOutcome::TooLarge,
            Outcome::Written(_) | Outcome::Deleted(_) | Outcome::NotFound => LegacyOutcome::Done,
        }
    }
}

impl Outcome {
    /// Appends its bytes in a snapshot.
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        let (tag, number) = match self {
            Outcome::Written(version) => (WRITTEN, version.0),
            Outcome::Deleted(version) => (DELETED, version.0),
            Outcome::NotFound => (NOT_FOUND, 0),
            Outcome::TooLarge(Part::Key, bytes) => (KEY_TOO_LARGE, bytes),
            Outcome::TooLarge(Part::Value, bytes) => (VALUE_TOO_LARGE, bytes),
        };
        out.push(tag);
        put_varint(out, number);
    }

    /// Reads what [`Outcome::encode`] wrote.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Outcome, ReadError> {
        let (tag, number) = (reader.byte()?, reader.varint()?);
        match tag {
            WRITTEN => Ok(Outcome::Written(Version(number))),
            DELETED => Ok(Outcome::Deleted(Version(number))),
            NOT_FOUND if number == 0 => Ok(Outcome::NotFound),
            KEY_TOO_LARGE => Ok(Outcome::TooLarge(Part::Key, number)),
            VALUE_TOO_LARGE => Ok(Outcome::TooLarge(Part::Value, number)),
            _ => Err(ReadError::OutOfRange),
        }
    }
}
