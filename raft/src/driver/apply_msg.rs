//! What Raft hands to the state machine, in the order of the log (the origin's `ApplyMsg`).

use raft_core::{Entry, SnapshotMeta};

/// One message of the queue between the applier and the apply-loop.
#[derive(Clone, Debug)]
pub enum ApplyMsg {
    /// Committed entries, without a gap to what came before. Never empty.
    Entries(Vec<Entry>),
    /// A snapshot was installed: the state becomes what its file says, before any later entry.
    Restore(SnapshotMeta),
    /// A snapshot is done with: another may be due. Where the log has grown to its bound meanwhile nothing is accepted, so
    /// that no entry would come and show it.
    SnapshotDone,
}
