//! One client: the shipped clerk's machine on virtual time, and who waits for which attempt.

use std::collections::BTreeMap;
use std::time::Duration;

use clerk::ClerkConfig;
use clerk::machine::{CallId, Machine};

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
