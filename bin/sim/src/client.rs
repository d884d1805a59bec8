//! One client: the shipped clerk's machine on virtual time, and who waits for which attempt.

use std::collections::BTreeMap;
use std::time::Duration;

use clerk::machine::{CallId, Machine};
use clerk::{Answer, ClerkConfig, Refusal, Verdict};
use kvserver::Outcome;
use kvserver::state_machine::Reply;

use crate::dice::{Dice, generator};
use crate::node::address;
use crate::plan::Plan;

/// The concerns of the clients' dice and of their machines'.
const CONCERN: u64 = 1 << 40;
const MACHINE_CONCERN: u64 = 1 << 41;

/// A client.
pub(crate) struct Client {
    pub(crate) machine: Machine<usize>,
    pub(crate) dice: Dice,
    /// Operations begun.
    pub(crate) begun: u64,
    /// Operations under way.
    pub(crate) under_way: usize,
    calls: BTreeMap<u64, CallId>,
    next_call: u64,
}

impl Client {
    pub(crate) fn new(plan: &Plan, number: usize) -> Client {
        let mut dice = Dice::new(plan.seed, CONCERN + number as u64);
        let first = dice.between(0, plan.nodes - 1);
        let machine = draw_machine(plan, number, first, &mut dice);
        Client { machine, dice, begun: 0, under_way: 0, calls: BTreeMap::new(), next_call: 0 }
    }

    /// A new client in the place of one that has nothing under way: it knows nothing, and asks this node first.
    pub(crate) fn replace(&mut self, plan: &Plan, number: usize, first: usize) {
        assert_eq!(self.under_way, 0, "who has something under way stays");
        self.machine = draw_machine(plan, number, first as u64, &mut self.dice);
        self.calls.clear();
    }
    /// An attempt is sent; its number.
    pub(crate) fn call(&mut self, call: CallId) -> u64 {
        self.next_call += 1;
        self.calls.insert(self.next_call, call);
        self.next_call
    }

    /// The attempt of this number, if its reply is still waited for.
    pub(crate) fn replied(&mut self, number: u64) -> Option<CallId> {
        self.calls.remove(&number)
    }
}

/// A machine that asks this node first.
fn draw_machine(plan: &Plan, number: usize, first: u64, dice: &mut Dice) -> Machine<usize> {
    let endpoints: Vec<String> = (0..plan.nodes).map(|place| address((first + place) % plan.nodes)).collect();
    let mut config = ClerkConfig {
        attempt_timeout: Duration::from_millis(dice.between(100, 1_000)),
        operation_timeout: Duration::from_millis(dice.one(&[200, 600, 2_000, 5_000])),
        seed: Some(plan.seed),
        ..ClerkConfig::default()
    };
    if number == plan.clients {
        // The probe has all the time there is, and goes to another node early.
        config.operation_timeout = Duration::from_secs(60);
        config.attempt_timeout = Duration::from_millis(plan.election_max_ms);
    }
    Machine::new(&endpoints, config, generator(plan.seed, MACHINE_CONCERN + number as u64))
}

/// What the wire makes of an outcome between the `kv` service and the clerk.
pub(crate) fn verdict(outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::Found { value, version } => Verdict::Done(Answer::Value { value, version }),
        Outcome::Missing => Verdict::Done(Answer::NotFound),
        Outcome::Applied(reply) => applied(reply),
        Outcome::Refused(refusal) => refused(refusal),
    }
}

fn applied(reply: Reply) -> Verdict {
    match reply {
        Reply::SessionOpened { client_id } => Verdict::SessionOpened { client_id },
        Reply::Written { version } | Reply::Deleted { version } => {
            Verdict::Done(Answer::Written { version: version.0 })
        }
        Reply::NotFound => Verdict::Done(Answer::NotFound),
        Reply::SessionExpired => Verdict::SessionExpired { may_have_run: false },
        Reply::OutOfWindow => Verdict::Busy { may_have_run: false, text: reply.to_string() },
        Reply::StaleSeq => {
            Verdict::Refused { reason: Refusal::StaleSeq, text: reply.to_string(), may_have_run: true }
        }
        Reply::TooLarge { .. } => {
            Verdict::Refused { reason: Refusal::TooLarge, text: reply.to_string(), may_have_run: false }
        }
        Reply::Invalid(_) | Reply::Legacy(_) => {
            Verdict::Refused { reason: Refusal::Invalid, text: reply.to_string(), may_have_run: false }
        }
    }
}

fn refused(refusal: kvserver::Refusal) -> Verdict {
    match refusal {
        kvserver::Refusal::NotLeader { leader, may_have_run } => {
            Verdict::NotLeader { hint: leader.as_deref().map(str::to_owned), may_have_run }
        }
        kvserver::Refusal::Busy => Verdict::Busy { may_have_run: false, text: "busy".into() },
        // A client that would come back later: a full disk is a passing fault here.
        kvserver::Refusal::NoSpace(text) => Verdict::Busy { may_have_run: false, text },
        kvserver::Refusal::TooLarge(text) => {
            Verdict::Refused { reason: Refusal::TooLarge, text, may_have_run: false }
        }
        kvserver::Refusal::TooStale { .. } => Verdict::TooStale { text: "too stale".into() },
        kvserver::Refusal::Invalid(text) => {
            Verdict::Refused { reason: Refusal::Invalid, text, may_have_run: false }
        }
        kvserver::Refusal::ShuttingDown { may_have_run } => {
            Verdict::Unreachable { may_have_run, text: "the node is shutting down".into() }
        }
    }
}
