//! The floor: an echo of the same frames on a bare poll loop, one thread a side: all whole frames of a read, one write, no
//! allocation per call.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream as BlockingStream};

use anyhow::Context;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::frames::{Direction, read, write};

/// Bytes taken by one read.
pub const READ_BYTES: usize = 256 * 1024;

/// One connection: what came and is no whole frame yet, and what is to be written.
pub struct Connection {
    /// The socket, which does not block.
    pub stream: TcpStream,
    received: Vec<u8>,
    /// What is to be written.
    pub unsent: Vec<u8>,
}

impl Connection {
    /// A connection over `stream`.
    ///
    /// # Errors
    /// When the socket has no options.
    pub fn new(stream: TcpStream) -> std::io::Result<Connection> {
        stream.set_nodelay(true)?;
        Ok(Connection { stream, received: Vec::new(), unsent: Vec::new() })
    }

    /// Reads once; false when the peer is gone. `each` sees every whole frame and may write.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn turn(
        &mut self,
        room: &mut [u8],
        direction: Direction,
        mut each: impl FnMut(u64, &[u8], &mut Vec<u8>),
    ) -> std::io::Result<bool> {
        loop {
            let count = match self.stream.read(room) {
                Ok(0) => return Ok(false),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            let bytes = if self.received.is_empty() {
                &room[..count]
            } else {
                self.received.extend_from_slice(&room[..count]);
                &self.received[..]
            };
            let mut used = 0;
            while let Some(frame) = read(&bytes[used..], direction) {
                each(frame.call_id, frame.payload, &mut self.unsent);
                used += frame.length;
            }
            if self.received.is_empty() {
                self.received.extend_from_slice(&room[used..count]);
            } else {
                self.received.drain(..used);
            }
            if count < room.len() {
                break;
            }
        }
        self.flush()?;
        Ok(true)
    }

    /// Writes what the kernel takes.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn flush(&mut self) -> std::io::Result<()> {
        let mut sent = 0;
        while sent < self.unsent.len() {
            match self.stream.write(&self.unsent[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.unsent.drain(..sent);
        Ok(())
    }
}

/// Echoes until the process is killed.
///
/// # Errors
/// When the address cannot be listened on, or the poll fails.
pub fn serve(addr: &str) -> anyhow::Result<()> {
    const LISTENER: Token = Token(usize::MAX);
    let address: SocketAddr = addr.parse().context("not an address")?;
    let mut listener = mio::net::TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut connections: Slab<Connection> = Slab::new();
    let mut events = Events::with_capacity(1024);
    let mut room = vec![0; READ_BYTES];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    let entry = connections.vacant_entry();
                    let token = Token(entry.key());
                    let connection = entry.insert(Connection::new(stream)?);
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut connection.stream, token, interest)?;
                }
                continue;
            }
            let key = event.token().0;
            let Some(connection) = connections.get_mut(key) else { continue };
            let echo =
                |call_id, payload: &[u8], out: &mut Vec<u8>| write(call_id, payload, Direction::Reply, out);
            if !matches!(connection.turn(&mut room, Direction::Request, echo), Ok(true)) {
                connections.remove(key);
            }
        }
    }
}

/// A connected socket, which blocks.
///
/// # Errors
/// When nobody listens there.
pub fn connect(addr: &str) -> anyhow::Result<BlockingStream> {
    let stream = BlockingStream::connect(addr).with_context(|| format!("cannot connect to {addr}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
