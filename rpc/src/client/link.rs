//! A channel's connection, as its reactor's thread tells the channel of it: made, failed, ended, late.
//!
//! Completions are left in `answered`, to be run by the reactor when no lock is held.

use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, Link, Probe, State};
use super::pending_call::Answered;
use crate::error::RpcError;
use crate::protocol::encoder::put_ping;
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

    pub(crate) fn on_connected(&self, now: Nanos) {
        let mut state = lock(&self.state);
        if let Link::Opening(outbox) = &state.link {
            state.link = Link::Ready(outbox.clone());
            Core::heard(&mut state, now);
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
        let cause = if state.probe.take().is_some() { "the server gave no sign of life" } else { cause };
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

    /// Takes out the calls that are late, and cuts a connection whose server has vanished. Returns when to look again.
    pub(crate) fn expire(&self, now: Nanos, answered: &mut Vec<Answered>) -> Nanos {
        let mut state = lock(&self.state);
        let mut next = NEVER;
        let mut late = Vec::new();
        for (_, pending) in &state.pending {
            if pending.due <= now {
                late.push(pending.call_id);
            } else {
                next = next.min(pending.due);
            }
        }
        let outbox = match &state.link {
            Link::Ready(outbox) | Link::Opening(outbox) => Some(outbox.clone()),
            _ => None,
        };
        let left = outbox.as_ref().map_or(0, |outbox| outbox.may_have_left());
        let mut is_silent = false;
        let mut must_cut = false;
        for call_id in late {
            let Some(pending) = self.take(&mut state, call_id) else { continue };
            must_cut |= self.give_up_turn(&mut state, &pending);
            is_silent |= state.heard_at.saturating_add(pending.timeout / 2) <= now;
            let timeout = Duration::from_nanos(pending.timeout);
            let error = RpcError::DeadlineExceeded { timeout, may_have_run: pending.end_offset <= left };
            answered.push(Answered { completion: pending.completion, outcome: Err(error) });
        }
        let Some(outbox) = outbox else { return next };
        if let Some(probe) = self.probe(&mut state, &outbox, is_silent, now) {
            must_cut |= probe.due <= now;
            next = next.min(probe.due);
        }
        drop(state);
        if must_cut {
            outbox.cut();
        } else {
            outbox.finish();
        }
        next
    }

    /// Asks a server for a sign of life when a late call has spent half its time or more without one. Returns the question that is open; it has
    /// been answered in the negative if it is due.
    fn probe(&self, state: &mut State, outbox: &Arc<Outbox>, is_silent: bool, now: Nanos) -> Option<Probe> {
        let due = now.saturating_add(nanos_in(self.config.ping_timeout));
        let left = outbox.may_have_left();
        match state.probe {
            // That it takes bytes is a sign of life, too.
            Some(probe) if probe.due <= now && probe.left < left => state.probe = Some(Probe { due, left }),
            Some(_) => {}
            None if is_silent && !self.config.legacy && matches!(state.link, Link::Ready(_)) => {
                let call_id = self.unused_call_id(state);
                // What cannot be appended is beyond asking: the connection ends, or is cut when the question is due.
                let end = outbox.append(|buffer| put_ping(buffer, call_id)).unwrap_or(left);
                state.probe = Some(Probe { due, left: end });
            }
            None => {}
        }
        state.probe
    }

    /// Bytes have come from the server.
    pub(super) fn heard(state: &mut State, now: Nanos) {
        state.heard_at = now;
        state.probe = None;
    }
}
