//! `LockQueue`: a bounded queue between threads, a mutex and two condition variables.
//!
//! It carries committed entries from Raft to the apply-loop and requests to the snapshotter. When it is full the pusher
//! waits or is told so: that is the back-pressure. Closing it lets the poppers drain what is there and tells the
//! pushers at once. It must never lose a value, hand one out twice or out of order, or leave a thread asleep while
//! there is something for it to do; `raft/tests/lock_queue_model.rs` checks that under every interleaving it finds.
//!
//! A wake-up costs a system call here and 20–30 µs there, so it is sent only when somebody sleeps who has not been
//! woken already.

use std::collections::VecDeque;
use std::time::Duration;

use super::primitives::{Condvar, Mutex, MutexGuard};

/// A bounded, closable first-in-first-out queue for any number of pushers and poppers.
#[derive(Debug)]
pub struct LockQueue<T> {
    state: Mutex<State<T>>,
    /// Notified by a push when a popper sleeps, and by `close`.
    not_empty: Condvar,
    /// Notified by a pop when a pusher sleeps, and by `close`.
    not_full: Condvar,
    capacity: usize,
}

/// Why `try_push` refused; the value comes back.
#[derive(Debug, PartialEq, Eq)]
pub enum TryPushError<T> {
    /// The queue holds as many items as it may.
    Full(T),
    /// The queue is closed and takes nothing any more.
    Closed(T),
}

/// What `pop_timeout` found.
#[derive(Debug, PartialEq, Eq)]
pub enum PopTimeout<T> {
    /// The oldest item.
    Item(T),
    /// Nothing came in time.
    TimedOut,
    /// The queue is closed and drained: nothing will ever come.
    Closed,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    closed: bool,
    poppers: Sleepers,
    pushers: Sleepers,
}

/// How many threads sleep on one condition variable, and how many of them have a wake-up on its way.
///
/// `woken` may count too few (a spurious return or a time-out takes one off that was meant for another), which costs a
/// needless notification; it never counts more than the sleepers who will look at the queue again.
#[derive(Debug, Default)]
struct Sleepers {
    asleep: usize,
    woken: usize,
}

impl Sleepers {
    /// How many of `wanted` wake-ups have somebody to go to; they count as sent.
    fn wakes_needed(&mut self, wanted: usize) -> usize {
        let needed = wanted.min(self.asleep.saturating_sub(self.woken));
        self.woken += needed;
        needed
    }

    /// A sleeper has the lock again, whatever ended its sleep.
    fn returned(&mut self) {
        self.woken = self.woken.saturating_sub(1);
    }
}

impl<T> LockQueue<T> {
    /// A queue for at most `capacity` items.
    pub fn new(capacity: usize) -> LockQueue<T> {
        assert!(capacity > 0, "a queue that can hold nothing would block every pusher for ever");
        let state = State {
            items: VecDeque::new(),
            closed: false,
            poppers: Sleepers::default(),
            pushers: Sleepers::default(),
        };
        LockQueue { state: Mutex::new(state), not_empty: Condvar::new(), not_full: Condvar::new(), capacity }
    }

    /// Appends `value`, waiting while the queue is full. Gives it back when the queue is closed.
    pub fn push(&self, value: T) -> Result<(), T> {
        let mut state = self.lock();
        while state.items.len() >= self.capacity && !state.closed {
            state.pushers.asleep += 1;
            state = self.not_full.wait(state).expect("nothing under this lock panics");
            state.pushers.asleep -= 1;
            state.pushers.returned();
        }
        if state.closed {
            return Err(value);
        }
        self.append(state, value);
        Ok(())
    }

    /// Appends `value` if there is room now.
    pub fn try_push(&self, value: T) -> Result<(), TryPushError<T>> {
        let state = self.lock();
        if state.closed {
            return Err(TryPushError::Closed(value));
        }
        if state.items.len() >= self.capacity {
            return Err(TryPushError::Full(value));
        }
        self.append(state, value);
        Ok(())
    }

    /// Takes the oldest item, waiting for one. `None` when the queue is closed and drained.
    pub fn pop(&self) -> Option<T> {
        let mut state = self.wait_for_items();
        let value = state.items.pop_front()?;
        self.made_room(state, 1);
        Some(value)
    }

    /// Takes the oldest item, waiting at most `timeout` for one.
    pub fn pop_timeout(&self, timeout: Duration) -> PopTimeout<T> {
        let mut state = self.lock();
        if state.items.is_empty() && !state.closed {
            state.poppers.asleep += 1;
            let mut slept = false;
            let (woken, _) = self
                .not_empty
                .wait_timeout_while(state, timeout, |state| {
                    if slept {
                        state.poppers.returned();
                    }
                    slept = true;
                    state.items.is_empty() && !state.closed
                })
                .expect("nothing under this lock panics");
            state = woken;
            state.poppers.asleep -= 1;
        }
        match state.items.pop_front() {
            Some(value) => {
                self.made_room(state, 1);
                PopTimeout::Item(value)
            }
            None if state.closed => PopTimeout::Closed,
            None => PopTimeout::TimedOut,
        }
    }

    /// Takes up to `max` items, waiting for the first. Empty when the queue is closed and drained.
    pub fn pop_batch(&self, max: usize) -> Vec<T> {
        let mut batch = Vec::new();
        self.pop_batch_into(&mut batch, max);
        batch
    }

    /// Appends up to `max` items to `batch`, waiting for the first, so that a buffer can be used again and again.
    /// False when the queue is closed and drained; then nothing was appended.
    pub fn pop_batch_into(&self, batch: &mut Vec<T>, max: usize) -> bool {
        assert!(max > 0, "a batch of nothing would look like a closed queue");
        let mut state = self.wait_for_items();
        let taken = state.items.len().min(max);
        batch.extend(state.items.drain(..taken));
        self.made_room(state, taken);
        taken > 0
    }

    /// Closes the queue: pushes fail from now on, pops drain what is left. Wakes both sides.
    pub fn close(&self) {
        self.lock().closed = true;
        self.not_empty.notify_all();
        self.not_full.notify_all();
    }

    /// How many items wait. Already history when the caller reads it.
    pub fn len(&self) -> usize {
        self.lock().items.len()
    }

    /// Whether nothing waits. Already history when the caller reads it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many items the queue may hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect("nothing under this lock panics")
    }

    /// Appends to a queue that was seen open and not full, and wakes a popper outside the lock.
    fn append(&self, mut state: MutexGuard<'_, State<T>>, value: T) {
        state.items.push_back(value);
        let wakes = state.poppers.wakes_needed(1);
        drop(state);
        if wakes > 0 {
            self.not_empty.notify_one();
        }
    }

    /// The state once there is an item or the queue is closed.
    fn wait_for_items(&self) -> MutexGuard<'_, State<T>> {
        let mut state = self.lock();
        while state.items.is_empty() && !state.closed {
            state.poppers.asleep += 1;
            state = self.not_empty.wait(state).expect("nothing under this lock panics");
            state.poppers.asleep -= 1;
            state.poppers.returned();
        }
        state
    }

    /// Wakes as many pushers as there are new places, outside the lock.
    fn made_room(&self, mut state: MutexGuard<'_, State<T>>, places: usize) {
        let wakes = state.pushers.wakes_needed(places);
        drop(state);
        for _ in 0..wakes {
            self.not_full.notify_one();
        }
    }
}
