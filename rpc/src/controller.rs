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
    latest: Mutex<Latest>,
    error_text: Mutex<String>,
}

/// The call begun last.
#[derive(Default)]
struct Latest {
    channel: Weak<Core>,
    /// 0, which no call has, while it has made no attempt.
    call_id: u64,
    /// It waits for its next attempt.
    rest: Option<TimerId>,
}

impl Latest {
    /// It is of this channel.
    fn be_of(&mut self, channel: &Arc<Core>) {
        if !std::ptr::eq(self.channel.as_ptr(), Arc::as_ptr(channel)) {
            *self = Latest { channel: Arc::downgrade(channel), call_id: 0, rest: None };
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
        let (channel, call_id, rest) = {
            let mut latest = lock(&self.state.latest);
            (latest.channel.upgrade(), latest.call_id, latest.rest.take())
        };
        if let Some(channel) = channel {
            channel.cancel(call_id);
            // Dropped here, with no lock held: that answers the call.
            drop(rest.and_then(|timer| channel.reactor().deadlines.remove(timer)));
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

    /// Notes the call that [`RpcController::cancel`] is about.
    pub(crate) fn note_call(&self, channel: &Arc<Core>, call_id: u64) {
        {
            let mut latest = lock(&self.state.latest);
            latest.be_of(channel);
            latest.call_id = call_id;
        }
        // Whoever cancelled in between has not seen this call.
        if self.is_cancelled() {
            channel.cancel(call_id);
        }
    }

    /// Notes that the call begun last waits for its next attempt.
    pub(crate) fn note_rest(&self, channel: &Arc<Core>, timer: TimerId) {
        {
            let mut latest = lock(&self.state.latest);
            // NB: the attempt may have been made by now. Then its number has been noted, and stays.
            latest.be_of(channel);
            latest.rest = Some(timer);
        }
        if self.is_cancelled() {
            drop(channel.reactor().deadlines.remove(timer));
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
