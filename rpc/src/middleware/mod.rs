//! What happens around every call, on either side, without the service or the caller knowing: who may call, what is
//! logged, what is counted.
//!
//! The same trait serves both sides. A side without any pays one look at an empty list per call. A middleware runs on the
//! thread that makes, dispatches or answers the call, so it must not block.

mod auth;
mod call_log;
mod metrics;

use std::fmt;
use std::net::SocketAddr;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

pub use auth::{AUTH_TOKEN_BYTES_MAX, AuthToken, TokenAuth};
pub use call_log::CallLog;
pub use metrics::{CallMetrics, MetricsSnapshot};

use crate::protocol::status::Status;

/// Looks at every call, and may refuse it.
pub trait Middleware: Send + Sync + 'static {
    /// Server: the first frame of a connection has come, with its token (empty if there is none; programs of the origin
    /// have none). Asked once per connection.
    ///
    /// # Errors
    /// All calls of the connection are answered with this refusal.
    fn connected(&self, peer: SocketAddr, token: &[u8]) -> Result<(), Refused> {
        let _ = (peer, token);
        Ok(())
    }

    /// A call is about to be sent (client) or to reach its handler (server).
    ///
    /// # Errors
    /// The call goes no further: its caller gets this refusal.
    fn before(&self, call: &CallInfo<'_>) -> Result<(), Refused> {
        let _ = call;
        Ok(())
    }

    /// A call that [`Middleware::before`] let pass has ended.
    fn after(&self, call: &CallInfo<'_>, ended: &Ended) {
        let _ = (call, ended);
    }
}

/// Why a call goes no further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What the caller is told.
    pub status: Status,
    /// For people.
    pub text: String,
}

/// Which side of a call is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallSide {
    /// The caller's.
    Client,
    /// The handler's.
    Server,
}

/// What a middleware is told of a call.
#[derive(Clone, Copy)]
pub struct CallInfo<'a> {
    /// Which side this is.
    pub side: CallSide,
    /// Short name of the service.
    pub service: &'a str,
    /// Name of the method; `?` if it is no text.
    pub method: &'a str,
    /// The other end: its socket address (server), or the address as the channel was given it (client).
    pub peer: &'a dyn fmt::Display,
    /// Goes with the call to the server, and from there with the calls that its handler makes; 0 where the caller, being
    /// without middleware, has given none.
    pub request_id: u64,
    /// Bytes of the serialized arguments.
    pub args_bytes: usize,
}

/// How a call has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// What the caller was told. A client's failure without an answer of the server is [`Status::DeadlineExceeded`],
    /// [`Status::Cancelled`] or else [`Status::Internal`].
    pub status: Status,
    /// From `before` to the end. A server's call begins with the poll turn that brought it; what a client begins or is
    /// answered on a reactor's thread has the time at which that turn began.
    pub took: Duration,
    /// Server: whether the caller still waited. If not, it had been told that the call was late or cancelled.
    pub was_awaited: bool,
}

/// The middleware of one side, outermost first. `before` is asked in this order, `after` told in the opposite one.
#[derive(Clone, Default)]
pub struct MiddlewareStack {
    layers: Vec<Arc<dyn Middleware>>,
}

impl MiddlewareStack {
    /// One with this layer more, innermost.
    #[must_use]
    pub fn with(mut self, layer: Arc<dyn Middleware>) -> MiddlewareStack {
        self.layers.push(layer);
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    pub(crate) fn connected(&self, peer: SocketAddr, token: &[u8]) -> Result<(), Refused> {
        self.layers.iter().try_for_each(|layer| layer.connected(peer, token))
    }

    /// Asks all layers, up to the first that refuses, or panics: then those before it are told of this end.
    pub(crate) fn before(&self, call: &CallInfo<'_>) -> Result<(), Refused> {
        for (passed, layer) in self.layers.iter().enumerate() {
            let answer = panic::catch_unwind(AssertUnwindSafe(|| layer.before(call)));
            let status = match &answer {
                Ok(Ok(())) => continue,
                Ok(Err(refused)) => refused.status,
                Err(_) => Status::Internal,
            };
            let ended = Ended { status, took: Duration::ZERO, was_awaited: true };
            self.layers[..passed].iter().rev().for_each(|layer| layer.after(call, &ended));
            return answer.unwrap_or_else(|panicked| panic::resume_unwind(panicked));
        }
        Ok(())
    }

    /// Tells the layers of the end of a call that all of them let pass.
    pub(crate) fn after(&self, call: &CallInfo<'_>, ended: &Ended) {
        self.layers.iter().rev().for_each(|layer| layer.after(call, ended));
    }
}

impl fmt::Debug for MiddlewareStack {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} layers", self.layers.len())
    }
}

/// A request's number that no other client of this machine is likely to have: the process in the upper half, counted in
/// the lower.
pub(crate) fn fresh_request_id() -> u64 {
    // Asking for the id is a system call: once, not at every call.
    static PROCESS: LazyLock<u64> = LazyLock::new(|| u64::from(std::process::id()) << 32);
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // Relaxed: a number only.
    *PROCESS | NEXT.fetch_add(1, Ordering::Relaxed) & u64::from(u32::MAX)
}
