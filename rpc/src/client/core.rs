//! The state of a channel: its connection, its calls in flight. What callers and the reactor's thread share.
//!
//! One lock per channel guards the table of calls and which connection is theirs; a call is entered and appended to the
//! outbox under it, so that the table and the bytes never disagree. No callback runs and nothing is written under it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use super::channel::Method;
use super::pending_call::{BlockedCaller, Caller, Completion, NOT_APPENDED, Outcome, Pending};
use super::retry::Budget;
use super::silence::{Retired, Silence};
use super::state::Watch;
use crate::config::ChannelConfig;
use crate::error::RpcError;
use crate::inherit::{self, Inherited};
use crate::middleware::{AUTH_TOKEN_BYTES_MAX, fresh_request_id};
use crate::primitives::Mutex;
use crate::primitives::atomic::{AtomicUsize, Ordering};
use crate::protocol::decoder::HEADER_BYTES_MAX;
use crate::protocol::encoder::{
    Body, CallFields, OTHER_FIELDS_BYTES_MAX, put_call_head, put_cancel, put_legacy_call,
};
use crate::reactor::Shared;
use crate::reactor::appending::payload;
use crate::reactor::clock::{MILLISECOND, NEVER, Nanos, nanos_in};
use crate::reactor::lock::lock;
use crate::reactor::mailbox::Command;
use crate::reactor::outbox::{AppendError, Appended, Outbox, UnsentLimits};

/// Longest names of a method, in bytes: with the longest token and all integers they fit a header.
const NAMES_BYTES_MAX: usize = HEADER_BYTES_MAX - AUTH_TOKEN_BYTES_MAX - OTHER_FIELDS_BYTES_MAX;

/// No place in a reactor's list of channels.
const NO_PLACE: usize = usize::MAX;

/// See the module's text.
pub(crate) struct Core {
    pub(super) address: String,
    pub(super) config: ChannelConfig,
    pub(super) reactor: Arc<Shared>,
    /// Low bits of a call id that name its place in the table; the others count calls.
    slot_bits: u32,
    /// [`ChannelConfig::keep_alive`]; never for origin servers.
    pub(super) keep_alive: Nanos,
    /// Where the reactor keeps the channel; [`NO_PLACE`] if it does not know it.
    place: AtomicUsize,
    pub(super) state: Mutex<State>,
    pub(super) watch: Watch,
    pub(super) budget: Budget,
}

pub(super) struct State {
    pub(super) link: Link,
    pub(super) pending: Slab<Pending>,
    /// Calls begun: with its place in the table this makes a call's id, never used twice.
    sequence: u64,
    /// Attempts in a row that failed, or that ended before a single reply.
    pub(super) failures: u32,
    pub(super) legacy: LegacyLine,
    /// Of the server at the other end of the connection.
    pub(super) silence: Silence,
    /// Connections that no further call may use: their servers are going away. They end with their last call.
    pub(super) retired: Vec<Retired>,
    /// Connections made so far.
    epoch: u64,
}

/// The connection.
pub(super) enum Link {
    /// There is none; the next call makes one.
    Idle,
    /// One is being made; calls are queued in its outbox.
    Opening(Arc<Outbox>),
    Ready(Arc<Outbox>),
    /// The latest attempt failed; no other is made before that moment.
    Waiting {
        until: Nanos,
        error: RpcError,
    },
    /// For ever.
    Closed,
}

/// On a channel to an origin server: whose call is outstanding, and whose wait for their turn.
#[derive(Default)]
pub(super) struct LegacyLine {
    /// Its id; its entry may be gone already, if it was given up.
    pub(super) outstanding: Option<u64>,
    /// Ids and frames.
    waiting: VecDeque<(u64, Vec<u8>)>,
    waiting_bytes: usize,
}

impl LegacyLine {
    /// A call waits for its turn, unless more than `bytes_max` wait already.
    fn push(&mut self, call_id: u64, frame: Vec<u8>, bytes_max: usize) -> Appended {
        if self.waiting_bytes > bytes_max {
            return Err(AppendError::Full);
        }
        self.waiting_bytes += frame.len();
        self.waiting.push_back((call_id, frame));
        Ok(NOT_APPENDED)
    }

    /// The next one's turn has come.
    pub(super) fn pop(&mut self) -> Option<(u64, Vec<u8>)> {
        let first = self.waiting.pop_front();
        self.waiting_bytes -= first.as_ref().map_or(0, |(_, frame)| frame.len());
        first
    }

    /// A call does not wait any more.
    pub(super) fn remove(&mut self, call_id: u64) {
        self.waiting.retain(|(it, frame)| {
            let stays = *it != call_id;
            self.waiting_bytes -= if stays { 0 } else { frame.len() };
            stays
        });
    }
}

/// What [`Core::start`] did.
struct Started {
    call_id: u64,
    /// When the reactor must look after it.
    look_at: Nanos,
    outbox: Arc<Outbox>,
    must_connect: bool,
}

/// What a call says of its time, in milliseconds, as of a moment. Rounded up: less than one is not none, nor is nothing.
pub(super) fn timeout_ms(due: Nanos, as_of: Nanos) -> u64 {
    due.saturating_sub(as_of).div_ceil(MILLISECOND).clamp(1, u64::from(u32::MAX))
}

impl State {
    /// The connections that calls may be on.
    pub(super) fn outboxes(&self) -> impl Iterator<Item = &Arc<Outbox>> {
        let current = match &self.link {
            Link::Ready(outbox) | Link::Opening(outbox) => Some(outbox),
            _ => None,
        };
        current.into_iter().chain(self.retired.iter().map(|retired| &retired.outbox))
    }

    /// The connection of that number, while it may carry calls.
    pub(super) fn outbox_of(&self, epoch: u64) -> Option<&Arc<Outbox>> {
        self.outboxes().find(|outbox| outbox.epoch == epoch)
    }
}

impl Core {
    pub(crate) fn new(reactor: Arc<Shared>, address: &str, config: ChannelConfig) -> Core {
        let slots = config.calls_in_flight_max.clamp(1, 1 << 24).next_power_of_two();
        let state = State {
            link: Link::Idle,
            pending: Slab::new(),
            sequence: 0,
            failures: 0,
            legacy: LegacyLine::default(),
            silence: Silence::default(),
            retired: Vec::new(),
            epoch: 0,
        };
        Core {
            address: address.to_owned(),
            reactor,
            slot_bits: slots.trailing_zeros(),
            keep_alive: if config.legacy { NEVER } else { nanos_in(config.keep_alive).max(1) },
            place: AtomicUsize::new(NO_PLACE),
            state: Mutex::new(state),
            watch: Watch::default(),
            budget: Budget::new(&config.retry),
            config,
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn config(&self) -> &ChannelConfig {
        &self.config
    }

    pub(crate) fn reactor(&self) -> &Arc<Shared> {
        &self.reactor
    }

    /// Where the reactor keeps the channel, if it knows it.
    pub(crate) fn place(&self) -> Option<usize> {
        // Relaxed: the reactor's thread is the only one to use it.
        Some(self.place.load(Ordering::Relaxed)).filter(|place| *place != NO_PLACE)
    }

    pub(crate) fn set_place(&self, place: usize) {
        self.place.store(place, Ordering::Relaxed);
    }

    /// The reactor does not know the channel any more. Returns where it was kept: a channel may be closed twice, and its
    /// place is another one's by then.
    pub(crate) fn take_place(&self) -> Option<usize> {
        Some(self.place.swap(NO_PLACE, Ordering::Relaxed)).filter(|place| *place != NO_PLACE)
    }

    /// Begins a call; `completion` is run exactly once, here if the call is refused. It gets no more than it has `inherited`.
    /// Returns the call's id and where it went, unless it was refused.
    pub(crate) fn start(
        self: &Arc<Core>,
        method: &Method,
        timeout: Option<Duration>,
        body: &dyn Body,
        completion: Completion,
        inherited: Inherited,
    ) -> Option<(u64, Arc<Outbox>)> {
        let timeout = nanos_in(timeout.unwrap_or(self.config.default_timeout));
        let (now, body_bytes) = (self.reactor.world.turn_nanos(), body.body_len());
        let caller = match self.ask_middleware(method, inherited.request_id, body_bytes, now) {
            Ok(observed) => Caller { observed, completion },
            Err(error) => {
                completion.run(&self.reactor, Err(error));
                return None;
            }
        };
        match self.enter(method, (timeout, now), inherited, (body, body_bytes), caller) {
            Ok(started) => {
                self.reactor.arm(started.look_at);
                if started.must_connect {
                    self.note_change();
                }
                if started.must_connect && self.reactor.post(Command::Connect(self.clone())).is_err() {
                    let mut answered = Vec::new();
                    self.on_stopped(&mut answered);
                    answered.into_iter().for_each(|call| call.run(self));
                } else {
                    started.outbox.finish();
                }
                Some((started.call_id, started.outbox))
            }
            Err(refused) => {
                let (caller, error) = *refused;
                caller.answer(self, Err(error));
                None
            }
        }
    }

    /// What a call begun here and now gets from the one that it is made for. Where middleware is told of it, it has a number.
    pub(super) fn inherited(&self) -> Inherited {
        let mut inherited = inherit::current();
        if inherited.request_id == 0 && !self.config.middleware.is_empty() {
            inherited.request_id = fresh_request_id();
        }
        inherited
    }

    /// Enters a call into the table and appends it to the outbox.
    fn enter(
        &self,
        method: &Method,
        (timeout, now): (Nanos, Nanos),
        inherited: Inherited,
        (body, body_bytes): (&dyn Body, usize),
        caller: Caller,
    ) -> Result<Started, Box<(Caller, RpcError)>> {
        let timeout = match self.check_limits(method, body_bytes).and_then(|()| inherited.limit(timeout, now))
        {
            Ok(timeout) => timeout,
            Err(error) => return Err(Box::new((caller, error))),
        };
        // NB: before the lock, which the reactor's thread takes, too: it may take long.
        let payload = payload(body, body_bytes);
        let mut state = lock(&self.state);
        // NB: first. Whoever is given a connection that must be made must see to it that it is.
        if state.pending.len() >= self.config.calls_in_flight_max {
            let max = self.config.calls_in_flight_max as u64;
            return Err(Box::new((caller, RpcError::Busy { limit: "calls_in_flight_max", max })));
        }
        let (outbox, must_connect) = match self.outbox_for_call(&mut state, now) {
            Ok(found) => found,
            Err(error) => return Err(Box::new((caller, error))),
        };
        let call_id = self.unused_call_id(&mut state);
        let names = method.names();
        let due = now.saturating_add(timeout);
        let appended = if !self.config.legacy {
            let auth_token = if must_connect { self.config.auth_token.bytes() } else { &[] };
            let (request_id, kind) = (inherited.request_id, 0);
            let credit_bytes = caller.completion.stream().map_or(0, |stream| stream.window);
            outbox.append_call(now, payload, |buffer, as_of| {
                let timeout_ms = timeout_ms(due, as_of);
                let fields = CallFields { call_id, timeout_ms, auth_token, request_id, credit_bytes, kind };
                put_call_head(buffer, names, &fields, body_bytes);
            })
        } else if state.legacy.outstanding.is_none() {
            outbox.append(|buffer| put_legacy_call(buffer, names, body, body_bytes))
        } else {
            let mut frame = Vec::new();
            put_legacy_call(&mut frame, names, body, body_bytes);
            state.legacy.push(call_id, frame, self.config.unsent_bytes_max)
        };
        let frame = match appended {
            Ok(frame) => frame,
            Err(error) => return Err(Box::new((caller, self.not_appended(error)))),
        };
        if self.config.legacy && frame != NOT_APPENDED {
            state.legacy.outstanding = Some(call_id);
        }
        state.owes_from(now);
        let epoch = outbox.epoch;
        state.pending.insert(Pending { call_id, due, timeout, frame, epoch, caller });
        let look_at = due.min(now.saturating_add(self.keep_alive));
        Ok(Started { call_id, look_at, outbox, must_connect })
    }

    /// Refuses what is larger than it may be, and everything while the reactor's channels have too much to send.
    pub(super) fn check_limits(&self, method: &Method, body_bytes: usize) -> Result<(), RpcError> {
        let (token_bytes, names_bytes) = (self.config.auth_token.bytes().len(), method.names().encoded_len());
        for (what, bytes, max) in [
            ("arguments", body_bytes, self.config.args_bytes_max),
            ("an auth token", token_bytes, AUTH_TOKEN_BYTES_MAX),
            ("a method's names", names_bytes, NAMES_BYTES_MAX),
        ] {
            if bytes > max {
                let (bytes, max) = (bytes as u64, max as u64);
                return Err(RpcError::TooLarge { what, bytes, max, may_have_run: false });
            }
        }
        self.reactor.check_unsent()
    }

    /// The outbox that a call goes to; with whether its connection must be made.
    pub(super) fn outbox_for_call(
        &self,
        state: &mut State,
        now: Nanos,
    ) -> Result<(Arc<Outbox>, bool), RpcError> {
        match &state.link {
            Link::Ready(outbox) | Link::Opening(outbox) => return Ok((outbox.clone(), false)),
            Link::Waiting { until, error } if now < *until => return Err(error.clone()),
            Link::Closed => return Err(RpcError::Stopped { may_have_run: false }),
            Link::Waiting { .. } | Link::Idle => {}
        }
        state.epoch += 1;
        // What a client sends is held back by its callers.
        let limits = UnsentLimits { max: self.config.unsent_bytes_max as u64, high_water: u64::MAX };
        let outbox = Arc::new(Outbox::new(self.reactor.clone(), limits, None, state.epoch));
        state.link = Link::Opening(outbox.clone());
        Ok((outbox, true))
    }

    /// An id that no call has had; it names the next free place in the table.
    pub(super) fn unused_call_id(&self, state: &mut State) -> u64 {
        state.sequence += 1;
        state.sequence << self.slot_bits | state.pending.vacant_key() as u64
    }

    /// Takes a call out of the table by its id, if it is still there.
    pub(super) fn take(&self, state: &mut State, call_id: u64) -> Option<Pending> {
        let slot = (call_id & ((1 << self.slot_bits) - 1)) as usize;
        match state.pending.get(slot) {
            Some(pending) if pending.call_id == call_id => state.pending.try_remove(slot),
            _ => None,
        }
    }

    /// A call by its id, if it is still in the table.
    pub(super) fn find<'a>(&self, state: &'a mut State, call_id: u64) -> Option<&'a mut Pending> {
        let slot = (call_id & ((1 << self.slot_bits) - 1)) as usize;
        state.pending.get_mut(slot).filter(|pending| pending.call_id == call_id)
    }

    /// Answers a call `Cancelled` on this thread and tells the server. A call that has been answered stays so.
    pub(crate) fn cancel(&self, call_id: u64) {
        let mut state = lock(&self.state);
        let Some(pending) = self.take(&mut state, call_id) else { return };
        let may_have_run = self.give_up(&mut state, &pending);
        let outbox = state.outbox_of(pending.epoch).cloned();
        drop(state);
        if let Some(outbox) = outbox
            && may_have_run
            && !self.config.legacy
        {
            // If it cannot be told, the server will have worked in vain.
            let _ = outbox.append_word(|buffer| put_cancel(buffer, call_id));
            outbox.finish();
        }
        pending.caller.answer(self, Err(RpcError::Cancelled { may_have_run }));
    }

    /// Waits for the answer to a call whose caller is blocked.
    pub(super) fn wait_for(&self, caller: &BlockedCaller) -> Outcome {
        caller.wait(&self.reactor.world, self.reactor.config.spin)
    }

    /// Sends what a corked scope holds back.
    pub(super) fn flush(&self) {
        let outbox = match &lock(&self.state).link {
            Link::Ready(outbox) | Link::Opening(outbox) => outbox.clone(),
            _ => return,
        };
        outbox.flush();
    }
}
