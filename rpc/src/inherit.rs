//! What is left of a call's time, and its request's number, for the calls that its handler makes.
//!
//! While a handler runs, its call's deadline lies in a word of the thread; a channel gives no call more time than that. Work
//! that goes on elsewhere takes both with it by [`CallContext::scope`](crate::CallContext::scope).

use std::cell::Cell;
use std::time::Duration;

use crate::error::RpcError;
use crate::primitives::thread_local;
use crate::reactor::clock::{NEVER, Nanos};

/// What the calls of a handler get from the call that it handles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inherited {
    /// When that call is due.
    pub(crate) due: Nanos,
    /// The request it belongs to; 0: none.
    pub(crate) request_id: u64,
}

impl Inherited {
    /// The time that a call gets which asks for `timeout`: no more than is left of the other's.
    ///
    /// # Errors
    /// Nothing is left.
    pub(crate) fn limit(&self, timeout: Nanos, now: Nanos) -> Result<Nanos, RpcError> {
        match timeout.min(self.due.saturating_sub(now)) {
            0 => Err(RpcError::DeadlineExceeded { timeout: Duration::ZERO, may_have_run: false }),
            left => Ok(left),
        }
    }
}

/// Outside of any call.
pub(crate) const NOTHING: Inherited = Inherited { due: NEVER, request_id: 0 };

thread_local! {
    static CURRENT: Cell<Inherited> = const { Cell::new(NOTHING) };
}

/// Puts back what was before, also when the scope is left by a panic.
struct Restore(Inherited);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.with(|current| current.set(self.0));
    }
}

/// Runs `f`, whose calls inherit this.
pub(crate) fn with<R>(inherited: Inherited, f: impl FnOnce() -> R) -> R {
    let _restore = Restore(CURRENT.with(|current| current.replace(inherited)));
    f()
}

/// What a call begun here and now inherits.
pub(crate) fn current() -> Inherited {
    CURRENT.with(Cell::get)
}

/// Runs `f`, whose calls are nobody's: a handler's deadline does not reach them. For work that a call merely sets off.
pub fn detached<R>(f: impl FnOnce() -> R) -> R {
    with(NOTHING, f)
}
