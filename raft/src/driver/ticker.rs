//! The two tickers: time for the core comes in ticks, and these are the threads that count them.

use std::time::Duration;

use crate::driver::RaftNode;
use crate::sync::StopSignal;

/// The `election-ticker`: one `tick_election` per `tick` until the stop signal.
pub(super) fn run_election_ticker(node: &RaftNode, stop: &StopSignal, tick: Duration) {
    while !stop.wait_timeout(tick) && node.with_core(raft_core::RawNode::tick_election).is_ok() {}
}

/// The `heartbeat-ticker`: one `tick_heartbeat` per `interval` until the stop signal.
pub(super) fn run_heartbeat_ticker(node: &RaftNode, stop: &StopSignal, interval: Duration) {
    while !stop.wait_timeout(interval) && node.with_core(raft_core::RawNode::tick_heartbeat).is_ok() {}
}
