//! Reply frames out of any byte stream, for the client's side of a connection.
//!
//! A reply whose body is beyond the limit does not end the connection, since the other calls on it have done nothing
//! wrong: its body is skipped as it comes, without being kept, and the frame says so.

use bytes::{Buf, Bytes, BytesMut};

use super::decoder::{Refusal, header_length};
use super::header::parse_reply_header;
use super::large_body::{LARGE_BYTES_MIN, LargeBody};

/// Above this capacity an empty receive buffer is given back, in bytes.
const BUFFER_KEPT_BYTES_MAX: usize = 64 * 1024;

/// One whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyFrame {
    /// The call answered.
    pub call_id: u64,
    /// Number of the status.
    pub status: u64,
    /// For people; empty when the call succeeded.
    pub error_text: Bytes,
    /// Whether further replies of this call follow.
    pub more: bool,
    /// No reply: the server wants no further calls on this connection.
    pub going_away: bool,
    /// The serialized reply, a slice of the receive buffer; or its size, when it is beyond the limit.
    pub body: Result<Bytes, u64>,
}

#[derive(Debug)]
struct Head {
    call_id: u64,
    status: u64,
    error_text: Bytes,
    more: bool,
    going_away: bool,
    body_bytes: usize,
}

/// See the module's text.
#[derive(Debug)]
pub struct ReplyDecoder {
    buffer: BytesMut,
    body_bytes_max: u64,
    head: Option<Head>,
    /// The body of `head`, if it is large and not all there.
    large: Option<LargeBody>,
    expects_large: bool,
    /// Bytes of a body beyond the limit that are still to come.
    to_skip: u64,
    refusal: Option<Refusal>,
}

impl ReplyDecoder {
    /// A decoder of a fresh connection that takes bodies of up to `body_bytes_max` bytes.
    pub fn new(body_bytes_max: u64) -> ReplyDecoder {
        ReplyDecoder {
            buffer: BytesMut::new(),
            body_bytes_max,
            head: None,
            large: None,
            expects_large: false,
            to_skip: 0,
            refusal: None,
        }
    }

    /// Where the bytes received next may be appended directly instead of being fed: into a large body that has begun. To
    /// be followed by [`ReplyDecoder::received`].
    pub fn room(&mut self) -> Option<&mut Vec<u8>> {
        self.large.as_mut().and_then(LargeBody::room)
    }

    /// Bytes have been appended to the [`ReplyDecoder::room`].
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
        let skipped = self.to_skip.min(bytes.len() as u64);
        self.to_skip -= skipped;
        let bytes = &bytes[skipped as usize..];
        let bytes = self.large.as_mut().map_or(bytes, |large| large.take(bytes));
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` until more bytes are fed.
    ///
    /// # Errors
    /// When the stream is refused; it stays refused.
    pub fn next_frame(&mut self) -> Result<Option<ReplyFrame>, Refusal> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        // A header is put aside only if its body is not there: most often it is.
        let head = match self.head.take() {
            Some(head) => head,
            None => match self.read_head() {
                Ok(Some(Ok(head))) => head,
                Ok(Some(Err(oversized))) => return Ok(Some(oversized)),
                Ok(None) => return Ok(None),
                Err(refusal) => {
                    self.refusal = Some(refusal);
                    self.buffer = BytesMut::new();
                    return Err(refusal);
                }
            },
        };
        if !self.has_body(head.body_bytes) {
            self.head = Some(head);
            return Ok(None);
        }
        self.expects_large = head.body_bytes >= LARGE_BYTES_MIN;
        let body = match self.large.take() {
            Some(large) => large.into_bytes(),
            None if head.body_bytes == 0 => Bytes::new(),
            None => self.buffer.split_to(head.body_bytes).freeze(),
        };
        if self.buffer.is_empty() && self.buffer.capacity() > BUFFER_KEPT_BYTES_MAX {
            self.buffer = BytesMut::new();
        }
        let Head { call_id, status, error_text, more, going_away, .. } = head;
        Ok(Some(ReplyFrame { call_id, status, error_text, more, going_away, body: Ok(body) }))
    }

    /// Whether the body is there as a whole; if not, makes room for it.
    fn has_body(&mut self, body_bytes: usize) -> bool {
        if let Some(large) = &self.large {
            return large.is_whole();
        }
        if self.buffer.len() >= body_bytes {
            return true;
        }
        if body_bytes >= LARGE_BYTES_MIN {
            self.large = Some(LargeBody::new(body_bytes, &self.buffer));
            self.buffer.clear();
        } else {
            self.buffer.reserve(body_bytes - self.buffer.len());
        }
        false
    }

    /// Reads and consumes the header at the front of the buffer. The inner error is a reply beyond the limit.
    fn read_head(&mut self) -> Result<Option<Result<Head, ReplyFrame>>, Refusal> {
        let Some((prefix_bytes, header_bytes)) = header_length(&self.buffer)? else { return Ok(None) };
        let Some(bytes) = self.buffer.get(prefix_bytes..prefix_bytes + header_bytes) else { return Ok(None) };
        let header = parse_reply_header(bytes)?;
        if header.call_id == 0 {
            return Err(Refusal::NoCallId);
        }
        let (call_id, status, more, body_size) =
            (header.call_id, header.status, header.more, header.body_size);
        let going_away = header.going_away;
        let error_text = Bytes::copy_from_slice(header.error_text);
        self.buffer.advance(prefix_bytes + header_bytes);
        if body_size > self.body_bytes_max {
            let buffered = body_size.min(self.buffer.len() as u64);
            self.buffer.advance(buffered as usize);
            self.to_skip = body_size - buffered;
            return Ok(Some(Err(ReplyFrame {
                call_id,
                status,
                error_text,
                more,
                going_away,
                body: Err(body_size),
            })));
        }
        Ok(Some(Ok(Head { call_id, status, error_text, more, going_away, body_bytes: body_size as usize })))
    }
}
