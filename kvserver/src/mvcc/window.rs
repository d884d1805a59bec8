//! Seven bytes of a key and how many follow, packed so that comparing two integers compares two keys.
//!
//! A link of the skip list carries such a window of the key it leads to, so a search decides nearly every step
//! without touching that key's memory. Keys of a real store begin alike (`user:0000…`), which makes fixed prefixes
//! useless; a window therefore starts where the two neighbours of the link first differ.
//!
//! The low byte counts the key's bytes from the window's start, up to 8 for "more than seven". It makes `a` and
//! `a\0` differ, and it says when equal windows mean equal keys.

/// Bytes of the key in one window.
const BYTES: usize = 7;

/// See the module's text. Order and equality are those of the key's bytes from the window's start, as far as it sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Window(u64);

impl Window {
    /// The window of `key` that starts at `offset`, which is at most the key's length.
    pub(super) fn of(key: &[u8], offset: usize) -> Window {
        let rest = &key[offset..];
        if let Some(eight) = rest.first_chunk::<8>() {
            return Window((u64::from_be_bytes(*eight) & !0xff) | 8);
        }
        let mut packed = [0; 8];
        packed[..rest.len()].copy_from_slice(rest);
        packed[BYTES] = u8::try_from(rest.len()).expect("fewer than eight bytes are left");
        Window(u64::from_be_bytes(packed))
    }

    /// Whether the key ends inside the window, so that an equal window is an equal key.
    pub(super) fn sees_the_end(self) -> bool {
        self.count() <= BYTES
    }

    /// How many bytes two differing windows share from their start.
    pub(super) fn shared(self, other: Window) -> usize {
        debug_assert_ne!(self, other, "equal windows share more than they show");
        let equal = ((self.0 ^ other.0).leading_zeros() / 8) as usize;
        equal.min(BYTES).min(self.count()).min(other.count())
    }

    fn count(self) -> usize {
        (self.0 & 0xff) as usize
    }
}

/// How many bytes two keys share from their start.
pub(super) fn shared_bytes(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All keys of up to nine bytes over the nastiest letters, thinned: every pair must compare as the bytes do.
    #[test]
    fn windows_order_as_the_keys_they_show() {
        let mut keys: Vec<Vec<u8>> = vec![vec![]];
        for length in 1..=9usize {
            for pattern in 0..(1u32 << length) {
                if length > 4 && pattern % 7 != 0 {
                    continue;
                }
                keys.push((0..length).map(|bit| if pattern >> bit & 1 == 1 { 0xff } else { 0 }).collect());
            }
        }
        for left in &keys {
            for right in &keys {
                let (a, b) = (Window::of(left, 0), Window::of(right, 0));
                if a == b {
                    assert_eq!(left.get(..7), right.get(..7));
                    assert_eq!(a.sees_the_end(), left.len() <= 7);
                    assert!(!a.sees_the_end() || left == right);
                } else {
                    assert_eq!(a.cmp(&b), left.cmp(right), "{left:?} {right:?}");
                    assert_eq!(a.shared(b), shared_bytes(left, right), "{left:?} {right:?}");
                }
            }
        }
    }

    #[test]
    fn a_window_may_start_anywhere_up_to_the_end() {
        assert_eq!(Window::of(b"abcdefgh", 8), Window::of(b"", 0));
        assert_eq!(Window::of(b"abcdefghi", 1), Window::of(b"bcdefghi", 0));
    }
}
