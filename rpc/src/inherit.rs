//! What is left of a call's time, for the calls that its handler makes.
//!
//! While a handler runs, its call's deadline lies in a word of the thread; a channel gives no call more time than that. Work
//! that goes on elsewhere takes the deadline with it by [`CallContext::scope`](crate::CallContext::scope).

use std::cell::Cell;

use crate::reactor::clock::{NEVER, Nanos};

thread_local! {
    static DUE: Cell<Nanos> = const { Cell::new(NEVER) };
}

/// Puts the previous deadline back, also when the scope is left by a panic.
struct Restore(Nanos);

impl Drop for Restore {
    fn drop(&mut self) {
        DUE.set(self.0);
    }
}

/// Runs `f`, whose calls end at `due` at the latest.
pub(crate) fn until<R>(due: Nanos, f: impl FnOnce() -> R) -> R {
    let _restore = Restore(DUE.replace(due));
    f()
}

/// When the call that is being handled is due; [`NEVER`] outside of any.
pub(crate) fn due() -> Nanos {
    DUE.get()
}

/// Runs `f`, whose calls are nobody's: a handler's deadline does not reach them. For work that a call merely sets off.
pub fn detached<R>(f: impl FnOnce() -> R) -> R {
    until(NEVER, f)
}
