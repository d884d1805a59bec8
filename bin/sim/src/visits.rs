//! The visitor: a client that comes by, asks one node for all there is, and goes.
//!
//! Clients turn away from a node that does not answer, and come back only when it leads again; so nearly everything that
//! a struck node is asked, it was asked before. The visitor is who has not heard that something has changed: it knows
//! nothing but the node's address, as a client does that has just been started or was idle for long.

use bytes::Bytes;
use clerk::Operation;

use crate::event::Event;
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
        keys.into_iter().try_for_each(|key| self.begin_operation(number, Operation::get(key)))
    }
}
