//! A channel's middleware: asked before a call is entered, told when it has ended.

use std::time::Duration;

use super::channel::Method;
use super::core::Core;
use super::pending_call::Outcome;
use crate::error::RpcError;
use crate::middleware::{CallInfo, CallSide, Ended, Refused};
use crate::protocol::status::Status;
use crate::reactor::clock::Nanos;

/// What is kept of a call until it ends, where middleware is installed.
pub(crate) struct Observed {
    service: &'static str,
    method: &'static str,
    request_id: u64,
    args_bytes: usize,
    begun: Nanos,
}

impl Core {
    /// Asks the channel's middleware, if it has any.
    ///
    /// # Errors
    /// The refusal.
    pub(super) fn ask_middleware(
        &self,
        method: &Method,
        request_id: u64,
        args_bytes: usize,
        now: Nanos,
    ) -> Result<Option<Observed>, RpcError> {
        let middleware = &self.config.middleware;
        if middleware.is_empty() {
            return Ok(None);
        }
        let Method { service, name, .. } = *method;
        let observed = Observed { service, method: name, request_id, args_bytes, begun: now };
        match middleware.before(&self.info(&observed)) {
            Ok(()) => Ok(Some(observed)),
            Err(Refused { status, text }) => Err(RpcError::Refused { status, text }),
        }
    }

    /// Tells the channel's middleware how a call has ended.
    pub(super) fn tell_middleware(&self, observed: &Observed, outcome: &Outcome) {
        let status = match outcome {
            Ok(_) => Status::Ok,
            Err(RpcError::Status { status, .. } | RpcError::Refused { status, .. }) => *status,
            Err(RpcError::DeadlineExceeded { .. }) => Status::DeadlineExceeded,
            Err(RpcError::Cancelled { .. }) => Status::Cancelled,
            Err(_) => Status::Internal,
        };
        let took = Duration::from_nanos(self.reactor.world.turn_nanos().saturating_sub(observed.begun));
        self.config.middleware.after(&self.info(observed), &Ended { status, took, was_awaited: true });
    }

    fn info<'a>(&'a self, observed: &'a Observed) -> CallInfo<'a> {
        let Observed { service, method, request_id, args_bytes, .. } = *observed;
        CallInfo { side: CallSide::Client, service, method, peer: &self.address, request_id, args_bytes }
    }
}
