//! A call that awaits its answer, and how the answer reaches whoever called.
//!
//! An answer is given exactly once: the entry is taken out of its table under the channel's lock, and its completion is
//! consumed by running it, after the lock is released.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::around::Observed;
use super::core::Core;
use crate::error::RpcError;
use crate::primitives::thread_local;
use crate::primitives::{Condvar, Mutex};
use crate::reactor::Shared;
use crate::reactor::clock::{Nanos, nanos_in};
use crate::reactor::lock::{lock, try_lock};
use crate::reactor::spin::Spin;
use crate::reactor::world::World;
use crate::stream::state::StreamState;

/// The bytes of a reply, or why there are none.
pub(crate) type Outcome = Result<Bytes, RpcError>;

/// What runs when the answer is there.
pub(crate) enum Completion {
    /// A callback.
    Callback(Box<dyn FnOnce(Outcome) + Send>),
    /// A thread that waits.
    Blocked(Arc<BlockedCaller>),
    /// The ends of a stream.
    Streamed(Box<Streamed>),
}

/// A call that is a stream.
pub(crate) struct Streamed {
    pub(crate) state: Arc<StreamState>,
    /// What the server may send at first, in bytes; 0 if it sends no stream.
    pub(crate) window: u64,
    /// Who waits for the one reply, if that is no stream.
    pub(crate) then: Option<Completion>,
}

/// Who gets a call's answer.
pub(crate) struct Caller {
    /// For the channel's middleware, which is told first; `None` without any.
    pub(crate) observed: Option<Observed>,
    pub(crate) completion: Completion,
}

impl Caller {
    /// Gives the answer.
    pub(crate) fn answer(self, core: &Core, outcome: Outcome) {
        if let Some(observed) = &self.observed {
            core.reactor().shielded("a middleware", || core.tell_middleware(observed, &outcome));
        }
        self.completion.run(core.reactor(), outcome);
    }
}

impl Completion {
    /// Gives the answer.
    pub(crate) fn run(self, reactor: &Shared, outcome: Outcome) {
        match self {
            Completion::Callback(callback) => reactor.shielded("a completion", || callback(outcome)),
            Completion::Blocked(caller) => caller.wake(outcome),
            Completion::Streamed(stream) => {
                stream.state.close(outcome.as_ref().map(|_| ()).map_err(Clone::clone));
                if let Some(then) = stream.then {
                    then.run(reactor, outcome);
                }
            }
        }
    }
}

impl Completion {
    /// The stream, if the call is one.
    pub(crate) fn stream(&self) -> Option<&Streamed> {
        match self {
            Completion::Streamed(stream) => Some(stream),
            Completion::Callback(_) | Completion::Blocked(_) => None,
        }
    }
}

/// No bytes that will ever leave.
pub(crate) const NOT_APPENDED: Range<u64> = u64::MAX..u64::MAX;

/// A call in flight.
pub(crate) struct Pending {
    pub(crate) call_id: u64,
    pub(crate) due: Nanos,
    /// The time it was given, for the text of its error.
    pub(crate) timeout: Nanos,
    /// Which of all bytes appended to the connection are the call's: it has left once so many have. [`NOT_APPENDED`] while
    /// it waits for its turn on a legacy channel.
    pub(crate) frame: Range<u64>,
    /// The connection it went to.
    pub(crate) epoch: u64,
    pub(crate) caller: Caller,
}

/// A call taken out of its table, with its answer.
pub(crate) struct Answered {
    pub(crate) caller: Caller,
    pub(crate) outcome: Outcome,
}

impl Answered {
    pub(crate) fn run(self, core: &Core) {
        self.caller.answer(core, self.outcome);
    }
}

/// Where a blocked thread waits. Each thread has one and uses it for one call after another.
#[derive(Default)]
pub(crate) struct BlockedCaller {
    outcome: Mutex<Option<Outcome>>,
    has_outcome: Condvar,
}

thread_local! {
    static CALLER: Arc<BlockedCaller> = Arc::default();
    /// How it has gone when this thread did not sleep at once.
    static SPIN: RefCell<Spin> = RefCell::default();
}

impl BlockedCaller {
    /// The calling thread's.
    pub(crate) fn of_this_thread() -> Arc<BlockedCaller> {
        CALLER.with(Arc::clone)
    }

    fn wake(&self, outcome: Outcome) {
        let previous = lock(&self.outcome).replace(outcome);
        assert!(previous.is_none(), "a call was answered twice");
        self.has_outcome.notify_one();
    }

    /// Waits for the answer, for as long as `spin` by looking. The reactor, of this world, gives one when the deadline
    /// passes or when it ends.
    pub(crate) fn wait(&self, world: &World, spin: Duration) -> Outcome {
        world.runs_until(|| lock(&self.outcome).is_some());
        self.wait_by(|| world.nanos(), spin)
    }

    /// The same, by this clock.
    fn wait_by(&self, now: impl Fn() -> Nanos, spin: Duration) -> Outcome {
        if !spin.is_zero() {
            let is_there = || try_lock(&self.outcome).is_some_and(|outcome| outcome.is_some());
            SPIN.with(|state| state.borrow_mut().until(nanos_in(spin), now, is_there));
        }
        let mut outcome = lock(&self.outcome);
        loop {
            match outcome.take() {
                Some(outcome) => return outcome,
                None => {
                    outcome =
                        self.has_outcome.wait(outcome).unwrap_or_else(std::sync::PoisonError::into_inner);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn who_may_spin_looks_for_its_answer_again_and_again_before_it_sleeps() {
        const LOOKS: usize = 100;
        let caller = &BlockedCaller::default();
        let (sender, looks) = mpsc::sync_channel(LOOKS);
        let seen = thread::scope(|scope| {
            let seen = scope.spawn(move || {
                // One that does not look is given its answer all the same, later.
                let look = || looks.recv_timeout(Duration::from_secs(20)).ok();
                let seen = std::iter::from_fn(look).take(LOOKS).count();
                caller.wake(Ok(Bytes::new()));
                seen
            });
            // By this clock no spin is in vain.
            let now = || {
                // Looks beyond these are not counted.
                let _ = sender.try_send(());
                0
            };
            assert_eq!(caller.wait_by(now, Duration::from_micros(50)), Ok(Bytes::new()));
            seen.join().unwrap()
        });
        assert_eq!(seen, LOOKS);
    }
}
