//! The clock of a machine: it may run faster or slower than the simulation's, and never goes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use raft::driver::Clock;

/// A machine's own time, in microseconds, as a function of the simulation's.
#[derive(Clone, Copy)]
pub(crate) struct LocalClock {
    speed_permille: u64,
    /// The simulation's time when the speed was set, and this clock's.
    set_at: u64,
    showed: u64,
}

impl LocalClock {
    pub(crate) fn new() -> LocalClock {
        LocalClock { speed_permille: 1000, set_at: 0, showed: 0 }
    }

    pub(crate) fn set_speed(&mut self, now: u64, permille: u64) {
        *self = LocalClock { speed_permille: permille, set_at: now, showed: self.shows(now) };
    }

    fn shows(&self, now: u64) -> u64 {
        self.showed + (now - self.set_at) * self.speed_permille / 1000
    }

    /// What it shows at the simulation's `now`.
    pub(crate) fn at(&self, now: u64) -> Shown {
        Shown(Duration::from_micros(self.shows(now)))
    }

    /// The simulation's microseconds until so much has passed on this clock.
    pub(crate) fn until(&self, wait: Duration) -> u64 {
        let wait_us = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX / 1000);
        (wait_us * 1000).div_ceil(self.speed_permille)
    }
}

/// What a machine's clock shows while a room takes its step.
#[derive(Clone, Copy)]
pub(crate) struct Shown(Duration);

impl Clock for Shown {
    fn now(&self) -> Duration {
        self.0
    }
}

/// The simulation's time, for those who ask at any moment.
#[derive(Clone, Default)]
pub(crate) struct Time(Arc<AtomicU64>);

impl Time {
    /// It is so late now, in microseconds.
    pub(crate) fn is(&self, now: u64) {
        self.0.store(now, Ordering::Relaxed);
    }
}

/// A machine's clock as a node has it that lives there: it goes on while the node stands still.
pub(crate) struct Going {
    pub(crate) clock: LocalClock,
    pub(crate) time: Time,
}

impl Clock for Going {
    fn now(&self) -> Duration {
        self.clock.at(self.time.0.load(Ordering::Relaxed)).0
    }
}
