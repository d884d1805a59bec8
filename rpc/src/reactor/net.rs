//! What a reactor needs of a network: streams of bytes, listeners, and to be told which of them are ready.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::net::sockopt;

use crate::simulation::pipe::{Pipe, PipeListener, Watcher};
use crate::simulation::world::SimulatedWorld;

/// The waker's name among the sockets.
const WAKER: Token = Token(usize::MAX);

/// Events taken from the poll at a time.
const EVENTS_PER_TURN_MAX: usize = 1024;

/// A peer that is silent for so long is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(60);

/// Between two questions that are not answered.
const QUESTION_INTERVAL: Duration = Duration::from_secs(10);

/// Questions without an answer that are enough.
const QUESTIONS: u32 = 6;

/// Saturating, at what the system takes at most.
fn milliseconds_in(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX).min(i32::MAX.cast_unsigned())
}

/// One end of a connection. It never waits: what cannot be done now is `WouldBlock`.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Pipe(Pipe),
}

impl Stream {
    /// Whether a connection that was begun has been made.
    ///
    /// # Errors
    /// Why it has failed.
    pub(crate) fn is_connected(&self) -> io::Result<bool> {
        match self {
            Stream::Tcp(stream) => {
                if let Some(error) = stream.take_error()? {
                    return Err(error);
                }
                match stream.peer_addr() {
                    Ok(_) => Ok(true),
                    Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
                    Err(error) => Err(error),
                }
            }
            Stream::Pipe(pipe) => pipe.is_connected(),
        }
    }

    /// Has small frames leave at once.
    pub(crate) fn send_at_once(&self) {
        match self {
            // Without it they wait for acknowledgements; failing that they are merely late.
            Stream::Tcp(stream) => drop(stream.set_nodelay(true)),
            Stream::Pipe(_) => {}
        }
    }

    /// Has the system ask a peer that is silent whether it is still there: nobody else asks a program of the origin, nor one
    /// that has not said a word yet. A peer whose system does not answer is an error of the connection, and so is one that
    /// acknowledges nothing of what it is sent: it is not asked meanwhile. One that has no room for more may be so for
    /// `patience`.
    pub(crate) fn ask_if_silent(&self, patience: Duration) {
        let unacknowledged = patience.max(SILENCE + QUESTION_INTERVAL * QUESTIONS);
        let ask = |stream: &TcpStream| -> rustix::io::Result<()> {
            sockopt::set_tcp_keepidle(stream, SILENCE)?;
            sockopt::set_tcp_keepintvl(stream, QUESTION_INTERVAL)?;
            sockopt::set_tcp_keepcnt(stream, QUESTIONS)?;
            sockopt::set_socket_keepalive(stream, true)?;
            sockopt::set_tcp_user_timeout(stream, milliseconds_in(unacknowledged))
        };
        match self {
            // Failing that, one that has vanished is kept for longer.
            Stream::Tcp(stream) => drop(ask(stream)),
            Stream::Pipe(_) => {}
        }
    }

    /// Reads what there is, up to the buffer's length; nothing is the end. Less than that length means that there is no more.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*stream).read(buffer),
            Stream::Pipe(pipe) => pipe.read(buffer),
        }
    }

    /// Like [`Stream::read`], behind what the buffer holds, up to its capacity.
    pub(crate) fn read_behind(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => {
                rustix::io::read(stream, rustix::buffer::spare_capacity(buffer)).map_err(Into::into)
            }
            Stream::Pipe(pipe) => pipe.read_behind(buffer),
        }
    }

    /// Writes as much as is taken.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*stream).write(bytes),
            Stream::Pipe(pipe) => pipe.write(bytes),
        }
    }

    /// Like [`Stream::write`], of several buffers.
    pub(crate) fn write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*stream).write_vectored(slices),
            Stream::Pipe(pipe) => pipe.write(slices.iter().find(|it| !it.is_empty()).map_or(&[], |it| &**it)),
        }
    }

    /// Ends both directions, from any thread: the reactor finds the end when it reads.
    pub(crate) fn shut_down(&self) {
        match self {
            // A socket that is not connected any more is what is wanted.
            Stream::Tcp(stream) => drop(stream.shutdown(Shutdown::Both)),
            Stream::Pipe(pipe) => pipe.shut_down(),
        }
    }
}

/// Where connections come in.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Pipe(PipeListener),
}

impl Listener {
    /// Takes a connection that waits; with the address it comes from.
    pub(crate) fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Listener::Tcp(listener) => listener.accept().map(|(stream, peer)| (Stream::Tcp(stream), peer)),
            Listener::Pipe(listener) => listener.accept().map(|(pipe, peer)| (Stream::Pipe(pipe), peer)),
        }
    }
}

/// News of a stream or a listener. A hint: spurious news costs nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct News {
    pub(crate) token: Token,
    pub(crate) is_readable: bool,
    pub(crate) is_writable: bool,
    /// The peer sends nothing more, or the connection is broken: reads must go on until they say so.
    pub(crate) is_read_closed: bool,
}

/// Tells news of streams and listeners: each piece once, when it happens.
pub(crate) enum Poller {
    System { poll: Poll, events: Events },
    Simulated { world: Arc<SimulatedWorld>, number: usize },
}

impl Poller {
    /// The system's, and what wakes it.
    pub(crate) fn of_system() -> io::Result<(Poller, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        Ok((Poller::System { poll, events: Events::with_capacity(EVENTS_PER_TURN_MAX) }, waker))
    }

    /// Waits for news, as long as it may; leaves it in `news`.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>, news: &mut Vec<News>) -> io::Result<()> {
        match self {
            Poller::System { poll, events } => {
                poll.poll(events, timeout)?;
                news.extend(events.iter().filter(|event| event.token() != WAKER).map(|event| News {
                    token: event.token(),
                    is_readable: event.is_readable(),
                    is_writable: event.is_writable(),
                    is_read_closed: event.is_read_closed() || event.is_error(),
                }));
            }
            // Who turns a simulated reactor waits in its place.
            Poller::Simulated { world, number } => world.network.take_news(*number, news)?,
        }
        Ok(())
    }

    /// Tells of a stream by this name from now on.
    pub(crate) fn watch(&self, stream: &mut Stream, token: Token) -> io::Result<()> {
        match (self, stream) {
            (Poller::System { poll, .. }, Stream::Tcp(stream)) => {
                poll.registry().register(stream, token, Interest::READABLE | Interest::WRITABLE)
            }
            (Poller::Simulated { number, .. }, Stream::Pipe(pipe)) => {
                pipe.watch(Watcher { reactor: *number, token });
                Ok(())
            }
            _ => Err(of_another_world()),
        }
    }

    /// Tells of a listener by this name from now on.
    pub(crate) fn watch_listener(&self, listener: &mut Listener, token: Token) -> io::Result<()> {
        match (self, listener) {
            (Poller::System { poll, .. }, Listener::Tcp(listener)) => {
                poll.registry().register(listener, token, Interest::READABLE)
            }
            (Poller::Simulated { number, .. }, Listener::Pipe(listener)) => {
                listener.watch(Watcher { reactor: *number, token });
                Ok(())
            }
            _ => Err(of_another_world()),
        }
    }

    /// Closes a stream, unless somebody else still holds it.
    pub(crate) fn close(&self, stream: Arc<Stream>) {
        if let (Poller::System { poll, .. }, Some(Stream::Tcp(mut stream))) = (self, Arc::into_inner(stream))
        {
            // Closing the socket takes it out of the poll in any case.
            drop(poll.registry().deregister(&mut stream));
        }
    }

    /// Closes a listener.
    pub(crate) fn close_listener(&self, listener: Listener) {
        if let (Poller::System { poll, .. }, Listener::Tcp(mut listener)) = (self, listener) {
            // Closing the socket takes it out of the poll in any case.
            drop(poll.registry().deregister(&mut listener));
        }
    }
}

/// A reactor connects and listens in its own world only.
fn of_another_world() -> io::Error {
    ErrorKind::Unsupported.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_does_not_acknowledge_waits_as_long_as_its_silence_or_as_it_is_given_patience() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = Stream::Tcp(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let bound_with = |patience| {
            stream.ask_if_silent(patience);
            let Stream::Tcp(stream) = &stream else { unreachable!() };
            assert!(sockopt::socket_keepalive(stream).unwrap());
            sockopt::tcp_user_timeout(stream).unwrap()
        };
        assert_eq!(bound_with(Duration::from_secs(30)), 120_000);
        assert_eq!(bound_with(Duration::from_secs(600)), 600_000);
        assert_eq!(bound_with(Duration::MAX), i32::MAX.cast_unsigned());
    }
}
