//! Waiting for a condition, with a deadline; the only way these tests let time pass.

use std::thread;
use std::time::{Duration, Instant};

/// Long enough for a debug build on a busy machine; a condition that takes longer does not come.
pub const LONG: Duration = Duration::from_secs(60);

/// Between two looks. Nothing depends on its length but the load that looking makes.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// Looks until there is something to see, and fails with `what` was waited for after `within`.
pub fn eventually<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        thread::park_timeout(BETWEEN_LOOKS);
    }
}

/// The same for a plain condition.
pub fn until(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    eventually(what, within, || holds().then_some(()));
}
