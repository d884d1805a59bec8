//! Replies, for the client's side of a connection: what [`FrameDecoder`] must know of their headers.
//!
//! A reply whose body is beyond the limit never ends the connection, since the other calls on it have done nothing wrong.

use bytes::Bytes;

use super::decoder::{Refusal, header_length};
use super::frames::{BodyLimits, Frame, FrameDecoder, Head};
use super::header::parse_reply_header;

/// What the header of a reply says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyHead {
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
    /// No reply: bytes that the caller may send on its stream, more than before.
    pub credit_bytes: u64,
}

/// One whole reply.
pub type ReplyFrame = Frame<ReplyHead>;

/// See the module's text.
pub type ReplyDecoder = FrameDecoder<ReplyHead>;

impl ReplyDecoder {
    /// A decoder of a fresh connection that takes bodies of up to `body_bytes_max` bytes, and skips what is larger.
    pub fn new(body_bytes_max: u64) -> ReplyDecoder {
        FrameDecoder::with_limits(BodyLimits { kept_max: body_bytes_max, skipped_max: u64::MAX })
    }
}

impl Head for ReplyHead {
    type Memory = ();

    fn read_length((): &mut (), buffer: &[u8]) -> Result<Option<(usize, usize)>, Refusal> {
        header_length(buffer)
    }

    fn read((): &mut (), bytes: &[u8], length_bytes: usize) -> Result<(ReplyHead, u64), Refusal> {
        let header = parse_reply_header(&bytes[length_bytes..])?;
        if header.call_id == 0 {
            return Err(Refusal::NoCallId);
        }
        let head = ReplyHead {
            call_id: header.call_id,
            status: header.status,
            error_text: Bytes::copy_from_slice(header.error_text),
            more: header.more,
            going_away: header.going_away,
            credit_bytes: header.credit_bytes,
        };
        Ok((head, header.body_size))
    }
}
