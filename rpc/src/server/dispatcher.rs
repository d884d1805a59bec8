//! One server connection's calls: from bytes to the right service.
//!
//! Here stand the rules of who may call what and how much at a time; the socket is `reactor/connection`'s, the answer is
//! the `responder`'s. Every call that is begun gets a responder, refusals included, so that each is answered once.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::entrance::{
    admit, answer_cancelled, answer_itself, args_bytes, ask_middleware, find, not_kept, shielded,
};
use super::in_flight::InFlight;
use super::provider::{ProviderCore, ServiceTable, Standing};
use super::responder::{ReplyForm, Responder};
use super::service::{Call, CallContext};
use super::watch::{Received, Watch};
use crate::error::End;
use crate::inherit::{self, Inherited};
use crate::middleware::Refused;
use crate::primitives::atomic::Ordering;
use crate::protocol::decoder::{Mode, Refusal, RequestDecoder, RequestFrame, RequestHead};
use crate::protocol::encoder::{put_failure, put_going_away, put_pong};
use crate::protocol::frames::BodyLimits;
use crate::protocol::header::Kind;
use crate::protocol::status::Status;
use crate::reactor::clock::{NEVER, Nanos, nanos_in};
use crate::reactor::outbox::{Outbox, ServerOwner};
use crate::reactor::turn::Turn;

/// Frames dispatched between two looks at the clock.
const FRAMES_PER_LOOK: u64 = 16;

/// Why a connection ends by a frame that could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MustEnd {
    /// Its first call had no right to its place.
    NoPlace,
    /// It sent more on a stream than it may.
    BeyondCredit,
}

/// The server's half of a connection.
pub(crate) struct ServerSide {
    pub(crate) provider: Arc<ProviderCore>,
    connection_id: u64,
    peer: SocketAddr,
    pub(super) standing: Standing,
    pub(super) decoder: RequestDecoder,
    pub(super) services: ServiceTable,
    services_version: u64,
    /// The first frame has come, and the provider's middleware has been asked about its token.
    is_known: bool,
    /// Why it refuses all calls of the connection.
    refused: Option<Box<Refused>>,
    /// The peer knows that the provider is stopping and sends its calls elsewhere. Those that were on their way are served.
    is_told_to_leave: bool,
    /// Why the connection ends, whatever else it has sent.
    pub(super) must_end: Option<MustEnd>,
    /// Calls that end because a message of their streams was not kept, and its size in bytes.
    oversized: Vec<(u64, u64)>,
    /// Calls begun on this connection.
    begun: u64,
    in_flight: InFlight,
    watch: Watch,
    received: Received,
    /// Memory that the provider knows to be held for a request that has come in part, in bytes.
    held_bytes: u64,
    /// On a place of the reserve: when the first call must have come.
    pub(super) first_call_due: Nanos,
}

impl ServerSide {
    pub(crate) fn new(
        provider: Arc<ProviderCore>,
        connection_id: u64,
        (peer, standing): (SocketAddr, Standing),
    ) -> ServerSide {
        let kept_max = provider.config.args_bytes_max as u64;
        let skipped_max = kept_max.max(provider.config.skipped_bytes_max as u64);
        let decoder = RequestDecoder::with_limits(BodyLimits { kept_max, skipped_max });
        let in_flight = InFlight::new(provider.config.calls_in_flight_per_connection_max);
        ServerSide {
            provider,
            connection_id,
            peer,
            standing,
            decoder,
            services: ServiceTable::default(),
            services_version: 0,
            is_known: false,
            is_told_to_leave: false,
            must_end: None,
            oversized: Vec::new(),
            refused: None,
            begun: 0,
            in_flight,
            watch: Watch::default(),
            received: Received::default(),
            held_bytes: 0,
            first_call_due: NEVER,
        }
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Calls that are not answered yet.
    pub(crate) fn calls_in_flight(&self, outbox: &Outbox) -> u64 {
        self.begun - outbox.answered()
    }

    /// The provider is stopping: a peer of ours is told, and closes when its last call is answered. Returns whether it is.
    pub(crate) fn tell_to_leave(&mut self, outbox: &Arc<Outbox>) -> bool {
        if self.decoder.mode() == Some(Mode::Own) && !self.is_told_to_leave {
            self.is_told_to_leave = outbox.append(put_going_away).is_ok();
            outbox.finish();
        }
        self.is_told_to_leave
    }

    /// Whether the end of the connection is the peer's to make.
    pub(crate) fn is_told_to_leave(&self) -> bool {
        self.is_told_to_leave
    }

    /// A connection on a place of the reserve has been accepted: its first call must come soon.
    pub(crate) fn await_first_call(&mut self, token: mio::Token, turn: &mut Turn) {
        if self.standing == Standing::Unproven {
            let timeout = nanos_in(self.provider.config.reserve.first_call_timeout);
            self.first_call_due = turn.nanos.saturating_add(timeout);
            self.watch.note_due(self.first_call_due, token, turn, &self.provider.reactor);
        }
    }

    /// Where to receive next: see [`RequestDecoder::room`] and [`RequestDecoder::expects_large`].
    pub(crate) fn room(&mut self) -> (Option<&mut Vec<u8>>, bool) {
        let expects_large = self.decoder.expects_large();
        (self.decoder.room(), expects_large)
    }

    /// Takes `count` received bytes: these, or what was received into the room.
    pub(crate) fn take(&mut self, count: usize, bytes: Option<&[u8]>) {
        self.received.bytes += count as u64;
        match bytes {
            Some(bytes) => self.decoder.feed(bytes),
            None => self.decoder.received(),
        }
    }

    /// The connection has ended.
    pub(crate) fn on_closed(&mut self, outbox: &Outbox, end: End<'_>) {
        if let Some(ServerOwner { streams, .. }) = &outbox.server {
            streams.close_all(&end.error(&self.peer.to_string(), true));
        }
        self.provider.connection_closed(self.standing);
        self.provider.note_unfinished(std::mem::take(&mut self.held_bytes), 0);
    }

    /// Whether nothing may be read now: an origin client's call is outstanding, or the peer does not take its replies. The
    /// reactor is told when that ends.
    pub(crate) fn must_wait(&self, outbox: &Outbox) -> bool {
        self.decoder.mode() == Some(Mode::Legacy) && outbox.legacy_is_busy() || outbox.must_drain()
    }

    /// The socket takes no more replies: if that lasts, the peer is cut.
    pub(crate) fn watch_stall(&mut self, outbox: &Outbox, turn: &mut Turn) {
        let Some(ServerOwner { token, .. }) = &outbox.server else { return };
        let due = turn.nanos.saturating_add(nanos_in(self.provider.config.stalled_timeout));
        self.watch.watch_stall(outbox.progress().0, due);
        self.watch.note_due(due, *token, turn, &outbox.reactor);
    }

    /// Dispatches the whole frames that are buffered, while the turn has time and their answers are within a share of it; of an
    /// origin client's only as many as may be outstanding. Returns whether there may be more.
    ///
    /// # Errors
    /// Why the connection must end.
    pub(crate) fn dispatch_buffered(
        &mut self,
        outbox: &Arc<Outbox>,
        turn: &mut Turn,
    ) -> Result<bool, String> {
        if let Some(services) = self.provider.services_since(&mut self.services_version) {
            self.services = services;
        }
        let outcome = self.dispatch_frames(outbox, turn);
        if let Some(ServerOwner { stages, .. }) = &outbox.server {
            let (oversized, config) = (std::mem::take(&mut self.oversized), &self.provider.config);
            self.in_flight
                .end_cancelled(stages, |call_id| answer_cancelled(outbox, call_id, &oversized, config));
        }
        let may_have_more = outcome.map_err(|refusal| {
            let text = || format!("{}: {refusal}; connection closed", self.peer);
            self.provider.warnings.refused.warn(turn.nanos, text);
            refusal.to_string()
        })?;
        if self.must_end == Some(MustEnd::NoPlace) {
            return Err("there is no place for it".to_owned());
        }
        if self.held_bytes > 0 || self.decoder.is_unfinished() {
            self.account(may_have_more, outbox, turn);
        }
        Ok(may_have_more)
    }

    /// A frame has come in part, or its rest has: what is held of it is counted, or given up if all connections together
    /// hold too much: not one that may be whole by now.
    fn account(&mut self, may_be_whole: bool, outbox: &Arc<Outbox>, turn: &mut Turn) {
        let held_bytes = self.decoder.unfinished_bytes() as u64;
        let total = self.provider.note_unfinished(self.held_bytes, held_bytes);
        let has_grown = held_bytes > self.held_bytes;
        self.held_bytes = held_bytes;
        if has_grown
            && !may_be_whole
            && total > self.unfinished_bytes_max()
            && let Some(mut frame) = self.decoder.give_up()
        {
            self.provider.note_unfinished(std::mem::take(&mut self.held_bytes), 0);
            self.received.frames += 1;
            self.dispatch(&mut frame, outbox, turn);
        }
        let due = turn.nanos.saturating_add(nanos_in(self.provider.config.unfinished_timeout));
        if self.decoder.is_unfinished()
            && self.watch.watch_unfinished(self.received, due)
            && let Some(ServerOwner { token, .. }) = &outbox.server
        {
            self.watch.note_due(due, *token, turn, &outbox.reactor);
        }
    }

    fn dispatch_frames(&mut self, outbox: &Arc<Outbox>, turn: &mut Turn) -> Result<bool, Refusal> {
        let (mut frames, mut answered) = (0, 0);
        while self.decoder.has_buffered() {
            frames += 1;
            let is_over = answered >= turn.share as u64 || frames % FRAMES_PER_LOOK == 0 && !turn.has_time();
            if self.must_wait(outbox) || is_over {
                return Ok(true);
            }
            let unsent = outbox.unsent_hint();
            let Some(mut frame) = self.decoder.next_frame()? else { break };
            turn.has_dispatched = true;
            self.received.frames += 1;
            self.dispatch(&mut frame, outbox, turn);
            answered += outbox.unsent_hint().saturating_sub(unsent);
            match self.must_end {
                None => {}
                Some(MustEnd::NoPlace) => break,
                Some(MustEnd::BeyondCredit) => return Err(Refusal::BeyondCredit),
            }
        }
        Ok(false)
    }

    /// Answers the calls whose deadline has passed. `has_more`: something has come that has not been read or dispatched.
    /// Returns when to look again.
    ///
    /// # Errors
    /// Why the connection must end.
    pub(crate) fn expire(
        &mut self,
        now: Nanos,
        outbox: &Arc<Outbox>,
        has_more: bool,
    ) -> Result<Nanos, &'static str> {
        let Some(ServerOwner { stages, .. }) = &outbox.server else { return Ok(NEVER) };
        let mut next = self.in_flight.end_late(now, stages, |call_id| {
            answer_itself(outbox, call_id, Status::DeadlineExceeded, "the caller's time is over");
        });
        let (config, warnings) = (&self.provider.config, &self.provider.warnings);
        let timeout = nanos_in(config.stalled_timeout);
        let Some(due) = self.watch.check_stall(now, timeout, outbox.progress()) else {
            warnings.unread.warn(now, || format!("{} does not read its replies: connection cut", self.peer));
            return Err("the peer does not read its replies");
        };
        next = next.min(due);
        let limits = (nanos_in(config.unfinished_timeout), config.unfinished_progress_bytes as u64);
        let state = (self.decoder.is_unfinished(), has_more);
        let Some(due) = self.watch.check_unfinished(now, limits, self.received, state) else {
            warnings
                .unfinished
                .warn(now, || format!("{} does not finish its frame: connection cut", self.peer));
            return Err("the peer does not finish its frame");
        };
        let idle_timeout = nanos_in(config.idle_timeout);
        let (is_idle, idle_due) = self.watch.check_idle(now, idle_timeout, self.received);
        if is_idle && self.calls_in_flight(outbox) == 0 && outbox.unsent() == 0 {
            if self.is_told_to_leave {
                return Err("idle for too long");
            }
            self.tell_to_leave(outbox);
        }
        if self.first_call_due <= now {
            return Err("its first call did not come");
        }
        next = next.min(due).min(idle_due).min(self.first_call_due);
        self.watch.looked(next);
        Ok(next)
    }

    fn dispatch(&mut self, frame: &mut RequestFrame, outbox: &Arc<Outbox>, turn: &mut Turn) {
        let is_legacy = self.decoder.mode() == Some(Mode::Legacy);
        let head = &frame.head;
        let shows_token_late = self.is_known && !head.auth_token().is_empty();
        if !self.is_known {
            self.is_known = true;
            if let (false, Some(ServerOwner { token, .. })) = (is_legacy, &outbox.server) {
                let due = turn.nanos.saturating_add(nanos_in(self.provider.config.idle_timeout));
                self.watch.watch_idle(self.received, due);
                self.watch.note_due(due, *token, turn, &outbox.reactor);
            }
            let middleware = &self.provider.config.middleware;
            let ask = || middleware.connected(self.peer, head.auth_token()).err();
            self.refused = shielded(&self.provider, ask).map(Box::new);
        }
        let form = match head.kind {
            Kind::Call if is_legacy => ReplyForm::Bare,
            Kind::Call => ReplyForm::Framed,
            Kind::OneWay => ReplyForm::None,
            Kind::Cancel => return self.in_flight.cancel(head.call_id),
            Kind::Ping => {
                // A peer that takes nothing is cut by the replies that it does not take.
                let _ = outbox.append(|buffer| put_pong(buffer, head.call_id));
                return outbox.finish();
            }
            Kind::Credit | Kind::Message | Kind::End => return self.dispatch_stream(frame, outbox),
            Kind::Unknown(kind) => {
                let text = format!("a frame of the unknown kind {kind}");
                let _ = outbox.append(|buffer| put_failure(buffer, head.call_id, Status::BadRequest, &text));
                return outbox.finish();
            }
        };
        if form == ReplyForm::Bare {
            outbox.legacy_begin();
        }
        self.begun += 1;
        let beyond = self.provider.call_begun();
        let timeout = self.provider.timeout_of(head.timeout_ms);
        let context = CallContext {
            connection_id: self.connection_id,
            peer: self.peer,
            legacy: is_legacy,
            timeout,
            arrived: turn.now,
            request_id: head.request_id,
            form,
            is_answered: false,
            args_bytes: args_bytes(frame),
            outbox: outbox.clone(),
            ticket: None,
        };
        let responder = Responder::new(head.call_id, context);
        if (beyond > 0 || self.provider.is_unread() || self.standing == Standing::Unproven)
            && let Some(text) = self.lack(head.service(), beyond)
        {
            return responder.fail(Status::Overloaded, &text);
        }
        if let Some(refused) = &self.refused {
            return responder.fail(refused.status, &refused.text);
        }
        if shows_token_late {
            return responder.fail(Status::Unauthenticated, "a token belongs to the first frame");
        }
        // Who can be told, if it was not its turn yet, is served what it sent before it knew.
        if self.provider.is_stopping() && !self.tell_to_leave(outbox) {
            return responder.fail(Status::ShuttingDown, "the server is stopping");
        }
        self.call_service(frame, responder, turn);
    }

    /// What a client has to say of a stream; of one that has ended it is late.
    fn dispatch_stream(&mut self, frame: &mut RequestFrame, outbox: &Outbox) {
        let Some(ServerOwner { streams, .. }) = &outbox.server else { return };
        let RequestHead { call_id, credit_bytes, kind, .. } = frame.head;
        let Some(state) = streams.get(call_id) else { return };
        match (kind, std::mem::replace(&mut frame.body, Ok(Bytes::new()))) {
            (Kind::Credit, _) => state.grant(credit_bytes),
            (Kind::End, _) => state.end(Ok(())),
            (_, Ok(message)) => {
                if !state.push(message) {
                    self.must_end = Some(MustEnd::BeyondCredit);
                }
            }
            (_, Err(bytes)) => {
                self.oversized.push((call_id, bytes));
                self.in_flight.cancel(call_id);
            }
        }
    }

    /// Lets the service have the call, if there is one and it may be called.
    fn call_service(&mut self, frame: &mut RequestFrame, mut responder: Responder, turn: &mut Turn) {
        let head = &frame.head;
        let Some(entry) = find(&self.services, head.service()) else {
            let text = format!("there is no service {}", String::from_utf8_lossy(head.service()));
            return responder.fail(Status::NoSuchService, &text);
        };
        let CallContext { legacy, timeout, request_id, .. } = *responder.context();
        if legacy && !entry.service.accepts_legacy() {
            return responder.fail(Status::PermissionDenied, "not for clients of the origin");
        }
        if let Err(bytes) = frame.body {
            let (status, text) = not_kept("arguments", bytes, &self.provider.config);
            return responder.fail(status, &text);
        }
        if !self.provider.config.middleware.is_empty()
            && let Some(Refused { status, text }) =
                shielded(&self.provider, || ask_middleware(&self.provider, frame, &mut responder))
        {
            return responder.fail(status, &text);
        }
        // A program of the origin waits for ever: only its service ends its calls.
        let due = if legacy { NEVER } else { turn.nanos.saturating_add(nanos_in(timeout)) };
        let places = (&mut self.in_flight, &mut self.watch);
        if !admit(places, &mut responder, head.call_id, due, turn) {
            return responder.fail(Status::Overloaded, "the connection has too many calls in flight");
        }
        // Relaxed: the reactor's thread is the only one to use it.
        if entry.called_in_turn.load(Ordering::Relaxed) != turn.number {
            entry.called_in_turn.store(turn.number, Ordering::Relaxed);
            turn.called.push(entry.clone());
        }
        let args = std::mem::replace(&mut frame.body, Ok(Bytes::new())).unwrap_or_default();
        let call = Call { method: head.method(), args, credit_bytes: head.credit_bytes };
        let inherited = Inherited { due, request_id };
        let reactor = &self.provider.reactor;
        reactor.shielded("a handler", || inherit::with(inherited, || entry.service.call(call, responder)));
    }
}
