//! The two headers of design §3.1, read in one pass over borrowed bytes.
//!
//! Hand-written rather than derived: a header is read for every frame, and nothing of it needs a copy. Unknown fields
//! are skipped, so that later versions can add some; fields of the wrong wire type are refused.

use super::varint::{VarintError, read_varint};

/// What a request frame is for (`RpcHeader.kind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A call: one terminal reply follows.
    Call,
    /// The caller has lost interest in the call of this id.
    Cancel,
    /// Answered by an empty reply at once.
    Ping,
    /// A call that gets no reply.
    OneWay,
    /// Credit for the replies of a stream.
    Credit,
    /// A message of a client's stream.
    Message,
    /// A client's stream has no further messages.
    End,
    /// Anything else, answered by `BAD_REQUEST`.
    Unknown(u64),
}

impl Kind {
    /// The kind of a number.
    pub fn from_code(code: u64) -> Kind {
        match code {
            0 => Kind::Call,
            1 => Kind::Cancel,
            2 => Kind::Ping,
            3 => Kind::OneWay,
            4 => Kind::Credit,
            5 => Kind::Message,
            6 => Kind::End,
            other => Kind::Unknown(other),
        }
    }
}

/// `RpcHeader`, borrowing its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// Short name of the service, e.g. `kvServerRpc`.
    pub service: &'a [u8],
    /// Name of the method.
    pub method: &'a [u8],
    /// Bytes that follow the header.
    pub args_size: u64,
    /// The caller's number of this call; 0 when absent.
    pub call_id: u64,
    /// What is left of the caller's deadline; 0 when absent.
    pub timeout_ms: u64,
    /// What the frame is for.
    pub kind: Kind,
    /// Who the connection's peer claims to be; on its first frame only.
    pub auth_token: &'a [u8],
    /// Of a stream: bytes that the server may send, more than before.
    pub credit_bytes: u64,
    /// The number of the request that this call belongs to; 0 when absent.
    pub request_id: u64,
    /// Whether a field >= 4 was present: the sender is one of ours, not an origin program.
    pub has_own_fields: bool,
}

/// `RpcReplyHeader`, borrowing its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyHeader<'a> {
    /// The call answered.
    pub call_id: u64,
    /// Number of the status.
    pub status: u64,
    /// For people; empty when the call succeeded.
    pub error_text: &'a [u8],
    /// Bytes that follow the header.
    pub body_size: u64,
    /// Whether further replies of this call follow.
    pub more: bool,
    /// No reply: the server wants no further calls on this connection.
    pub going_away: bool,
    /// No reply: bytes that the caller may send on its stream, more than before.
    pub credit_bytes: u64,
}

/// A header that is no protobuf message of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl From<VarintError> for Malformed {
    fn from(error: VarintError) -> Malformed {
        match error {
            VarintError::Truncated => Malformed("a field ends after the header does"),
            VarintError::TooLong => Malformed("an integer of more than 64 bits"),
        }
    }
}

/// The wire type of integers.
const INTEGER: u64 = 0;

/// The wire type of byte strings.
const STRING: u64 = 2;

/// Reads the value of a byte string at `*position`.
#[inline]
fn read_string<'a>(bytes: &'a [u8], position: &mut usize) -> Result<&'a [u8], Malformed> {
    let length = read_varint(bytes, position)?;
    let rest = &bytes[*position..];
    let value = usize::try_from(length).ok().and_then(|length| rest.get(..length));
    let value = value.ok_or(Malformed::from(VarintError::Truncated))?;
    *position += value.len();
    Ok(value)
}

/// Skips the value of the field with this key at `*position`. Returns the field's number.
fn skip_value(key: u64, bytes: &[u8], position: &mut usize) -> Result<u64, Malformed> {
    let field = key >> 3;
    if field == 0 || key > u64::from(u32::MAX) {
        return Err(Malformed("a field number that protobuf does not allow"));
    }
    let fixed = |position: &mut usize, size: usize| {
        if bytes.len() - *position < size {
            return Err(Malformed::from(VarintError::Truncated));
        }
        *position += size;
        Ok(())
    };
    match key & 7 {
        INTEGER => read_varint(bytes, position).map(drop)?,
        1 => fixed(position, 8)?,
        STRING => read_string(bytes, position).map(drop)?,
        5 => fixed(position, 4)?,
        _ => return Err(Malformed("a wire type that protobuf does not use here")),
    }
    Ok(field)
}

/// Skips a field that has no known key: one of a later version, unless its number is up to `known_max`.
fn skip_unknown(key: u64, known_max: u64, bytes: &[u8], position: &mut usize) -> Result<(), Malformed> {
    let field = skip_value(key, bytes, position)?;
    if field > known_max { Ok(()) } else { Err(Malformed("a known field with the wrong wire type")) }
}

/// Reads a request header.
///
/// # Errors
/// When the bytes are no such message.
pub fn parse_request_header(bytes: &[u8]) -> Result<RequestHeader<'_>, Malformed> {
    let mut header = RequestHeader {
        service: &[],
        method: &[],
        args_size: 0,
        call_id: 0,
        timeout_ms: 0,
        kind: Kind::Call,
        auth_token: &[],
        credit_bytes: 0,
        request_id: 0,
        has_own_fields: false,
    };
    let mut position = 0;
    while position < bytes.len() {
        let key = read_varint(bytes, &mut position)?;
        header.has_own_fields |= key >> 3 >= 4;
        match (key >> 3, key & 7) {
            (1, STRING) => header.service = read_string(bytes, &mut position)?,
            (2, STRING) => header.method = read_string(bytes, &mut position)?,
            (3, INTEGER) => header.args_size = read_varint(bytes, &mut position)?,
            (4, INTEGER) => header.call_id = read_varint(bytes, &mut position)?,
            (5, INTEGER) => header.timeout_ms = read_varint(bytes, &mut position)?,
            (6, INTEGER) => header.kind = Kind::from_code(read_varint(bytes, &mut position)?),
            (7, STRING) => header.auth_token = read_string(bytes, &mut position)?,
            (8, INTEGER) => header.credit_bytes = read_varint(bytes, &mut position)?,
            (9, INTEGER) => header.request_id = read_varint(bytes, &mut position)?,
            _ => skip_unknown(key, 9, bytes, &mut position)?,
        }
    }
    Ok(header)
}

/// Reads a reply header.
///
/// # Errors
/// When the bytes are no such message.
pub fn parse_reply_header(bytes: &[u8]) -> Result<ReplyHeader<'_>, Malformed> {
    let mut header = ReplyHeader {
        call_id: 0,
        status: 0,
        error_text: &[],
        body_size: 0,
        more: false,
        going_away: false,
        credit_bytes: 0,
    };
    let mut position = 0;
    while position < bytes.len() {
        let key = read_varint(bytes, &mut position)?;
        match (key >> 3, key & 7) {
            (1, INTEGER) => header.call_id = read_varint(bytes, &mut position)?,
            (2, INTEGER) => header.status = read_varint(bytes, &mut position)?,
            (3, STRING) => header.error_text = read_string(bytes, &mut position)?,
            (4, INTEGER) => header.body_size = read_varint(bytes, &mut position)?,
            (5, INTEGER) => header.more = read_varint(bytes, &mut position)? != 0,
            (6, INTEGER) => header.going_away = read_varint(bytes, &mut position)? != 0,
            (7, INTEGER) => header.credit_bytes = read_varint(bytes, &mut position)?,
            _ => skip_unknown(key, 7, bytes, &mut position)?,
        }
    }
    Ok(header)
}

/// How a byte string looks as a whole protobuf message, judged by its tags and lengths only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Every field ends within the bytes.
    Complete,
    /// The last field goes on after the last byte.
    Truncated,
    /// No message at all: what follows cannot mend it.
    Malformed,
}

/// Judges a bare reply of an origin server, which says nowhere how long it is.
pub fn message_shape(bytes: &[u8]) -> Shape {
    let mut position = 0;
    while position < bytes.len() {
        let skipped = read_varint(bytes, &mut position)
            .map_err(Malformed::from)
            .and_then(|key| skip_value(key, bytes, &mut position));
        match skipped {
            Ok(_) => {}
            Err(error) if error == Malformed::from(VarintError::Truncated) => return Shape::Truncated,
            Err(_) => return Shape::Malformed,
        }
    }
    Shape::Complete
}
