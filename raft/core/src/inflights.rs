//! The window: which AppendEntries to one peer are unanswered.
//!
//! It bounds what may be lost at once and what a slow peer can make the leader buffer, in messages and in bytes. It
//! must never forget a message that is neither answered nor written off.

use std::collections::VecDeque;

use crate::types::Index;

/// One unanswered message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inflight {
    last_index: Index,
    bytes: u64,
}

/// See the module's text. Memory is taken as messages fly, never ahead.
#[derive(Debug)]
pub(crate) struct Inflights {
    messages: VecDeque<Inflight>,
    bytes: u64,
    messages_max: usize,
    bytes_max: u64,
}

impl Inflights {
    pub(crate) fn new(messages_max: usize, bytes_max: u64) -> Inflights {
        Inflights { messages: VecDeque::new(), bytes: 0, messages_max, bytes_max }
    }

    /// No further message may fly. One message more than the bytes allow may, so that a large entry passes at all.
    pub(crate) fn is_full(&self) -> bool {
        self.messages.len() >= self.messages_max || self.bytes >= self.bytes_max
    }

    pub(crate) fn count(&self) -> usize {
        self.messages.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A message whose entries end at `last_index` has left.
    pub(crate) fn add(&mut self, last_index: Index, bytes: u64) {
        assert!(!self.is_full(), "nothing is sent past a full window");
        assert!(
            self.messages.back().is_none_or(|newest| newest.last_index < last_index),
            "messages fly in log order"
        );
        self.messages.push_back(Inflight { last_index, bytes });
        self.bytes += bytes;
    }

    /// Everything up to `index` has arrived, whichever answer said so.
    pub(crate) fn free_through(&mut self, index: Index) {
        while let Some(oldest) = self.messages.front().filter(|oldest| oldest.last_index <= index) {
            self.bytes -= oldest.bytes;
            self.messages.pop_front();
        }
    }

    /// All of it is written off.
    pub(crate) fn clear(&mut self) {
        self.messages.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_full_by_messages_or_by_bytes() {
        let mut window = Inflights::new(2, 100);
        window.add(Index(1), 10);
        assert!(!window.is_full());
        window.add(Index(2), 10);
        assert!(window.is_full(), "two messages");
        window.free_through(Index(1));
        assert!(!window.is_full());
        window.add(Index(9), 500);
        assert_eq!((window.count(), window.bytes()), (2, 510));
        window.free_through(Index(2));
        assert!(window.is_full(), "one message of too many bytes");
        window.free_through(Index(9));
        assert_eq!((window.count(), window.bytes()), (0, 0));
    }

    #[test]
    fn an_answer_in_the_middle_frees_what_came_before_and_a_late_one_frees_nothing() {
        let mut window = Inflights::new(8, 1000);
        for index in [3, 6, 9] {
            window.add(Index(index), 1);
        }
        window.free_through(Index(6));
        window.free_through(Index(4));
        assert_eq!(window.count(), 1);
        window.clear();
        assert_eq!((window.count(), window.bytes()), (0, 0));
    }
}
