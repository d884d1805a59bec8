//! What the core wants done: the output side of its face.
//!
//! A [`Ready`] is a list of duties, not a question; taking it counts as having promised to fulfil it. The order in which
//! they may be done is written at each field, and is the whole contract between the core and whoever drives it.

use crate::entry::{Entry, HardState};
use crate::membership::Membership;
use crate::message::Message;
use crate::snapshot::SnapshotMeta;
use crate::status::RoleKind;
use crate::types::{Index, NodeId, Term};

/// The duties since the last Ready.
#[derive(Debug, Default)]
#[must_use = "nothing in a Ready is given out twice"]
pub struct Ready {
    /// May leave at once, in this order, without waiting for any disk.
    pub messages: Vec<Message>,
    /// The log is repaired ([`crate::RawNode::convalesce`]): to be recorded, after everything of earlier Readys.
    pub healed: bool,
    /// To be written, after everything of earlier Readys.
    pub persist: Option<Persist>,
    /// May leave when this Ready's `persist` and those of all earlier Readys are durable; also when this Ready's is
    /// `None`. They join the tail of the writer's list.
    pub messages_after_persist: Vec<Message>,
    /// The state machine is to be replaced by this received snapshot, before any of `committed`.
    pub restore: Option<SnapshotMeta>,
    /// To be applied in this order; each entry is given out once.
    pub committed: Vec<Entry>,
    /// Outcomes of `read_index`.
    pub read_states: Vec<ReadState>,
    /// The role, the term or the leader has changed; nothing of it is to be stored.
    pub soft_state: Option<SoftState>,
    /// Who takes part from now on, also when an entry that said otherwise was cut off.
    pub membership: Option<Membership>,
    /// Peers that need the newest snapshot, and the term to send it in; each is answered by `snapshot_report`. One that
    /// is not answered for long is asked for again, and then replaces the transfer that may be under way.
    pub send_snapshots: Vec<(NodeId, Term)>,
}

impl Ready {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
            && !self.healed
            && self.persist.is_none()
            && self.messages_after_persist.is_empty()
            && self.restore.is_none()
            && self.committed.is_empty()
            && self.read_states.is_empty()
            && self.soft_state.is_none()
            && self.membership.is_none()
            && self.send_snapshots.is_empty()
    }
}

/// What is to be written and synced, in the order of the fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// Replaces the stored one.
    pub hard_state: Option<HardState>,
    /// The log now begins behind this received snapshot, whose file is durable already. Entries stored above it are
    /// kept if an entry with exactly this id was stored; otherwise all stored entries are void.
    pub snapshot: Option<SnapshotMeta>,
    /// Consecutive; the first may be at or below the last stored index, and then everything stored from there on is void.
    pub entries: Vec<Entry>,
}

/// What became of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadState {
    /// As handed to `read_index`.
    pub context: u64,
    /// See there.
    pub outcome: ReadOutcome,
}

/// The two ways a read can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// It may be served once everything up to this index is applied, whoever leads by then.
    Confirmed(Index),
    /// The leader stepped down before a majority confirmed it.
    Refused {
        /// Who leads now, if it is known.
        leader: Option<NodeId>,
    },
}

/// What others may want to know at once but nobody stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftState {
    /// This node's role.
    pub role: RoleKind,
    /// In which term.
    pub term: Term,
    /// Who leads it, if it is known.
    pub leader: Option<NodeId>,
}

/// What has been produced since the last Ready.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) messages: Vec<Message>,
    pub(crate) messages_after_persist: Vec<Message>,
    pub(crate) read_states: Vec<ReadState>,
    pub(crate) send_snapshots: Vec<(NodeId, Term)>,
    /// A received snapshot that became the log's base: for the writer and for the state machine.
    pub(crate) installed: Option<SnapshotMeta>,
    pub(crate) healed: bool,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
            && self.messages_after_persist.is_empty()
            && self.read_states.is_empty()
            && self.send_snapshots.is_empty()
            && self.installed.is_none()
            && !self.healed
    }
}
