//! What nodes say to each other.
//!
//! Five requests, five answers and one order, each with the fields it needs and no others. How they look on a wire is not known
//! here: there a heartbeat is an AppendEntries, and snapshots travel in chunks that the core never sees.

use std::fmt;

use crate::entry::Entry;
use crate::types::{EntryId, Index, NodeId, ReplyToken, Term};

/// One message between two nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub from: NodeId,
    /// To whom.
    pub to: NodeId,
    /// The sender's term; a pre-vote carries the term the sender would campaign in, and so does its granted answer.
    pub term: Term,
    /// On a request that came in: which call it was. On an answer: the token of the request it answers.
    pub token: ReplyToken,
    /// What is said.
    pub body: Body,
}

/// The kinds of messages. Snapshots are not among them: see the module's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Asks for a vote (§5.2), or whether a vote would be given (dissertation §9.6).
    RequestVote {
        /// Only asking; nobody's term or vote changes.
        pre_vote: bool,
        /// The leader itself asked for this election, so that it is no reason to refuse (dissertation §3.10, §4.2.3).
        transfer: bool,
        /// The last entry of the candidate's log (§5.4.1).
        last: EntryId,
    },
    /// Answers [`Body::RequestVote`].
    RequestVoteReply {
        /// What kind of vote was asked for.
        pre_vote: bool,
        /// Whether it is given.
        granted: bool,
    },
    /// Answers [`Body::RequestVote`] of a node that is no member any more, and ends its asking.
    Removed,
    /// The leader, which has handed over all it has, wants the receiver to campaign at once (dissertation §3.10). What
    /// answers it is the receiver's request for votes.
    TimeoutNow,
    /// Replicates entries, or asks whether the logs agree at `prev` when there are none (§5.3).
    AppendEntries {
        /// The entry before the first of `entries` in the leader's log.
        prev: EntryId,
        /// Consecutive entries that follow `prev`.
        entries: Vec<Entry>,
        /// The leader's commit index.
        leader_commit: Index,
    },
    /// Answers [`Body::AppendEntries`] and [`Body::Heal`], and a convalescent node's heartbeats.
    AppendEntriesReply(AppendOutcome),
    /// A convalescent follower takes part from now on, if it has everything again that it may have acknowledged; and the
    /// question whether it is convalescent at all.
    Heal {
        /// What the follower called this convalescence.
        id: u64,
        /// The last entry that it had to have.
        through: EntryId,
        /// The leader's number for this word; the answer copies it.
        inquiry: u64,
    },
    /// Shows that the leader lives. It promises nothing, so it never waits for a disk.
    Heartbeat {
        /// The commit index, but no more than the receiver is known to have.
        leader_commit: Index,
        /// The newest round of ReadIndex; the answer copies it (dissertation §6.4).
        read_context: u64,
        /// How fresh the receiver's state is, if it has shown a stamp and a round was confirmed since.
        fresh: Option<Fresh>,
    },
    /// Answers [`Body::Heartbeat`].
    HeartbeatReply {
        /// Copied from the heartbeat.
        read_context: u64,
        /// What the sender says of itself.
        stamp: Stamp,
    },
    /// A follower that is to serve reads asks what they must see (dissertation §6.4).
    ReadIndex {
        /// The asker's number; the answer copies it.
        context: u64,
    },
    /// Answers [`Body::ReadIndex`].
    ReadIndexReply {
        /// Copied from the question.
        context: u64,
        /// What was committed when the question arrived, by the word of a majority; none: ask whoever leads.
        read_index: Option<Index>,
    },
}

/// What an answer to a heartbeat says of the node that gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// When it left, in microseconds since a point that only its sender knows; 0: it has no clock.
    pub at: u64,
    /// Whether it gives no vote for the shortest election timeout from now on, whatever it hears.
    pub keeps_lease: bool,
}

/// A stamp of the receiver that has come back, and what a majority has confirmed since it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fresh {
    /// The [`Stamp::at`] of an answer of the receiver.
    pub stamp: u64,
    /// All that had been committed and acknowledged when it was given lies at or below this place.
    pub index: Index,
}

/// What became of an AppendEntries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The logs agree, durably, up to `match_index`.
    Accepted {
        /// The last index that is known to agree by this message.
        match_index: Index,
    },
    /// The logs do not agree at the message's `prev`, or the receiver is in a later term.
    Rejected {
        /// The follower's best guess where the logs may agree: at or below `prev_index`, of no later term than `prev`'s.
        hint: EntryId,
        /// The index of the `prev` that was refused; it tells the leader which of its messages this answers.
        prev_index: Index,
    },
    /// Nothing was taken: the entries do not fit what the receiver's disk has room for.
    NoRoom {
        /// The index of the `prev` of the message that this answers.
        prev_index: Index,
    },
    /// Answers [`Body::Heal`] of a node that has lost nothing, or has it again: what it acknowledged counts.
    Healthy {
        /// Copied from the question.
        inquiry: u64,
    },
    /// An answer of a node that has lost a part of what it had acknowledged: that is taken back, and this counts for no
    /// majority.
    Convalescent {
        /// Tells this loss from others; never 0.
        id: u64,
        /// The logs agree, durably, up to here; none if they do not at the message's `prev`, or it had none.
        matched: Option<Index>,
        /// As in a rejection.
        hint: EntryId,
        /// The index of the message's `prev`; 0 if it was no append.
        prev_index: Index,
    },
}

impl Body {
    /// Whether this is a question, which gets at most one answer carrying its token.
    pub fn is_request(&self) -> bool {
        matches!(
            self,
            Body::RequestVote { .. }
                | Body::AppendEntries { .. }
                | Body::Heartbeat { .. }
                | Body::Heal { .. }
                | Body::TimeoutNow
                | Body::ReadIndex { .. }
        )
    }
}

impl Message {
    /// Whether the fields of the message agree with each other: the entries of an append follow `prev` and one another
    /// without a gap, in terms that never fall and are not later than the message's. Nothing else is ever sent by a
    /// node that works.
    pub fn is_well_formed(&self) -> bool {
        let Body::AppendEntries { prev, entries, .. } = &self.body else { return true };
        let mut last = *prev;
        for entry in entries {
            if last.index.0.checked_add(1) != Some(entry.index.0) || entry.term < last.term {
                return false;
            }
            last = entry.id();
        }
        last.term <= self.term
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Body::RequestVote { pre_vote, transfer, last } => {
                let kind = if *pre_vote { "PreVote" } else { "RequestVote" };
                write!(f, "{kind} last={last}{}", if *transfer { " transfer" } else { "" })
            }
            Body::RequestVoteReply { pre_vote, granted } => {
                let kind = if *pre_vote { "PreVoteReply" } else { "RequestVoteReply" };
                write!(f, "{kind} {}", if *granted { "granted" } else { "refused" })
            }
            Body::Removed => write!(f, "Removed"),
            Body::TimeoutNow => write!(f, "TimeoutNow"),
            Body::AppendEntries { prev, entries, leader_commit } => {
                write!(f, "AppendEntries prev={prev} commit={leader_commit}")?;
                match (entries.first(), entries.last()) {
                    (Some(first), Some(last)) => write!(f, " entries={}..{}", first.id(), last.id()),
                    _ => write!(f, " empty"),
                }
            }
            Body::AppendEntriesReply(AppendOutcome::Accepted { match_index }) => {
                write!(f, "AppendEntriesReply match={match_index}")
            }
            Body::AppendEntriesReply(AppendOutcome::Rejected { hint, prev_index }) => {
                write!(f, "AppendEntriesReply rejected prev={prev_index} hint={hint}")
            }
            Body::AppendEntriesReply(AppendOutcome::NoRoom { prev_index }) => {
                write!(f, "AppendEntriesReply no-room prev={prev_index}")
            }
            Body::AppendEntriesReply(AppendOutcome::Healthy { inquiry }) => {
                write!(f, "AppendEntriesReply healthy inquiry={inquiry}")
            }
            Body::AppendEntriesReply(AppendOutcome::Convalescent { matched, hint, prev_index, .. }) => {
                write!(f, "AppendEntriesReply convalescent prev={prev_index} ")?;
                match matched {
                    Some(index) => write!(f, "match={index}"),
                    None => write!(f, "hint={hint}"),
                }
            }
            Body::Heal { through, inquiry, .. } => write!(f, "Heal through={through} inquiry={inquiry}"),
            Body::Heartbeat { leader_commit, read_context, fresh } => {
                write!(f, "Heartbeat commit={leader_commit} read={read_context}")?;
                fresh.map_or(Ok(()), |fresh| write!(f, " fresh={}", fresh.index))
            }
            Body::HeartbeatReply { read_context, .. } => write!(f, "HeartbeatReply read={read_context}"),
            Body::ReadIndex { .. } => write!(f, "ReadIndex"),
            Body::ReadIndexReply { read_index: Some(index), .. } => {
                write!(f, "ReadIndexReply index={index}")
            }
            Body::ReadIndexReply { read_index: None, .. } => write!(f, "ReadIndexReply refused"),
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}→{} term={} {}", self.from, self.to, self.term, self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Payload;

    #[test]
    fn entries_with_a_gap_or_a_falling_or_future_term_are_not_well_formed() {
        let id = |term, index| EntryId { term: Term(term), index: Index(index) };
        let append = |prev: EntryId, ids: &[EntryId]| {
            let entries =
                ids.iter().map(|id| Entry { term: id.term, index: id.index, payload: Payload::Noop });
            let body = Body::AppendEntries { prev, entries: entries.collect(), leader_commit: Index(0) };
            Message { from: NodeId(1), to: NodeId(2), term: Term(5), token: ReplyToken::NONE, body }
        };
        assert!(append(id(2, 3), &[id(2, 4), id(5, 5)]).is_well_formed());
        assert!(append(id(2, 3), &[]).is_well_formed());
        assert!(!append(id(2, 3), &[id(2, 4), id(2, 6)]).is_well_formed());
        assert!(!append(id(2, 3), &[id(2, 3)]).is_well_formed());
        assert!(!append(id(2, 3), &[id(1, 4)]).is_well_formed());
        assert!(!append(id(2, 3), &[id(6, 4)]).is_well_formed());
        assert!(!append(id(6, 3), &[]).is_well_formed());
        assert!(!append(id(2, u64::MAX), &[id(2, 0)]).is_well_formed());
    }
}
