//! The clients' part of the run: ideas become operations, the clerk's machine decides what is sent, and what it tells its
//! caller goes into the history.

use std::time::Duration;

use clerk::machine::{Action, CallId};
use clerk::{ClerkError, Operation, Refusal, Request, Verdict};

use crate::checks::store::check_acknowledged;
use crate::event::{Event, Parcel};
use crate::node::node_at;
use crate::plan::MS;
use crate::service::no_reply;
use crate::simulation::Simulation;
use crate::tap::Attempt;
use crate::violation::Violation;
use crate::wires::brief;

/// When a client has its first idea, at the latest.
const FIRST_IDEA_US_MAX: u64 = 5_000;

/// How long the probe waits when it was refused for want of room on a disk.
const PROBE_AGAIN_US: u64 = 20 * MS;

/// How long before a leader that stands still goes on the witness asks it, at most.
const EARLY_US_MAX: u64 = 60_000;

impl Simulation<'_> {
    /// Every client has its first idea before there can be a leader, so that at least then all of them wait at once;
    /// neither the probe nor the visitor has any.
    pub(crate) fn begin_ideas(&mut self) {
        for client in 0..self.plan.clients {
            for _ in 0..self.plan.operations_at_once {
                let after = self.clients[client].dice.between(0, FIRST_IDEA_US_MAX);
                self.events.schedule(self.now + after, Event::Idea { client });
            }
        }
    }

    /// A client begins its next operation.
    pub(crate) fn have_idea(&mut self, client: usize) -> Result<(), Violation> {
        if !self.is_trouble() {
            return Ok(());
        }
        if let Some(lull) = self.lull {
            // Who asks all the time may keep a small queue full: whether the probe finds room would be luck.
            let after = self.clients[client].dice.between(0, self.plan.think_us_max);
            self.events.schedule(lull.ends_at + after, Event::Idea { client });
            return Ok(());
        }
        let person = &mut self.clients[client];
        let number = person.begun;
        let operation = self.plan.workload.operation(&mut person.dice, client, number, self.plan.keys);
        let operation = self.plan.reads.draw_consistency(operation, &mut person.dice);
        self.begin_operation(client, operation)
    }

    pub(crate) fn begin_operation(&mut self, client: usize, operation: Operation) -> Result<(), Violation> {
        let number = self.history.begin(client, operation.clone());
        self.say_of_client(client, || {
            let mut text = format!("begins operation {number}: {operation:?}");
            text.truncate((0..=120.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0));
            text
        });
        let now = self.clock();
        let person = &mut self.clients[client];
        person.begun += 1;
        person.under_way += 1;
        person.machine.on_start(operation, number, now);
        let at_once =
            self.clients[..self.plan.clients].iter().filter(|client| client.under_way > 0).count() as u64;
        self.counters.clients_at_once = self.counters.clients_at_once.max(at_once);
        self.act(client)
    }

    pub(crate) fn wake_client(&mut self, client: usize) -> Result<(), Violation> {
        let now = self.clock();
        self.clients[client].machine.on_timer(now);
        self.act(client)
    }

    /// A client hears what became of an attempt.
    pub(crate) fn hear(&mut self, attempt: Attempt, verdict: Verdict) -> Result<(), Violation> {
        let client = attempt.client;
        let Some(call) = self.clients[client].replied(attempt.number) else { return Ok(()) };
        self.say_of_client(client, || format!("hears of attempt {}: {}", attempt.number, brief(&verdict)));
        let now = self.clock();
        self.clients[client].machine.on_reply(call, verdict, now);
        self.act(client)
    }

    /// A client stops waiting for an attempt.
    pub(crate) fn time_out(
        &mut self,
        client: usize,
        call: CallId,
        number: u64,
        timeout: Duration,
    ) -> Result<(), Violation> {
        if self.clients[client].replied(number).is_none() {
            return Ok(());
        }
        let now = self.clock();
        self.clients[client].machine.on_reply(call, no_reply(timeout), now);
        self.act(client)
    }

    /// Does what the machine wants done.
    fn act(&mut self, client: usize) -> Result<(), Violation> {
        while let Some(action) = self.clients[client].machine.poll_action() {
            match action {
                Action::Send { call, node, request, timeout } => {
                    let person = &mut self.clients[client];
                    let number = person.call(call);
                    let to = node_at(person.machine.address(node)).filter(|to| *to < self.machines.len());
                    let Some(to) = to else {
                        return Violation::of(
                            "hints-are-members",
                            format!("client {client} was sent to a stranger"),
                        );
                    };
                    let at = self.now + micros(timeout);
                    self.events.schedule(at, Event::CallTimeout { client, call, number, timeout });
                    self.say_of_client(client, || format!("asks node {to}, attempt {number}"));
                    if let Request::Write { operation, stamp } = &request {
                        self.history.sent(client, operation, (stamp.client_id, stamp.seq));
                    }
                    let attempt = Attempt { client, number };
                    self.send(self.machines.len() + client, to, Parcel::Request { attempt, request });
                }
                Action::Wake { after } => {
                    self.events.schedule(self.now + micros(after), Event::ClientTimer { client });
                }
                Action::Finish { done, result } => self.finish(client, done, result)?,
            }
        }
        Ok(())
    }

    fn finish(
        &mut self,
        client: usize,
        number: usize,
        result: Result<clerk::Answer, clerk::ClerkError>,
    ) -> Result<(), Violation> {
        self.say_of_client(client, || match &result {
            Ok(answer) => format!("ends operation {number}: {}", brief(&Verdict::Done(answer.clone()))),
            Err(error) => format!("ends operation {number}: {error}"),
        });
        self.counters.operations += 1;
        let operation = self.history.end(number, result.clone());
        self.counters.reads.count(operation, &result);
        let mut is_acknowledged_write = false;
        match &result {
            Ok(answer) => {
                check_acknowledged(&self.consensus, operation, answer)?;
                self.probes_served += u64::from(client == self.plan.clients);
                is_acknowledged_write = operation.is_write();
                if let Operation::Put { key, .. } | Operation::Append { key, .. } | Operation::Delete { key } =
                    operation
                    && client != self.plan.clients
                {
                    self.last_written.clone_from(key);
                }
            }
            Err(error) if operation.is_write() && error.may_have_run() => self.counters.unknown += 1,
            Err(ClerkError::Refused { reason: Refusal::NoSpace, .. }) if client == self.plan.clients => {
                // The disk has room again, and it takes the node a moment to find out.
                let again = Event::ProbeAgain { operation: operation.clone() };
                self.events.schedule(self.now + PROBE_AGAIN_US, again);
            }
            Err(_) => self.counters.failed += 1,
        }
        self.clients[client].under_way -= 1;
        if client == self.plan.witness() && is_acknowledged_write {
            let at = self.now + self.strike_dice.skewed(1, self.plan.delay_us.1);
            // Who stands still is asked shortly before it goes on: so long somebody waits for an answer.
            let early = self.strike_dice.between(0, EARLY_US_MAX);
            let at = at.max(self.deaf_until(self.former_leader).saturating_sub(early));
            self.events.schedule(at, Event::Testimony);
        }
        if self.is_trouble() && client < self.plan.clients {
            let after = self.clients[client].dice.between(0, self.plan.think_us_max);
            self.events.schedule(self.now + after, Event::Idea { client });
            return Ok(());
        }
        self.go_on_after_operation(client, number)
    }

    /// Virtual time as the clerk's machine wants it.
    pub(crate) fn clock(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    fn say_of_client(&mut self, client: usize, what: impl FnOnce() -> String) {
        self.trace.line(self.now, || format!("c{client}"), what);
    }
}

/// Whole microseconds, rounded up: a timer that came early would not come again.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX / 2)
}
