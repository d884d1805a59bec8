//! What the model checker cannot see of the queue and the signal: time-outs, and real threads.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use raft::sync::{LockQueue, PopTimeout, StopSignal, TryPushError};

#[test]
fn a_pop_gives_up_after_its_time() {
    let queue: LockQueue<u32> = LockQueue::new(1);
    assert_eq!(queue.pop_timeout(Duration::from_millis(1)), PopTimeout::TimedOut);
    queue.try_push(1).unwrap();
    assert_eq!(queue.try_push(2), Err(TryPushError::Full(2)));
    assert_eq!(queue.pop_timeout(Duration::ZERO), PopTimeout::Item(1));
    queue.close();
    assert_eq!(queue.pop_timeout(Duration::from_millis(1)), PopTimeout::Closed);
}

#[test]
fn a_time_out_does_not_swallow_the_wake_up_of_another() {
    // Sleepers come and go by time-out while values pass: none may stay behind for ever.
    let queue = Arc::new(LockQueue::new(4));
    let poppers: Vec<_> = (0..4)
        .map(|number: u32| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                let mut sum = 0;
                loop {
                    let timeout = Duration::from_micros(u64::from(number * 50));
                    match queue.pop_timeout(timeout) {
                        PopTimeout::Item(value) => sum += value,
                        PopTimeout::TimedOut => {}
                        PopTimeout::Closed => return sum,
                    }
                }
            })
        })
        .collect();
    for value in 1..=5_000_u64 {
        queue.push(value).unwrap();
    }
    queue.close();
    let sum: u64 = poppers.into_iter().map(|popper| popper.join().unwrap()).sum();
    assert_eq!(sum, 5_000 * 5_001 / 2);
}

#[test]
fn a_batch_appends_to_the_buffer_and_takes_no_more_than_asked() {
    let queue = LockQueue::new(8);
    (0..5).for_each(|value| queue.push(value).unwrap());
    let mut buffer = vec![99];
    assert!(queue.pop_batch_into(&mut buffer, 3));
    assert_eq!(buffer, [99, 0, 1, 2]);
    assert_eq!((queue.len(), queue.capacity(), queue.is_empty()), (2, 8, false));
    queue.close();
    assert_eq!(queue.pop_batch(10), [3, 4]);
    assert!(!queue.pop_batch_into(&mut buffer, 3));
    assert_eq!(queue.push(7), Err(7));
}

#[test]
fn a_signal_ends_a_sleep_at_once_and_else_the_time_does() {
    let signal = Arc::new(StopSignal::new());
    assert!(!signal.wait_timeout(Duration::from_millis(1)) && !signal.is_stopped());
    let sleeper = {
        let signal = Arc::clone(&signal);
        thread::spawn(move || signal.wait_timeout(Duration::from_secs(600)))
    };
    signal.stop();
    assert!(sleeper.join().unwrap());
}
