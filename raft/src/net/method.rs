//! Which method of the raftRpc service carries which of the core's messages, and what follows when one is lost. Pure, so
//! that whoever carries messages some other way goes by the same.

use raft_core::Body;

/// A method that carries messages of the core, and the answers to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `AppendEntries`: also heartbeats, and word that a log is whole again.
    AppendEntries,
    /// `RequestVote`: also the answer that who asks is no member any more.
    RequestVote,
    /// `ReadIndex`.
    ReadIndex,
    /// `TimeoutNow`, whose answer says only that it came.
    TimeoutNow,
}

impl Method {
    /// The method that carries this, or that this answers.
    pub fn of(body: &Body) -> Method {
        match body {
            Body::AppendEntries { .. }
            | Body::Heartbeat { .. }
            | Body::Heal { .. }
            | Body::AppendEntriesReply(_)
            | Body::HeartbeatReply { .. } => Method::AppendEntries,
            Body::RequestVote { .. } | Body::RequestVoteReply { .. } | Body::Removed => Method::RequestVote,
            Body::ReadIndex { .. } | Body::ReadIndexReply { .. } => Method::ReadIndex,
            Body::TimeoutNow => Method::TimeoutNow,
        }
    }

    /// Whether the core is told that a request of this method or its answer is lost: what may be on its way to a follower is
    /// bounded. Votes and read indexes it asks for again when no answer comes, and losing an order to campaign costs the
    /// transfer nothing but time.
    pub fn tells_of_loss(self) -> bool {
        self == Method::AppendEntries
    }
}
