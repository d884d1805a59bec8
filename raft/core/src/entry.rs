//! What the log is made of.
//!
//! An entry's command is opaque here: the core counts its bytes and never looks inside. Cloning an entry copies no
//! command; it only counts one more user of the same bytes.

use bytes::Bytes;

use crate::membership::Membership;
use crate::types::{EntryId, Index, NodeId, Term};

/// What an entry weighs beside its command, in bytes, so that a flood of empty commands is bounded too.
pub const ENTRY_OVERHEAD_BYTES: u64 = 64;

/// What an entry is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The first entry of a term: it changes nothing, and commits what earlier terms left behind (§5.4.2, §8).
    Noop,
    /// A command for the state machine; to the core it is bytes.
    Command(Bytes),
    /// Who takes part from here on: the whole membership, not the difference to the one before.
    Membership(Box<Membership>),
}

/// One place of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The term of the leader that appended it.
    pub term: Term,
    /// Its place in the log.
    pub index: Index,
    /// What it is for.
    pub payload: Payload,
}

impl Entry {
    /// The pair that names this entry in every log of the cluster.
    pub fn id(&self) -> EntryId {
        EntryId { term: self.term, index: self.index }
    }

    /// What the entry counts against every limit in bytes: its command and [`ENTRY_OVERHEAD_BYTES`].
    pub fn weight_bytes(&self) -> u64 {
        self.payload.weight_bytes()
    }
}

impl Payload {
    /// See [`Entry::weight_bytes`].
    pub fn weight_bytes(&self) -> u64 {
        let own_bytes = match self {
            Payload::Noop => 0,
            Payload::Command(command) => command.len(),
            Payload::Membership(membership) => {
                size_of::<NodeId>() * membership.nodes().len() + membership.context.len()
            }
        };
        own_bytes as u64 + ENTRY_OVERHEAD_BYTES
    }
}

/// What a node must remember through a crash beside its log (Figure 2, "persistent state").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The latest term the node has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<NodeId>,
}
