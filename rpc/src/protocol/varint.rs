//! Protobuf's variable-length integers, as small as they are called often.

/// Why a varint cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VarintError {
    /// The bytes end inside the integer.
    Truncated,
    /// More than ten bytes, or more than 64 bits.
    TooLong,
}

/// The continuation bits of eight bytes.
const CONTINUATIONS: u64 = 0x8080_8080_8080_8080;

/// Values below this take at most eight bytes, which are written and read as one word.
const WORD_END: u64 = 1 << 56;

/// Bytes of the longest integer.
pub(super) const VARINT_BYTES_MAX: usize = 10;

/// Appends `value`.
#[inline]
pub fn put_varint(buffer: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buffer.push(value as u8 | 0x80);
        value >>= 7;
    }
    buffer.push(value as u8);
}

/// Writes `value` to the front of `room`, of which the rest is not kept. Returns how many bytes count.
#[inline]
pub(super) fn write_varint(room: &mut [u8; VARINT_BYTES_MAX], value: u64) -> usize {
    let length = varint_len(value);
    if value < WORD_END {
        let continued = CONTINUATIONS & ((1 << (8 * (length - 1))) - 1);
        room[..8].copy_from_slice(&(spread(value) | continued).to_le_bytes());
    } else {
        for (place, byte) in room.iter_mut().enumerate().take(length) {
            let continued = if place + 1 < length { 0x80 } else { 0 };
            *byte = (value >> (7 * place)) as u8 & 0x7f | continued;
        }
    }
    length
}

/// Writes `value`, which is to fit, as all of `room`: longer than need be, as readers of fields put up with.
pub(super) fn write_as_long(room: &mut [u8], mut value: u64) {
    let last = room.len().saturating_sub(1);
    for (place, byte) in room.iter_mut().enumerate() {
        *byte = value as u8 & 0x7f | if place < last { 0x80 } else { 0 };
        value >>= 7;
    }
}

/// Gives each seven bits of a value below [`WORD_END`] a byte: halves, quarters, eighths.
#[inline]
const fn spread(value: u64) -> u64 {
    let value = value & 0x0fff_ffff | (value & 0x00ff_ffff_f000_0000) << 4;
    let value = value & 0x0000_3fff_0000_3fff | (value & 0x0fff_c000_0fff_c000) << 2;
    value & 0x007f_007f_007f_007f | (value & 0x3f80_3f80_3f80_3f80) << 1
}

/// The opposite of [`spread`]; continuation bits are ignored.
#[inline]
const fn gather(word: u64) -> u64 {
    let value = word & 0x007f_007f_007f_007f | (word & 0x7f00_7f00_7f00_7f00) >> 1;
    let value = value & 0x0000_3fff_0000_3fff | (value & 0x3fff_0000_3fff_0000) >> 2;
    value & 0x0fff_ffff | (value & 0x0fff_ffff_0000_0000) >> 4
}

/// How many bytes [`put_varint`] would append.
#[inline]
pub const fn varint_len(value: u64) -> usize {
    // Seven bits a byte: ceil(bits / 7), computed without a division; zero takes one byte, too.
    let bits = 64 - (value | 1).leading_zeros() as usize;
    (bits * 9 + 64) / 64
}

/// Reads an integer at `*position` and moves the position behind it.
///
/// # Errors
/// See [`VarintError`]; the position is unchanged then.
#[inline]
pub fn read_varint(bytes: &[u8], position: &mut usize) -> Result<u64, VarintError> {
    match bytes.get(*position) {
        Some(&first) if first < 0x80 => {
            *position += 1;
            Ok(u64::from(first))
        }
        Some(_) => read_long_varint(bytes, position),
        None => Err(VarintError::Truncated),
    }
}

#[inline]
fn read_long_varint(bytes: &[u8], position: &mut usize) -> Result<u64, VarintError> {
    let left = bytes.len() - *position;
    let word = match (bytes[*position..].first_chunk(), bytes.last_chunk()) {
        (Some(first), _) => u64::from_le_bytes(*first),
        // The integer is among the last bytes of several: what follows it in the word is zero.
        (None, Some(last)) => u64::from_le_bytes(*last) >> (8 * (8 - left)),
        (None, None) => return read_by_bytes(bytes, position),
    };
    let length = (!word & CONTINUATIONS).trailing_zeros() as usize / 8 + 1;
    if length > left.min(8) {
        return read_by_bytes(bytes, position);
    }
    *position += length;
    Ok(gather(word & u64::MAX >> (64 - 8 * length)))
}

fn read_by_bytes(bytes: &[u8], position: &mut usize) -> Result<u64, VarintError> {
    let mut value = 0_u64;
    for (count, &byte) in bytes[*position..].iter().enumerate() {
        if count == 9 && byte > 1 {
            return Err(VarintError::TooLong);
        }
        value |= u64::from(byte & 0x7f) << (7 * count);
        if byte < 0x80 {
            *position += count + 1;
            return Ok(value);
        }
    }
    Err(VarintError::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_writing_and_reading_agrees_with_the_length() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1_u64 << shift) - 1, (1_u64 << shift) | 1, u64::MAX >> shift] {
                let mut buffer = Vec::new();
                put_varint(&mut buffer, value);
                assert_eq!(buffer.len(), varint_len(value), "length of {value}");
                let mut room = [0xff; 10];
                let length = write_varint(&mut room, value);
                assert_eq!(room[..length], buffer, "{value} written at once");
                check_reading(&buffer, value);
            }
        }
    }

    /// Reads an integer with other bytes before and behind it, and cut short.
    fn check_reading(encoded: &[u8], value: u64) {
        for (before, behind) in [(0, 0), (0, 9), (9, 0), (3, 3), (9, 9), (1, 7), (7, 1)] {
            let mut bytes = vec![0xff; before];
            bytes.extend_from_slice(encoded);
            let end = bytes.len();
            bytes.resize(end + behind, 0xff);
            let mut position = before;
            assert_eq!(read_varint(&bytes, &mut position), Ok(value), "{before} before, {behind} behind");
            assert_eq!(position, end);
            for cut in before..end {
                let mut position = before;
                assert_eq!(read_varint(&bytes[..cut], &mut position), Err(VarintError::Truncated));
                assert_eq!(position, before);
            }
        }
    }

    #[test]
    fn more_than_64_bits_is_refused() {
        assert_eq!(read_varint(&[0xff; 11], &mut 0), Err(VarintError::TooLong));
        assert_eq!(read_varint(&[0xff; 30], &mut 3), Err(VarintError::TooLong));
        let mut eleven_bits_too_many = vec![0xff; 9];
        eleven_bits_too_many.push(2);
        assert_eq!(read_varint(&eleven_bits_too_many, &mut 0), Err(VarintError::TooLong));
    }
}
