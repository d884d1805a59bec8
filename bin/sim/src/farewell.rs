//! The very end, when nothing is wrong any more and all hold the same: leadership is handed over and a member is removed,
//! and nobody notices.
//!
//! What an operator does on a good day costs nothing. In trouble that cannot be asked for: there elections come anyway.

use kvserver::service::MemberChange;
use raft::core::NodeId;

use crate::births::SLOWEST_CLOCK_PERMILLE;
use crate::event::Event;
use crate::faults::Fault;
use crate::plan::MS;
use crate::simulation::{Phase, Simulation};
use crate::violation::Violation;

/// Steps of rooms that may take long once in a transfer.
const SLOW_TURNS_US: u64 = 40 * MS;

impl Simulation<'_> {
    /// Begins the farewell, as far as this run has one.
    pub(crate) fn say_farewell(&mut self) -> Result<(), Violation> {
        if self.plan.has(Fault::Transfer) && self.hands_over()? {
            return Ok(());
        }
        self.take_leave()
    }

    /// Leadership is handed over, where that takes less time than an election timeout.
    fn hands_over(&mut self) -> Result<bool, Violation> {
        // The order, the request for votes, the votes and the first append, and what has to be on disk for each.
        let needed = 6 * self.plan.delay_us.1 + 12 * self.plan.disk_us.1 + 20 * self.plan.turn_us_max;
        let timeout = self.plan.election_min_ms * MS * SLOWEST_CLOCK_PERMILLE / 1000;
        let (Some(leader), true) = (self.leader, needed + SLOW_TURNS_US < timeout) else { return Ok(false) };
        let voters = &self.consensus.members.committed().voters;
        let mut others = voters.iter().copied().filter(|voter| voter.0 as usize != leader);
        let Some(to) = others.rfind(|voter| !self.is_lost(voter.0 as usize)) else {
            return Ok(false);
        };
        let Some(alive) = &self.machines[leader].node else { return Ok(false) };
        if alive.parts.node.with_core(|core| core.transfer_leadership(to)) != Ok(Ok(())) {
            return Ok(false);
        }
        self.say_of_node(leader, || format!("is told to hand over to node {to}"));
        self.former_leader = leader;
        self.phase = Phase::HandingOver;
        self.events.schedule(self.now + timeout, Event::Judgement);
        self.look_at(leader)?;
        Ok(true)
    }

    /// A member that does not lead is removed.
    fn take_leave(&mut self) -> Result<(), Violation> {
        self.phase = Phase::Over;
        let Some(leader) = self.leader.filter(|_| self.plan.has(Fault::MemberChange)) else { return Ok(()) };
        let members = self.consensus.members.committed().nodes();
        let runs = |node: &NodeId| self.machines[node.0 as usize].node.is_some();
        let mut others = members.into_iter().filter(|node| node.0 as usize != leader);
        let Some(node) = others.rfind(runs) else { return Ok(()) };
        let reply = self.order_of(leader, node.0 as usize, MemberChange::Remove);
        if reply.is_some_and(|reply| reply.refusal.is_empty()) {
            self.say_of_node(leader, || format!("is told to remove node {node}"));
            self.leaders_before = self.consensus.leaders();
            self.phase = Phase::Removing;
            self.events.schedule(self.now + self.patience_us(), Event::Judgement);
            self.look_at(leader)?;
        }
        Ok(())
    }

    /// Whether nobody noticed.
    pub(crate) fn judge_farewell(&mut self) -> Result<(), Violation> {
        if self.phase == Phase::HandingOver {
            if self.leader == Some(self.former_leader) {
                let text =
                    format!("node {} was told to hand over and no other leads yet", self.former_leader);
                return Violation::of("hands-over-at-once", text);
            }
            return self.take_leave();
        }
        if self.consensus.leaders() != self.leaders_before {
            let text = "a leader was elected after a member was removed, although nothing was wrong";
            return Violation::of("the-removed-disturb-nobody", text);
        }
        self.phase = Phase::Over;
        Ok(())
    }
}
