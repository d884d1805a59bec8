//! What waits to leave on one connection, and what its threads must know of each other: the part of an
//! [`Outbox`](super::outbox::Outbox) under its leaf lock.

use std::collections::VecDeque;

use bytes::Bytes;

use super::clock::Nanos;
use super::spare;
use crate::protocol::payload::{LARGE_BYTES_MIN, Payload};
use crate::server::in_flight::Ticket;

/// See the module's text.
#[derive(Default)]
pub(super) struct Queue {
    /// What leaves before `bytes`: other frames, and large messages in buffers of their own.
    pub(super) sealed: VecDeque<Piece>,
    pub(super) bytes: Vec<u8>,
    /// How many of them left together the last time.
    pub(super) usual_bytes: usize,
    /// Bytes ever appended.
    pub(super) appended: u64,
    /// Bytes ever taken by the kernel; never more than `appended`.
    pub(super) written: u64,
    /// As much has been written as may be at a time: the reactor writes on in its next turn.
    pub(super) paused: bool,
    /// What the provider knows to be left, in bytes.
    pub(super) unsent_known: u64,
    /// A write is going on: more than `written` may have left.
    pub(super) writing: bool,
    /// The kernel takes nothing until a writable event.
    pub(super) stalled: bool,
    /// As of when the calls that have not left say their time, where something keeps them waiting; of a client's connection.
    pub(super) time_as_of: Option<Nanos>,
    /// The socket side holds bytes of an incomplete write.
    pub(super) leftover: bool,
    /// Writable events seen: a write that met a full socket stalls only if none came meanwhile.
    pub(super) writable_events: u64,
    pub(super) closed: bool,
    /// Why a write has failed.
    pub(super) write_error: Option<String>,
    /// The corked scope that will flush this connection; 0 for none.
    pub(super) corked_by: u64,
    /// It stands in a reactor's line to be written; no turn has it there twice.
    pub(super) stands_in_line: bool,
    /// Calls answered; only a server's connections count.
    pub(super) answered: u64,
    /// Places of answered calls that the reactor's thread may give away again; never more than there are places.
    pub(super) released: Vec<u32>,
    pub(super) legacy: LegacyTurn,
    /// The reactor does not read until the congestion is over, and wants to be told.
    pub(super) awaits_drain: bool,
    /// The reactor knows that the kernel takes nothing, and watches how long.
    pub(super) stall_is_known: bool,
}

/// A buffer of what waits to leave.
pub(super) enum Piece {
    /// Frames, the first one from its beginning. The message of the last one may follow in pieces of its own.
    Frames(Vec<u8>),
    /// A large message, or what comes first of it.
    Message(Vec<u8>),
    /// The last bytes of a message, in whosever memory.
    Shared(Bytes),
}

impl Piece {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Piece::Frames(buffer) | Piece::Message(buffer) => buffer,
            Piece::Shared(bytes) => bytes,
        }
    }

    /// The frames, if there are any: what else there is, is not to be changed.
    pub(super) fn frames(&mut self) -> &mut [u8] {
        match self {
            Piece::Frames(buffer) => buffer,
            Piece::Message(_) | Piece::Shared(_) => &mut [],
        }
    }

    /// It has left, or was empty.
    pub(super) fn recycle(self) {
        match self {
            Piece::Frames(buffer) | Piece::Message(buffer) => spare::give(buffer),
            Piece::Shared(_) => {}
        }
    }
}

/// Whose turn it is on a connection of an origin client, which may have one call outstanding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum LegacyTurn {
    /// No call is outstanding.
    #[default]
    Idle,
    /// A call is; the reactor has nothing more of this connection to read.
    Busy,
    /// A call is, and the reactor wants to be told when it is answered.
    Awaited,
}

impl Queue {
    /// It is to stand in the line of the reactor whose thread this is. Returns whether it is news.
    pub(super) fn stand_in_line(&mut self) -> bool {
        !std::mem::replace(&mut self.stands_in_line, true)
    }

    /// Its turn to be written has come.
    pub(super) fn leave_line(&mut self) {
        self.stands_in_line = false;
    }

    pub(super) fn count_answer(&mut self, ticket: Option<Ticket>) {
        self.answered += 1;
        self.released.extend(ticket.map(|ticket| ticket.place));
    }

    #[inline]
    pub(super) fn append(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        if self.bytes.capacity() == 0 {
            self.bytes = spare::take(self.usual_bytes);
        }
        let before = self.bytes.len();
        put(&mut self.bytes);
        self.appended += (self.bytes.len() - before) as u64;
    }

    /// Appends a frame of which `put_head` writes what stands before the message.
    #[inline]
    pub(super) fn append_message(&mut self, payload: Payload<'_>, put_head: impl FnOnce(&mut Vec<u8>)) {
        match payload {
            Payload::Small(message) => self.append(|buffer| {
                put_head(buffer);
                message.put(buffer);
            }),
            Payload::Large(pieces) => self.append_large(*pieces, put_head),
        }
    }

    fn append_large(&mut self, (mut first, last): (Vec<u8>, Bytes), put_head: impl FnOnce(&mut Vec<u8>)) {
        self.append(put_head);
        if first.len() < LARGE_BYTES_MIN {
            self.append(|buffer| buffer.append(&mut first));
        }
        self.appended += (first.len() + last.len()) as u64;
        self.sealed.push_back(Piece::Frames(std::mem::take(&mut self.bytes)));
        for piece in [Piece::Message(first), Piece::Shared(last)] {
            match piece.bytes() {
                [] => piece.recycle(),
                _ => self.sealed.push_back(piece),
            }
        }
    }

    /// As of when a call that is appended now has to say its time. While nothing leaves, that moment stands still for all of
    /// them: what they have waited since is taken off at once when they may leave.
    pub(super) fn time_as_of(&mut self, now: Nanos) -> Nanos {
        if self.stalled { *self.time_as_of.get_or_insert(now) } else { self.time_as_of.unwrap_or(now) }
    }

    pub(super) fn unsent(&self) -> u64 {
        self.appended - self.written
    }

    /// Whether nothing waits that the socket side does not hold.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.sealed.is_empty()
    }

    /// Bytes that the socket side does not hold yet.
    pub(super) fn waiting_bytes(&self) -> u64 {
        (self.sealed.iter().map(|piece| piece.bytes().len()).sum::<usize>() + self.bytes.len()) as u64
    }

    /// Bytes that may have left so far: what the kernel has taken, and what it is being given right now.
    pub(super) fn may_have_left(&self) -> u64 {
        if self.writing { self.appended - self.waiting_bytes() } else { self.written }
    }
}

/// The bytes of a frame that begins at a place, up to the end of the buffer that holds it.
pub(super) fn bytes_at<'a>(
    sealed: &'a mut VecDeque<Piece>,
    last: &'a mut [u8],
    place: u64,
) -> Option<&'a mut [u8]> {
    let mut place = usize::try_from(place).ok()?;
    for piece in sealed {
        let bytes = piece.bytes().len();
        if place < bytes {
            return piece.frames().get_mut(place..);
        }
        place -= bytes;
    }
    last.get_mut(place..).filter(|rest| !rest.is_empty())
}
