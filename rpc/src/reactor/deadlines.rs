//! When the reactor must look at its watch, and what is to be run then.
//!
//! A call's deadline takes no entry in any heap: `armed` is a lower bound of all deadlines there are. When it is due, the
//! reactor looks through the calls in flight, expires the late ones and arms the next bound. Almost all calls are answered
//! long before, so one such look every few seconds serves millions of calls.

use std::collections::BTreeMap;

use super::clock::{NEVER, Nanos};
use super::lock::lock;
use crate::primitives::Mutex;
use crate::primitives::atomic::{AtomicU64, Ordering};

/// Names a timer, for [`Reactor::cancel_timer`](crate::Reactor::cancel_timer).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerId {
    due: Nanos,
    number: u64,
}

/// What a timer runs.
pub(crate) type Action = Box<dyn FnOnce() + Send>;

/// The lower bound and the timers.
pub(crate) struct Deadlines {
    armed: AtomicU64,
    timers: Mutex<Timers>,
    timers_max: usize,
}

#[derive(Default)]
struct Timers {
    waiting: BTreeMap<TimerId, Action>,
    next_number: u64,
    /// The reactor has ended: nothing is run any more.
    is_closed: bool,
}

/// What became of a new timer.
pub(crate) enum Inserted {
    /// It waits.
    Waiting(TimerId),
    /// The table is full.
    Full(TimerId, Action),
    /// The reactor has ended.
    Ended(TimerId, Action),
}

impl Deadlines {
    pub(crate) fn new(timers_max: usize) -> Deadlines {
        Deadlines { armed: AtomicU64::new(NEVER), timers: Mutex::default(), timers_max }
    }

    /// Notes that something is due then; to be called after that something can be found. Returns whether the bound
    /// moved, so that a sleeping reactor must be woken.
    pub(crate) fn arm(&self, due: Nanos) -> bool {
        due < self.armed.load(Ordering::SeqCst) && due < self.armed.fetch_min(due, Ordering::SeqCst)
    }

    /// The bound.
    pub(crate) fn armed(&self) -> Nanos {
        self.armed.load(Ordering::SeqCst)
    }

    /// Takes the bound away, before everything is looked through and what remains is armed again.
    pub(crate) fn disarm(&self) {
        self.armed.store(NEVER, Ordering::SeqCst);
    }

    /// Adds a timer, or hands its action back.
    pub(crate) fn insert(&self, due: Nanos, action: Action) -> Inserted {
        let mut timers = lock(&self.timers);
        timers.next_number += 1;
        let id = TimerId { due, number: timers.next_number };
        if timers.is_closed {
            return Inserted::Ended(id, action);
        }
        if timers.waiting.len() >= self.timers_max {
            return Inserted::Full(id, action);
        }
        timers.waiting.insert(id, action);
        Inserted::Waiting(id)
    }

    /// Takes a timer out before it runs.
    pub(crate) fn remove(&self, id: TimerId) -> Option<Action> {
        lock(&self.timers).waiting.remove(&id)
    }

    /// Moves the actions that are due into `actions` and returns when the next one is.
    pub(crate) fn take_due(&self, now: Nanos, actions: &mut Vec<Action>) -> Nanos {
        let mut timers = lock(&self.timers);
        while let Some(entry) = timers.waiting.first_entry() {
            if entry.key().due > now {
                return entry.key().due;
            }
            actions.push(entry.remove());
        }
        NEVER
    }

    /// Drops all timers, unrun, and refuses further ones.
    pub(crate) fn close(&self) {
        let waiting = {
            let mut timers = lock(&self.timers);
            timers.is_closed = true;
            std::mem::take(&mut timers.waiting)
        };
        // Outside the lock: what an action holds may answer calls when it is dropped.
        drop(waiting);
    }
}
