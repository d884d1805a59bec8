//! The clerk's machine: requests, replies and timers in, actions out.
//!
//! It decides what is sent where and when: which node, under which session and number, when again, and when to give
//! up. It has no clock, socket or thread: time is an argument (since any fixed moment), randomness a generator that is
//! handed in; so tests and the simulator run it on a virtual clock. The shell (`clerk.rs`) carries its actions out.
//!
//! - **Exactly once.** Writes are stamped with a place in a session. A retry keeps it. A session that the server no
//!   longer knows ends those writes that may have run with "unknown"; only a write that surely never ran is sent again
//!   under a new one. Gets are repeated freely.
//! - **One scout.** When no leader is known, one operation looks for it, with short waits; the others wait for what it
//!   finds, so that 256 waiting operations cost no more than one, and all go the moment there is a leader.
//! - **Every wait ends.** An operation is either under way at a node (the shell guarantees one reply per attempt, at
//!   the latest when its time is out) or has a time at which it wakes, never later than its deadline.
//!
//! Files: `mod` the face, `verdicts` what a reply leads to, `waiting` who waits for what, `table` the operations.

mod table;
mod verdicts;
mod waiting;

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use rand::{RngExt, rngs::ChaCha8Rng};

pub use self::table::OperationId;
use self::table::Table;
use crate::{
    config::ClerkConfig,
    error::{ClerkError, whole_ms},
    leader_cache::{LeaderCache, NodeIndex},
    operation::{Answer, Operation, Request, Stamp},
    retry,
    session::Session,
};

/// Less than this left of an operation's time is none: the wire counts in milliseconds.
const TIME_LEFT_MIN: Duration = Duration::from_millis(1);

/// Of the attempts that others wait for, so many are made in vain before they get longer.
const ATTEMPTS_PER_LENGTH: u32 = 2;

/// One attempt of one operation: what its reply must name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallId {
    operation: OperationId,
    attempt: u32,
}

/// What the machine wants done. `D` is whatever the caller gave to have back at the end, e.g. a callback.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<D> {
    /// Send `request` to `node`. Exactly one `on_reply` with this `call` must follow, within about `timeout`.
    Send {
        /// To be given back with the reply.
        call: CallId,
        /// Whom to ask.
        node: NodeIndex,
        /// What to ask.
        request: Request,
        /// How long the attempt may take.
        timeout: Duration,
    },
    /// The operation ended.
    Finish {
        /// What came with the operation.
        done: D,
        /// How it ended.
        result: Result<Answer, ClerkError>,
    },
    /// Call `on_timer` after this time. Each wish counts; a call too many does no harm.
    Wake {
        /// From now.
        after: Duration,
    },
}

/// What an operation is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between two states, inside one call of the machine.
    Moving,
    /// An attempt is under way at a node.
    InFlight(NodeIndex),
    /// It waits for a back-off to end.
    Waiting { until: Duration },
    /// A write that waits for a session, or for room in its window; `until` is its deadline.
    ForSession { until: Duration },
    /// It waits for what the scout finds; `until` is its deadline.
    ForLeader { until: Duration },
}

/// What is being done.
#[derive(Debug)]
enum Work<D> {
    Caller {
        operation: Operation,
        done: D,
    },
    /// The machine's own: opens the session that stamped writes wait for.
    OpenSession,
}

#[derive(Debug)]
struct Pending<D> {
    work: Work<D>,
    state: State,
    deadline: Duration,
    stamp: Option<Stamp>,
    /// Attempts sent: the number of the latest.
    attempts: u32,
    /// Attempts that got no reply in time.
    silent: u32,
    /// Moves to another node since the last wait.
    hops: u32,
    /// Waits so far: the exponent of the next.
    rounds: u32,
    /// Some attempt of this write may have been carried out.
    may_have_run: bool,
    /// What went wrong last.
    trouble: Option<Trouble>,
}

/// What went wrong last, for the error at the deadline.
#[derive(Clone, Debug)]
struct Trouble {
    text: String,
    /// Some node was there: it answered, or took the request and kept silent.
    reached: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Machine<D> {
    config: ClerkConfig,
    rng: ChaCha8Rng,
    operations: Table<Pending<D>>,
    session: Session,
    leaders: LeaderCache,
    /// Which node was asked last for what any node does; the first is drawn.
    turn: Option<usize>,
    /// The operation that opens a session, if one does.
    opener: Option<OperationId>,
    /// The operation that looks for the leader, if it is unknown.
    scout: Option<OperationId>,
    /// Attempts of scouts for whom others waited that got no reply in time, since a leader was last confirmed.
    silent_scouts: u32,
    /// In order of arrival; every id in them is under way and in the state of that name.
    for_session: VecDeque<OperationId>,
    for_leader: VecDeque<OperationId>,
    /// Who wakes when; holds every operation that is not in flight.
    wakes: BTreeSet<(Duration, OperationId)>,
    /// The wakes the shell was asked for and which have not come, the earliest last. A new one is asked for only if it
    /// is earlier than all of them, so that they stay few however long a search lasts.
    armed: Vec<Duration>,
    /// Whatever went wrong last to any operation: the cause for those that only waited.
    trouble: Option<Trouble>,
    actions: VecDeque<Action<D>>,
}

impl<D> Machine<D> {
    /// A machine that knows these nodes, `host:port`; there must be at least one.
    pub fn new(endpoints: &[String], config: ClerkConfig, rng: ChaCha8Rng) -> Machine<D> {
        Machine {
            config,
            rng,
            operations: Table::new(),
            session: Session::default(),
            leaders: LeaderCache::new(endpoints),
            turn: None,
            opener: None,
            scout: None,
            silent_scouts: 0,
            for_session: VecDeque::new(),
            for_leader: VecDeque::new(),
            wakes: BTreeSet::new(),
            armed: Vec::new(),
            trouble: None,
            actions: VecDeque::new(),
        }
    }

    /// A caller's operation begins; `done` comes back with its end.
    pub fn on_start(&mut self, operation: Operation, done: D, now: Duration) {
        if self.pending() >= self.config.operations_max {
            let operations_max = self.config.operations_max;
            self.actions.push_back(Action::Finish { done, result: Err(ClerkError::Busy { operations_max }) });
            return;
        }
        let deadline = now + self.config.operation_timeout;
        let id = self.insert(Work::Caller { operation, done }, deadline);
        self.go(id, now);
    }

    /// The time asked for with `Action::Wake` has come; wakes whoever is due.
    pub fn on_timer(&mut self, now: Duration) {
        while self.armed.pop_if(|armed| *armed <= now).is_some() {}
        while let Some((at, id)) = self.wakes.first().copied() {
            if at > now {
                break;
            }
            self.wake(id, now);
        }
        self.arm(now);
    }

    /// Ends every operation with `Stopped`. Replies that come later are ignored.
    pub fn stop(&mut self) {
        self.scout = None;
        self.opener = None;
        self.for_session.clear();
        self.for_leader.clear();
        self.wakes.clear();
        for id in self.operations.ids() {
            let Some(pending) = self.operations.remove(id) else { continue };
            let may_have_run = pending.may_have_run || matches!(pending.state, State::InFlight(_));
            if let Work::Caller { operation, done } = pending.work {
                let may_have_run = may_have_run && operation.is_write();
                let result = Err(ClerkError::Stopped { may_have_run });
                self.actions.push_back(Action::Finish { done, result });
            }
        }
    }

    /// The next thing to do; to be asked until there is none after each call of the others.
    pub fn poll_action(&mut self) -> Option<Action<D>> {
        self.actions.pop_front()
    }

    /// Callers' operations under way.
    pub fn pending(&self) -> usize {
        self.operations.len() - usize::from(self.opener.is_some())
    }

    /// A node's `host:port`.
    pub fn address(&self, node: NodeIndex) -> &str {
        self.leaders.address(node)
    }

    /// The node that is asked now: the leader, as far as the machine knows.
    pub fn current_node(&self) -> NodeIndex {
        self.leaders.current()
    }

    fn insert(&mut self, work: Work<D>, deadline: Duration) -> OperationId {
        self.operations.insert(Pending {
            work,
            state: State::Moving,
            deadline,
            stamp: None,
            attempts: 0,
            silent: 0,
            hops: 0,
            rounds: 0,
            may_have_run: false,
            trouble: None,
        })
    }

    /// The operation takes its next step: it is sent, or finds out what it has to wait for.
    fn go(&mut self, id: OperationId, now: Duration) {
        self.release(id);
        let pending = self.operations.find(id).expect("only an operation under way takes a step");
        let is_write = matches!(&pending.work, Work::Caller { operation, .. } if operation.is_write());
        if is_write {
            let held = pending.stamp.filter(|stamp| self.session.is_current(stamp.client_id));
            if held.is_none() && pending.stamp.is_some() && pending.may_have_run {
                self.finish(id, Err(ClerkError::SessionExpired), now);
                return;
            }
            let stamp = held.or_else(|| self.session.issue());
            let pending = self.operations.find(id).expect("found above");
            pending.stamp = stamp;
            if stamp.is_none() {
                self.wait_for_session(id, now);
                return;
            }
        }
        let is_for_any = self.operations.find(id).is_some_and(|pending| pending.is_for_any_node());
        if !is_for_any && self.scout.is_some_and(|scout| scout != id) {
            self.wait_for_leader(id, now);
            return;
        }
        self.send(id, now);
    }

    /// The leader, or, for what any node does, each node in its turn.
    fn node_for(&mut self, id: OperationId, now: Duration) -> NodeIndex {
        let is_for_any = self.operations.find(id).is_some_and(|pending| pending.is_for_any_node());
        if !is_for_any {
            return self.leaders.current();
        }
        let turn = self.turn.map_or_else(|| self.rng.random_range(0..self.leaders.len()), |turn| turn + 1);
        self.turn = Some(turn % self.leaders.len());
        self.leaders.any(turn, now)
    }

    fn send(&mut self, id: OperationId, now: Duration) {
        let node = self.node_for(id, now);
        let looks_for_others = self.looks_for_others(id);
        let pending = self.operations.find(id).expect("only an operation under way is sent");
        assert!(pending.state == State::Moving, "an operation has one attempt under way at most");
        let remaining = pending.deadline.saturating_sub(now).max(TIME_LEFT_MIN);
        // What others wait for is cheap to repeat, and where one node is silent the next may not be. But attempts get
        // longer there too, or a leader that needs more time than a first attempt has would never be found.
        let silent = match self.opener == Some(id) {
            true => pending.silent / ATTEMPTS_PER_LENGTH,
            false if looks_for_others => self.silent_scouts / ATTEMPTS_PER_LENGTH,
            false => pending.silent,
        };
        let timeout = retry::attempt_timeout(self.config.attempt_timeout, silent, remaining);
        pending.state = State::InFlight(node);
        pending.attempts = pending.attempts.wrapping_add(1);
        let request = match &pending.work {
            Work::OpenSession => Request::OpenSession,
            Work::Caller { operation: Operation::Get { key, consistency }, .. } => {
                Request::Read { key: key.clone(), consistency: *consistency }
            }
            Work::Caller { operation, .. } => {
                let stamp = pending.stamp.expect("a write is stamped before it is sent");
                let stamp = self.session.renew(stamp);
                Request::Write { operation: operation.clone(), stamp }
            }
        };
        let call = CallId { operation: id, attempt: pending.attempts };
        self.actions.push_back(Action::Send { call, node, request, timeout });
    }

    /// The operation ends; whoever waited for its place or its findings goes on.
    fn finish(&mut self, id: OperationId, result: Result<Answer, ClerkError>, now: Duration) {
        self.release(id);
        let pending = self.operations.remove(id).expect("an operation ends once");
        if let Some(stamp) = pending.stamp {
            self.session.answered(stamp);
        }
        if let Work::Caller { done, .. } = pending.work {
            self.actions.push_back(Action::Finish { done, result });
        }
        if self.opener == Some(id) {
            self.opener = None;
        }
        if self.scout == Some(id) {
            self.replace_scout(now);
        }
        self.serve_session_queue(now);
    }

    /// Its time is over: says what is known of the outcome, and why.
    fn expire(&mut self, id: OperationId, now: Duration) {
        let pending = self.operations.find(id).expect("only an operation under way expires");
        let waited = matches!(pending.state, State::ForSession { .. } | State::ForLeader { .. });
        let own = pending.trouble.clone();
        let trouble =
            if waited { self.trouble.clone().or(own) } else { own.or_else(|| self.trouble.clone()) };
        let trouble = trouble.unwrap_or(Trouble {
            text: "earlier operations of this clerk were not finished either".to_string(),
            reached: true,
        });
        let may_have_run = pending.may_have_run;
        let timeout_ms = whole_ms(self.config.operation_timeout);
        let error = if may_have_run || trouble.reached {
            ClerkError::Timeout { timeout_ms, may_have_run, last: trouble.text }
        } else {
            ClerkError::Unavailable { endpoints: self.leaders.addresses(), timeout_ms, last: trouble.text }
        };
        self.finish(id, Err(error), now);
    }
}
