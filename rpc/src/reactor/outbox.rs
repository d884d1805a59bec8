//! What leaves on one connection, shared by every thread that sends on it.
//!
//! Two locks, so that nobody who only wants to append waits for a system call: the *queue* takes frames and is held for
//! a memcpy; the *socket side* is only ever try-locked, by whoever wants to flush, and its holder writes for all. It lets
//! go of the socket side while it holds the queue, so a frame is either seen by the holder or its appender becomes the
//! next one: none is left behind. What the kernel does not take waits for the reactor's writable event.
//!
//! It never blocks on a peer: a queue beyond its bound is refused (clients) or ends the connection (servers). Long before
//! that a server's connection has reached its high-water mark: it is not read from until half of that is left.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use mio::Token;

use super::Shared;
use super::clock::MILLISECOND;
use super::cork;
use super::lock::{lock, try_lock};
use super::mailbox::Command;
use super::net::Stream;
use super::queue::{LegacyTurn, Piece, Queue, bytes_at};
use super::socket_side::{SocketSide, Written};
use crate::primitives::atomic::{AtomicU64, Ordering};
use crate::primitives::{Mutex, MutexGuard};
use crate::protocol::recall::recall;
use crate::protocol::time_left::shorten_timeouts;
use crate::server::in_flight::Stages;
use crate::server::provider::ProviderCore;
use crate::server::streams::Streams;

/// What waits is rewritten only when it has waited for so long per byte, in nanoseconds: ten times as long as that takes.
/// So a peer that takes little at a time of very much does not have the reactor busy with this, and a call says at most 4 ms
/// too much for each MiB that waits with it.
const SHORTENING_NANOS_PER_BYTE: u64 = 4;

/// How much may wait to leave, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnsentLimits {
    /// Nothing is appended beyond it.
    pub(crate) max: u64,
    /// Nothing more is read from the peer beyond it, until half of it is left.
    pub(crate) high_water: u64,
}

/// Why nothing can be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AppendError {
    /// The connection has ended.
    Closed,
    /// The peer does not take what is queued already.
    Full,
}

/// Which of all bytes ever appended to a connection these are.
pub(crate) type Appended = Result<Range<u64>, AppendError>;

/// What a server's connection belongs to.
pub(crate) struct ServerOwner {
    /// The provider.
    pub(crate) provider: Arc<ProviderCore>,
    /// The connection's name in its reactor.
    pub(crate) token: Token,
    /// Which of its calls await their answers.
    pub(crate) stages: Stages,
    /// Which of them are streams.
    pub(crate) streams: Streams,
}

/// The outgoing half of one connection.
pub(crate) struct Outbox {
    /// The reactor that owns the connection.
    pub(crate) reactor: Arc<Shared>,
    /// Whose calls are answered here; `None` for a client's connection.
    pub(crate) server: Option<ServerOwner>,
    /// Numbers the connections of a channel; 0 for a server's.
    pub(crate) epoch: u64,
    pub(super) limits: UnsentLimits,
    /// What had not left when the latest frame was appended, in bytes. A hint: it may have left since.
    pub(super) unsent_hint: AtomicU64,
    pub(super) queue: Mutex<Queue>,
    socket: Mutex<SocketSide>,
}

impl Outbox {
    /// An outbox without a socket yet: frames are queued until [`Outbox::attach`].
    pub(crate) fn new(
        reactor: Arc<Shared>,
        limits: UnsentLimits,
        server: Option<ServerOwner>,
        epoch: u64,
    ) -> Outbox {
        let queue = Mutex::new(Queue { stalled: true, ..Queue::default() });
        let (unsent_hint, socket) = (AtomicU64::new(0), Mutex::default());
        Outbox { reactor, server, epoch, limits, unsent_hint, queue, socket }
    }

    /// Gives the outbox its connected socket. What was queued leaves with the next flush.
    pub(crate) fn attach(&self, stream: Arc<Stream>) {
        let mut side = lock(&self.socket);
        side.stream = Some(stream);
        let mut queue = lock(&self.queue);
        queue.stalled = false;
        if queue.closed {
            // It was cut while it was being made.
            side.shut_down();
        }
    }

    /// To be called after appending, with no lock held: flushes now unless the thread is corked.
    pub(crate) fn finish(self: &Arc<Self>) {
        if cork::current() == 0 {
            self.flush();
        }
    }

    /// Writes what is queued, unless somebody else is just doing that. Of very much the reactor writes the rest, a part in
    /// each turn: no thread, and no turn, is one connection's alone. Until its next turn nobody writes.
    pub(crate) fn flush(self: &Arc<Self>) {
        let Some(side) = try_lock(&self.socket) else { return };
        self.write(side, self.part_bytes_max());
    }

    /// As [`Outbox::flush`], when its turn in a reactor's line has come.
    pub(super) fn flush_in_turn(self: &Arc<Self>) {
        // NB: first. What is appended from now on has it stand in the line again, or is seen here.
        lock(&self.queue).leave_line();
        self.flush();
    }

    /// Writes what is owed to a client whose connection ends. Beyond the high-water mark nothing is read from it, so it is
    /// owed no more.
    pub(crate) fn flush_owed(self: &Arc<Self>) {
        let side = lock(&self.socket);
        self.begin_next_part();
        self.write(side, self.part_bytes_max().max(self.limits.high_water));
    }

    /// Bytes written at a time.
    fn part_bytes_max(&self) -> u64 {
        self.reactor.config.write_bytes_per_turn_max.max(1) as u64
    }

    /// Writes at most so many bytes.
    fn write(self: &Arc<Self>, mut side: MutexGuard<'_, SocketSide>, mut room: u64) {
        let mut queue = lock(&self.queue);
        loop {
            let has_work = queue.leftover || !queue.is_empty();
            if queue.closed || queue.stalled || queue.paused || !has_work || room == 0 {
                if !queue.stalled && !has_work {
                    queue.time_as_of = None;
                }
                let is_to_pause = room == 0 && has_work && !queue.closed && !queue.stalled;
                if is_to_pause {
                    queue.paused = true;
                    self.time_stands_still(&mut queue);
                }
                let rest = is_to_pause.then(|| Command::WriteOn(self.clone()));
                let (resume, stall) = (self.resume(&mut queue), self.stall(&mut queue));
                self.note_unsent(&mut queue);
                // NB: in this order. Who appends after the queue is free finds the socket side free, too.
                drop(side);
                drop(queue);
                for command in [rest, resume, stall].into_iter().flatten() {
                    // A reactor that has stopped writes, reads and watches nothing more.
                    let _ = self.reactor.post(command);
                }
                return;
            }
            self.shorten_timeouts(&mut queue, &mut side);
            if queue.leftover {
                queue.leftover = false;
            } else {
                queue.usual_bytes = queue.bytes.len();
                std::mem::swap(&mut queue.bytes, &mut side.sending);
                std::mem::swap(&mut queue.sealed, &mut side.sealed);
                side.sent = 0;
            }
            let writable_events = queue.writable_events;
            queue.writing = true;
            drop(queue);
            let (outcome, taken) = side.write(room);
            queue = lock(&self.queue);
            queue.writing = false;
            queue.written += taken;
            room -= taken;
            match outcome {
                Written::All => side.clear(),
                Written::Blocked => {
                    queue.leftover = true;
                    queue.stalled = queue.writable_events == writable_events;
                    if queue.stalled {
                        self.time_stands_still(&mut queue);
                    }
                }
                Written::Paused => queue.leftover = true,
                Written::Failed(error) => {
                    queue.write_error = Some(error);
                    queue.closed = true;
                    side.shut_down();
                }
            }
        }
    }

    /// Of what is queued another part may be written.
    pub(crate) fn begin_next_part(&self) {
        lock(&self.queue).paused = false;
    }

    /// Whether the kernel may take more of what is queued, but in a turn to come.
    pub(crate) fn has_next_part(&self) -> bool {
        lock(&self.queue).paused
    }

    /// What a client has queued waits from now on, and says its time as of now.
    fn time_stands_still(&self, queue: &mut Queue) {
        if self.server.is_none() {
            queue.time_as_of.get_or_insert_with(|| self.reactor.world.turn_nanos());
        }
    }

    /// Tells the provider, or the reactor of a client's, how much is left, if that has changed: most often nothing is, as
    /// before.
    fn note_unsent(&self, queue: &mut Queue) {
        let left = if queue.closed { 0 } else { queue.unsent() };
        let known = std::mem::replace(&mut queue.unsent_known, left);
        if known == left {
            return;
        }
        match &self.server {
            Some(owner) => owner.provider.note_unsent(known, left),
            None => self.reactor.note_unsent(known, left),
        }
    }

    /// What the reactor is told when a flush has left little enough.
    fn resume(&self, queue: &mut Queue) -> Option<Command> {
        let ServerOwner { token, .. } = self.server.as_ref()?;
        let is_over = queue.awaits_drain && !self.is_above_low_water(queue);
        queue.awaits_drain &= !is_over;
        is_over.then_some(Command::Resume(*token))
    }

    /// What the reactor is told when a flush has found that the kernel takes nothing. What is left then may be little, and
    /// nothing else need ever happen.
    fn stall(&self, queue: &mut Queue) -> Option<Command> {
        let ServerOwner { token, .. } = self.server.as_ref()?;
        let is_news = queue.stalled && !queue.stall_is_known && !queue.closed;
        queue.stall_is_known |= is_news;
        is_news.then_some(Command::WatchStall(*token))
    }

    fn is_above_low_water(&self, queue: &Queue) -> bool {
        !queue.closed && queue.unsent() > self.limits.high_water / 2
    }

    /// Whether the peer must take replies before anything more is read from it; if so, the reactor will be told.
    pub(crate) fn must_drain(&self) -> bool {
        if self.unsent_hint() <= self.limits.high_water {
            return false;
        }
        // NB: nothing is written here. Whoever has appended will, on this thread at the turn's end: else a connection whose
        // replies are large and taken would have the whole turn for itself.
        let mut queue = lock(&self.queue);
        queue.awaits_drain = self.is_above_low_water(&queue);
        if !queue.awaits_drain {
            self.unsent_hint.store(queue.unsent(), Ordering::Relaxed);
        }
        queue.awaits_drain
    }

    /// What had not left when the latest frame was appended, in bytes; more may have left since.
    pub(crate) fn unsent_hint(&self) -> u64 {
        // Relaxed: a hint, and what this thread has appended itself it sees.
        self.unsent_hint.load(Ordering::Relaxed)
    }

    /// How much the kernel has taken, and how much it takes not. A stall after which there is nothing of that is news again.
    pub(crate) fn progress(&self) -> (u64, u64) {
        let mut queue = lock(&self.queue);
        let refused = if queue.stalled { queue.unsent() } else { 0 };
        queue.stall_is_known &= refused > 0;
        (queue.written, refused)
    }

    /// The reactor saw the socket become writable. Returns whether the outbox is to stand in the line to be written.
    pub(crate) fn on_writable(&self) -> bool {
        let mut queue = lock(&self.queue);
        queue.writable_events += 1;
        queue.stalled = false;
        (queue.leftover || !queue.is_empty()) && self.join_line(&mut queue)
    }

    /// Whether the caller, a reactor's thread, is to have it stand in its line to be written: it does not yet.
    pub(crate) fn stand_in_line(&self) -> bool {
        self.join_line(&mut lock(&self.queue))
    }

    /// See [`Outbox::stand_in_line`].
    pub(super) fn join_line(&self, queue: &mut Queue) -> bool {
        let is_news = queue.stand_in_line();
        if is_news {
            self.time_stands_still(queue);
        }
        is_news
    }

    /// Ends the connection from any thread: the reactor hears of it from the socket.
    pub(crate) fn cut(&self) {
        {
            let mut queue = lock(&self.queue);
            queue.closed = true;
            self.note_unsent(&mut queue);
        }
        lock(&self.socket).shut_down();
    }

    /// The reactor has taken the connection down. Returns how many of the bytes appended the kernel took, and why it took no
    /// more if that is what has ended it.
    pub(crate) fn close(&self) -> (u64, Option<String>) {
        let mut side = lock(&self.socket);
        let mut queue = lock(&self.queue);
        side.shut_down();
        *side = SocketSide::default();
        queue.closed = true;
        self.note_unsent(&mut queue);
        queue.bytes = Vec::new();
        queue.sealed = VecDeque::new();
        (queue.written, queue.write_error.take())
    }

    /// Bytes that may have left so far: what the kernel has taken, and what it is being given right now.
    pub(crate) fn may_have_left(&self) -> u64 {
        lock(&self.queue).may_have_left()
    }

    /// Takes back a call whose frame was appended as these bytes, if none of them has left: in its place its own
    /// cancellation will leave. Returns whether the peer can never see the call.
    pub(crate) fn take_back(&self, frame: &Range<u64>) -> bool {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return queue.may_have_left() < frame.end;
        }
        let Some(place) = frame.start.checked_sub(queue.written) else { return false };
        let held_by_side = queue.unsent() - queue.waiting_bytes();
        if let Some(place) = place.checked_sub(held_by_side) {
            let Queue { sealed, bytes, .. } = &mut *queue;
            return bytes_at(sealed, bytes, place).is_some_and(recall);
        }
        // NB: who finds the socket side taken leaves the writing to its holder, and nothing is written here. So it is taken
        // only while nobody may write, and let go before the queue.
        if !queue.stalled && !queue.paused {
            return false;
        }
        let Some(mut side) = try_lock(&self.socket) else { return false };
        let SocketSide { sealed, sending, sent, .. } = &mut *side;
        let place = place + *sent as u64;
        bytes_at(sealed, sending, place).is_some_and(recall)
    }

    /// What is about to leave may have waited: its calls say so much less of their time.
    fn shorten_timeouts(&self, queue: &mut Queue, side: &mut SocketSide) {
        let Some(as_of) = queue.time_as_of else { return };
        let waited = self.reactor.world.turn_nanos().saturating_sub(as_of);
        if waited < MILLISECOND.max(queue.unsent() * SHORTENING_NANOS_PER_BYTE) {
            return;
        }
        let waited_ms = waited / MILLISECOND;
        queue.time_as_of = Some(as_of + waited_ms * MILLISECOND);
        let mut left = side.sent;
        let held = side.sealed.iter_mut().map(Piece::frames).chain([&mut side.sending[..]]);
        let waiting = queue.sealed.iter_mut().map(Piece::frames).chain([&mut queue.bytes[..]]);
        for frames in held.chain(waiting) {
            shorten_timeouts(frames, std::mem::take(&mut left), waited_ms);
        }
    }

    /// What may wait to leave.
    pub(crate) fn unsent_bytes_max(&self) -> u64 {
        self.limits.max
    }

    /// Bytes that have not left.
    pub(crate) fn unsent(&self) -> u64 {
        lock(&self.queue).unsent()
    }

    /// Whether nothing can leave any more.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.queue).closed
    }

    /// Calls answered so far.
    pub(crate) fn answered(&self) -> u64 {
        lock(&self.queue).answered
    }

    /// A call of an origin client begins.
    pub(crate) fn legacy_begin(&self) {
        lock(&self.queue).legacy = LegacyTurn::Busy;
    }

    /// Whether a call of the origin client is outstanding; if so, the reactor will be told of its end.
    pub(crate) fn legacy_is_busy(&self) -> bool {
        let mut queue = lock(&self.queue);
        if queue.legacy == LegacyTurn::Idle {
            return false;
        }
        queue.legacy = LegacyTurn::Awaited;
        true
    }

    /// The outstanding call of the origin client is answered. Returns whether the reactor waits for this.
    pub(crate) fn legacy_end(&self) -> bool {
        std::mem::take(&mut lock(&self.queue).legacy) == LegacyTurn::Awaited
    }
}
