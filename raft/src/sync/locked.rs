//! Taking a lock whose holder cannot have panicked, or whose data nobody may use after a panic.

use std::sync::{Mutex, MutexGuard};

/// Locks `mutex`.
///
/// # Panics
/// When a thread panicked while it held the lock: what it guards is half changed, and a node that went on with it
/// would be a zombie. The panic travels up until the supervisor stops the node.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("a thread panicked while it held this lock, so what it guards cannot be used")
}
