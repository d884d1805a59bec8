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
        if self.is_due(clock.now()) {
            node.with_core(self.tick)?;
        }
        Ok(self.next.saturating_sub(clock.now()))
    }

    fn is_due(&mut self, now: Duration) -> bool {
        let is_due = now >= self.next;
        if is_due {
            let on_time = self.next + self.interval;
            self.next = if on_time > now { on_time } else { now + self.interval };
        }
        is_due
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
    use super::*;

    struct Standing;

    impl Clock for Standing {
        fn now(&self) -> Duration {
            Duration::from_millis(1000)
        }
    }

    /// At which of these milliseconds a ticker of ten milliseconds ticks that was made at 1000.
    fn ticks_at(visits: &[u64]) -> Vec<u64> {
        let mut ticker = Ticker::new(&Standing, Duration::from_millis(10), RawNode::tick_election);
        let is_due = |at: &u64| ticker.is_due(Duration::from_millis(*at));
        visits.iter().copied().filter(is_due).collect()
    }

    #[test]
    fn ticks_keep_their_distance_however_late_each_turn_comes() {
        assert_eq!(ticks_at(&[1009, 1010, 1011, 1019, 1023, 1029, 1030]), [1010, 1023, 1030]);
    }

    #[test]
    fn ticks_missed_in_a_pause_are_not_made_up_for() {
        assert_eq!(ticks_at(&[1010, 5000, 5001, 5009, 5010, 5020]), [1010, 5000, 5010, 5020]);
    }
}
