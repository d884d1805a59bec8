#![expect(unreachable_pub, reason = "a module of several test programs")]
//! A virtual world around the clerk's machine: a clock that jumps, nodes that answer by script, a record of it all.
//!
//! Nothing here waits or reads a clock, so five seconds of retries cost microseconds and come out the same each time.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use clerk::{
    Answer, ClerkConfig, ClerkError, Operation, Request, Stamp, Verdict,
    machine::{Action, CallId, Machine},
};
use rand::{SeedableRng, rngs::ChaCha8Rng};

/// Of a series of runs of the tests, each called `PASS=n`, every one has its own seeds; without a name it is the first.
fn of_this_pass(seed: u64) -> u64 {
    let pass = std::env::var("PASS").map_or(0, |pass| pass.parse().expect("PASS is a number"));
    seed + 1_000_003 * pass
}

/// One attempt as a node saw it.
#[derive(Clone, Debug)]
pub struct Sent {
    pub at: Duration,
    pub node: String,
    pub request: Request,
}

/// One operation's end.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    pub at: Duration,
    pub operation: u32,
    pub result: Result<Answer, ClerkError>,
}

enum Event {
    Reply(CallId, Verdict),
    Start(u32, Operation),
    Timer,
}

/// What a node does with an attempt: answers after a delay, or (`None`) keeps silent.
pub type Script = Box<dyn FnMut(&Sent) -> Option<(Duration, Verdict)>>;

pub struct World {
    pub machine: Machine<u32>,
    pub now: Duration,
    pub sent: Vec<Sent>,
    pub ended: Vec<Ended>,
    pub calls: Vec<CallId>,
    /// The most timers that were ever outstanding at once.
    pub timers_max: usize,
    events: BTreeMap<(Duration, u64), Event>,
    event_count: u64,
    script: Script,
}

impl World {
    /// Three nodes a:1, b:2, c:3 that follow `script`.
    pub fn new(script: impl FnMut(&Sent) -> Option<(Duration, Verdict)> + 'static) -> World {
        World::with(ClerkConfig::default(), &["a:1", "b:2", "c:3"], script)
    }

    pub fn with(
        config: ClerkConfig,
        nodes: &[&str],
        script: impl FnMut(&Sent) -> Option<(Duration, Verdict)> + 'static,
    ) -> World {
        let endpoints: Vec<String> = nodes.iter().map(|node| node.to_string()).collect();
        World {
            machine: Machine::new(&endpoints, config, ChaCha8Rng::seed_from_u64(of_this_pass(42))),
            now: Duration::ZERO,
            sent: Vec::new(),
            ended: Vec::new(),
            calls: Vec::new(),
            timers_max: 0,
            events: BTreeMap::new(),
            event_count: 0,
            script: Box::new(script),
        }
    }

    /// Begins an operation now.
    pub fn start(&mut self, operation: u32, what: Operation) {
        self.machine.on_start(what, operation, self.now);
        self.carry_out();
    }

    /// Begins an operation later.
    pub fn start_at(&mut self, at: Duration, operation: u32, what: Operation) {
        self.schedule(at, Event::Start(operation, what));
    }

    /// A reply out of the blue, e.g. a duplicate.
    #[allow(dead_code, reason = "not every test program needs it")]
    pub fn reply(&mut self, call: CallId, verdict: Verdict) {
        self.machine.on_reply(call, verdict, self.now);
        self.carry_out();
    }

    /// Runs until nothing is left to happen.
    pub fn run(&mut self) {
        self.run_until(Duration::MAX);
    }

    /// Runs what happens up to `end`.
    pub fn run_until(&mut self, end: Duration) {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            assert!(at >= self.now, "time does not run backwards");
            self.now = at;
            match event {
                Event::Reply(call, verdict) => self.machine.on_reply(call, verdict, at),
                Event::Start(operation, what) => self.machine.on_start(what, operation, at),
                Event::Timer => self.machine.on_timer(at),
            }
            self.carry_out();
        }
    }

    /// How the operation ended; it must have ended exactly once.
    pub fn end_of(&self, operation: u32) -> &Ended {
        let mut ends = self.ended.iter().filter(|ended| ended.operation == operation);
        let end = ends.next().unwrap_or_else(|| panic!("operation {operation} has not ended"));
        assert!(ends.next().is_none(), "operation {operation} ended twice");
        end
    }

    /// The stamps of all writes sent, in order.
    pub fn stamps(&self) -> Vec<Stamp> {
        let writes = self.sent.iter().filter_map(|sent| match &sent.request {
            Request::Write { stamp, .. } => Some(*stamp),
            _ => None,
        });
        writes.collect()
    }

    fn schedule(&mut self, at: Duration, event: Event) {
        self.event_count += 1;
        self.events.insert((at, self.event_count), event);
        let timers = self.events.values().filter(|event| matches!(event, Event::Timer)).count();
        self.timers_max = self.timers_max.max(timers);
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Send { call, node, request, timeout } => {
                    let sent = Sent { at: self.now, node: self.machine.address(node).to_string(), request };
                    let (delay, verdict) = match (self.script)(&sent) {
                        Some((delay, verdict)) if delay <= timeout => (delay, verdict),
                        _ => (timeout, Verdict::NoReply { may_have_run: true }),
                    };
                    self.sent.push(sent);
                    self.calls.push(call);
                    self.schedule(self.now + delay, Event::Reply(call, verdict));
                }
                Action::Finish { done, result } => {
                    self.ended.push(Ended { at: self.now, operation: done, result });
                }
                Action::Wake { after } => self.schedule(self.now + after, Event::Timer),
            }
        }
    }
}

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub fn put(key: &str) -> Operation {
    Operation::Put { key: Bytes::copy_from_slice(key.as_bytes()), value: Bytes::from_static(b"value") }
}

pub fn get(key: &str) -> Operation {
    Operation::get(Bytes::copy_from_slice(key.as_bytes()))
}

/// What a leader says to anything, for session `client_id`.
pub fn lead(request: &Request, client_id: u64) -> Verdict {
    match request {
        Request::OpenSession => Verdict::SessionOpened { client_id },
        Request::Read { .. } => {
            Verdict::Done(Answer::Value { value: Bytes::from_static(b"value"), version: 7 })
        }
        Request::Write { .. } => Verdict::Done(Answer::Written { version: 8 }),
    }
}

pub fn not_leader(hint: Option<&str>) -> Verdict {
    Verdict::NotLeader { hint: hint.map(str::to_string), may_have_run: false }
}

pub fn refused_connection() -> Verdict {
    Verdict::Unreachable { may_have_run: false, text: "connection refused".to_string() }
}

pub fn broken_connection() -> Verdict {
    Verdict::Unreachable { may_have_run: true, text: "connection reset".to_string() }
}
