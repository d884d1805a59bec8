//! What leaves on one connection, shared by every thread that sends on it.
//!
//! Two locks, so that nobody who only wants to append waits for a system call: the *queue* takes frames and is held for
//! a memcpy; the *socket side* is only ever try-locked, by whoever wants to flush, and its holder writes for all. It lets
//! go of the socket side while it holds the queue, so a frame is either seen by the holder or its appender becomes the
//! next one: none is left behind. What the kernel does not take waits for the reactor's writable event.
//!
//! It never blocks on a peer: a queue beyond its bound is refused (clients) or ends the connection (servers).

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Write};
use std::net::Shutdown;
use std::sync::{Arc, Mutex};

use mio::Token;
use mio::net::TcpStream;

use super::Shared;
use super::cork;
use super::lock::{lock, try_lock};
use super::spare;
use crate::server::in_flight::{Stages, Ticket};
use crate::server::provider::ProviderCore;

/// Above this capacity an empty buffer is given back after a burst, in bytes.
const BUFFER_KEPT_BYTES_MAX: usize = 64 * 1024;

/// Buffers given to the kernel at a time.
const SLICES_MAX: usize = 16;

/// Frames from this size on get a buffer of their own, in bytes.
pub(crate) const LARGE_FRAME_BYTES_MIN: usize = 16 * 1024;

/// Why nothing can be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AppendError {
    /// The connection has ended.
    Closed,
    /// The peer does not take what is queued already.
    Full,
}

/// What a server's connection belongs to.
pub(crate) struct ServerOwner {
    /// The provider.
    pub(crate) provider: Arc<ProviderCore>,
    /// The connection's name in its reactor.
    pub(crate) token: Token,
    /// Which of its calls await their answers.
    pub(crate) stages: Stages,
}

/// The outgoing half of one connection.
pub(crate) struct Outbox {
    /// The reactor that owns the connection.
    pub(crate) reactor: Arc<Shared>,
    /// Whose calls are answered here; `None` for a client's connection.
    pub(crate) server: Option<ServerOwner>,
    /// Numbers the connections of a channel; 0 for a server's.
    pub(crate) epoch: u64,
    unsent_bytes_max: usize,
    queue: Mutex<Queue>,
    socket: Mutex<SocketSide>,
}

/// What is waiting, and what threads must know of each other. A leaf lock.
#[derive(Default)]
struct Queue {
    /// Frames that leave before `bytes`, each large one in a buffer of its own.
    sealed: VecDeque<Vec<u8>>,
    bytes: Vec<u8>,
    /// Bytes ever appended.
    appended: u64,
    /// Bytes ever taken by the kernel; never more than `appended`.
    written: u64,
    /// A write is going on: more than `written` may have left.
    writing: bool,
    /// The kernel takes nothing until a writable event.
    stalled: bool,
    /// The socket side holds bytes of an incomplete write.
    leftover: bool,
    /// Writable events seen: a write that met a full socket stalls only if none came meanwhile.
    writable_events: u64,
    closed: bool,
    /// The corked scope that will flush this connection; 0 for none.
    corked_by: u64,
    /// Calls answered; only a server's connections count.
    answered: u64,
    /// Places of answered calls that the reactor's thread may give away again; never more than there are places.
    released: Vec<u32>,
    legacy: LegacyTurn,
}

/// Whose turn it is on a connection of an origin client, which may have one call outstanding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum LegacyTurn {
    /// No call is outstanding.
    #[default]
    Idle,
    /// A call is; the reactor has nothing more of this connection to read.
    Busy,
    /// A call is, and the reactor wants to be told when it is answered.
    Awaited,
}

/// The writing end of the socket, with what the kernel has not taken yet.
#[derive(Default)]
struct SocketSide {
    stream: Option<Arc<TcpStream>>,
    /// Leave before `sending`.
    sealed: VecDeque<Vec<u8>>,
    sending: Vec<u8>,
    /// Bytes of the first of these that the kernel has taken.
    sent: usize,
}

enum Written {
    All,
    Blocked,
    Failed,
}

impl Outbox {
    /// An outbox without a socket yet: frames are queued until [`Outbox::attach`].
    pub(crate) fn new(
        reactor: Arc<Shared>,
        unsent_bytes_max: usize,
        server: Option<ServerOwner>,
        epoch: u64,
    ) -> Outbox {
        let queue = Mutex::new(Queue { stalled: true, ..Queue::default() });
        Outbox { reactor, server, epoch, unsent_bytes_max, queue, socket: Mutex::default() }
    }

    /// Gives the outbox its connected socket. What was queued leaves with the next flush.
    pub(crate) fn attach(&self, stream: Arc<TcpStream>) {
        lock(&self.socket).stream = Some(stream);
        lock(&self.queue).stalled = false;
    }

    /// Appends what `put` writes and arranges its flush: at the end of the thread's corked scope, or by
    /// [`Outbox::finish`] outside of one. Returns the total of bytes appended to the connection so far.
    pub(crate) fn append(self: &Arc<Self>, put: impl FnOnce(&mut Vec<u8>)) -> Result<u64, AppendError> {
        self.append_as(None, put)
    }

    /// Like [`Outbox::append`], for the one terminal reply of a call, whose place becomes free.
    pub(crate) fn append_answer(
        self: &Arc<Self>,
        ticket: Option<Ticket>,
        put: impl FnOnce(&mut Vec<u8>),
    ) -> Result<u64, AppendError> {
        self.append_as(Some(ticket), put)
    }

    /// Appends a large frame, serialized before any lock is taken into a buffer that is never copied; `answers` as for
    /// [`Outbox::append_answer`].
    pub(crate) fn append_large(
        self: &Arc<Self>,
        answers: Option<Option<Ticket>>,
        put: impl FnOnce(&mut Vec<u8>),
    ) -> Result<u64, AppendError> {
        let mut frame = spare::take();
        put(&mut frame);
        self.append_with(answers, |queue| {
            queue.appended += frame.len() as u64;
            if !queue.bytes.is_empty() {
                queue.sealed.push_back(std::mem::take(&mut queue.bytes));
            }
            queue.sealed.push_back(frame);
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
    ) -> Result<u64, AppendError> {
        self.append_with(answers, |queue| {
            let before = queue.bytes.len();
            put(&mut queue.bytes);
            queue.appended += (queue.bytes.len() - before) as u64;
        })
    }

    fn append_with(
        self: &Arc<Self>,
        answers: Option<Option<Ticket>>,
        put: impl FnOnce(&mut Queue),
    ) -> Result<u64, AppendError> {
        let cork = cork::current();
        let (result, touched_first) = {
            let mut queue = lock(&self.queue);
            if let Some(ticket) = answers {
                queue.count_answer(ticket);
            }
            let result = if queue.closed {
                Err(AppendError::Closed)
            } else if queue.unsent() > self.unsent_bytes_max as u64 {
                Err(AppendError::Full)
            } else {
                put(&mut queue);
                Ok(queue.appended)
            };
            let touched_first = cork != 0 && queue.corked_by != cork;
            if touched_first {
                queue.corked_by = cork;
            }
            (result, touched_first)
        };
        if touched_first {
            cork::touch(self);
        }
        result
    }

    /// To be called after appending, with no lock held: flushes now unless the thread is corked.
    pub(crate) fn finish(&self) {
        if cork::current() == 0 {
            self.flush();
        }
    }

    /// Writes all that is queued, unless somebody else is just doing that.
    pub(crate) fn flush(&self) {
        let Some(mut side) = try_lock(&self.socket) else { return };
        let mut queue = lock(&self.queue);
        loop {
            if queue.closed || queue.stalled || !queue.leftover && queue.is_empty() {
                // NB: in this order. Who appends after the queue is free finds the socket side free, too.
                drop(side);
                drop(queue);
                return;
            }
            if queue.leftover {
                queue.leftover = false;
            } else {
                std::mem::swap(&mut queue.bytes, &mut side.sending);
                std::mem::swap(&mut queue.sealed, &mut side.sealed);
                side.sent = 0;
            }
            let writable_events = queue.writable_events;
            queue.writing = true;
            drop(queue);
            let (outcome, taken) = side.write();
            queue = lock(&self.queue);
            queue.writing = false;
            queue.written += taken;
            match outcome {
                Written::All => side.clear(),
                Written::Blocked => {
                    queue.leftover = true;
                    queue.stalled = queue.writable_events == writable_events;
                }
                Written::Failed => {
                    queue.closed = true;
                    side.shut_down();
                }
            }
        }
    }

    /// The reactor saw the socket become writable.
    pub(crate) fn on_writable(&self) {
        let has_work = {
            let mut queue = lock(&self.queue);
            queue.writable_events += 1;
            queue.stalled = false;
            queue.leftover || !queue.is_empty()
        };
        if has_work {
            self.flush();
        }
    }

    /// Ends the connection from any thread: the reactor hears of it from the socket.
    pub(crate) fn cut(&self) {
        lock(&self.queue).closed = true;
        lock(&self.socket).shut_down();
    }

    /// The reactor has taken the connection down. Returns how many of the bytes appended the kernel took.
    pub(crate) fn close(&self) -> u64 {
        let mut side = lock(&self.socket);
        let mut queue = lock(&self.queue);
        side.shut_down();
        *side = SocketSide::default();
        queue.closed = true;
        queue.bytes = Vec::new();
        queue.sealed = VecDeque::new();
        queue.written
    }

    /// Bytes that may have left so far: what the kernel has taken, and what it is being given right now.
    pub(crate) fn may_have_left(&self) -> u64 {
        let queue = lock(&self.queue);
        if queue.writing { queue.appended - queue.waiting_bytes() } else { queue.written }
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

impl Queue {
    fn count_answer(&mut self, ticket: Option<Ticket>) {
        self.answered += 1;
        self.released.extend(ticket.map(|ticket| ticket.place));
    }

    fn unsent(&self) -> u64 {
        self.appended - self.written
    }

    /// Whether nothing waits that the socket side does not hold.
    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.sealed.is_empty()
    }

    /// Bytes that the socket side does not hold yet.
    fn waiting_bytes(&self) -> u64 {
        (self.sealed.iter().map(Vec::len).sum::<usize>() + self.bytes.len()) as u64
    }
}

impl SocketSide {
    /// Writes until all is sent or the kernel takes no more. Returns how much it took, too.
    fn write(&mut self) -> (Written, u64) {
        let Some(stream) = self.stream.clone() else { return (Written::Blocked, 0) };
        let mut taken = 0;
        while !self.sealed.is_empty() || self.sent < self.sending.len() {
            let result = if self.sealed.is_empty() {
                (&*stream).write(&self.sending[self.sent..])
            } else {
                self.write_sealed(&stream)
            };
            match result {
                Ok(0) => return (Written::Failed, taken),
                Ok(count) => {
                    taken += count as u64;
                    self.advance(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return (Written::Blocked, taken),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return (Written::Failed, taken),
            }
        }
        (Written::All, taken)
    }

    /// Gives the kernel as many buffers as it takes at once.
    fn write_sealed(&self, mut stream: &TcpStream) -> std::io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        for (slice, buffer) in slices.iter_mut().zip(self.sealed.iter().chain([&self.sending])) {
            let sent = if count == 0 { self.sent } else { 0 };
            *slice = IoSlice::new(&buffer[sent..]);
            count += 1;
        }
        stream.write_vectored(&slices[..count])
    }

    /// The kernel has taken `count` more bytes.
    fn advance(&mut self, count: usize) {
        self.sent += count;
        while self.sealed.front().is_some_and(|first| first.len() <= self.sent)
            && let Some(first) = self.sealed.pop_front()
        {
            self.sent -= first.len();
            spare::give(first);
        }
    }

    fn clear(&mut self) {
        self.sent = 0;
        self.sending.clear();
        if self.sending.capacity() > BUFFER_KEPT_BYTES_MAX {
            self.sending = Vec::new();
        }
    }

    fn shut_down(&mut self) {
        if let Some(stream) = &self.stream {
            // A socket that is not connected any more is what is wanted.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
