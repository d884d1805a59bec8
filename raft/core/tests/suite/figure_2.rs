//! Figure 2 of the paper, box by box: state, AppendEntries, RequestVote, and the rules for servers.
//!
//! What other files show already is not shown again; the table in `tests/README.md` says where each sentence is.

use bytes::Bytes;
use raft_core::{
    Body, ChunkVerdict, Entry, EntryId, HardState, Index, Message, NodeId, RawNode, Restored, RoleKind,
    Stamp, Term,
};

use crate::rig::*;

fn heartbeat(leader_commit: u64) -> Body {
    Body::Heartbeat { leader_commit: Index(leader_commit), read_context: 0, fresh: None }
}

fn granted(pre_vote: bool) -> Body {
    Body::RequestVoteReply { pre_vote, granted: true }
}

/// Makes it a candidate of a cluster in which everybody would vote for it.
fn candidate(core: &mut RawNode) -> Term {
    time_out(core);
    for request in drain(core) {
        core.step(to_me(request.to.0, request.term.0, granted(true)));
    }
    assert_eq!(core.status().role, RoleKind::Candidate);
    core.status().term
}

fn log_of(core: &RawNode) -> Vec<EntryId> {
    let status = core.status();
    let indexes = status.first_index.0..=status.last.index.0;
    indexes
        .map(|index| EntryId { term: core.term_at(Index(index)).expect("it is kept"), index: Index(index) })
        .collect()
}

#[test]
fn on_first_boot_the_term_is_zero_nobody_is_voted_for_and_the_first_index_is_one() {
    let core = node_with(config(3), Restored::default());
    let status = core.status();
    assert_eq!((status.term, status.vote, status.last), (Term(0), None, EntryId::ZERO));
    assert_eq!(
        (status.commit_index, status.applied_index, status.first_index),
        (Index(0), Index(0), Index(1))
    );
}

#[test]
fn the_term_never_falls_whatever_comes_and_comes_back_after_a_restart() {
    let mut core = restarted(5, vec![]);
    let mut highest = Term(5);
    for (step, term) in [3, 9, 2, 9, 11, 4, 30, 1].into_iter().enumerate() {
        let body = [heartbeat(0), vote_request(id(0, 0)), append(id(0, 0), vec![], 0)][step % 3].clone();
        (0..30).for_each(|_| core.tick_election());
        core.step(to_me(2 + step as u64 % 2, term, body));
        drain(&mut core);
        assert!(core.status().term >= highest);
        highest = core.status().term;
    }
    assert!(highest >= Term(30));
    let hard_state = HardState { term: highest, vote: None };
    assert_eq!(node_with(config(3), Restored { hard_state, ..Restored::default() }).status().term, highest);
}

#[test]
fn the_commit_index_and_the_applied_index_never_fall() {
    let mut core = restarted(1, entries(1, 1..=6));
    core.step(to_me(2, 1, append(id(1, 6), vec![], 5)));
    drain(&mut core);
    for stale in [append(id(1, 6), vec![], 2), append(id(0, 0), entries(1, 1..=3), 3), heartbeat(1)] {
        core.step(to_me(2, 1, stale));
        drain(&mut core);
        core.applied(Index(3));
        assert_eq!((core.status().commit_index, core.status().applied_index), (Index(5), Index(5)));
    }
}

#[test]
fn after_each_election_next_index_is_behind_the_last_entry_and_match_index_is_zero() {
    let mut core = restarted(1, entries(1, 1..=3));
    for round in 0..2 {
        let before = core.status().last.index;
        let term = elect(&mut core).0;
        for peer in core.status().peers {
            assert_eq!((peer.next_index, peer.match_index), (before.next(), Index(0)), "round {round}");
        }
        drain(&mut core);
        core.step(to_me(2, term, accepted(before.0 + 1)));
        assert_eq!(core.status().peers[0].match_index, before.next());
        core.step(to_me(3, term + 1, Body::HeartbeatReply { read_context: 0, stamp: Stamp::default() }));
        assert_eq!(core.status().role, RoleKind::Follower);
    }
}

#[test]
fn an_append_of_an_earlier_term_is_refused_with_the_later_term_and_changes_nothing() {
    let mut core = restarted(5, entries(3, 1..=4));
    core.step(to_me(2, 4, append(id(3, 2), entries(4, 3..=9), 9)));
    let answers = drain(&mut core);
    assert_eq!(answers.len(), 1);
    assert!(matches!(answers[0].body, Body::AppendEntriesReply(raft_core::AppendOutcome::Rejected { .. })));
    assert_eq!(answers[0].term, Term(5));
    assert_eq!((core.status().last, core.status().commit_index), (id(3, 4), Index(0)));
}

#[test]
fn an_append_whose_previous_entry_is_missing_or_of_another_term_is_refused() {
    for prev in [id(3, 9), id(2, 4), id(4, 4)] {
        let mut core = restarted(5, entries(3, 1..=4));
        core.step(to_me(2, 5, append(prev, entries(5, prev.index.0 + 1..=12), 12)));
        let refused = drain(&mut core);
        let is_refusal = |message: &Message| {
            matches!(message.body, Body::AppendEntriesReply(raft_core::AppendOutcome::Rejected { .. }))
        };
        assert!(refused.len() == 1 && is_refusal(&refused[0]), "{prev}: {refused:?}");
        assert_eq!((core.status().last, core.status().commit_index), (id(3, 4), Index(0)));
    }
}

#[test]
fn a_conflicting_entry_is_deleted_with_all_that_follow_it() {
    let mut core = restarted(5, entries(3, 1..=8));
    let new = vec![entry(3, 4), entry(5, 5)];
    core.step(to_me(2, 5, append(id(3, 3), new, 0)));
    assert_eq!(log_of(&core), [id(3, 1), id(3, 2), id(3, 3), id(3, 4), id(5, 5)]);
}

#[test]
fn only_entries_that_are_not_in_the_log_are_appended() {
    let mut core = restarted(5, entries(3, 1..=4));
    core.step(to_me(2, 5, append(id(3, 1), entries(3, 2..=7), 0)));
    let written: Vec<EntryId> = core.ready().persist.unwrap().entries.iter().map(Entry::id).collect();
    assert_eq!(written, [id(3, 5), id(3, 6), id(3, 7)]);
    core.step(to_me(2, 5, append(id(3, 1), entries(3, 2..=7), 0)));
    assert_eq!(core.ready().persist, None);
}

#[test]
fn what_is_committed_is_handed_out_to_be_applied_in_log_order_each_once() {
    let mut core = restarted(1, entries(1, 1..=9));
    let mut handed = Vec::new();
    for commit in [2, 2, 5, 4, 9, 9] {
        core.step(to_me(2, 1, append(id(1, 9), vec![], commit)));
        let ready = core.ready();
        handed.extend(ready.committed.iter().map(|entry| entry.index.0));
        assert_eq!(handed.len() as u64, core.status().commit_index.0);
    }
    assert_eq!(handed, (1..=9).collect::<Vec<u64>>());
}

#[test]
fn a_later_term_in_a_vote_request_or_a_chunk_is_taken_over_too() {
    let mut core = restarted(1, vec![]);
    candidate(&mut core);
    core.step(to_me(3, 40, vote_request(id(0, 0))));
    assert_eq!((core.status().role, core.status().term), (RoleKind::Follower, Term(40)));
    let mut core = restarted(1, vec![]);
    elect(&mut core);
    assert_eq!(core.chunk_seen(Term(40), NodeId(3), id(39, 9)), ChunkVerdict::Wanted);
    assert_eq!((core.status().role, core.status().term), (RoleKind::Follower, Term(40)));
    assert_eq!(core.status().leader, Some(NodeId(3)));
}

#[test]
fn in_every_role_a_request_of_an_earlier_term_is_answered_with_the_later_and_an_answer_ignored() {
    let prepare: [fn(&mut RawNode); 4] = [
        |_| {},
        time_out,
        |core| {
            candidate(core);
        },
        |core| {
            elect(core);
        },
    ];
    for make in prepare {
        let mut core = restarted(5, vec![]);
        make(&mut core);
        drain(&mut core);
        let before = core.status();
        for body in [heartbeat(9), append(id(0, 0), entries(4, 1..=2), 2), vote_request(id(4, 9))] {
            core.step(to_me(2, 4, body));
            let answers = drain(&mut core);
            assert!(answers.len() == 1 && answers[0].term == before.term, "{answers:?}");
        }
        for body in [
            granted(false),
            granted(true),
            accepted(9),
            Body::HeartbeatReply { read_context: 0, stamp: Stamp::default() },
        ] {
            core.step(to_me(2, 4, body));
            assert_eq!(drain(&mut core), []);
        }
        assert_eq!(core.status(), before);
    }
}

#[test]
fn a_follower_that_hears_no_leader_and_gives_no_vote_campaigns_after_its_timeout() {
    let mut core = restarted(5, entries(3, 1..=3));
    (0..29).for_each(|_| core.tick_election());
    assert_eq!(core.status().role, RoleKind::Follower);
    // Neither a refused candidate nor a leader of the past counts.
    core.step(to_me(2, 6, vote_request(id(2, 9))));
    core.step(to_me(3, 5, append(id(3, 3), vec![], 0)));
    (0..21).for_each(|_| core.tick_election());
    assert_eq!(core.status().role, RoleKind::PreCandidate);
}

#[test]
fn a_heartbeat_an_append_and_a_given_vote_each_start_the_timer_anew() {
    for fed_by in
        [heartbeat(0), append(id(3, 3), vec![], 0), append(id(9, 99), vec![], 0), vote_request(id(3, 3))]
    {
        let mut core = restarted(5, entries(3, 1..=3));
        for round in 0..10 {
            (0..29).for_each(|_| core.tick_election());
            assert_eq!(core.status().role, RoleKind::Follower, "{fed_by} in round {round}");
            let is_vote = matches!(fed_by, Body::RequestVote { .. });
            core.step(to_me(2, if is_vote { 6 + round } else { 9 }, fed_by.clone()));
        }
    }
}

#[test]
fn a_candidate_raises_the_term_by_one_votes_for_itself_and_asks_all_others_at_once() {
    for voters in 2..=7 {
        let hard_state = HardState { term: Term(4), vote: Some(NodeId(2)) };
        let restored = Restored { hard_state, snapshot: None, entries: entries(3, 1..=3) };
        let mut core = node_with(config(voters), restored);
        candidate(&mut core);
        assert_eq!((core.status().term, core.status().vote), (Term(5), Some(ME)));
        let asked = drain(&mut core);
        let expected: Vec<_> = (2..=voters).map(|to| (NodeId(to), Term(5), vote_request(id(3, 3)))).collect();
        let asked: Vec<_> =
            asked.into_iter().map(|message| (message.to, message.term, message.body)).collect();
        assert_eq!(asked, expected);
    }
}

#[test]
fn the_vote_that_makes_a_majority_makes_the_leader_and_none_before() {
    for voters in 2..=7 {
        let mut core = node_with(config(voters), Restored::default());
        let term = candidate(&mut core).0;
        drain(&mut core);
        for voter in 2..=voters {
            let has_majority = 2 * (voter - 1) > voters;
            assert_eq!(core.status().role == RoleKind::Leader, has_majority, "{} of {voters}", voter - 1);
            core.step(to_me(voter, term, granted(false)));
        }
        assert_eq!(core.status().role, RoleKind::Leader);
    }
}

#[test]
fn a_candidate_whose_timeout_elapses_begins_another_election_in_the_next_term() {
    let mut core = restarted(1, vec![]);
    assert_eq!(candidate(&mut core), Term(2));
    drain(&mut core);
    time_out(&mut core);
    assert_eq!((core.status().role, core.status().term), (RoleKind::PreCandidate, Term(2)), "it asks first");
    core.step(to_me(3, 3, granted(true)));
    assert_eq!((core.status().role, core.status().term), (RoleKind::Candidate, Term(3)));
}

#[test]
fn an_idle_leader_sends_a_heartbeat_to_each_follower_at_every_interval() {
    let mut core = node_with(config(5), Restored::default());
    elect_and_commit(&mut core);
    // Nobody answers: it stays the same round.
    let repeated = Body::Heartbeat { leader_commit: Index(1), read_context: 1, fresh: None };
    for _ in 0..20 {
        core.tick_heartbeat();
        let sent: Vec<_> = drain(&mut core).into_iter().map(|message| (message.to.0, message.body)).collect();
        assert_eq!(sent, [2, 3, 4, 5].map(|to| (to, repeated.clone())));
    }
}

#[test]
fn a_command_is_appended_at_once_and_handed_out_when_a_majority_has_it() {
    let mut core = restarted(1, vec![]);
    let term = elect_and_commit(&mut core).0;
    let proposed = core.propose(vec![Bytes::from_static(b"x")]).unwrap();
    assert_eq!(proposed.ids().next(), Some(core.status().last));
    let ready = core.ready();
    assert!(ready.committed.is_empty());
    persist(&mut core, ready);
    assert!(!core.has_ready(), "its own disk is not a majority");
    core.step(to_me(3, term, accepted(2)));
    assert_eq!(core.ready().committed[0].id(), id(term, 2));
}

#[test]
fn an_acceptance_moves_match_index_and_next_index_of_its_sender_only() {
    let mut core = restarted(1, entries(1, 1..=9));
    let term = elect(&mut core).0;
    drain(&mut core);
    core.step(to_me(3, term, accepted(7)));
    let peers: Vec<_> =
        core.status().peers.iter().map(|peer| (peer.node.0, peer.match_index.0, peer.next_index.0)).collect();
    assert_eq!(peers, [(2, 0, 10), (3, 7, 10)], "it was sent up to 10 in a probe that is unanswered");
    core.step(to_me(3, term, accepted(10)));
    assert_eq!(
        (core.status().peers[1].match_index, core.status().peers[1].next_index),
        (Index(10), Index(11))
    );
}

#[test]
fn the_commit_index_is_the_highest_of_the_own_term_that_a_majority_has() {
    let mut core = node_with(config(5), Restored::default());
    let term = elect_and_commit(&mut core).0;
    core.propose(vec![Bytes::from_static(b"x"); 9]).unwrap();
    drain(&mut core);
    for (from, match_index, commit) in [(2, 4, 1), (3, 6, 4), (4, 9, 6), (2, 10, 9), (5, 10, 10), (3, 10, 10)]
    {
        core.step(to_me(from, term, accepted(match_index)));
        assert_eq!(core.status().commit_index, Index(commit), "after {from} has {match_index}");
        drain(&mut core);
    }
}
