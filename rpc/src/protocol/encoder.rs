//! Frames appended to a buffer, header and body in one go.
//!
//! Lengths are computed before anything is written, so that nothing has to be moved afterwards. The names of a call
//! come encoded already (see [`Names`]): generated code carries them as a constant.

use bytes::Bytes;
use prost::Message;

use super::status::Status;
use super::varint::{VARINT_BYTES_MAX, put_varint, varint_len, write_varint};

/// Longest error text sent, in bytes; a longer one is cut at a character. Keeps reply headers below their limit.
pub const ERROR_TEXT_BYTES_MAX: usize = 1024;

/// An id that no call has.
const NO_CALL: u64 = u64::MAX;

/// The names of a call: fields 1 and 2 of `RpcHeader`.
#[derive(Debug, Clone, Copy)]
pub enum Names<'a> {
    /// The bytes of both fields, encoded beforehand.
    Encoded(&'a [u8]),
    /// Service and method, to be encoded.
    Plain(&'a str, &'a str),
}

impl Names<'_> {
    pub(crate) fn encoded_len(&self) -> usize {
        match self {
            Names::Encoded(bytes) => bytes.len(),
            Names::Plain(service, method) => bytes_field_len(service.len()) + bytes_field_len(method.len()),
        }
    }

    fn put(&self, buffer: &mut Vec<u8>) {
        match self {
            Names::Encoded(bytes) => buffer.extend_from_slice(bytes),
            Names::Plain(service, method) => {
                put_bytes_field(buffer, 1, service.as_bytes());
                put_bytes_field(buffer, 2, method.as_bytes());
            }
        }
    }
}

/// A message that is about to be appended, serialized: what an encoder needs to know of it, without its type. Every protobuf
/// message is one.
pub trait Body {
    /// Bytes that [`Body::put`] appends.
    fn body_len(&self) -> usize;
    /// Appends the serialized message.
    fn put(&self, buffer: &mut Vec<u8>);
    /// Like [`Body::put`], but may leave off the last bytes: it returns them, as they stand in memory of their own.
    fn put_apart(&self, buffer: &mut Vec<u8>) -> Bytes {
        self.put(buffer);
        Bytes::new()
    }
}

impl<M: Message> Body for M {
    fn body_len(&self) -> usize {
        self.encoded_len()
    }

    fn put(&self, buffer: &mut Vec<u8>) {
        self.encode(buffer).expect("a Vec grows as needed");
    }
}

/// The fields of a call's header that are not its names.
#[derive(Debug, Clone, Copy, Default)]
pub struct CallFields<'a> {
    /// The caller's number of this call.
    pub call_id: u64,
    /// What is left of the caller's deadline; 0: not said.
    pub timeout_ms: u64,
    /// On the first frame of a connection; empty: none.
    pub auth_token: &'a [u8],
    /// The number of the request that the call belongs to; 0: none.
    pub request_id: u64,
    /// Of a stream: bytes that the server may send; 0: no stream.
    pub credit_bytes: u64,
    /// The number of the frame's kind; 0: a call.
    pub kind: u64,
}

/// Appends a call of ours. `body_bytes` is the body's length.
pub fn put_call(
    buffer: &mut Vec<u8>,
    names: Names<'_>,
    call_id: u64,
    timeout_ms: u64,
    body: &dyn Body,
    body_bytes: usize,
) {
    put_call_with(
        buffer,
        names,
        &CallFields { call_id, timeout_ms, ..CallFields::default() },
        body,
        body_bytes,
    );
}

/// Like [`put_call`], with all there is to say.
pub fn put_call_with(
    buffer: &mut Vec<u8>,
    names: Names<'_>,
    fields: &CallFields<'_>,
    body: &dyn Body,
    body_bytes: usize,
) {
    put_call_head(buffer, names, fields, body_bytes);
    body.put(buffer);
}

/// Appends what stands before the body of a call.
#[inline]
pub(crate) fn put_call_head(
    buffer: &mut Vec<u8>,
    names: Names<'_>,
    fields: &CallFields<'_>,
    body_bytes: usize,
) {
    let CallFields { call_id, timeout_ms, auth_token, request_id, credit_bytes, kind } = *fields;
    let mut integers = Integers::of([(3, body_bytes as u64), (4, call_id), (5, timeout_ms), (6, kind)]);
    let before_token = integers.length;
    integers.put(8, credit_bytes);
    integers.put(9, request_id);
    let header_bytes = names.encoded_len() + integers.length + bytes_field_len(auth_token.len());
    buffer.reserve(varint_len(header_bytes as u64) + header_bytes);
    put_varint(buffer, header_bytes as u64);
    names.put(buffer);
    if auth_token.is_empty() {
        buffer.extend_from_slice(integers.bytes());
    } else {
        let (before, behind) = integers.bytes().split_at(before_token);
        buffer.extend_from_slice(before);
        put_bytes_field(buffer, 7, auth_token);
        buffer.extend_from_slice(behind);
    }
}

/// Appends a call as programs of the origin write it: no id, no deadline.
pub fn put_legacy_call(buffer: &mut Vec<u8>, names: Names<'_>, body: &dyn Body, body_bytes: usize) {
    put_call(buffer, names, 0, 0, body, body_bytes);
}

/// Appends a request's frame that is no call, without names.
fn put_word(buffer: &mut Vec<u8>, call_id: u64, kind: u64, body_bytes: usize, credit: u64) {
    Integers::of([(3, body_bytes as u64), (4, call_id), (6, kind), (8, credit)]).put_header(buffer);
}

/// Appends the cancellation of a call.
pub fn put_cancel(buffer: &mut Vec<u8>, call_id: u64) {
    put_word(buffer, call_id, 1, 0, 0);
}

/// Appends a ping.
pub fn put_ping(buffer: &mut Vec<u8>, call_id: u64) {
    put_word(buffer, call_id, 2, 0, 0);
}

/// Appends credit for the replies of a stream.
pub fn put_credit(buffer: &mut Vec<u8>, call_id: u64, credit: u64) {
    put_word(buffer, call_id, 4, 0, credit);
}

/// Appends a message of a client's stream.
pub fn put_stream_message(buffer: &mut Vec<u8>, call_id: u64, body: &dyn Body, body_bytes: usize) {
    put_stream_message_head(buffer, call_id, body_bytes);
    body.put(buffer);
}

/// Appends what stands before a message of a client's stream.
pub(crate) fn put_stream_message_head(buffer: &mut Vec<u8>, call_id: u64, body_bytes: usize) {
    put_word(buffer, call_id, 5, body_bytes, 0);
}

/// Appends the end of a client's stream.
pub fn put_stream_end(buffer: &mut Vec<u8>, call_id: u64) {
    put_word(buffer, call_id, 6, 0, 0);
}

/// Appends a message of a server's stream.
pub fn put_stream_reply(buffer: &mut Vec<u8>, call_id: u64, body: &dyn Body, body_bytes: usize) {
    put_stream_reply_head(buffer, call_id, body_bytes);
    body.put(buffer);
}

/// Appends what stands before a message of a server's stream.
pub(crate) fn put_stream_reply_head(buffer: &mut Vec<u8>, call_id: u64, body_bytes: usize) {
    Integers::of([(1, call_id), (4, body_bytes as u64), (5, 1)]).put_header(buffer);
}

/// Appends credit for a client's stream.
pub fn put_reply_credit(buffer: &mut Vec<u8>, call_id: u64, credit: u64) {
    Integers::of([(1, call_id), (7, credit)]).put_header(buffer);
}

/// Appends a successful reply.
pub fn put_reply(buffer: &mut Vec<u8>, call_id: u64, body: &dyn Body, body_bytes: usize) {
    put_reply_head(buffer, call_id, body_bytes);
    body.put(buffer);
}

/// Appends what stands before the body of a successful reply.
#[inline]
pub(crate) fn put_reply_head(buffer: &mut Vec<u8>, call_id: u64, body_bytes: usize) {
    Integers::of([(1, call_id), (4, body_bytes as u64)]).put_header(buffer);
}

/// Appends a reply that says why there is no answer.
pub fn put_failure(buffer: &mut Vec<u8>, call_id: u64, status: Status, text: &str) {
    let text = &text[..text.floor_char_boundary(ERROR_TEXT_BYTES_MAX)];
    let integers = Integers::of([(1, call_id), (2, u64::from(status.code()))]);
    put_varint(buffer, (integers.length + bytes_field_len(text.len())) as u64);
    buffer.extend_from_slice(integers.bytes());
    put_bytes_field(buffer, 3, text.as_bytes());
}

/// Appends the empty, successful reply of a ping.
pub fn put_pong(buffer: &mut Vec<u8>, call_id: u64) {
    Integers::of([(1, call_id)]).put_header(buffer);
}

/// Appends the word that the server wants no further calls on this connection. It bears the id of no call, for peers that
/// do not know this kind of frame.
pub fn put_going_away(buffer: &mut Vec<u8>) {
    Integers::of([(1, NO_CALL), (6, 1)]).put_header(buffer);
}

/// Room for the integer fields of a header, in bytes: one can have seven at most.
const INTEGERS_BYTES_MAX: usize = 7 * (1 + VARINT_BYTES_MAX);

/// What a request's header takes at most beside its names and the bytes of its token: the integers, the token's tag and length.
pub(crate) const OTHER_FIELDS_BYTES_MAX: usize = INTEGERS_BYTES_MAX + 3;

/// A header's integer fields below number 16, put together before they are appended as one. Zero is left out, as protobuf
/// does.
struct Integers {
    bytes: [u8; INTEGERS_BYTES_MAX],
    length: usize,
}

impl Integers {
    #[inline(always)]
    fn of<const N: usize>(fields: [(u8, u64); N]) -> Integers {
        const { assert!(N <= 7) };
        let mut integers = Integers { bytes: [0; INTEGERS_BYTES_MAX], length: 0 };
        for (field, value) in fields {
            integers.put(field, value);
        }
        integers
    }

    #[inline]
    fn put(&mut self, field: u8, value: u64) {
        let room = self.bytes[self.length..].first_chunk_mut::<{ 1 + VARINT_BYTES_MAX }>();
        let [key, room @ ..] = room.expect("there is room for seven");
        *key = field << 3;
        match value {
            0 => {}
            1..0x80 => {
                room[0] = value as u8;
                self.length += 2;
            }
            _ => self.length += 1 + write_varint(room, value),
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Appends a header of these fields alone, and its length.
    #[inline]
    fn put_header(&self, buffer: &mut Vec<u8>) {
        put_varint(buffer, self.length as u64);
        buffer.extend_from_slice(self.bytes());
    }
}

fn bytes_field_len(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { 1 + varint_len(bytes as u64) + bytes }
}

fn put_bytes_field(buffer: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        buffer.push(field << 3 | 2);
        put_varint(buffer, bytes.len() as u64);
        buffer.extend_from_slice(bytes);
    }
}
