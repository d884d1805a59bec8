//! A 64-bit hash whose values are part of the log's meaning: equal bytes, equal hash, on every node and release.
//!
//! It tells retries of origin clients apart (`legacy_streams`) and compares replicas in tests. It is no defence
//! against someone who looks for collisions: whoever makes two writes collide loses only their own.
//! The standard library's hasher promises no stable values, so it cannot be used here.

const SEED: u64 = 0x2d35_8dcc_aa6c_78a5;
const FACTOR: u64 = 0x8bb8_4b93_962e_acc9;

/// Takes values one after the other; the borders between them count.
#[derive(Clone, Debug)]
pub(super) struct StableHash {
    state: u64,
}

impl StableHash {
    /// Nothing hashed yet.
    pub(super) fn new() -> StableHash {
        StableHash { state: SEED }
    }

    /// Adds a number.
    pub(super) fn number(&mut self, value: u64) {
        let product = u128::from(self.state ^ value) * u128::from(FACTOR);
        // Both halves, so that every input bit reaches every output bit; the rotation keeps 0 from sticking.
        self.state = (product as u64 ^ (product >> 64) as u64).rotate_left(23).wrapping_add(SEED);
    }

    /// Adds bytes and how many they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.number(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.number(u64::from_le_bytes(last));
        }
    }

    /// The hash of all that was added.
    pub(super) fn finish(mut self) -> u64 {
        self.number(FACTOR);
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(parts: &[&[u8]]) -> u64 {
        let mut hash = StableHash::new();
        for part in parts {
            hash.bytes(part);
        }
        hash.finish()
    }

    #[test]
    fn borders_lengths_and_every_bit_count() {
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
        assert_ne!(hash(&[b"a"]), hash(&[b"a\0"]));
        assert_ne!(hash(&[]), hash(&[b""]));
        let mut seen = std::collections::BTreeSet::new();
        for bit in 0..20 * 8 {
            let mut bytes = [0u8; 20];
            bytes[bit / 8] |= 1 << (bit % 8);
            assert!(seen.insert(hash(&[&bytes])));
        }
    }

    /// The value is kept in logs and snapshots: it must be this one for ever.
    #[test]
    fn the_value_never_changes() {
        assert_eq!(hash(&[b"Put", b"x", b"499"]), PINNED);
    }

    const PINNED: u64 = 11_098_848_254_875_029_016;
}
