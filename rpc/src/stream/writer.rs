//! The writing ends of a stream: a client's of requests, a handler's of replies.

use std::sync::Arc;

use prost::Message;

use super::carrier::Carrier;
use super::state::StreamState;
use crate::client::core::Core;
use crate::error::RpcError;
use crate::protocol::payload::{LargestLast, TakeApart};
use crate::protocol::status::Status;
use crate::reactor::clock;
use crate::server::responder::Responder;
use crate::server::service::CallContext;

/// Sends the messages of one direction of a stream: a client its requests, or, as a [`ReplyStream`], a handler its replies.
/// To be ended by `end`, or by a handler's `fail`: dropping it before breaks the stream off, so that a writer that gives up
/// is not taken for one that has said all. A client's drop cancels the call, a handler's answers `INTERNAL`.
#[must_use = "dropping it breaks the stream off"]
pub struct StreamWriter<M, E = Requests> {
    state: Arc<StreamState>,
    carrier: Carrier,
    end: E,
    take_apart: Option<TakeApart<M>>,
}

/// Answers a call with a stream of replies.
pub type ReplyStream<M> = StreamWriter<M, Replies>;

/// What a client's [`StreamWriter`] ends in.
pub struct Requests {
    caller: Arc<Core>,
    call_id: u64,
    has_ended: bool,
}

impl Drop for Requests {
    fn drop(&mut self) {
        if !self.has_ended {
            self.caller.cancel(self.call_id);
        }
    }
}

/// What a handler's [`ReplyStream`] ends in.
pub struct Replies {
    responder: Responder,
}

impl<M: Message, E> StreamWriter<M, E> {
    fn with_end(state: Arc<StreamState>, carrier: Carrier, end: E) -> Self {
        StreamWriter { state, carrier, end, take_apart: None }
    }

    /// Has the largest field of bytes of each message leave uncopied. Generated code uses this.
    pub fn largest_last(self, take_apart: TakeApart<M>) -> Self {
        StreamWriter { take_apart: Some(take_apart), ..self }
    }

    /// Sends a message for which credit has been spent.
    fn pass_on(&self, message: &M, body_bytes: usize) -> Result<(), RpcError> {
        let passed = match self.take_apart {
            Some(take_apart) => self.carrier.send(&LargestLast::new(message, take_apart), body_bytes),
            None => self.carrier.send(message, body_bytes),
        };
        if matches!(passed, Err(RpcError::Busy { .. })) {
            self.state.unspend(body_bytes);
        }
        passed
    }

    /// Sends a message, waiting while the reader has no room for it.
    ///
    /// # Errors
    /// Why nothing can be sent any more. [`RpcError::StreamEnded`]: the call has been answered. [`RpcError::TooLarge`] and
    /// [`RpcError::Busy`], when the connection has as much to send as it may, are of this message only.
    ///
    /// # Panics
    /// On a reactor's thread, where handlers run and which must not wait: there is [`StreamWriter::try_send`].
    pub fn send(&mut self, message: &M) -> Result<(), RpcError> {
        assert!(!clock::is_reactor_thread(), "waiting on a reactor's thread would stop it: use try_send");
        let body_bytes = message.encoded_len();
        self.carrier.check(body_bytes)?;
        if !self.state.spend(body_bytes)? {
            // What a corked scope holds back may be what the reader waits for.
            self.carrier.outbox.flush();
            self.carrier.outbox.reactor.world.runs_until(|| self.state.may_be_spent());
            self.state.wait_and_spend(body_bytes)?;
        }
        self.pass_on(message, body_bytes)
    }

    /// Sends a message if the reader has room for it, which is the answer.
    ///
    /// # Errors
    /// As [`StreamWriter::send`].
    pub fn try_send(&mut self, message: &M) -> Result<bool, RpcError> {
        let body_bytes = message.encoded_len();
        self.carrier.check(body_bytes)?;
        if !self.state.spend(body_bytes)? {
            return Ok(false);
        }
        self.pass_on(message, body_bytes).map(|()| true)
    }

    /// Has `observer` told when [`StreamWriter::try_send`] may be worth another try, and at once; as
    /// [`StreamReader::on_ready`](crate::StreamReader::on_ready).
    pub fn on_ready(&self, observer: impl Fn() + Send + Sync + 'static) {
        let reactor = self.carrier.outbox.reactor.clone();
        self.state.observe(Arc::new(move || reactor.shielded("a stream's observer", &observer)));
    }
}

impl<M: Message> StreamWriter<M> {
    pub(crate) fn new(state: Arc<StreamState>, carrier: Carrier, caller: Arc<Core>) -> StreamWriter<M> {
        let end = Requests { caller, call_id: carrier.call_id, has_ended: false };
        StreamWriter::with_end(state, carrier, end)
    }

    /// Says that all messages have been sent.
    pub fn end(mut self) {
        self.end.has_ended = true;
        self.state.close_sending();
        self.carrier.end();
    }
}

impl<M: Message> ReplyStream<M> {
    pub(crate) fn of_handler(
        state: Arc<StreamState>,
        carrier: Carrier,
        responder: Responder,
    ) -> ReplyStream<M> {
        StreamWriter::with_end(state, carrier, Replies { responder })
    }

    /// Says that all messages have been sent: the call has succeeded.
    pub fn end(self) {
        self.state.close_sending();
        self.end.responder.send(&());
    }

    /// Breaks off. Messages sent before are read before this is seen.
    pub fn fail(self, status: Status, text: &str) {
        self.state.close_sending();
        self.end.responder.fail(status, text);
    }

    /// Who asks, and for how long.
    pub fn context(&self) -> &CallContext {
        self.end.responder.context()
    }
}
