//! Buffers of large frames that have been sent, kept by each thread for the next ones: fresh memory costs a page fault
//! every 4 KiB, which is more than what is written into it.

use std::cell::RefCell;

/// Smaller buffers are not kept, in bytes.
const KEPT_BYTES_MIN: usize = 16 * 1024;

/// Larger buffers are not kept, in bytes.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// Kept by one thread, in bytes.
const SPARE_BYTES_MAX: usize = 8 << 20;

thread_local! {
    static SPARE: RefCell<Spare> = const { RefCell::new(Spare { buffers: Vec::new(), bytes: 0 }) };
}

struct Spare {
    buffers: Vec<Vec<u8>>,
    /// Their capacities.
    bytes: usize,
}

/// An empty buffer, with room if there is one to spare.
pub(super) fn take() -> Vec<u8> {
    SPARE.with_borrow_mut(|spare| match spare.buffers.pop() {
        Some(buffer) => {
            spare.bytes -= buffer.capacity();
            buffer
        }
        None => Vec::new(),
    })
}

/// Keeps a buffer for later, or frees it.
pub(super) fn give(mut buffer: Vec<u8>) {
    let bytes = buffer.capacity();
    if !(KEPT_BYTES_MIN..=KEPT_BYTES_MAX).contains(&bytes) {
        return;
    }
    SPARE.with_borrow_mut(|spare| {
        if spare.bytes + bytes <= SPARE_BYTES_MAX {
            buffer.clear();
            spare.bytes += bytes;
            spare.buffers.push(buffer);
        }
    });
}
