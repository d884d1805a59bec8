//! Buffers of what has been sent, kept by each thread for what is sent next: whatever connection that is on. So a connection
//! at rest holds none, and a busy one is spared fresh memory, which costs a page fault every 4 KiB, more than what is
//! written into it.

use std::cell::RefCell;

/// Smaller buffers are not worth it: a connection keeps them, in bytes.
pub(super) const OWN_BYTES_MAX: usize = 1024;

/// Buffers from this size on are kept for large frames and large batches of small ones, in bytes.
const LARGE_BYTES_MIN: usize = 16 * 1024;

/// Larger buffers are not kept, in bytes.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// Kept by one thread, in bytes.
const SPARE_BYTES_MAX: usize = 8 << 20;

thread_local! {
    static SPARE: RefCell<Spare> = const { RefCell::new(Spare { small: Vec::new(), large: Vec::new(), bytes: 0 }) };
}

struct Spare {
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
    /// Their capacities.
    bytes: usize,
}

impl Spare {
    /// One of the kind that is wanted; a large one will do where there is no small one.
    fn pop(&mut self, bytes: usize) -> Vec<u8> {
        let buffer = self.of_size(bytes).pop().or_else(|| self.large.pop()).unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    fn of_size(&mut self, bytes: usize) -> &mut Vec<Vec<u8>> {
        if bytes < LARGE_BYTES_MIN { &mut self.small } else { &mut self.large }
    }
}

/// An empty buffer for about so many bytes, with room if there is one to spare.
pub(super) fn take(bytes: usize) -> Vec<u8> {
    // A thread that is ending has none any more.
    SPARE.try_with(|spare| spare.borrow_mut().pop(bytes)).unwrap_or_default()
}

/// Keeps a buffer for later, or frees it.
pub(super) fn give(mut buffer: Vec<u8>) {
    let bytes = buffer.capacity();
    if !(OWN_BYTES_MAX..=KEPT_BYTES_MAX).contains(&bytes) {
        return;
    }
    buffer.clear();
    let keep = |spare: &RefCell<Spare>| {
        let spare = &mut *spare.borrow_mut();
        if spare.bytes + bytes <= SPARE_BYTES_MAX {
            spare.bytes += bytes;
            spare.of_size(bytes).push(buffer);
        }
    };
    // A thread that is ending keeps nothing.
    let _ = SPARE.try_with(keep);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_given_to_what_is_of_its_kind() {
        let of = |bytes| Vec::<u8>::with_capacity(bytes);
        give(of(2_000));
        give(of(20_000));
        give(of(OWN_BYTES_MAX - 1));
        give(of(KEPT_BYTES_MAX + 1));
        assert_eq!(take(LARGE_BYTES_MIN).capacity(), 20_000);
        assert_eq!(take(LARGE_BYTES_MIN).capacity(), 0, "there is only a small one");
        give(of(20_000));
        assert_eq!(take(0).capacity(), 2_000);
        assert_eq!(take(0).capacity(), 20_000, "there is only a large one");
        assert_eq!(take(0).capacity(), 0);
    }

    #[test]
    fn what_a_thread_keeps_is_bounded() {
        (0..20).for_each(|_| give(Vec::with_capacity(KEPT_BYTES_MAX)));
        let kept = (0..20).filter(|_| take(KEPT_BYTES_MAX).capacity() > 0).count();
        assert_eq!(kept, SPARE_BYTES_MAX / KEPT_BYTES_MAX);
        give(vec![7; 2_000]);
        assert!(take(0).is_empty());
    }
}
