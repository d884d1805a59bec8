//! One server connection's calls: from bytes to the right service.
//!
//! Here stand the rules of who may call what and how much at a time; the socket is `reactor/connection`'s, the answer is
//! the `responder`'s. Every call that is begun gets a responder, refusals included, so that each is answered once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::in_flight::InFlight;
use super::provider::{ProviderCore, ServiceEntry, ServiceTable};
use super::responder::{ReplyForm, Responder};
use super::service::{Call, CallContext};
use super::watch::Watch;
use crate::inherit::{self, Inherited};
use crate::middleware::{CallSide, Observed, Refused};
use crate::protocol::decoder::{Mode, Refusal, RequestDecoder, RequestFrame};
use crate::protocol::encoder::{put_failure, put_going_away, put_pong};
use crate::protocol::frames::BodyLimits;
use crate::protocol::header::Kind;
use crate::protocol::status::Status;
use crate::reactor::clock::{NEVER, Nanos, nanos_in};
use crate::reactor::outbox::{Outbox, ServerOwner};
use crate::reactor::poll_loop::Turn;

/// The server's half of a connection.
pub(crate) struct ServerSide {
    pub(crate) provider: Arc<ProviderCore>,
    connection_id: u64,
    peer: SocketAddr,
    decoder: RequestDecoder,
    services: ServiceTable,
    services_version: u64,
    /// The first frame has come, and the provider's middleware has been asked about its token.
    is_known: bool,
    /// Why it refuses all calls of the connection.
    refused: Option<Box<Refused>>,
    /// The peer knows that the provider is stopping and sends its calls elsewhere. Those that were on their way are served.
    is_told_to_leave: bool,
    /// Calls begun on this connection.
    begun: u64,
    in_flight: InFlight,
    watch: Watch,
}

impl ServerSide {
    pub(crate) fn new(provider: Arc<ProviderCore>, connection_id: u64, peer: SocketAddr) -> ServerSide {
        let kept_max = provider.config.args_bytes_max as u64;
        let skipped_max = kept_max.max(provider.config.skipped_bytes_max as u64);
        let decoder = RequestDecoder::with_limits(BodyLimits { kept_max, skipped_max });
        let in_flight = InFlight::new(provider.config.calls_in_flight_per_connection_max);
        ServerSide {
            provider,
            connection_id,
            peer,
            decoder,
            services: ServiceTable::default(),
            services_version: 0,
            is_known: false,
            is_told_to_leave: false,
            refused: None,
            begun: 0,
            in_flight,
            watch: Watch::default(),
        }
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Calls that are not answered yet.
    pub(crate) fn calls_in_flight(&self, outbox: &Outbox) -> u64 {
        self.begun - outbox.answered()
    }

    /// The provider is stopping: a peer of ours is told, and closes when its last call is answered.
    pub(crate) fn tell_to_leave(&mut self, outbox: &Arc<Outbox>) {
        if self.decoder.mode() == Some(Mode::Own) && !self.is_told_to_leave {
            self.is_told_to_leave = outbox.append(put_going_away).is_ok();
            outbox.finish();
        }
    }

    /// Whether the end of the connection is the peer's to make.
    pub(crate) fn is_told_to_leave(&self) -> bool {
        self.is_told_to_leave
    }

    /// Where to receive next: see [`RequestDecoder::room`] and [`RequestDecoder::expects_large`].
    pub(crate) fn room(&mut self) -> (Option<&mut Vec<u8>>, bool) {
        let expects_large = self.decoder.expects_large();
        (self.decoder.room(), expects_large)
    }

    pub(crate) fn received(&mut self) {
        self.decoder.received();
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.decoder.feed(bytes);
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

    /// Dispatches all whole frames that are buffered; of an origin client's only as many as may be outstanding.
    ///
    /// # Errors
    /// When the stream is refused.
    pub(crate) fn dispatch_buffered(&mut self, outbox: &Arc<Outbox>, turn: &mut Turn) -> Result<(), Refusal> {
        if let Some(services) = self.provider.services_since(&mut self.services_version) {
            self.services = services;
        }
        let outcome = self.dispatch_frames(outbox, turn);
        let Some(ServerOwner { stages, .. }) = &outbox.server else { return outcome };
        self.in_flight.end_cancelled(stages, |call_id| {
            answer_itself(outbox, call_id, Status::Cancelled, "cancelled by its caller");
        });
        outcome
    }

    fn dispatch_frames(&mut self, outbox: &Arc<Outbox>, turn: &mut Turn) -> Result<(), Refusal> {
        while self.decoder.has_buffered() {
            if self.must_wait(outbox) {
                return Ok(());
            }
            let Some(mut frame) = self.decoder.next_frame()? else { return Ok(()) };
            turn.has_dispatched = true;
            self.dispatch(&mut frame, outbox, turn);
        }
        Ok(())
    }

    /// Answers the calls whose deadline has passed. Returns when to look again.
    ///
    /// # Errors
    /// Why the connection must end.
    pub(crate) fn expire(&mut self, now: Nanos, outbox: &Arc<Outbox>) -> Result<Nanos, &'static str> {
        let Some(ServerOwner { stages, .. }) = &outbox.server else { return Ok(NEVER) };
        let mut next = self.in_flight.end_late(now, stages, |call_id| {
            answer_itself(outbox, call_id, Status::DeadlineExceeded, "the caller's time is over");
        });
        let timeout = nanos_in(self.provider.config.stalled_timeout);
        let Some(due) = self.watch.check_stall(now, timeout, outbox.progress()) else {
            log::warn!("{} does not read its replies: connection cut", self.peer);
            return Err("the peer does not read its replies");
        };
        next = next.min(due);
        self.watch.looked(next);
        Ok(next)
    }

    fn dispatch(&mut self, frame: &mut RequestFrame, outbox: &Arc<Outbox>, turn: &mut Turn) {
        let is_legacy = self.decoder.mode() == Some(Mode::Legacy);
        let head = &frame.head;
        let shows_token_late = self.is_known && !head.auth_token().is_empty();
        if !self.is_known {
            self.is_known = true;
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
        let has_room = self.provider.call_begun();
        let timeout = match head.timeout_ms {
            0 => self.provider.default_timeout(),
            timeout_ms => Duration::from_millis(timeout_ms),
        };
        let context = CallContext {
            connection_id: self.connection_id,
            peer: self.peer,
            legacy: is_legacy,
            timeout,
            arrived: turn.now,
            request_id: head.request_id,
            form,
            is_answered: false,
            outbox: outbox.clone(),
            ticket: None,
        };
        let responder = Responder::new(head.call_id, context);
        if !has_room {
            return responder.fail(Status::Overloaded, "the server has too many calls in flight");
        }
        if let Some(refused) = &self.refused {
            return responder.fail(refused.status, &refused.text);
        }
        if shows_token_late {
            return responder.fail(Status::Unauthenticated, "a token belongs to the first frame");
        }
        if self.provider.is_stopping() && !self.is_told_to_leave {
            return responder.fail(Status::ShuttingDown, "the server is stopping");
        }
        self.call_service(frame, responder, turn);
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
            let max = self.provider.config.args_bytes_max;
            return responder
                .fail(Status::BadRequest, &format!("arguments of {bytes} bytes, the maximum is {max}"));
        }
        if !self.provider.config.middleware.is_empty()
            && let Some(Refused { status, text }) =
                shielded(&self.provider, || ask_middleware(&self.provider, entry, frame, &mut responder))
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
        let call = Call { method: head.method(), args };
        let inherited = Inherited { due, request_id };
        let reactor = &self.provider.reactor;
        reactor.shielded("a handler", || inherit::with(inherited, || entry.service.call(call, responder)));
    }
}

/// Asks a middleware. One that panics refuses.
fn shielded(provider: &ProviderCore, ask: impl FnOnce() -> Option<Refused>) -> Option<Refused> {
    let text = "a middleware of the server panicked".to_owned();
    let mut refused = Some(Refused { status: Status::Internal, text });
    provider.reactor.shielded("a middleware", || refused = ask());
    refused
}

/// Asks the provider's middleware; its end will be told to those who let the call pass.
fn ask_middleware(
    provider: &ProviderCore,
    entry: &ServiceEntry,
    frame: &RequestFrame,
    responder: &mut Responder,
) -> Option<Refused> {
    let mut observed = Box::new(Observed {
        service: entry.service.name().to_owned(),
        method: std::str::from_utf8(frame.head.method()).unwrap_or("?").to_owned(),
        request_id: frame.head.request_id,
        args_bytes: frame.body.as_ref().map_or(0, Bytes::len),
        begun: Instant::now(),
        passed: 0,
    });
    let info = observed.info(CallSide::Server, &responder.context().peer);
    let (passed, refused) = provider.config.middleware.before(&info);
    observed.passed = passed;
    responder.observe(observed);
    refused
}

/// Gives the call a place among those in flight; not if the connection has too many.
fn admit(
    (in_flight, watch): (&mut InFlight, &mut Watch),
    responder: &mut Responder,
    call_id: u64,
    due: Nanos,
    turn: &mut Turn,
) -> bool {
    let wants_reply = responder.wants_reply();
    let context = responder.context_mut();
    let Some(ServerOwner { stages, token, .. }) = &context.outbox.server else { return false };
    let Some(ticket) = in_flight.begin(call_id, due, wants_reply, (&context.outbox, stages)) else {
        return false;
    };
    if in_flight.note_due(due) {
        watch.note_due(due, *token, turn, &context.outbox.reactor);
    }
    context.ticket = Some(ticket);
    true
}

/// Answers a call in its handler's place.
fn answer_itself(outbox: &Arc<Outbox>, call_id: u64, status: Status, text: &str) {
    // A peer that takes nothing is cut by the replies that it does not take.
    let _ = outbox.append(|buffer| put_failure(buffer, call_id, status, text));
    outbox.finish();
}

fn find<'a>(services: &'a ServiceTable, name: &[u8]) -> Option<&'a Arc<ServiceEntry>> {
    services.iter().find(|entry| entry.name == name)
}
