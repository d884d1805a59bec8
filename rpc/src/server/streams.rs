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
        lock(&self.open).insert(call_id, state.clone());
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

/// Makes a stream of a call, if its caller can read one.
fn open(call: &Call<'_>, responder: Responder) -> Option<(Arc<StreamState>, Carrier, Responder)> {
    if !responder.wants_framed_reply() {
        responder.fail(Status::PermissionDenied, "a stream needs a caller that is told of its end");
        return None;
    }
    let outbox = responder.context().outbox.clone();
    let ServerOwner { provider, streams, .. } = outbox.server.as_ref()?;
    let state = streams.open(responder.call_id(), call.credit_bytes);
    let message_bytes_max = provider.config.reply_bytes_max;
    let carrier = Carrier { call_id: responder.call_id(), message_bytes_max, outbox: outbox.clone() };
    Some((state, carrier, responder))
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
            if let Some((state, carrier, responder)) = open(&call, responder) {
                state.end(Ok(()));
                method(request, ReplyStream::new(state, carrier, responder));
            }
        }
        Err(error) => responder.fail(Status::BadRequest, &format!("the arguments cannot be read: {error}")),
    }
}

/// Begins a method whose requests are a stream. Generated dispatchers use this.
pub fn dispatch_client_stream<A, M>(
    call: Call<'_>,
    responder: Responder,
    method: impl FnOnce(StreamReader<A>, Reply<M>),
) where
    A: Message + Default,
    M: Message,
{
    if let Some((state, carrier, responder)) = open(&call, responder) {
        method(StreamReader::new(state, carrier, None), Reply::new(responder));
    }
}

/// Begins a method whose requests and replies are streams. Generated dispatchers use this.
pub fn dispatch_both_ways<A, M>(
    call: Call<'_>,
    responder: Responder,
    method: impl FnOnce(StreamReader<A>, ReplyStream<M>),
) where
    A: Message + Default,
    M: Message,
{
    if let Some((state, carrier, responder)) = open(&call, responder) {
        let requests = StreamReader::new(state.clone(), carrier.clone(), None);
        method(requests, ReplyStream::new(state, carrier, responder));
    }
}
