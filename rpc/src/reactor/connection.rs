//! One connection as its reactor sees it: a socket, its outbox, and a side that knows what the bytes mean.
//!
//! Readiness is a hint, told once: a spurious event costs nothing, and one that was not used up is remembered. A connection
//! reads until the socket is empty, but only so often per turn, so that a busy peer does not starve the others.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::Token;

use super::clock::{Nanos, nanos_in};
use super::cork;
use super::net::{News, Stream};
use super::outbox::Outbox;
use super::turn::Turn;
use crate::client::core::Core;
use crate::client::replies::ClientSide;
use crate::server::dispatcher::ServerSide;

/// Read at a time where a large body is expected, in bytes: its header, and little of it that must be copied.
const LARGE_HEAD_BYTES: usize = 2048;

/// However little a read brings, it counts for so much of a scratch buffer in a turn's bound.
const READS_PER_SCRATCH_MAX: usize = 8;

/// What is to be done with a connection after a visit.
#[derive(Debug)]
pub(crate) enum After {
    /// Nothing until the next event.
    Keep,
    /// It has more to read: visit it again in the next turn.
    Again,
    /// The peer sends nothing more; it is kept until its calls are answered.
    Linger,
    /// It has ended, for this reason.
    Close(String),
}

/// See the module's text.
pub(crate) struct Connection {
    pub(crate) token: Token,
    pub(crate) stream: Arc<Stream>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) side: Side,
    /// The peer has closed its sending side: reads must go on until they say so.
    is_read_closed: bool,
    /// There may be something to read in the socket.
    is_readable: bool,
    /// There may be whole frames that were read and not dispatched.
    has_frames: bool,
    /// The latest read went into a large body.
    is_direct: bool,
    /// Until when a peer that sends nothing more is kept; 0 while it may send.
    pub(crate) linger_until: Nanos,
}

/// Which end of a connection this is.
#[expect(clippy::large_enum_variant, reason = "connections are boxed as a whole")]
pub(crate) enum Side {
    Server(ServerSide),
    Client(ClientSide),
    /// A client whose connection is being made.
    Opening(Opening),
}

/// A connection attempt.
pub(crate) struct Opening {
    pub(crate) core: Arc<Core>,
    pub(crate) due: Nanos,
    /// Addresses to try if this one fails, in order of preference, the first last.
    pub(crate) others: Vec<SocketAddr>,
}

impl Connection {
    pub(crate) fn new(token: Token, stream: Arc<Stream>, outbox: Arc<Outbox>, side: Side) -> Connection {
        Connection {
            token,
            stream,
            outbox,
            side,
            is_read_closed: false,
            is_readable: false,
            has_frames: false,
            is_direct: false,
            linger_until: 0,
        }
    }

    /// There is news of the socket. Returns whether the connection is to be visited.
    pub(crate) fn note(&mut self, news: News) -> bool {
        self.is_read_closed |= news.is_read_closed;
        self.is_readable |= news.is_readable || self.is_read_closed;
        self.is_readable || !self.is_open()
    }

    /// Whether the connection has been made.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(self.side, Side::Opening(_))
    }

    /// Whether the attempt has succeeded; an error if it has failed.
    fn check_opened(&mut self, now: Nanos) -> Result<bool, String> {
        let Side::Opening(opening) = &self.side else { return Ok(true) };
        if !self.stream.is_connected().map_err(|error| error.to_string())? {
            return Ok(false);
        }
        self.stream.send_at_once();
        // A server that takes nothing is found out by its silence, long before.
        self.stream.ask_if_silent(Duration::ZERO);
        let core = opening.core.clone();
        core.on_connected(now);
        self.outbox.attach(self.stream.clone());
        self.side = Side::Client(ClientSide::new(core));
        if self.outbox.stand_in_line() {
            cork::touch(&self.outbox);
        }
        Ok(true)
    }

    /// Reads and hands on what there is, within its share of a turn and the turn's time.
    pub(crate) fn go_on(&mut self, turn: &mut Turn) -> After {
        match self.check_opened(turn.nanos) {
            Ok(true) => {}
            Ok(false) => return After::Keep,
            Err(cause) => return After::Close(cause),
        }
        if self.has_frames
            && let Err(cause) = self.dispatch(turn)
        {
            return After::Close(cause);
        }
        let mut bytes_left = turn.share;
        while self.has_more() {
            if let Side::Server(side) = &self.side
                && side.must_wait(&self.outbox)
            {
                // The reactor is told when it need not.
                return After::Keep;
            }
            if self.has_frames || bytes_left == 0 || bytes_left < turn.share && !turn.has_time() {
                return After::Again;
            }
            let (room, received) = self.receive(turn);
            let count = match received {
                Ok(0) => {
                    self.is_readable = false;
                    return self.on_end_of_stream(turn);
                }
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.is_readable = false;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return After::Close(format!("reading: {error}")),
            };
            bytes_left = bytes_left.saturating_sub(count.max(turn.scratch.len() / READS_PER_SCRATCH_MAX));
            // A short read has emptied the socket: whatever comes next is an event of its own.
            self.is_readable = count == room || self.is_read_closed;
            if let Err(cause) = self.take(count, turn) {
                return After::Close(cause);
            }
        }
        After::Keep
    }

    /// Reads once: into a large body that has begun, else into the turn's scratch buffer, of which little is used when
    /// another large body may follow. Returns how much there was room for.
    fn receive(&mut self, turn: &mut Turn) -> (usize, std::io::Result<usize>) {
        let (room, expects_large) = match &mut self.side {
            Side::Server(side) => side.room(),
            Side::Client(side) => side.room(),
            Side::Opening(_) => (None, false),
        };
        self.is_direct = room.is_some();
        if let Some(room) = room {
            let bytes = room.capacity() - room.len();
            return (bytes, self.stream.read_behind(room));
        }
        let bytes = if expects_large { turn.scratch.len().min(LARGE_HEAD_BYTES) } else { turn.scratch.len() };
        (bytes, self.stream.read(&mut turn.scratch[..bytes]))
    }

    /// Hands `count` received bytes to the side.
    fn take(&mut self, count: usize, turn: &mut Turn) -> Result<(), String> {
        match &mut self.side {
            Side::Server(side) => {
                side.take(count, (!self.is_direct).then(|| &turn.scratch[..count]));
                self.dispatch(turn)
            }
            Side::Client(side) => side.take((!self.is_direct).then_some(count), &self.outbox, turn),
            Side::Opening(_) => Ok(()),
        }
    }

    /// Dispatches the calls that have come, as far as that is possible now.
    fn dispatch(&mut self, turn: &mut Turn) -> Result<(), String> {
        if let Side::Server(side) = &mut self.side {
            self.has_frames = side.dispatch_buffered(&self.outbox, turn)?;
        }
        Ok(())
    }

    /// The socket takes no more replies: from now on it is watched.
    pub(crate) fn watch_stall(&mut self, turn: &mut Turn) {
        if let Side::Server(side) = &mut self.side {
            side.watch_stall(&self.outbox, turn);
        }
    }

    fn on_end_of_stream(&mut self, turn: &Turn) -> After {
        let Side::Server(side) = &self.side else { return After::Close("closed by the server".to_owned()) };
        if self.is_done() {
            return After::Close("closed by the peer".to_owned());
        }
        if self.linger_until == 0 {
            self.linger_until = turn.nanos.saturating_add(nanos_in(side.provider.config.half_closed_timeout));
        }
        After::Linger
    }

    /// Whether there may be something that has come and has not been read or dispatched.
    pub(crate) fn has_more(&self) -> bool {
        self.is_readable || self.has_frames
    }

    /// Whether a server's connection owes its peer nothing: all that is known to have come read, all calls answered, all
    /// replies sent; or nothing can be sent any more.
    pub(crate) fn is_done(&self) -> bool {
        match &self.side {
            Side::Server(_) if self.outbox.is_closed() => true,
            Side::Server(_) if self.has_more() => false,
            Side::Server(side) => side.calls_in_flight(&self.outbox) == 0 && self.outbox.unsent() == 0,
            Side::Client(_) | Side::Opening(_) => true,
        }
    }
}
