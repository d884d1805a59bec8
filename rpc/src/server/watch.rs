//! What the clock decides about a server's connection besides its calls' deadlines: a peer that takes no replies is cut.
//!
//! Nothing of this costs a call anything: the reactor is told only when a socket takes no more, and looks again when
//! that has lasted.

use crate::reactor::Shared;
use crate::reactor::clock::{NEVER, Nanos};
use crate::reactor::poll_loop::Turn;

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
    /// Replies that the peer does not take.
    stall: Option<Progress>,
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

    /// Whether the replies have been stalled for too long; or else when to look again. `unsent` bytes are left of them.
    pub(crate) fn check_stall(
        &mut self,
        now: Nanos,
        timeout: Nanos,
        (written, unsent): (u64, u64),
    ) -> Option<Nanos> {
        let Some(stall) = &mut self.stall else { return Some(NEVER) };
        if unsent == 0 {
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

#[cfg(test)]
mod tests {
    use super::*;

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
