//! What a server's silence means: one that owes replies, or was sent a call that nobody answers, is asked for a sign of
//! life, and taken for vanished if it gives none; a connection that nobody uses has been kept long enough.
//!
//! Each connection of a channel is listened to for itself: that which its server has retired, too.

use std::sync::Arc;

use super::core::{Core, Link, State};
use super::pending_call::Pending;
use crate::error::{End, Step};
use crate::protocol::encoder::put_ping;
use crate::reactor::clock::{NEVER, Nanos, nanos_in};
use crate::reactor::outbox::Outbox;

/// How long the server at the other end of a connection has said nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Silence {
    /// When bytes last came from it, or it was connected to, or the first of the calls in flight was begun.
    pub(super) heard_at: Nanos,
    /// A question for a sign of life that is open.
    probe: Option<Probe>,
    /// It has been sent a call that nobody answers: that it got it shows only when it is asked.
    is_told: bool,
}

/// A ping that awaits its answer.
#[derive(Debug, Clone, Copy)]
struct Probe {
    /// When the server is taken for vanished.
    due: Nanos,
    /// Bytes that had left when it was asked; the question included, unless others waited before it.
    left: u64,
}

/// A connection that no further call may use.
#[derive(Clone)]
pub(super) struct Retired {
    pub(super) outbox: Arc<Outbox>,
    pub(super) silence: Silence,
}

/// What is to be done with a connection that was looked after, with no lock held: to cut it, or to send what it was asked.
pub(super) struct Look {
    pub(super) outbox: Arc<Outbox>,
    pub(super) must_cut: bool,
}

impl Silence {
    /// Bytes have come from the server.
    pub(super) fn hear(&mut self, now: Nanos) {
        *self = Silence { heard_at: now, ..Silence::default() };
    }

    /// The server has been connected to.
    pub(super) fn connected(&mut self, now: Nanos) {
        *self = Silence { heard_at: now, probe: None, is_told: self.is_told };
    }

    /// The connection has ended, or could not be made. Returns how, if that was its server's silence.
    pub(super) fn end(&mut self) -> Option<End<'static>> {
        let silent = End { step: Step::KeepAlive, cause: "the server gave no sign of life" };
        std::mem::take(self).probe.map(|_| silent)
    }
}

impl State {
    /// A call is sent. If the server owed nothing until then, its silence begins here.
    pub(super) fn owes_from(&mut self, now: Nanos) {
        if !self.owes_a_word() {
            self.silence.heard_at = self.silence.heard_at.max(now);
        }
    }

    /// A call is sent that nobody answers. Returns whether the connection has to be looked after from here on.
    pub(super) fn tell(&mut self, now: Nanos) -> bool {
        self.owes_from(now);
        !std::mem::replace(&mut self.silence.is_told, true)
    }

    /// Whether something is to be heard of the server.
    fn owes_a_word(&self) -> bool {
        !self.pending.is_empty() || self.silence.is_told
    }

    /// Bytes have come on the connection of that number.
    pub(super) fn heard(&mut self, epoch: u64, now: Nanos) {
        match &self.link {
            Link::Ready(outbox) if outbox.epoch == epoch => self.silence.hear(now),
            _ => {
                let of_it = |retired: &&mut Retired| retired.outbox.epoch == epoch;
                if let Some(retired) = self.retired.iter_mut().find(of_it) {
                    retired.silence.hear(now);
                }
            }
        }
    }

    /// Whether a late call has spent half its time or more without a sign of life on the connection for the next ones.
    pub(super) fn is_silent_to(&self, late: &Pending, now: Nanos) -> bool {
        matches!(&self.link, Link::Ready(outbox) if outbox.epoch == late.epoch)
            && self.silence.heard_at.saturating_add(late.timeout / 2) <= now
    }

    /// A connection that is not the one for the next calls has ended. Returns how, if that was its server's silence.
    pub(super) fn end_of_retired(&mut self, outbox: &Arc<Outbox>) -> Option<End<'static>> {
        let place = self.retired.iter().position(|retired| Arc::ptr_eq(&retired.outbox, outbox))?;
        self.retired.remove(place).silence.end()
    }
}

impl Core {
    /// Looks after the connection for the next calls. Returns when to look again; `None` when it is given up, because nobody
    /// uses it.
    pub(super) fn look_after_current(
        &self,
        state: &mut State,
        now: Nanos,
        mut is_silent: bool,
        looks: &mut Vec<Look>,
    ) -> Option<Nanos> {
        let Link::Ready(outbox) = &state.link else { return Some(NEVER) };
        if self.config.legacy {
            return Some(NEVER);
        }
        let outbox = outbox.clone();
        let Some(look_at) = self.watch_silence(state, &outbox, now, &mut is_silent) else {
            looks.push(Look { outbox, must_cut: true });
            return None;
        };
        let mut silence = state.silence;
        let due = self.probe(state, &mut silence, outbox, (is_silent, now), looks);
        state.silence = silence;
        Some(look_at.min(due))
    }

    /// Looks after the connections that no further call may use. Returns when to look again.
    pub(super) fn look_after_retired(&self, state: &mut State, now: Nanos, looks: &mut Vec<Look>) -> Nanos {
        let mut next = NEVER;
        for place in 0..state.retired.len() {
            let Retired { outbox, mut silence } = state.retired[place].clone();
            let limit = silence.heard_at.saturating_add(self.keep_alive);
            let due = self.probe(state, &mut silence, outbox, (limit <= now, now), looks);
            state.retired[place].silence = silence;
            next = next.min(if limit <= now { due } else { limit.min(due) });
        }
        next
    }

    /// What silence means: a server that owes replies, or was told something, is to be asked for a sign of life, and a
    /// connection that nobody uses has been kept long enough. Returns when to look again; `None` when the connection is
    /// given up.
    fn watch_silence(
        &self,
        state: &mut State,
        outbox: &Outbox,
        now: Nanos,
        is_silent: &mut bool,
    ) -> Option<Nanos> {
        if state.owes_a_word() {
            let limit = state.silence.heard_at.saturating_add(self.keep_alive);
            *is_silent |= limit <= now;
            return Some(if limit <= now { NEVER } else { limit });
        }
        let limit = state.silence.heard_at.saturating_add(nanos_in(self.config.idle_timeout));
        if limit > now {
            return Some(limit);
        }
        if state.silence.probe.is_some() {
            return Some(NEVER);
        }
        if outbox.unsent() > 0 {
            return Some(now.saturating_add(self.keep_alive));
        }
        state.link = Link::Idle;
        None
    }

    /// Asks a server that is silent for a sign of life, unless it has been asked. Returns when the question that is open is
    /// due; if that is now, it has been answered in the negative.
    fn probe(
        &self,
        state: &mut State,
        silence: &mut Silence,
        outbox: Arc<Outbox>,
        (is_silent, now): (bool, Nanos),
        looks: &mut Vec<Look>,
    ) -> Nanos {
        let due = now.saturating_add(nanos_in(self.config.ping_timeout));
        let left = outbox.may_have_left();
        match silence.probe {
            // That it takes bytes is a sign of life, too.
            Some(probe) if probe.due <= now && probe.left < left => silence.probe = Some(Probe { due, left }),
            Some(_) => {}
            None if is_silent => {
                let call_id = self.unused_call_id(state);
                // What cannot be appended is beyond asking: the connection ends, or is cut when the question is due.
                let ping = outbox.append(|buffer| put_ping(buffer, call_id)).unwrap_or(left..left);
                // That the question leaves is no sign, but that what waits before it does.
                let left = if ping.start > left { left } else { ping.end };
                silence.probe = Some(Probe { due, left });
            }
            None => return NEVER,
        }
        let due = silence.probe.map_or(NEVER, |probe| probe.due);
        looks.push(Look { outbox, must_cut: due <= now });
        due
    }

    /// Ends the retired connections whose last call has ended.
    pub(super) fn end_retired(state: &mut State) {
        let State { retired, pending, .. } = state;
        retired.retain(|Retired { outbox, .. }| {
            let is_used = pending.iter().any(|(_, call)| call.epoch == outbox.epoch);
            if !is_used {
                outbox.cut();
            }
            is_used
        });
    }
}
