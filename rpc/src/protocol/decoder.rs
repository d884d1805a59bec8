//! Requests, for the server's side of a connection: what [`FrameDecoder`] must know of their headers, and why a stream of
//! frames may be refused.
//!
//! The first frame settles two questions for the connection (design §3.2): whether the header's length is a varint or
//! four little-endian bytes, and whether the peer is one of ours or a program of the origin.

use super::frames::{BodyLimits, Frame, FrameDecoder, Head};
use std::sync::Arc;

use super::call_names::{CallNames, KnownNames};
use super::header::{Kind, Malformed, parse_request_header};

/// Largest header accepted, in bytes.
pub const HEADER_BYTES_MAX: usize = 4096;

/// Why a stream of frames ends: the peer's fault, and its connection's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A header beyond the limit.
    #[error("a header of {bytes} bytes, the maximum is {max}")]
    HeaderTooLarge {
        /// What the frame claims.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// A body beyond the limit, and beyond what is skipped.
    #[error("a body of {bytes} bytes, the maximum is {max}")]
    BodyTooLarge {
        /// What the frame claims.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// A header length that is neither a minimal varint nor the fixed form the connection began with.
    #[error("a header length in no known form")]
    HeaderLength,
    /// The header is no message of its type.
    #[error("a malformed header: {0}")]
    Header(&'static str),
    /// A frame of ours on a connection of the origin, or the other way round.
    #[error("a frame of the other mode than the connection's first")]
    MixedModes,
    /// A stream's message for which there was no credit.
    #[error("a stream's message beyond its credit")]
    BeyondCredit,
    /// A frame of ours that expects a reply and has no call id.
    #[error("a call without an id")]
    NoCallId,
}

impl From<Malformed> for Refusal {
    fn from(error: Malformed) -> Refusal {
        Refusal::Header(error.0)
    }
}

/// How the peer speaks, as its first frame showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Many calls in flight, replies with headers.
    Own,
    /// One call at a time, bare replies.
    Legacy,
}

/// How the length of a header is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LengthForm {
    Varint,
    FixedLittleEndian,
}

/// What the header of a request says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    names: Arc<CallNames>,
    auth_token: Box<[u8]>,
    /// The caller's number of this call; 0 on a legacy connection.
    pub call_id: u64,
    /// What is left of the caller's deadline in milliseconds; 0 when it was not said.
    pub timeout_ms: u64,
    /// The number of the request that this call belongs to; 0 when it was not said.
    pub request_id: u64,
    /// Of a stream: bytes that the server may send, more than before.
    pub credit_bytes: u64,
    /// What the frame is for.
    pub kind: Kind,
}

/// One whole request: its body is the serialized arguments.
pub type RequestFrame = Frame<RequestHead>;

/// See the module's text.
pub type RequestDecoder = FrameDecoder<RequestHead>;

impl RequestHead {
    /// Name of the service called.
    pub fn service(&self) -> &[u8] {
        self.names.service.bytes()
    }

    /// Name of the method called.
    pub fn method(&self) -> &[u8] {
        self.names.method.bytes()
    }

    /// Who the connection's peer claims to be; empty when it does not say.
    pub fn auth_token(&self) -> &[u8] {
        &self.auth_token
    }

    pub(crate) fn names(&self) -> &Arc<CallNames> {
        &self.names
    }
}

/// What a connection remembers: what its first frame has settled, and who was called.
#[derive(Debug, Default)]
pub struct Settled {
    form: Option<LengthForm>,
    mode: Option<Mode>,
    names: KnownNames,
}

impl RequestDecoder {
    /// A decoder of a fresh connection that takes arguments of up to `args_bytes_max` bytes, and refuses what is larger.
    pub fn new(args_bytes_max: u64) -> RequestDecoder {
        FrameDecoder::with_limits(BodyLimits { kept_max: args_bytes_max, skipped_max: args_bytes_max })
    }

    /// How the peer speaks; `None` before its first whole header.
    pub fn mode(&self) -> Option<Mode> {
        self.memory().mode
    }
}

impl Head for RequestHead {
    type Memory = Settled;

    /// The form is settled by the first two bytes: a second byte of zero can only be the fixed form, since a minimal varint
    /// does not end in zero and a zero tag is illegal in protobuf.
    fn read_length(settled: &mut Settled, buffer: &[u8]) -> Result<Option<(usize, usize)>, Refusal> {
        let &[_, second, ..] = buffer else { return Ok(None) };
        let form = *settled.form.get_or_insert(if second == 0 {
            LengthForm::FixedLittleEndian
        } else {
            LengthForm::Varint
        });
        match form {
            LengthForm::FixedLittleEndian => fixed_length(buffer),
            LengthForm::Varint => header_length(buffer),
        }
    }

    fn read(settled: &mut Settled, bytes: &[u8], length_bytes: usize) -> Result<(RequestHead, u64), Refusal> {
        let header = parse_request_header(&bytes[length_bytes..])?;
        let mode = if header.has_own_fields { Mode::Own } else { Mode::Legacy };
        if *settled.mode.get_or_insert(mode) != mode {
            return Err(Refusal::MixedModes);
        }
        if mode == Mode::Own && settled.form == Some(LengthForm::FixedLittleEndian) {
            return Err(Refusal::HeaderLength);
        }
        if mode == Mode::Own && header.call_id == 0 && matches!(header.kind, Kind::Call | Kind::Ping) {
            return Err(Refusal::NoCallId);
        }
        let head = RequestHead {
            names: settled.names.of(header.service, header.method),
            auth_token: header.auth_token.into(),
            request_id: header.request_id,
            credit_bytes: header.credit_bytes,
            call_id: header.call_id,
            timeout_ms: header.timeout_ms,
            kind: header.kind,
        };
        Ok((head, header.args_size))
    }
}

/// Reads the fixed form: four little-endian bytes, of which only the first may be other than zero.
fn fixed_length(buffer: &[u8]) -> Result<Option<(usize, usize)>, Refusal> {
    let Some(prefix) = buffer.get(..4) else {
        let may_be_one = buffer[0] != 0 && buffer[1..].iter().all(|byte| *byte == 0);
        return if may_be_one { Ok(None) } else { Err(Refusal::HeaderLength) };
    };
    match prefix {
        [length @ 1..=255, 0, 0, 0] => Ok(Some((4, usize::from(*length)))),
        _ => Err(Refusal::HeaderLength),
    }
}

/// Reads a minimal varint of a header's length, checked against [`HEADER_BYTES_MAX`]: `(bytes it takes, length)`.
pub(super) fn header_length(buffer: &[u8]) -> Result<Option<(usize, usize)>, Refusal> {
    let mut length = 0_u64;
    for (count, &byte) in buffer.iter().take(5).enumerate() {
        length |= u64::from(byte & 0x7f) << (7 * count);
        if byte < 0x80 {
            if byte == 0 {
                return Err(Refusal::HeaderLength);
            }
            if length > HEADER_BYTES_MAX as u64 {
                return Err(Refusal::HeaderTooLarge { bytes: length, max: HEADER_BYTES_MAX as u64 });
            }
            return Ok(Some((count + 1, length as usize)));
        }
    }
    if buffer.len() < 5 { Ok(None) } else { Err(Refusal::HeaderLength) }
}
