//! Who waits for what: back-offs, the session, the scout.
//!
//! Every waiting operation stands in `wakes`, at the latest with its deadline, so none can be forgotten. The queues
//! hold ids only; whoever ends leaves them.

use std::time::Duration;

use super::{Action, Machine, OperationId, State, TIME_LEFT_MIN, Work};
use crate::{error::ClerkError, retry};

impl<D> Machine<D> {
    /// Takes the operation out of whatever it waits for.
    pub(super) fn release(&mut self, id: OperationId) {
        let Some(pending) = self.operations.find(id) else { return };
        let state = std::mem::replace(&mut pending.state, State::Moving);
        match state {
            State::Moving | State::InFlight(_) => {}
            State::Waiting { until } => {
                self.wakes.remove(&(until, id));
            }
            State::ForSession { until } => {
                self.wakes.remove(&(until, id));
                self.for_session.retain(|waiting| *waiting != id);
            }
            State::ForLeader { until } => {
                self.wakes.remove(&(until, id));
                self.for_leader.retain(|waiting| *waiting != id);
            }
        }
    }

    /// An operation that was just taken from the front of its queue no longer waits.
    fn leave_queue(&mut self, id: OperationId) {
        let pending = self.operations.find(id).expect("who ends leaves its queue");
        let (State::ForSession { until } | State::ForLeader { until }) = pending.state else {
            unreachable!("a queue holds only those that wait in it");
        };
        pending.state = State::Moving;
        self.wakes.remove(&(until, id));
    }

    /// Waits one back-off, at most up to the deadline.
    pub(super) fn back_off(&mut self, id: OperationId, longest: Duration, now: Duration) {
        let pending = self.operations.find(id).expect("only an operation under way waits");
        let wait = retry::backoff(self.config.backoff_min, longest, pending.rounds, &mut self.rng);
        pending.rounds = pending.rounds.saturating_add(1);
        pending.hops = 0;
        let until = pending.deadline.min(now + wait);
        pending.state = State::Waiting { until };
        self.wakes.insert((until, id));
        self.arm(now);
    }

    /// A write waits for a session or for room in its window; an opener is sent if there is none.
    pub(super) fn wait_for_session(&mut self, id: OperationId, now: Duration) {
        let pending = self.operations.find(id).expect("only an operation under way waits");
        let until = pending.deadline;
        pending.state = State::ForSession { until };
        self.wakes.insert((until, id));
        self.for_session.push_back(id);
        self.arm(now);
        if !self.session.is_open() && self.opener.is_none() {
            let opener = self.insert(Work::OpenSession, Duration::MAX);
            self.opener = Some(opener);
            self.go(opener, now);
        }
    }

    /// Another operation already looks for the leader.
    pub(super) fn wait_for_leader(&mut self, id: OperationId, now: Duration) {
        let pending = self.operations.find(id).expect("only an operation under way waits");
        let until = pending.deadline;
        pending.state = State::ForLeader { until };
        self.for_leader.push_back(id);
        if until != Duration::MAX {
            self.wakes.insert((until, id));
            self.arm(now);
        }
    }

    /// No leader is known: this operation looks for it, or waits for the one that does.
    pub(super) fn search(&mut self, id: OperationId, longest: Duration, now: Duration) {
        match self.scout {
            Some(scout) if scout != id => self.wait_for_leader(id, now),
            _ => {
                self.scout = Some(id);
                self.back_off(id, longest, now);
            }
        }
    }

    /// A node did what only a leader does: everybody goes there.
    pub(super) fn leader_found(&mut self, now: Duration) {
        self.scout = None;
        // Those who go cannot come back into this queue while it is emptied: there is no scout to wait for.
        while let Some(id) = self.for_leader.pop_front() {
            self.leave_queue(id);
            self.go(id, now);
        }
    }

    /// Whether it is the scout, and does not look for itself alone.
    pub(super) fn looks_for_others(&self, id: OperationId) -> bool {
        self.scout == Some(id) && !self.for_leader.is_empty()
    }

    /// The scout ended without a finding: the next in line looks.
    pub(super) fn replace_scout(&mut self, now: Duration) {
        self.scout = self.for_leader.pop_front();
        if let Some(next) = self.scout {
            self.leave_queue(next);
            self.go(next, now);
        }
    }

    /// Sends the writes that waited for a session, as many as its window takes.
    pub(super) fn serve_session_queue(&mut self, now: Duration) {
        while self.session.is_open() && self.session.has_room() {
            let Some(id) = self.for_session.pop_front() else { return };
            self.leave_queue(id);
            self.go(id, now);
        }
    }

    /// No session can be had, ever: the writes that waited for one end.
    pub(super) fn fail_session_queue(&mut self, error: &ClerkError, now: Duration) {
        while let Some(id) = self.for_session.pop_front() {
            self.leave_queue(id);
            self.finish(id, Err(error.clone()), now);
        }
    }

    /// A wait is over: by its end, or by the deadline.
    pub(super) fn wake(&mut self, id: OperationId, now: Duration) {
        let pending = self.operations.find(id).expect("an ended operation has no wake");
        if now + TIME_LEFT_MIN > pending.deadline {
            self.expire(id, now);
        } else if self.opener == Some(id) && self.for_session.is_empty() {
            self.finish(id, Err(ClerkError::Stopped { may_have_run: false }), now);
        } else {
            self.go(id, now);
        }
    }

    /// Asks the shell for a wake-up if the earliest wait ends before the one already asked for.
    pub(super) fn arm(&mut self, now: Duration) {
        let Some((at, _)) = self.wakes.first().copied() else { return };
        if self.armed.last().is_none_or(|armed| at < *armed) {
            self.armed.push(at);
            self.actions.push_back(Action::Wake { after: at.saturating_sub(now) });
        }
    }
}
