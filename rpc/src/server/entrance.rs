//! What stands before a service: who may enter, which place a call gets, what is said to those who may not.

use std::sync::Arc;

use bytes::Bytes;

use super::dispatcher::{MustEnd, ServerSide};
use super::in_flight::InFlight;
use super::provider::{ProviderCore, ServiceEntry, ServiceTable, Standing};
use super::responder::Responder;
use super::watch::Watch;
use crate::config::ProviderConfig;
use crate::error::RpcError;
use crate::middleware::Refused;
use crate::protocol::decoder::RequestFrame;
use crate::protocol::encoder::put_failure;
use crate::protocol::status::Status;
use crate::reactor::clock::{NEVER, Nanos};
use crate::reactor::outbox::{Outbox, ServerOwner};
use crate::reactor::turn::Turn;

/// Why what came, `arguments` or a message of a stream, was not kept, for its size.
pub(super) fn not_kept(what: &str, bytes: u64, config: &ProviderConfig) -> (Status, String) {
    if bytes > config.args_bytes_max as u64 {
        let max = config.args_bytes_max;
        return (Status::TooLarge, format!("{what} of {bytes} bytes, the maximum is {max}"));
    }
    let max = config.unfinished_bytes_max;
    (Status::Overloaded, format!("no room for {what} of {bytes} bytes: unfinished_bytes_max is {max}"))
}

/// Bytes of a call's arguments, in as many bits as its header has for them.
pub(super) fn args_bytes(frame: &RequestFrame) -> u32 {
    let bytes = frame.body.as_ref().map_or(0, Bytes::len);
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Asks a middleware. One that panics refuses.
pub(super) fn shielded(provider: &ProviderCore, ask: impl FnOnce() -> Option<Refused>) -> Option<Refused> {
    let mut answer = None;
    provider.reactor.shielded("a middleware", || answer = Some(ask()));
    answer.unwrap_or_else(|| {
        let text = "a middleware of the server panicked".to_owned();
        Some(Refused { status: Status::Internal, text })
    })
}

/// Asks the provider's middleware; its end will be told to those who let the call pass.
pub(super) fn ask_middleware(
    provider: &ProviderCore,
    frame: &RequestFrame,
    responder: &mut Responder,
) -> Option<Refused> {
    let names = frame.head.names();
    match provider.config.middleware.before(&responder.context().info(names)) {
        Ok(()) => {
            responder.observe(names.clone());
            None
        }
        Err(refused) => Some(refused),
    }
}

/// Gives the call a place among those in flight; not if the connection has too many.
pub(super) fn admit(
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
pub(super) fn answer_itself(outbox: &Arc<Outbox>, call_id: u64, status: Status, text: &str) {
    if let Some(ServerOwner { streams, .. }) = &outbox.server {
        streams.close(call_id, || Err(RpcError::Status { status, text: text.to_owned() }));
    }
    // A peer that takes nothing is cut by the replies that it does not take.
    let _ = outbox.append(|buffer| put_failure(buffer, call_id, status, text));
    outbox.finish();
}

/// Answers a call that is cancelled, or that ends because a message of its stream was not kept.
pub(super) fn answer_cancelled(
    outbox: &Arc<Outbox>,
    call_id: u64,
    oversized: &[(u64, u64)],
    config: &ProviderConfig,
) {
    match oversized.iter().find(|(oversized, _)| *oversized == call_id) {
        None => answer_itself(outbox, call_id, Status::Cancelled, "cancelled by its caller"),
        Some((_, bytes)) => {
            // Its handler has begun: a status that says it has not run would be a lie.
            let (_, text) = not_kept("a stream's message", *bytes, config);
            answer_itself(outbox, call_id, Status::Internal, &text);
        }
    }
}

pub(super) fn find<'a>(services: &'a ServiceTable, name: &[u8]) -> Option<&'a Arc<ServiceEntry>> {
    services.iter().find(|entry| entry.name == name)
}

impl ServerSide {
    /// Whether a service may use the provider's reserve.
    fn is_reserved(&self, service: &[u8]) -> bool {
        find(&self.services, service).is_some_and(|entry| entry.is_reserved)
    }

    /// Why a call may not even be looked at: what its provider has is given away.
    pub(super) fn lack(&mut self, service: &[u8], beyond: u64) -> Option<String> {
        if self.standing == Standing::Unproven {
            self.standing = match self.provider.take_ordinary_place() {
                true => Standing::Ordinary,
                false if self.is_reserved(service) => Standing::Reserved,
                false => {
                    self.must_end = Some(MustEnd::NoPlace);
                    let max = self.provider.config.connections_max;
                    return Some(format!("the server has {max} connections, connections_max"));
                }
            };
            self.first_call_due = NEVER;
        }
        let config = &self.provider.config;
        let is_reserved = self.is_reserved(service);
        if self.provider.is_unread() && !is_reserved {
            let max = config.unsent_bytes_total_max;
            return Some(format!("too many replies are not taken, unsent_bytes_total_max is {max}"));
        }
        let is_within = beyond == 0 || beyond <= config.reserve.calls as u64 && is_reserved;
        let max = config.calls_in_flight_max;
        (!is_within).then(|| format!("the server has too many calls in flight, calls_in_flight_max is {max}"))
    }

    /// What all connections together may hold when this one wants more.
    pub(super) fn unfinished_bytes_max(&self) -> u64 {
        let ProviderConfig { unfinished_bytes_max, reserve, .. } = &self.provider.config;
        let may_use_reserve =
            self.decoder.unfinished_head().is_some_and(|head| self.is_reserved(head.service()));
        (unfinished_bytes_max + if may_use_reserve { reserve.unfinished_bytes } else { 0 }) as u64
    }
}
