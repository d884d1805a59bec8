//! The nodes' clocks, and their sleep: a process that is stopped, whose clock goes on.

use std::time::Duration;

use raft_core::{Freshness, NodeId};

use crate::cluster::Cluster;

impl Cluster {
    /// What a node's clock shows. They begin anywhere, and some are fast and some slow.
    pub(crate) fn tell_time(&mut self, id: NodeId) {
        let pace_permille = 1000 + id.0 * 7 % 5 * 20 - 40;
        let shown = Duration::from_secs(id.0 * 1000) + Duration::from_micros(self.now * pace_permille);
        if let Some(core) = self.nodes.get_mut(&id).and_then(|node| node.core.as_mut()) {
            core.time_is(shown);
        }
    }

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
        self.tell_time(id);
    }
}
