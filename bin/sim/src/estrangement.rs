//! How a leader loses its followers one by one, and those it had last do not remember it.
//!
//! First one node does not reach the leader any more and asks the others in vain, as long as they hear it. Then the leader
//! is cut off from all, and those who heard it start again at that moment. What they had promised it must outlast that: an
//! election comes at once, while the leader cannot know of it.

use crate::event::Event;
use crate::faults::Fault;
use crate::plan::MS;
use crate::simulation::Simulation;

/// Leaders cut off from one node that are cut off from all, in a thousand.
const ESTRANGED_PERMILLE: u64 = 500;

/// How long a node that only starts again stays away, at most.
const RESTART_US_MAX: u64 = 5 * MS;

impl Simulation<'_> {
    /// Two nodes do not reach each other any more: if one of them leads, it may not stop at that.
    pub(crate) fn expect_estrangement(&mut self) {
        let Some(leader) = self.leader.filter(|_| self.plan.has(Fault::Kill)) else { return };
        let misses_somebody = self.node_ids().iter().any(|other| !self.links.is_open(*other, leader));
        if misses_somebody && self.strike_dice.permille(ESTRANGED_PERMILLE) {
            let after = self.strike_dice.between(1, 3 * self.plan.election_us_max());
            let fault_number = self.fault_number;
            self.events.schedule(self.now + after, Event::Estrange { leader, fault_number });
        }
    }

    /// The leader is cut off from all, and those it still reached start again.
    pub(crate) fn estrange(&mut self, leader: usize, fault_number: u64) {
        if !self.is_rough() || fault_number != self.fault_number || self.leader != Some(leader) {
            return;
        }
        let others = self.node_ids().into_iter().filter(|other| *other != leader);
        let reached: Vec<usize> = others.filter(|other| self.links.is_open(leader, *other)).collect();
        self.trace.line(
            self.now,
            || "!".into(),
            || format!("{reached:?} leave node {leader} and start again"),
        );
        for node in reached {
            self.links.cut_both_ways(leader, node);
            if self.machines[node].node.is_some() {
                self.counters.count(Fault::Kill);
                self.kill(node);
                let after = self.strike_dice.between(1, RESTART_US_MAX);
                self.events.schedule(self.now + after, Event::Birth { node });
            }
        }
    }
}
