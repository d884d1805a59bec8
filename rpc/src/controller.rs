//! What a caller says and learns about one call besides its arguments and its reply.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::client::core::Core;
use crate::error::RpcError;
use crate::primitives::Mutex;
use crate::primitives::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::reactor::clock::nanos_in;
use crate::reactor::deadlines::TimerId;
use crate::reactor::lock::lock;

/// Deadline, cancellation and outcome of a call. A clone controls the same call.
///
/// It may be used for one call after another, and for several at a time if nobody wants to cancel one of them:
/// [`RpcController::cancel`] reaches the call begun last. Failures stay until [`RpcController::reset`].
#[derive(Clone, Default)]
pub struct RpcController {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// In nanoseconds; 0: the channel's default.
    timeout: AtomicU64,
    has_failed: AtomicBool,
    is_cancelled: AtomicBool,
    /// Steps taken so far by the calls.
    steps: AtomicU64,
    latest: Mutex<Latest>,
    error_text: Mutex<String>,
}

/// The call begun last, as its latest step that was noted has left it.
#[derive(Default)]
struct Latest {
    step: Step,
    channel: Weak<Core>,
    whereabouts: Whereabouts,
}

/// Numbers the attempts and the rests of a controller's calls in their order. A step that is taken on one thread may be
/// noted when another thread has taken the next one: then it is of no interest any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Step(u64);

/// How a call is reached.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Whereabouts {
    /// It cannot be: there is none, or it has been cancelled.
    #[default]
    Nowhere,
    /// In the table of its channel, by this id.
    InFlight(u64),
    /// It waits for its next attempt.
    Resting(TimerId),
}

impl Whereabouts {
    /// Ends the call, if it is still there; with no lock held, since that answers it.
    fn cancel(self, channel: &Arc<Core>) {
        match self {
            Whereabouts::Nowhere => {}
            Whereabouts::InFlight(call_id) => channel.cancel(call_id),
            Whereabouts::Resting(timer) => drop(channel.reactor().deadlines.remove(timer)),
        }
    }
}

impl RpcController {
    /// A controller with the channel's default time-out.
    pub fn new() -> RpcController {
        RpcController::default()
    }

    /// Sets the time that the next calls may take, from the moment they are begun.
    pub fn set_timeout(&self, timeout: Duration) {
        self.state.timeout.store(nanos_in(timeout).max(1), Ordering::Relaxed);
    }

    /// The time that the next calls may take; `None`: the channel's default.
    pub fn timeout(&self) -> Option<Duration> {
        match self.state.timeout.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    /// Cancels the call begun last: it is answered [`RpcError::Cancelled`] at once, on this thread, and the server is
    /// told. Calls begun later are refused until [`RpcController::reset`]. A call that has been answered stays answered.
    pub fn cancel(&self) {
        self.state.is_cancelled.store(true, Ordering::SeqCst);
        let (channel, whereabouts) = {
            let mut latest = lock(&self.state.latest);
            (latest.channel.upgrade(), std::mem::take(&mut latest.whereabouts))
        };
        if let Some(channel) = channel {
            whereabouts.cancel(&channel);
        }
    }

    /// Whether a call has failed since the last [`RpcController::reset`].
    pub fn failed(&self) -> bool {
        self.state.has_failed.load(Ordering::Acquire)
    }

    /// Why; empty when none has.
    pub fn error_text(&self) -> String {
        lock(&self.state.error_text).clone()
    }

    /// Forgets failure and cancellation. The time-out stays.
    pub fn reset(&self) {
        self.state.is_cancelled.store(false, Ordering::SeqCst);
        self.state.has_failed.store(false, Ordering::Release);
        lock(&self.state.error_text).clear();
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.state.is_cancelled.load(Ordering::SeqCst)
    }

    /// The number of the step that is taken next: to be asked for before it is.
    pub(crate) fn next_step(&self) -> Step {
        // Relaxed: one step of a call is taken after the other, which orders their numbers.
        Step(self.state.steps.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Notes where [`RpcController::cancel`] finds the call that has taken this step.
    pub(crate) fn note(&self, step: Step, channel: &Arc<Core>, whereabouts: Whereabouts) {
        {
            let mut latest = lock(&self.state.latest);
            if step < latest.step {
                return;
            }
            if !std::ptr::eq(latest.channel.as_ptr(), Arc::as_ptr(channel)) {
                latest.channel = Arc::downgrade(channel);
            }
            (latest.step, latest.whereabouts) = (step, whereabouts);
        }
        // Whoever cancelled in between has not found it there.
        if self.is_cancelled() {
            whereabouts.cancel(channel);
        }
    }

    pub(crate) fn note_failure(&self, error: &RpcError) {
        *lock(&self.state.error_text) = error.to_string();
        self.state.has_failed.store(true, Ordering::Release);
    }
}

impl fmt::Debug for RpcController {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RpcController")
            .field("timeout", &self.timeout())
            .field("failed", &self.failed())
            .field("cancelled", &self.is_cancelled())
            .finish()
    }
}
