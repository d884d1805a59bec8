//! Calls that nobody answers.

use std::sync::Arc;

use bytes::Bytes;

use super::channel::{Method, RpcChannel};
use super::core::{Core, timeout_ms};
use crate::error::RpcError;
use crate::inherit::Inherited;
use crate::protocol::encoder::{Body, CallFields, put_call_head};
use crate::protocol::status::Status;
use crate::reactor::appending::payload;
use crate::reactor::clock::{Nanos, nanos_in};
use crate::reactor::lock::lock;
use crate::reactor::mailbox::Command;

/// The kind of a call that gets no reply.
const ONE_WAY: u64 = 3;

impl RpcChannel {
    /// Sends a call that gets no reply. It happens at most once, and nobody is told whether it does: not when the connection
    /// is lost, not when the server refuses it. Its handler is told the channel's default time-out.
    ///
    /// # Errors
    /// What keeps it from being sent here and now. Origin servers answer every call and are sent none of these.
    pub fn send_one_way<M: Body>(&self, method: &Method, args: &M) -> Result<(), RpcError> {
        self.core().send_one_way(method, args)
    }
}

impl Core {
    fn send_one_way(self: &Arc<Core>, method: &Method, body: &dyn Body) -> Result<(), RpcError> {
        if self.config.legacy {
            let text = "an origin server answers every call".to_owned();
            return Err(RpcError::Refused { status: Status::BadRequest, text });
        }
        let (inherited, now) = (self.inherited(), self.reactor.world.turn_nanos());
        let observed = self.ask_middleware(method, inherited.request_id, body.body_len(), now)?;
        let result = self.append_one_way(method, (inherited, now), body);
        if let Some(observed) = observed {
            let outcome = result.clone().map(|()| Bytes::new());
            self.reactor.shielded("a middleware", || self.tell_middleware(&observed, &outcome));
        }
        result
    }

    fn append_one_way(
        self: &Arc<Core>,
        method: &Method,
        (inherited, now): (Inherited, Nanos),
        body: &dyn Body,
    ) -> Result<(), RpcError> {
        let body_bytes = body.body_len();
        self.check_limits(method, body_bytes)?;
        let timeout = inherited.limit(nanos_in(self.config.default_timeout), now)?;
        let payload = payload(body, body_bytes);
        let mut state = lock(&self.state);
        let (outbox, must_connect) = self.outbox_for_call(&mut state, now)?;
        let auth_token = if must_connect { self.config.auth_token.bytes() } else { &[] };
        let fields = CallFields {
            auth_token,
            request_id: inherited.request_id,
            kind: ONE_WAY,
            ..CallFields::default()
        };
        let due = now.saturating_add(timeout);
        let appended = outbox.append_call(now, payload, |buffer, as_of| {
            let fields = CallFields { timeout_ms: timeout_ms(due, as_of), ..fields };
            put_call_head(buffer, method.names(), &fields, body_bytes);
        });
        let must_look = appended.is_ok() && state.tell(now);
        drop(state);
        if must_look {
            self.reactor.arm(now.saturating_add(self.keep_alive));
        }
        if must_connect {
            self.note_change();
            let stopped = RpcError::Stopped { may_have_run: false };
            self.reactor.post(Command::Connect(self.clone())).map_err(|_| stopped)?;
        }
        outbox.finish();
        appended.map(drop).map_err(|error| self.not_appended(error))
    }
}
