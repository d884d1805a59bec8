//! The one place where the clerk reads a clock: monotonic, from the clerk's own beginning.

use std::time::{Duration, Instant};

/// Time since the clerk was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the real clock of the shell; the machine takes time as an argument"
    )]
    fn instant() -> Instant {
        Instant::now()
    }

    pub(crate) fn start() -> Clock {
        Clock { start: Clock::instant() }
    }

    pub(crate) fn now(&self) -> Duration {
        Clock::instant().saturating_duration_since(self.start)
    }
}
