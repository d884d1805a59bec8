//! Protobuf's variable-length integers, as small as they are called often.

/// Why a varint cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VarintError {
    /// The bytes end inside the integer.
    Truncated,
    /// More than ten bytes, or more than 64 bits.
    TooLong,
}

/// Appends `value`.
#[inline]
pub fn put_varint(buffer: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buffer.push(value as u8 | 0x80);
        value >>= 7;
    }
    buffer.push(value as u8);
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

fn read_long_varint(bytes: &[u8], position: &mut usize) -> Result<u64, VarintError> {
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
    fn length_agrees_with_writing_and_reading_back() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1_u64 << shift) - 1, (1_u64 << shift) | 1, u64::MAX >> shift] {
                let mut buffer = Vec::new();
                put_varint(&mut buffer, value);
                assert_eq!(buffer.len(), varint_len(value), "length of {value}");
                let mut position = 0;
                assert_eq!(read_varint(&buffer, &mut position), Ok(value));
                assert_eq!(position, buffer.len());
                for cut in 0..buffer.len() {
                    assert_eq!(read_varint(&buffer[..cut], &mut 0), Err(VarintError::Truncated));
                }
            }
        }
    }

    #[test]
    fn more_than_64_bits_is_refused() {
        assert_eq!(read_varint(&[0xff; 11], &mut 0), Err(VarintError::TooLong));
        let mut eleven_bits_too_many = vec![0xff; 9];
        eleven_bits_too_many.push(2);
        assert_eq!(read_varint(&eleven_bits_too_many, &mut 0), Err(VarintError::TooLong));
    }
}
