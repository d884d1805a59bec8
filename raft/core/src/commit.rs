//! When an entry is committed.
//!
//! A majority has it on disk, the leader's own disk counted like any other and no sooner, and it is of the leader's own
//! term; what came before it is committed by it (§5.3, §5.4.2). An entry of an earlier term is never committed by
//! counting: figure 8 shows how it could be lost again.

use crate::planted;
use crate::raft::{Raft, Role};
use crate::types::Index;

impl Raft {
    /// Recomputes the commit index after an acknowledgement, a peer's or the own disk's.
    pub(crate) fn advance_commit(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let state = &mut self.state;
        let own = match planted::is("own-log-counts-unsynced") {
            true => state.log.last_index(),
            false => state.log.persisted(),
        };
        let peers = &leader.peers;
        let index = state.log.membership().committed_index(&mut leader.scratch, |voter| {
            if voter == state.config.node_id {
                return own;
            }
            let peer = peers.iter().find(|peer| peer.id == voter);
            let counting = peer.filter(|peer| !peer.is_convalescent());
            counting.map_or(Index::ZERO, |peer| peer.progress.match_index())
        });
        if index <= state.log.committed()
            || (state.log.term_at(index) != Some(state.term)
                && !planted::is("old-term-committed-by-counting"))
        {
            return;
        }
        state.log.commit_to(index);
        self.go_on_with_change();
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
