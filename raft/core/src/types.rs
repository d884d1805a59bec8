//! The numbers of consensus, each a type of its own.
//!
//! A term is not an index and a node's number is neither; the compiler keeps them apart so that no comparison of a term
//! with an index can ever be written. Nothing here knows what the numbers are used for.

use std::fmt;

/// A period with at most one leader, counted upwards from 1; 0 is "before any election". Raft paper §5.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

impl Term {
    /// The term after this one.
    ///
    /// # Panics
    /// At 2^64 terms, which no cluster lives to see.
    pub fn next(self) -> Term {
        Term(self.0.checked_add(1).expect("terms do not run out: one a microsecond lasts 500,000 years"))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in the log, counted from 1; 0 is the empty place before the first entry. Raft paper §5.3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(pub u64);

impl Index {
    /// The place before the first entry.
    pub const ZERO: Index = Index(0);

    /// The place after this one.
    pub fn next(self) -> Index {
        self.plus(1)
    }

    /// The place before this one.
    ///
    /// # Panics
    /// At index 0, which has nothing before it.
    pub fn previous(self) -> Index {
        Index(self.0.checked_sub(1).expect("the place before index 0 is never asked for"))
    }

    /// The place `count` entries further on.
    ///
    /// # Panics
    /// At 2^64 entries.
    pub fn plus(self, count: u64) -> Index {
        Index(
            self.0.checked_add(count).expect("indexes do not run out: 10^9 entries a second last 500 years"),
        )
    }

    /// The place `count` entries back, or 0.
    pub fn saturating_minus(self, count: u64) -> Index {
        Index(self.0.saturating_sub(count))
    }

    /// How many entries lie after `earlier` up to and including this place; 0 if `earlier` is not earlier.
    pub fn distance_from(self, earlier: Index) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a node in its cluster; never reused for another machine with another disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What makes an entry unique: two logs that hold the same id hold the same entries up to it (Log Matching, §5.3).
///
/// The order is the one of §5.4.1: the later term is the more up-to-date log, then the longer one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The term of the leader which appended the entry.
    pub term: Term,
    /// Its place in the log.
    pub index: Index,
}

impl EntryId {
    /// The id before the first entry of any log.
    pub const ZERO: EntryId = EntryId { term: Term(0), index: Index(0) };
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

/// Names the call that a request came in with, on the node that received it; the core copies it into the answer.
///
/// It never crosses the wire. A token that is never answered counts as a lost message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyToken(pub u64);

impl ReplyToken {
    /// The token of a message that answers nothing.
    pub const NONE: ReplyToken = ReplyToken(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_up_to_date_log_is_the_later_term_then_the_longer_one() {
        let id = |term, index| EntryId { term: Term(term), index: Index(index) };
        assert!(id(2, 1) > id(1, 100));
        assert!(id(2, 5) > id(2, 4));
        assert!(id(0, 0) < id(1, 1));
    }

    #[test]
    fn distances_never_wrap() {
        assert_eq!(Index(3).distance_from(Index(5)), 0);
        assert_eq!(Index(5).distance_from(Index(3)), 2);
        assert_eq!(Index(5).saturating_minus(9), Index::ZERO);
    }
}
