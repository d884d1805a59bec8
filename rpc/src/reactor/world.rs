//! The world that a reactor lives in: where its time, its connections and its chance come from.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use super::clock::{self, Nanos, nanos_of};
use super::net::{Listener, Stream};

/// See the module's text.
#[derive(Clone)]
pub(crate) enum World {
    /// The system's clock and sockets.
    System,
}

impl World {
    /// Now, by the clock.
    pub(crate) fn now(&self) -> Instant {
        match self {
            World::System => Instant::now(),
        }
    }

    /// Now, by the clock.
    pub(crate) fn nanos(&self) -> Nanos {
        nanos_of(self.now())
    }

    /// Now; on a reactor's thread the time its turn began.
    pub(crate) fn turn_nanos(&self) -> Nanos {
        clock::turn_begun().unwrap_or_else(|| self.nanos())
    }

    /// A number drawn by chance. Nothing that is drawn must be unpredictable.
    pub(crate) fn random(&self) -> u64 {
        match self {
            // A hasher with fresh keys is the randomness of the standard library.
            World::System => RandomState::new().build_hasher().finish(),
        }
    }

    /// Listens on an address. Returns the one listened on, too, whose port may be the system's choice.
    pub(crate) fn listen(&self, address: SocketAddr) -> io::Result<(Listener, SocketAddr)> {
        match self {
            World::System => {
                let listener = mio::net::TcpListener::bind(address)?;
                let local = listener.local_addr()?;
                Ok((Listener::Tcp(listener), local))
            }
        }
    }

    /// Begins a connection.
    pub(crate) fn connect(&self, address: SocketAddr) -> io::Result<Stream> {
        match self {
            World::System => mio::net::TcpStream::connect(address).map(Stream::Tcp),
        }
    }
}
