//! How many calls end at once: with their connection, with their channel, with the reactor.

use std::sync::Arc;

use super::core::{Core, LegacyLine, Link, State};
use super::pending_call::{Answered, Pending};
use crate::error::RpcError;
use crate::reactor::lock::lock;
use crate::reactor::mailbox::Command;
use crate::reactor::outbox::Outbox;

impl Core {
    /// Closes the channel: no call is begun any more, and those in flight are answered.
    pub(crate) fn close(self: &Arc<Core>) {
        let mut answered = Vec::new();
        {
            let mut state = lock(&self.state);
            self.drain_stopped(&mut state, &mut answered);
        }
        // A reactor that has stopped has closed the connection.
        let _ = self.reactor.post(Command::CloseChannel(self.clone()));
        self.note_change();
        answered.into_iter().for_each(|call| call.run(self));
    }

    /// The channel ends, and its calls with it.
    pub(super) fn drain_stopped(&self, state: &mut State, answered: &mut Vec<Answered>) {
        // NB: cut first. Nothing more leaves of what the calls are told has not.
        let left_of = |outbox: &Arc<Outbox>| {
            outbox.cut();
            (outbox.epoch, outbox.may_have_left())
        };
        let left: Vec<_> = state.outboxes().map(left_of).collect();
        state.link = Link::Closed;
        state.retired.clear();
        self.drain(state, answered, |pending| {
            let may_have_run =
                left.iter().any(|(epoch, left)| *epoch == pending.epoch && pending.frame.end <= *left);
            RpcError::Stopped { may_have_run }
        });
    }

    /// Takes the calls of one connection out of the table.
    pub(super) fn drain_of(
        &self,
        state: &mut State,
        epoch: u64,
        answered: &mut Vec<Answered>,
        error: impl Fn(&Pending) -> RpcError,
    ) {
        if state.pending.iter().all(|(_, pending)| pending.epoch == epoch) {
            return self.drain(state, answered, error);
        }
        let is_of_it = |(_, pending): (usize, &Pending)| (pending.epoch == epoch).then_some(pending.call_id);
        let call_ids: Vec<u64> = state.pending.iter().filter_map(is_of_it).collect();
        for pending in call_ids.into_iter().filter_map(|call_id| self.take(state, call_id)) {
            let outcome = Err(error(&pending));
            answered.push(Answered { caller: pending.caller, outcome });
        }
    }

    /// Takes all calls out of the table.
    pub(super) fn drain(
        &self,
        state: &mut State,
        answered: &mut Vec<Answered>,
        error: impl Fn(&Pending) -> RpcError,
    ) {
        state.legacy = LegacyLine::default();
        for pending in state.pending.drain() {
            let outcome = Err(error(&pending));
            answered.push(Answered { caller: pending.caller, outcome });
        }
    }
}
