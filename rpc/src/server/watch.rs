//! What the clock decides about a server's connection besides its calls' deadlines: a peer that takes no replies is cut, and
//! one that never finishes what it has begun to send.
//!
//! Nothing of this costs a call anything: the reactor is told when a socket takes no more, or when a frame comes in part
//! that is not watched yet, and looks again when the time is over.

use crate::reactor::Shared;
use crate::reactor::clock::{NEVER, Nanos};
use crate::reactor::turn::Turn;

/// Something that must have moved on by a moment.
#[derive(Debug, Clone, Copy)]
struct Progress {
    /// How far it had come.
    from: u64,
    due: Nanos,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// The reactor looks after this connection when something is due.
    is_timed: bool,
    /// Replies that the peer does not take, in bytes taken.
    stall: Option<Progress>,
    /// A frame that has come in part, in bytes received.
    unfinished: Option<Progress>,
    /// How many frames had come before it.
    unfinished_frame: u64,
    /// The whole connection, in bytes received.
    idle: Option<Progress>,
}

/// How much has come from a peer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Received {
    /// Bytes in all.
    pub(crate) bytes: u64,
    /// Whole frames.
    pub(crate) frames: u64,
}

impl Watch {
    /// Something of the connection named `token` is due then.
    pub(crate) fn note_due(&mut self, due: Nanos, token: mio::Token, turn: &mut Turn, reactor: &Shared) {
        if !self.is_timed {
            self.is_timed = true;
            turn.timed.push(token);
        }
        reactor.arm(due);
    }

    /// The reactor has looked; `next` is when it must look again.
    pub(crate) fn looked(&mut self, next: Nanos) {
        self.is_timed = next != NEVER;
    }

    /// The socket takes no more, after `written` bytes; it must have taken another one by `due`.
    pub(crate) fn watch_stall(&mut self, written: u64, due: Nanos) {
        self.stall = Some(Progress { from: written, due });
    }

    /// Whether the replies have been stalled for too long; or else when to look again. `refused` bytes the socket does not take.
    pub(crate) fn check_stall(
        &mut self,
        now: Nanos,
        timeout: Nanos,
        (written, refused): (u64, u64),
    ) -> Option<Nanos> {
        let Some(stall) = &mut self.stall else { return Some(NEVER) };
        if refused == 0 {
            self.stall = None;
            return Some(NEVER);
        }
        if stall.due <= now {
            if stall.from == written {
                return None;
            }
            *stall = Progress { from: written, due: now.saturating_add(timeout) };
        }
        Some(stall.due)
    }
}

impl Watch {
    /// The connection must have said something by `due`.
    pub(crate) fn watch_idle(&mut self, received: Received, due: Nanos) {
        self.idle = Some(Progress { from: received.bytes, due });
    }

    /// Whether nothing has been said for a whole `timeout`; with when to look again.
    pub(crate) fn check_idle(&mut self, now: Nanos, timeout: Nanos, received: Received) -> (bool, Nanos) {
        let Some(idle) = &mut self.idle else { return (false, NEVER) };
        if idle.due > now {
            return (false, idle.due);
        }
        let is_idle = idle.from == received.bytes;
        *idle = Progress { from: received.bytes, due: now.saturating_add(timeout) };
        (is_idle, idle.due)
    }

    /// A frame has come in part: by `due` it must be whole or have grown. Returns whether that is news.
    pub(crate) fn watch_unfinished(&mut self, received: Received, due: Nanos) -> bool {
        let is_news = self.unfinished.is_none();
        if is_news {
            self.unfinished = Some(Progress { from: received.bytes, due });
            self.unfinished_frame = received.frames;
        }
        is_news
    }

    /// Whether the same frame has been coming for too long, too slowly; or else when to look again. `is_excused` if it could
    /// not come.
    pub(crate) fn check_unfinished(
        &mut self,
        now: Nanos,
        (timeout, bytes_min): (Nanos, u64),
        received: Received,
        (is_unfinished, is_excused): (bool, bool),
    ) -> Option<Nanos> {
        let Some(watched) = &mut self.unfinished else { return Some(NEVER) };
        if watched.due > now {
            return Some(watched.due);
        }
        if !is_unfinished {
            self.unfinished = None;
            return Some(NEVER);
        }
        let has_grown = received.bytes - watched.from >= bytes_min;
        if received.frames == self.unfinished_frame && !has_grown && !is_excused {
            return None;
        }
        *watched = Progress { from: received.bytes, due: now.saturating_add(timeout) };
        self.unfinished_frame = received.frames;
        Some(watched.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_upload_is_kept_a_drip_is_not() {
        let limits = (10, 100);
        let at = |bytes, frames| Received { bytes, frames };
        let mut watch = Watch::default();
        assert_eq!(watch.check_unfinished(5, limits, at(1, 0), (true, false)), Some(NEVER), "not watched");
        assert!(watch.watch_unfinished(at(50, 3), 10) && !watch.watch_unfinished(at(60, 3), 12));
        assert_eq!(watch.check_unfinished(9, limits, at(60, 3), (true, false)), Some(10));
        assert_eq!(watch.check_unfinished(10, limits, at(150, 3), (true, false)), Some(20), "it has grown");
        assert_eq!(watch.check_unfinished(20, limits, at(151, 9), (true, false)), Some(30), "another frame");
        assert_eq!(watch.check_unfinished(30, limits, at(151, 9), (true, true)), Some(40), "it was not read");
        assert_eq!(watch.check_unfinished(40, limits, at(250, 9), (true, false)), None, "a drip");
        assert_eq!(
            watch.check_unfinished(50, limits, at(260, 10), (false, false)),
            Some(NEVER),
            "it is whole"
        );
        assert!(watch.watch_unfinished(at(270, 10), 70), "the next one is news");
    }

    #[test]
    fn a_peer_that_takes_little_is_kept_and_one_that_takes_nothing_is_not() {
        let mut watch = Watch::default();
        assert_eq!(watch.check_stall(5, 10, (7, 1)), Some(NEVER), "nothing was said of a stall");
        watch.watch_stall(100, 20);
        assert_eq!(watch.check_stall(19, 10, (100, 5)), Some(20));
        assert_eq!(watch.check_stall(20, 10, (101, 4)), Some(30), "one byte is enough");
        assert_eq!(watch.check_stall(30, 10, (101, 4)), None);
        watch.watch_stall(101, 40);
        assert_eq!(watch.check_stall(40, 10, (105, 0)), Some(NEVER), "all is taken: the stall is over");
        assert_eq!(watch.check_stall(90, 10, (105, 9)), Some(NEVER));
    }
}
