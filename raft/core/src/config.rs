//! What a node is told before it starts.
//!
//! Times are ticks, sizes are bytes; nothing here is read again from anywhere. What cannot work is refused by
//! [`Config::validate`] with a sentence, before a core exists.

use std::time::Duration;

use crate::error::ConfigError;
use crate::membership::{Membership, VOTERS_MAX};
use crate::types::NodeId;

/// One mebibyte.
const MIB: u64 = 1024 * 1024;

/// The settings of one core. Start from [`Config::new`] and change what must differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Who this node is.
    pub node_id: NodeId,
    /// The voters a cluster begins with; later the membership in the log and the snapshot counts. Empty on a node that
    /// joins: it waits until a leader tells it who takes part.
    pub voters: Vec<NodeId>,
    /// Shortest election timeout in ticks of `tick_election`; while a leader was heard for less, votes are ignored. Default 30.
    pub election_ticks_min: u32,
    /// Longest election timeout in ticks; a leader that hears no majority for so long steps down. Default 50.
    pub election_ticks_max: u32,
    /// The most bytes of entries in one AppendEntries (one entry may be larger). Default 1 MiB, so that heartbeats pass.
    pub append_bytes_max: u64,
    /// The most unanswered AppendEntries per peer; when it is reached later entries wait and share a message. Default 256.
    pub inflight_messages_max: usize,
    /// The most unanswered bytes of entries per peer. Default 16 MiB.
    pub inflight_bytes_max: u64,
    /// Bytes a leader holds that are not committed; beyond it `propose` answers `Busy`. Default 64 MiB.
    pub uncommitted_bytes_max: u64,
    /// Bytes a leader holds that its own disk does not have yet; beyond it `propose` answers `Busy`. Default 64 MiB.
    pub unpersisted_bytes_max: u64,
    /// Bytes handed out to be applied and not yet applied; beyond it nothing more is handed out, and `propose` answers
    /// `Busy` when what is committed and unapplied exceeds it. Default 64 MiB.
    pub unapplied_bytes_max: u64,
    /// Bytes of the log in memory; beyond it `propose` answers `Busy` until a snapshot lets the log be compacted, and
    /// compaction stops waiting for slow followers at half of it. Default 512 MiB.
    pub log_bytes_max: u64,
    /// Entries kept below a snapshot, so that a follower a little behind needs none. Default 10,000.
    pub trailing_entries: u64,
    /// Bytes the kept entries below a snapshot may have together; at most half of `log_bytes_max`. Default 16 MiB.
    pub trailing_bytes_max: u64,
    /// Ticks a peer waits for the report of a snapshot; then, if it answers, the snapshot is asked for once more, since
    /// the report was lost or the transfer is slow and can go on where it stands. Default 6,000.
    pub snapshot_ticks_max: u32,
    /// Reads waiting for their round; beyond it `read_index` answers `Busy`. Default 65,536.
    pub reads_pending_max: usize,
    /// Which nodes should rather lead, the higher the rather; who is not named has 0. All nodes should say the same.
    pub priorities: Vec<(NodeId, u32)>,
    /// How long nobody else is elected after a majority was asked: less than `election_ticks_min` by what two nodes may
    /// differ in counting them. None, the default: no leases. All nodes must say the same.
    pub lease: Option<Duration>,
}

impl Config {
    /// The defaults, for one node of a cluster.
    pub fn new(node_id: NodeId, voters: impl IntoIterator<Item = NodeId>) -> Config {
        Config {
            node_id,
            voters: Membership::new(voters).voters,
            election_ticks_min: 30,
            election_ticks_max: 50,
            append_bytes_max: MIB,
            inflight_messages_max: 256,
            inflight_bytes_max: 16 * MIB,
            uncommitted_bytes_max: 64 * MIB,
            unpersisted_bytes_max: 64 * MIB,
            unapplied_bytes_max: 64 * MIB,
            log_bytes_max: 512 * MIB,
            trailing_entries: 10_000,
            trailing_bytes_max: 16 * MIB,
            snapshot_ticks_max: 6_000,
            reads_pending_max: 65_536,
            priorities: Vec::new(),
            lease: None,
        }
    }

    /// How much this node is preferred as leader.
    pub(crate) fn priority(&self, node: NodeId) -> u32 {
        self.priorities.iter().find(|(named, _)| *named == node).map_or(0, |(_, priority)| *priority)
    }

    /// Says what cannot work.
    ///
    /// # Errors
    /// The first thing that is wrong, by the name of its setting.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.voters.len() > VOTERS_MAX {
            return Err(ConfigError::VoterCount { voters: self.voters.len(), voters_max: VOTERS_MAX });
        }
        if Membership::new(self.voters.iter().copied()).voters.len() != self.voters.len() {
            return Err(ConfigError::VoterTwice);
        }
        if self.election_ticks_min == 0 || self.election_ticks_max < self.election_ticks_min {
            return Err(ConfigError::ElectionTicks {
                election_ticks_min: self.election_ticks_min,
                election_ticks_max: self.election_ticks_max,
            });
        }
        let sizes = [
            ("append_bytes_max", self.append_bytes_max),
            ("inflight_messages_max", self.inflight_messages_max as u64),
            ("inflight_bytes_max", self.inflight_bytes_max),
            ("uncommitted_bytes_max", self.uncommitted_bytes_max),
            ("unpersisted_bytes_max", self.unpersisted_bytes_max),
            ("unapplied_bytes_max", self.unapplied_bytes_max),
            ("log_bytes_max", self.log_bytes_max),
            ("snapshot_ticks_max", u64::from(self.snapshot_ticks_max)),
            ("reads_pending_max", self.reads_pending_max as u64),
            ("lease", self.lease.map_or(1, |lease| u64::from(!lease.is_zero()))),
        ];
        match sizes.iter().find(|(_, value)| *value == 0) {
            Some((setting, _)) => Err(ConfigError::Zero { setting }),
            None if self.trailing_bytes_max > self.log_bytes_max / 2 => Err(ConfigError::TrailingBytes {
                trailing_bytes_max: self.trailing_bytes_max,
                log_bytes_max: self.log_bytes_max,
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_each_nonsense_is_named() {
        let good = Config::new(NodeId(1), [NodeId(1), NodeId(2), NodeId(3)]);
        assert_eq!(good.validate(), Ok(()));
        let too_many = Config::new(NodeId(1), (0..=VOTERS_MAX as u64).map(NodeId));
        assert!(matches!(too_many.validate(), Err(ConfigError::VoterCount { voters: 16, .. })));
        let twice = Config { voters: vec![NodeId(1), NodeId(1)], ..good.clone() };
        assert_eq!(twice.validate(), Err(ConfigError::VoterTwice));
        let backwards = Config { election_ticks_max: 3, ..good.clone() };
        assert!(matches!(backwards.validate(), Err(ConfigError::ElectionTicks { .. })));
        let closed = Config { inflight_messages_max: 0, ..good };
        assert_eq!(closed.validate(), Err(ConfigError::Zero { setting: "inflight_messages_max" }));
    }

    #[test]
    fn a_log_that_what_is_kept_behind_a_snapshot_could_fill_is_refused() {
        let good = Config::new(NodeId(1), [NodeId(1)]);
        let half = Config { log_bytes_max: 2 * good.trailing_bytes_max, ..good };
        assert_eq!(half.validate(), Ok(()));
        let full = Config { log_bytes_max: half.log_bytes_max - 1, ..half };
        assert!(matches!(full.validate(), Err(ConfigError::TrailingBytes { .. })));
    }
}
