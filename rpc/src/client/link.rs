//! A channel's connection, as its reactor's thread tells the channel of it: made, failed, ended, late.
//!
//! Completions are left in `answered`, to be run by the reactor when no lock is held.

use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, Link, State};
use super::pending_call::Answered;
use crate::error::RpcError;
use crate::reactor::clock::{self, NEVER, Nanos, nanos_in};
use crate::reactor::connector::backoff;
use crate::reactor::lock::lock;
use crate::reactor::outbox::Outbox;

impl Core {
    /// The outbox whose connection is to be made, if the channel still wants it.
    pub(crate) fn outbox_to_open(&self) -> Option<Arc<Outbox>> {
        match &lock(&self.state).link {
            Link::Opening(outbox) => Some(outbox.clone()),
            _ => None,
        }
    }

    pub(crate) fn on_connected(&self) {
        let mut state = lock(&self.state);
        if let Link::Opening(outbox) = &state.link {
            state.link = Link::Ready(outbox.clone());
        }
    }

    /// No address could be connected to: the calls that waited for it fail, and so do others until the pause is over.
    pub(crate) fn on_connect_failed(&self, error: RpcError, answered: &mut Vec<Answered>) {
        let mut state = lock(&self.state);
        if matches!(state.link, Link::Closed) {
            return;
        }
        self.pause(&mut state, error.clone());
        self.drain(&mut state, answered, |_| error.clone());
    }

    fn pause(&self, state: &mut State, error: RpcError) {
        state.failures = state.failures.saturating_add(1);
        let pause = backoff(state.failures, self.config.backoff_min, self.config.backoff_max);
        state.link = Link::Waiting { until: clock::read_clock().1 + nanos_in(pause), error };
    }

    /// The connection has ended, after `written` bytes had left.
    pub(crate) fn on_closed(&self, written: u64, cause: &str, answered: &mut Vec<Answered>) {
        let mut state = lock(&self.state);
        if matches!(state.link, Link::Closed) {
            return;
        }
        if state.failures == 0 {
            state.link = Link::Idle;
        } else {
            // A server that takes connections and drops them must not be stormed.
            self.pause(&mut state, self.closed(cause, false));
        }
        state.failures = state.failures.max(1);
        self.drain(&mut state, answered, |pending| self.closed(cause, pending.end_offset <= written));
    }

    /// The reactor ends.
    pub(crate) fn on_stopped(&self, answered: &mut Vec<Answered>) {
        let mut state = lock(&self.state);
        let written = match std::mem::replace(&mut state.link, Link::Closed) {
            Link::Ready(outbox) | Link::Opening(outbox) => outbox.may_have_left(),
            _ => 0,
        };
        self.drain(&mut state, answered, |pending| RpcError::Stopped {
            may_have_run: pending.end_offset <= written,
        });
    }

    /// Takes out the calls that are late. Returns when the next one is due.
    pub(crate) fn expire(&self, now: Nanos, answered: &mut Vec<Answered>) -> Nanos {
        let mut next = NEVER;
        let mut cut = None;
        let mut state = lock(&self.state);
        let late: Vec<u64> = state
            .pending
            .iter()
            .filter_map(|(_, pending)| {
                if pending.due <= now {
                    return Some(pending.call_id);
                }
                next = next.min(pending.due);
                None
            })
            .collect();
        if late.is_empty() {
            return next;
        }
        let outbox = match &state.link {
            Link::Ready(outbox) | Link::Opening(outbox) => Some(outbox.clone()),
            _ => None,
        };
        let written = outbox.as_ref().map_or(0, |outbox| outbox.may_have_left());
        for call_id in late {
            let Some(pending) = self.take(&mut state, call_id) else { continue };
            if self.give_up_turn(&mut state, &pending) {
                cut = outbox.clone();
            }
            let timeout = Duration::from_nanos(pending.timeout);
            let error = RpcError::DeadlineExceeded { timeout, may_have_run: pending.end_offset <= written };
            answered.push(Answered { completion: pending.completion, outcome: Err(error) });
        }
        drop(state);
        if let Some(outbox) = cut {
            outbox.cut();
        }
        next
    }
}
