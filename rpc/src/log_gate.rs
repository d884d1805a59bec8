//! Warnings that whoever connects can cause, one at a time: a flood of bad peers is no flood of lines.

use crate::primitives::atomic::{AtomicU64, Ordering};
use crate::reactor::clock::Nanos;

/// A further warning of the same kind is counted instead, for so long, in nanoseconds.
pub(crate) const INTERVAL: Nanos = 5_000_000_000;

/// Warnings of one kind.
#[derive(Debug, Default)]
pub(crate) struct LogGate {
    /// When the next one may be logged.
    opens_at: AtomicU64,
    held_back: AtomicU64,
}

impl LogGate {
    /// Logs what `text` makes, unless another was logged just before; then says, the next time, how many there were.
    pub(crate) fn warn(&self, now: Nanos, text: impl FnOnce() -> String) {
        match self.pass(now) {
            None => {}
            Some(0) => log::warn!("{}", text()),
            Some(held_back) => log::warn!("{}; {held_back} more like it since the last line", text()),
        }
    }

    /// Whether a line may be logged now; with how many were held back before it.
    pub(crate) fn pass(&self, now: Nanos) -> Option<u64> {
        // Relaxed: numbers only; two threads that come at once may both pass.
        if now < self.opens_at.load(Ordering::Relaxed) {
            self.held_back.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.opens_at.store(now.saturating_add(INTERVAL), Ordering::Relaxed);
        Some(self.held_back.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_flood_one_line_passes_and_the_next_says_how_many_did_not() {
        let gate = LogGate::default();
        assert_eq!(gate.pass(0), Some(0), "the first passes");
        assert!((1..=1000).all(|now| gate.pass(now).is_none()));
        assert_eq!(gate.pass(INTERVAL), Some(1000));
        assert_eq!(gate.pass(INTERVAL + 1), None);
        assert_eq!(gate.pass(3 * INTERVAL), Some(1));
    }
}
