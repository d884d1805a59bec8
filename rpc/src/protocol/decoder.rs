//! Request frames out of any byte stream, for the server's side of a connection.
//!
//! Bytes are fed as they come; [`RequestDecoder::next_frame`] hands out whole, checked frames. Limits are checked before
//! memory is taken: a header that claims 4 GiB costs nothing. After a refusal the decoder gives that refusal for ever.
//!
//! The first frame settles two questions for the connection (design §3.2): whether the header's length is a varint or
//! four little-endian bytes, and whether the peer is one of ours or a program of the origin.

use bytes::{Buf, Bytes, BytesMut};

use super::head_bytes::{HeadBytes, Span};
use super::header::{Kind, Malformed, parse_request_header};
use super::large_body::{LARGE_BYTES_MIN, LargeBody};

/// Largest header accepted, in bytes.
pub const HEADER_BYTES_MAX: usize = 4096;

/// Above this capacity an empty receive buffer is given back, in bytes.
const BUFFER_KEPT_BYTES_MAX: usize = 64 * 1024;

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
    /// Arguments beyond the limit.
    #[error("arguments of {bytes} bytes, the maximum is {max}")]
    ArgsTooLarge {
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

/// One whole request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestFrame {
    /// The frame's header, names included.
    head: HeadBytes,
    service: Span,
    method: Span,
    auth_token: Span,
    /// The caller's number of this call; 0 on a legacy connection.
    pub call_id: u64,
    /// What is left of the caller's deadline in milliseconds; 0 when it was not said.
    pub timeout_ms: u64,
    /// The number of the request that this call belongs to; 0 when it was not said.
    pub request_id: u64,
    /// What the frame is for.
    pub kind: Kind,
    /// The serialized arguments, a slice of the receive buffer.
    pub args: Bytes,
}

impl RequestFrame {
    /// Name of the service called.
    pub fn service(&self) -> &[u8] {
        self.service.of(self.head.bytes())
    }

    /// Name of the method called.
    pub fn method(&self) -> &[u8] {
        self.method.of(self.head.bytes())
    }

    /// Who the connection's peer claims to be; empty when it does not say.
    pub fn auth_token(&self) -> &[u8] {
        self.auth_token.of(self.head.bytes())
    }
}

/// A header that has been read while its arguments may still be on their way.
#[derive(Debug, Clone)]
struct Head {
    bytes: HeadBytes,
    service: Span,
    method: Span,
    auth_token: Span,
    request_id: u64,
    args_bytes: usize,
    call_id: u64,
    timeout_ms: u64,
    kind: Kind,
}

/// See the module's text.
#[derive(Debug)]
pub struct RequestDecoder {
    buffer: BytesMut,
    args_bytes_max: u64,
    form: Option<LengthForm>,
    mode: Option<Mode>,
    head: Option<Head>,
    /// The arguments of `head`, if they are large and not all there; `head` and its bytes have left the buffer then.
    large: Option<LargeBody>,
    expects_large: bool,
    refusal: Option<Refusal>,
}

impl RequestDecoder {
    /// A decoder of a fresh connection that takes arguments of up to `args_bytes_max` bytes.
    pub fn new(args_bytes_max: u64) -> RequestDecoder {
        RequestDecoder {
            buffer: BytesMut::new(),
            args_bytes_max,
            form: None,
            mode: None,
            head: None,
            large: None,
            expects_large: false,
            refusal: None,
        }
    }

    /// How the peer speaks; `None` before its first whole header.
    pub fn mode(&self) -> Option<Mode> {
        self.mode
    }

    /// Whether bytes are waiting that belong to no frame handed out.
    pub fn has_buffered(&self) -> bool {
        !self.buffer.is_empty() || self.large.as_ref().is_some_and(LargeBody::is_whole)
    }

    /// Where the bytes received next may be appended directly instead of being fed: into a large body that has begun. To
    /// be followed by [`RequestDecoder::received`].
    pub fn room(&mut self) -> Option<&mut Vec<u8>> {
        self.large.as_mut().and_then(LargeBody::room)
    }

    /// Bytes have been appended to the [`RequestDecoder::room`].
    pub fn received(&mut self) {
        let surplus = self.large.as_mut().map(LargeBody::take_surplus);
        self.buffer.extend_from_slice(&surplus.unwrap_or_default());
    }

    /// Whether the latest body was a large one, so that another may follow: then little should be fed at a time, the rest
    /// of it being received directly.
    pub fn expects_large(&self) -> bool {
        self.expects_large
    }

    /// Takes received bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        let bytes = self.large.as_mut().map_or(bytes, |large| large.take(bytes));
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` until more bytes are fed.
    ///
    /// # Errors
    /// When the stream is refused; it stays refused.
    pub fn next_frame(&mut self) -> Result<Option<RequestFrame>, Refusal> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        // A header is put aside only if its arguments are not there: most often they are.
        let head = match self.head.take() {
            Some(head) => head,
            None => match self.read_head() {
                Ok(Some(head)) => head,
                Ok(None) => return Ok(None),
                Err(refusal) => {
                    self.refusal = Some(refusal);
                    self.buffer = BytesMut::new();
                    return Err(refusal);
                }
            },
        };
        if !self.has_args(head.args_bytes) {
            self.head = Some(head);
            return Ok(None);
        }
        self.expects_large = head.args_bytes >= LARGE_BYTES_MIN;
        let args = match self.large.take() {
            Some(large) => large.into_bytes(),
            None if head.args_bytes == 0 => Bytes::new(),
            None => self.buffer.split_to(head.args_bytes).freeze(),
        };
        if self.buffer.is_empty() && self.buffer.capacity() > BUFFER_KEPT_BYTES_MAX {
            self.buffer = BytesMut::new();
        }
        Ok(Some(RequestFrame {
            head: head.bytes,
            service: head.service,
            method: head.method,
            auth_token: head.auth_token,
            request_id: head.request_id,
            call_id: head.call_id,
            timeout_ms: head.timeout_ms,
            kind: head.kind,
            args,
        }))
    }

    /// Whether the arguments are there as a whole; if not, makes room for them.
    fn has_args(&mut self, args_bytes: usize) -> bool {
        if let Some(large) = &self.large {
            return large.is_whole();
        }
        if self.buffer.len() >= args_bytes {
            return true;
        }
        if args_bytes >= LARGE_BYTES_MIN {
            self.large = Some(LargeBody::new(args_bytes, &self.buffer));
            self.buffer.clear();
        } else {
            self.buffer.reserve(args_bytes - self.buffer.len());
        }
        false
    }

    /// Reads and checks the header at the front of the buffer, once it is there as a whole.
    fn read_head(&mut self) -> Result<Option<Head>, Refusal> {
        let Some((form, prefix_bytes, header_bytes)) = self.read_header_length()? else { return Ok(None) };
        let Some(bytes) = self.buffer.get(prefix_bytes..prefix_bytes + header_bytes) else { return Ok(None) };
        let header = parse_request_header(bytes)?;
        let mode = if header.has_own_fields { Mode::Own } else { Mode::Legacy };
        if *self.mode.get_or_insert(mode) != mode {
            return Err(Refusal::MixedModes);
        }
        if mode == Mode::Own && form == LengthForm::FixedLittleEndian {
            return Err(Refusal::HeaderLength);
        }
        if mode == Mode::Own && header.call_id == 0 && matches!(header.kind, Kind::Call | Kind::Ping) {
            return Err(Refusal::NoCallId);
        }
        if header.args_size > self.args_bytes_max {
            return Err(Refusal::ArgsTooLarge { bytes: header.args_size, max: self.args_bytes_max });
        }
        let within = |part: &[u8]| {
            if part.is_empty() {
                return Span::default();
            }
            let start = part.as_ptr() as usize - self.buffer.as_ptr() as usize;
            Span { start: start as u16, end: (start + part.len()) as u16 }
        };
        let head = Head {
            bytes: HeadBytes::copy_of(&self.buffer[..prefix_bytes + header_bytes]),
            service: within(header.service),
            method: within(header.method),
            auth_token: within(header.auth_token),
            request_id: header.request_id,
            args_bytes: header.args_size as usize,
            call_id: header.call_id,
            timeout_ms: header.timeout_ms,
            kind: header.kind,
        };
        self.buffer.advance(prefix_bytes + header_bytes);
        Ok(Some(head))
    }

    /// The header's length and the bytes it takes, in the connection's form. The form is settled by the first two bytes:
    /// a second byte of zero can only be the fixed form, since a minimal varint does not end in zero and a zero tag is
    /// illegal in protobuf.
    fn read_header_length(&mut self) -> Result<Option<(LengthForm, usize, usize)>, Refusal> {
        if self.buffer.len() < 2 {
            return Ok(None);
        }
        let form = *self.form.get_or_insert(if self.buffer[1] == 0 {
            LengthForm::FixedLittleEndian
        } else {
            LengthForm::Varint
        });
        let length = match form {
            LengthForm::FixedLittleEndian => fixed_length(&self.buffer)?,
            LengthForm::Varint => header_length(&self.buffer)?,
        };
        Ok(length.map(|(prefix_bytes, header_bytes)| (form, prefix_bytes, header_bytes)))
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
