//! The pure node's face: what a Ready holds, in what order it may be fulfilled, and what acknowledgements count.

use bytes::Bytes;
use raft_core::{
    Body, EntryId, HardState, Index, Membership, NodeId, Payload, RawNode, Restored, RoleKind, SnapshotMeta,
    Term,
};

use crate::membership::{members, membership_entry};
use crate::rig::*;

fn snapshot_at(term: u64, index: u64) -> SnapshotMeta {
    SnapshotMeta { last: id(term, index), membership: Membership::new((1..=3).map(NodeId)) }
}

fn ids(entries: &[raft_core::Entry]) -> Vec<EntryId> {
    entries.iter().map(raft_core::Entry::id).collect()
}

#[test]
fn a_fresh_node_has_nothing_to_say() {
    let mut core = restarted(0, vec![]);
    assert!(!core.has_ready());
    assert!(core.ready().is_empty());
    assert_eq!(
        (core.status().role, core.status().term, core.status().leader),
        (RoleKind::Follower, Term(0), None)
    );
}

#[test]
fn a_restarted_node_has_its_term_vote_and_log_and_hands_nothing_out() {
    let hard_state = HardState { term: Term(4), vote: Some(NodeId(3)) };
    let restored = Restored { hard_state, snapshot: None, entries: entries(3, 1..=5) };
    let mut core = node_with(config(3), restored);
    assert!(!core.has_ready() && core.ready().is_empty());
    let status = core.status();
    assert_eq!((status.term, status.vote, status.last), (Term(4), Some(NodeId(3)), id(3, 5)));
    assert_eq!((status.persisted_index, status.commit_index), (Index(5), Index(0)));
}

#[test]
fn a_node_restarted_from_a_snapshot_applies_only_what_follows_it() {
    let snapshot = Some(snapshot_at(2, 10));
    let hard_state = HardState { term: Term(3), vote: None };
    let mut core = node_with(config(3), Restored { hard_state, snapshot, entries: entries(3, 11..=14) });
    assert!(core.ready().is_empty());
    assert_eq!((core.status().applied_index, core.status().commit_index), (Index(10), Index(10)));
    core.step(to_me(2, 3, append(id(3, 14), vec![], 12)));
    assert_eq!(ids(&core.ready().committed), [id(3, 11), id(3, 12)]);
}

#[test]
fn entries_kept_below_a_snapshot_are_taken_over_if_they_lead_up_to_it() {
    let restored = |entries| Restored { snapshot: Some(snapshot_at(2, 10)), entries, ..Restored::default() };
    let core = node_with(config(3), restored(entries(2, 6..=12)));
    assert_eq!((core.status().first_index, core.status().last), (Index(7), id(2, 12)));
    let core = node_with(config(3), restored(entries(1, 4..=9)));
    assert_eq!((core.status().first_index, core.status().last), (Index(11), id(2, 10)));
    let core = node_with(config(3), restored(entries(1, 4..=20)));
    assert_eq!(
        (core.status().first_index, core.status().last),
        (Index(11), id(2, 10)),
        "replaced by the snapshot"
    );
}

#[test]
fn a_snapshot_file_that_became_durable_before_its_term_brings_the_term_along() {
    let hard_state = HardState { term: Term(1), vote: Some(NodeId(3)) };
    let restored = Restored { hard_state, snapshot: Some(snapshot_at(4, 10)), entries: vec![] };
    let mut core = node_with(config(3), restored);
    let made_up = HardState { term: Term(4), vote: None };
    assert_eq!(core.ready().persist.unwrap().hard_state, Some(made_up));
}

#[test]
fn nothing_is_returned_twice() {
    let mut core = restarted(1, vec![]);
    core.step(to_me(2, 2, append(id(0, 0), entries(2, 1..=3), 3)));
    let ready = core.ready();
    assert_eq!(ready.persist.as_ref().unwrap().entries.len(), 3);
    assert_eq!(ready.messages_after_persist.len(), 1);
    assert!(ready.soft_state.is_some());
    assert!(!core.has_ready() && core.ready().is_empty());
    core.persisted(id(2, 3));
    assert_eq!(core.ready().committed.len(), 3);
    core.persisted(id(2, 3));
    core.applied(Index(3));
    assert!(!core.has_ready() && core.ready().is_empty());
}

#[test]
fn a_follower_hands_out_only_what_its_own_disk_has() {
    let mut core = restarted(1, vec![]);
    core.step(to_me(2, 1, append(id(0, 0), entries(1, 1..=5), 5)));
    assert_eq!(core.ready().committed, []);
    core.persisted(id(1, 3));
    assert_eq!(ids(&core.ready().committed), [id(1, 1), id(1, 2), id(1, 3)]);
    core.persisted(id(1, 5));
    assert_eq!(core.ready().committed.len(), 2);
}

#[test]
fn two_durable_followers_commit_before_the_leaders_own_disk_and_it_may_apply() {
    let mut core = restarted(1, vec![]);
    let term = elect_and_commit(&mut core).0;
    core.propose(vec![Bytes::from_static(b"fast")]).unwrap();
    let ready = core.ready();
    assert_eq!(ready.messages.len(), 2, "appends race the leader's disk");
    core.step(to_me(2, term, accepted(2)));
    assert_eq!(core.status().commit_index, Index(1), "one follower and no own disk are no majority");
    core.step(to_me(3, term, accepted(2)));
    assert_eq!((core.status().commit_index, core.status().persisted_index), (Index(2), Index(1)));
    assert_eq!(ids(&core.ready().committed), [id(term, 2)]);
    core.applied(Index(2));

    // It steps down with more applied than persisted: what was handed out is not handed out again.
    core.step(to_me(3, term + 1, append(id(term, 2), entries(term + 1, 3..=3), 3)));
    assert_eq!(core.ready().committed, []);
    core.persisted(id(term + 1, 3));
    assert_eq!(ids(&core.ready().committed), [id(term + 1, 3)]);
}

#[test]
fn the_leader_counts_itself_by_its_own_disk_only() {
    let mut core = restarted(1, vec![]);
    let term = elect_and_commit(&mut core).0;
    core.propose(vec![Bytes::from_static(b"x")]).unwrap();
    let _ = core.ready();
    core.step(to_me(2, term, accepted(2)));
    assert_eq!(core.status().commit_index, Index(1));
    core.persisted(id(term, 2));
    assert_eq!(core.status().commit_index, Index(2));
}

#[test]
fn an_acknowledgement_of_a_tail_that_was_replaced_counts_for_nothing() {
    let mut core = restarted(1, vec![]);
    core.step(to_me(2, 1, append(id(0, 0), entries(1, 1..=5), 2)));
    let first = core.ready().persist.unwrap();
    assert_eq!(first.entries.len(), 5);
    core.step(to_me(3, 2, append(id(1, 2), entries(2, 3..=5), 5)));
    let second = core.ready().persist.unwrap();
    assert_eq!(ids(&second.entries), [id(2, 3), id(2, 4), id(2, 5)], "the first overwrites the tail");
    core.persisted(id(1, 5));
    assert_eq!(core.status().persisted_index, Index(0), "same index, other term");
    assert_eq!(core.ready().committed, []);
    core.persisted(id(1, 2));
    assert_eq!(core.status().persisted_index, Index(2));
    core.persisted(id(2, 5));
    assert_eq!(core.status().persisted_index, Index(5));
}

#[test]
fn what_was_durable_of_a_replaced_tail_is_durable_no_more() {
    let mut core = restarted(1, entries(1, 1..=5));
    core.step(to_me(2, 2, append(id(1, 2), entries(2, 3..=3), 3)));
    assert_eq!((core.status().persisted_index, core.status().last), (Index(2), id(2, 3)));
    assert_eq!(ids(&core.ready().committed), [id(1, 1), id(1, 2)]);
}

#[test]
fn a_late_acknowledgement_of_less_takes_nothing_back() {
    let mut core = restarted(1, vec![]);
    core.step(to_me(2, 1, append(id(0, 0), entries(1, 1..=3), 0)));
    let _ = core.ready();
    core.persisted(id(1, 3));
    core.persisted(id(1, 2));
    assert_eq!(core.status().persisted_index, Index(3));
}

#[test]
fn an_acknowledgement_of_what_was_never_handed_out_counts_for_nothing() {
    let mut core = restarted(1, vec![]);
    core.step(to_me(2, 1, append(id(0, 0), entries(1, 1..=5), 0)));
    core.persisted(id(1, 5));
    assert_eq!(core.status().persisted_index, Index(0));
    assert_eq!(core.ready().persist.unwrap().entries.len(), 5);
}

#[test]
fn a_duplicate_append_acknowledges_nothing_before_its_first_copy_is_synced() {
    let mut core = restarted(1, vec![]);
    let append = append(id(0, 0), entries(1, 1..=2), 0);
    core.step(to_me(2, 1, append.clone()));
    let first = core.ready();
    assert!(first.messages.is_empty() && first.persist.is_some());
    core.step(to_me(2, 1, append));
    let second = core.ready();
    assert_eq!(second.persist, None, "it brings nothing new");
    assert_eq!(second.messages, [], "yet its answer queues behind the write that is under way");
    assert_eq!(second.messages_after_persist.len(), 1);
}

#[test]
fn what_may_leave_at_once_promises_nothing() {
    let mut core = restarted(1, vec![]);
    core.step(to_me(2, 2, append(id(0, 0), entries(2, 1..=1), 0)));
    core.step(to_me(2, 2, Body::Heartbeat { leader_commit: Index(0), read_context: 4, fresh: None }));
    core.step(to_me(3, 1, Body::Heartbeat { leader_commit: Index(0), read_context: 9, fresh: None }));
    core.step(to_me(3, 2, vote_request(id(9, 9))));
    let ready = core.ready();
    assert!(ready.messages.iter().all(|message| matches!(message.body, Body::HeartbeatReply { .. })));
    assert_eq!((ready.messages.len(), ready.messages_after_persist.len()), (2, 2));
}

#[test]
fn vote_requests_leave_when_the_own_vote_is_durable() {
    let mut core = restarted(1, vec![]);
    time_out(&mut core);
    let ready = core.ready();
    assert_eq!((ready.messages.len(), ready.messages_after_persist.len()), (0, 2));
    assert_eq!(ready.persist, None, "a pre-vote changes nothing to be stored");
    core.step(to_me(2, 2, Body::RequestVoteReply { pre_vote: true, granted: true }));
    let ready = core.ready();
    assert_eq!((ready.messages.len(), ready.messages_after_persist.len()), (0, 2));
    let vote = HardState { term: Term(2), vote: Some(ME) };
    assert_eq!(ready.persist.unwrap().hard_state, Some(vote));
}

#[test]
fn every_request_is_answered_once_with_its_token() {
    let mut core = restarted(3, entries(3, 1..=3));
    let requests = [
        to_me(2, 3, append(id(3, 3), vec![], 0)),
        to_me(2, 3, append(id(3, 9), vec![], 0)),
        to_me(2, 3, Body::Heartbeat { leader_commit: Index(0), read_context: 0, fresh: None }),
        to_me(3, 3, vote_request(id(3, 3))),
        to_me(3, 8, vote_request(id(3, 3))),
        to_me(3, 8, Body::RequestVote { pre_vote: true, transfer: false, last: id(3, 3) }),
        to_me(3, 2, append(id(2, 3), vec![], 0)),
    ];
    for request in requests {
        let token = request.token;
        core.step(request);
        let answers = drain(&mut core);
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(answers[0].token, token);
        assert!(!answers[0].body.is_request());
    }
}

#[test]
fn applying_lags_by_so_many_bytes_and_no_more() {
    let mut config = config(3);
    config.unapplied_bytes_max = 200;
    let hard_state = HardState { term: Term(1), vote: None };
    let restored = Restored { hard_state, snapshot: None, entries: entries(1, 1..=9) };
    let mut core = node_with(config, restored);
    core.step(to_me(2, 1, append(id(1, 9), vec![], 9)));
    let mut handed = 0;
    for until in [3, 6, 9] {
        while core.has_ready() {
            handed += core.ready().committed.len() as u64;
        }
        assert_eq!(handed, until, "67 bytes each: the third passes 200, and nothing more is handed out");
        core.applied(Index(handed));
    }
    assert!(!core.has_ready());
}

#[test]
fn a_single_node_commits_when_its_disk_says_so() {
    let mut core = node_with(config(1), Restored::default());
    core.tick_election();
    core.propose(vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")]).unwrap();
    let ready = core.ready();
    let persist = ready.persist.unwrap();
    assert_eq!(persist.hard_state, Some(HardState { term: Term(1), vote: Some(ME) }));
    assert_eq!(ids(&persist.entries), [id(1, 1), id(1, 2), id(1, 3)]);
    assert_eq!(ready.committed, []);
    core.persisted(id(1, 2));
    assert_eq!(core.ready().committed.len(), 2);
    core.persisted(id(1, 3));
    let committed = core.ready().committed;
    assert_eq!(committed[0].payload, Payload::Command(Bytes::from_static(b"b")));
}

#[test]
fn an_empty_batch_is_nothing_and_fine() {
    let mut core: RawNode = restarted(1, vec![]);
    elect_and_commit(&mut core);
    let proposed = core.propose(vec![]).unwrap();
    assert_eq!((proposed.count, proposed.ids().len()), (0, 0));
    assert!(!core.has_ready());
}

#[test]
fn idle_ticks_of_a_follower_ask_for_nothing() {
    let mut core = restarted(1, vec![]);
    core.step(to_me(2, 1, append(id(0, 0), vec![], 0)));
    drain(&mut core);
    for _ in 0..20 {
        core.tick_election();
        core.tick_heartbeat();
        assert!(!core.has_ready());
    }
}

#[test]
fn a_lone_voter_says_nothing_in_its_term_before_its_own_vote_is_durable() {
    let started = [entry(1, 1), membership_entry(1, 2, members([1], [2, 3]))];
    let mut core = restarted(1, started.to_vec());
    time_out(&mut core);
    assert_eq!((core.status().role, core.status().term), (RoleKind::Leader, Term(2)));
    core.tick_heartbeat();
    let ready = core.ready();
    assert_eq!(ready.messages, [], "two learners are not told of a term that a crash could undo");
    let to: Vec<NodeId> = ready.messages_after_persist.iter().map(|message| message.to).collect();
    assert_eq!(to, [2, 3, 2, 3].map(NodeId), "a heartbeat and an append each, once the vote is safe");
    persist(&mut core, ready);
    core.tick_heartbeat();
    assert_eq!(core.ready().messages.len(), 2, "then they leave at once");
}

#[cfg(feature = "planted_bugs")]
#[test]
fn a_lone_voter_that_speaks_too_soon_is_caught() {
    raft_core::planted::plant("leads-before-its-own-vote-is-durable");
    let case = a_lone_voter_says_nothing_in_its_term_before_its_own_vote_is_durable;
    let caught = std::panic::catch_unwind(case).is_err();
    raft_core::planted::plant("");
    assert!(caught);
}
