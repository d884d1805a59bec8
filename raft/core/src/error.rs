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
    /// A bound is reached; nothing of the batch was appended.
    #[error("busy: {limit}")]
    Busy {
        /// Which bound.
        limit: Limit,
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
    /// Too many reads wait for a round.
    #[error("reads_pending_max")]
    PendingReads,
}

/// What [`crate::Config::validate`] found.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No voters, or more than can be served.
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
}
