//! The calls of one connection that are not answered yet: who may still answer each, and what is cancelled or late.
//!
//! A call has a place here for as long as its responder lives. The reactor's thread gives places away and looks through
//! them for what is due or cancelled ([`InFlight`]); whoever answers decides by one atomic step against it ([`Stages`]), so
//! that a call gets exactly one terminal reply and neither side waits for the other. Places come back by way of the
//! outbox, whose lock an answer holds anyway.

use std::num::NonZeroU64;
use std::sync::OnceLock;

use crate::primitives::atomic::{AtomicU64, Ordering};
use crate::reactor::clock::{NEVER, Nanos};
use crate::reactor::outbox::Outbox;

/// Places in the first chunk; each further chunk has twice as many as the one before.
const FIRST_CHUNK_PLACES: usize = 16;

/// Chunks at most.
const CHUNKS_MAX: usize = 18;

/// Most places that a connection can have.
const PLACES_MAX: usize = FIRST_CHUNK_PLACES * ((1 << CHUNKS_MAX) - 1);

/// So many places are made before any is fetched back.
const PLACES_UNASKED: usize = 128;

/// A call awaits its answer: the low bit of its word. The others number the calls that have had the place.
const PENDING: u64 = 1;

/// The right to answer one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    pub(crate) place: u32,
    /// The place's word while the call awaits its answer; never 0, which spares the room to say that there is no ticket.
    word: NonZeroU64,
}

/// Which calls await their answers; shared by every thread that answers.
#[derive(Default)]
pub(crate) struct Stages {
    chunks: [OnceLock<Box<[AtomicU64]>>; CHUNKS_MAX],
}

impl Stages {
    /// The word of a place, whose chunk is made when it is first used.
    fn word(&self, place: u32) -> &AtomicU64 {
        let chunk = (place as usize / FIRST_CHUNK_PLACES + 1).ilog2() as usize;
        let first = FIRST_CHUNK_PLACES * ((1 << chunk) - 1);
        let places = || (0..FIRST_CHUNK_PLACES << chunk).map(|_| AtomicU64::new(0)).collect();
        &self.chunks[chunk].get_or_init(places)[place as usize - first]
    }

    /// A call takes a free place; on the reactor's thread.
    pub(crate) fn begin(&self, place: u32) -> Ticket {
        let word = self.word(place);
        // Relaxed: the ticket reaches other threads only with the responder, which publishes it.
        let before = word.load(Ordering::Relaxed);
        assert!(before & PENDING == 0, "a place was given to two calls");
        let pending = NonZeroU64::MIN | (before + 2);
        word.store(pending.get(), Ordering::Relaxed);
        Ticket { place, word: pending }
    }

    /// Ends the call, for whoever comes first: the others get `false` and must not answer.
    pub(crate) fn end(&self, ticket: Ticket) -> bool {
        let word = self.word(ticket.place);
        let pending = ticket.word.get();
        word.compare_exchange(pending, pending & !PENDING, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Whether the call still awaits its answer.
    pub(crate) fn is_pending(&self, ticket: Ticket) -> bool {
        self.word(ticket.place).load(Ordering::Acquire) == ticket.word.get()
    }
}

/// The places, as the reactor's thread knows them.
pub(crate) struct InFlight {
    places: Vec<Place>,
    places_max: usize,
    /// Free ones.
    free: Vec<u32>,
    /// No call is due before.
    next_due: Nanos,
    /// Calls that the peer has cancelled in what is being read.
    cancelled: Vec<u64>,
}

struct Place {
    call_id: u64,
    due: Nanos,
    ticket: Ticket,
    wants_reply: bool,
}

impl InFlight {
    pub(crate) fn new(places_max: usize) -> InFlight {
        InFlight {
            places: Vec::new(),
            places_max: places_max.min(PLACES_MAX),
            free: Vec::new(),
            next_due: NEVER,
            cancelled: Vec::new(),
        }
    }

    /// Gives a call its place, if the connection's limit leaves one.
    pub(crate) fn begin(
        &mut self,
        call_id: u64,
        due: Nanos,
        wants_reply: bool,
        (outbox, stages): (&Outbox, &Stages),
    ) -> Option<Ticket> {
        // Places that have come back are fetched many at a time: each time costs a lock.
        if self.free.is_empty() && self.places.len() >= PLACES_UNASKED {
            outbox.take_released(&mut self.free);
        }
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.places.len() < self.places_max => self.places.len() as u32,
            None => {
                outbox.take_released(&mut self.free);
                self.free.pop()?
            }
        };
        let ticket = stages.begin(place);
        let entry = Place { call_id, due, ticket, wants_reply };
        match self.places.get_mut(place as usize) {
            Some(known) => *known = entry,
            None => self.places.push(entry),
        }
        Some(ticket)
    }

    /// Notes that a call is due then. Returns whether that is sooner than anything before, so that the reactor must be told.
    pub(crate) fn note_due(&mut self, due: Nanos) -> bool {
        let is_sooner = due < self.next_due;
        self.next_due = self.next_due.min(due);
        is_sooner
    }

    /// The peer has lost interest in a call. What it names is looked up later, for all such frames of a read at once: a
    /// peer that cancels much costs no more than one look through its own calls.
    pub(crate) fn cancel(&mut self, call_id: u64) {
        self.cancelled.push(call_id);
    }

    /// Ends the calls cancelled since the last time; `answer` is given the ids of those that want a reply.
    pub(crate) fn end_cancelled(&mut self, stages: &Stages, mut answer: impl FnMut(u64)) {
        if self.cancelled.is_empty() {
            return;
        }
        let mut cancelled = std::mem::take(&mut self.cancelled);
        cancelled.sort_unstable();
        for place in &self.places {
            let is_meant = cancelled.binary_search(&place.call_id).is_ok();
            if is_meant && stages.end(place.ticket) && place.wants_reply {
                answer(place.call_id);
            }
        }
    }

    /// Ends the calls that are late; `answer` is given the ids of those that want a reply. Returns when to look again.
    pub(crate) fn end_late(&mut self, now: Nanos, stages: &Stages, mut answer: impl FnMut(u64)) -> Nanos {
        if self.next_due > now {
            return self.next_due;
        }
        let mut next_due = NEVER;
        for place in &self.places {
            if place.due > now {
                if place.due < next_due && stages.is_pending(place.ticket) {
                    next_due = place.due;
                }
            } else if stages.end(place.ticket) && place.wants_reply {
                answer(place.call_id);
            }
        }
        self.next_due = next_due;
        next_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_a_word_of_its_own_and_one_party_ends_a_call() {
        let stages = Stages::default();
        for place in (0..5_000).chain([PLACES_MAX as u32 - 1]) {
            let ticket = stages.begin(place);
            assert!(stages.is_pending(ticket));
            assert!(stages.end(ticket) && !stages.end(ticket) && !stages.is_pending(ticket));
            let next = stages.begin(place);
            assert!(!stages.end(ticket), "an old ticket ends no other call");
            assert!(stages.is_pending(next));
        }
    }
}
