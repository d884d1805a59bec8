//! What a reactor holds of the network of a simulation: an end of a pipe, a listener.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use mio::Token;

use super::world::SimulatedWorld;

/// Who is told news of a stream or listener, and by which name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watcher {
    /// The reactor's number.
    pub(crate) reactor: usize,
    pub(crate) token: Token,
}

/// Names one end of a pipe.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) pipe: usize,
    /// 0: who has connected; 1: who has accepted.
    pub(super) side: usize,
}

impl End {
    pub(super) fn other(self) -> End {
        End { side: 1 - self.side, ..self }
    }
}

/// One end of a connection.
pub(crate) struct Pipe {
    world: Arc<SimulatedWorld>,
    end: End,
}

impl Pipe {
    pub(crate) fn connect(world: &Arc<SimulatedWorld>, address: SocketAddr) -> Pipe {
        Pipe { world: world.clone(), end: world.network.connect(address) }
    }

    /// See [`Stream::is_connected`](crate::reactor::net::Stream::is_connected); the others, too.
    pub(crate) fn is_connected(&self) -> io::Result<bool> {
        self.world.network.is_connected(self.end)
    }

    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_to(buffer.len(), |place, bytes| {
            buffer[place..place + bytes.len()].copy_from_slice(bytes);
        })
    }

    pub(crate) fn read_behind(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let room = buffer.capacity() - buffer.len();
        self.read_to(room, |_, bytes| buffer.extend_from_slice(bytes))
    }

    fn read_to(&self, room: usize, put: impl FnMut(usize, &[u8])) -> io::Result<usize> {
        let read = self.world.network.read(self.end, room, put);
        self.world.copied(*read.as_ref().unwrap_or(&0));
        read
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.world.network.write(self.end, bytes);
        self.world.copied(*written.as_ref().unwrap_or(&0));
        written
    }

    pub(crate) fn shut_down(&self) {
        self.world.network.shut_down(self.end);
    }

    pub(crate) fn watch(&self, watcher: Watcher) {
        self.world.network.watch(self.end, watcher);
    }

    /// Whether a read would find the end.
    pub(super) fn has_ended(&self) -> bool {
        self.world.network.has_ended(self.end)
    }

    /// Sends nothing more.
    pub(super) fn end(&self) {
        self.world.network.end(self.end);
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.world.network.close(self.end);
    }
}

/// Where connections come in.
pub(crate) struct PipeListener {
    world: Arc<SimulatedWorld>,
    address: SocketAddr,
}

impl PipeListener {
    pub(crate) fn bind(world: &Arc<SimulatedWorld>, address: SocketAddr) -> io::Result<PipeListener> {
        let address = world.network.listen(address)?;
        Ok(PipeListener { world: world.clone(), address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn accept(&self) -> io::Result<(Pipe, SocketAddr)> {
        let (end, peer) = self.world.network.accept(self.address)?;
        Ok((Pipe { world: self.world.clone(), end }, peer))
    }

    pub(crate) fn watch(&self, watcher: Watcher) {
        self.world.network.watch_listener(self.address, watcher);
    }
}

impl Drop for PipeListener {
    fn drop(&mut self) {
        self.world.network.close_listener(self.address);
    }
}
