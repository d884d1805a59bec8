//! The writing end of a connection's socket, with what the kernel has not taken yet.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;

use super::net::Stream;
use super::queue::Piece;
use super::spare::{self, OWN_BYTES_MAX};

/// Buffers given to the kernel at a time.
const SLICES_MAX: usize = 32;

/// See the module's text.
#[derive(Default)]
pub(super) struct SocketSide {
    pub(super) stream: Option<Arc<Stream>>,
    /// Leave before `sending`.
    pub(super) sealed: VecDeque<Piece>,
    pub(super) sending: Vec<u8>,
    /// Bytes of the first of these that the kernel has taken.
    pub(super) sent: usize,
}

/// How a write ended.
pub(super) enum Written {
    All,
    Blocked,
    /// As much was written as may be at a time.
    Paused,
    /// In the words of the system.
    Failed(String),
}

impl SocketSide {
    /// Writes until all is sent, the kernel takes no more, or it has taken `most`. Returns how much it took, too.
    pub(super) fn write(&mut self, most: u64) -> (Written, u64) {
        let Some(stream) = self.stream.clone() else { return (Written::Blocked, 0) };
        let mut taken = 0;
        while !self.sealed.is_empty() || self.sent < self.sending.len() {
            let room = usize::try_from(most - taken).unwrap_or(usize::MAX);
            if room == 0 {
                return (Written::Paused, taken);
            }
            let result = if self.sealed.is_empty() {
                let rest = &self.sending[self.sent..];
                stream.write(&rest[..rest.len().min(room)])
            } else {
                self.write_sealed(&stream, room)
            };
            match result {
                Ok(0) => return (Written::Failed("nothing was taken".to_owned()), taken),
                Ok(count) => {
                    taken += count as u64;
                    self.advance(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return (Written::Blocked, taken),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return (Written::Failed(error.to_string()), taken),
            }
        }
        (Written::All, taken)
    }

    /// Gives the kernel as many buffers as it takes at once, of at most `room` bytes.
    fn write_sealed(&self, stream: &Stream, mut room: usize) -> std::io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        let sealed = self.sealed.iter().map(Piece::bytes);
        for (slice, buffer) in slices.iter_mut().zip(sealed.chain([&self.sending[..]])) {
            let sent = if count == 0 { self.sent } else { 0 };
            let rest = &buffer[sent..];
            let rest = &rest[..rest.len().min(room)];
            room -= rest.len();
            *slice = IoSlice::new(rest);
            count += 1;
        }
        stream.write_vectored(&slices[..count])
    }

    /// The kernel has taken `count` more bytes.
    fn advance(&mut self, count: usize) {
        self.sent += count;
        while self.sealed.front().is_some_and(|first| first.bytes().len() <= self.sent)
            && let Some(first) = self.sealed.pop_front()
        {
            self.sent -= first.bytes().len();
            first.recycle();
        }
    }

    /// All has been sent.
    pub(super) fn clear(&mut self) {
        self.sent = 0;
        self.sending.clear();
        if self.sending.capacity() > OWN_BYTES_MAX {
            spare::give(std::mem::take(&mut self.sending));
        }
    }

    pub(super) fn shut_down(&mut self) {
        if let Some(stream) = &self.stream {
            stream.shut_down();
        }
    }
}
