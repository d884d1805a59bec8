//! What a reply leads to: the end, another node, a wait, a new session.

use std::time::Duration;

use super::{CallId, Machine, OperationId, State, TIME_LEFT_MIN, Trouble, Work};
use crate::{
    error::ClerkError,
    leader_cache::{Next, NodeIndex},
    operation::{Operation, Refusal, Verdict},
};

/// How often an operation may go to another node at once before it has to wait, at least: nodes whose hints point at
/// each other must not be asked in a circle. With more nodes than this, each may be tried once.
const HOPS_MAX: u32 = 3;

/// For what any node does, one that kept silent is left out so many times as long as it was waited for at least: of the time
/// of those who ask in turn, no more is lost to it.
const SILENCE_WEIGHS: u32 = 10;

impl<D> Machine<D> {
    /// What an attempt came to. A reply to an attempt that is no longer under way is ignored.
    pub fn on_reply(&mut self, call: CallId, verdict: Verdict, now: Duration) {
        let id = call.operation;
        let Some(pending) = self.operations.find(id) else { return };
        let State::InFlight(node) = pending.state else { return };
        if pending.attempts != call.attempt {
            return;
        }
        pending.state = State::Moving;
        match verdict {
            Verdict::Done(answer) => {
                if !pending.is_for_any_node() {
                    self.lead_confirmed(node, now);
                }
                self.finish(id, Ok(answer), now);
            }
            Verdict::SessionOpened { client_id } => {
                assert!(self.opener == Some(id), "only the opener's request is answered with a session");
                self.session.open(client_id);
                self.lead_confirmed(node, now);
                self.finish(id, Err(ClerkError::Stopped { may_have_run: false }), now);
            }
            Verdict::SessionExpired { may_have_run } => {
                self.lead_confirmed(node, now);
                self.session_expired(id, may_have_run, now);
            }
            Verdict::Refused { reason, text, may_have_run } => {
                let may_have_run = (pending.may_have_run || may_have_run) && pending.is_write();
                let text = format!("{}: {text}", self.leaders.address(node));
                let error = ClerkError::Refused { reason, text, may_have_run };
                self.end(id, error, now);
            }
            Verdict::Stopped { may_have_run } => {
                let may_have_run = (pending.may_have_run || may_have_run) && pending.is_write();
                self.end(id, ClerkError::Stopped { may_have_run }, now);
            }
            Verdict::TooStale { text } => self.go_to_a_younger(id, node, &text, now),
            Verdict::NotLeader { .. } if pending.is_for_any_node() => self.go_to_another(id, node, now),
            Verdict::NotLeader { .. }
            | Verdict::Busy { .. }
            | Verdict::Unreachable { .. }
            | Verdict::NoReply { .. } => self.try_again(id, node, verdict, now),
        }
    }

    fn lead_confirmed(&mut self, node: NodeIndex, now: Duration) {
        self.leaders.confirmed(node);
        self.silent_scouts = 0;
        if self.scout.is_some() {
            self.leader_found(now);
        }
    }

    /// Ends the operation with an error; the opener's is that of all who wait for its session.
    fn end(&mut self, id: OperationId, error: ClerkError, now: Duration) {
        if self.opener == Some(id) {
            self.fail_session_queue(&error, now);
        }
        self.finish(id, Err(error), now);
    }

    fn session_expired(&mut self, id: OperationId, may_have_run: bool, now: Duration) {
        let pending = self.operations.find(id).expect("its reply was just taken");
        let stamp = pending.stamp.take();
        // The opener and gets carry no stamp; a server that says this to them is out of its mind, and waits help.
        let unknown = stamp.is_some() && (pending.may_have_run || may_have_run);
        if let Some(stamp) = stamp {
            self.session.expire(stamp.client_id);
        }
        if unknown {
            self.finish(id, Err(ClerkError::SessionExpired), now);
            return;
        }
        // No attempt of it ran, so it may go again under a new session; at once only a few times.
        pending.note("the server does not know the session it has just opened".to_string(), true);
        self.move_on(id, Next::AtOnce, self.config.backoff_max, now);
    }

    fn try_again(&mut self, id: OperationId, node: NodeIndex, verdict: Verdict, now: Duration) {
        let address = self.leaders.address(node);
        let (text, reached, ran) = match &verdict {
            Verdict::NotLeader { hint: Some(hint), may_have_run } => {
                (format!("{address} does not lead, it names {hint}"), true, *may_have_run)
            }
            Verdict::NotLeader { hint: None, may_have_run } => {
                (format!("{address} does not lead and knows no leader"), true, *may_have_run)
            }
            Verdict::Busy { may_have_run, text } => {
                (format!("{address} is busy: {text}"), true, *may_have_run)
            }
            Verdict::Unreachable { may_have_run, text } => {
                let named = text.contains(address);
                let text = if named { text.clone() } else { format!("{address}: {text}") };
                (text, false, *may_have_run)
            }
            Verdict::NoReply { may_have_run } => {
                (format!("{address} did not reply in time"), *may_have_run, *may_have_run)
            }
            _ => unreachable!("the other verdicts end the attempt for good"),
        };
        let pending = self.operations.find(id).expect("its reply was just taken");
        pending.may_have_run |= ran && pending.is_write();
        pending.silent += u32::from(matches!(verdict, Verdict::NoReply { .. }));
        self.trouble = Some(pending.note(text, reached));
        if now + TIME_LEFT_MIN > pending.deadline {
            self.expire(id, now);
            return;
        }
        let was_silent_for_others = matches!(verdict, Verdict::NoReply { .. }) && self.looks_for_others(id);
        let (next, longest) = match verdict {
            Verdict::NotLeader { hint, .. } => {
                let hint = hint.filter(|_| self.config.follows_hints);
                (self.leaders.refused(node, hint.as_deref(), now), self.config.search_backoff_max)
            }
            Verdict::Unreachable { .. } => {
                (self.leaders.failed(node, self.config.broken_node_pause, now), self.config.backoff_max)
            }
            Verdict::NoReply { .. } => {
                let pause = self.config.attempt_timeout.saturating_mul(SILENCE_WEIGHS);
                self.leaders.unfit(node, pause, now);
                (self.leaders.failed(node, self.config.silent_node_pause, now), self.config.backoff_max)
            }
            _ => {
                self.back_off(id, self.config.backoff_max, now);
                return;
            }
        };
        if was_silent_for_others {
            // All have waited with it: the next in line looks.
            self.silent_scouts = self.silent_scouts.saturating_add(1);
            self.wait_for_leader(id, now);
            self.replace_scout(now);
        } else {
            self.move_on(id, next, longest, now);
        }
    }

    /// What this node has may be too old. When all have said so, a wait would not make them younger.
    fn go_to_a_younger(&mut self, id: OperationId, node: NodeIndex, text: &str, now: Duration) {
        let text = format!("{}: {text}", self.leaders.address(node));
        let nodes = u32::try_from(self.leaders.len()).unwrap_or(u32::MAX);
        let pending = self.operations.find(id).expect("its reply was just taken");
        pending.hops += 1;
        if pending.hops < nodes {
            pending.note(text, true);
            return self.go(id, now);
        }
        let error = ClerkError::Refused { reason: Refusal::TooStale, text, may_have_run: false };
        self.finish(id, Err(error), now);
    }

    /// A node that knows no leader, or does not reach it, cannot say what a read must see; the next may, and in a moment all.
    fn go_to_another(&mut self, id: OperationId, node: NodeIndex, now: Duration) {
        self.leaders.unfit(node, self.config.broken_node_pause, now);
        let text = format!("{} does not know what a read must see", self.leaders.address(node));
        let nodes = u32::try_from(self.leaders.len()).unwrap_or(u32::MAX);
        let pending = self.operations.find(id).expect("its reply was just taken");
        self.trouble = Some(pending.note(text, true));
        pending.hops += 1;
        if pending.hops < nodes {
            return self.go(id, now);
        }
        self.back_off(id, self.config.search_backoff_max, now);
    }

    /// Goes to the node the cache points at now, or waits first.
    fn move_on(&mut self, id: OperationId, next: Next, longest: Duration, now: Duration) {
        if self.opener == Some(id) && self.for_session.is_empty() {
            self.finish(id, Err(ClerkError::Stopped { may_have_run: false }), now);
            return;
        }
        let hops_max = HOPS_MAX.max(u32::try_from(self.leaders.len()).unwrap_or(u32::MAX));
        let pending = self.operations.find(id).expect("an operation that goes on is under way");
        if next == Next::AtOnce && pending.hops < hops_max {
            pending.hops += 1;
            self.go(id, now);
        } else if pending.is_for_any_node() {
            self.back_off(id, longest, now);
        } else {
            self.search(id, longest, now);
        }
    }
}

impl<D> super::Pending<D> {
    pub(super) fn is_write(&self) -> bool {
        matches!(&self.work, Work::Caller { operation, .. } if operation.is_write())
    }

    /// Whether any node may do it.
    pub(super) fn is_for_any_node(&self) -> bool {
        let Work::Caller { operation: Operation::Get { consistency, .. }, .. } = &self.work else {
            return false;
        };
        consistency.is_for_any_node()
    }

    /// Keeps what went wrong for the error at the deadline. Once a node was reached, the operation is not "unavailable".
    fn note(&mut self, text: String, reached: bool) -> Trouble {
        let reached = reached || self.trouble.as_ref().is_some_and(|before| before.reached);
        let trouble = Trouble { text, reached };
        self.trouble = Some(trouble.clone());
        trouble
    }
}
