//! The state of a channel: its connection, its calls in flight. What callers and the reactor's thread share.
//!
//! One lock per channel guards the table of calls and which connection is theirs; a call is entered and appended to the
//! outbox under it, so that the table and the bytes never disagree. No callback runs and nothing is written under it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use slab::Slab;

use super::channel::Method;
pub(crate) use super::pending_call::Answered;
use super::pending_call::{Completion, Pending};
use crate::config::ChannelConfig;
use crate::error::RpcError;
use crate::protocol::encoder::{Body, put_call, put_cancel, put_legacy_call};
use crate::protocol::header::{Shape, message_shape};
use crate::protocol::reply_decoder::{ReplyDecoder, ReplyFrame};
use crate::protocol::status::Status;
use crate::reactor::Shared;
use crate::reactor::clock::{self, NEVER, Nanos, nanos_in};
use crate::reactor::connector::backoff;
use crate::reactor::lock::lock;
use crate::reactor::mailbox::Command;
use crate::reactor::outbox::{AppendError, Outbox};
use crate::reactor::poll_loop::Turn;

/// Nanoseconds in a millisecond.
const MILLISECOND: u64 = 1_000_000;

/// See the module's text.
pub(crate) struct Core {
    address: String,
    config: ChannelConfig,
    reactor: Arc<Shared>,
    /// Low bits of a call id that name its place in the table; the others count calls.
    slot_bits: u32,
    /// Whether the reactor knows the channel.
    is_registered: AtomicBool,
    state: Mutex<State>,
}

struct State {
    link: Link,
    pending: Slab<Pending>,
    /// Calls begun: with its place in the table this makes a call's id, never used twice.
    sequence: u64,
    /// Attempts in a row that failed, or that ended before a single reply.
    failures: u32,
    legacy: LegacyLine,
}

/// The connection.
enum Link {
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
struct LegacyLine {
    outstanding: Option<usize>,
    waiting: VecDeque<(u64, Vec<u8>)>,
}

/// What [`Core::start`] did.
struct Started {
    call_id: u64,
    due: Nanos,
    outbox: Arc<Outbox>,
    must_connect: bool,
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
        };
        Core {
            address: address.to_owned(),
            config,
            reactor,
            slot_bits: slots.trailing_zeros(),
            is_registered: AtomicBool::new(false),
            state: Mutex::new(state),
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

    /// Whether the reactor hears of this channel for the first time.
    pub(crate) fn register_once(&self) -> bool {
        !self.is_registered.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn unregister(&self) {
        self.is_registered.store(false, Ordering::Relaxed);
    }

    /// Begins a call; `completion` is run exactly once, here if the call is refused. With `must_flush` it leaves at
    /// once even in a corked scope. Returns the call's id unless it was refused.
    pub(crate) fn start(
        self: &Arc<Core>,
        method: &Method,
        timeout: Option<Duration>,
        body: &dyn Body,
        completion: Completion,
        must_flush: bool,
    ) -> Option<u64> {
        let timeout = nanos_in(timeout.unwrap_or(self.config.default_timeout));
        match self.enter(method, timeout, body, completion) {
            Ok(started) => {
                self.reactor.arm(started.due);
                if started.must_connect && self.reactor.post(Command::Connect(self.clone())).is_err() {
                    let mut answered = Vec::new();
                    self.on_stopped(&mut answered);
                    answered.into_iter().for_each(|call| call.run(&self.reactor));
                } else if must_flush {
                    started.outbox.flush();
                } else {
                    started.outbox.finish();
                }
                Some(started.call_id)
            }
            Err((completion, error)) => {
                completion.run(&self.reactor, Err(error));
                None
            }
        }
    }

    /// Enters a call into the table and appends it to the outbox.
    fn enter(
        &self,
        method: &Method,
        timeout: Nanos,
        body: &dyn Body,
        completion: Completion,
    ) -> Result<Started, (Completion, RpcError)> {
        let body_bytes = body.body_len();
        if body_bytes > self.config.args_bytes_max {
            let (bytes, max) = (body_bytes as u64, self.config.args_bytes_max as u64);
            return Err((
                completion,
                RpcError::TooLarge { what: "arguments", bytes, max, may_have_run: false },
            ));
        }
        let now = clock::now_nanos();
        let mut state = lock(&self.state);
        let (outbox, must_connect) = match self.outbox_for_call(&mut state, now) {
            Ok(found) => found,
            Err(error) => return Err((completion, error)),
        };
        if state.pending.len() >= self.config.calls_in_flight_max {
            let max = self.config.calls_in_flight_max as u64;
            return Err((completion, RpcError::Busy { limit: "calls_in_flight_max", max }));
        }
        state.sequence += 1;
        let slot = state.pending.vacant_key();
        let call_id = state.sequence << self.slot_bits | slot as u64;
        let names = method.names();
        let appended = if !self.config.legacy {
            // Rounded up: a deadline of less than a millisecond is not none.
            let timeout_ms = timeout.div_ceil(MILLISECOND).min(u64::from(u32::MAX));
            outbox.append(|buffer| put_call(buffer, names, call_id, timeout_ms, body, body_bytes))
        } else if state.legacy.outstanding.is_none() {
            outbox.append(|buffer| put_legacy_call(buffer, names, body, body_bytes))
        } else {
            let mut frame = Vec::new();
            put_legacy_call(&mut frame, names, body, body_bytes);
            state.legacy.waiting.push_back((call_id, frame));
            Ok(u64::MAX)
        };
        let end_offset = match appended {
            Ok(end_offset) => end_offset,
            Err(AppendError::Closed) => return Err((completion, self.closed("it is just ending", false))),
            Err(AppendError::Full) => {
                let max = self.config.unsent_bytes_max as u64;
                return Err((completion, RpcError::Busy { limit: "unsent_bytes_max", max }));
            }
        };
        if self.config.legacy && end_offset != u64::MAX {
            state.legacy.outstanding = Some(slot);
        }
        let due = now.saturating_add(timeout);
        state.pending.insert(Pending { call_id, due, timeout, end_offset, completion });
        Ok(Started { call_id, due, outbox, must_connect })
    }

    /// The outbox that a call goes to; with whether its connection must be made.
    fn outbox_for_call(&self, state: &mut State, now: Nanos) -> Result<(Arc<Outbox>, bool), RpcError> {
        match &state.link {
            Link::Ready(outbox) | Link::Opening(outbox) => return Ok((outbox.clone(), false)),
            Link::Waiting { until, error } if now < *until => return Err(error.clone()),
            Link::Closed => return Err(RpcError::Stopped { may_have_run: false }),
            Link::Waiting { .. } | Link::Idle => {}
        }
        let outbox = Arc::new(Outbox::new(self.reactor.clone(), self.config.unsent_bytes_max, None));
        state.link = Link::Opening(outbox.clone());
        Ok((outbox, true))
    }

    fn closed(&self, cause: &str, may_have_run: bool) -> RpcError {
        RpcError::Closed { address: self.address.clone(), cause: cause.to_owned(), may_have_run }
    }

    /// Takes a call out of the table by its id, if it is still there.
    fn take(&self, state: &mut State, call_id: u64) -> Option<Pending> {
        let slot = (call_id & ((1 << self.slot_bits) - 1)) as usize;
        match state.pending.get(slot) {
            Some(pending) if pending.call_id == call_id => state.pending.try_remove(slot),
            _ => None,
        }
    }

    /// Answers a call `Cancelled` on this thread and tells the server. A call that has been answered stays so.
    pub(crate) fn cancel(&self, call_id: u64) {
        let mut state = lock(&self.state);
        let Some(pending) = self.take(&mut state, call_id) else { return };
        let outbox = match &state.link {
            Link::Ready(outbox) | Link::Opening(outbox) => Some(outbox.clone()),
            _ => None,
        };
        let may_have_run =
            pending.end_offset <= outbox.as_ref().map_or(u64::MAX - 1, |outbox| outbox.written());
        let must_cut = self.give_up_turn(&mut state, &pending);
        drop(state);
        if let Some(outbox) = outbox {
            if must_cut {
                outbox.cut();
            } else if !self.config.legacy {
                // If it cannot be told, the server will have worked in vain.
                let _ = outbox.append(|buffer| put_cancel(buffer, call_id));
                outbox.finish();
            }
        }
        pending.completion.run(&self.reactor, Err(RpcError::Cancelled { may_have_run }));
    }

    /// On a channel to an origin server: a call is given up. Returns whether it was the outstanding one, whose reply,
    /// having no number, would be taken for the next call's: the connection must end.
    fn give_up_turn(&self, state: &mut State, pending: &Pending) -> bool {
        if !self.config.legacy {
            return false;
        }
        state.legacy.waiting.retain(|(call_id, _)| *call_id != pending.call_id);
        pending.end_offset != u64::MAX
    }

    /// Closes the channel: no call is begun any more, and those in flight are answered. Returns whether it was open.
    pub(crate) fn close(self: &Arc<Core>) {
        let mut answered = Vec::new();
        {
            let mut state = lock(&self.state);
            let link = std::mem::replace(&mut state.link, Link::Closed);
            let written = match &link {
                Link::Ready(outbox) | Link::Opening(outbox) => outbox.written(),
                _ => 0,
            };
            self.drain(&mut state, &mut answered, |pending| RpcError::Stopped {
                may_have_run: pending.end_offset <= written,
            });
        }
        // A reactor that has stopped has closed the connection.
        let _ = self.reactor.post(Command::CloseChannel(self.clone()));
        answered.into_iter().for_each(|call| call.run(&self.reactor));
    }

    /// Takes all calls out of the table.
    fn drain(&self, state: &mut State, answered: &mut Vec<Answered>, error: impl Fn(&Pending) -> RpcError) {
        state.legacy = LegacyLine::default();
        for pending in state.pending.drain() {
            let outcome = Err(error(&pending));
            answered.push(Answered { completion: pending.completion, outcome });
        }
    }
}

/// What the reactor's thread tells a channel. Completions are left in `answered`, to be run when no lock is held.
impl Core {
    /// The outbox whose connection is to be made, if the channel still wants it.
    pub(crate) fn outbox_to_open(&self) -> Option<Arc<Outbox>> {
        match &lock(&self.state).link {
            Link::Opening(outbox) => Some(outbox.clone()),
            _ => None,
        }
    }

    pub(crate) fn on_connected(&self) {
        let mut state = lock(&self.state);
        if let Link::Opening(outbox) = &state.link {
            state.link = Link::Ready(outbox.clone());
        }
    }

    /// No address could be connected to: the calls that waited for it fail, and so do others until the pause is over.
    pub(crate) fn on_connect_failed(&self, error: RpcError, answered: &mut Vec<Answered>) {
        let mut state = lock(&self.state);
        if matches!(state.link, Link::Closed) {
            return;
        }
        self.pause(&mut state, error.clone());
        self.drain(&mut state, answered, |_| error.clone());
    }

    fn pause(&self, state: &mut State, error: RpcError) {
        state.failures = state.failures.saturating_add(1);
        let pause = backoff(state.failures, self.config.backoff_min, self.config.backoff_max);
        state.link = Link::Waiting { until: clock::read_clock().1 + nanos_in(pause), error };
    }

    /// The connection has ended, after `written` bytes had left.
    pub(crate) fn on_closed(&self, written: u64, cause: &str, answered: &mut Vec<Answered>) {
        let mut state = lock(&self.state);
        if matches!(state.link, Link::Closed) {
            return;
        }
        if state.failures == 0 {
            state.link = Link::Idle;
        } else {
            // A server that takes connections and drops them must not be stormed.
            self.pause(&mut state, self.closed(cause, false));
        }
        state.failures = state.failures.max(1);
        self.drain(&mut state, answered, |pending| self.closed(cause, pending.end_offset <= written));
    }

    /// The reactor ends.
    pub(crate) fn on_stopped(&self, answered: &mut Vec<Answered>) {
        let mut state = lock(&self.state);
        let written = match std::mem::replace(&mut state.link, Link::Closed) {
            Link::Ready(outbox) | Link::Opening(outbox) => outbox.written(),
            _ => 0,
        };
        self.drain(&mut state, answered, |pending| RpcError::Stopped {
            may_have_run: pending.end_offset <= written,
        });
    }

    /// Takes out the calls that are late. Returns when the next one is due.
    pub(crate) fn expire(&self, now: Nanos, answered: &mut Vec<Answered>) -> Nanos {
        let mut next = NEVER;
        let mut cut = None;
        let mut state = lock(&self.state);
        let late: Vec<u64> = state
            .pending
            .iter()
            .filter_map(|(_, pending)| {
                if pending.due <= now {
                    return Some(pending.call_id);
                }
                next = next.min(pending.due);
                None
            })
            .collect();
        if late.is_empty() {
            return next;
        }
        let outbox = match &state.link {
            Link::Ready(outbox) | Link::Opening(outbox) => Some(outbox.clone()),
            _ => None,
        };
        let written = outbox.as_ref().map_or(0, |outbox| outbox.written());
        for call_id in late {
            let Some(pending) = self.take(&mut state, call_id) else { continue };
            if self.give_up_turn(&mut state, &pending) {
                cut = outbox.clone();
            }
            let timeout = Duration::from_nanos(pending.timeout);
            let error = RpcError::DeadlineExceeded { timeout, may_have_run: pending.end_offset <= written };
            answered.push(Answered { completion: pending.completion, outcome: Err(error) });
        }
        drop(state);
        if let Some(outbox) = cut {
            outbox.cut();
        }
        next
    }

    /// Replies have come. A reply to no call is a late one and ignored.
    fn on_replies(&self, replies: &mut Vec<ReplyFrame>, answered: &mut Vec<Answered>) {
        let mut state = lock(&self.state);
        state.failures = 0;
        for reply in replies.drain(..) {
            if let Some(pending) = self.take(&mut state, reply.call_id) {
                answered.push(Answered { completion: pending.completion, outcome: self.outcome_of(reply) });
            }
        }
    }

    fn outcome_of(&self, reply: ReplyFrame) -> Result<Bytes, RpcError> {
        if reply.status != 0 {
            let text = String::from_utf8_lossy(&reply.error_text).into_owned();
            return Err(RpcError::Status { status: Status::from_code(reply.status), text });
        }
        let max = self.config.reply_bytes_max as u64;
        reply.body.map_err(|bytes| RpcError::TooLarge { what: "a reply", bytes, max, may_have_run: true })
    }

    /// An origin server has answered the outstanding call; the next one is sent.
    fn on_bare_reply(&self, reply: Bytes, outbox: &Arc<Outbox>, answered: &mut Vec<Answered>) {
        {
            let mut state = lock(&self.state);
            state.failures = 0;
            let Some(slot) = state.legacy.outstanding.take() else { return };
            if let Some(pending) = state.pending.try_remove(slot) {
                answered.push(Answered { completion: pending.completion, outcome: Ok(reply) });
            }
            if let Some((call_id, frame)) = state.legacy.waiting.pop_front()
                && let Ok(end_offset) = outbox.append(|buffer| buffer.extend_from_slice(&frame))
            {
                let slot = (call_id & ((1 << self.slot_bits) - 1)) as usize;
                if let Some(pending) = state.pending.get_mut(slot) {
                    pending.end_offset = end_offset;
                }
                state.legacy.outstanding = Some(slot);
            }
        }
        outbox.finish();
    }

    fn awaits_bare_reply(&self) -> bool {
        lock(&self.state).legacy.outstanding.is_some()
    }
}

/// The client's half of a connection.
pub(crate) struct ClientSide {
    pub(crate) core: Arc<Core>,
    replies: Replies,
}

enum Replies {
    Framed(ReplyDecoder),
    Bare(BytesMut),
}

impl ClientSide {
    pub(crate) fn new(core: Arc<Core>) -> ClientSide {
        let replies = if core.config.legacy {
            Replies::Bare(BytesMut::new())
        } else {
            Replies::Framed(ReplyDecoder::new(core.config.reply_bytes_max as u64))
        };
        ClientSide { core, replies }
    }

    /// Takes `count` bytes from the turn's scratch buffer and answers the calls whose replies are whole.
    ///
    /// # Errors
    /// When the stream is refused: the text says why.
    pub(crate) fn take(&mut self, count: usize, outbox: &Arc<Outbox>, turn: &mut Turn) -> Result<(), String> {
        let bytes = &turn.scratch[..count];
        let refused = match &mut self.replies {
            Replies::Framed(decoder) => {
                decoder.feed(bytes);
                let refused = loop {
                    match decoder.next_frame() {
                        Ok(Some(frame)) => turn.replies.push(frame),
                        Ok(None) => break Ok(()),
                        Err(refusal) => break Err(refusal.to_string()),
                    }
                };
                self.core.on_replies(&mut turn.replies, &mut turn.answered);
                refused
            }
            Replies::Bare(buffer) => {
                buffer.extend_from_slice(bytes);
                take_bare(&self.core, buffer, outbox, &mut turn.answered)
            }
        };
        for call in turn.answered.drain(..) {
            turn.has_dispatched = true;
            call.run(self.core.reactor());
        }
        refused
    }
}

/// An origin server's reply says nowhere how long it is. What has come is taken for it unless it plainly ends inside a
/// field: then the rest is on its way.
fn take_bare(
    core: &Core,
    buffer: &mut BytesMut,
    outbox: &Arc<Outbox>,
    answered: &mut Vec<Answered>,
) -> Result<(), String> {
    if !core.awaits_bare_reply() {
        return Err("a reply without a call".to_owned());
    }
    if buffer.len() > core.config.reply_bytes_max {
        return Err(format!("a reply of more than {} bytes", core.config.reply_bytes_max));
    }
    if message_shape(buffer) != Shape::Truncated {
        core.on_bare_reply(buffer.split().freeze(), outbox, answered);
    }
    Ok(())
}
