//! Frames written by hand, byte by byte, so that the tests can also write wrong ones.
//!
//! Just enough of protobuf: varint fields and byte fields. The libraries' own encoder is not used on purpose: a mistake that it
//! shares with the decoder would not be seen.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A protobuf message under construction.
#[derive(Default, Clone)]
pub struct Message(Vec<u8>);

impl Message {
    pub fn number(mut self, field: u64, value: u64) -> Message {
        put_varint(&mut self.0, field << 3);
        put_varint(&mut self.0, value);
        self
    }

    pub fn bytes(mut self, field: u64, value: &[u8]) -> Message {
        put_varint(&mut self.0, field << 3 | 2);
        put_varint(&mut self.0, value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    pub fn done(self) -> Vec<u8> {
        self.0
    }
}

pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a varint; the number and the bytes it took, or `None` if more bytes are needed.
pub fn take_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (position, byte) in bytes.iter().enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            return Some((value, position + 1));
        }
    }
    None
}

/// A request frame of ours (with a call id) or the origin's (without).
pub fn request(service: &str, method: &str, call_id: Option<u64>, args: &[u8]) -> Vec<u8> {
    let mut header = Message::default().bytes(1, service.as_bytes()).bytes(2, method.as_bytes());
    if !args.is_empty() {
        header = header.number(3, args.len() as u64);
    }
    if let Some(call_id) = call_id {
        header = header.number(4, call_id);
    }
    let header = header.done();
    let mut frame = Vec::new();
    put_varint(&mut frame, header.len() as u64);
    frame.extend(header);
    frame.extend(args);
    frame
}

/// The fields of a message by number, in the order they came.
pub type Fields = Vec<(u64, Field)>;

pub fn fields(mut bytes: &[u8]) -> Fields {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (key, length) = take_varint(bytes).expect("a field has a key");
        bytes = &bytes[length..];
        let (value, length) = take_varint(bytes).expect("a field has a value");
        bytes = &bytes[length..];
        if key & 7 == 2 {
            let (content, rest) = bytes.split_at(usize::try_from(value).unwrap());
            found.push((key >> 3, Field::Bytes(content.to_vec())));
            bytes = rest;
        } else {
            assert_eq!(key & 7, 0, "an unexpected kind of field");
            found.push((key >> 3, Field::Number(value)));
        }
    }
    found
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

/// The number in a field, 0 if it is absent.
pub fn number(fields: &[(u64, Field)], field: u64) -> u64 {
    let found = fields.iter().find_map(|(number, value)| match value {
        Field::Number(value) if *number == field => Some(*value),
        _ => None,
    });
    found.unwrap_or(0)
}

/// The bytes in a field, empty if it is absent.
pub fn bytes(fields: &[(u64, Field)], field: u64) -> Vec<u8> {
    let found = fields.iter().find_map(|(number, value)| match value {
        Field::Bytes(value) if *number == field => Some(value.clone()),
        _ => None,
    });
    found.unwrap_or_default()
}

/// A connection without any library of ours.
pub struct RawConnection {
    stream: TcpStream,
    received: Vec<u8>,
}

/// What reading came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    Bytes(Vec<u8>),
    /// The other side closed the connection.
    Closed,
    Nothing,
}

impl RawConnection {
    pub fn open(address: &str) -> RawConnection {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        RawConnection { stream, received: Vec::new() }
    }

    /// Writes; a connection that the other side has closed meanwhile takes nothing more, which is all right here.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// What one `recv` of the origin's client would return: up to 1,024 bytes at once.
    pub fn receive(&mut self, within: Duration) -> Heard {
        self.stream.set_read_timeout(Some(within)).unwrap();
        let mut buffer = [0; 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Heard::Closed,
            Ok(count) => Heard::Bytes(buffer[..count].to_vec()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Heard::Nothing
            }
            Err(_) => Heard::Closed,
        }
    }

    /// One reply frame of ours: the header's fields and the body.
    pub fn reply(&mut self, within: Duration) -> (Fields, Vec<u8>) {
        let deadline = Instant::now() + within;
        loop {
            if let Some(reply) = self.take_reply() {
                return reply;
            }
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            match self.receive(left) {
                Heard::Bytes(bytes) => self.received.extend(bytes),
                other => panic!("{other:?} instead of a reply"),
            }
        }
    }

    fn take_reply(&mut self) -> Option<(Fields, Vec<u8>)> {
        let (header_length, prefix) = take_varint(&self.received)?;
        let header_end = prefix + usize::try_from(header_length).unwrap();
        let header = fields(self.received.get(prefix..header_end)?);
        let body_end = header_end + usize::try_from(number(&header, 4)).unwrap();
        let body = self.received.get(header_end..body_end)?.to_vec();
        self.received.drain(..body_end);
        Some((header, body))
    }
}
