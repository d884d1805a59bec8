//! The answer to one call: given exactly once, from any thread, now or later. Dropping it is an answer, too.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;

use super::in_flight::Ticket;
use super::service::CallContext;
use crate::middleware::Ended;
use crate::protocol::call_names::CallNames;
use crate::protocol::encoder::{Body, put_failure, put_reply_head};
use crate::protocol::payload::{LargestLast, TakeApart};
use crate::protocol::status::Status;
use crate::reactor::appending::payload;
use crate::reactor::mailbox::Command;
use crate::reactor::outbox::{AppendError, Appended, Outbox, ServerOwner};

/// What an origin client is told when there is nothing else to say: a zero tag, which its parser refuses.
const LEGACY_UNSAYABLE: u8 = 0;

/// How the caller wants to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplyForm {
    /// A header and a body.
    Framed,
    /// The bare message, to a program of the origin.
    Bare,
    /// Not at all.
    None,
}

/// Answers one call, exactly once. Dropping it answers `INTERNAL`.
///
/// Inside of [`corked`](crate::corked) an answer is only buffered; outside it leaves at once.
#[must_use = "dropping a responder answers INTERNAL"]
pub struct Responder {
    call_id: u64,
    context: CallContext,
    /// Whose end the provider's middleware is to be told; `None` without any.
    observed: Option<Arc<CallNames>>,
}

impl Responder {
    /// A responder for the call of `context`.
    pub(crate) fn new(call_id: u64, context: CallContext) -> Responder {
        debug_assert!(context.outbox.server.is_some(), "only a server's connection is answered on");
        Responder { call_id, context, observed: None }
    }

    pub(crate) fn call_id(&self) -> u64 {
        self.call_id
    }

    /// Whether the caller can be told of a stream.
    pub(crate) fn wants_framed_reply(&self) -> bool {
        self.context.form == ReplyForm::Framed
    }

    pub(crate) fn wants_reply(&self) -> bool {
        self.context.form != ReplyForm::None
    }

    /// Has the provider's middleware told of the call's end.
    pub(crate) fn observe(&mut self, names: Arc<CallNames>) {
        self.observed = Some(names);
    }

    pub(crate) fn context_mut(&mut self) -> &mut CallContext {
        &mut self.context
    }

    /// Who asks, and for how long.
    pub fn context(&self) -> &CallContext {
        &self.context
    }

    /// Answers with `reply`. A reply beyond its limit is answered `INTERNAL` instead, naming both numbers.
    pub fn send<M: Body>(mut self, reply: &M) {
        self.answer(Ok(reply));
    }

    /// Answers with a failure; `text` is for people. [`Status::Ok`] is no failure and is sent as `INTERNAL`.
    pub fn fail(mut self, status: Status, text: &str) {
        let status = if status == Status::Ok { Status::Internal } else { status };
        self.answer(Err((status, text)));
    }

    /// Answers with `reply` after `delay`, from a timer of the reactor. If the reactor's table of timers is full, at
    /// once.
    pub fn send_after<M: Body + Send + 'static>(self, delay: Duration, reply: M) {
        let reactor = self.context.outbox.reactor.clone();
        reactor.run_after(delay, Box::new(move || self.send(&reply)));
    }

    fn answer(&mut self, answer: Result<&dyn Body, (Status, &str)>) {
        self.context.is_answered = true;
        let CallContext { outbox, ticket, form, .. } = &self.context;
        let Some(ServerOwner { provider, token, stages, streams }) = &outbox.server else { return };
        provider.call_answered();
        let is_first = ticket.is_none_or(|ticket| stages.end(ticket));
        streams.close(self.call_id, || Ok(()));
        if let Some(names) = self.observed.take() {
            let status = answer.as_ref().map_or_else(|failure| failure.0, |_| Status::Ok);
            let took = self.context.passed();
            let info = self.context.info(&names);
            let ended = Ended { status, took, was_awaited: is_first };
            // The caller is owed its answer all the same.
            outbox.reactor.shielded("a middleware", || provider.config.middleware.after(&info, &ended));
        }
        let to = (outbox, *ticket);
        let appended = match form {
            ReplyForm::Framed if is_first => {
                append_framed(to, self.call_id, answer, provider.config.reply_bytes_max)
            }
            ReplyForm::Bare => append_bare(to, answer, provider.config.legacy_reply_bytes_max),
            // The reactor has said that the call is late or cancelled; or nobody wants to hear.
            ReplyForm::Framed | ReplyForm::None => return outbox.end_unanswered(*ticket),
        };
        match appended {
            // Each reply to an origin client is a write of its own, since that client takes what one read returns.
            Ok(_) if *form == ReplyForm::Bare => outbox.flush(),
            Ok(_) => outbox.finish(),
            // The caller has gone: nobody is left to be told.
            Err(AppendError::Closed) => {}
            Err(AppendError::Full) => {
                let peer = self.context.peer;
                let text = || format!("{peer} does not read its replies: connection cut");
                provider.warnings.unread.warn(outbox.reactor.world.turn_nanos(), text);
                outbox.cut();
            }
        }
        if *form == ReplyForm::Bare && outbox.legacy_end() {
            // A reactor that has stopped reads nothing more.
            let _ = outbox.reactor.post(Command::Resume(*token));
        }
    }
}

fn append_framed(
    (outbox, ticket): (&Arc<Outbox>, Option<Ticket>),
    call_id: u64,
    answer: Result<&dyn Body, (Status, &str)>,
    reply_bytes_max: usize,
) -> Appended {
    let fail = |status: Status, text: &str| {
        outbox.append_answer(ticket, |buffer| put_failure(buffer, call_id, status, text))
    };
    let appended = match answer {
        Ok(body) => {
            let body_bytes = body.body_len();
            if body_bytes > reply_bytes_max {
                let text = format!("a reply of {body_bytes} bytes, the maximum is {reply_bytes_max}");
                fail(Status::Internal, &text)
            } else {
                let payload = payload(body, body_bytes);
                outbox.append_message(Some(ticket), payload, |buffer| {
                    put_reply_head(buffer, call_id, body_bytes);
                })
            }
        }
        Err((status, text)) => fail(status, text),
    };
    if appended != Err(AppendError::Full) {
        return appended;
    }
    // What the call wanted to say is dropped, the call is not.
    let status = answer.err().map_or(Status::Internal, |(status, _)| status);
    let text = format!(
        "unsent_bytes_max is {}, and the peer has not taken the replies before",
        outbox.unsent_bytes_max()
    );
    outbox.append_word(|buffer| put_failure(buffer, call_id, status, &text))
}

/// NB: never nothing. An origin client waits for ever for a reply of no bytes.
fn append_bare(
    (outbox, ticket): (&Arc<Outbox>, Option<Ticket>),
    answer: Result<&dyn Body, (Status, &str)>,
    reply_bytes_max: usize,
) -> Appended {
    match answer {
        Ok(body) if (1..=reply_bytes_max).contains(&body.body_len()) => {
            outbox.append_answer(ticket, |buffer| body.put(buffer))
        }
        _ => outbox.append_answer(ticket, |buffer| buffer.push(LEGACY_UNSAYABLE)),
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if !self.context.is_answered {
            self.answer(Err((Status::Internal, "the server dropped the call")));
        }
    }
}

/// A [`Responder`] that takes one type of reply: what generated services are handed.
#[must_use = "dropping a reply answers INTERNAL"]
pub struct Reply<M> {
    responder: Responder,
    take_apart: Option<TakeApart<M>>,
}

impl<M: Message> Reply<M> {
    /// Gives a responder its type.
    pub fn new(responder: Responder) -> Reply<M> {
        Reply { responder, take_apart: None }
    }

    /// Has the reply's largest field of bytes leave uncopied. Generated dispatchers use this.
    pub fn largest_last(self, take_apart: TakeApart<M>) -> Reply<M> {
        Reply { take_apart: Some(take_apart), ..self }
    }

    /// See [`Responder::send`].
    #[inline]
    pub fn send(self, reply: &M) {
        match self.take_apart {
            Some(take_apart) => self.responder.send(&LargestLast::new(reply, take_apart)),
            None => self.responder.send(reply),
        }
    }

    /// See [`Responder::fail`].
    pub fn fail(self, status: Status, text: &str) {
        self.responder.fail(status, text);
    }

    /// See [`Responder::context`].
    pub fn context(&self) -> &CallContext {
        self.responder.context()
    }
}

impl<M: Message + Send + 'static> Reply<M> {
    /// See [`Responder::send_after`].
    pub fn send_after(self, delay: Duration, reply: M) {
        let reactor = self.responder.context.outbox.reactor.clone();
        reactor.run_after(delay, Box::new(move || self.send(&reply)));
    }
}

// A responder is handed on several times per call; up to this size that needs no call of memcpy.
const _: () = assert!(size_of::<Responder>() <= 128);
