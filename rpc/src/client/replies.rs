//! Replies as they come in: out of the connection's bytes, matched with the calls in flight.
//!
//! The calls of one read are taken out of the table under one lock; their completions run after it is released.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::core::Core;
use super::pending_call::{Answered, Pending};
use super::streams::StreamNews;
use crate::error::RpcError;
use crate::protocol::header::{Shape, message_shape};
use crate::protocol::reply_decoder::{ReplyDecoder, ReplyFrame};
use crate::protocol::status::Status;
use crate::reactor::clock::Nanos;
use crate::reactor::lock::lock;
use crate::reactor::outbox::Outbox;
use crate::reactor::turn::Turn;

/// The client's half of a connection.
pub(crate) struct ClientSide {
    pub(crate) core: Arc<Core>,
    replies: Replies,
}

enum Replies {
    Framed(ReplyDecoder),
    Bare(BytesMut),
}

impl ClientSide {
    pub(crate) fn new(core: Arc<Core>) -> ClientSide {
        let replies = if core.config.legacy {
            Replies::Bare(BytesMut::new())
        } else {
            Replies::Framed(ReplyDecoder::new(core.config.reply_bytes_max as u64))
        };
        ClientSide { core, replies }
    }

    /// Where to receive next: see [`ReplyDecoder::room`] and [`ReplyDecoder::expects_large`].
    pub(crate) fn room(&mut self) -> (Option<&mut Vec<u8>>, bool) {
        match &mut self.replies {
            Replies::Framed(decoder) => {
                let expects_large = decoder.expects_large();
                (decoder.room(), expects_large)
            }
            Replies::Bare(_) => (None, false),
        }
    }

    /// Takes `count` bytes from the turn's scratch buffer, or what was received into the room, and answers the calls whose
    /// replies are whole.
    ///
    /// # Errors
    /// When the stream is refused: the text says why.
    pub(crate) fn take(
        &mut self,
        count: Option<usize>,
        outbox: &Arc<Outbox>,
        turn: &mut Turn,
    ) -> Result<(), String> {
        let bytes = &turn.scratch[..count.unwrap_or(0)];
        let refused = match &mut self.replies {
            Replies::Framed(decoder) => {
                match count {
                    Some(_) => decoder.feed(bytes),
                    None => decoder.received(),
                }
                let mut is_leaving = false;
                let refused = loop {
                    match decoder.next_frame() {
                        Ok(Some(frame)) if frame.head.going_away => is_leaving = true,
                        Ok(Some(frame)) => turn.replies.push(frame),
                        Ok(None) => break Ok(()),
                        Err(refusal) => break Err(refusal.to_string()),
                    }
                };
                self.core.on_replies(outbox, &mut turn.replies, turn.nanos, &mut turn.answered);
                if is_leaving {
                    self.core.on_going_away(outbox);
                }
                refused
            }
            Replies::Bare(buffer) => {
                buffer.extend_from_slice(bytes);
                take_bare(&self.core, buffer, outbox, &mut turn.answered)
            }
        };
        for call in turn.answered.drain(..) {
            turn.has_dispatched = true;
            call.run(&self.core);
        }
        refused
    }
}

/// An origin server's reply says nowhere how long it is. What has come is taken for it unless it plainly ends inside a
/// field: then the rest is on its way.
fn take_bare(
    core: &Core,
    buffer: &mut BytesMut,
    outbox: &Arc<Outbox>,
    answered: &mut Vec<Answered>,
) -> Result<(), String> {
    if !core.awaits_bare_reply() {
        return Err("a reply without a call".to_owned());
    }
    if buffer.len() > core.config.reply_bytes_max {
        return Err(format!("a reply of more than {} bytes", core.config.reply_bytes_max));
    }
    if message_shape(buffer) != Shape::Truncated {
        core.on_bare_reply(buffer.split().freeze(), outbox, answered);
    }
    Ok(())
}

impl Core {
    /// Replies have come. A reply to no call is a late one and ignored.
    fn on_replies(
        &self,
        outbox: &Outbox,
        replies: &mut Vec<ReplyFrame>,
        now: Nanos,
        answered: &mut Vec<Answered>,
    ) {
        let mut state = lock(&self.state);
        state.heard(outbox.epoch, now);
        if !replies.is_empty() {
            state.failures = 0;
        }
        let mut news = Vec::new();
        for reply in replies.drain(..) {
            if reply.head.more || reply.head.credit_bytes > 0 {
                let pending = self.find(&mut state, reply.head.call_id);
                let stream = pending.and_then(|pending| pending.caller.completion.stream());
                news.extend(stream.map(|stream| StreamNews::new(stream.state.clone(), reply)));
                continue;
            }
            if let Some(pending) = self.take(&mut state, reply.head.call_id) {
                let outcome = self.outcome_of(reply, &pending);
                answered.push(Answered { caller: pending.caller, outcome });
            }
        }
        if !state.retired.is_empty() {
            Core::end_retired(&mut state);
        }
        drop(state);
        if !news.is_empty() {
            self.on_stream_news(news, answered);
        }
    }

    fn outcome_of(&self, reply: ReplyFrame, pending: &Pending) -> Result<Bytes, RpcError> {
        if reply.head.status != 0 {
            let status = Status::from_code(reply.head.status);
            if status == Status::DeadlineExceeded && pending.due <= self.reactor.world.nanos() {
                // The server has merely been the first of the two to notice.
                let timeout = Duration::from_nanos(pending.timeout);
                return Err(RpcError::DeadlineExceeded { timeout, may_have_run: true });
            }
            let text = String::from_utf8_lossy(&reply.head.error_text).into_owned();
            return Err(RpcError::Status { status, text });
        }
        let max = self.config.reply_bytes_max as u64;
        reply.body.map_err(|bytes| RpcError::TooLarge { what: "a reply", bytes, max, may_have_run: true })
    }

    /// An origin server has answered the outstanding call; the next one is sent.
    fn on_bare_reply(&self, reply: Bytes, outbox: &Arc<Outbox>, answered: &mut Vec<Answered>) {
        {
            let mut state = lock(&self.state);
            state.failures = 0;
            let Some(call_id) = state.legacy.outstanding.take() else { return };
            if let Some(pending) = self.take(&mut state, call_id) {
                answered.push(Answered { caller: pending.caller, outcome: Ok(reply) });
            }
            if let Some((call_id, frame)) = state.legacy.pop()
                && let Ok(bytes) = outbox.append(|buffer| buffer.extend_from_slice(&frame))
            {
                if let Some(pending) = self.find(&mut state, call_id) {
                    pending.frame = bytes;
                }
                state.legacy.outstanding = Some(call_id);
            }
        }
        outbox.finish();
    }

    fn awaits_bare_reply(&self) -> bool {
        lock(&self.state).legacy.outstanding.is_some()
    }
}
