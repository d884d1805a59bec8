//! A body too large to be copied about: it grows in memory of its own, into which a socket can be read directly.
//!
//! Memory is taken as bytes come, never as a header claims.

use bytes::Bytes;

/// Bodies from this size on get memory of their own, in bytes.
pub(super) const LARGE_BYTES_MIN: usize = 16 * 1024;

/// Memory taken at a time for a body of which less has come, in bytes.
const CLAIM_BYTES_MAX: usize = 64 * 1024;

/// See the module's text.
#[derive(Debug)]
pub(super) struct LargeBody {
    bytes: Vec<u8>,
    size: usize,
}

impl LargeBody {
    /// A body of `size` bytes of which `come` have come.
    pub(super) fn new(size: usize, come: &[u8]) -> LargeBody {
        let mut bytes = Vec::with_capacity(size.min(CLAIM_BYTES_MAX.max(come.len())));
        bytes.extend_from_slice(come);
        LargeBody { bytes, size }
    }

    /// Memory taken so far, in bytes.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn come(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_whole(&self) -> bool {
        self.bytes.len() >= self.size
    }

    /// Takes what belongs to the body; returns the rest.
    pub(super) fn take<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (own, rest) = bytes.split_at(bytes.len().min(self.size.saturating_sub(self.bytes.len())));
        if own.len() > self.bytes.capacity() - self.bytes.len() {
            self.grow(own.len());
        }
        self.bytes.extend_from_slice(own);
        rest
    }

    /// Where received bytes of the body can be appended directly; `None` when it is whole.
    pub(super) fn room(&mut self) -> Option<&mut Vec<u8>> {
        if self.is_whole() {
            return None;
        }
        if self.bytes.capacity() == self.bytes.len() {
            self.grow(1);
        }
        Some(&mut self.bytes)
    }

    /// Takes away what was appended beyond the body's end.
    pub(super) fn take_surplus(&mut self) -> Vec<u8> {
        if self.bytes.len() <= self.size { Vec::new() } else { self.bytes.split_off(self.size) }
    }

    /// The body, once it is whole.
    pub(super) fn into_bytes(self) -> Bytes {
        assert_eq!(self.bytes.len(), self.size, "a body was taken before it was whole");
        self.bytes.into()
    }

    /// Makes room for `bytes` at least: as much again as has come, but not beyond the body.
    fn grow(&mut self, bytes: usize) {
        let missing = self.size - self.bytes.len();
        self.bytes.reserve_exact(missing.min(self.bytes.len().max(CLAIM_BYTES_MAX).max(bytes)));
    }
}
