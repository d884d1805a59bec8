//! A listening socket: takes connections until there are none, and rests when it may not or cannot take more.
//!
//! Readiness is edge-triggered, so a listener that stops early remembers that connections are waiting. It is tried again
//! when a connection has ended or a short pause is over, never in a loop.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::clock::{Nanos, nanos_in};
use super::net::{Listener as Socket, Stream};
use crate::server::provider::{ProviderCore, Standing};

/// How long a listener rests when the system has no descriptors or no memory for a connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// See the module's text.
pub(crate) struct Listener {
    pub(crate) socket: Socket,
    pub(crate) provider: Arc<ProviderCore>,
    /// Connections may be waiting.
    pub(crate) is_ready: bool,
    /// Until when the listener rests; 0 when it does not.
    pub(crate) resting_until: Nanos,
    /// The log has been told of the present shortage.
    has_warned: bool,
}

/// What one visit brought.
pub(crate) enum Accepted {
    /// A connection.
    Connection(Stream, SocketAddr, Standing),
    /// Nothing now: none is waiting, or none may be taken.
    Nothing,
    /// Nothing before this moment.
    RestUntil(Nanos),
}

impl Listener {
    pub(crate) fn new(socket: Socket, provider: Arc<ProviderCore>) -> Listener {
        Listener { socket, provider, is_ready: true, resting_until: 0, has_warned: false }
    }

    /// Takes one connection, if it may.
    pub(crate) fn accept(&mut self, now: Nanos) -> Accepted {
        if !self.is_ready {
            return Accepted::Nothing;
        }
        if now < self.resting_until {
            // NB: said again. Whoever has it visited sooner may have looked past the moment that was armed.
            return Accepted::RestUntil(self.resting_until);
        }
        let Some(standing) = self.provider.next_standing(now) else { return Accepted::Nothing };
        self.resting_until = 0;
        loop {
            match self.socket.accept() {
                Ok((stream, peer)) => {
                    self.has_warned = false;
                    return Accepted::Connection(stream, peer, standing);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.is_ready = false;
                    return Accepted::Nothing;
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    if !self.has_warned {
                        log::warn!("no connection can be accepted for a while: {error}");
                        self.has_warned = true;
                    }
                    self.resting_until = now.saturating_add(nanos_in(EXHAUSTED_PAUSE));
                    return Accepted::RestUntil(self.resting_until);
                }
            }
        }
    }
}

/// Whether an error of `accept` says something of one waiting connection, not of the listener.
fn is_of_one_connection(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}
