//! The applier: committed batches go from the core into the `LockQueue` of the apply-loop.
//!
//! Its turn moves what is there and never waits. Whoever advanced the commit index runs it itself when the queue
//! has room, which saves a wake-up; only a full queue is left to the `apply-ticker` thread, which waits for room:
//! that is the back-pressure, and the core bounds what piles up behind it (`unapplied_bytes_max`).

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, TryLockError};

use crate::driver::ApplyMsg;
use crate::sync::{LockQueue, TryPushError, locked};

/// How a turn ended.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Turn {
    /// Everything is in the queue, or another thread is putting it there.
    Done,
    /// The queue is full: the rest waits for the `apply-ticker`.
    Full,
    /// The queue is closed: the node stops.
    Closed,
}

#[derive(Debug, Default)]
struct Backlog {
    messages: VecDeque<ApplyMsg>,
    /// Whether the ticker sleeps on `apply_work`.
    sleeping: bool,
    stopped: bool,
}

/// The way from the core to the apply-loop. The order of the log is kept by `moving`, which one thread holds at a
/// time.
pub struct Applier {
    backlog: Mutex<Backlog>,
    /// Notified when a turn found the queue full, and by `stop`.
    apply_work: Condvar,
    moving: Mutex<Option<ApplyMsg>>,
    queue: Arc<LockQueue<ApplyMsg>>,
}

impl Applier {
    /// An applier that fills `queue`.
    pub fn new(queue: Arc<LockQueue<ApplyMsg>>) -> Applier {
        Applier { backlog: Mutex::default(), apply_work: Condvar::new(), moving: Mutex::default(), queue }
    }

    /// Appends a message. Called under the core lock, which gives the order.
    pub fn append(&self, message: ApplyMsg) {
        locked(&self.backlog).messages.push_back(message);
    }

    /// Moves what is there into the queue, without waiting; wakes the ticker if the queue is full.
    pub fn turn(&self) -> Turn {
        loop {
            let outcome = match self.moving.try_lock() {
                Ok(mut held) => self.fill(&mut held),
                // The holder looks at the backlog again before it leaves, as below.
                Err(TryLockError::WouldBlock) => return Turn::Done,
                Err(TryLockError::Poisoned(_)) => panic!("a thread died while it moved committed entries"),
            };
            let mut backlog = locked(&self.backlog);
            match outcome {
                Turn::Done if backlog.messages.is_empty() => return Turn::Done,
                Turn::Done => {}
                Turn::Full => {
                    if std::mem::replace(&mut backlog.sleeping, false) {
                        self.apply_work.notify_one();
                    }
                    return Turn::Full;
                }
                Turn::Closed => return Turn::Closed,
            }
        }
    }

    /// Fills the queue; `held` is the message that found it full.
    fn fill(&self, held: &mut Option<ApplyMsg>) -> Turn {
        loop {
            let message = match held.take() {
                Some(message) => message,
                None => match locked(&self.backlog).messages.pop_front() {
                    Some(message) => message,
                    None => return Turn::Done,
                },
            };
            match self.queue.try_push(message) {
                Ok(()) => {}
                Err(TryPushError::Full(message)) => {
                    *held = Some(message);
                    return Turn::Full;
                }
                Err(TryPushError::Closed(_)) => return Turn::Closed,
            }
        }
    }

    /// The `apply-ticker`: sleeps until a turn found the queue full, then waits for room and goes on.
    pub fn run(&self) {
        loop {
            let mut backlog = locked(&self.backlog);
            while !backlog.stopped && self.turn_found_room(&mut backlog) {
                backlog.sleeping = true;
                backlog = self.apply_work.wait(backlog).expect("no holder of this lock panics");
            }
            if backlog.stopped {
                return;
            }
            drop(backlog);
            let mut moving = self.moving.lock().expect("no thread died while it moved committed entries");
            if let Some(message) = moving.take()
                && self.queue.push(message).is_err()
            {
                return;
            }
            drop(moving);
            if self.turn() == Turn::Closed {
                return;
            }
        }
    }

    /// Whether nothing waits for room in the queue.
    fn turn_found_room(&self, backlog: &mut Backlog) -> bool {
        let nothing_held = self.moving.try_lock().is_ok_and(|held| held.is_none());
        nothing_held && backlog.messages.is_empty()
    }

    /// Ends `run`. What is committed and not in the queue is applied again after the next start.
    pub fn stop(&self) {
        locked(&self.backlog).stopped = true;
        self.apply_work.notify_all();
    }
}
