//! The clerk: a shell around its machine.
//!
//! It owns what the machine must not have: a lock, a clock, a reactor's timers and one channel per node. Callers and
//! the reactor put requests, replies and timers in and carry the actions out *after* unlocking, so that neither a
//! caller's callback nor a socket is ever touched under the lock. An operation that goes well costs the lock four
//! short times, two clock readings and no timer: the call's own deadline is the attempt's.

use std::{
    cell::Cell,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use proto::{Consistency, kv::KvStub};
use rand::{
    SeedableRng,
    rngs::{ChaCha8Rng, SysRng},
};
use rpc::{ChannelConfig, Reactor, ReactorConfig, RpcChannel, RpcController};

use crate::{
    clock::Clock,
    config::ClerkConfig,
    error::ClerkError,
    machine::{Action, CallId, Machine},
    operation::{Answer, Operation, Request},
    wire::{self, Asked},
};

/// How long a clerk's own reactor may take to write what is left when the clerk goes.
const STOP_WITHIN: Duration = Duration::from_millis(200);

/// Longest pause of a clerk's channel between two connection attempts: a node that came back is wanted soon.
const RECONNECT_BACKOFF_MAX: Duration = Duration::from_millis(100);

thread_local! {
    /// Whether this thread runs a completion: then it is, as a rule, the one that brings the replies.
    static IN_COMPLETION: Cell<bool> = const { Cell::new(false) };
}

type Done = Box<dyn FnOnce(Result<Answer, ClerkError>) + Send>;

/// A client of the store. `&Clerk` may be used from many threads at once; up to a window of operations is in flight.
///
/// Dropping it ends what is under way with [`ClerkError::Stopped`].
pub struct Clerk {
    core: Arc<Core>,
    own_reactor: Option<Reactor>,
}

struct Core {
    reactor: Reactor,
    clock: Clock,
    channel_config: ChannelConfig,
    /// The time of an ordinary attempt, and the controller that all attempts of that time share.
    attempt_timeout: Duration,
    controller: RpcController,
    /// Whether nodes are told so: see [`ClerkConfig::follows_hints`].
    follows_hints: bool,
    state: Mutex<State>,
}

struct State {
    machine: Machine<Done>,
    /// By `NodeIndex`; made when first needed.
    stubs: Vec<Option<KvStub>>,
    stopped: bool,
}

/// An action that is carried out without the lock.
enum Step {
    Send { stub: KvStub, call: CallId, request: Request, timeout: Duration },
    Finish { done: Done, result: Result<Answer, ClerkError> },
    Wake { after: Duration },
}

impl Clerk {
    /// A clerk with a reactor thread of its own. Connects to nothing until the first operation.
    ///
    /// # Errors
    /// No endpoint, one that is not `host:port`, a senseless configuration, or no thread to be had.
    pub fn connect(endpoints: &[String], config: ClerkConfig) -> Result<Clerk, ClerkError> {
        check(endpoints, &config)?;
        let reactor = Reactor::start("clerk-reactor", ReactorConfig::default())
            .map_err(|error| ClerkError::Start(error.to_string()))?;
        let core = Core::new(&reactor, endpoints, config)?;
        Ok(Clerk { core, own_reactor: Some(reactor) })
    }

    /// A clerk on a reactor that others use too: many clerks, one thread.
    ///
    /// # Errors
    /// No endpoint, one that is not `host:port`, or a senseless configuration.
    pub fn with_reactor(
        reactor: &Reactor,
        endpoints: &[String],
        config: ClerkConfig,
    ) -> Result<Clerk, ClerkError> {
        check(endpoints, &config)?;
        let core = Core::new(reactor, endpoints, config)?;
        Ok(Clerk { core, own_reactor: None })
    }

    /// The value of a key, or `None` if there is no such key. Linearizable: it sees every write that had been answered,
    /// to anyone, when it began.
    ///
    /// # Errors
    /// See [`ClerkError`]; a get may always be repeated.
    pub fn get(&self, key: impl Into<Bytes>) -> Result<Option<Bytes>, ClerkError> {
        self.get_with(key, Consistency::Linearizable)
    }

    /// The same for a get that may see less, or be served by another node than the leader: see [`Consistency`].
    ///
    /// # Errors
    /// See [`ClerkError`]; a get may always be repeated.
    pub fn get_with(
        &self,
        key: impl Into<Bytes>,
        consistency: Consistency,
    ) -> Result<Option<Bytes>, ClerkError> {
        match self.wait(Operation::Get { key: key.into(), consistency })? {
            Answer::Value { value, .. } => Ok(Some(value)),
            Answer::NotFound => Ok(None),
            Answer::Written { .. } => unreachable!("the border answers a get with a value or none"),
        }
    }

    /// Sets a key to a value, exactly once, and returns the version (log index) it got.
    ///
    /// # Errors
    /// See [`ClerkError`]; ask it [`may_have_run`](ClerkError::may_have_run) before you repeat the put.
    pub fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<u64, ClerkError> {
        self.write(Operation::Put { key: key.into(), value: value.into() })
    }

    /// Adds bytes to the end of a key's value, exactly once, and returns the version (log index) it got.
    ///
    /// # Errors
    /// See [`ClerkError`]; ask it [`may_have_run`](ClerkError::may_have_run) before you repeat the append.
    pub fn append(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<u64, ClerkError> {
        self.write(Operation::Append { key: key.into(), value: value.into() })
    }

    /// Removes a key; whether it was there.
    ///
    /// # Errors
    /// See [`ClerkError`].
    pub fn delete(&self, key: impl Into<Bytes>) -> Result<bool, ClerkError> {
        match self.wait(Operation::Delete { key: key.into() })? {
            Answer::NotFound => Ok(false),
            Answer::Written { .. } => Ok(true),
            Answer::Value { .. } => unreachable!("the border answers a delete with a version or nothing"),
        }
    }

    /// Begins an operation and returns; `done` runs exactly once with its end, as a rule on the reactor thread, where it
    /// must not block (it may submit). It runs on this thread, before this returns, if the operation is refused.
    pub fn submit(
        &self,
        operation: Operation,
        done: impl FnOnce(Result<Answer, ClerkError>) + Send + 'static,
    ) {
        let now = self.core.clock.now();
        let state = self.core.lock();
        if state.stopped {
            drop(state);
            done(Err(ClerkError::Stopped { may_have_run: false }));
            return;
        }
        self.core.drive(state, |machine| machine.on_start(operation, Box::new(done), now));
    }

    /// Ends what is under way with [`ClerkError::Stopped`] and closes the connections; later operations are refused.
    pub fn close(&self) {
        let mut state = self.core.lock();
        state.stopped = true;
        let stubs = std::mem::take(&mut state.stubs);
        self.core.drive(state, Machine::stop);
        for stub in stubs.into_iter().flatten() {
            stub.channel().close();
        }
    }

    fn write(&self, operation: Operation) -> Result<u64, ClerkError> {
        match self.wait(operation)? {
            Answer::Written { version } => Ok(version),
            Answer::Value { .. } | Answer::NotFound => {
                unreachable!("the border answers a write with a version")
            }
        }
    }

    /// `submit` for a thread that has nothing else to do. The machine ends every operation at its deadline, so this
    /// needs no time limit of its own.
    fn wait(&self, operation: Operation) -> Result<Answer, ClerkError> {
        assert!(
            !IN_COMPLETION.get(),
            "a blocking operation in a completion would wait for its own thread: use submit"
        );
        let place = Arc::new((Mutex::new(None), Condvar::new()));
        let answer_place = Arc::clone(&place);
        self.submit(operation, move |result| {
            let (result_slot, answered) = &*answer_place;
            *result_slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            answered.notify_one();
        });
        let (result_slot, answered) = &*place;
        let mut result = result_slot.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(result) = result.take() {
                return result;
            }
            result = answered.wait(result).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Clerk {
    fn drop(&mut self) {
        self.close();
        if let Some(reactor) = &self.own_reactor {
            reactor.stop(STOP_WITHIN);
        }
    }
}

impl std::fmt::Debug for Clerk {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Clerk").finish_non_exhaustive()
    }
}

impl Core {
    fn new(reactor: &Reactor, endpoints: &[String], config: ClerkConfig) -> Result<Arc<Core>, ClerkError> {
        let rng = match config.seed {
            Some(seed) => ChaCha8Rng::seed_from_u64(seed),
            None => ChaCha8Rng::try_from_rng(&mut SysRng)
                .map_err(|error| ClerkError::Start(format!("the system gives no randomness: {error}")))?,
        };
        let channel_config = ChannelConfig { backoff_max: RECONNECT_BACKOFF_MAX, ..ChannelConfig::default() };
        let ClerkConfig { attempt_timeout, follows_hints, .. } = config;
        let controller = RpcController::new();
        controller.set_timeout(attempt_timeout);
        let machine = Machine::new(endpoints, config, rng);
        let state = Mutex::new(State { machine, stubs: Vec::new(), stopped: false });
        let (reactor, clock) = (reactor.clone(), Clock::start());
        Ok(Arc::new(Core {
            reactor,
            clock,
            channel_config,
            attempt_timeout,
            controller,
            follows_hints,
            state,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("only the machine runs under the lock; if it panicked, nothing it says can be trusted")
    }

    /// Puts something into the machine, then carries out what it wants, one action at a time without the lock.
    fn drive<'a>(
        self: &'a Arc<Core>,
        mut state: MutexGuard<'a, State>,
        input: impl FnOnce(&mut Machine<Done>),
    ) {
        input(&mut state.machine);
        loop {
            let step = self.next_step(&mut state);
            drop(state);
            match step {
                None => return,
                Some(Step::Send { stub, call, request, timeout }) => self.send(&stub, call, request, timeout),
                Some(Step::Finish { done, result }) => complete(done, result),
                Some(Step::Wake { after }) => {
                    let core = Arc::downgrade(self);
                    self.reactor.run_after(after, Box::new(move || Core::timer(&core)));
                }
            }
            state = self.lock();
        }
    }

    fn next_step(&self, state: &mut State) -> Option<Step> {
        Some(match state.machine.poll_action()? {
            Action::Finish { done, result } => Step::Finish { done, result },
            Action::Wake { after } => Step::Wake { after },
            Action::Send { call, node, request, timeout } => {
                if state.stubs.len() <= node.0 {
                    state.stubs.resize_with(node.0 + 1, || None);
                }
                let stub = state.stubs[node.0].get_or_insert_with(|| {
                    let address = state.machine.address(node);
                    KvStub::new(RpcChannel::new(&self.reactor, address, self.channel_config.clone()))
                });
                Step::Send { stub: stub.clone(), call, request, timeout }
            }
        })
    }

    fn timer(core: &Weak<Core>) {
        let Some(core) = core.upgrade() else { return };
        let now = core.clock.now();
        core.drive(core.lock(), |machine| machine.on_timer(now));
    }

    fn replied(self: &Arc<Core>, call: CallId, verdict: crate::Verdict) {
        let now = self.clock.now();
        self.drive(self.lock(), |machine| machine.on_reply(call, verdict, now));
    }

    fn send(self: &Arc<Core>, stub: &KvStub, call: CallId, request: Request, timeout: Duration) {
        let own_controller = (timeout != self.attempt_timeout).then(|| {
            let controller = RpcController::new();
            controller.set_timeout(timeout);
            controller
        });
        let controller = own_controller.as_ref().unwrap_or(&self.controller);
        let core = Arc::clone(self);
        match Asked::of(request, self.follows_hints) {
            Asked::OpenSession(request) => stub.open_session_async(controller, &request, move |reply| {
                core.replied(call, wire::session_verdict(reply));
            }),
            Asked::Get(request) => stub.get_async(controller, &request, move |reply| {
                core.replied(call, wire::read_verdict(reply));
            }),
            Asked::Put(request) => stub.put_async(controller, &request, move |reply| {
                core.replied(call, wire::put_verdict(reply));
            }),
            Asked::Append(request) => stub.append_async(controller, &request, move |reply| {
                core.replied(call, wire::append_verdict(reply));
            }),
            Asked::Delete(request) => stub.delete_async(controller, &request, move |reply| {
                core.replied(call, wire::delete_verdict(reply));
            }),
        }
    }
}

/// Runs a caller's completion; meanwhile this thread may not wait for another.
fn complete(done: Done, result: Result<Answer, ClerkError>) {
    let outer = IN_COMPLETION.replace(true);
    done(result);
    IN_COMPLETION.set(outer);
}

fn check(endpoints: &[String], config: &ClerkConfig) -> Result<(), ClerkError> {
    if endpoints.is_empty() {
        return Err(ClerkError::NoEndpoints);
    }
    if let Some(wrong) = endpoints.iter().find(|endpoint| !wire::is_address(endpoint)) {
        return Err(ClerkError::Config(format!("\"{wrong}\" is no address; write HOST:PORT")));
    }
    config.validate()
}
