//! How frames come into an outbox: appended under the lock of its queue, for a memcpy; large ones are serialized before any lock
//! is taken, into buffers of their own. Nothing leaves here.

use std::sync::Arc;

use super::clock::Nanos;
use super::cork;
use super::lock::lock;
use super::outbox::{AppendError, Appended, Outbox};
use super::queue::Queue;
use super::spare;
use crate::primitives::atomic::Ordering;
use crate::protocol::encoder::Body;
use crate::protocol::payload::Payload;
use crate::server::in_flight::Ticket;

/// What may be appended beyond the bound, in bytes, of [`Outbox::append_word`].
const WORDS_BYTES_MAX: u64 = 1 << 20;

/// A message of so many bytes, serialized if it is large. To be made with no lock held.
pub(crate) fn payload(message: &dyn Body, bytes: usize) -> Payload<'_> {
    Payload::of(message, bytes, || spare::take(bytes))
}

impl Outbox {
    /// Appends what `put` writes and arranges its flush: at the end of the thread's corked scope, or by
    /// [`Outbox::finish`] outside of one. Returns which of all bytes ever appended to the connection these are.
    pub(crate) fn append(self: &Arc<Self>, put: impl FnOnce(&mut Vec<u8>)) -> Appended {
        self.append_as(None, put)
    }

    /// Like [`Outbox::append`], for the one terminal reply of a call, whose place becomes free.
    pub(crate) fn append_answer(
        self: &Arc<Self>,
        ticket: Option<Ticket>,
        put: impl FnOnce(&mut Vec<u8>),
    ) -> Appended {
        self.append_as(Some(ticket), put)
    }

    /// Appends a frame of which `put_head` writes what stands before the message; `answers` as for
    /// [`Outbox::append_answer`].
    pub(crate) fn append_message(
        self: &Arc<Self>,
        answers: Option<Option<Ticket>>,
        payload: Payload<'_>,
        put_head: impl FnOnce(&mut Vec<u8>),
    ) -> Appended {
        self.append_with(answers, self.limits.max, |queue| queue.append_message(payload, put_head))
    }

    /// Appends a call; `put_head` is told as of when the call has to say what is left of its time.
    pub(crate) fn append_call(
        self: &Arc<Self>,
        now: Nanos,
        payload: Payload<'_>,
        put_head: impl FnOnce(&mut Vec<u8>, Nanos),
    ) -> Appended {
        self.append_with(None, self.limits.max, |queue| {
            let as_of = queue.time_as_of(now);
            queue.append_message(payload, |buffer| put_head(buffer, as_of));
        })
    }

    /// A call ends without a reply of its own: it was answered before, or nobody wants one.
    pub(crate) fn end_unanswered(&self, ticket: Option<Ticket>) {
        lock(&self.queue).count_answer(ticket);
    }

    /// Moves the places of answered calls to `free`.
    pub(crate) fn take_released(&self, free: &mut Vec<u32>) {
        std::mem::swap(&mut lock(&self.queue).released, free);
    }

    fn append_as(
        self: &Arc<Self>,
        answers: Option<Option<Ticket>>,
        put: impl FnOnce(&mut Vec<u8>),
    ) -> Appended {
        self.append_with(answers, self.limits.max, |queue| queue.append(put))
    }

    /// Appends a short frame that must not be lost to the bound: somebody would wait for what has been said by it, maybe for
    /// ever. That a call's answer, which has been counted, was beyond the bound; that a call is cancelled; credit and end of a
    /// stream.
    pub(crate) fn append_word(self: &Arc<Self>, put: impl FnOnce(&mut Vec<u8>)) -> Appended {
        self.append_with(None, self.limits.max.saturating_add(WORDS_BYTES_MAX), |queue| queue.append(put))
    }

    fn append_with(
        self: &Arc<Self>,
        answers: Option<Option<Ticket>>,
        unsent_bytes_max: u64,
        put: impl FnOnce(&mut Queue),
    ) -> Appended {
        let cork = cork::current();
        let (result, touched_first) = {
            let mut queue = lock(&self.queue);
            if let Some(ticket) = answers {
                queue.count_answer(ticket);
            }
            let result = if queue.closed {
                Err(AppendError::Closed)
            } else if queue.unsent() > unsent_bytes_max {
                Err(AppendError::Full)
            } else {
                let start = queue.appended;
                put(&mut queue);
                self.unsent_hint.store(queue.unsent(), Ordering::Relaxed);
                Ok(start..queue.appended)
            };
            let touched_first = match cork {
                0 => false,
                cork::TURN => self.join_line(&mut queue),
                scope => std::mem::replace(&mut queue.corked_by, scope) != scope,
            };
            (result, touched_first)
        };
        if touched_first {
            cork::touch(self);
        }
        result
    }
}
