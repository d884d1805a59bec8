//! What a benchmark reads and writes, and how it tells a right answer from a wrong one.
//!
//! A value is computed from its key and the number of its writing, so that any other bytes, another key's value or a
//! half of one are told apart without keeping a copy of each. The version of the newest acknowledged put of a key is
//! kept: a get that begins later must not see an older one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of a key.
const KEY_BYTES: usize = 16;

/// A value this long begins with the number of its writing; a shorter one depends on its key alone.
const NUMBERED_VALUE_BYTES_MIN: usize = 16;

/// Values are cut from buffers of this size, so that a put costs no allocation of its own.
const BUFFER_BYTES: usize = 64 * 1024;

/// The keys, the content of their values and what is known to be written.
pub(super) struct Workload {
    keys: Bytes,
    key_count: u32,
    value_bytes: usize,
    book: Mutex<Book>,
}

/// The part that changes; only the reactor's thread wants it while clients run.
pub(super) struct Book {
    /// By key: the version of the newest acknowledged put.
    versions: Vec<u64>,
    /// The number of the latest writing.
    writing: u64,
    dice: u64,
    buffer: BytesMut,
}

impl Workload {
    pub(super) fn new(key_count: u32, value_bytes: usize) -> Workload {
        assert!(key_count > 0, "the border refuses a benchmark without keys");
        let mut keys = Vec::with_capacity(key_count as usize * KEY_BYTES);
        for number in 0..key_count {
            keys.extend_from_slice(format!("bench-{number:010}").as_bytes());
        }
        assert!(keys.len() == key_count as usize * KEY_BYTES, "all keys have the same length");
        let versions = vec![0; key_count as usize];
        let book = Book { versions, writing: 0, dice: 0x5DEE_CE66_D1CE_4E5B, buffer: BytesMut::new() };
        Workload { keys: Bytes::from(keys), key_count, value_bytes, book: Mutex::new(book) }
    }

    pub(super) fn key_count(&self) -> u32 {
        self.key_count
    }

    pub(super) fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    pub(super) fn key(&self, number: u32) -> Bytes {
        let begin = number as usize * KEY_BYTES;
        self.keys.slice(begin..begin + KEY_BYTES)
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether these bytes are a value that was once put to this key.
    pub(super) fn is_value_of(&self, key: u32, value: &[u8]) -> bool {
        if value.len() != self.value_bytes {
            return false;
        }
        let (number, content) = match value.split_first_chunk::<8>() {
            Some((number, content)) if value.len() >= NUMBERED_VALUE_BYTES_MIN => {
                (u64::from_le_bytes(*number), content)
            }
            _ => (0, value),
        };
        let mut stream = Stream::new(key, number);
        let mut words = content.chunks_exact(8);
        let whole = words.by_ref().all(|word| word == stream.next());
        whole && words.remainder() == &stream.next()[..words.remainder().len()]
    }
}

impl Book {
    /// A number below `below`, evenly enough for choosing keys.
    pub(super) fn draw(&mut self, below: u32) -> u32 {
        self.dice = self.dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let high = mix(self.dice) >> 32;
        u32::try_from((high * u64::from(below)) >> 32)
            .expect("a product of two 32-bit numbers, shifted by 32")
    }

    /// The next value for a key, unlike all before if it is long enough.
    pub(super) fn next_value(&mut self, key: u32, value_bytes: usize) -> Bytes {
        self.writing += 1;
        if self.buffer.capacity() < value_bytes {
            self.buffer = BytesMut::with_capacity(BUFFER_BYTES.max(value_bytes));
        }
        let mut left = value_bytes;
        let mut number = 0;
        if value_bytes >= NUMBERED_VALUE_BYTES_MIN {
            number = self.writing;
            self.buffer.put_u64_le(number);
            left -= 8;
        }
        let mut stream = Stream::new(key, number);
        while left > 0 {
            let word = stream.next();
            let taken = left.min(word.len());
            self.buffer.put_slice(&word[..taken]);
            left -= taken;
        }
        self.buffer.split().freeze()
    }

    /// The version that a get of this key must not be older than, if it begins now.
    pub(super) fn acknowledged(&self, key: u32) -> u64 {
        self.versions[key as usize]
    }

    /// A put of this key was acknowledged with this version.
    pub(super) fn acknowledge(&mut self, key: u32, version: u64) {
        let newest = &mut self.versions[key as usize];
        *newest = version.max(*newest);
    }
}

/// The content of one value, word by word: splitmix64.
struct Stream {
    state: u64,
}

impl Stream {
    fn new(key: u32, number: u64) -> Stream {
        Stream { state: mix(u64::from(key) + 1) ^ number.wrapping_mul(0xD134_2543_DE82_EF95) }
    }

    fn next(&mut self) -> [u8; 8] {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.state).to_le_bytes()
    }
}

fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_known_as_its_keys_and_no_others_at_every_length() {
        for value_bytes in (0..40).chain([256, 1000]) {
            let workload = Workload::new(10, value_bytes);
            let first = workload.book().next_value(3, value_bytes);
            let second = workload.book().next_value(3, value_bytes);
            assert_eq!(first.len(), value_bytes);
            assert!(workload.is_value_of(3, &first) && workload.is_value_of(3, &second), "{value_bytes}");
            assert_eq!(first != second, value_bytes >= NUMBERED_VALUE_BYTES_MIN, "{value_bytes}");
            if value_bytes > 0 {
                assert!(!workload.is_value_of(4, &first), "{value_bytes}");
                assert!(!workload.is_value_of(3, &first[1..]), "{value_bytes}");
                for place in 0..value_bytes {
                    let mut damaged = first.to_vec();
                    damaged[place] ^= 0x10;
                    assert!(!workload.is_value_of(3, &damaged), "byte {place} of {value_bytes}");
                }
            }
        }
    }

    #[test]
    fn keys_are_of_one_length_and_draws_reach_all_of_them() {
        let workload = Workload::new(100, 8);
        assert_eq!(workload.key(0), "bench-0000000000");
        assert_eq!(workload.key(99), "bench-0000000099");
        let mut drawn = [0u32; 100];
        for _ in 0..10_000 {
            drawn[workload.book().draw(100) as usize] += 1;
        }
        assert!(drawn.iter().all(|count| (40..200).contains(count)), "{drawn:?}");
    }

    #[test]
    fn a_late_acknowledgement_does_not_take_the_version_back() {
        let workload = Workload::new(2, 8);
        workload.book().acknowledge(1, 9);
        workload.book().acknowledge(1, 7);
        let book = workload.book();
        assert_eq!((book.acknowledged(0), book.acknowledged(1)), (0, 9));
    }
}
