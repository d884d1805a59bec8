//! A channel's middleware: asked before a call is entered, told when it has ended.

use std::sync::Arc;

use super::channel::Method;
use super::core::Core;
use super::pending_call::{Completion, ObservedCall, Outcome};
use crate::error::RpcError;
use crate::middleware::{CallSide, Ended, Observed, Refused};
use crate::protocol::status::Status;

impl Core {
    /// Asks the channel's middleware. Returns a completion that tells it of the end; or the refusal.
    pub(super) fn ask_middleware(
        self: &Arc<Core>,
        method: &Method,
        request_id: u64,
        args_bytes: usize,
        completion: Completion,
    ) -> Result<Completion, (Completion, RpcError)> {
        let mut observed = Observed {
            service: method.service.to_owned(),
            method: method.name.to_owned(),
            request_id,
            args_bytes,
            begun: self.reactor.world.now(),
            passed: 0,
        };
        let middleware = &self.config.middleware;
        let (passed, refused) = middleware.before(&observed.info(CallSide::Client, &self.address()));
        observed.passed = passed;
        let completion =
            Completion::Observed(Box::new(ObservedCall { core: self.clone(), observed, completion }));
        match refused {
            None => Ok(completion),
            Some(Refused { status, text }) => Err((completion, RpcError::Refused { status, text })),
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
        let ended = Ended { status, took: observed.took(&self.reactor.world), was_awaited: true };
        self.config.middleware.after(
            observed.passed,
            &observed.info(CallSide::Client, &self.address()),
            &ended,
        );
    }
}
