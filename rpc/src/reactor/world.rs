//! The world that a reactor lives in: where its time, its connections and its chance come from.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Instant;

use super::clock::{self, Nanos, nanos_of};
use super::cork;
use super::net::{Listener, Stream};
use crate::simulation::pipe::{Pipe, PipeListener};
use crate::simulation::world::SimulatedWorld;

/// See the module's text.
#[derive(Clone)]
pub(crate) enum World {
    /// The system's clock and sockets.
    System,
    /// A script's.
    Simulated(Arc<SimulatedWorld>),
}

impl World {
    /// Now, by the clock.
    pub(crate) fn now(&self) -> Instant {
        match self {
            World::System => Instant::now(),
            World::Simulated(world) => world.now(),
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
            World::Simulated(world) => world.network.random(),
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
            World::Simulated(world) => {
                let listener = PipeListener::bind(world, address)?;
                let local = listener.address();
                Ok((Listener::Pipe(listener), local))
            }
        }
    }

    /// Begins a connection.
    pub(crate) fn connect(&self, address: SocketAddr) -> io::Result<Stream> {
        match self {
            World::System => mio::net::TcpStream::connect(address).map(Stream::Tcp),
            World::Simulated(world) => Ok(Stream::Pipe(Pipe::connect(world, address))),
        }
    }

    /// The addresses of `HOST:PORT`, which may have none. It may take as long as the system likes.
    pub(crate) fn look_up(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        match self {
            World::System => name.to_socket_addrs().map(Iterator::collect),
            World::Simulated(world) => Ok(world.network.addresses_of(name)),
        }
    }

    /// To be called before waiting for something: all that the caller's corked scope holds back leaves. Where waiting is no way
    /// to have other things go on, goes on with them until it is so. Returns whether that is the case here.
    pub(crate) fn runs_until(&self, is_so: impl Fn() -> bool) -> bool {
        cork::let_go();
        match self {
            World::System => false,
            World::Simulated(world) => {
                world.run_until(is_so);
                true
            }
        }
    }
}
