//! Counters of calls: how many, how they ended, how long they took.

use std::time::Duration;

use super::{CallInfo, Ended, Middleware, Refused};
use crate::primitives::atomic::{AtomicU64, Ordering};
use crate::protocol::status::Status;

/// Classes of durations: the n-th ends at 2ⁿ µs, the last has no end.
const CLASSES: usize = 32;

/// Counts the calls of a provider, or of the channels that share it. Read it from any thread.
#[derive(Debug, Default)]
pub struct CallMetrics {
    begun: AtomicU64,
    by_status: [AtomicU64; Status::COUNT],
    too_late: AtomicU64,
    args_bytes: AtomicU64,
    by_duration: [AtomicU64; CLASSES],
}

/// The counters at one moment. Taken while calls go on, they may differ by those calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsSnapshot {
    /// Calls begun.
    pub begun: u64,
    /// Calls ended, by the number of their status.
    pub by_status: [u64; Status::COUNT],
    /// Calls of a server whose callers had given up before the handler was done.
    pub too_late: u64,
    /// Bytes of all arguments.
    pub args_bytes: u64,
    /// Calls ended, by duration: the n-th number counts those below 2ⁿ µs that the one before does not.
    pub by_duration: [u64; CLASSES],
}

impl CallMetrics {
    /// All counters.
    pub fn snapshot(&self) -> MetricsSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        MetricsSnapshot {
            begun: read(&self.begun),
            by_status: std::array::from_fn(|at| read(&self.by_status[at])),
            too_late: read(&self.too_late),
            args_bytes: read(&self.args_bytes),
            by_duration: std::array::from_fn(|at| read(&self.by_duration[at])),
        }
    }
}

impl MetricsSnapshot {
    /// Calls that ended with `status`.
    pub fn ended(&self, status: Status) -> u64 {
        self.by_status[status.code() as usize]
    }

    /// A duration that at least `share` (0 to 1) of the calls did not exceed, to a power of two of microseconds.
    pub fn quantile(&self, share: f64) -> Duration {
        let all: u64 = self.by_duration.iter().sum();
        let wanted = (all as f64 * share).ceil() as u64;
        let mut seen = 0;
        let class = self.by_duration.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        Duration::from_micros(1 << class.unwrap_or(CLASSES - 1))
    }
}

impl Middleware for CallMetrics {
    fn before(&self, call: &CallInfo<'_>) -> Result<(), Refused> {
        // Relaxed, here and below: counters only.
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.args_bytes.fetch_add(call.args_bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    fn after(&self, _call: &CallInfo<'_>, ended: &Ended) {
        self.by_status[ended.status.code() as usize].fetch_add(1, Ordering::Relaxed);
        if !ended.was_awaited {
            self.too_late.fetch_add(1, Ordering::Relaxed);
        }
        let microseconds = ended.took.as_micros() as u64;
        let class = (64 - microseconds.leading_zeros() as usize).min(CLASSES - 1);
        self.by_duration[class].fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_bounds_of_what_was_counted() {
        let mut snapshot = CallMetrics::default().snapshot();
        snapshot.by_duration[3] = 98;
        snapshot.by_duration[10] = 2;
        assert_eq!(snapshot.quantile(0.5), Duration::from_micros(8));
        assert_eq!(snapshot.quantile(0.99), Duration::from_micros(1024));
    }
}
