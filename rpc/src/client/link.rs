//! A channel's connection, as its reactor's thread tells the channel of it: made, failed, ended, late.
//!
//! Completions are left in `answered`, to be run by the reactor when no lock is held.

use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, Link, State};
use super::pending_call::{Answered, NOT_APPENDED, Pending};
use super::silence::{Look, Retired};
use crate::error::{End, RpcError, Step};
use crate::reactor::clock::{NEVER, Nanos, nanos_in};
use crate::reactor::connector::backoff;
use crate::reactor::lock::lock;
use crate::reactor::outbox::{AppendError, Outbox};

/// Connections at most that a channel keeps for their last calls; beyond it the oldest is cut.
const RETIRED_MAX: usize = 8;

/// Several times as long as a look through so many calls takes, in nanoseconds.
const LOOK_PAUSE_PER_1024_CALLS: Nanos = 20_000;

/// A caller is told of its deadline so much later at most, in nanoseconds.
const LOOK_PAUSE_MAX: Nanos = 2_000_000;

/// How long nothing is looked for among so many calls when all have just been looked through: where many are late one
/// after the other, many are found in one look.
fn look_pause(calls: usize) -> Nanos {
    LOOK_PAUSE_MAX.min((calls / 1024) as u64 * LOOK_PAUSE_PER_1024_CALLS)
}

impl Core {
    /// The outbox whose connection is to be made, if the channel still wants it.
    pub(crate) fn outbox_to_open(&self) -> Option<Arc<Outbox>> {
        match &lock(&self.state).link {
            Link::Opening(outbox) => Some(outbox.clone()),
            _ => None,
        }
    }

    /// The connection is made, and nothing has left on it yet.
    pub(crate) fn on_connected(self: &Arc<Core>, now: Nanos) {
        {
            let mut state = lock(&self.state);
            if let Link::Opening(outbox) = &state.link {
                state.link = Link::Ready(outbox.clone());
                state.silence.connected(now);
            }
        }
        // Calls that were begun before have not been watched for silence yet.
        self.reactor.arm(now.saturating_add(self.keep_alive));
        self.note_change();
    }

    /// No address could be connected to: the calls that waited for it fail, and so do others until the pause is over.
    pub(crate) fn on_connect_failed(self: &Arc<Core>, error: RpcError, answered: &mut Vec<Answered>) {
        let mut state = lock(&self.state);
        let Link::Opening(outbox) = &state.link else { return };
        let outbox = outbox.clone();
        self.pause(&mut state, error.clone());
        state.silence.end();
        self.drain_of(&mut state, outbox.epoch, answered, |_| error.clone());
        drop(state);
        outbox.cut();
        self.note_change();
    }

    /// Why nothing could be appended to a connection's outbox.
    pub(super) fn not_appended(&self, error: AppendError) -> RpcError {
        match error {
            AppendError::Closed => {
                End { step: Step::Write, cause: "it is just ending" }.error(&self.address, false)
            }
            AppendError::Full => {
                RpcError::Busy { limit: "unsent_bytes_max", max: self.config.unsent_bytes_max as u64 }
            }
        }
    }

    fn pause(&self, state: &mut State, error: RpcError) {
        state.failures = state.failures.saturating_add(1);
        let bounds = (self.config.backoff_min, self.config.backoff_max);
        let pause = backoff(state.failures, bounds, self.reactor.world.random());
        state.link = Link::Waiting { until: self.reactor.world.nanos() + nanos_in(pause), error };
    }

    /// The connection has ended, after `written` bytes had left.
    pub(crate) fn on_closed(
        self: &Arc<Core>,
        outbox: &Arc<Outbox>,
        written: u64,
        end: End<'_>,
        answered: &mut Vec<Answered>,
    ) {
        let mut state = lock(&self.state);
        let is_current = matches!(&state.link, Link::Ready(current) if Arc::ptr_eq(current, outbox));
        let failed = |pending: &Pending, end: End<'_>| end.error(&self.address, pending.frame.end <= written);
        if !is_current {
            // The channel has given this connection up: its state is another one's.
            let end = state.end_of_retired(outbox).unwrap_or(end);
            return self.drain_of(&mut state, outbox.epoch, answered, |pending| failed(pending, end));
        }
        if state.failures == 0 {
            state.link = Link::Idle;
        } else {
            // A server that takes connections and drops them must not be stormed.
            self.pause(&mut state, end.error(&self.address, false));
        }
        state.failures = state.failures.max(1);
        let end = state.silence.end().unwrap_or(end);
        self.drain_of(&mut state, outbox.epoch, answered, |pending| failed(pending, end));
        drop(state);
        self.note_change();
    }

    /// The reactor ends.
    pub(crate) fn on_stopped(&self, answered: &mut Vec<Answered>) {
        let mut state = lock(&self.state);
        self.drain_stopped(&mut state, answered);
    }

    /// Takes out the calls that are late, and cuts a connection whose server has vanished. Returns when to look again.
    pub(crate) fn expire(self: &Arc<Core>, now: Nanos, answered: &mut Vec<Answered>) -> Nanos {
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
        if next != NEVER {
            next = next.max(now.saturating_add(look_pause(state.pending.len())));
        }
        let mut is_silent = false;
        for call_id in late {
            let Some(pending) = self.take(&mut state, call_id) else { continue };
            let may_have_run = self.give_up(&mut state, &pending);
            is_silent |= state.is_silent_to(&pending, now);
            let timeout = Duration::from_nanos(pending.timeout);
            let error = RpcError::DeadlineExceeded { timeout, may_have_run };
            answered.push(Answered { caller: pending.caller, outcome: Err(error) });
        }
        Core::end_retired(&mut state);
        let mut looks = Vec::new();
        next = next.min(self.look_after_retired(&mut state, now, &mut looks));
        let look_at = self.look_after_current(&mut state, now, is_silent, &mut looks);
        drop(state);
        for Look { outbox, must_cut } in looks {
            if must_cut { outbox.cut() } else { outbox.finish() }
        }
        let Some(look_at) = look_at else {
            self.note_change();
            return next;
        };
        next.min(look_at)
    }

    /// A call that was taken out of the table is given up. Returns whether the server may have seen it or will: what has not
    /// begun to leave is taken back.
    pub(super) fn give_up(&self, state: &mut State, pending: &Pending) -> bool {
        if self.config.legacy {
            state.legacy.remove(pending.call_id);
        }
        let Some(outbox) = state.outbox_of(pending.epoch) else { return false };
        if pending.frame == NOT_APPENDED {
            return false;
        }
        if self.config.legacy {
            // Its reply has no number and would be taken for the next call's.
            outbox.cut();
        }
        !outbox.take_back(&pending.frame)
    }

    /// The server wants no further calls on this connection: the next one makes another.
    pub(super) fn on_going_away(self: &Arc<Core>, outbox: &Arc<Outbox>) {
        let surplus = {
            let mut state = lock(&self.state);
            if !matches!(&state.link, Link::Ready(current) if Arc::ptr_eq(current, outbox)) {
                return;
            }
            state.link = Link::Idle;
            let silence = std::mem::take(&mut state.silence);
            state.retired.push(Retired { outbox: outbox.clone(), silence });
            Core::end_retired(&mut state);
            (state.retired.len() > RETIRED_MAX).then(|| state.retired[0].outbox.clone())
        };
        self.note_change();
        if let Some(oldest) = surplus {
            oldest.cut();
        }
    }
}
