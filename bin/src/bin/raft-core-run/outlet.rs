//! Standard error: written by a thread of its own, so that nobody else ever waits for a reader.
//!
//! A terminal that is held or a pipe that nobody empties would otherwise stop whoever logs: the launcher's main thread,
//! which then obeys no signal, the readers of its children's logs, a node in the middle of an election. Lines that
//! find no room are dropped and counted; the count is told as soon as somebody reads again.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// How many bytes wait for a reader; what comes on top is dropped.
const WAITING_BYTES_MAX: usize = 8 << 20;

/// How long the last lines wait for a reader.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// A handle to what is written; clones write to the same place.
#[derive(Clone)]
pub(crate) struct Outlet(Arc<Shared>);

struct Shared {
    /// Who speaks, where the outlet itself has something to say.
    who: String,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    dropped: u64,
    is_writing: bool,
}

impl Outlet {
    /// Starts the thread `stderr`, which ends with the process; `who` speaks.
    pub(crate) fn start(who: &str) -> Result<Outlet, Failure> {
        Outlet::to(who, io::stderr())
    }

    fn to(who: &str, target: impl Write + Send + 'static) -> Result<Outlet, Failure> {
        let who = who.to_owned();
        let shared = Arc::new(Shared { who, waiting: Mutex::default(), changed: Condvar::new() });
        let body = {
            let shared = Arc::clone(&shared);
            move || shared.write_for_ever(target)
        };
        thread::Builder::new()
            .name("stderr".to_owned())
            .spawn(body)
            .map_err(|error| Failure::Runtime(format!("a thread cannot be started: {error}")))?;
        Ok(Outlet(shared))
    }

    /// Leaves one or several whole lines to be written in one piece. Never waits.
    pub(crate) fn put(&self, lines: Vec<u8>) {
        let mut waiting = self.0.lock();
        if waiting.bytes + lines.len() > WAITING_BYTES_MAX {
            waiting.dropped += 1;
            return;
        }
        waiting.bytes += lines.len();
        waiting.lines.push_back(lines);
        self.0.changed.notify_all();
    }

    /// Waits until all is written, but not for long: the reader may be gone.
    pub(crate) fn flush(&self) {
        self.flush_within(FLUSH_WITHIN);
    }

    fn flush_within(&self, within: Duration) {
        let deadline = Instant::now() + within;
        let mut waiting = self.0.lock();
        while waiting.is_writing || !waiting.lines.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            waiting = self.0.changed.wait_timeout(waiting, left).expect(UNPOISONED).0;
        }
    }
}

const UNPOISONED: &str = "nothing that runs under this lock panics";

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect(UNPOISONED)
    }

    fn write_for_ever(&self, mut target: impl Write) {
        loop {
            let mut waiting = self.lock();
            waiting.is_writing = false;
            self.changed.notify_all();
            let mut lines = loop {
                match waiting.lines.pop_front() {
                    Some(lines) => break lines,
                    None => waiting = self.changed.wait(waiting).expect(UNPOISONED),
                }
            };
            waiting.bytes -= lines.len();
            waiting.is_writing = true;
            let dropped = std::mem::take(&mut waiting.dropped);
            drop(waiting);
            if dropped > 0 {
                let told = format!("[{}] {dropped} lines were dropped: nobody read them\n", self.who);
                lines.extend(told.bytes());
            }
            // A terminal that is gone must not stop the nodes: the lines are lost.
            let _ = target.write_all(&lines);
        }
    }
}

/// As a logger writes: one record, one call.
impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read, pipe};

    use super::*;

    /// An outlet whose reader has not begun, with a pipe's worth of lines before the first that waits.
    fn unread(lines: usize) -> (Outlet, PipeReader) {
        let (reader, writer) = pipe().unwrap();
        let outlet = Outlet::to("launcher", writer).unwrap();
        (0..lines).for_each(|_| outlet.put([b'x'; 1023].iter().chain(b"\n").copied().collect()));
        (outlet, reader)
    }

    #[test]
    fn what_was_put_is_written_in_order_and_a_flush_waits_for_it() {
        let (outlet, mut reader) = unread(0);
        outlet.put(b"one\n".to_vec());
        outlet.put(b"two\n".to_vec());
        outlet.flush_within(Duration::from_secs(60));
        let mut text = [0; 8];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"one\ntwo\n");
    }

    #[test]
    fn without_a_reader_nobody_waits_and_what_has_no_room_is_counted_and_told() {
        let (outlet, mut reader) = unread(3 * WAITING_BYTES_MAX / 1024);
        outlet.flush_within(Duration::from_millis(1));
        assert!(outlet.0.lock().bytes <= WAITING_BYTES_MAX);
        let mut seen = Vec::new();
        let mut piece = [0; 65536];
        while !seen.windows(12).any(|window| window == b"were dropped") {
            let count = reader.read(&mut piece).unwrap();
            assert!(count > 0, "the outlet ended");
            seen.drain(..seen.len().saturating_sub(64));
            seen.extend_from_slice(&piece[..count]);
        }
    }
}
