//! The two tickers: time for the core comes in ticks, and these count them.

use std::time::Duration;

use raft_core::RawNode;

use crate::driver::{Clock, NodeStopped, RaftNode};
use crate::sync::StopSignal;

/// One tick of the core: `RawNode::tick_election` or `RawNode::tick_heartbeat`.
pub type Tick = fn(&mut RawNode);

/// Hands the core one tick per interval.
///
/// The ticks keep their distance on the clock, however long the visits to the core take. After a pause (the process was
/// stopped, the machine slept) one tick is handed over, not all that were missed: a node that was away must first
/// hear what its peers have sent meanwhile, instead of calling an election for its own sleep.
#[derive(Debug)]
pub struct Ticker {
    interval: Duration,
    next: Duration,
    tick: Tick,
}

impl Ticker {
    /// A ticker whose first tick is due one interval from the clock's now.
    pub fn new(clock: &dyn Clock, interval: Duration, tick: Tick) -> Ticker {
        Ticker { interval, next: clock.now() + interval, tick }
    }

    /// Ticks if it is time, and says how long to wait for the next turn.
    ///
    /// # Errors
    /// When the node has stopped.
    pub fn turn(&mut self, clock: &dyn Clock, node: &RaftNode) -> Result<Duration, NodeStopped> {
        if clock.now() >= self.next {
            node.with_core(|core| {
                // The visit may have had to wait: what counts is when the tick came to the core.
                self.keep_distance(clock.now());
                (self.tick)(core);
            })?;
        }
        Ok(self.next.saturating_sub(clock.now()))
    }

    /// A tick comes at `now`; says when the next is due.
    fn keep_distance(&mut self, now: Duration) {
        let on_time = self.next + self.interval;
        self.next = if on_time > now { on_time } else { now + self.interval };
    }

    /// The thread: turns until the stop signal, or until the node stops by itself.
    pub(super) fn run(mut self, clock: &dyn Clock, node: &RaftNode, stop: &StopSignal) {
        while let Ok(wait) = self.turn(clock, node) {
            if stop.wait_timeout(wait) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use raft_core::{Config, Message, NodeId, ReadState, Restored, SoftState, Term};
    use rand::SeedableRng;
    use rand::rngs::ChaCha8Rng;

    use super::*;
    use crate::driver::{Application, Applier, Transport};
    use crate::sync::LockQueue;

    /// Shows one moment once, and then the other, in milliseconds.
    struct Shown(AtomicU64, u64);

    impl Clock for Shown {
        fn now(&self) -> Duration {
            Duration::from_millis(self.0.swap(self.1, Ordering::Relaxed))
        }
    }

    /// The world of a node that is alone in it.
    struct Nobody;

    impl Transport for Nobody {
        fn queue(&self, _: Vec<Message>) {}
        fn flush(&self) {}
    }

    impl Application for Nobody {
        fn queue_read_states(&self, _: Vec<ReadState>) {}
        fn queue_soft_state(&self, _: &SoftState) {}
        fn queue_snapshots(&self, _: Vec<(NodeId, Term)>) {}
        fn flush(&self) {}
        fn failed(&self, _: &str) {}
    }

    fn node() -> RaftNode {
        let config = Config::new(NodeId(1), (1..=3).map(NodeId));
        let core = RawNode::new(config, Restored::default(), ChaCha8Rng::seed_from_u64(1));
        let node = RaftNode::new(core, Arc::new(Applier::new(Arc::new(LockQueue::new(1)))));
        node.connect(Arc::new(Nobody), Arc::new(Nobody));
        node
    }

    /// Of these turns, when each begins and is let to the core, those that tick. The ticker's interval is ten, and it was
    /// made at 1000.
    fn ticks_of(turns: &[(u64, u64)]) -> Vec<u64> {
        let node = node();
        let made = Shown(AtomicU64::new(1000), 1000);
        let mut ticker = Ticker::new(&made, Duration::from_millis(10), RawNode::tick_election);
        let ticks = |(begins, is_let): &(u64, u64)| {
            let before = ticker.next;
            ticker.turn(&Shown(AtomicU64::new(*begins), *is_let), &node).unwrap();
            ticker.next != before
        };
        turns.iter().copied().filter(ticks).map(|(begins, _)| begins).collect()
    }

    fn ticks_at(turns: &[u64]) -> Vec<u64> {
        ticks_of(&turns.iter().map(|at| (*at, *at)).collect::<Vec<_>>())
    }

    #[test]
    fn ticks_keep_their_distance_however_late_each_turn_comes() {
        assert_eq!(ticks_at(&[1009, 1010, 1011, 1019, 1023, 1029, 1030]), [1010, 1023, 1030]);
    }

    #[test]
    fn ticks_missed_in_a_pause_are_not_made_up_for() {
        assert_eq!(ticks_at(&[1010, 5000, 5001, 5009, 5010, 5020]), [1010, 5000, 5010, 5020]);
    }

    #[test]
    fn a_tick_that_had_to_wait_for_the_core_counts_from_when_it_came_there() {
        let turns = [(1010, 1029), (1029, 1029), (1030, 1030), (1038, 1038), (1039, 1039)];
        assert_eq!(ticks_of(&turns), [1010, 1039], "three ticks in a row would be 20 ms too many");
    }
}
