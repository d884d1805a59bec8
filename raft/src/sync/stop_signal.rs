//! One bit that says "stop", and a way to sleep until it is said.
//!
//! Tickers wait here between two ticks: a stop ends their sleep at once, so that stopping a node never waits for the
//! longest interval. The bit is never taken back.

use std::time::Duration;

use super::primitives::{Condvar, Mutex};

/// A stop that was or was not asked for. Shared by reference or in an `Arc`.
#[derive(Debug, Default)]
pub struct StopSignal {
    stopped: Mutex<bool>,
    /// Notified by `stop` and by nothing else.
    changed: Condvar,
}

impl StopSignal {
    /// A signal that has not been given.
    pub fn new() -> StopSignal {
        StopSignal { stopped: Mutex::new(false), changed: Condvar::new() }
    }

    /// Asks everybody who waits here, now or later, to stop. A second call changes nothing.
    pub fn stop(&self) {
        *self.stopped.lock().expect("nothing under this lock panics") = true;
        self.changed.notify_all();
    }

    /// Whether a stop was asked for.
    pub fn is_stopped(&self) -> bool {
        *self.stopped.lock().expect("nothing under this lock panics")
    }

    /// Sleeps until a stop is asked for.
    pub fn wait(&self) {
        let stopped = self.stopped.lock().expect("nothing under this lock panics");
        drop(self.changed.wait_while(stopped, |stopped| !*stopped).expect("nothing under this lock panics"));
    }

    /// Sleeps for `duration`, or until a stop is asked for if that comes first; true means stop.
    pub fn wait_timeout(&self, duration: Duration) -> bool {
        let stopped = self.stopped.lock().expect("nothing under this lock panics");
        let (stopped, _) = self
            .changed
            .wait_timeout_while(stopped, duration, |stopped| !*stopped)
            .expect("nothing under this lock panics");
        *stopped
    }
}
