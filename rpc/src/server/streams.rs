//! The streams that are open on one server's connection, and how a call becomes one.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;

use super::responder::{Reply, Responder};
use super::service::Call;
use crate::error::RpcError;
use crate::primitives::Mutex;
use crate::primitives::atomic::{AtomicBool, Ordering};
use crate::protocol::status::Status;
use crate::reactor::lock::lock;
use crate::reactor::outbox::ServerOwner;
use crate::stream::carrier::Carrier;
use crate::stream::reader::StreamReader;
use crate::stream::state::{FIRST_WINDOW_BYTES, StreamState};
use crate::stream::writer::ReplyStream;

/// By call id. No more than there are calls in flight: who answers a call takes its stream out.
#[derive(Default)]
pub(crate) struct Streams {
    /// There has been a stream on this connection; most have none.
    are_used: AtomicBool,
    open: Mutex<BTreeMap<u64, Arc<StreamState>>>,
}

impl Streams {
    fn open(&self, call_id: u64, credit: u64) -> Arc<StreamState> {
        let state = Arc::new(StreamState::new(FIRST_WINDOW_BYTES, credit));
        // Relaxed: the call is answered by nobody who has not got it from this thread.
        self.are_used.store(true, Ordering::Relaxed);
        let replaced = lock(&self.open).insert(call_id, state.clone());
        if let Some(replaced) = replaced {
            // Nothing that comes can be told to be for it any more.
            let text = "another call has taken its number".to_owned();
            replaced.close(Err(RpcError::Status { status: Status::BadRequest, text }));
        }
        state
    }

    pub(crate) fn get(&self, call_id: u64) -> Option<Arc<StreamState>> {
        lock(&self.open).get(&call_id).cloned()
    }

    /// The call has ended, and its stream with it if it is one.
    #[inline]
    pub(crate) fn close(&self, call_id: u64, outcome: impl FnOnce() -> Result<(), RpcError>) {
        if self.are_used.load(Ordering::Relaxed) {
            let state = lock(&self.open).remove(&call_id);
            if let Some(state) = state {
                state.close(outcome());
            }
        }
    }

    /// The connection has ended.
    pub(crate) fn close_all(&self, why: &RpcError) {
        let open = std::mem::take(&mut *lock(&self.open));
        open.into_values().for_each(|state| state.close(Err(why.clone())));
    }
}

/// A call that has become a stream.
struct Opened {
    state: Arc<StreamState>,
    carrier: Carrier,
    responder: Responder,
}

impl Opened {
    fn requests<A: Message + Default>(&self) -> StreamReader<A> {
        StreamReader::new(self.state.clone(), self.carrier.clone(), None)
    }

    fn replies<M: Message>(self) -> ReplyStream<M> {
        ReplyStream::of_handler(self.state, self.carrier, self.responder)
    }
}

/// Makes a stream of a call, if its caller can read one.
fn open(call: &Call<'_>, responder: Responder) -> Option<Opened> {
    if !responder.wants_framed_reply() {
        responder.fail(Status::PermissionDenied, "a stream needs a caller that is told of its end");
        return None;
    }
    let outbox = responder.context().outbox.clone();
    let ServerOwner { provider, streams, .. } = outbox.server.as_ref()?;
    let state = streams.open(responder.call_id(), call.credit_bytes);
    let message_bytes_max = provider.config.reply_bytes_max;
    let carrier = Carrier { call_id: responder.call_id(), message_bytes_max, outbox: outbox.clone() };
    Some(Opened { state, carrier, responder })
}

/// Decodes a call's arguments for a method that answers with a stream. Generated dispatchers use this.
pub fn dispatch_server_stream<A, M>(
    call: Call<'_>,
    responder: Responder,
    method: impl FnOnce(A, ReplyStream<M>),
) where
    A: Message + Default,
    M: Message,
{
    match A::decode(call.args.clone()) {
        Ok(request) => {
            if let Some(opened) = open(&call, responder) {
                opened.state.end(Ok(()));
                method(request, opened.replies());
            }
        }
        Err(error) => responder.fail(Status::BadRequest, &format!("the arguments cannot be read: {error}")),
    }
}

/// Begins a method whose requests are a stream. Generated dispatchers use this.
pub fn dispatch_client_stream<A: Message + Default, M: Message>(
    call: Call<'_>,
    responder: Responder,
    method: impl FnOnce(StreamReader<A>, Reply<M>),
) {
    if let Some(opened) = open(&call, responder) {
        method(opened.requests(), Reply::new(opened.responder));
    }
}

/// Begins a method whose requests and replies are streams. Generated dispatchers use this.
pub fn dispatch_both_ways<A: Message + Default, M: Message>(
    call: Call<'_>,
    responder: Responder,
    method: impl FnOnce(StreamReader<A>, ReplyStream<M>),
) {
    if let Some(opened) = open(&call, responder) {
        method(opened.requests(), opened.replies());
    }
}
