//! How the core says no.
//!
//! Every refusal is an answer that the caller can act on: ask another node, or come back later. Nothing here is a fault
//! of this node; those are assertions.

use thiserror::Error;

use crate::types::NodeId;

/// Why `propose` appended nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// Only the leader appends.
    #[error("not the leader")]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// Leadership is being handed over: nothing of the batch was appended, and soon another node leads.
    #[error("leadership is being handed to node {to}")]
    Transferring {
        /// To which.
        to: NodeId,
    },
    /// A bound is reached; nothing of the batch was appended.
    #[error("busy: {limit}")]
    Busy {
        /// Which bound.
        limit: Limit,
    },
    /// This node's disk is full; nothing of the batch was appended.
    #[error(
        "the disk is full: the log has room for {left_bytes} bytes more, and this may take {needed_bytes}"
    )]
    NoSpace {
        /// What the batch may cost.
        needed_bytes: u64,
        /// What is still reserved for the log.
        left_bytes: u64,
    },
}

/// Why no change of the membership was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// Only the leader changes the membership.
    #[error("not the leader")]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// No entry of the leader's term is committed yet; it soon is.
    #[error("the leader has just been elected")]
    TooEarly,
    /// Another change is under way.
    #[error("another change of the members is under way")]
    Pending,
    /// Leadership is being handed to another node.
    #[error("leadership is being handed to node {to}")]
    Transferring {
        /// To which.
        to: NodeId,
    },
    /// No voters, or more than can be served.
    #[error("there would be {voters} voters; a cluster has 1 to {voters_max}")]
    VoterCount {
        /// As wanted.
        voters: usize,
        /// The most there may be.
        voters_max: usize,
    },
    /// More learners than can be served.
    #[error("there would be {learners} learners; there may be {learners_max}")]
    LearnerCount {
        /// As wanted.
        learners: usize,
        /// The most there may be.
        learners_max: usize,
    },
    /// A node cannot vote and only listen.
    #[error("node {node} cannot be both a voter and a learner")]
    BothAtOnce {
        /// Which.
        node: NodeId,
    },
    /// Voters are made of learners.
    #[error("node {node} is not a learner: add it first")]
    NotALearner {
        /// Which.
        node: NodeId,
    },
    /// The learner does not keep up with the log, or does not answer; as a voter it would hold up every write.
    #[error("node {node} has not caught up: {missing} entries are missing or it does not answer")]
    NotCaughtUp {
        /// Which.
        node: NodeId,
        /// Entries it has not acknowledged.
        missing: u64,
    },
    /// Too few of those who would vote answer.
    #[error(
        "only {answering} of the {voters} voters there would be answer: nothing could be written any more"
    )]
    WouldLoseQuorum {
        /// Those who answer, this node counted.
        answering: usize,
        /// As wanted.
        voters: usize,
    },
}

/// Why leadership is not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TransferError {
    /// Only the leader can.
    #[error("not the leader")]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// Nobody of that number is a member.
    #[error("node {node} is not a member")]
    Stranger {
        /// Which.
        node: NodeId,
    },
    /// A learner cannot lead, nor a voter that is being removed.
    #[error("node {node} is not a voter")]
    NotAVoter {
        /// Which.
        node: NodeId,
    },
    /// A node whose log is being repaired has no vote until it is.
    #[error("the log of node {node} is damaged, and is being repaired")]
    Convalescent {
        /// Which.
        node: NodeId,
    },
}

/// Why `read_index` took nothing on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Only the leader knows the newest commit index.
    #[error("not the leader")]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// A bound is reached.
    #[error("busy: {limit}")]
    Busy {
        /// Which bound.
        limit: Limit,
    },
}

/// The bounds that answer `Busy`, by the name of their setting in [`crate::Config`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Limit {
    /// The followers do not keep up.
    #[error("uncommitted_bytes_max")]
    UncommittedBytes,
    /// The leader's own disk does not keep up.
    #[error("unpersisted_bytes_max")]
    UnpersistedBytes,
    /// The state machine does not keep up.
    #[error("unapplied_bytes_max")]
    UnappliedBytes,
    /// The log waits for a snapshot.
    #[error("log_bytes_max")]
    LogBytes,
    /// What is reserved for the log on this node's disk is used up faster than it can be made whole.
    #[error("the log's reserve on the disk")]
    LogRoom,
    /// Too many reads wait for a round.
    #[error("reads_pending_max")]
    PendingReads,
}

/// What [`crate::Config::validate`] found.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// More voters than can be served.
    #[error("{voters} voters; a cluster has 1 to {voters_max}")]
    VoterCount {
        /// As configured.
        voters: usize,
        /// The most there may be.
        voters_max: usize,
    },
    /// One node is listed twice.
    #[error("a voter is listed twice")]
    VoterTwice,
    /// An empty range of timeouts.
    #[error(
        "election_ticks_min {election_ticks_min} must be at least 1 and at most election_ticks_max {election_ticks_max}"
    )]
    ElectionTicks {
        /// As configured.
        election_ticks_min: u32,
        /// As configured.
        election_ticks_max: u32,
    },
    /// A bound of zero lets nothing through.
    #[error("{setting} must not be 0")]
    Zero {
        /// The setting's name.
        setting: &'static str,
    },
    /// What is kept behind a snapshot could fill the log, and then no snapshot would ever make room.
    #[error("trailing_bytes_max {trailing_bytes_max} must be at most half of log_bytes_max {log_bytes_max}")]
    TrailingBytes {
        /// As configured.
        trailing_bytes_max: u64,
        /// As configured.
        log_bytes_max: u64,
    },
}
