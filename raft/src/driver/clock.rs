//! Where a node's time comes from.

use std::time::{Duration, Instant};

/// Tells the time. The simulator has its own.
pub trait Clock: Send + Sync {
    /// Time since any fixed moment; it never goes back. Whether it counts while the machine sleeps does not matter:
    /// missed ticks are not made up for.
    fn now(&self) -> Duration;
}

/// The machine's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock that stands at zero.
    pub fn start() -> SystemClock {
        SystemClock { start: system_now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        system_now().saturating_duration_since(self.start)
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where a node's threads read a clock")]
fn system_now() -> Instant {
    Instant::now()
}
