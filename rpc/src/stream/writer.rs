//! The writing ends of a stream: a client's of requests, a handler's of replies.

use std::marker::PhantomData;
use std::sync::Arc;

use prost::Message;

use super::carrier::Carrier;
use super::state::StreamState;
use crate::client::core::Core;
use crate::error::RpcError;
use crate::protocol::status::Status;
use crate::reactor::clock;
use crate::server::responder::Responder;
use crate::server::service::CallContext;

/// What both have in common.
struct Writer {
    state: Arc<StreamState>,
    carrier: Carrier,
}

impl Writer {
    fn send<M: Message>(&self, message: &M) -> Result<(), RpcError> {
        assert!(!clock::is_reactor_thread(), "waiting on a reactor's thread would stop it: use try_send");
        let body_bytes = message.encoded_len();
        self.carrier.check(body_bytes)?;
        if !self.state.spend(body_bytes)? {
            // What a corked scope holds back may be what the reader waits for.
            self.carrier.outbox.flush();
            self.carrier.outbox.reactor.world.runs_until(|| self.state.may_be_spent());
            self.state.wait_and_spend(body_bytes)?;
        }
        self.carrier.send(message, body_bytes)
    }

    fn try_send<M: Message>(&self, message: &M) -> Result<bool, RpcError> {
        let body_bytes = message.encoded_len();
        self.carrier.check(body_bytes)?;
        if !self.state.spend(body_bytes)? {
            return Ok(false);
        }
        self.carrier.send(message, body_bytes).map(|()| true)
    }

    fn on_ready(&self, observer: impl Fn() + Send + Sync + 'static) {
        let reactor = self.carrier.outbox.reactor.clone();
        self.state.observe(Arc::new(move || reactor.shielded("a stream's observer", &observer)));
    }
}

/// Sends a client's stream of requests. To be ended by [`StreamWriter::end`]: dropping it before cancels the call, so that
/// a caller that breaks off is not taken for one that has said all.
#[must_use = "dropping it cancels the call"]
pub struct StreamWriter<M> {
    writer: Writer,
    caller: Arc<Core>,
    has_ended: bool,
    message: PhantomData<fn(M)>,
}

impl<M: Message> StreamWriter<M> {
    pub(crate) fn new(state: Arc<StreamState>, carrier: Carrier, caller: Arc<Core>) -> StreamWriter<M> {
        StreamWriter { writer: Writer { state, carrier }, caller, has_ended: false, message: PhantomData }
    }

    /// Sends a message, waiting while the server has no room for it.
    ///
    /// # Errors
    /// Why nothing can be sent any more, or [`RpcError::TooLarge`] for this message. [`RpcError::StreamEnded`]: the server
    /// has answered.
    ///
    /// # Panics
    /// On a reactor's thread, which must not wait: there is [`StreamWriter::try_send`].
    pub fn send(&mut self, message: &M) -> Result<(), RpcError> {
        self.writer.send(message)
    }

    /// Sends a message if the server has room for it, which is the answer.
    ///
    /// # Errors
    /// As [`StreamWriter::send`].
    pub fn try_send(&mut self, message: &M) -> Result<bool, RpcError> {
        self.writer.try_send(message)
    }

    /// Has `observer` told when [`StreamWriter::try_send`] may be worth another try, and at once; as
    /// [`StreamReader::on_ready`](crate::StreamReader::on_ready).
    pub fn on_ready(&self, observer: impl Fn() + Send + Sync + 'static) {
        self.writer.on_ready(observer);
    }

    /// Says that all messages have been sent.
    pub fn end(mut self) {
        self.has_ended = true;
        self.writer.state.close_sending();
        self.writer.carrier.end();
    }
}

impl<M> Drop for StreamWriter<M> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.caller.cancel(self.writer.carrier.call_id);
        }
    }
}

/// Answers a call with a stream of replies. To be ended by [`ReplyStream::end`] or [`ReplyStream::fail`]; dropping it
/// answers `INTERNAL`.
#[must_use = "dropping it answers INTERNAL"]
pub struct ReplyStream<M> {
    writer: Writer,
    responder: Responder,
    message: PhantomData<fn(M)>,
}

impl<M: Message> ReplyStream<M> {
    pub(crate) fn new(state: Arc<StreamState>, carrier: Carrier, responder: Responder) -> ReplyStream<M> {
        ReplyStream { writer: Writer { state, carrier }, responder, message: PhantomData }
    }

    /// Sends a message, waiting while the client has no room for it.
    ///
    /// # Errors
    /// Why nothing can be sent any more, or [`RpcError::TooLarge`] for this message.
    ///
    /// # Panics
    /// On a reactor's thread, where handlers run and which must not wait: there is [`ReplyStream::try_send`].
    pub fn send(&mut self, message: &M) -> Result<(), RpcError> {
        self.writer.send(message)
    }

    /// Sends a message if the client has room for it, which is the answer.
    ///
    /// # Errors
    /// As [`ReplyStream::send`].
    pub fn try_send(&mut self, message: &M) -> Result<bool, RpcError> {
        self.writer.try_send(message)
    }

    /// Has `observer` told when [`ReplyStream::try_send`] may be worth another try, and at once; as
    /// [`StreamReader::on_ready`](crate::StreamReader::on_ready).
    pub fn on_ready(&self, observer: impl Fn() + Send + Sync + 'static) {
        self.writer.on_ready(observer);
    }

    /// Says that all messages have been sent: the call has succeeded.
    pub fn end(self) {
        self.writer.state.close_sending();
        self.responder.send(&());
    }

    /// Breaks off. Messages sent before are read before this is seen.
    pub fn fail(self, status: Status, text: &str) {
        self.writer.state.close_sending();
        self.responder.fail(status, text);
    }

    /// Who asks, and for how long.
    pub fn context(&self) -> &CallContext {
        self.responder.context()
    }
}
