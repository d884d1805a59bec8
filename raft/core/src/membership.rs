//! Who takes part.
//!
//! The set of voters is fixed for now: it comes from the configuration at the first start and travels in every
//! snapshot, so that a node which starts from a snapshot believes the snapshot and not its file.

use crate::types::NodeId;

/// More voters than this are refused: every commit asks all of them, and seven already survive three failures.
pub const VOTERS_MAX: usize = 15;

/// The members of the cluster as of one place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The nodes whose votes and acknowledgements count; sorted, each once.
    pub voters: Vec<NodeId>,
}

impl Membership {
    /// The membership of these voters, sorted and each once.
    pub fn new(voters: impl IntoIterator<Item = NodeId>) -> Membership {
        let mut voters: Vec<NodeId> = voters.into_iter().collect();
        voters.sort_unstable();
        voters.dedup();
        Membership { voters }
    }

    /// Whether this node's vote counts.
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.binary_search(&node).is_ok()
    }

    /// How many voters are more than half of them.
    pub fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }
}
