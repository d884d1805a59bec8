//! Sending a call again: only where it cannot have run, or may run twice; never past its deadline; never so often that a
//! dead cluster is stormed by its clients.
//!
//! A call that may be repeated keeps its serialized arguments until it ends. Between attempts it is a timer of the reactor.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::channel::Method;
use super::core::Core;
use super::pending_call::{Completion, Outcome};
use crate::controller::{RpcController, Whereabouts};
use crate::error::RpcError;
use crate::inherit::Inherited;
use crate::primitives::atomic::{AtomicU64, Ordering};
use crate::protocol::encoder::Body;
use crate::protocol::status::Status;
use crate::reactor::clock::{Nanos, nanos_in};
use crate::reactor::connector::backoff;

/// How often a call is sent, and how long the pauses between are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all; 1: never again.
    pub attempts_max: u32,
    /// First pause; it doubles with each further attempt, with jitter.
    pub pause_min: Duration,
    /// Longest pause.
    pub pause_max: Duration,
}

impl RetryPolicy {
    /// Every call is sent once.
    pub const ONCE: RetryPolicy =
        RetryPolicy { attempts_max: 1, pause_min: Duration::ZERO, pause_max: Duration::ZERO };

    /// At most so many attempts, with pauses of 10 ms to 1 s.
    pub const fn attempts(attempts_max: u32) -> RetryPolicy {
        let (pause_min, pause_max) = (Duration::from_millis(10), Duration::from_secs(1));
        RetryPolicy { attempts_max, pause_min, pause_max }
    }
}

/// Which calls of a channel are repeated, and how many.
#[derive(Debug, Clone)]
pub struct RetryConfig {
    /// For methods that have no policy of their own; default [`RetryPolicy::ONCE`].
    pub policy: RetryPolicy,
    /// Methods with a policy of their own.
    pub methods: Vec<(Method, RetryPolicy)>,
    /// Repetitions per hundred calls in the long run; default 20.
    pub budget_percent: u32,
    /// Repetitions that may be saved up for a bad moment; default 20. So many there are at first, too.
    pub budget_max: u32,
}

impl Default for RetryConfig {
    fn default() -> Self {
        RetryConfig { policy: RetryPolicy::ONCE, methods: Vec::new(), budget_percent: 20, budget_max: 20 }
    }
}

impl RetryConfig {
    /// The policy of a method that may be sent more than once.
    fn policy_of(&self, method: &Method) -> Option<RetryPolicy> {
        let own = self.methods.iter().find(|(it, _)| it.service == method.service && it.name == method.name);
        let policy = own.map_or(self.policy, |(_, policy)| *policy);
        (policy.attempts_max > 1).then_some(policy)
    }
}

/// A call that waits for a connection rests so long at least.
const MILLISECOND: Duration = Duration::from_millis(1);

/// What the channel may spend on repetitions, in hundredths of one.
pub(crate) struct Budget(AtomicU64);

impl Budget {
    pub(crate) fn new(config: &RetryConfig) -> Budget {
        Budget(AtomicU64::new(u64::from(config.budget_max) * 100))
    }

    /// A call has been begun.
    pub(crate) fn earn(&self, config: &RetryConfig) {
        let max = u64::from(config.budget_max) * 100;
        let earned = |budget: u64| Some((budget + u64::from(config.budget_percent)).min(max));
        // Relaxed: a number only.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, earned);
    }

    /// Pays for a repetition, if there is enough.
    pub(crate) fn spend(&self) -> bool {
        let spent = |budget: u64| budget.checked_sub(100);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent).is_ok()
    }
}

/// Arguments that have been serialized.
struct Serialized(Bytes);

impl Body for Serialized {
    fn body_len(&self) -> usize {
        self.0.len()
    }

    fn put(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&self.0);
    }

    fn put_apart(&self, _: &mut Vec<u8>) -> Bytes {
        self.0.clone()
    }
}

/// A call that may be sent again.
struct Repeated {
    core: Arc<Core>,
    method: Method,
    args: Serialized,
    controller: RpcController,
    policy: RetryPolicy,
    due: Nanos,
    /// What each attempt gets from the call that this one is made for.
    inherited: Inherited,
    attempts: u32,
    /// What the latest attempt came to: the answer, should there be no further one.
    outcome: Option<Outcome>,
    /// It waits for its next attempt, or its first.
    is_resting: bool,
    /// `None` once run.
    completion: Option<Completion>,
}

impl Core {
    /// Begins a call, to be repeated as the channel's policy says.
    pub(super) fn start_repeatable(
        self: &Arc<Core>,
        method: &Method,
        controller: &RpcController,
        body: &dyn Body,
        completion: Completion,
    ) {
        let inherited = self.inherited();
        let own = self.config.retry.policy_of(method);
        let Some(policy) = own.or(self.config.wait_for_ready.then_some(RetryPolicy::ONCE)) else {
            let (step, timeout) = (controller.next_step(), controller.timeout());
            let started = self.start(method, timeout, body, completion, inherited);
            if let Some((call_id, _)) = started {
                controller.note(step, self, Whereabouts::InFlight(call_id));
            }
            return;
        };
        self.budget.earn(&self.config.retry);
        let mut args = Vec::with_capacity(body.body_len());
        body.put(&mut args);
        let timeout = nanos_in(controller.timeout().unwrap_or(self.config.default_timeout));
        let call = Repeated {
            core: self.clone(),
            method: *method,
            args: Serialized(args.into()),
            controller: controller.clone(),
            policy,
            due: self.reactor.world.nanos().saturating_add(timeout).min(inherited.due),
            inherited,
            attempts: 0,
            outcome: None,
            is_resting: true,
            completion: Some(completion),
        };
        call.attempt();
    }
}

impl Repeated {
    fn attempt(mut self) {
        if self.controller.is_cancelled() {
            return;
        }
        self.is_resting = false;
        self.attempts += 1;
        // NB: as of the moment from which the attempt counts. In a long turn that is not now.
        let left = Duration::from_nanos(self.due.saturating_sub(self.core.reactor.world.turn_nanos()));
        let (core, method, controller) = (self.core.clone(), self.method, self.controller.clone());
        let inherited = self.inherited;
        let args = Serialized(self.args.0.clone());
        let completion = Completion::Callback(Box::new(move |outcome| self.on_outcome(outcome)));
        let step = controller.next_step();
        if let Some((call_id, _)) = core.start(&method, Some(left), &args, completion, inherited) {
            controller.note(step, &core, Whereabouts::InFlight(call_id));
        }
    }

    fn on_outcome(mut self, outcome: Outcome) {
        if self.core.config.wait_for_ready
            && matches!(&outcome, Err(RpcError::Connect { .. } | RpcError::Resolve { .. }))
        {
            // It has not been an attempt of the call's: the next is made when the channel makes its own.
            self.attempts -= 1;
            self.outcome = Some(outcome);
            let pause = self.core.pause_left().max(MILLISECOND);
            return self.rest(pause);
        }
        let is_worth_it =
            matches!(&outcome, Err(error) if may_be_repeated(error, self.method.is_idempotent()));
        self.outcome = Some(outcome);
        if !is_worth_it || self.attempts >= self.policy.attempts_max {
            return;
        }
        if self.core.budget.spend() {
            let bounds = (self.policy.pause_min, self.policy.pause_max);
            let pause = backoff(self.attempts, bounds, self.core.reactor.world.random());
            self.rest(pause);
        }
    }

    /// Tries again after a pause, if that is before the deadline and there is a place to wait.
    fn rest(mut self, pause: Duration) {
        if self.core.reactor.world.nanos().saturating_add(nanos_in(pause)) < self.due {
            self.is_resting = true;
            let (core, controller) = (self.core.clone(), self.controller.clone());
            let step = controller.next_step();
            let timer = core.reactor().run_after_if_room(pause, Box::new(move || self.attempt()));
            if let Some(timer) = timer {
                controller.note(step, &core, Whereabouts::Resting(timer));
            }
        }
    }
}

/// The end, also of a call whose timer is cancelled, found no room, or is dropped by a stopping reactor: the caller learns
/// what the latest attempt came to.
impl Drop for Repeated {
    fn drop(&mut self) {
        if self.is_resting && self.controller.is_cancelled() {
            let may_have_run = matches!(&self.outcome, Some(Err(error)) if error.may_have_run());
            self.outcome = Some(Err(RpcError::Cancelled { may_have_run }));
        }
        if let (Some(completion), Some(outcome)) = (self.completion.take(), self.outcome.take()) {
            completion.run(&self.core.reactor, outcome);
        }
    }
}

/// Whether a failure is one that passes, of a call that has not run or may run twice.
fn may_be_repeated(error: &RpcError, is_idempotent: bool) -> bool {
    match error {
        RpcError::Connect { .. } | RpcError::Resolve { .. } => true,
        RpcError::Closed { may_have_run, .. } => !may_have_run || is_idempotent,
        RpcError::Status { status, .. } => matches!(status, Status::Overloaded | Status::ShuttingDown),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{End, Step};

    #[test]
    fn a_budget_is_earned_by_calls_and_has_a_maximum() {
        let config = RetryConfig { budget_percent: 20, budget_max: 2, ..RetryConfig::default() };
        let budget = Budget::new(&config);
        assert!(budget.spend() && budget.spend() && !budget.spend());
        (0..5).for_each(|_| budget.earn(&config));
        assert!(budget.spend() && !budget.spend());
        (0..1000).for_each(|_| budget.earn(&config));
        assert!(budget.spend() && budget.spend() && !budget.spend());
    }

    #[test]
    fn only_what_cannot_have_run_or_may_run_twice_is_repeated() {
        let closed = |may_have_run| End { step: Step::Read, cause: "" }.error("", may_have_run);
        let status = |status| RpcError::Status { status, text: String::new() };
        assert!(may_be_repeated(&closed(false), false) && may_be_repeated(&closed(true), true));
        assert!(!may_be_repeated(&closed(true), false));
        assert!(may_be_repeated(&status(Status::Overloaded), false));
        for never in [Status::Internal, Status::BadRequest, Status::DeadlineExceeded, Status::Unauthenticated]
        {
            assert!(!may_be_repeated(&status(never), true), "{never}");
        }
        assert!(!may_be_repeated(&RpcError::Cancelled { may_have_run: false }, true));
    }
}
