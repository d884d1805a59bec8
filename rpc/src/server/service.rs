//! What a user implements to be called, usually by way of generated code.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;

use super::responder::{Reply, Responder};
use crate::protocol::status::Status;

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
    /// Who asks, and for how long.
    pub context: CallContext,
}

/// Who asks, and for how long.
#[derive(Debug, Clone)]
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
}

/// Decodes a call's arguments for `method`, or answers `BAD_REQUEST`. Generated dispatchers use this.
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
