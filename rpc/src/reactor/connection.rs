//! One connection as its reactor sees it: a socket, its outbox, and a side that knows what the bytes mean.
//!
//! Readiness is a hint: a spurious event costs nothing. A connection reads until the socket is empty, but only so often
//! per turn, so that a busy peer does not starve the others.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use mio::Token;

use super::clock::{Nanos, nanos_in};
use super::net::{News, Stream};
use super::outbox::Outbox;
use super::poll_loop::Turn;
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
    /// The latest read went into a large body.
    is_direct: bool,
    /// The turn in which it was read last.
    read_in_turn: u64,
    /// It is among those that have more to read in the next turn.
    pub(crate) is_in_line: bool,
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
            is_direct: false,
            read_in_turn: 0,
            is_in_line: false,
            linger_until: 0,
        }
    }

    /// There is news of the socket.
    pub(crate) fn on_news(&mut self, news: News, turn: &mut Turn) -> After {
        if matches!(self.side, Side::Opening(_)) {
            match self.check_opened(turn.nanos) {
                Ok(true) => {}
                Ok(false) => return After::Keep,
                Err(cause) => return After::Close(cause),
            }
        }
        self.is_read_closed |= news.is_read_closed;
        if news.is_writable {
            self.outbox.on_writable();
        }
        if news.is_readable || self.is_read_closed { self.read(turn) } else { After::Keep }
    }

    /// Whether the attempt has succeeded; an error if it has failed.
    fn check_opened(&mut self, now: Nanos) -> Result<bool, String> {
        if !self.stream.is_connected().map_err(|error| error.to_string())? {
            return Ok(false);
        }
        let Side::Opening(opening) = &self.side else { return Ok(true) };
        self.stream.send_at_once();
        self.stream.ask_if_silent();
        let core = opening.core.clone();
        core.on_connected(now);
        self.outbox.attach(self.stream.clone());
        self.side = Side::Client(ClientSide::new(core));
        self.outbox.flush();
        Ok(true)
    }

    /// Reads and hands on what there is, within the turn's bound. News that comes when it has had its turn is for the next one.
    pub(crate) fn read(&mut self, turn: &mut Turn) -> After {
        if std::mem::replace(&mut self.read_in_turn, turn.number) == turn.number {
            return After::Again;
        }
        let mut bytes_left = turn.scratch.len() * turn.reads_max;
        while bytes_left > 0 {
            if let Side::Server(side) = &self.side
                && side.must_wait(&self.outbox)
            {
                return After::Keep;
            }
            let (room, received) = self.receive(turn);
            let count = match received {
                Ok(0) => return self.on_end_of_stream(turn),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return After::Keep,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return After::Close(format!("reading: {error}")),
            };
            bytes_left = bytes_left.saturating_sub(count.max(turn.scratch.len() / READS_PER_SCRATCH_MAX));
            if let Err(cause) = self.take(count, turn) {
                return After::Close(cause);
            }
            // A short read has emptied the socket: whatever comes next is an event of its own.
            if count < room && !self.is_read_closed {
                return After::Keep;
            }
        }
        After::Again
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
                side.dispatch_buffered(&self.outbox, turn)
            }
            Side::Client(side) => side.take((!self.is_direct).then_some(count), &self.outbox, turn),
            Side::Opening(_) => Ok(()),
        }
    }

    /// The socket takes no more replies: from now on it is watched.
    pub(crate) fn watch_stall(&mut self, turn: &mut Turn) {
        if let Side::Server(side) = &mut self.side {
            side.watch_stall(&self.outbox, turn);
        }
    }

    /// What is buffered or waits in the socket may go on: the origin client's call is answered, or the peer has taken its
    /// replies.
    pub(crate) fn resume(&mut self, turn: &mut Turn) -> After {
        let Side::Server(side) = &mut self.side else { return After::Keep };
        match side.dispatch_buffered(&self.outbox, turn) {
            Ok(()) => self.read(turn),
            Err(cause) => After::Close(cause),
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

    /// Whether a server's connection owes its peer nothing: all calls answered, all replies sent; or nothing can be sent any
    /// more.
    pub(crate) fn is_done(&self) -> bool {
        match &self.side {
            Side::Server(_) if self.outbox.is_closed() => true,
            Side::Server(side) => side.calls_in_flight(&self.outbox) == 0 && self.outbox.unsent() == 0,
            Side::Client(_) | Side::Opening(_) => true,
        }
    }
}
