//! Frames out of any byte stream: what both directions of a connection have in common.
//!
//! Bytes are fed as they come, or received directly into a large body that has begun; whole, checked frames are handed out.
//! Limits are checked before memory is taken, and memory is taken as bytes come: a header that claims 4 GiB costs
//! nothing. A body beyond its limit is skipped as it comes, without being kept, and its frame says so. After a refusal the
//! decoder gives that refusal for ever.
//!
//! What a header says, and how its length is written, is told by a [`Head`].

use bytes::{Buf, Bytes, BytesMut};

use super::decoder::Refusal;
use super::large_body::{LARGE_BYTES_MIN, LargeBody};

/// A receive buffer through which more has gone is given back when it is empty, in bytes: a connection at rest holds little.
const BUFFER_KEPT_BYTES_MAX: usize = 2 * 1024;

/// One direction's header, kept while its body is on its way.
pub trait Head: Sized {
    /// What a connection remembers from one header to the next.
    type Memory: Default;

    /// The bytes that the header's length takes, and that length; `None` until they have come.
    ///
    /// # Errors
    /// When the length is in no known form or beyond its limit.
    fn read_length(memory: &mut Self::Memory, buffer: &[u8]) -> Result<Option<(usize, usize)>, Refusal>;

    /// Reads and checks a header, which stands in `bytes` behind its length, of `length_bytes`; with the size of the
    /// body that follows.
    ///
    /// # Errors
    /// When it is no header that may stand there.
    fn read(memory: &mut Self::Memory, bytes: &[u8], length_bytes: usize) -> Result<(Self, u64), Refusal>;
}

/// One whole frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame<H> {
    /// What its header says.
    pub head: H,
    /// The serialized message, a slice of the receive buffer; or its size, when it was not kept.
    pub body: Result<Bytes, u64>,
}

/// How large bodies may be, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    /// Larger ones are skipped.
    pub kept_max: u64,
    /// Still larger ones are refused: their connection ends.
    pub skipped_max: u64,
}

/// See the module's text.
pub struct FrameDecoder<H: Head> {
    buffer: BytesMut,
    /// Bytes that have gone into the buffer since it was empty. What it holds on to is no less, whatever its capacity says:
    /// that counts only what is left of its memory behind the frames handed out.
    buffered: usize,
    limits: BodyLimits,
    memory: H::Memory,
    /// A header whose body is not there, and the body's size.
    head: Option<(H, usize)>,
    /// The body of `head`, if it is large; `head` and its bytes have left the buffer then.
    large: Option<LargeBody>,
    expects_large: bool,
    /// Bytes of a body that is not kept which are still to come.
    to_skip: u64,
    refusal: Option<Refusal>,
}

impl<H: Head> FrameDecoder<H> {
    /// A decoder of a fresh connection.
    pub fn with_limits(limits: BodyLimits) -> FrameDecoder<H> {
        FrameDecoder {
            buffer: BytesMut::new(),
            buffered: 0,
            limits,
            memory: H::Memory::default(),
            head: None,
            large: None,
            expects_large: false,
            to_skip: 0,
            refusal: None,
        }
    }

    pub(super) fn memory(&self) -> &H::Memory {
        &self.memory
    }

    /// Whether bytes are waiting that belong to no frame handed out.
    pub fn has_buffered(&self) -> bool {
        !self.buffer.is_empty() || self.large.as_ref().is_some_and(LargeBody::is_whole)
    }

    /// Where the bytes received next may be appended directly instead of being fed: into a large body that has begun. To
    /// be followed by [`FrameDecoder::received`].
    pub fn room(&mut self) -> Option<&mut Vec<u8>> {
        self.large.as_mut().and_then(LargeBody::room)
    }

    /// Bytes have been appended to the [`FrameDecoder::room`].
    pub fn received(&mut self) {
        let surplus = self.large.as_mut().map(LargeBody::take_surplus);
        self.extend(&surplus.unwrap_or_default());
    }

    /// Whether the latest body was a large one, so that another may follow: then little should be fed at a time, the rest
    /// of it being received directly.
    pub fn expects_large(&self) -> bool {
        self.expects_large
    }

    /// Whether a frame has begun to come that is not whole, or a body that is not kept; to be asked when there is no next
    /// frame.
    pub fn is_unfinished(&self) -> bool {
        self.head.is_some() || self.to_skip > 0 || !self.buffer.is_empty()
    }

    /// Memory that is held for a body which is not whole, in bytes. A header that is not whole takes no more than its limit.
    pub fn unfinished_bytes(&self) -> usize {
        match (&self.large, &self.head) {
            (Some(large), _) => large.capacity(),
            (None, Some(_)) => self.buffer.len(),
            (None, None) => 0,
        }
    }

    /// What the frame is whose body is not whole.
    pub fn unfinished_head(&self) -> Option<&H> {
        self.head.as_ref().map(|(head, _)| head)
    }

    /// Hands out the frame whose body is not whole, without its body, and frees the memory of that: the rest of it will
    /// be skipped. To be called when there is no next frame.
    pub fn give_up(&mut self) -> Option<Frame<H>> {
        let (head, body_bytes) = self.head.take()?;
        let come = self.large.take().map_or(self.buffer.len(), |large| large.come());
        self.buffer = BytesMut::new();
        self.to_skip = body_bytes.saturating_sub(come) as u64;
        Some(Frame { head, body: Err(body_bytes as u64) })
    }

    /// Takes received bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        let skipped = self.to_skip.min(bytes.len() as u64);
        self.to_skip -= skipped;
        let bytes = &bytes[skipped as usize..];
        let bytes = self.large.as_mut().map_or(bytes, |large| large.take(bytes));
        self.extend(bytes);
    }

    fn extend(&mut self, bytes: &[u8]) {
        self.buffered += bytes.len();
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` until more bytes are fed. One whose body is not kept is handed out when its header
    /// has come.
    ///
    /// # Errors
    /// When the stream is refused; it stays refused.
    pub fn next_frame(&mut self) -> Result<Option<Frame<H>>, Refusal> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        // A header is put aside only if its body is not there: most often it is.
        let (head, body_bytes) = match self.head.take() {
            Some(head) => head,
            None => match self.read_head() {
                Ok(None) => return Ok(None),
                Ok(Some((head, size))) if size > self.limits.kept_max => {
                    return Ok(Some(self.skip(head, size)));
                }
                Ok(Some((head, size))) => (head, size as usize),
                Err(refusal) => {
                    self.refusal = Some(refusal);
                    self.buffer = BytesMut::new();
                    return Err(refusal);
                }
            },
        };
        if !self.has_body(body_bytes) {
            self.head = Some((head, body_bytes));
            return Ok(None);
        }
        self.expects_large = body_bytes >= LARGE_BYTES_MIN;
        let body = match self.large.take() {
            Some(large) => large.into_bytes(),
            None if body_bytes == 0 => Bytes::new(),
            None => self.buffer.split_to(body_bytes).freeze(),
        };
        if self.buffer.is_empty() {
            self.give_back_buffer();
        }
        Ok(Some(Frame { head, body: Ok(body) }))
    }

    /// The buffer is empty: its memory goes if it is worth it.
    fn give_back_buffer(&mut self) {
        if self.buffered > BUFFER_KEPT_BYTES_MAX {
            self.buffer = BytesMut::new();
        }
        self.buffered = 0;
    }

    /// Reads and consumes the header at the front of the buffer, once it is there as a whole.
    fn read_head(&mut self) -> Result<Option<(H, u64)>, Refusal> {
        let Some((length_bytes, header_bytes)) = H::read_length(&mut self.memory, &self.buffer)? else {
            return Ok(None);
        };
        let Some(bytes) = self.buffer.get(..length_bytes + header_bytes) else { return Ok(None) };
        let (head, size) = H::read(&mut self.memory, bytes, length_bytes)?;
        if size > self.limits.skipped_max {
            return Err(Refusal::BodyTooLarge { bytes: size, max: self.limits.kept_max });
        }
        self.buffer.advance(length_bytes + header_bytes);
        Ok(Some((head, size)))
    }

    /// Whether the body is there as a whole; if it is large and not, it gets memory of its own.
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
        }
        false
    }

    /// Hands out a frame without its body, of which nothing has been taken from the buffer.
    fn skip(&mut self, head: H, size: u64) -> Frame<H> {
        let buffered = size.min(self.buffer.len() as u64);
        self.buffer.advance(buffered as usize);
        self.to_skip = size - buffered;
        Frame { head, body: Err(size) }
    }
}
