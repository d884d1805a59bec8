//! The few encodings that log entries and snapshots share: varints and length-prefixed bytes.
//!
//! Hand-written, because these bytes are kept: what a log or a snapshot means must not change with a library.

/// Appends `value` in base 128, lowest bits first, as protobuf does: 1 to 10 bytes.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the length of `bytes`, then the bytes.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// How many bytes [`put_varint`] writes.
pub(super) fn varint_bytes(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// What can be wrong with bytes that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadError {
    /// They end too early; with more of them it may be fine.
    Short,
    /// A number longer than 64 bits or than it needs to be, a length over its limit, an unknown tag: nothing of ours
    /// writes that.
    OutOfRange,
}

/// Takes values from the front of some bytes. After an error its position means nothing.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// One byte.
    pub(super) fn byte(&mut self) -> Result<u8, ReadError> {
        Ok(self.take(1)?[0])
    }

    /// A varint, which must be as short as possible: equal values have equal bytes.
    pub(super) fn varint(&mut self) -> Result<u64, ReadError> {
        let mut value = 0u64;
        for position in 0..10 {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if position == 9 && bits > 1 {
                return Err(ReadError::OutOfRange);
            }
            value |= bits << (7 * position);
            if byte < 0x80 {
                let is_shortest = byte != 0 || position == 0;
                return if is_shortest { Ok(value) } else { Err(ReadError::OutOfRange) };
            }
        }
        Err(ReadError::OutOfRange)
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], ReadError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(ReadError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Bytes with their length before them, at most `bytes_max`; a greater length counts as [`ReadError::OutOfRange`].
    pub(super) fn bytes(&mut self, bytes_max: usize) -> Result<&'a [u8], ReadError> {
        let length = self.varint()?;
        let length = usize::try_from(length).ok().filter(|length| *length <= bytes_max);
        self.take(length.ok_or(ReadError::OutOfRange)?)
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back_and_know_their_length() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                assert_eq!(out.len(), varint_bytes(value));
                let mut reader = Reader::new(&out);
                assert_eq!((reader.varint(), reader.left()), (Ok(value), 0));
                assert_eq!(Reader::new(&out[..out.len() - 1]).varint(), Err(ReadError::Short));
            }
        }
    }

    #[test]
    fn a_number_has_one_encoding() {
        assert_eq!(Reader::new(&[0x80, 0]).varint(), Err(ReadError::OutOfRange));
        assert_eq!(Reader::new(&[0xff; 10]).varint(), Err(ReadError::OutOfRange));
        assert_eq!(
            Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).varint(),
            Err(ReadError::OutOfRange)
        );
        assert_eq!(Reader::new(&[5, 1, 2]).bytes(4), Err(ReadError::OutOfRange));
    }
}
