//! The reading end of a stream, on either side.

use std::marker::PhantomData;
use std::sync::Arc;

use prost::Message;

use super::carrier::Carrier;
use super::state::{StreamState, Taken};
use crate::client::core::Core;
use crate::error::RpcError;
use crate::reactor::clock;

/// Reads the messages of one direction of a stream: a client the replies, a handler the requests. What is not read stays with
/// the writer, up to a window.
///
/// A client that drops it before the end cancels the call. A handler may drop it when it has heard enough.
#[must_use = "a client that drops it cancels the call"]
pub struct StreamReader<M> {
    state: Arc<StreamState>,
    carrier: Carrier,
    /// The client's channel; `None` at a handler.
    caller: Option<Arc<Core>>,
    message: PhantomData<fn() -> M>,
}

/// What [`StreamReader::try_next`] finds.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamItem<M> {
    /// A message.
    Message(M),
    /// The writer has said all.
    End,
    /// Nothing has come yet.
    Nothing,
}

impl<M: Message + Default> StreamReader<M> {
    pub(crate) fn new(state: Arc<StreamState>, carrier: Carrier, caller: Option<Arc<Core>>) -> Self {
        StreamReader { state, carrier, caller, message: PhantomData }
    }

    /// Waits for the next message; `None` is the end.
    ///
    /// # Errors
    /// Why the stream broke off: nothing more comes. [`RpcError::BadReply`] if what came is no message of this type.
    ///
    /// # Panics
    /// On a reactor's thread, which must not wait: there is [`StreamReader::try_next`].
    #[expect(clippy::should_implement_trait, reason = "an error may follow an error: it is no iterator")]
    pub fn next(&mut self) -> Result<Option<M>, RpcError> {
        assert!(!clock::is_reactor_thread(), "waiting on a reactor's thread would stop it: use try_next");
        let taken = match self.state.take() {
            Taken::Nothing => {
                // What a corked scope holds back may be what the writer waits for.
                self.carrier.outbox.flush();
                self.carrier.outbox.reactor.world.runs_until(|| self.state.has_news());
                self.state.wait_and_take()
            }
            taken => taken,
        };
        match self.sort(taken)? {
            StreamItem::Message(message) => Ok(Some(message)),
            StreamItem::End | StreamItem::Nothing => Ok(None),
        }
    }

    /// What is there now.
    ///
    /// # Errors
    /// As [`StreamReader::next`].
    pub fn try_next(&mut self) -> Result<StreamItem<M>, RpcError> {
        self.sort(self.state.take())
    }

    /// Has `observer` told when there may be something for [`StreamReader::try_next`], and at once: on the thread that brings
    /// it, most often the reactor's. It must not block, and is forgotten when the call ends. It takes the place of an
    /// earlier one, which may be that of the stream's other direction.
    pub fn on_ready(&self, observer: impl Fn() + Send + Sync + 'static) {
        let reactor = self.carrier.outbox.reactor.clone();
        self.state.observe(Arc::new(move || reactor.shielded("a stream's observer", &observer)));
    }

    fn sort(&self, taken: Taken) -> Result<StreamItem<M>, RpcError> {
        match taken {
            Taken::Message(bytes, granted) => {
                if granted > 0 {
                    self.carrier.grant(granted);
                }
                let bad = |error: prost::DecodeError| RpcError::BadReply { cause: error.to_string() };
                M::decode(bytes).map(StreamItem::Message).map_err(bad)
            }
            Taken::End(outcome) => outcome.map(|()| StreamItem::End),
            Taken::Nothing => Ok(StreamItem::Nothing),
        }
    }
}

impl<M> Drop for StreamReader<M> {
    fn drop(&mut self) {
        self.state.turn_deaf();
        if let Some(core) = &self.caller
            && !self.state.has_ended()
        {
            core.cancel(self.carrier.call_id);
        }
    }
}
