//! The visitor: a client that comes by, asks one node for all there is, and goes; and the witness of an election.
//!
//! Clients turn away from a node that does not answer, and come back only when it leads again; so nearly everything that
//! a struck node is asked, it was asked before. The visitor is who has not heard that something has changed: it knows
//! nothing but the node's address, as a client does that has just been started or was idle for long.
//!
//! The witness comes to a leader that was just elected and writes. As soon as that is done it asks the leader of before,
//! who may not know yet that it is none any more, and must not answer with what it has.

use bytes::Bytes;
use clerk::{Consistency, Operation};

use crate::event::Event;
use crate::plan::MS;
use crate::simulation::Simulation;
use crate::violation::Violation;
use crate::workload::key;

impl Simulation<'_> {
    /// This node is struck: somebody may come by at the end of this time, when the others have got over it.
    pub(crate) fn expect_visit(&mut self, node: usize, within_us: u64) {
        if self.strike_dice.permille(self.plan.visited_permille) {
            let after = self.strike_dice.between(within_us / 4 * 3, within_us);
            self.events.schedule(self.now + after, Event::Visit { node });
        }
    }

    /// Somebody comes by, if nobody is there.
    pub(crate) fn visit(&mut self, node: usize) -> Result<(), Violation> {
        let number = self.plan.clients + 1;
        if !self.is_rough() || self.clients[number].under_way > 0 {
            return Ok(());
        }
        self.clients[number].replace(self.plan, number, node);
        // What was written last first: that is what a node that has not heard of it gets wrong.
        let last = self.last_written.clone();
        let others = (0..self.plan.keys).map(key).filter(|key| *key != last);
        let keys: Vec<Bytes> = std::iter::once(last.clone()).chain(others).collect();
        let consistency = self.leaders_consistency();
        keys.into_iter().try_for_each(|key| self.begin_operation(number, Operation::Get { key, consistency }))
    }

    /// What a leader is asked for by who wants to know whether it still is one.
    fn leaders_consistency(&mut self) -> Consistency {
        match self.plan.has_leases() && self.strike_dice.permille(700) {
            true => Consistency::Lease,
            false => Consistency::Linearizable,
        }
    }

    /// A node was elected after another one had led: somebody may have seen it.
    pub(crate) fn expect_witness(&mut self, leader: usize, former: usize) {
        if leader != former && self.is_rough() && self.strike_dice.permille(self.plan.visited_permille) {
            let after = self.strike_dice.skewed(1, self.plan.election_min_ms * MS);
            self.events.schedule(self.now + after, Event::Witness { leader, former });
        }
    }

    /// The witness writes at a leader that was just elected.
    pub(crate) fn witness(&mut self, leader: usize, former: usize) -> Result<(), Violation> {
        let number = self.plan.witness();
        if !self.is_rough() || self.clients[number].under_way > 0 {
            return Ok(());
        }
        self.clients[number].replace(self.plan, number, leader);
        self.former_leader = former;
        let (key, value) = (self.last_written.clone(), format!("{number}.{},", self.clients[number].begun));
        self.begin_operation(number, Operation::Put { key, value: value.into() })
    }

    /// What the witness wrote is done: it asks who led before.
    pub(crate) fn testify(&mut self) -> Result<(), Violation> {
        let number = self.plan.witness();
        if !self.is_rough() || self.clients[number].under_way > 0 {
            return Ok(());
        }
        self.clients[number].replace(self.plan, number, self.former_leader);
        let (key, consistency) = (self.last_written.clone(), self.leaders_consistency());
        self.begin_operation(number, Operation::Get { key, consistency })
    }
}
