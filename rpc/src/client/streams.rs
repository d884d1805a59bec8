//! Calls that are streams, as a client begins them.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::channel::{Method, PendingReply, RpcChannel};
use super::core::Core;
use super::pending_call::{Answered, BlockedCaller, Completion, Streamed};
use crate::controller::{RpcController, Whereabouts};
use crate::error::RpcError;
use crate::protocol::encoder::{Body, put_cancel};
use crate::protocol::reply_decoder::ReplyFrame;
use crate::reactor::lock::lock;
use crate::reactor::outbox::{Outbox, UnsentLimits};
use crate::stream::carrier::Carrier;
use crate::stream::reader::StreamReader;
use crate::stream::state::{FIRST_WINDOW_BYTES, StreamState};
use crate::stream::writer::StreamWriter;

/// A stream whose controller names no time-out lasts until it ends; this is what the server is told.
const UNLIMITED: Duration = Duration::from_millis(u32::MAX as u64);

/// What [`RpcChannel::begin_stream`] has made.
struct Begun {
    core: Arc<Core>,
    state: Arc<StreamState>,
    carrier: Carrier,
}

impl RpcChannel {
    /// Calls a method that answers with a stream of replies. It is sent once, whatever the channel's retry policy says, and
    /// has a deadline only if the controller names a time-out. Why it could not be begun is what the reader finds.
    pub fn call_server_stream<M, R>(
        &self,
        method: &Method,
        controller: &RpcController,
        args: &M,
    ) -> StreamReader<R>
    where
        M: Body,
        R: Message + Default,
    {
        let window = self.window();
        let Begun { core, state, carrier } = self.begin_stream(method, controller, args, window, None);
        StreamReader::new(state, carrier, Some(core))
    }

    /// Calls a method whose requests are a stream; otherwise like [`RpcChannel::call_server_stream`].
    pub fn call_client_stream<M, R>(
        &self,
        method: &Method,
        controller: &RpcController,
    ) -> (StreamWriter<M>, PendingReply<R>)
    where
        M: Message,
        R: Message + Default,
    {
        let caller = Arc::new(BlockedCaller::default());
        let then = Completion::Blocked(caller.clone());
        let Begun { core, state, carrier } = self.begin_stream(method, controller, &(), 0, Some(then));
        let pending = PendingReply {
            core: core.clone(),
            call_id: Some(carrier.call_id),
            caller,
            controller: controller.clone(),
            reply: PhantomData,
        };
        (StreamWriter::new(state, carrier, core), pending)
    }

    /// Calls a method whose requests and replies are streams; otherwise like [`RpcChannel::call_server_stream`].
    pub fn call_both_ways<M, R>(
        &self,
        method: &Method,
        controller: &RpcController,
    ) -> (StreamWriter<M>, StreamReader<R>)
    where
        M: Message,
        R: Message + Default,
    {
        let window = self.window();
        let Begun { core, state, carrier } = self.begin_stream(method, controller, &(), window, None);
        let reader = StreamReader::new(state.clone(), carrier.clone(), Some(core.clone()));
        (StreamWriter::new(state, carrier, core), reader)
    }

    fn begin_stream(
        &self,
        method: &Method,
        controller: &RpcController,
        args: &dyn Body,
        window: u64,
        then: Option<Completion>,
    ) -> Begun {
        let (core, step) = (self.core(), controller.next_step());
        let state = Arc::new(StreamState::new(window, FIRST_WINDOW_BYTES));
        let completion = Completion::Streamed(Box::new(Streamed { state: state.clone(), window, then }));
        let timeout = controller.timeout().unwrap_or(UNLIMITED);
        let started = if core.config.legacy {
            let cause = "a server of the origin knows no streams".to_owned();
            completion.run(&core.reactor, Err(RpcError::BadReply { cause }));
            None
        } else if controller.is_cancelled() {
            completion.run(&core.reactor, Err(RpcError::Cancelled { may_have_run: false }));
            None
        } else {
            core.start(method, Some(timeout), args, completion, core.inherited())
        };
        let (call_id, outbox) = started.unwrap_or_else(|| (0, core.closed_outbox()));
        controller.note(step, core, Whereabouts::InFlight(call_id));
        let carrier = Carrier { outbox, call_id, message_bytes_max: core.config.args_bytes_max };
        Begun { core: core.clone(), state, carrier }
    }

    /// What a server may send of a stream at first, in bytes. Without any it could never send.
    fn window(&self) -> u64 {
        self.core().config.stream_window_bytes.max(1) as u64
    }
}

/// A message or credit of a stream, on its way to whom it concerns.
pub(super) struct StreamNews {
    state: Arc<StreamState>,
    call_id: u64,
    credit: u64,
    message: Option<Result<Bytes, u64>>,
}

impl StreamNews {
    pub(super) fn new(state: Arc<StreamState>, reply: ReplyFrame) -> StreamNews {
        let message = reply.head.more.then_some(reply.body);
        StreamNews { state, call_id: reply.head.call_id, credit: reply.head.credit_bytes, message }
    }
}

impl Core {
    /// An outbox that takes nothing, for a stream that was not begun.
    fn closed_outbox(&self) -> Arc<Outbox> {
        let outbox = Outbox::new(self.reactor.clone(), UnsentLimits { max: 0, high_water: 0 }, None, 0);
        outbox.cut();
        Arc::new(outbox)
    }

    /// Hands on what has come for streams. A call whose server keeps to no limit is ended.
    pub(super) fn on_stream_news(&self, news: Vec<StreamNews>, answered: &mut Vec<Answered>) {
        for StreamNews { state, call_id, credit, message } in news {
            if credit > 0 {
                state.grant(credit);
            }
            let fault = match message {
                None => continue,
                Some(Ok(message)) => {
                    if state.push(message) {
                        continue;
                    }
                    RpcError::BadReply { cause: "a stream's message beyond its credit".to_owned() }
                }
                Some(Err(bytes)) => {
                    let max = self.config.reply_bytes_max as u64;
                    RpcError::TooLarge { what: "a stream's message", bytes, max, may_have_run: true }
                }
            };
            let mut table = lock(&self.state);
            let Some(pending) = self.take(&mut table, call_id) else { continue };
            let outbox = table.outbox_of(pending.epoch).cloned();
            drop(table);
            if let Some(outbox) = outbox {
                // If it cannot be told, the server will have worked in vain.
                let _ = outbox.append_word(|buffer| put_cancel(buffer, call_id));
                outbox.finish();
            }
            answered.push(Answered { caller: pending.caller, outcome: Err(fault) });
        }
    }
}
