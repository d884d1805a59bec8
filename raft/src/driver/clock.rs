//! Where a node's time comes from.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Tells the time. The simulator has its own.
pub trait Clock: Send + Sync {
    /// Time since any fixed moment; it never goes back. It counts while the machine sleeps: leases end then, and state grows
    /// old. Ticks that are missed are not made up for.
    fn now(&self) -> Duration;
}

/// The machine's monotonic clock that counts while it sleeps.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        let now = clock_gettime(ClockId::Boottime);
        // The system counts from its start and keeps nanoseconds below a second.
        let (seconds, nanoseconds) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
        Duration::new(seconds.unwrap_or(0), nanoseconds.unwrap_or(0))
    }
}
