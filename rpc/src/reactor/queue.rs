//! What waits to leave on one connection, and what its threads must know of each other: the part of an
//! [`Outbox`](super::outbox::Outbox) under its leaf lock.

use std::collections::VecDeque;

use super::clock::Nanos;
use super::spare;
use crate::server::in_flight::Ticket;

/// See the module's text.
#[derive(Default)]
pub(super) struct Queue {
    /// Frames that leave before `bytes`, each large one in a buffer of its own.
    pub(super) sealed: VecDeque<Vec<u8>>,
    pub(super) bytes: Vec<u8>,
    /// How many of them left together the last time.
    pub(super) usual_bytes: usize,
    /// Bytes ever appended.
    pub(super) appended: u64,
    /// Bytes ever taken by the kernel; never more than `appended`.
    pub(super) written: u64,
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
    pub(super) fn count_answer(&mut self, ticket: Option<Ticket>) {
        self.answered += 1;
        self.released.extend(ticket.map(|ticket| ticket.place));
    }

    pub(super) fn append(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        if self.bytes.capacity() == 0 {
            self.bytes = spare::take(self.usual_bytes);
        }
        let before = self.bytes.len();
        put(&mut self.bytes);
        self.appended += (self.bytes.len() - before) as u64;
    }

    /// Appends a large frame, which has a buffer of its own.
    pub(super) fn seal(&mut self, frame: Vec<u8>) {
        self.appended += frame.len() as u64;
        if !self.bytes.is_empty() {
            self.sealed.push_back(std::mem::take(&mut self.bytes));
        }
        self.sealed.push_back(frame);
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
        (self.sealed.iter().map(Vec::len).sum::<usize>() + self.bytes.len()) as u64
    }

    /// Bytes that may have left so far: what the kernel has taken, and what it is being given right now.
    pub(super) fn may_have_left(&self) -> u64 {
        if self.writing { self.appended - self.waiting_bytes() } else { self.written }
    }
}

/// The bytes from a place on, up to the end of the buffer that holds it.
pub(super) fn bytes_at<'a>(
    sealed: &'a mut VecDeque<Vec<u8>>,
    last: &'a mut Vec<u8>,
    place: u64,
) -> Option<&'a mut [u8]> {
    let mut place = usize::try_from(place).ok()?;
    for buffer in sealed.iter_mut().chain([last]) {
        if place < buffer.len() {
            return Some(&mut buffer[place..]);
        }
        place -= buffer.len();
    }
    None
}
