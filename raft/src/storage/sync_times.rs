//! How long the last syncs took: the figure every write of this system stands on.
//!
//! A ring of the latest durations in atomics, so that recording costs a store or two and any thread may look. It must
//! never take a lock: the log writer passes here between every two batches. The write or sync that is under way can be
//! seen too, since a disk that hangs completes nothing that could be filed.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How many durations are kept.
const KEPT: usize = 256;

/// The latest sync durations, in microseconds.
#[derive(Debug)]
pub struct SyncTimes {
    /// Zero means never filled; a measured duration counts as at least one microsecond.
    latest_us: [AtomicU32; KEPT],
    recorded: AtomicUsize,
    made: Instant,
    /// Since when the write or sync under way runs, in microseconds after `made`; zero means that there is none.
    under_way_since_us: AtomicU64,
}

/// What the latest syncs took, in microseconds. All zero before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncFigures {
    /// Half of them took no longer.
    pub p50_us: u32,
    /// All but one in a hundred took no longer.
    pub p99_us: u32,
    /// The longest.
    pub max_us: u32,
    /// How long the write or sync under way has been running; zero when there is none.
    pub under_way_us: u64,
}

impl Default for SyncTimes {
    fn default() -> SyncTimes {
        SyncTimes {
            latest_us: std::array::from_fn(|_| AtomicU32::new(0)),
            recorded: AtomicUsize::new(0),
            made: now(),
            under_way_since_us: AtomicU64::new(0),
        }
    }
}

impl SyncTimes {
    /// Runs one sync and files how long it took, replacing the oldest; a failed one tells nothing and is not filed.
    pub(super) fn measure<E>(&self, sync: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let begun = now();
        let result = self.under_way(sync);
        if result.is_ok() {
            self.record(begun.elapsed());
        }
        result
    }

    /// Runs what may hang as a sync may, so that it can be seen meanwhile: a write, with the sync that follows it.
    pub(super) fn under_way<R>(&self, work: impl FnOnce() -> R) -> R {
        let around = self.under_way_since_us.load(Ordering::Relaxed);
        if around == 0 {
            let since_us = u64::try_from(now().saturating_duration_since(self.made).as_micros());
            self.under_way_since_us.store(since_us.unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
        }
        let result = work();
        self.under_way_since_us.store(around, Ordering::Relaxed);
        result
    }

    fn record(&self, duration: Duration) {
        let place = self.recorded.fetch_add(1, Ordering::Relaxed) % KEPT;
        let duration_us = u32::try_from(duration.as_micros()).unwrap_or(u32::MAX).max(1);
        self.latest_us[place].store(duration_us, Ordering::Relaxed);
    }

    /// What the latest 256 took, and the one under way so far.
    pub fn figures(&self) -> SyncFigures {
        let mut latest_us: Vec<u32> = self.latest_us.iter().map(|one| one.load(Ordering::Relaxed)).collect();
        latest_us.retain(|duration_us| *duration_us > 0);
        latest_us.sort_unstable();
        let at = |percent: usize| latest_us.get(latest_us.len() * percent / 100).copied().unwrap_or(0);
        let under_way_us = match self.under_way_since_us.load(Ordering::Relaxed) {
            0 => 0,
            since_us => {
                let now_us = u64::try_from(self.made.elapsed().as_micros()).unwrap_or(u64::MAX);
                now_us.saturating_sub(since_us)
            }
        };
        let max_us = latest_us.last().copied().unwrap_or(0);
        SyncFigures { p50_us: at(50), p99_us: at(99), max_us, under_way_us }
    }
}

#[expect(clippy::disallowed_methods, reason = "a measurement for people; nothing is decided by it")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_those_of_the_latest_syncs_only() {
        let times = SyncTimes::default();
        assert_eq!(times.figures(), SyncFigures::default());
        times.record(Duration::from_secs(9));
        for duration_us in 1..=KEPT as u64 {
            times.record(Duration::from_micros(duration_us));
        }
        let figures = times.figures();
        assert_eq!((figures.p50_us, figures.p99_us, figures.max_us), (129, 254, 256));
    }

    #[test]
    fn a_write_is_seen_while_it_runs_and_counts_from_its_beginning_while_its_sync_does() {
        let times = SyncTimes::default();
        let wait = || {
            let before = times.figures().under_way_us;
            while times.figures().under_way_us <= before {
                std::hint::spin_loop();
            }
            times.figures().under_way_us
        };
        let (write_us, sync_us) = times.under_way(|| {
            let write_us = wait();
            let mut sync_us = 0;
            times
                .measure(|| {
                    sync_us = wait();
                    Ok::<(), ()>(())
                })
                .unwrap();
            assert!(times.figures().under_way_us >= sync_us, "the write is not over");
            (write_us, sync_us)
        });
        assert!(write_us < sync_us, "{write_us} {sync_us}");
        assert_eq!(times.figures().under_way_us, 0);
    }

    #[test]
    fn a_sync_is_seen_while_it_runs_and_filed_when_it_has_succeeded() {
        let times = SyncTimes::default();
        let seen = times.measure(|| {
            // However fast the clock's next microsecond comes.
            while times.figures().under_way_us == 0 {
                std::hint::spin_loop();
            }
            Ok::<(), ()>(())
        });
        assert_eq!((seen, times.figures().under_way_us), (Ok(()), 0));
        assert!(times.figures().max_us > 0);

        let failing = SyncTimes::default();
        assert_eq!(failing.measure(|| Err("the disk is gone")), Err("the disk is gone"));
        assert_eq!(failing.figures(), SyncFigures::default());
    }
}
