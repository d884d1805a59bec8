//! A list of work for one thread: filled under the core lock, where only an append is allowed, and announced
//! after it. It has no capacity of its own, since a list that refuses would lose what the core said; what stands
//! in it is bounded by the core (`unpersisted_bytes_max`).

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use crate::sync::locked;

/// What woke the thread.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Taken {
    /// There is work; it has been moved into the caller's buffer.
    Work,
    /// Nothing came within the time given.
    Idle,
    /// The list is closed and empty.
    Closed,
}

/// An append-only list with one consumer, which takes all there is at once.
#[derive(Debug)]
pub struct WorkList<T> {
    state: Mutex<State<T>>,
    /// Notified by `announce` when the consumer sleeps, and by `close`.
    work: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: Vec<T>,
    sleeping: bool,
    closed: bool,
}

impl<T> Default for WorkList<T> {
    fn default() -> Self {
        let state = State { items: Vec::new(), sleeping: false, closed: false };
        WorkList { state: Mutex::new(state), work: Condvar::new() }
    }
}

impl<T> WorkList<T> {
    /// Appends an item; the consumer learns of it by [`announce`](WorkList::announce). After `close` items are
    /// dropped: nobody will do them.
    pub fn append(&self, item: T) {
        let mut state = locked(&self.state);
        if !state.closed {
            state.items.push(item);
        }
    }

    /// Wakes the consumer if it sleeps while there is work.
    pub fn announce(&self) {
        let mut state = locked(&self.state);
        if state.sleeping && !state.items.is_empty() {
            state.sleeping = false;
            drop(state);
            self.work.notify_one();
        }
    }

    /// Waits for work and moves all of it to the end of `into`. Returns `Idle` after `patience`, if one is given.
    pub fn wait_take(&self, into: &mut Vec<T>, patience: Option<Duration>) -> Taken {
        let mut state = locked(&self.state);
        let mut patient = true;
        while state.items.is_empty() && !state.closed {
            if !patient {
                state.sleeping = false;
                return Taken::Idle;
            }
            state.sleeping = true;
            state = match patience {
                None => self.work.wait(state).expect("no holder of this lock panics"),
                Some(patience) => {
                    let (state, timeout) =
                        self.work.wait_timeout(state, patience).expect("no holder of this lock panics");
                    patient = !timeout.timed_out();
                    state
                }
            };
        }
        state.sleeping = false;
        if state.items.is_empty() {
            return Taken::Closed;
        }
        into.append(&mut state.items);
        Taken::Work
    }

    /// Moves all there is to the end of `into`, without waiting. What the simulator calls.
    pub fn take(&self, into: &mut Vec<T>) {
        into.append(&mut locked(&self.state).items);
    }

    /// Whether nothing waits to be taken. Already history when the caller reads it.
    pub fn is_empty(&self) -> bool {
        locked(&self.state).items.is_empty()
    }

    /// No more work comes; the consumer still gets what is there.
    pub fn close(&self) {
        locked(&self.state).closed = true;
        self.work.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_sleeping_consumer_is_woken_and_takes_all() {
        let list = Arc::new(WorkList::default());
        let consumer = {
            let list = Arc::clone(&list);
            std::thread::spawn(move || {
                let mut taken = Vec::new();
                while list.wait_take(&mut taken, None) != Taken::Closed {}
                taken
            })
        };
        for item in 0..1_000 {
            list.append(item);
            list.announce();
        }
        list.close();
        assert_eq!(consumer.join().expect("the consumer lives"), (0..1_000).collect::<Vec<_>>());
    }

    #[test]
    fn patience_ends_and_a_closed_list_drains_first() {
        let list = WorkList::default();
        let mut taken = Vec::new();
        assert_eq!(list.wait_take(&mut taken, Some(Duration::from_millis(1))), Taken::Idle);
        list.append(1);
        list.close();
        list.append(2);
        assert_eq!(list.wait_take(&mut taken, None), Taken::Work);
        assert_eq!(list.wait_take(&mut taken, None), Taken::Closed);
        assert_eq!(taken, [1]);
    }
}
