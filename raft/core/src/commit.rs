//! When an entry is committed.
//!
//! A majority has it on disk, the leader's own disk counted like any other and no sooner, and it is of the leader's own
//! term; what came before it is committed by it (§5.3, §5.4.2). An entry of an earlier term is never committed by
//! counting: figure 8 shows how it could be lost again.

use crate::planted;
use crate::quorum;
use crate::raft::{Raft, Role};
use crate::types::Index;

impl Raft {
    /// Recomputes the commit index after an acknowledgement, a peer's or the own disk's.
    pub(crate) fn advance_commit(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let state = &mut self.state;
        leader.scratch.clear();
        leader.scratch.extend(leader.peers.iter().map(|peer| peer.progress.match_index()));
        if state.membership.is_voter(state.config.node_id) {
            let own = match planted::is("own-log-counts-unsynced") {
                true => state.log.last_index(),
                false => state.log.persisted(),
            };
            leader.scratch.push(own);
        }
        let index = quorum::committed_index(&mut leader.scratch);
        if index <= state.log.committed()
            || (state.log.term_at(index) != Some(state.term)
                && !planted::is("old-term-committed-by-counting"))
        {
            return;
        }
        state.log.commit_to(index);
    }

    /// How far committed entries may be handed out. The leader may be ahead of its own disk: a majority of the others
    /// has it (dissertation §10.2.1).
    pub(crate) fn delivery_limit(&self) -> Index {
        match &self.role {
            Role::Leader(_) => self.state.log.committed(),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                self.state.follower_delivery_limit()
            }
        }
    }
}
