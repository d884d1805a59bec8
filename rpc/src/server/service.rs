//! What a user implements to be called, usually by way of generated code.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;

use super::in_flight::Ticket;
use super::responder::{Reply, ReplyForm, Responder};
use crate::inherit::{self, Inherited};
use crate::middleware::{CallInfo, CallSide};
use crate::protocol::call_names::CallNames;
use crate::protocol::status::Status;
use crate::reactor::clock::{NEVER, nanos_in, nanos_of};
use crate::reactor::outbox::{Outbox, ServerOwner};

/// A service by name, as a provider knows it. Generated dispatchers implement this.
pub trait Service: Send + Sync + 'static {
    /// The short name on the wire, e.g. `kvServerRpc`. Must never change.
    fn name(&self) -> &str;

    /// Whether clients of the origin (one call at a time, bare replies) may call this service. If not, they get the
    /// single byte `0x00`.
    fn accepts_legacy(&self) -> bool {
        true
    }

    /// Takes a call. Runs on the reactor's thread and must not block: whoever has the answer later uses `responder`.
    ///
    /// A panic in here is caught; the call is answered `INTERNAL`.
    fn call(&self, call: Call<'_>, responder: Responder);

    /// Whether a method's requests or replies are a stream.
    fn is_stream(&self, method: &[u8]) -> bool {
        let _ = method;
        false
    }

    /// Called once after each poll turn in which [`Service::call`] was called: what was collected goes on as one batch.
    fn end_of_turn(&self) {}
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// Name of the method.
    pub method: &'a [u8],
    /// The serialized arguments, a slice of the receive buffer: it pins up to 64 KiB around it until dropped.
    pub args: Bytes,
    /// Of a stream: bytes that the caller can take before it gives credit.
    pub(crate) credit_bytes: u64,
}

/// Who asks, for how long, and whether it still waits. [`Responder::context`] has it.
#[derive(Clone)]
pub struct CallContext {
    /// The connection's number: unique in this process, never reused.
    pub connection_id: u64,
    /// The other end.
    pub peer: SocketAddr,
    /// Whether the caller is a program of the origin.
    pub legacy: bool,
    /// What was left of the caller's deadline when the call arrived.
    pub timeout: Duration,
    /// When the poll turn that brought the call began.
    pub arrived: Instant,
    /// The request that the call belongs to, where the caller has said; else 0.
    pub request_id: u64,
    pub(crate) form: ReplyForm,
    /// The responder has been used; a clone of its context does not know.
    pub(crate) is_answered: bool,
    /// Bytes of the arguments, for middleware.
    pub(crate) args_bytes: u32,
    pub(crate) outbox: Arc<Outbox>,
    /// Its place among the calls in flight; a refused call has none.
    pub(crate) ticket: Option<Ticket>,
}

impl CallContext {
    /// What is left of the caller's time now. When it is over, the server answers `DEADLINE_EXCEEDED` and what the
    /// handler says is dropped. A program of the origin waits for ever: its calls are told the server's default, which
    /// nobody enforces.
    pub fn remaining(&self) -> Duration {
        self.timeout.saturating_sub(self.passed())
    }

    /// The time since the call arrived.
    pub(crate) fn passed(&self) -> Duration {
        self.outbox.reactor.world.now().saturating_duration_since(self.arrived)
    }

    /// Whether an answer would be in vain: the caller has cancelled the call or its time is over, its connection has
    /// ended, or the call has been answered. For handlers that work long; it costs a lock.
    pub fn is_cancelled(&self) -> bool {
        let Some(ServerOwner { stages, .. }) = &self.outbox.server else { return true };
        let is_pending = self.ticket.is_some_and(|ticket| stages.is_pending(ticket));
        !is_pending || !self.legacy && self.remaining().is_zero() || self.outbox.is_closed()
    }

    /// What the provider's middleware is told of the call.
    pub(crate) fn info<'a>(&'a self, names: &'a CallNames) -> CallInfo<'a> {
        CallInfo {
            side: CallSide::Server,
            service: names.service.text(),
            method: names.method.text(),
            peer: &self.peer,
            request_id: self.request_id,
            args_bytes: self.args_bytes as usize,
        }
    }

    /// Runs `f` with this call's deadline: a channel gives the calls begun inside no more time than this call has left.
    /// Around a handler this is done already; it is for those who go on with the call on another thread.
    pub fn scope<R>(&self, f: impl FnOnce() -> R) -> R {
        let due =
            if self.legacy { NEVER } else { nanos_of(self.arrived).saturating_add(nanos_in(self.timeout)) };
        inherit::with(Inherited { due, request_id: self.request_id }, f)
    }
}

impl fmt::Debug for CallContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CallContext")
            .field("connection_id", &self.connection_id)
            .field("peer", &self.peer)
            .field("legacy", &self.legacy)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Decodes a call's arguments for `method`, or answers `BAD_REQUEST`. Generated dispatchers use this.
#[inline]
pub fn dispatch<A, M>(call: Call<'_>, responder: Responder, method: impl FnOnce(A, Reply<M>))
where
    A: Message + Default,
    M: Message,
{
    match A::decode(call.args) {
        Ok(request) => method(request, Reply::new(responder)),
        Err(error) => responder.fail(Status::BadRequest, &format!("the arguments cannot be read: {error}")),
    }
}

/// Answers `NO_SUCH_METHOD`. Generated dispatchers use this.
pub fn no_such_method(call: &Call<'_>, responder: Responder) {
    let text = format!("the service has no method {}", String::from_utf8_lossy(call.method));
    responder.fail(Status::NoSuchMethod, &text);
}
