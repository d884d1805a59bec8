//! The nodes' clocks, and their sleep: a process that is stopped, whose clock goes on.

use std::time::Duration;

use raft_core::{Freshness, NodeId};

use crate::cluster::Cluster;

/// What a node's clock shows at a millisecond. They begin anywhere, and some are fast and some slow.
pub(crate) fn shown_to(id: NodeId, now: u64) -> Duration {
    let pace_permille = 1000 + id.0 * 7 % 5 * 20 - 40;
    Duration::from_secs(id.0 * 1000) + Duration::from_micros(now * pace_permille)
}

impl Cluster {
    /// Stops the process of a node, as a signal does.
    pub(crate) fn put_to_sleep(&mut self, id: NodeId) {
        self.asleep.insert(id);
    }

    /// Whether it is up and runs.
    pub(crate) fn is_awake(&self, id: NodeId) -> bool {
        self.is_up(id) && !self.asleep.contains(&id)
    }

    /// What a node can prove of the age of its state.
    pub(crate) fn freshness(&self, id: NodeId) -> Option<Freshness> {
        self.nodes[&id].core.as_ref()?.freshness()
    }

    /// Lets it run again: its clock has gone on, and what was sent to it meanwhile arrives soon.
    pub(crate) fn wake(&mut self, id: NodeId) {
        self.asleep.remove(&id);
        let shown = shown_to(id, self.now);
        if let Some(core) = self.nodes.get_mut(&id).and_then(|node| node.core.as_mut()) {
            core.time_is(shown);
        }
    }
}
