//! `LockQueue` and `StopSignal` under a model checker, which tries the interleavings that a machine may never show.
//!
//! The files are included by path beside locks of the checker's own, so that the text that ships is what is checked.
//! A lost wake-up shows as a deadlock, which the checker reports. Its condition variables never time out.

#[allow(unreachable_pub, reason = "the stand-in for `raft::sync::primitives`")]
mod primitives {
    pub use shuttle::sync::{Condvar, Mutex, MutexGuard};
}

#[allow(dead_code, unreachable_pub, reason = "only a part of the queue is used here")]
#[path = "../src/sync/lock_queue.rs"]
mod lock_queue;

#[allow(dead_code, unreachable_pub, reason = "only a part of the signal is used here")]
#[path = "../src/sync/stop_signal.rs"]
mod stop_signal;

use std::time::Duration;

use lock_queue::{LockQueue, PopTimeout, TryPushError};
use shuttle::sync::Arc;
use shuttle::thread;
use stop_signal::StopSignal;

/// Random schedules tried for each scenario.
const SCHEDULES: usize = 800;

/// Tries a scenario under random schedules and under ones that preempt seldom but anywhere.
fn check(scenario: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(scenario.clone(), SCHEDULES);
    shuttle::check_pct(scenario, SCHEDULES, 3);
}

/// Pops everything until the queue is closed, in one of the ways there are.
fn drain(queue: &LockQueue<u32>, way: u32) -> Vec<u32> {
    let mut values = Vec::new();
    match way {
        0 => values.extend(std::iter::from_fn(|| queue.pop())),
        1 => while queue.pop_batch_into(&mut values, 2) {},
        _ => {
            // The checker's time never runs out, so this ends by the queue being closed.
            while let PopTimeout::Item(value) = queue.pop_timeout(Duration::from_millis(1)) {
                values.push(value);
            }
        }
    }
    values
}

#[test]
fn every_value_is_popped_once_and_in_its_pushers_order() {
    for ways in [[0, 0], [0, 1], [1, 2], [2, 2]] {
        check(move || {
            let queue = Arc::new(LockQueue::new(2));
            let pushers = [0, 100].map(|first| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || (first..first + 3).for_each(|value| queue.push(value).unwrap()))
            });
            let poppers = ways.map(|way| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || drain(&queue, way))
            });
            pushers.into_iter().for_each(|pusher| pusher.join().unwrap());
            queue.close();
            let popped = poppers.map(|popper| popper.join().unwrap());
            for values in &popped {
                for first in [0, 100] {
                    let own: Vec<u32> =
                        values.iter().copied().filter(|value| value / 100 == first / 100).collect();
                    assert!(own.is_sorted(), "{popped:?}");
                }
            }
            let mut all = popped.concat();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 100, 101, 102]);
        });
    }
}

#[test]
fn pushers_that_wait_for_room_are_woken_by_one_big_pop() {
    check(|| {
        let queue = Arc::new(LockQueue::new(3));
        (0..3).for_each(|value| queue.push(value).unwrap());
        let pushers = [3, 4, 5].map(|value| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.push(value).unwrap())
        });
        // One batch makes room for all three, who must come in without another pop.
        let first = queue.pop_batch(3);
        assert_eq!(first.len(), 3);
        pushers.into_iter().for_each(|pusher| pusher.join().unwrap());
        assert_eq!(queue.len(), 3);
    });
}

#[test]
fn closing_wakes_both_sides_and_loses_nothing_that_was_taken_in() {
    check(|| {
        let full = Arc::new(LockQueue::new(1));
        full.push(1).unwrap();
        let pusher = {
            let full = Arc::clone(&full);
            thread::spawn(move || full.push(2))
        };
        let empty = Arc::new(LockQueue::<u32>::new(1));
        let poppers = [0, 1].map(|way| {
            let empty = Arc::clone(&empty);
            thread::spawn(move || drain(&empty, way))
        });
        full.close();
        empty.close();
        let refused = pusher.join().unwrap();
        assert_eq!(refused, Err(2), "the only place was taken until the queue was closed");
        assert_eq!(drain(&full, 0), [1]);
        poppers.into_iter().for_each(|popper| assert!(popper.join().unwrap().is_empty()));
        assert_eq!(full.try_push(3), Err(TryPushError::Closed(3)));
    });
}

#[test]
fn a_sleeper_is_woken_however_the_value_comes() {
    check(|| {
        let queue = Arc::new(LockQueue::new(1));
        let poppers = [0, 1, 2].map(|way| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || match way {
                0 => u32::from(queue.pop().is_some()),
                1 => queue.pop_batch(5).len() as u32,
                _ => u32::from(matches!(queue.pop_timeout(Duration::from_secs(1)), PopTimeout::Item(_))),
            })
        });
        let mut waiting = vec![1, 2, 3];
        while let Some(value) = waiting.pop() {
            if let Err(TryPushError::Full(value)) = queue.try_push(value) {
                waiting.push(value);
                thread::yield_now();
            }
        }
        // Nobody closes the queue: each popper has to find its own value.
        let popped: u32 = poppers.into_iter().map(|popper| popper.join().unwrap()).sum();
        assert_eq!(popped, 3);
    });
}

#[test]
fn a_stop_reaches_those_who_sleep_and_those_who_come_later() {
    check(|| {
        let signal = Arc::new(StopSignal::new());
        let sleepers = [false, true].map(|is_timed| {
            let signal = Arc::clone(&signal);
            thread::spawn(move || match is_timed {
                true => assert!(signal.wait_timeout(Duration::from_secs(1))),
                false => signal.wait(),
            })
        });
        signal.stop();
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
        assert!(signal.is_stopped() && signal.wait_timeout(Duration::ZERO));
    });
}
