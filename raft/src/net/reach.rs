//! Whether a peer answers, so that the log says once when it goes and once when it is back.
//!
//! Of many messages that are under way to one peer some may be answered and others not: a follower whose disk stands still
//! answers heartbeats and no appends. So a message whose answer did not come in time says nothing of a peer that has
//! answered another one since that left.

/// What is known of one peer.
#[derive(Debug, Default)]
pub(super) struct Reach {
    answers: bool,
    /// How many answers came.
    heard: u64,
}

/// How much had been heard of a peer when a message to it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeardBefore(u64);

impl Reach {
    /// A message leaves.
    pub(super) fn leaving(&self) -> HeardBefore {
        HeardBefore(self.heard)
    }

    /// An answer came. Returns whether it is news that the peer answers.
    pub(super) fn answered(&mut self) -> bool {
        self.heard += 1;
        !std::mem::replace(&mut self.answers, true)
    }

    /// No answer came to a message, because of its time-out or for a better reason. Returns whether it is news that the
    /// peer does not answer.
    pub(super) fn missed(&mut self, left: HeardBefore, is_timeout: bool) -> bool {
        let is_only_this_one = is_timeout && self.heard > left.0;
        !is_only_this_one && std::mem::replace(&mut self.answers, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_goes_and_comes_back_is_news_once_each() {
        let mut reach = Reach::default();
        assert!(!reach.missed(reach.leaving(), false), "it was never heard");
        assert!(reach.answered() && !reach.answered());
        for is_timeout in [false, true] {
            assert!(reach.missed(reach.leaving(), is_timeout));
            assert!(!reach.missed(reach.leaving(), is_timeout));
            assert!(reach.answered());
        }
    }

    #[test]
    fn a_peer_that_answers_some_messages_and_others_never_is_no_news() {
        let mut reach = Reach::default();
        reach.answered();
        for _ in 0..100 {
            let append = reach.leaving();
            assert!(!reach.answered(), "a heartbeat of the meantime");
            assert!(!reach.missed(append, true));
        }
        let append = reach.leaving();
        reach.answered();
        assert!(reach.missed(append, false), "a refused connection is news whatever was heard before");
    }
}
