//! The bytes of one request's header, kept while its arguments go their own way.
//!
//! Headers are short. Copying one is cheaper than counting references to the buffer that it came in.

/// Headers up to this length are kept without an allocation, in bytes.
const INLINE_BYTES_MAX: usize = 64;

/// Where a part of a header is; 16 bits hold [`HEADER_BYTES_MAX`](super::decoder::HEADER_BYTES_MAX) and its length's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Span {
    pub(super) start: u16,
    pub(super) end: u16,
}

impl Span {
    #[inline]
    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[usize::from(self.start)..usize::from(self.end)]
    }
}

/// A copy of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HeadBytes {
    Inline([u8; INLINE_BYTES_MAX]),
    Long(Box<[u8]>),
}

impl HeadBytes {
    #[inline]
    pub(super) fn copy_of(bytes: &[u8]) -> HeadBytes {
        let mut inline = [0; INLINE_BYTES_MAX];
        match inline.get_mut(..bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                HeadBytes::Inline(inline)
            }
            None => HeadBytes::Long(bytes.into()),
        }
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            HeadBytes::Inline(bytes) => bytes,
            HeadBytes::Long(bytes) => bytes,
        }
    }
}
