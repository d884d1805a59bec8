//! How long the last syncs took: the figure every write of this system stands on.
//!
//! A ring of the latest durations in atomics, so that recording costs one store and any thread may look. It must never
//! take a lock: the log writer passes here between every two batches.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How many durations are kept.
const KEPT: usize = 256;

/// The latest sync durations, in microseconds.
#[derive(Debug)]
pub struct SyncTimes {
    /// Zero means never filled; a measured duration counts as at least one microsecond.
    latest_us: [AtomicU32; KEPT],
    recorded: AtomicUsize,
}

impl Default for SyncTimes {
    fn default() -> SyncTimes {
        SyncTimes { latest_us: std::array::from_fn(|_| AtomicU32::new(0)), recorded: AtomicUsize::new(0) }
    }
}

impl SyncTimes {
    /// Files one duration, replacing the oldest.
    pub fn record(&self, duration: Duration) {
        let place = self.recorded.fetch_add(1, Ordering::Relaxed) % KEPT;
        let duration_us = u32::try_from(duration.as_micros()).unwrap_or(u32::MAX).max(1);
        self.latest_us[place].store(duration_us, Ordering::Relaxed);
    }

    /// How many durations were ever filed.
    pub fn recorded(&self) -> usize {
        self.recorded.load(Ordering::Relaxed)
    }

    /// The median of the latest 256 in microseconds, or `None` before the first.
    pub fn fdatasync_p50_us(&self) -> Option<u32> {
        let mut latest_us: Vec<u32> = self.latest_us.iter().map(|one| one.load(Ordering::Relaxed)).collect();
        latest_us.retain(|duration_us| *duration_us > 0);
        latest_us.sort_unstable();
        latest_us.get(latest_us.len() / 2).copied()
    }
}

/// Measures one duration for `SyncTimes`. Only figures come of it, never a decision.
#[derive(Debug)]
pub(super) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "a measurement for people; nothing is decided by it")]
    pub(super) fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
