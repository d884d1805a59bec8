//! The connections of one channel: one, or as many as it may have. Each is a [`Core`] of its own, with its own calls, which
//! connects when it is first called and comes back alone.

use std::sync::Arc;

use super::core::{Core, Link};
use super::state::ChannelState;
use crate::config::ChannelConfig;
use crate::reactor::Shared;
use crate::reactor::lock::lock;

/// See the module's text.
pub(super) struct Pool {
    first: Arc<Core>,
    /// None, most often.
    others: Box<[Arc<Core>]>,
}

impl Pool {
    pub(super) fn new(reactor: &Arc<Shared>, address: &str, config: ChannelConfig) -> Pool {
        let connection = |_| Arc::new(Core::new(reactor.clone(), address, config.clone()));
        let others = (1..config.connections_max).map(connection).collect();
        Pool { first: connection(0), others }
    }

    pub(super) fn first(&self) -> &Arc<Core> {
        &self.first
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Core>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The connection for one more call: the one with the fewest in flight, and of those the first. So another one is made
    /// only when all that there are have something to do.
    pub(super) fn for_call(&self) -> &Arc<Core> {
        if self.others.is_empty() {
            return &self.first;
        }
        self.all().min_by_key(|core| core.burden()).unwrap_or(&self.first)
    }

    /// How the best of the connections stands.
    pub(super) fn state(&self) -> ChannelState {
        let rank = |state: &ChannelState| match state {
            ChannelState::Ready => 0,
            ChannelState::Connecting => 1,
            ChannelState::Waiting { .. } => 2,
            ChannelState::Idle => 3,
            ChannelState::Closed => 4,
        };
        let states = self.all().map(|core| core.channel_state());
        states.min_by_key(rank).unwrap_or(ChannelState::Closed)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.all().for_each(|core| core.close());
    }
}

impl Core {
    /// What speaks against giving a connection one more call: first that it cannot be connected now, then its calls in
    /// flight.
    fn burden(&self) -> (bool, usize) {
        let state = lock(&self.state);
        let is_waiting =
            matches!(&state.link, Link::Waiting { until, .. } if *until > self.reactor.world.turn_nanos());
        (is_waiting, state.pending.len())
    }
}
