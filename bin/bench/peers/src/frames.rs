//! The frames of this project's wire, written and read in the barest way: fields by hand, nothing allocated, nothing checked
//! that an honest peer of this benchmark keeps. It is the floor, not an implementation.

use prost::encoding::{decode_varint, encode_varint};

/// What every request's header begins with: service and method.
const REQUEST_HEAD: &[u8] = b"\x0a\x05bench\x12\x04Echo";

/// Keys of the varint fields.
const ARGS_SIZE: u8 = 3 << 3;
const CALL_ID: u8 = 4 << 3;
const TIMEOUT_MS: u8 = 5 << 3;
const REPLY_CALL_ID: u8 = 1 << 3;
const REPLY_BODY_SIZE: u8 = 4 << 3;
/// Key of the payload in the body, and its wire type.
const PAYLOAD: u8 = 1 << 3 | 2;

/// A whole frame: who it belongs to, its payload, and its length on the wire.
pub struct Frame<'a> {
    /// The call.
    pub call_id: u64,
    /// The bytes to echo.
    pub payload: &'a [u8],
    /// Bytes of the whole frame.
    pub length: usize,
}

/// Which way a frame goes: the fields have other numbers.
#[derive(Clone, Copy)]
pub enum Direction {
    /// To the server.
    Request,
    /// To the client.
    Reply,
}

/// The first frame in `bytes`, if all of it is there.
///
/// # Panics
/// When the bytes are no frame: only this benchmark's own programs are read here.
pub fn read(bytes: &[u8], direction: Direction) -> Option<Frame<'_>> {
    let (id_key, size_key) = match direction {
        Direction::Request => (CALL_ID, ARGS_SIZE),
        Direction::Reply => (REPLY_CALL_ID, REPLY_BODY_SIZE),
    };
    let mut rest = bytes;
    let header_length = usize::try_from(decode_varint(&mut rest).ok()?).expect("a header is short");
    if rest.len() < header_length {
        return None;
    }
    let (mut header, body) = rest.split_at(header_length);
    let (mut call_id, mut size) = (0, 0);
    while !header.is_empty() {
        let key = decode_varint(&mut header).expect("a key");
        let value = decode_varint(&mut header).expect("a number or a length");
        match key {
            _ if key & 7 == 2 => header = &header[usize::try_from(value).expect("short")..],
            _ if key == u64::from(id_key) => call_id = value,
            _ if key == u64::from(size_key) => size = usize::try_from(value).expect("a size in memory"),
            _ => {}
        }
    }
    if body.len() < size {
        return None;
    }
    let mut message = &body[..size];
    let payload = if message.is_empty() {
        message
    } else {
        assert_eq!(message[0], PAYLOAD, "the body is an Echo");
        message = &message[1..];
        let length = usize::try_from(decode_varint(&mut message).expect("a length")).expect("short");
        &message[..length]
    };
    Some(Frame { call_id, payload, length: bytes.len() - rest.len() + header_length + size })
}

fn number(key: u8, value: u64, out: &mut Vec<u8>) {
    out.push(key);
    encode_varint(value, out);
}

fn varint_length(value: u64) -> usize {
    prost::encoding::encoded_len_varint(value)
}

/// Appends a frame.
pub fn write(call_id: u64, payload: &[u8], direction: Direction, out: &mut Vec<u8>) {
    let body_length = match payload.len() {
        0 => 0,
        length => 1 + varint_length(length as u64) + length,
    };
    let fields = 1 + varint_length(call_id) + 1 + varint_length(body_length as u64);
    match direction {
        Direction::Request => {
            const TIMEOUT: u64 = 5_000;
            let header_length = REQUEST_HEAD.len() + fields + 1 + varint_length(TIMEOUT);
            encode_varint(header_length as u64, out);
            out.extend_from_slice(REQUEST_HEAD);
            number(ARGS_SIZE, body_length as u64, out);
            number(CALL_ID, call_id, out);
            number(TIMEOUT_MS, TIMEOUT, out);
        }
        Direction::Reply => {
            encode_varint(fields as u64, out);
            number(REPLY_CALL_ID, call_id, out);
            number(REPLY_BODY_SIZE, body_length as u64, out);
        }
    }
    if !payload.is_empty() {
        out.push(PAYLOAD);
        encode_varint(payload.len() as u64, out);
        out.extend_from_slice(payload);
    }
}
