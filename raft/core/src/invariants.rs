//! What must be true of a node at rest, and of every step it takes.
//!
//! Ours is broken if one of these fails; going on would spread it, so the node stops. All of it is cheap (no walk along
//! the log), and stays on in release.

use crate::progress::ProgressState;
use crate::raft::{Raft, Role};
use crate::status::RoleKind;
use crate::types::{EntryId, Index, NodeId, Term};

/// What a step must not make worse.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digest {
    term: Term,
    vote: Option<NodeId>,
    role: RoleKind,
    last: EntryId,
    committed: Index,
    delivered: Index,
    applied: Index,
    snapshot: Index,
    /// The members are those of this entry.
    membership: Index,
    /// Sum of what the followers have acknowledged, when this node leads, and how often some of it was taken back.
    acknowledged: u64,
    losses_heard: u64,
}

impl Digest {
    pub(crate) fn of(raft: &Raft) -> Digest {
        let log = &raft.state.log;
        Digest {
            term: raft.state.term,
            vote: raft.state.vote,
            role: raft.role_kind(),
            last: log.last(),
            committed: log.committed(),
            delivered: log.delivered(),
            applied: log.applied(),
            snapshot: log.snapshot().last.index,
            membership: log.membership_index(),
            acknowledged: match &raft.role {
                Role::Leader(leader) => leader.peers.iter().map(|peer| peer.progress.match_index().0).sum(),
                Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => 0,
            },
            losses_heard: raft.state.losses_heard,
        }
    }
}

/// Checks one step against the state before it, and the state after it.
pub(crate) fn check_step(before: &Digest, raft: &Raft) {
    let after = Digest::of(raft);
    assert!(after.term >= before.term, "the term never falls: {} after {}", after.term, before.term);
    if after.term == before.term {
        assert!(
            before.vote.is_none() || after.vote == before.vote,
            "a vote is never taken back within a term"
        );
        let was_leader = before.role == RoleKind::Leader;
        assert!(
            was_leader || after.role != RoleKind::Leader || before.role == RoleKind::Candidate,
            "who leads has been a candidate"
        );
        if was_leader {
            assert!(after.last >= before.last, "a leader only appends (Leader Append-Only, §5.3)");
        }
        let is_kept = after.membership == before.membership && after.losses_heard == before.losses_heard;
        if was_leader && after.role == RoleKind::Leader && is_kept {
            assert!(after.acknowledged >= before.acknowledged, "acknowledgements only grow");
        }
    }
    assert!(after.committed >= before.committed, "the commit index never falls");
    assert!(after.delivered >= before.delivered, "what was handed out stays handed out");
    assert!(after.applied >= before.applied, "what is applied stays applied");
    assert!(after.snapshot >= before.snapshot, "a snapshot is only replaced by a newer one");
    check(raft);
}

/// Checks a node at rest.
pub(crate) fn check(raft: &Raft) {
    let (state, log) = (&raft.state, &raft.state.log);
    let snapshot = log.snapshot().last.index;
    let last = log.last_index();
    assert!(log.base().index <= snapshot, "what is missing from the log is in the snapshot");
    assert!(
        snapshot <= log.delivered() && log.delivered() <= log.committed(),
        "only what is committed is handed out"
    );
    assert!(log.applied() <= log.delivered(), "only what was handed out is applied");
    assert!(log.committed() <= last, "only what is in the log is committed");
    assert!(snapshot <= log.persisted(), "a snapshot never runs ahead of the log on disk");
    assert!(log.persisted() <= log.handed() && log.handed() <= last, "only what was written is durable");
    assert!(log.last().term <= state.term, "no entry is of a term to come");
    let may_campaign = !state.is_convalescent() || crate::planted::is("damaged-node-votes");
    assert!(
        may_campaign || matches!(raft.role, Role::Follower(_)),
        "who lacks what it had acknowledged follows"
    );
    match &raft.role {
        Role::Leader(leader) => {
            assert_eq!(state.vote, Some(state.id()), "a leader has voted for itself");
            assert!(leader.term_start <= last, "a term begins with an entry");
            for peer in &leader.peers {
                let progress = &peer.progress;
                assert!(
                    progress.match_index() < progress.next_index(),
                    "what is acknowledged is not sent again"
                );
                assert!(progress.match_index() <= last, "only what exists is acknowledged");
                assert!(progress.next_index() <= last.next(), "only what exists is sent");
                if progress.state() != ProgressState::Replicate {
                    assert_eq!(
                        progress.inflights().count(),
                        0,
                        "only a replicating peer has messages in flight"
                    );
                }
            }
        }
        Role::Candidate(_) => assert_eq!(state.vote, Some(state.id()), "a candidate votes for itself"),
        Role::Follower(_) | Role::PreCandidate(_) => {}
    }
    if cfg!(debug_assertions) {
        check_slowly(raft);
    }
}

/// What is worth checking where time does not matter.
fn check_slowly(raft: &Raft) {
    let (state, log) = (&raft.state, &raft.state.log);
    let membership = log.membership();
    for members in [&membership.voters, &membership.outgoing, &membership.learners] {
        assert!(members.windows(2).all(|pair| pair[0] < pair[1]), "members are sorted, each once");
    }
    let Role::Leader(leader) = &raft.role else { return };
    let others = membership.nodes().into_iter().filter(|node| *node != state.id());
    assert!(leader.peers.iter().map(|peer| peer.id).eq(others), "a leader knows every other member");
    // What such a node had lost was committed with its help all the same; when it is well it is yet to say what it has.
    if leader.peers.iter().any(|peer| peer.convalescence.is_some()) {
        return;
    }
    let committed = log.committed();
    let has = |voter: NodeId| match voter == state.id() {
        true => log.persisted() >= committed,
        false => leader.peers.iter().any(|peer| peer.id == voter && peer.progress.match_index() >= committed),
    };
    // A membership that is not committed yet counts for what comes after it; what came before counted without it.
    let is_had =
        membership.is_quorum(has) || log.membership_at(committed).is_some_and(|then| then.is_quorum(has));
    assert!(committed < leader.term_start || is_had, "a majority has what is committed");
}
